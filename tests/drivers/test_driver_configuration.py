"""What the YAML may say of devices and tags: every mistake gets a sentence that says what would be right."""

import pytest
from pydantic import ValidationError

from gateway.domain.values import DataType
from gateway.drivers.base import Tag
from gateway.drivers.modbus.checks import check_modbus_tag
from gateway.drivers.modbus.config import ModbusAddress, ModbusSettings, Span
from gateway.drivers.opcua.config import OpcUaAddress, OpcUaSettings, check_opcua_tag
from gateway.drivers.registry import DRIVERS

OPCUA = {"url": "opc.tcp://127.0.0.1:4840", "security": "none"}
MODBUS = {"host": "127.0.0.1"}
BLOCK = {"registers": "110-119", "checksum": {"register": 119, "over": "110-118", "type": "crc16-modbus"}}


def complaint(model, keys) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(keys)
    return "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in caught.value.errors())


def test_the_registry_names_both_drivers_with_all_the_configuration_needs():
    assert set(DRIVERS) == {"opcua", "modbus"}
    for name, keys, address in (("opcua", OPCUA, {"node": "nsu=urn:plc;s=a"}), ("modbus", MODBUS, {"register": 1})):
        entry = DRIVERS[name]
        settings = entry.settings.model_validate(keys)
        tag = Tag("T.tag", DataType.UINT16, entry.address.model_validate(address))
        assert entry.check(settings, tag) == []
        assert entry.address.model_json_schema()["additionalProperties"] is False


def test_an_opcua_device_has_the_defaults_that_the_handbook_gives():
    settings = OpcUaSettings.model_validate({**OPCUA, "keepalive": "30s", "publishing_interval": "100ms"})
    assert (settings.publishing_interval, settings.sampling_interval, settings.queue_size) == (0.1, 0.25, 100)
    assert (settings.request_timeout, settings.lifetime) == (4.0, 90.0)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({**OPCUA, "security": "Basic256"}, "'Basic256' is no security policy of this gateway; write Basic256Sha256, "),
        ({**OPCUA, "url": "http://plc"}, "write opc.tcp://<host>:<port>"),
        ({**OPCUA, "url": "opc.tcp://plc"}, "write opc.tcp://<host>:<port>"),
        ({**OPCUA, "url": "opc.tcp://me:secret@plc:4840"}, "take it out"),
        ({**OPCUA, "queue_size": 1}, "queue_size: Input should be greater than or equal to 2"),
        ({**OPCUA, "publishing_interval": 500}, "write a number with its unit"),
        ({**OPCUA, "publishing_interval": "0ms"}, "publishing_interval: Input should be greater than 0"),
        ({**OPCUA, "publishing": "1s"}, "publishing: Extra inputs are not permitted"),
    ],
)
def test_a_mistake_in_an_opcua_device_is_told_with_what_would_be_right(keys, words):
    assert words in complaint(OpcUaSettings, keys)


def test_tags_of_a_group_are_watched_alike_unless_they_say_otherwise():
    fast = {"sampling_interval": "50ms", "queue_size": 20, "deadband": {"absolute": 0.5}}
    settings = OpcUaSettings.model_validate({**OPCUA, "namespace": "urn:plc", "groups": {"fast": fast}})
    settle = DRIVERS["opcua"].settle
    alike = settle(settings, OpcUaAddress.model_validate({"node": "s=a", "group": "fast"}))
    assert (alike.sampling_interval, alike.queue_size, alike.deadband.absolute) == (0.05, 20, 0.5)
    own = settle(settings, OpcUaAddress.model_validate({"node": "s=a", "group": "fast", "queue_size": 7}))
    assert (own.sampling_interval, own.queue_size) == (0.05, 7)
    assert settle(settings, OpcUaAddress.model_validate({"node": "s=a"})).sampling_interval is None
    lost = Tag("T.a", DataType.FLOAT64, OpcUaAddress.model_validate({"node": "s=a", "group": "slow"}))
    assert check_opcua_tag(settings, lost) == ["its device has no group 'slow'; the groups are: fast"]


def test_a_password_in_the_url_is_not_repeated_in_the_message():
    assert "secret" not in complaint(OpcUaSettings, {**OPCUA, "url": "opc.tcp://me:secret@plc:4840"})


def test_a_node_without_namespace_needs_a_device_with_one():
    tag = Tag("T.tag", DataType.INT32, OpcUaAddress.model_validate({"node": "s=Good"}))
    assert check_opcua_tag(OpcUaSettings.model_validate({**OPCUA, "namespace": "urn:plc"}), tag) == []
    (problem,) = check_opcua_tag(OpcUaSettings.model_validate(OPCUA), tag)
    assert "write nsu=<namespace uri>;… before it, or give its device a namespace: <uri>" in problem


