"""Structures that the standard itself fixes, by their node ids in its own namespace.

Many servers give no DataTypeDefinition for them, since everybody knows them: OPC 10000-8 §5.6.3 (EUInformation) and
OPC 10000-4 §7.30 (RelativePath). They mean the same on every server, unlike types of a manufacturer (trap A19).
"""

from typing import Final

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from gateway.drivers.opcua.node_ids import make_node_id
from gateway.drivers.opcua.structured.structure_codec import Structure, StructureField

_ELEMENT: Final = make_node_id(ObjectIds.RelativePathElement)

STANDARD: Final[dict[ua.NodeId, Structure]] = {
    make_node_id(ObjectIds.EUInformation): Structure(
        "EUInformation",
        (
            StructureField("NamespaceUri", ua.VariantType.String),
            StructureField("UnitId", ua.VariantType.Int32),
            StructureField("DisplayName", ua.VariantType.LocalizedText),
            StructureField("Description", ua.VariantType.LocalizedText),
        ),
    ),
    _ELEMENT: Structure(
        "RelativePathElement",
        (
            StructureField("ReferenceTypeId", ua.VariantType.NodeId),
            StructureField("IsInverse", ua.VariantType.Boolean),
            StructureField("IncludeSubtypes", ua.VariantType.Boolean),
            StructureField("TargetName", ua.VariantType.QualifiedName),
        ),
    ),
    make_node_id(ObjectIds.RelativePath): Structure("RelativePath", (StructureField("Elements", _ELEMENT, 1),)),
}
