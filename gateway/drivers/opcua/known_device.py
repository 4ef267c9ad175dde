"""What is known of one OPC UA device over all its sessions."""

from dataclasses import dataclass

from gateway.drivers.base import Clock
from gateway.drivers.opcua.audit import Audit
from gateway.drivers.opcua.config import OpcUaSettings
from gateway.drivers.opcua.device_clock import DeviceClock
from gateway.drivers.opcua.last_told import LastTold


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """Its name and settings, our clock, and what its sessions have shown: its types and namespaces, its clock.

    `told` is what it told last, kept where its history may have to go on from there.
    """

    name: str
    settings: OpcUaSettings
    clock: Clock
    audit: Audit
    dates: DeviceClock
    told: LastTold | None = None
