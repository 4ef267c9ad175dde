"""NodeIds and values between asyncua and the gateway, without a network."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from asyncua import ua
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.values import INTEGER_RANGES, DataType, StatusCode, TagChange
from gateway.drivers.opcua.node_ids import NodeName, format_node, make_node_id, parse_node
from gateway.drivers.opcua.status_codes import status_name
from gateway.drivers.opcua.values import ValueDecoder, encode

NAMESPACES = ["http://opcfoundation.org/UA/", "urn:server", "urn:plc;a%b"]
NOON = datetime(2026, 3, 2, 12, 0, 0, 123_456, tzinfo=UTC)
NOON_MS = 1_772_452_800_123
GUID = uuid.UUID("09087e75-8e5e-499b-954f-f2a9603db28a")


def decode(value, variant_type, **fields) -> TagChange:
    return ValueDecoder(NAMESPACES).decode("T.tag", ua.DataValue(ua.Variant(value, variant_type), **fields))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("nsu=urn:plc;s=Line1.Good", NodeName("urn:plc", "Line1.Good")),
        ('s="DB_MES"."toMES";x=1', NodeName(None, '"DB_MES"."toMES";x=1')),
        ("i=2258", NodeName(None, 2258)),
        (f"nsu=urn:plc;g={GUID}", NodeName("urn:plc", GUID)),
        ("b=AQID", NodeName(None, b"\1\2\3")),
        ("nsu=urn:plc%3Ba%25b;s=瓶数", NodeName("urn:plc;a%b", "瓶数")),
    ],
)
def test_a_node_is_named_by_uri_or_within_the_namespace_of_its_device(text, name):
    assert parse_node(text) == name


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("ns=2;s=Good", r"by index.*write nsu=<namespace uri>"),
        ("Good", r"write nsu=<namespace uri>;s=<name>"),
        ("i=-1", "whole number from 0 to 4294967295"),
        ("i=4294967296", "whole number from 0 to 4294967295"),
        ("g=4711", "is not a GUID"),
        ("b=?", "is not base64"),
        (4711, "write it as text"),
        ("s=", "is not a node"),
    ],
)
def test_what_is_no_node_is_refused_with_what_would_be_right(text, advice):
    with pytest.raises(ValueError, match=advice):
        parse_node(text)


@pytest.mark.parametrize(
    ("identifier", "index", "text"),
    [
        ("Good", 2, "nsu=urn:plc%3Ba%25b;s=Good"),
        (2258, 0, "i=2258"),
        (70_000, 1, "nsu=urn:server;i=70000"),
        (GUID, 1, f"nsu=urn:server;g={GUID}"),
        (b"\1\2\3", 1, "nsu=urn:server;b=AQID"),
        ("lost", 9, "ns=9;s=lost"),
    ],
)
def test_a_node_id_as_a_value_is_told_by_uri(identifier, index, text):
    assert format_node(make_node_id(identifier, index), NAMESPACES) == text


@pytest.mark.parametrize(
    ("value", "variant_type", "expected"),
    [
        (True, ua.VariantType.Boolean, True),
        (-128, ua.VariantType.SByte, -128),
        (2**64 - 1, ua.VariantType.UInt64, 2**64 - 1),
        (182.5, ua.VariantType.Double, 182.5),
        ("瓶", ua.VariantType.String, "瓶"),
        (None, ua.VariantType.String, None),
        (b"\0\xff", ua.VariantType.ByteString, b"\0\xff"),
        (NOON, ua.VariantType.DateTime, NOON_MS),
        (GUID, ua.VariantType.Guid, str(GUID)),
        (make_node_id("Good", 1), ua.VariantType.NodeId, "nsu=urn:server;s=Good"),
        (ua.StatusCode(0x480), ua.VariantType.StatusCode, 0x480),
        (ua.QualifiedName("Execute", 2), ua.VariantType.QualifiedName, "Execute"),
        (ua.LocalizedText("Störung", "de"), ua.VariantType.LocalizedText, "Störung"),
        ([1, 2, 3], ua.VariantType.Int16, (1, 2, 3)),
        ([], ua.VariantType.Int16, ()),
        ([[1, 2], [3, 4]], ua.VariantType.Int32, (1, 2, 3, 4)),
        ([NOON, NOON], ua.VariantType.DateTime, (NOON_MS, NOON_MS)),
    ],
)
def test_every_builtin_type_arrives_as_a_plain_value(value, variant_type, expected):
    assert decode(value, variant_type) == TagChange("T.tag", expected, 0)


def test_both_timestamps_travel_in_milliseconds_and_a_null_time_is_none():
    change = decode(1, ua.VariantType.Int32, SourceTimestamp=NOON, ServerTimestamp=NOON + timedelta(milliseconds=5))
    assert (change.source_timestamp, change.server_timestamp) == (NOON_MS, NOON_MS + 5)
    null = datetime(1601, 1, 1, tzinfo=UTC)
    assert decode(1, ua.VariantType.Int32, SourceTimestamp=null).source_timestamp is None


def test_a12_a_bad_status_has_no_value_and_the_overflow_bit_stays_in_the_code():
    bad = decode(7, ua.VariantType.Int32, StatusCode=ua.StatusCode(0x80350000))
    assert (bad.value, bad.status_code) == (None, 0x80350000)
    overflow = decode(7, ua.VariantType.Int32, StatusCode=ua.StatusCode(0x480))
    assert (overflow.value, overflow.status_code) == (7, 0x480)


def test_text_that_is_no_utf8_is_uncertain_and_can_be_encoded_again():
    change = decode(b"PS-\xff17".decode("utf-8", "surrogateescape"), ua.VariantType.String)
    assert (change.value, change.status_code) == ("PS-\ufffd17", StatusCode.UNCERTAIN)


def test_a_structure_is_bad_rather_than_a_guess():
    change = decode(ua.ExtensionObject(), ua.VariantType.ExtensionObject)
    assert (change.value, change.status_code) == (None, StatusCode.BAD_DECODING_ERROR)


@given(st.data(), st.sampled_from(list(INTEGER_RANGES)))
def test_an_integer_is_sent_with_its_own_type_or_not_at_all(data, data_type):
    value = data.draw(st.integers(-(2**65), 2**65))
    lowest, highest = INTEGER_RANGES[data_type]
    encoded = encode(data_type, value)
    if lowest <= value <= highest:
        assert (encoded.Value, ua.VariantType[encoded.VariantType.name]) == (value, VARIANT_TYPES[data_type])
    else:
        assert encoded == StatusCode.BAD_OUT_OF_RANGE


VARIANT_TYPES = {
    DataType.INT8: ua.VariantType.SByte,
    DataType.UINT8: ua.VariantType.Byte,
    DataType.INT16: ua.VariantType.Int16,
    DataType.UINT16: ua.VariantType.UInt16,
    DataType.INT32: ua.VariantType.Int32,
    DataType.UINT32: ua.VariantType.UInt32,
    DataType.INT64: ua.VariantType.Int64,
    DataType.UINT64: ua.VariantType.UInt64,
}


@pytest.mark.parametrize(
    ("data_type", "value", "variant"),
    [
        (DataType.FLOAT32, 175, ua.Variant(175.0, ua.VariantType.Float)),
        (DataType.FLOAT64, 0.1, ua.Variant(0.1, ua.VariantType.Double)),
        (DataType.BOOL, True, ua.Variant(True, ua.VariantType.Boolean)),
        (DataType.STRING, "4711", ua.Variant("4711", ua.VariantType.String)),
        (DataType.BYTES, b"\1", ua.Variant(b"\1", ua.VariantType.ByteString)),
        (DataType.DATETIME, 1_772_452_800_000, ua.Variant(NOON.replace(microsecond=0), ua.VariantType.DateTime)),
        (DataType.INT16, (1, 2), ua.Variant([1, 2], ua.VariantType.Int16)),
    ],
)
def test_a16_a_write_carries_the_declared_type(data_type, value, variant):
    assert encode(data_type, value) == variant


@pytest.mark.parametrize(
    ("data_type", "value", "status_code"),
    [
        (DataType.INT16, 7.0, StatusCode.BAD_TYPE_MISMATCH),
        (DataType.INT16, True, StatusCode.BAD_TYPE_MISMATCH),
        (DataType.FLOAT32, float("nan"), StatusCode.BAD_OUT_OF_RANGE),
        (DataType.FLOAT32, 1e39, StatusCode.BAD_OUT_OF_RANGE),
        (DataType.FLOAT64, 10**400, StatusCode.BAD_OUT_OF_RANGE),
        (DataType.DATETIME, 2**62, StatusCode.BAD_OUT_OF_RANGE),
        (DataType.STRING, None, StatusCode.BAD_TYPE_MISMATCH),
        (DataType.UINT8, (1, 256), StatusCode.BAD_OUT_OF_RANGE),
    ],
)
def test_a_value_that_does_not_fit_its_type_is_refused(data_type, value, status_code):
    assert encode(data_type, value) == status_code


def test_status_codes_have_names_for_people():
    assert status_name(StatusCode.BAD_NODE_ID_UNKNOWN) == "BadNodeIdUnknown"
    assert status_name(0x80FFFF00) == "0x80FFFF00"
