"""What is known of one OPC UA device over all its sessions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from gateway.drivers.base import Clock, Tag
from gateway.drivers.opcua.audit import Audit
from gateway.drivers.opcua.config import OpcUaAddress, OpcUaSettings, in_group, wants_history
from gateway.drivers.opcua.device_clock import TRUSTED, DeviceClock
from gateway.drivers.opcua.subscribing.last_told import LastTold


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

    @classmethod
    def with_tags(cls, name: str, settings: OpcUaSettings, tags: Sequence[Tag[OpcUaAddress]], clock: Clock) -> Self:
        """A device that nothing has been heard of yet."""
        publishing = settings.poll_interval if settings.mode == "poll" else settings.publishing_interval
        asked = (in_group(settings, tag.address).sampling_interval or settings.sampling_interval for tag in tags)
        sampling = publishing if settings.mode == "poll" else max(asked, default=settings.sampling_interval)
        dates = DeviceClock(name, settings.clock, clock, publishing, sampling)
        # Half of it covers a clock that is a little wrong, and what was sampled but not published any more.
        span = 3 * TRUSTED * clock.rate + 4_000 * (sampling + publishing)
        told = LastTold(round(span)) if any(wants_history(settings, tag) for tag in tags) else None
        return cls(name, settings, clock, Audit(tags), dates, told)
