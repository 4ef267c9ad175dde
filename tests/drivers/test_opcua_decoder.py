"""The fast decoder against asyncua's: whatever bytes come, both say the same or both refuse."""

import struct
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.values import DataType, StatusCode, TagChange
from gateway.drivers.base import Tag
from gateway.drivers.opcua.config import OpcUaAddress
from gateway.drivers.opcua.subscribing.decoder import ChangeDecoder
from gateway.drivers.opcua.subscribing.publications import PublicationDecoder
from gateway.drivers.opcua.values import ValueDecoder

NAMESPACES = ["http://opcfoundation.org/UA/", "urn:plc"]
TAGS = [Tag(f"T.{name}", DataType(name), OpcUaAddress(node=f"s={name}")) for name in DataType]
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
NOON_MS = 1_772_452_800_000

moments = st.datetimes(datetime(1601, 1, 1), datetime(9999, 12, 31, 23, 59, 58), timezones=st.just(UTC))
texts = st.one_of(
    st.none(), st.text(max_size=8), st.binary(max_size=8).map(lambda b: b.decode("utf-8", "surrogateescape"))
)
node_ids = st.one_of(
    st.builds(ua.NodeId, st.integers(0, 2**32 - 1), st.integers(0, 3)),
    st.builds(ua.NodeId, st.text(min_size=1, max_size=5), st.integers(0, 3)),
)
SCALARS = {
    ua.VariantType.Null: st.none(),
    ua.VariantType.Boolean: st.booleans(),
    ua.VariantType.SByte: st.integers(-128, 127),
    ua.VariantType.Byte: st.integers(0, 255),
    ua.VariantType.Int16: st.integers(-(2**15), 2**15 - 1),
    ua.VariantType.UInt16: st.integers(0, 2**16 - 1),
    ua.VariantType.Int32: st.integers(-(2**31), 2**31 - 1),
    ua.VariantType.UInt32: st.integers(0, 2**32 - 1),
    ua.VariantType.Int64: st.integers(-(2**63), 2**63 - 1),
    ua.VariantType.UInt64: st.integers(0, 2**64 - 1),
    ua.VariantType.Float: st.floats(width=32),
    ua.VariantType.Double: st.floats(),
    ua.VariantType.String: texts,
    ua.VariantType.DateTime: moments,
    ua.VariantType.Guid: st.uuids(),
    ua.VariantType.ByteString: st.one_of(st.none(), st.binary(max_size=8)),
    ua.VariantType.XmlElement: texts.map(ua.XmlElement),
    ua.VariantType.NodeId: node_ids,
    ua.VariantType.ExpandedNodeId: node_ids,
    ua.VariantType.StatusCode: st.integers(0, 2**32 - 1).map(ua.StatusCode),
    ua.VariantType.QualifiedName: st.builds(ua.QualifiedName, st.text(max_size=5), st.integers(0, 3)),
    ua.VariantType.LocalizedText: st.builds(ua.LocalizedText, texts, st.none()),
    ua.VariantType.ExtensionObject: st.just(ua.ExtensionObject()),
    ua.VariantType.Variant: st.integers(0, 9).map(ua.Variant),
}


@st.composite
def variants(draw) -> ua.Variant:
    kind = draw(st.sampled_from(list(SCALARS)))
    if kind is not ua.VariantType.Null and draw(st.integers(0, 4)) == 0:
        return ua.Variant(draw(st.lists(SCALARS[kind], max_size=3)), kind, is_array=True)
    return ua.Variant(draw(SCALARS[kind]), kind)


@st.composite
def items(draw) -> ua.MonitoredItemNotification:
    """Every mask but those with picoseconds of the source and a server time, which asyncua reads in a wrong order."""
    source, server = draw(st.none() | moments), draw(st.none() | moments)
    value = ua.DataValue(
        draw(variants()),
        draw(st.none() | st.sampled_from([0, 0x480, 0x40000000, 0x80350000, 0x00000400]).map(ua.StatusCode)),
        SourceTimestamp=source,
        ServerTimestamp=server,
        SourcePicoseconds=draw(st.none() | st.integers(0, 9999)) if server is None else None,
        ServerPicoseconds=draw(st.none() | st.integers(0, 9999)),
    )
    return ua.MonitoredItemNotification(draw(st.integers(0, len(TAGS) - 1)), value)


