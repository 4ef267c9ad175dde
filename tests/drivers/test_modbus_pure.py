"""Codec, checksum and the joining of writes: no I/O, so properties rather than examples where possible."""

import contextlib
import math
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.values import INTEGER_RANGES, DataType, StatusCode
from gateway.domain.writing.checksums import crc16_modbus
from gateway.drivers.base import Tag
from gateway.drivers.modbus.breaker import Breaker
from gateway.drivers.modbus.checksum import seal
from gateway.drivers.modbus.codec import codec_for
from gateway.drivers.modbus.config import REGISTERS_OF, ModbusAddress, Span, WriteBlock
from gateway.drivers.modbus.framing import RtuFraming, TcpFraming
from gateway.drivers.modbus.replies import BrokenReply, Refused, bits_of, check_echo, registers_of
from gateway.drivers.modbus.writes import RegisterWrite, plan_writes


def tag(data_type: DataType, register="0", **address) -> Tag[ModbusAddress]:
    return Tag("T.tag", data_type, ModbusAddress(register=register, **address))


def number_tag(data_type: DataType, **address) -> Tag[ModbusAddress]:
    return tag(data_type, f"0-{REGISTERS_OF[data_type] - 1}", **address)


def words(*registers: int) -> bytes:
    return struct.pack(f">{len(registers)}H", *registers)


INTEGERS = [data_type for data_type in REGISTERS_OF if data_type in INTEGER_RANGES]


@given(st.data(), st.sampled_from(INTEGERS), st.sampled_from(["big", "low_first"]))
def test_every_integer_comes_back_as_it_was_written(data, data_type, word_order):
    codec = codec_for(number_tag(data_type, word_order=word_order))
    value = data.draw(st.integers(*INTEGER_RANGES[data_type]))
    assert codec.decode(codec.encode(value)) == (value, StatusCode.GOOD)


@given(st.data(), st.sampled_from(INTEGERS))
def test_an_integer_beyond_its_type_is_refused(data, data_type):
    lowest, highest = INTEGER_RANGES[data_type]
    value = data.draw(st.integers(max_value=lowest - 1) | st.integers(min_value=highest + 1))
    assert codec_for(number_tag(data_type)).encode(value) == StatusCode.BAD_OUT_OF_RANGE


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["big", "low_first"]))
def test_every_double_comes_back_as_it_was_written(value, word_order):
    codec = codec_for(number_tag(DataType.FLOAT64, word_order=word_order))
    assert codec.decode(codec.encode(value)) == (value, StatusCode.GOOD)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_every_float_comes_back_as_it_was_written(value):
    codec = codec_for(number_tag(DataType.FLOAT32))
    assert codec.decode(codec.encode(value)) == (value, StatusCode.GOOD)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3.5e38, 10**400])
def test_what_no_float_setpoint_can_be_is_refused(value):
    assert codec_for(number_tag(DataType.FLOAT32)).encode(value) == StatusCode.BAD_OUT_OF_RANGE


@pytest.mark.parametrize(
    ("data_type", "value"), [(DataType.UINT16, True), (DataType.UINT16, 1.0), (DataType.INT32, "1")]
)
def test_a_value_of_another_kind_is_a_type_mismatch_and_never_coerced(data_type, value):
    assert codec_for(number_tag(data_type)).encode(value) == StatusCode.BAD_TYPE_MISMATCH


def test_the_energy_meter_with_low_word_first_reads_1234567():
    low_first = codec_for(number_tag(DataType.UINT32, word_order="low_first"))
    assert low_first.decode(words(0xD687, 0x0012)) == (1_234_567, StatusCode.GOOD)
    assert codec_for(number_tag(DataType.UINT32)).decode(words(0x0012, 0xD687)) == (1_234_567, StatusCode.GOOD)


