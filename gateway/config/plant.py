"""A configuration that was checked: what the runtime is built from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.domain.equipment import EquipmentSpec
from gateway.drivers.base import DeviceSettings, Tag
from gateway.mqtt.settings import MqttSettings


@dataclass(frozen=True, slots=True)
class Device:
    """One device, its driver's settings, and its tags as the driver sees them."""

    name: str
    driver: str
    settings: DeviceSettings
    tags: Sequence[Tag[Any]]


@dataclass(frozen=True, slots=True)
class Plant:
    """Everything `config/` says. `fingerprint` is the hash of its files, carried by every message as `cfg`."""

    gateway_id: str
    site: str
    topic_root: str
    store: str
    mqtt: MqttSettings
    devices: Mapping[str, Device]
    equipment: Sequence[EquipmentSpec]
    fingerprint: str
