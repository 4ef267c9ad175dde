"""Write locks: a person has said that nothing is to be written to a device, or to any."""

from collections.abc import Iterator

import msgspec
from msgspec import field

from gateway.domain.contract.objections import Objection
from gateway.domain.times import format_timestamp
from gateway.domain.values import Timestamp


class Lock(msgspec.Struct, frozen=True):
    """Who locked since when, and why. `code` is that of the answer to a command that meets it."""

    reason: str
    by: str
    at: Timestamp
    code: str = "locked"

    def objection(self, what: str) -> Objection:
        """Why a command for `what` is not taken."""
        return Objection(self.code, f"{what} locked by {self.by} since {format_timestamp(self.at)}: {self.reason}")


class WriteLocks(msgspec.Struct, frozen=True):
    """The locks that hold now: one on every device, and one on each of some."""

    everything: Lock | None = None
    devices: dict[str, Lock] = field(default_factory=dict)

    def objection(self, device: str) -> Objection | None:
        """Why this device may not be written to; None if it may."""
        if self.everything is not None:
            return self.everything.objection("every device is")
        lock = self.devices.get(device)
        return lock.objection(f"{device} is") if lock is not None else None

    def shown(self) -> Iterator[tuple[str | None, Lock]]:
        """Every lock with its device; None is the one on all of them."""
        if self.everything is not None:
            yield None, self.everything
        yield from sorted(self.devices.items())
