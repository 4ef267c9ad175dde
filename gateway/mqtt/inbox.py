"""What the broker sent and nobody has taken yet: bounded, so that a flood waits at the broker and not in memory.

Receive Maximum should do that, but some brokers know none, and mosquitto 2.0.11 sends more than it may (trap C11). So
nothing is read from the socket while there is too much here, and TCP makes the broker wait.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from gateway.mqtt.paho_thread import Incoming

MOST_MESSAGES: Final = 1_000
MOST_BYTES: Final = 16_000_000
"""What may wait. A command may have 256,000 bytes, and one that is larger is still refused in words."""


class Inbox:
    """Announced and asked `is_crowded` on paho's thread, all else on the loop's.

    If nothing at all is taken for `patience` seconds, reading goes on: the broker's acknowledgements come the same way,
    and whoever does not take may wait for just those. What comes then is left to the broker, which sends it again on
    the next connection, if it is not at QoS 0; so is all that follows, or it would overtake (`leaves` says so).
    """

    def __init__(self, patience: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.leaves = False
        self._patience = patience
        self._monotonic = monotonic
        self._queue: deque[Incoming] = deque()
        self._crowded_since: float | None = None
        self._announced = self._announced_bytes = 0
        """Counted by paho's thread alone; what is gone again, by the loop's alone: so neither needs a lock."""
        self._gone = self._gone_bytes = 0
        self._arrived_bytes = 0

    def __len__(self) -> int:
        return len(self._queue)

    def announce(self, incoming: Incoming) -> None:
        """It was read, and will be put in as soon as the loop comes to it."""
        self._announced += 1
        self._announced_bytes += len(incoming.payload)

    def is_crowded(self) -> bool:
        """Whether nothing more is to be read just now."""
        if _fits(self._announced - self._gone, self._announced_bytes - self._gone_bytes):
            return False
        now = self._monotonic()
        if self._crowded_since is None:
            self._crowded_since = now
        return now - self._crowded_since < self._patience

    def put(self, incoming: Incoming) -> bool:
        """Put it in; False if it is left to the broker."""
        held = self._arrived_bytes - self._gone_bytes
        self._arrived_bytes += len(incoming.payload)
        if self.leaves or not _fits(len(self._queue), held):
            self.leaves = self.leaves or incoming.qos > 0
            self._note_gone([incoming])
            return False
        self._queue.append(incoming)
        return True

    def take(self, most: int) -> list[Incoming]:
        """The oldest, at most so many."""
        taken = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
        self._note_gone(taken)
        self._crowded_since = None
        return taken

    def put_back(self, taken: Sequence[Incoming]) -> None:
        """What was taken out and is for somebody else; it comes first."""
        self._queue.extendleft(reversed(taken))
        self._gone -= len(taken)
        self._gone_bytes -= sum(len(incoming.payload) for incoming in taken)

    def _note_gone(self, taken: Sequence[Incoming]) -> None:
        self._gone += len(taken)
        self._gone_bytes += sum(len(incoming.payload) for incoming in taken)


def _fits(messages: int, size: int) -> bool:
    return messages < MOST_MESSAGES and size < MOST_BYTES