def test_low_word_first_reverses_all_four_words_of_64_bits():
    codec = codec_for(number_tag(DataType.UINT64, word_order="low_first"))
    assert codec.decode(words(0x0004, 0x0003, 0x0002, 0x0001))[0] == 0x0001_0002_0003_0004


def test_bcd_4711_is_4711_and_a_hex_digit_in_it_is_bad():
    codec = codec_for(number_tag(DataType.UINT16, encoding="bcd"))
    assert codec.decode(words(0x4711)) == (4711, StatusCode.GOOD)
    assert codec.decode(words(0x471A)) == (None, StatusCode.BAD_DECODING_ERROR)
    assert codec.encode(4711) == words(0x4711)
    assert codec.encode(10_000) == StatusCode.BAD_OUT_OF_RANGE


@given(st.integers(0, 99_999_999), st.sampled_from(["big", "low_first"]))
def test_every_eight_digit_bcd_number_comes_back(value, word_order):
    codec = codec_for(number_tag(DataType.UINT32, encoding="bcd", word_order=word_order))
    assert codec.decode(codec.encode(value)) == (value, StatusCode.GOOD)


@given(st.sampled_from(["ascii", "utf-8", "gbk"]), st.booleans(), st.data())
def test_every_text_that_fits_comes_back(encoding, swap_bytes, data):
    codec = codec_for(tag(DataType.STRING, "30-37", encoding=encoding, swap_bytes=swap_bytes))
    alphabet = st.characters(codec="ascii" if encoding == "ascii" else "gbk", exclude_characters="\0 ")
    text = data.draw(st.text(alphabet).filter(lambda text: len(text.encode(encoding)) <= 16))
    assert codec.decode(codec.encode(text)) == (text, StatusCode.GOOD)


@given(st.binary(min_size=16, max_size=16), st.sampled_from(["ascii", "utf-8", "gbk"]))
def test_no_bytes_whatever_stop_a_text_from_being_decoded(raw, encoding):
    value, status_code = codec_for(tag(DataType.STRING, "30-37", encoding=encoding)).decode(raw)
    assert isinstance(value, str)
    assert "\0" not in value
    assert status_code in (StatusCode.GOOD, StatusCode.UNCERTAIN)


def test_a_batch_id_is_trimmed_of_nul_and_spaces_and_of_what_is_left_behind_the_nul():
    codec = codec_for(tag(DataType.STRING, "30-37"))
    assert codec.decode(b"4711  \0\0".ljust(16, b"\0")) == ("4711", StatusCode.GOOD)
    assert codec.decode(b"4712\0OLD TEXT\xff\xff\xff\0") == ("4712", StatusCode.GOOD)


def test_swapped_bytes_and_gbk_are_read_as_people_read_them():
    assert codec_for(tag(DataType.STRING, "0-1", swap_bytes=True)).decode(b"7411") == ("4711", StatusCode.GOOD)
    assert codec_for(tag(DataType.STRING, "0-1", encoding="gbk")).decode("瓶盖".encode("gbk")) == (
        "瓶盖",
        StatusCode.GOOD,
    )


def test_text_that_cannot_be_decoded_is_uncertain_and_keeps_what_was_readable():
    assert codec_for(tag(DataType.STRING, "0-2")).decode(b"PS-\xff17") == ("PS-\ufffd17", StatusCode.UNCERTAIN)


@pytest.mark.parametrize("text", ["12345", "瓶", "a\0b"])
def test_text_that_does_not_fit_its_registers_is_refused(text):
    assert codec_for(tag(DataType.STRING, "0-1")).encode(text) == StatusCode.BAD_OUT_OF_RANGE


# --- checksum and writes ----------------------------------------------------------------------------------------------

BLOCK = WriteBlock.model_validate(
    {"registers": "110-119", "checksum": {"register": 119, "over": "110-118", "type": "crc16-modbus"}}
)


def test_the_checksum_is_the_one_of_the_standard_catalogues():
    assert crc16_modbus(b"123456789") == 0x4B37


