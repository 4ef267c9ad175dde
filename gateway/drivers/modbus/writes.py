"""Which requests carry out the writes asked for, in their order. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.drivers.modbus.config import MAX_WRITE_COILS, MAX_WRITE_REGISTERS, Span, Table, WriteBlock


@dataclass(frozen=True, slots=True)
class RegisterWrite:
    """One value as raw bytes; `place` is where it stands among the writes asked for.

    With a `mask` only these bits of its one register are written.
    """

    place: int
    table: Table
    span: Span
    raw: bytes
    mask: int = 0


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """Writes that travel in one request. With a `block`, the block is read, patched, sealed and written whole."""

    writes: tuple[RegisterWrite, ...]
    block: WriteBlock | None

    @property
    def span(self) -> Span:
        """The addresses written, when there is no block; the writes lie side by side."""
        return Span(self.writes[0].span.first, sum(write.span.size for write in self.writes))

    @property
    def raw(self) -> bytes:
        """The bytes written, when there is no block."""
        return b"".join(write.raw for write in self.writes)


def plan_writes(writes: Iterable[RegisterWrite], blocks: Sequence[WriteBlock], max_count: int) -> list[WriteRequest]:
    """Join neighbours in the list that may travel together; nothing overtakes anything.

    Together go writes to the same block, and writes of holding registers or of coils where each begins where the one
    before ended. A register written twice makes two requests, or the first value would never be seen.
    """
    requests: list[WriteRequest] = []
    for write in writes:
        block = block_around(write.table, write.span, blocks)
        last = requests[-1] if requests else None
        if last is not None and _joins(last, write, block, min(max_count, MAX_WRITE_REGISTERS)):
            requests[-1] = WriteRequest((*last.writes, write), block)
        else:
            requests.append(WriteRequest((write,), block))
    return requests


def block_around(table: Table, span: Span, blocks: Sequence[WriteBlock]) -> WriteBlock | None:
    """The write block that these registers belong to."""
    if table != "holding":
        return None
    return next((block for block in blocks if block.registers.covers(span)), None)


def _joins(last: WriteRequest, write: RegisterWrite, block: WriteBlock | None, max_count: int) -> bool:
    before = last.writes[-1]
    if write.table != before.table or last.block is not block or write.mask or before.mask:
        return False
    if block is not None:
        return not any(write.span.overlaps(earlier.span) for earlier in last.writes)
    most = MAX_WRITE_COILS if write.table == "coil" else max_count
    return last.span.end == write.span.first and last.span.size + write.span.size <= most
