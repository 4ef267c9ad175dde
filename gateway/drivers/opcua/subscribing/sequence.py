"""The numbers of one subscription's notifications: 1, 2, 3 … 4294967295, 1 (OPC 10000-4 §7.5)."""

from collections.abc import Sequence
from typing import Final

_HIGHEST: Final = 0xFFFFFFFF


def number_after(number: int) -> int:
    """The next number; 0 is none."""
    return number % _HIGHEST + 1


class NotificationNumbers:
    """Which number comes next, and how many are missing when another one comes (trap A11)."""

    def __init__(self) -> None:
        self.expected = 1
        self._fetched: set[int] = set()

    def missing_before(self, number: int) -> int:
        """How many numbers lie between the expected one and this one; none if this one came out of turn."""
        distance = (number - self.expected) % _HIGHEST
        return 0 if distance > _HIGHEST // 2 else distance

    def still_kept(self, available: Sequence[int], number: int) -> list[int]:
        """Those of the missing numbers that the server still has, in their order."""
        missing = self.missing_before(number)
        kept = {(kept - self.expected) % _HIGHEST: kept for kept in available}
        return [kept[distance] for distance in sorted(kept) if distance < missing]

    def take(self, number: int, is_keep_alive: bool) -> None:
        """This one was taken in; a keep-alive shows the next number without using it up.

        One that came out of turn changes nothing.
        """
        if (number - self.expected) % _HIGHEST <= _HIGHEST // 2:
            self.expected = number if is_keep_alive else number_after(number)

    def note_fetched(self, number: int) -> None:
        """This one came by Republish, and might come once more."""
        self._fetched.add(number)

    def is_known(self, number: int) -> bool:
        """True, once, for a number that came by Republish before."""
        known = number in self._fetched
        self._fetched.discard(number)
        return known