def test_a_sealed_block_keeps_its_other_values_and_ends_in_the_checksum_of_all():
    present = words(*range(1, 10), 0xDEAD)
    sealed = seal(BLOCK, present, [(Span(112, 1), words(1750))])
    assert sealed[:18] == words(1, 2, 1750, 4, 5, 6, 7, 8, 9)
    assert sealed[18:] == crc16_modbus(sealed[:18]).to_bytes(2, "big")


def write(place: int, first: int, size: int = 1, table="holding") -> RegisterWrite:
    return RegisterWrite(place, table, Span(first, size), bytes([0, place]) * size)


def places(requests) -> list[list[int]]:
    return [[write.place for write in request.writes] for request in requests]


def test_neighbours_travel_together_and_nothing_overtakes():
    writes = [write(0, 10), write(1, 11, 2), write(2, 13), write(3, 20), write(4, 14)]
    assert places(plan_writes(writes, (), 125)) == [[0, 1, 2], [3], [4]]


def test_writes_to_one_block_are_joined_in_any_order_but_not_over_a_write_between():
    writes = [write(0, 112), write(1, 110), write(2, 100), write(3, 111)]
    requests = plan_writes(writes, (BLOCK,), 125)
    assert places(requests) == [[0, 1], [2], [3]]
    assert [request.block for request in requests] == [BLOCK, None, BLOCK]


def test_a_register_written_twice_is_sent_twice():
    assert places(plan_writes([write(0, 112), write(1, 112)], (BLOCK,), 125)) == [[0], [1]]
    assert places(plan_writes([write(0, 5), write(1, 5)], (), 125)) == [[0], [1]]


def test_one_request_carries_123_registers_and_no_more():
    writes = [write(place, place) for place in range(124)]
    assert [len(request.writes) for request in plan_writes(writes, (), 125)] == [123, 1]
    assert [len(request.writes) for request in plan_writes(writes[:4], (), 2)] == [2, 2]


def test_neighbouring_coils_travel_together_and_never_with_registers():
    writes = [write(0, 0, table="coil"), write(1, 1, table="coil"), write(2, 2)]
    assert places(plan_writes(writes, (), 125)) == [[0, 1], [2]]


# --- replies (B2) -----------------------------------------------------------------------------------------------------


def test_a_right_reply_gives_its_registers_and_bits():
    assert registers_of(b"\x03\x04\x00\x01\x00\x02", 3, 2) == words(1, 2)
    assert bits_of(b"\x01\x02\xcd\x01", 1, 10) == bytes([1, 0, 1, 1, 0, 0, 1, 1, 1, 0])


NO_ANSWERS = {
    "empty": b"",
    "no count": b"\x03",
    "reply to FC6": b"\x06\x04\x00\x01\x00\x02",
    "one of two": b"\x03\x02\x00\x01",
    "cut short": b"\x03\x04\x00\x01",
    "too long": b"\x03\x04\x00\x01\x00\x02\x00",
    "wrong count": b"\x03\x03\x00\x01\x00\x02",
    "exception without code": b"\x83",
    "exception to FC4": b"\x84\x02",
}


