"""The bytes of structures, for any definition and any bytes: what is encoded is found again, what is not is refused."""

import struct
from typing import Any

import pytest
from asyncua import ua
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.drivers.opcua.structured.fields import FieldPath, NoField, find
from gateway.drivers.opcua.structured.structure_codec import (
    BrokenBody,
    Catalogue,
    Group,
    Structure,
    StructureField,
    decode_body,
    replace_leaf,
)

BUILTIN: dict[ua.VariantType, tuple[Any, Any]] = {
    ua.VariantType.Boolean: (st.booleans(), lambda value: struct.pack("<?", value)),
    ua.VariantType.Int16: (st.integers(-(2**15), 2**15 - 1), lambda value: struct.pack("<h", value)),
    ua.VariantType.UInt32: (st.integers(0, 2**32 - 1), lambda value: struct.pack("<I", value)),
    ua.VariantType.Double: (st.floats(allow_nan=False), lambda value: struct.pack("<d", value)),
    ua.VariantType.String: (
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        lambda value: struct.pack("<i", len(value.encode())) + value.encode(),
    ),
    ua.VariantType.ByteString: (st.binary(max_size=5), lambda value: struct.pack("<i", len(value)) + value),
}
"""Values of a type and their bytes (OPC 10000-6 §5.2.2), written here once more and not taken from the code."""


class Sample:
    """A definition, the bytes of one value of it, and every builtin value in it by its path."""

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        self.leaves: dict[FieldPath, Any] = {}
        self.root: Structure
        self.body: bytes


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    sample = Sample()
    sample.root, sample.body = _structure(draw, sample, (), 0)
    return sample


def _structure(draw: st.DrawFn, sample: Sample, path: FieldPath, depth: int) -> tuple[Structure, bytes]:
    """A structure with up to four fields and its value; each is builtin, nested, an array, or optional."""
    fields, parts, mask, bit = [], [], 0, 0
    for number in range(draw(st.integers(1, 4))):
        name = f"F{number}"
        is_optional, is_array = draw(st.booleans()), draw(st.booleans())
        is_there = not is_optional or draw(st.booleans())
        kind: Any = draw(st.sampled_from([*BUILTIN, None]))
        if kind is None and depth < 3:
            nested, body = _structure(draw, sample, (*path, name) if is_there else ("nowhere",), depth + 1)
            kind = ua.NodeId(f"T{len(sample.catalogue.structures)}", 2)
            sample.catalogue.structures[kind] = nested
            is_array = False
        else:
            kind = kind or ua.VariantType.Int16
            values, encode = BUILTIN[kind]
            value = draw(st.lists(values, max_size=3) if is_array else values)
            body = struct.pack("<i", len(value)) + b"".join(map(encode, value)) if is_array else encode(value)
            if is_there:
                sample.leaves[*path, name] = value
        fields.append(StructureField(name, kind, int(is_array), is_optional))
        parts.append(body if is_there else b"")
        if is_optional:
            mask |= is_there << bit
            bit += 1
    begin = struct.pack("<I", mask) if bit else b""
    return Structure("S", tuple(fields)), begin + b"".join(parts)


def leaves(sample: Sample, body: bytes) -> dict[FieldPath, Any]:
    group = decode_body(sample.catalogue, sample.root, body)
    return {path: find(group, path).value for path in sample.leaves if path[0] != "nowhere"}


def known(sample: Sample) -> dict[FieldPath, Any]:
    return {path: value for path, value in sample.leaves.items() if path[0] != "nowhere"}


@given(samples())
def test_every_value_is_found_where_it_was_put(sample: Sample) -> None:
    assert leaves(sample, sample.body) == known(sample)


@given(samples(), st.data())
def test_one_value_is_replaced_and_every_other_stays(sample: Sample, data: st.DataObject) -> None:
    expected = known(sample)
    if not expected:
        return
    path = data.draw(st.sampled_from(list(expected)))
    leaf = find(decode_body(sample.catalogue, sample.root, sample.body), path)
    values, _ = BUILTIN[leaf.kind]
    value = data.draw(st.lists(values, max_size=3) if leaf.is_array else values)
    body = replace_leaf(sample.body, leaf, value)
    assert body is not None
    assert leaves(sample, body) == {**expected, path: value}


@given(samples(), st.data())
@settings(max_examples=200)
def test_damaged_bytes_are_refused_or_decoded_and_nothing_else_happens(sample: Sample, data: st.DataObject) -> None:
    damaged = bytearray(sample.body)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged)))
        damaged[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=4))
    try:
        group = decode_body(sample.catalogue, sample.root, bytes(damaged))
    except BrokenBody:
        return
    assert {fault(group, path) for path in known(sample)} <= {""}, "a field may be left out now: no fault of the YAML"


def fault(group: Group, path: FieldPath) -> str:
    """What the configuration would be told of this field."""
    try:
        find(group, path)
    except NoField as no:
        return no.problem
    return ""


def test_a_definition_that_holds_itself_ends() -> None:
    node = ua.NodeId("Loop", 2)
    loop = Structure("Loop", (StructureField("Next", node), StructureField("More", node, rank=1)))
    with pytest.raises(BrokenBody, match="more than 32 deep"):
        decode_body(Catalogue({node: loop}), loop, b"\0" * 64)


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("kind", [ua.VariantType.Byte, ua.VariantType.Null, ua.NodeId("Empty", 2)])
def test_an_array_that_claims_more_elements_than_there_are_bytes_is_refused_at_once(kind: Any, rank: int) -> None:
    claimed = struct.pack("<i", 2**31 - 1) if rank == 1 else struct.pack("<iii", 2, 2**31 - 1, 2**31 - 1)
    structure = Structure("S", (StructureField("F", kind, rank),))
    catalogue = Catalogue({ua.NodeId("Empty", 2): Structure("Empty", ())})
    with pytest.raises(BrokenBody, match="claims"):
        decode_body(catalogue, structure, claimed + b"\0" * 8)


def test_a_matrix_comes_in_the_order_of_the_wire() -> None:
    structure = Structure("S", (StructureField("F", ua.VariantType.Int16, rank=2),))
    body = struct.pack("<iii", 2, 2, 3) + struct.pack("<6h", *range(6))
    group = decode_body(Catalogue(), structure, body)
    leaf = find(group, ("F",))
    assert leaf.value == [0, 1, 2, 3, 4, 5]
    assert replace_leaf(body, leaf, [0] * 6) is None, "its dimensions stand before it: it is not written in part"
