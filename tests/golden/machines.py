"""The simulators' models behind the tags of the demo plant, without sockets: what a driver would read and write."""

from collections.abc import Callable, Sequence
from typing import Any

from gateway.config.plant import Plant
from gateway.domain.values import DataType, TagWrite, Value, WriteResult
from simulators.models.labeller import crc16
from simulators.models.line import Line
from simulators.servers import registers

REFUSED = 0x803B0000


class OpcUaMachine:
    """Nodes by name; DateTimes are milliseconds UTC, as the driver gives them."""

    def __init__(
        self,
        plant: Plant,
        device: str,
        shown: Callable[[], dict[str, Any]],
        write: Callable[[str, Any], bool],
        start: int,
    ) -> None:
        tags = plant.devices[device].tags
        self._names = {tag.tag_id: str(tag.address.node.identifier) for tag in tags}
        self._dates = {tag.tag_id for tag in tags if tag.type is DataType.DATETIME}
        self._shown = shown
        self._write = write
        self._start = start

    def read(self) -> dict[str, Value]:
        """Every tag as it is now."""
        shown = self._shown()
        return {tag_id: self._value(tag_id, shown[name]) for tag_id, name in self._names.items()}

    def write(self, writes: Sequence[TagWrite]) -> list[WriteResult]:
        """One result per write."""
        taken = [self._write(self._names[write.tag_id], write.value) for write in writes]
        return [WriteResult(write.tag_id, 0 if ok else REFUSED) for write, ok in zip(writes, taken, strict=True)]

    def _value(self, tag_id: str, value: Any) -> Value:
        if tag_id in self._dates:
            return None if value is None else self._start + int(value)
        return tuple(value) if isinstance(value, list) else value


class ModbusMachine:
    """Registers by their place; a write of a parameter is sealed with the checksum, as the driver does it."""

    def __init__(self, plant: Plant, device: str, line: Line) -> None:
        self._tags = list(plant.devices[device].tags)
        self._line = line

    def read(self) -> dict[str, Value]:
        """Every tag as it is now."""
        image = registers.image(self._line.labeller.tags())
        return {tag.tag_id: _decode(tag, image) for tag in self._tags}

    def write(self, writes: Sequence[TagWrite]) -> list[WriteResult]:
        """One result per write."""
        return [WriteResult(write.tag_id, 0 if self._take(write) else REFUSED) for write in writes]

    def _take(self, write: TagWrite) -> bool:
        span = next(tag.address.span for tag in self._tags if tag.tag_id == write.tag_id)
        labeller, value = self._line.labeller, write.value
        assert isinstance(value, int)
        if span.first == registers.COMMAND:
            labeller.handshake.request(value, self._line.time.ms)
            return True
        if span.first not in registers.PARAMETERS:
            return False
        labeller.write_parameters(span.first - registers.PARAMETERS.start, [value])
        labeller.write_parameters(len(registers.PARAMETERS) - 1, [crc16(labeller.written)])
        return True


def _decode(tag: Any, image: list[int]) -> Value:
    span = tag.address.span
    words = image[span.first : span.end]
    if tag.type is DataType.STRING:
        return b"".join(word.to_bytes(2, "big") for word in words).split(b"\0")[0].decode("ascii")
    ordered = reversed(words) if tag.address.word_order == "low_first" else words
    value = 0
    for word in ordered:
        value = value << 16 | word
    return value