@pytest.mark.parametrize("reply", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_a_reply_that_is_none_to_the_question_is_not_believed(reply):
    with pytest.raises(BrokenReply):
        registers_of(reply, 3, 2)


def test_an_exception_reply_is_a_refusal_with_its_status_code():
    with pytest.raises(Refused) as refusal:
        registers_of(b"\x83\x02", 3, 2)
    assert (refusal.value.code, refusal.value.status_code) == (2, StatusCode.BAD_NODE_ID_UNKNOWN)


def test_an_echo_of_another_value_is_not_believed():
    check_echo(b"\x06\x00\x64\x04\xd2", b"\x06\x00\x64\x04\xd2")
    with pytest.raises(BrokenReply, match="echo"):
        check_echo(b"\x06\x00\x64\x00\x07", b"\x06\x00\x64\x04\xd2")


@given(st.binary(max_size=300), st.integers(1, 125))
def test_no_bytes_whatever_pass_for_a_reply_unless_their_length_is_exact(reply, count):
    with contextlib.suppress(BrokenReply, Refused):
        assert len(registers_of(reply, 3, count)) == 2 * count


@given(st.data(), st.sampled_from(["tcp", "rtu"]), st.integers(1, 125))
def test_a_reply_in_whatever_pieces_is_found_when_its_last_byte_is_there_and_not_before(data, framing, count):
    pdu = bytes([3, 2 * count]) + data.draw(st.binary(min_size=2 * count, max_size=2 * count))
    found, whole = FRAMES[framing](pdu)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=8)))
    received = bytearray()
    for begin, end in pairwise([0, *cuts, len(whole)]):
        received += whole[begin:end]
        assert found.take(received, 7, 1) == (pdu if end == len(whole) else None)
    assert received == b"", "and nothing of it is left over"


FRAMES = {
    "tcp": lambda pdu: (TcpFraming(), struct.pack(">HHHB", 7, 0, len(pdu) + 1, 1) + pdu),
    "rtu": lambda pdu: (RtuFraming(), b"\x01" + pdu + crc16_modbus(b"\x01" + pdu).to_bytes(2, "little")),
}


# --- bits, byte orders, scale registers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word_order", "byte_order", "raw"),
    [
        ("big", "big", "12345678"),
        ("low_first", "big", "56781234"),
        ("big", "little", "34127856"),
        ("low_first", "little", "78563412"),
    ],
)
def test_all_four_orders_of_a_32_bit_number_are_read_and_written(word_order, byte_order, raw):
    codec = codec_for(number_tag(DataType.UINT32, word_order=word_order, byte_order=byte_order))
    assert codec.decode(bytes.fromhex(raw)) == (0x12345678, StatusCode.GOOD)
    assert codec.encode(0x12345678) == bytes.fromhex(raw)


def test_bits_of_a_register_are_a_bool_or_a_small_number():
    assert codec_for(tag(DataType.BOOL, 5, bits=3)).decode(b"\x00\x08") == (True, StatusCode.GOOD)
    field = codec_for(tag(DataType.UINT16, 5, bits="4-7"))
    assert field.decode(b"\xff\xa0") == (10, StatusCode.GOOD)
    assert field.encode(5) == b"\x00\x50"
    assert field.encode(16) == StatusCode.BAD_OUT_OF_RANGE


@pytest.mark.parametrize(
    ("value", "exponent", "expected"),
    [(1234, -2, 12.34), (1234, 0, 1234), (-5, 3, -5000), (-32768, 0, None), (1234, -32768, None)],
)
def test_a_scale_register_moves_the_point_and_what_is_not_implemented_is_bad(value, exponent, expected):
    codec = codec_for(tag(DataType.INT16, 10, scale_register=13))
    status = StatusCode.BAD_OUT_OF_RANGE if expected is None else StatusCode.GOOD
    assert codec.decode(words(value & 0xFFFF, 0, 0, exponent & 0xFFFF)) == (expected, status)


# --- the breaker ------------------------------------------------------------------------------------------------------


def test_a_silent_unit_gets_a_twentieth_of_the_connection_and_ever_rarer_probes():
    breaker = Breaker(limit=2)
    breaker.note_silence(now=0.0, cost=1.0)
    assert not breaker.has_tripped
    breaker.note_silence(now=1.0, cost=1.0)
    assert (breaker.is_open(20.9), breaker.is_open(21.0)) == (True, False)
    breaker.note_silence(now=22.0, cost=1.0)
    assert (breaker.is_open(61.9), breaker.is_open(62.0)) == (True, False)
    breaker.note_silence(now=62.0, cost=1.0)
    assert (breaker.is_open(121.9), breaker.is_open(122.0)) == (True, False)
    breaker.note_answer()
    assert not breaker.has_tripped
