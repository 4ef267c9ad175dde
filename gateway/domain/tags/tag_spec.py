"""One tag of an equipment, as the YAML says it: how its raw values are read, and who wants to know them."""

import msgspec

from gateway.domain.tags.conversion import Conversion
from gateway.domain.tags.heartbeats import Heartbeat
from gateway.domain.tags.pacing import Pace
from gateway.domain.values import TagId


class TagSpec(msgspec.Struct, frozen=True):
    """One tag of an equipment. `conversion` is None where the raw value is the engineering value."""

    tag_id: TagId
    name: str
    slot: int
    device: str
    conversion: Conversion | None = None
    publish: bool = False
    is_input: bool = False
    heartbeat_period: int | None = None
    unit: str | None = None
    pace: Pace | None = None
    """How often it is told as a run parameter; with a pace, `publish` is false."""

    @property
    def heartbeat(self) -> Heartbeat | None:
        """The tag as a heartbeat, if it is one."""
        if self.heartbeat_period is None:
            return None
        return Heartbeat(self.slot, self.heartbeat_period, self.device, self.tag_id)

    @property
    def sources(self) -> tuple[tuple[str, TagId], ...]:
        """Its device and its id: what must be known before anything is said of it."""
        return ((self.device, self.tag_id),)

    @property
    def is_plain(self) -> bool:
        """True if it leaves as it comes, and nothing else depends on it."""
        conversion = self.conversion
        return self.publish and not self.is_input and (conversion is None or conversion.is_identity)
