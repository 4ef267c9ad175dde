"""What alarm words, PackTags entries and conditions show at one moment, before anything is made of it."""

from collections.abc import Iterator, Sequence

import msgspec

from gateway.domain.tags.expressions import Inputs
from gateway.domain.values import ConditionChange, Value


class AlarmBit(msgspec.Struct, frozen=True):
    """One bit of an alarm word, and the bit of the acknowledged word that belongs to it."""

    code: str
    slot: int
    bit: int
    acked_slot: int | None = None


class AlarmEntry(msgspec.Struct, frozen=True):
    """PackTags `Admin.Alarm[n]`: slots of Trigger, ID, Message, Category and AckDateTime.

    The tags may also hold arrays, then it is all of `Admin.Alarm[]`.
    """

    trigger: int
    code: int
    message: int | None = None
    severity: int | None = None
    acknowledged: int | None = None

    @property
    def slots(self) -> set[int]:
        """Every tag that it looks at."""
        every = (self.trigger, self.code, self.message, self.severity, self.acknowledged)
        return {slot for slot in every if slot is not None}


class AlarmShown(msgspec.Struct, frozen=True):
    """What a source shows of one code at one moment; `acked` is None where it never says so."""

    code: str
    active: bool
    acked: bool | None = None
    text: str | None = None
    severity: int | None = None
    condition: ConditionChange | None = None
    """Where a condition shows it."""


class AlarmWords:
    """Words of alarm bits: only those that a scan touched are looked at, since a plant has a thousand bits."""

    def __init__(self, bits: Sequence[AlarmBit]) -> None:
        self._bits: dict[int, list[AlarmBit]] = {}
        self._words: dict[int, set[int]] = {}
        for bit in bits:
            self._bits.setdefault(bit.slot, []).append(bit)
            for slot in (bit.slot, bit.slot if bit.acked_slot is None else bit.acked_slot):
                self._words.setdefault(slot, set()).add(bit.slot)

    def shown(self, inputs: Inputs, touched: set[int]) -> Iterator[tuple[str, list[AlarmShown]]]:
        """By the name of the word, what each of its bits shows."""
        words = {word for cause in touched & self._words.keys() for word in self._words[cause]}
        for slot in sorted(words):
            word = inputs.values[slot]
            if inputs.usable(slot) and isinstance(word, int):
                bits = self._bits[slot]
                shown = [AlarmShown(bit.code, bool(word >> bit.bit & 1), _bit_acked(inputs, bit)) for bit in bits]
                yield inputs.names[slot], shown


def _bit_acked(inputs: Inputs, bit: AlarmBit) -> bool | None:
    if bit.acked_slot is None:
        return None
    word = inputs.values[bit.acked_slot]
    return inputs.usable(bit.acked_slot) and isinstance(word, int) and bool(word >> bit.bit & 1)


class AlarmEntries:
    """All PackTags entries of one equipment. A PLC may move an alarm from one to another, so they count together."""

    def __init__(self, entries: Sequence[AlarmEntry]) -> None:
        self._entries = entries
        self._slots = {slot for entry in entries for slot in entry.slots}

    def touched_by(self, touched: set[int]) -> bool:
        """True if a scan touched one of their tags."""
        return not self._slots.isdisjoint(touched)

    def shown(self, inputs: Inputs) -> dict[str, AlarmShown] | None:
        """By code, what is shown now; a code that is missing is not there any more. None while an entry is unknown."""
        found: dict[str, AlarmShown] = {}
        for entry in self._entries:
            if not (inputs.usable(entry.trigger) and inputs.usable(entry.code)):
                return None
            for shown in _entry_shown(inputs, entry):
                if shown.code not in found or shown.active:
                    found[shown.code] = shown
        return found


def _entry_shown(inputs: Inputs, entry: AlarmEntry) -> Iterator[AlarmShown]:
    def element(slot: int | None, place: int) -> Value:
        value = inputs.values[slot] if slot is not None else None
        if isinstance(value, tuple):
            return value[place] if place < len(value) else None
        return value if place == 0 else None

    codes = inputs.values[entry.code]
    for place in range(len(codes) if isinstance(codes, tuple) else 1):
        code = element(entry.code, place)
        if not code:
            continue  # a free entry
        text, severity = element(entry.message, place), element(entry.severity, place)
        acked = element(entry.acknowledged, place)
        yield AlarmShown(
            str(code),
            active=bool(element(entry.trigger, place)),
            acked=isinstance(acked, int) and acked > 0 if entry.acknowledged is not None else None,
            text=text if isinstance(text, str) and text else None,
            severity=severity if isinstance(severity, int) and severity > 0 else None,
        )
