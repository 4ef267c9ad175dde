"""What the core wants done: gathered while facts are taken in, handed over whole, committed in one transaction."""

from typing import Any

import msgspec
from msgspec import field

from gateway.domain.contract.envelope import Answer, Event, Kept, Sender, Telemetry, event_id
from gateway.domain.contract.events import EventData, OrderRef
from gateway.domain.operations import CommandEnd, Operation
from gateway.domain.uplink import UplinkRequest
from gateway.domain.values import TimeQuality, Timestamp


class GatewayIdentity(msgspec.Struct, frozen=True):
    """Who publishes: gateway id, hash of its configuration, epoch of its store, version of the program."""

    gateway: str
    configuration: str
    epoch: str
    version: str


class Effects(msgspec.Struct):
    """Everything one commit holds. Operations, and what the broker's link is asked for, may start only after it."""

    events: list[Event] = field(default_factory=list)
    telemetry: list[Telemetry] = field(default_factory=list)
    answers: list[tuple[str | None, Answer, Sender]] = field(default_factory=list)
    kept: dict[str, Kept] = field(default_factory=dict)
    """The answers that a command which comes again will get, by its id; not every answer is one."""
    retained: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    ends: list[CommandEnd] = field(default_factory=list)
    checkpoints: dict[str, bytes | None] = field(default_factory=dict)
    uplink: list[UplinkRequest] = field(default_factory=list)
    """For the broker's link, after the commit."""
    notices_told: list[int] = field(default_factory=list)
    """Notices of the store whose events are among these, or that need none."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit. Events and run parameters always come with a checkpoint."""
        return not (
            self.checkpoints or self.answers or self.operations or self.retained or self.uplink or self.notices_told
        )


class SequenceMemory(msgspec.Struct):
    """The last number given to an event."""

    events: int = 0


class Recorder:
    """Turns facts of one equipment (or of the gateway itself, without path) into numbered effects."""

    def __init__(self, identity: GatewayIdentity, path: str | None, sequence: SequenceMemory, effects: Effects) -> None:
        self.path = path
        self.effects = effects
        self.changed = False
        self.time_quality: TimeQuality = "source"
        self._identity = identity
        self._sequence = sequence

    @property
    def epoch(self) -> str:
        """Of the record in which the numbers count."""
        return self._identity.epoch

    @property
    def last(self) -> int:
        """The last number given to an event, 0 before the first."""
        return self._sequence.events

    def of_equipment(self, path: str, sequence: SequenceMemory) -> "Recorder":
        """The recorder of an equipment of this gateway."""
        return Recorder(self._identity, path, sequence, self.effects)

    def of_lane(self, name: str, sequence: SequenceMemory) -> "Recorder":
        """The recorder of one lane of this equipment."""
        return self.of_equipment(f"{self.path}.{name}", sequence)

    def event(
        self,
        data: EventData,
        at: Timestamp,
        now: Timestamp,
        *,
        order: OrderRef | None = None,
        time_quality: TimeQuality | None = None,
        revision: int = 1,
        corr: str | None = None,
    ) -> None:
        """Record a fact that happened at `at`, by the clock that the equipment's last values were dated by."""
        self._sequence.events += 1
        self.changed = True
        self.effects.events.append(
            Event(
                id=event_id(data, self.path, at, order),
                type=data.type,
                rev=revision,
                gw=self._identity.gateway,
                cfg=self._identity.configuration,
                epoch=self._identity.epoch,
                equipment=self.path,
                seq=self._sequence.events,
                source_time=at,
                gateway_time=now,
                time_quality=time_quality or self.time_quality,
                order=order,
                corr=corr,
                data=data,
            )
        )

    def retain(self, kind: str, payload: dict[str, Any]) -> None:
        """Replace what `now/{kind}` says."""
        assert self.path is not None
        self.effects.retained[self.path, kind] = payload
