"""Structures to bytes: what the decoder reads back, and what is refused in words."""

from typing import Any

import pytest
from asyncua import ua

from gateway.domain.values import Argument, DataType
from gateway.drivers.opcua.structured.fields import TYPE_UNKNOWN, NoField
from gateway.drivers.opcua.structured.standard_structures import STANDARD
from gateway.drivers.opcua.structured.structure_codec import (
    Absent,
    Catalogue,
    Structure,
    StructureField,
    Unknown,
    decode_body,
)
from gateway.drivers.opcua.structured.structure_encoder import CannotEncode, encode_body
from gateway.drivers.opcua.structured.structure_text import structure_text

KIND = ua.VariantType
INNER = ua.NodeId("Inner", 2)
UNITS = ua.NodeId(887)
STRUCTURE = Structure(
    "Order",
    (
        StructureField("Id", KIND.String),
        StructureField("Texts", KIND.LocalizedText, 1, is_optional=True),
        StructureField("At", KIND.DateTime, is_optional=True),
        StructureField("Priority", KIND.Int16, is_optional=True),
        StructureField("Parts", INNER, 1, is_optional=True),
        StructureField("Value", KIND.Variant),
        StructureField("Units", UNITS, is_optional=True),
        StructureField("Counts", KIND.UInt32, 1),
    ),
)
CATALOGUE = Catalogue({INNER: Structure("Inner", (StructureField("Ok", KIND.Boolean),)), **STANDARD})


def text(**fields: Any) -> str:
    """The fields encoded, decoded, and as JSON text."""
    return structure_text(decode_body(CATALOGUE, STRUCTURE, encode_body(CATALOGUE, STRUCTURE, fields)))


def test_what_is_given_comes_back_and_what_is_not_is_left_out_or_empty() -> None:
    assert text(Id="4711", Value=Argument(DataType.FLOAT32, 0.5)) == '{"Id":"4711","Value":0.5,"Counts":[]}'
    units = {"NamespaceUri": "urn:u", "UnitId": 5065812, "DisplayName": "mL"}
    told = text(
        Id="ä", Texts=("a", "b"), At=1_772_431_200_500, Priority=-3, Parts=({"Ok": True}, {}),
        Value=Argument(DataType.UINT64, 2**63), Units=units, Counts=(1, 2),
    )  # fmt: skip
    assert told == (
        '{"Id":"ä","Texts":["a","b"],"At":"2026-03-02T06:00:00.500000Z","Priority":-3,'
        '"Parts":[{"Ok":true},{"Ok":false}],"Value":9223372036854775808,'
        '"Units":{"NamespaceUri":"urn:u","UnitId":5065812,"DisplayName":"mL","Description":null},"Counts":[1,2]}'
    )


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"Name": 1}, "Order has no field Name; its fields are: Id, Texts, At, Priority"),
        ({"Priority": 40_000}, "Order.Priority cannot hold 40000"),
        ({"Priority": "high"}, "Order.Priority cannot hold 'high'"),
        ({"Value": 5}, "a value of any type must say which it has"),
        ({"Value": Argument(DataType.INT16, 70_000)}, "70000 is no int16"),
        ({"Parts": 7}, "Order.Parts cannot hold 7"),
        ({"Parts": ({"Nok": 1},)}, "Inner has no field Nok"),
    ],
)
def test_what_does_not_fit_the_definition_is_told_and_nothing_is_sent(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(CannotEncode) as caught:
        encode_body(CATALOGUE, STRUCTURE, fields)
    assert says in str(caught.value)


def test_unions_matrices_and_types_that_nobody_explained_are_not_written() -> None:
    union = Structure("U", (StructureField("A", KIND.Int16),), is_union=True)
    matrix = Structure("M", (StructureField("A", KIND.Int16, 2),))
    unknown = Structure("X", (StructureField("A", ua.NodeId("Nobody", 2)),))
    for structure, says in ((union, "is a union"), (matrix, "is a matrix"), (unknown, "gives no DataTypeDefinition")):
        with pytest.raises(CannotEncode, match=says):
            encode_body(CATALOGUE, structure, {})


def test_text_of_what_is_absent_or_not_explained() -> None:
    assert structure_text(Absent()) == "null"
    with pytest.raises(NoField) as caught:
        structure_text([Unknown(ua.NodeId(1, 2))])
    assert caught.value.status_code == TYPE_UNKNOWN
