"""What the codes of an enumeration mean, in the server's own words (OPC 10000-3 §8.50)."""

from collections.abc import Iterable, Mapping
from typing import Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from gateway.drivers.opcua.secure_channel.channel import ServiceFault
from gateway.drivers.opcua.session import Session

_HIGHEST_BASIC: Final = ObjectIds.Enumeration
"""Up to here a data type of the standard is a builtin or an abstract one (OPC 10000-6 §5.1.2)."""


class Enumerations:
    """Asks for each data type once. A server older than OPC UA 1.04 says nothing, and no code has a text."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._texts: dict[ua.NodeId, Mapping[int, str]] = {}

    async def learn(self, data_types: Iterable[ua.NodeId | None]) -> None:
        """Ask for those that are not known. Raises `LinkLost` as the session does."""
        asked = {node for node in data_types if node is not None and not _is_basic(node)}
        new = [node for node in asked if node not in self._texts]
        try:
            told = await self._session.read(new, AttributeIds.DataTypeDefinition)
        except ServiceFault:
            told = [ua.DataValue() for _ in new]
        self._texts.update({node: _texts(value) for node, value in zip(new, told, strict=True)})

    def texts(self, data_type: ua.NodeId | None) -> Mapping[int, str]:
        """The text of each code; nothing where it is no enumeration."""
        return self._texts.get(data_type, {}) if data_type is not None else {}


def _texts(definition: ua.DataValue) -> dict[int, str]:
    content = definition.Value.Value if definition.Value is not None else None
    if not isinstance(content, ua.EnumDefinition):
        return {}
    return {int(each.Value): (each.DisplayName and each.DisplayName.Text) or each.Name or "" for each in content.Fields}


def _is_basic(node: ua.NodeId) -> bool:
    return node.NamespaceIndex == 0 and isinstance(node.Identifier, int) and node.Identifier <= _HIGHEST_BASIC