@st.composite
def responses(draw) -> bytes:
    """A publish response: usual, a keep-alive, with a status change, or with diagnostics."""
    notifications: list = [
        ua.DataChangeNotification(MonitoredItems=draw(st.lists(items(), max_size=5)))
        for _ in range(draw(st.integers(0, 2)))
    ]
    if notifications and draw(st.integers(0, 5)) == 0:
        notifications[0].DiagnosticInfos = [ua.DiagnosticInfo(SymbolicId=1)]
    if draw(st.integers(0, 5)) == 0:
        notifications.append(ua.StatusChangeNotification(Status=ua.StatusCode(ua.StatusCodes.BadTimeout)))
    response = ua.PublishResponse()
    response.Parameters = ua.PublishResult(
        draw(st.integers(1, 9)),
        draw(st.lists(st.integers(1, 2**32 - 1), max_size=3)),
        draw(st.booleans()),
        ua.NotificationMessage(draw(st.integers(1, 2**32 - 1)), draw(moments), notifications),
        draw(st.lists(st.just(ua.StatusCode()), max_size=2)),
    )
    return struct_to_binary(response)


@st.composite
def alike_responses(draw) -> bytes:
    """What servers send most: values of one type with both times; now and then one among them is not plainly Good."""
    kind = draw(st.sampled_from([kind for kind in SCALARS if kind is not ua.VariantType.Null]))
    codes = draw(st.sampled_from([[None], [0], [0, 0, 0, 0x480, 0x40000000, 0x80350000]]))
    statuses = st.sampled_from([None if code is None else ua.StatusCode(code) for code in codes])
    cycle = draw(st.lists(moments, min_size=1, max_size=2))
    times = st.sampled_from(cycle)
    changes = [
        ua.MonitoredItemNotification(
            draw(st.integers(0, len(TAGS) - 1)),
            ua.DataValue(ua.Variant(value, kind), draw(statuses), draw(times), draw(times)),
        )
        for value in draw(st.lists(SCALARS[kind], min_size=2, max_size=9))
    ]
    if draw(st.integers(0, 2)) == 0:
        changes[draw(st.integers(0, len(changes) - 1))] = draw(items())
    response = ua.PublishResponse()
    notification = ua.DataChangeNotification(MonitoredItems=changes)
    response.Parameters.NotificationMessage = ua.NotificationMessage(1, draw(moments), [notification])
    return struct_to_binary(response)


def outcome(decode, body: bytes) -> str:
    """What a decoder makes of a body, as text (so that NaN equals NaN), or that it refuses."""
    try:
        told = decode(Buffer(body))
    except Exception:  # noqa: BLE001 - asyncua raises anything
        return "refused"
    return repr([told.subscription_id, told.sequence_number, told.changes, told.overflows, told.is_keep_alive,
                 told.status, list(told.available), told.more])  # fmt: skip


def both(body: bytes) -> tuple[str, str]:
    fast, library = (PublicationDecoder(TAGS, ValueDecoder(NAMESPACES)) for _ in range(2))
    told = outcome(fast.decode, body), outcome(library.decode_any, body)
    assert "refused" in told or fast.take_mistyped() == library.take_mistyped()
    return told


@settings(max_examples=300, deadline=None)
@given(responses())
def test_both_decoders_say_the_same_of_every_builtin_type_and_mask(body):
    fast, library = both(body)
    assert fast != "refused"
    assert fast == library


@settings(max_examples=300, deadline=None)
@given(alike_responses())
def test_both_decoders_say_the_same_of_many_values_laid_out_alike(body):
    fast, library = both(body)
    assert fast != "refused"
    assert fast == library


