"""Reading in blocks, and learning which blocks a device refuses (trap B6)."""

import time
from collections.abc import Callable
from typing import Final

import structlog

from gateway.drivers.modbus.config import BIT_TABLES, ModbusSettings, Span, Table
from gateway.drivers.modbus.link import Link
from gateway.drivers.modbus.planner import Block, block_of, bridge, plan_blocks
from gateway.drivers.modbus.replies import ILLEGAL_DATA_ADDRESS, BrokenReply, Refused

_MAX_BITS: Final = 2_000
"""Most bits in one FC1 or FC2 (Modbus Application Protocol V1.1b3 §6.1)."""
_HOLE_PAUSE: Final = 60.0
"""Seconds before a hole is asked for again."""

Answers = dict[Span, bytes | int]
"""For each span its raw bytes, or the status code that says why there are none."""
Seen = dict[tuple[Table, Span], bytes]
"""The raw bytes of each block when it was read last. One that is the same again costs nothing for each value."""

_log = structlog.get_logger(__name__)


class BlockReader:
    """Reads the spans of one table in as few requests as the device allows.

    A device refuses a block as a whole when one address in it does not exist. The block is then halved until the
    refusal is pinned down: to a value that is a hole, or to a gap that must not be bridged. Both are remembered. A hole
    is Bad, and asked for once in a while, one at a time, by the seconds of `wall`: a PLC may be given a new program.
    """

    def __init__(
        self,
        link: Link,
        device: str,
        table: Table,
        settings: ModbusSettings,
        wall: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = link
        self._device = device
        self._table: Final = table
        self._max_gap = settings.widest_gap
        self._max_count = _MAX_BITS if table in BIT_TABLES else settings.max_registers
        self._bytes_per_address = 1 if table in BIT_TABLES else 2
        self._off_limits = () if table in BIT_TABLES else settings.forbidden
        self._unbridgeable: set[Span] = set()
        self._holes: dict[Span, int] = {}
        self._retry_at: dict[Span, float] = {}
        self._wall = wall
        self._plans: dict[tuple[Span, ...], list[Block]] = {}

    async def read(self, spans: tuple[Span, ...], seen: Seen) -> Answers:
        """Each span's answer, except those of blocks that are as in `seen`; raises `LinkLost` only."""
        answers: Answers = {}
        for block in self._plan(spans):
            await self._read_block(block, answers, seen)
        if self._holes:
            await self._try_a_hole(spans, answers, seen)
        answers.update((span, self._holes[span]) for span in spans if span in self._holes)
        return answers

    def _plan(self, spans: tuple[Span, ...]) -> list[Block]:
        if spans not in self._plans:
            wanted = [span for span in spans if span not in self._holes]
            forbidden = self._unbridgeable | set(self._holes)
            self._plans[spans] = plan_blocks(wanted, self._max_count, self._max_gap, forbidden, self._off_limits)
        return self._plans[spans]

    async def _read_block(self, block: Block, answers: Answers, seen: Seen) -> bool:
        """Read one block into `answers`; False if anything in it was refused for its address."""
        place = self._table, block.span
        before = seen.pop(place, None)
        try:
            raw = await self._link.read(self._table, block.span)
        except Refused as refusal:
            if refusal.code == ILLEGAL_DATA_ADDRESS:
                await self._pin_down(block, refusal, answers, seen)
                return False
            answers.update(dict.fromkeys(block.members, refusal.status_code))
        except BrokenReply as broken:
            _log.warning("reply rejected", device=self._device, table=self._table, at=str(block.span), why=str(broken))
            answers.update(dict.fromkeys(block.members, broken.status_code))
        else:
            seen[place] = raw
            if raw == before:
                return True
            each, begin = self._bytes_per_address, block.span.first
            for span in block.members:
                first, size = span
                answers[span] = raw[(first - begin) * each : (first - begin + size) * each]
        return True

    async def _pin_down(self, block: Block, refusal: Refused, answers: Answers, seen: Seen) -> None:
        members = block.members
        if len(members) == 1:
            self._remember_hole(members[0], refusal.status_code)
            answers[members[0]] = refusal.status_code
            return
        left, right = block_of(members[: len(members) // 2]), block_of(members[len(members) // 2 :])
        left_complete = await self._read_block(left, answers, seen)
        right_complete = await self._read_block(right, answers, seen)
        if left_complete and right_complete:
            self._remember_gap(bridge(left.span, right.span))

    async def _try_a_hole(self, spans: tuple[Span, ...], answers: Answers, seen: Seen) -> None:
        """Ask again for one that was refused long enough ago; still refused, it is remembered anew."""
        now = self._wall()
        span = next((span for span in spans if span in self._holes and self._retry_at[span] <= now), None)
        if span is None:
            return
        del self._holes[span]
        self._plans.clear()
        if await self._read_block(block_of([span]), answers, seen):
            del self._retry_at[span]
            _log.info("device has the address now", device=self._device, table=self._table, at=str(span))

    def _remember_hole(self, span: Span, status_code: int) -> None:
        if span not in self._retry_at:
            _log.warning("device has no such address", device=self._device, table=self._table, at=str(span))
        self._holes[span] = status_code
        self._retry_at[span] = self._wall() + _HOLE_PAUSE
        self._plans.clear()

    def _remember_gap(self, span: Span) -> None:
        self._unbridgeable.add(span)
        self._plans.clear()
        _log.info("device must be read apart", device=self._device, table=self._table, around=str(span))