@pytest.mark.parametrize(
    ("register", "span"), [(100, Span(100, 1)), ("100", Span(100, 1)), ("30-37", Span(30, 8)), ("0 - 1", Span(0, 2))]
)
def test_registers_are_one_address_or_a_range_with_both_ends(register, span):
    assert ModbusAddress.model_validate({"register": register}).span == span


@pytest.mark.parametrize("register", ["37-30", "65536", "0x10", -1, 1.5, "", None, True])
def test_what_is_no_register_is_told_with_what_would_be_right(register):
    assert "write" in complaint(ModbusAddress, {"register": register})


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "transport tcp needs the key 'host'"),
        ({**MODBUS, "transport": "rtu_over_tcp", "unit_id": 0}, "units on a serial line are 1-247"),
        ({"transport": "rtu", "port": "/dev/ttyS0", "unit_id": 248}, "units on a serial line are 1-247"),
        ({"transport": "rtu", "port": 502}, "such as port: /dev/ttyUSB0"),
        ({"transport": "rtu", "port": "/dev/ttyS0", "host": "10.0.0.1"}, "write transport: rtu_over_tcp"),
        ({**MODBUS, "character_timeout": "20ms"}, "character_timeout: nothing for transport tcp; take it out"),
        ({**MODBUS, "transport": "tls", "cert_file": "own.pem"}, "cert_file and key_file belong together"),
        ({**MODBUS, "max_registers": 126}, "less than or equal to 125"),
        ({**MODBUS, "blocks": [BLOCK, BLOCK]}, "the blocks 110-119 and 110-119 overlap"),
        (
            {**MODBUS, "blocks": [{**BLOCK, "registers": "110-118"}]},
            "119 must be a single register of the block 110-118",
        ),
        (
            {**MODBUS, "blocks": [{**BLOCK, "checksum": {**BLOCK["checksum"], "over": "110-119"}}]},
            "the checksum is over 110-119; that must lie in the block 110-119 and leave out 119",
        ),
        ({**MODBUS, "blocks": [{**BLOCK, "registers": "0-200"}]}, "one request of this device carries 123"),
        (
            {**MODBUS, "read_write_multiple": True, "blocks": [{**BLOCK, "registers": "0-121"}]},
            "the block 0-121 has 122 registers, and is written whole; one request of this device carries 121",
        ),
        ({**MODBUS, "blocks": [{**BLOCK, "checksum": {**BLOCK["checksum"], "type": "crc32"}}]}, "crc16-modbus"),
    ],
)
def test_a_mistake_in_a_modbus_device_is_told_with_what_would_be_right(keys, words):
    assert words in complaint(ModbusSettings, keys)


@pytest.mark.parametrize(
    ("data_type", "address", "words"),
    [
        (DataType.UINT32, {"register": 40}, "register 40 has 16 bits, uint32 has 32; write 40-41"),
        (DataType.UINT16, {"register": "40-41"}, "register 40-41 has 32 bits, uint16 has 16; write 40"),
        (DataType.INT8, {"register": 1}, "a Modbus register cannot hold int8; the types are int16"),
        (DataType.BOOL, {"register": 1}, "bool belongs to coil and discrete"),
        (DataType.UINT16, {"register": 1, "table": "coil"}, "type uint16 does not fit table coil"),
        (DataType.BOOL, {"register": "1-2", "table": "coil"}, "a bool is one bit; write register: 1"),
        (DataType.STRING, {"register": "1-2", "encoding": "bcd"}, "a string has ascii, utf-8 or gbk"),
        (DataType.UINT16, {"register": 1, "encoding": "gbk"}, "encoding gbk does not fit uint16"),
        (DataType.INT16, {"register": 1, "encoding": "bcd"}, "bcd is for uint16, uint32 and uint64"),
        (DataType.UINT16, {"register": 1, "word_order": "low_first"}, "word_order does nothing for uint16"),
        (DataType.UINT32, {"register": "1-2", "swap_bytes": True}, "swap_bytes does nothing for uint32"),
        (DataType.STRING, {"register": "1-2", "word_order": "big"}, "word_order does nothing for a string"),
        (DataType.STRING, {"register": "1-11"}, "at most max_registers 10 in one request"),
        (DataType.UINT32, {"register": "119-120"}, "registers 119-120 reach beyond the block 110-119"),
    ],
)
def test_a_tag_that_does_not_fit_its_device_is_told_with_what_would_be_right(data_type, address, words):
    settings = ModbusSettings.model_validate({**MODBUS, "max_registers": 10, "blocks": [BLOCK]})
    problems = check_modbus_tag(settings, Tag("T.tag", data_type, ModbusAddress.model_validate(address)))
    assert len(problems) == 1
    assert words in problems[0]