@settings(max_examples=300, deadline=None)
@given(responses() | alike_responses(), st.data())
def test_both_decoders_say_the_same_of_a_body_that_ends_too_soon(body, data):
    fast, library = both(body[: data.draw(st.integers(0, len(body) - 1))])
    assert fast == library


@settings(max_examples=400, deadline=None)
@given(responses() | alike_responses(), st.data())
def test_both_decoders_say_the_same_of_a_body_with_wrong_bytes(body, data):
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.sampled_from([0, 1, 0x0F, 0x7F, 0x80, 0xFF]))
    fast, library = both(bytes(damaged))
    assert fast == library


def decode_one(raw: bytes, tag: Tag = TAGS[0]) -> tuple[TagChange, ChangeDecoder]:
    decoder = ChangeDecoder([tag], ValueDecoder(NAMESPACES))
    (change,), end = decoder.decode(raw, 0, 1)
    assert end == len(raw)
    return change, decoder


def test_picoseconds_stand_behind_the_time_that_they_belong_to():
    ticks = int((NOON - datetime(1601, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)) * 10
    raw = struct.pack("<IBB?qHqH", 0, 0x3D, 1, True, ticks, 7, ticks + 50_000, 9)
    change, _ = decode_one(raw, TAGS[list(DataType).index(DataType.BOOL)])
    assert change == TagChange("T.bool", True, 0, NOON_MS, NOON_MS + 5)


@pytest.mark.parametrize(
    ("data_type", "kind", "raw"),
    [
        (DataType.INT16, 6, struct.pack("<i", 7)),
        (DataType.FLOAT32, 11, struct.pack("<d", 7)),
        (DataType.INT32, 12, b"\1\0\0\0a"),
    ],
)
def test_r09_a_value_of_another_type_than_configured_is_bad_and_told(data_type, kind, raw):
    tag = Tag("T.drifted", data_type, OpcUaAddress(node="s=x"))
    change, decoder = decode_one(struct.pack("<IBB", 0, 1, kind) + raw, tag)
    assert (change.value, change.status_code) == (None, StatusCode.BAD_TYPE_MISMATCH)
    assert decoder.mistyped == {"T.drifted": kind}


def test_r14_the_overflow_bit_is_seen_on_a_number_and_on_a_text():
    number = struct.pack("<IBBiI", 0, 0x03, 6, 9, 0x480)
    change, decoder = decode_one(number, Tag("T.a", DataType.INT32, OpcUaAddress(node="s=a")))
    assert (change.value, decoder.overflows) == (9, [change])
    text = struct.pack("<IBBi1sI", 0, 0x03, 12, 1, b"x", 0x480)
    change, decoder = decode_one(text, Tag("T.a", DataType.STRING, OpcUaAddress(node="s=a")))
    assert (change.value, decoder.overflows) == ("x", [change])


def test_an_array_that_claims_millions_of_elements_without_a_byte_is_refused_at_once():
    claimed = 20_000_000  # as many as would take seconds; a server may claim a hundred times that
    item = struct.pack("<IBBi", 0, 0x01, 0x80, claimed)
    with pytest.raises(ua.UaError, match=f"claims {claimed} elements"):
        decode_one(item)
    empty, _ = decode_one(struct.pack("<IBBi", 0, 0x01, 0x80, 0))
    assert empty.value == ()


@settings(max_examples=200, deadline=None)
@given(body=st.one_of(responses(), alike_responses()), offset=st.none() | st.integers(-(10**11), 10**11))
def test_a_clock_that_is_put_right_moves_the_source_times_and_nothing_else(body, offset):
    as_told, put_right = (PublicationDecoder(TAGS, ValueDecoder(NAMESPACES)) for _ in range(2))
    put_right.date_by(offset)
    told, right = as_told.decode(Buffer(body)), put_right.decode(Buffer(body))
    moved = [
        msgspec.structs.replace(
            change,
            source_timestamp=None
            if change.source_timestamp is None or offset is None
            else change.source_timestamp + offset,
        )
        for change in told.changes
    ]
    assert repr(right.changes) == repr(moved)
    assert right.sequence_number == told.sequence_number
