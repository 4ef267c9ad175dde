"""Answers to reads: each time with its own picoseconds, whichever of them a server sends."""

import struct
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

import gateway.drivers.opcua  # noqa: F401 - what is tested is what importing it does to asyncua

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=5)


def ticks(at: datetime) -> int:
    return (at - datetime(1601, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 10


PARTS = (
    (0x02, "StatusCode", struct.pack("<I", 0x40000000), ua.StatusCode(0x40000000)),
    (0x04, "SourceTimestamp", struct.pack("<q", ticks(NOON)), NOON),
    (0x10, "SourcePicoseconds", struct.pack("<H", 7), 7),
    (0x08, "ServerTimestamp", struct.pack("<q", ticks(LATER)), LATER),
    (0x20, "ServerPicoseconds", struct.pack("<H", 9), 9),
)


@pytest.mark.parametrize("present", list(product([False, True], repeat=len(PARTS))))
def test_whatever_a_server_leaves_out_the_rest_of_a_read_value_is_what_it_sent(present):
    sent = [part for part, there in zip(PARTS, present, strict=True) if there]
    mask = 0x01 | sum(bit for bit, *_ in sent)
    raw = bytes([mask, ua.VariantType.Boolean.value, 1]) + b"".join(raw for _, _, raw, _ in sent)
    frame = struct_to_binary(ua.ReadResponse())
    answer = frame[:-8] + struct.pack("<i", 2) + raw + raw + struct.pack("<i", -1)  # two results and no diagnostics
    first, second = struct_from_binary(ua.ReadResponse, Buffer(answer)).Results
    assert first == second == ua.DataValue(ua.Variant(True), **{name: value for _, name, _, value in sent})
