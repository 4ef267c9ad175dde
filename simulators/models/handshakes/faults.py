"""What a machine does badly when it is given parameters, and how the command line says so."""

from collections.abc import Mapping
from dataclasses import dataclass, field


class FaultError(ValueError):
    """The text names no fault; the message says what would be one."""


@dataclass(frozen=True, slots=True)
class Faults:
    """All of one machine; as it is made, it has none. Parameters are named as in `machine.PARAMETERS`."""

    is_deaf: bool = False
    """It never answers."""
    late_ms: int = 0
    """It answers only what has been asked of it for so long."""
    error: int = 0
    """It refuses with this code whatever it is given; where it can say no code, it takes nothing."""
    ceilings: Mapping[str, int] = field(default_factory=dict)
    """It works with no more than this, and says nothing."""
    ignored: frozenset[str] = frozenset()
    """Writes of these tags are answered as good, and they stay as they were."""
    refused: frozenset[str] = frozenset()
    """Writes of these tags are refused, those beside them in the same request are not."""


def parse(text: str) -> tuple[str, Faults]:
    """Way and fault from `request_bits:error=5`; raises `FaultError` for a text that is none.

    `deaf`, `late=2000` (milliseconds), `error=5`, `clamp=speed/110`, `ignore=speed_set`, `refuse=oven_set`.
    """
    way, _, fault = text.partition(":")
    kind, _, value = fault.partition("=")
    match kind:
        case "deaf" if not value:
            return way, Faults(is_deaf=True)
        case "late" if value.isdecimal():
            return way, Faults(late_ms=int(value))
        case "error" if value.isdecimal() and int(value):
            return way, Faults(error=int(value))
        case "clamp" if value.partition("/")[2].isdecimal():
            name, _, ceiling = value.partition("/")
            return way, Faults(ceilings={name: int(ceiling)})
        case "ignore" if value:
            return way, Faults(ignored=frozenset({value}))
        case "refuse" if value:
            return way, Faults(refused=frozenset({value}))
    raise FaultError(
        f"--fault {text}: write WAY:deaf, WAY:late=2000 (ms), WAY:error=5, WAY:clamp=speed/110, WAY:ignore=speed_set "
        "or WAY:refuse=speed_set, with a way as request_bits"
    )


def joined(faults: list[Faults]) -> Faults:
    """One machine with all of them."""
    return Faults(
        is_deaf=any(one.is_deaf for one in faults),
        late_ms=max((one.late_ms for one in faults), default=0),
        error=max((one.error for one in faults), default=0),
        ceilings={name: ceiling for one in faults for name, ceiling in one.ceilings.items()},
        ignored=frozenset().union(*(one.ignored for one in faults)),
        refused=frozenset().union(*(one.refused for one in faults)),
    )
