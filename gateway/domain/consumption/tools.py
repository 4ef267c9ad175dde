"""Tools that wear: knives, dies, nozzles. Used by counting, told when they pass a share of what they last."""

import msgspec

from gateway.domain.contract.events import ToolWear
from gateway.domain.tags.expressions import Inputs
from gateway.domain.values import PlainValue, plain


class ToolSpec(msgspec.Struct, frozen=True):
    """One place for a tool: each piece of `counter` is one use; the tag in `serial` changes with every new tool.

    `limit` is how many uses one lasts; `thresholds` are the percentages of it that are told, rising.
    """

    name: str
    counter: str
    serial: int
    limit: int
    unit: str = "pcs"
    thresholds: tuple[float, ...] = (90.0, 100.0)
    spare: str | None = None


class ToolMemory(msgspec.Struct):
    """What survives a restart: the tool that is mounted, its uses, and the highest percentage that was told of it."""

    serial: PlainValue = None
    used: int = 0
    told: float = 0.0


def follow_tool(spec: ToolSpec, memory: ToolMemory, inputs: Inputs) -> None:
    """Notice a new tool: it was never used. The first one ever seen may be an old one, of which nothing is known."""
    if not inputs.usable(spec.serial):
        return
    shown = plain(inputs.values[spec.serial])
    if memory.serial is not None and shown != memory.serial:
        memory.used, memory.told = 0, 0.0
    memory.serial = shown


def wear(spec: ToolSpec, memory: ToolMemory, uses: int) -> ToolWear | None:
    """Use it that often; what is told if that passed a threshold, once for the highest of those that were passed."""
    memory.used += uses
    percent = 100 * memory.used / spec.limit
    passed = max((threshold for threshold in spec.thresholds if memory.told < threshold <= percent), default=None)
    if passed is None:
        return None
    memory.told = passed
    return ToolWear(
        tool=spec.name, serial=None if memory.serial is None else str(memory.serial), threshold=passed,
        used=memory.used, limit=spec.limit, unit=spec.unit, remaining_pct=round(100 - percent, 1), spare=spec.spare,
    )  # fmt: skip
