"""Every driver there is: a new one costs a folder and one line here."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.domain.values import MethodCall
from gateway.drivers.base import Clock, DeviceSettings, Driver, Tag, TagAddress
from gateway.drivers.modbus.checks import (
    check_modbus_tag,
    check_modbus_write,
    longest_modbus_pause,
    modbus_place,
    shared_endpoint_problem,
)
from gateway.drivers.modbus.config import ModbusAddress, ModbusSettings
from gateway.drivers.modbus.driver import ModbusDriver
from gateway.drivers.opcua.config import (
    OpcUaAddress,
    OpcUaSettings,
    check_opcua_call,
    check_opcua_device,
    check_opcua_tag,
    check_opcua_write,
    in_group,
    opcua_place,
)
from gateway.drivers.opcua.driver import OpcUaDriver


@dataclass(frozen=True, slots=True)
class DriverEntry:
    """What the configuration needs to know of one driver.

    `settings` and `address` validate what the YAML says of a device and of a tag, each alone; `check` then looks at the
    two together and at the tag's type, and says in sentences what is wrong (empty: nothing); `check_all` looks at a
    device and all its tags, `check_write` at a tag that the gateway may write, `check_call` at a method that it may
    call; `place` is the part of a device, by the settings and an address in it, outside which writing to that address
    changes nothing, the same under every name that the device has in the YAML. `settle` completes what the YAML says of
    a tag by what it says of its device. `longest_pause` is how many seconds of plant time may pass between two signs of
    life of a device in good order. None of them touches the network. `driver` makes the driver, unconnected.
    """

    settings: type[DeviceSettings]
    address: type[TagAddress]
    check: Callable[[Any, Tag[Any]], list[str]]
    place: Callable[[Any, Any], Hashable]
    conflict: Callable[[Any, Any], str]
    driver: Callable[[str, Any, Sequence[Tag[Any]], Clock], Driver]
    check_all: Callable[[Any, Sequence[Tag[Any]]], list[str]] = lambda _settings, _tags: []
    check_write: Callable[[Tag[Any]], list[str]] = lambda _tag: []
    settle: Callable[[Any, Any], TagAddress] = lambda _settings, address: address
    longest_pause: Callable[[Any, Sequence[Tag[Any]]], float] = lambda _settings, _tags: 0.0
    check_call: Callable[[Any, MethodCall], list[str]] = lambda _settings, _call: [
        "this device has no methods; take handshake out, or use an OPC UA device"
    ]


DRIVERS: Final[dict[str, DriverEntry]] = {
    "opcua": DriverEntry(
        OpcUaSettings,
        OpcUaAddress,
        check_opcua_tag,
        opcua_place,
        lambda _own, _other: "",
        OpcUaDriver,
        check_opcua_device,
        check_opcua_write,
        in_group,
        check_call=check_opcua_call,
    ),
    "modbus": DriverEntry(
        ModbusSettings,
        ModbusAddress,
        check_modbus_tag,
        modbus_place,
        shared_endpoint_problem,
        ModbusDriver,
        check_write=check_modbus_write,
        longest_pause=longest_modbus_pause,
    ),
}
