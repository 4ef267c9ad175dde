"""What an equipment or a lane counts, as the YAML says it, and what of it survives a restart."""

import msgspec
from msgspec import field

from gateway.domain.production.containers import ContainerMemory, ContainerSpec
from gateway.domain.production.counters import CounterMemory, CounterSpec
from gateway.domain.production.orders import OrderMemory, OrderSpec
from gateway.domain.production.usage import UsageMemory, UsageSpec
from gateway.domain.production.windows import Derived, WindowMemory
from gateway.domain.values import Timestamp


class ProductionSpec(msgspec.Struct, frozen=True):
    """What an equipment counts, in which windows (milliseconds), and where its order context comes from."""

    counters: tuple[CounterSpec, ...] = ()
    derived: tuple[Derived, ...] = ()
    unit: str = "pcs"
    window: int = 60_000
    order: OrderSpec | None = None
    container: ContainerSpec | None = None
    usage: UsageSpec = UsageSpec()

    @property
    def names(self) -> tuple[str, ...]:
        """Of everything that is counted."""
        return (*(counter.name for counter in self.counters), *(item.name for item in self.derived))

    @property
    def dated(self) -> frozenset[int]:
        """Slots whose values are believed for their own moment, however late they come."""
        order = () if self.order is None or self.order.slot is None else (self.order.slot,)
        return frozenset((*(counter.slot for counter in self.counters), *order))


class ProductionMemory(msgspec.Struct):
    """What survives a restart."""

    counters: dict[str, CounterMemory] = field(default_factory=dict)
    windows: WindowMemory = field(default_factory=WindowMemory)
    order: OrderMemory = field(default_factory=OrderMemory)
    container: ContainerMemory = field(default_factory=ContainerMemory)
    usage: UsageMemory = field(default_factory=UsageMemory)
    newest: Timestamp = 0
    """The newest scan: what belongs to a moment before it comes late."""
