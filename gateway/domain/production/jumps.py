"""Which jump of a counter an operator settles, and when that cannot be done any more."""

from typing import Final

from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import CounterRebase
from gateway.domain.production.counters import CounterMemory, Jump
from gateway.domain.production.history import KEPT
from gateway.domain.times import format_timestamp, parse_timestamp
from gateway.domain.values import Timestamp

REBASED: Final = "rebased"
"""Flag of a count that an operator completed."""


def find_jump(memory: CounterMemory, command: CounterRebase, now: Timestamp) -> tuple[Jump | None, list[Objection]]:
    """The jump that the command means, or why there is none that can be settled so."""
    if not memory.jumps:
        text = f"no jump of {command.counter} is open; nothing is to be settled"
        return None, [Objection("nothing_suspect", text)]
    moments = ", ".join(format_timestamp(jump.at) for jump in memory.jumps)
    if command.t is None and len(memory.jumps) > 1:
        return None, [Objection("several_jumps", f"say with t which one is meant; open are those of {moments}")]
    try:
        at = parse_timestamp(command.t) if command.t is not None else memory.jumps[0].at
    except ValueError as error:
        return None, [Objection("malformed", f"t: {error}")]
    jump = next((jump for jump in memory.jumps if jump.at == at), None)
    if jump is None:
        return None, [Objection("nothing_suspect", f"no jump of {command.t} is open; open are those of {moments}")]
    if command.pieces and at < now - KEPT:
        text = "is more than a day ago, so its pieces cannot be told any more; settle it with 0 and correct the order"
        return None, [Objection("too_old", f"the jump of {format_timestamp(at)} {text}")]
    return jump, []
