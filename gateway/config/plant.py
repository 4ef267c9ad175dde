"""A configuration that was checked: what the runtime is built from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.domain.commands.allow_list import NOTHING, AllowList
from gateway.domain.equipment import EquipmentSpec
from gateway.drivers.base import DeviceSettings, Tag
from gateway.mqtt.settings import MqttSettings


@dataclass(frozen=True, slots=True)
class Device:
    """One device, its driver's settings, its tags as the driver sees them, and what may be changed in it."""

    name: str
    driver: str
    settings: DeviceSettings
    tags: Sequence[Tag[Any]]
    allowed: AllowList = NOTHING


@dataclass(frozen=True, slots=True)
class Plant:
    """Everything `config/` says. `fingerprint` is the hash of its files, carried by every message as `cfg`.

    The record at `store` has `store_limit` bytes at most, and keeps what was published for `keep_published`
    milliseconds.
    """

    gateway_id: str
    site: str
    topic_root: str
    store: str
    store_limit: int
    keep_published: int
    mqtt: MqttSettings
    devices: Mapping[str, Device]
    equipment: Sequence[EquipmentSpec]
    fingerprint: str

    @property
    def in_clear(self) -> list[str]:
        """The devices whose conversation is neither signed nor encrypted."""
        return [name for name, device in self.devices.items() if device.settings.is_in_clear]
