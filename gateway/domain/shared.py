"""What all equipment of a line may look up: dispatched orders, lots on hold, what the next reel is, write locks."""

import msgspec
from msgspec import field

from gateway.domain.dispatching.master_data import MasterData
from gateway.domain.dispatching.parameters import ParameterLibrary
from gateway.domain.production.orders import KnownOrder
from gateway.domain.uplink import UplinkMemory
from gateway.domain.writing.locks import WriteLocks


class SharedRecord(msgspec.Struct):
    """Changed by commands, and by who sets a write lock; survives a restart."""

    orders: dict[str, KnownOrder] = field(default_factory=dict)
    held_lots: list[str] = field(default_factory=list)
    hold_bits: dict[str, str] = field(default_factory=dict)
    """Equipment → the lot for which its hold bit was set."""
    delivered: dict[str, str] = field(default_factory=dict)
    """Material → lot of the container that was delivered last."""
    arrivals: dict[str, str] = field(default_factory=dict)
    """Material → when more of it is expected."""
    library: ParameterLibrary = field(default_factory=ParameterLibrary)
    master: MasterData = field(default_factory=MasterData)
    locks: WriteLocks = field(default_factory=WriteLocks)
    uplink: UplinkMemory = field(default_factory=UplinkMemory)
