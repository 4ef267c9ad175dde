"""Whose clock dates the values of a device: its own, ours, or its own put right by what was learned of it.

A PLC's clock may be years behind, show local time as UTC, or be set while the machine runs. What a live value says of
it is the *lag*: the moment of receipt less the device's stamp. The smallest lag of several batches is the difference
of the clocks, for whatever delays a value only adds to it. The rule that decides: a server that has just said that it
has nothing more to tell cannot have a value from before that, and nobody has one from the future.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec
import structlog

from gateway.domain.times import MAX_LEAD
from gateway.domain.values import ConditionChange, Skew, TagChange, TimeQuality, Timestamp
from gateway.drivers.base import Clock

ClockPolicy = Literal["source", "gateway", "auto"]
"""Believe the device's stamps; use the moment of receipt; believe them, put right where the device's clock is wrong."""

TRUSTED: Final = 5_000
"""Milliseconds of wall time that a device's clock may differ from ours and is left alone."""
_CONFIRMED_AFTER: Final = 3_000
"""Milliseconds of wall time for which values must be out of time before the clock is blamed, and not one tag."""
_LAGS_KEPT: Final = 8
_LOOK_EVERY: Final = 16
"""Batches between two looks at all stamps of one, once the difference is known: so it costs nothing per value."""

_log = structlog.get_logger(__name__)


class DeviceClock:
    """One device's clock, as its values show it. Lives as long as the driver, over all its sessions.

    `offset` is what the decoder adds to each source time, in milliseconds; with None it leaves them out, and whoever
    takes the values in dates them by their contact. The intervals are plant seconds; `sampling_interval` is the
    longest: so much older than the server's last word may a value be that it had not seen yet.
    """

    def __init__(
        self, device: str, policy: ClockPolicy, clock: Clock, publishing_interval: float, sampling_interval: float
    ) -> None:
        self.offset: int | None = None if policy == "gateway" else 0
        self._device = device
        self._policy: Final = policy
        self._clock = clock
        self._jumped = clock.jumped
        # Delays are wall time, and a played scenario's times run faster.
        self._trusted = round(TRUSTED * clock.rate)
        self._confirmed_after = round(_CONFIRMED_AFTER * clock.rate)
        self._least_pause = round(250 * publishing_interval)
        self._oldest = self._trusted + round(1_000 * sampling_interval)
        self._difference = 0
        self._told = 0
        self._skew: Skew | None = None
        self._lags: deque[int] = deque(maxlen=_LAGS_KEPT)
        self._strange: list[int] = []
        self._strange_since: Timestamp = 0
        self._heard: Timestamp | None = None
        self._batches = 0
        self._is_initial = True

    @property
    def time_quality(self) -> TimeQuality:
        """By whose clock the values are dated that nothing strange is seen of."""
        if self.offset is None:
            return "gateway"
        return "estimated" if self.offset else "source"

    def begin(self) -> None:
        """A subscription begins: its first values may be as old as they like."""
        self._is_initial = True
        self._heard = None

    def take_skew(self) -> Skew | None:
        """What has become known of the device's clock since the last call, if it matters."""
        skew, self._skew = self._skew, None
        return skew

    # --- stamps that the decoder did not see ----------------------------------------------------------------------

    def correct(self, changes: Iterable[TagChange]) -> list[TagChange]:
        """The changes as the decoder would have dated them."""
        if self.offset == 0:
            return list(changes)
        return [_moved(change, self.offset) for change in changes]

    def correct_conditions(self, conditions: Sequence[ConditionChange]) -> tuple[ConditionChange, ...]:
        """Alarm conditions come with the device's time too."""
        if self.offset == 0:
            return tuple(conditions)
        moved = (None if told.at is None or self.offset is None else told.at + self.offset for told in conditions)
        return tuple(msgspec.structs.replace(told, at=at) for told, at in zip(conditions, moved, strict=True))

    # --- live batches -----------------------------------------------------------------------------------------------

    def date(
        self, changes: list[TagChange], receipt: Timestamp, *, more: bool = False
    ) -> tuple[list[TagChange], TimeQuality]:
        """One live batch, dated by `offset` already: as it is to be dated, and by whose clock that is.

        `more` says that the device has others ready, which may be newer.
        """
        if self._clock.jumped != self._jumped:
            changes = self._follow_jump(changes)
        heard, held_up = self._heard, self._heard is not None and receipt - self._heard < self._least_pause
        if not changes:
            self._heard = receipt
        if not changes or more or held_up or self.offset is None:
            # Answers on each other's heels were held up on their way: they say nothing of the clock.
            return changes, self.time_quality
        self._heard = receipt
        earliest = None if self._is_initial or heard is None else heard - self._oldest
        newest = self._look(changes, earliest, receipt)
        if newest is None:
            return changes, "gateway"
        before = self.offset
        is_strange = not self._is_plausible(newest, earliest, receipt)
        if is_strange:
            self._note_strange(receipt - newest + before, receipt)
        is_initial, self._is_initial = self._is_initial, False
        if not is_strange:
            self._strange.clear()
            if not is_initial and (self._is_looked_at or newest > receipt):
                self._learn(receipt - newest + before)
        return self._dated(changes, newest, before, receipt)

    def _follow_jump(self, changes: list[TagChange]) -> list[TagChange]:
        """Our own clock was set forward: what was learned of the device's differs by that, and its times go along."""
        by = self._clock.jumped - self._jumped
        self._jumped += by
        self._difference += by
        self._lags = deque((lag + by for lag in self._lags), maxlen=_LAGS_KEPT)
        self._heard = None if self._heard is None else self._heard + by
        self._strange.clear()
        if self._policy != "auto" or self.offset is None:
            return changes
        self.offset += by
        return [_moved(change, by) for change in changes]

    def _look(self, changes: Sequence[TagChange], earliest: Timestamp | None, receipt: Timestamp) -> Timestamp | None:
        """The newest believable stamp, where there is none the newest; usually the last one stands for all."""
        self._batches += 1
        last = changes[-1].source_timestamp
        if not self._is_looked_at and last is not None and self._is_plausible(last, earliest, receipt):
            return last
        stamps = [change.source_timestamp for change in changes if change.source_timestamp is not None]
        plausible = [at for at in stamps if self._is_plausible(at, earliest, receipt)]
        return max(plausible or stamps, default=None)

    @property
    def _is_looked_at(self) -> bool:
        return len(self._lags) < _LAGS_KEPT or self._batches % _LOOK_EVERY == 0

    def _is_plausible(self, at: Timestamp, earliest: Timestamp | None, receipt: Timestamp) -> bool:
        true = at - (self.offset or 0) + self._difference
        return true <= receipt + self._trusted and (earliest is None or true >= earliest)

    def _note_strange(self, lag: int, receipt: Timestamp) -> None:
        """Either the clock was set, or this batch's tags are out of time: it was the clock if all that follow agree."""
        if not self._strange or abs(lag - self._strange[-1]) > self._trusted:
            self._strange.clear()
            self._strange_since = receipt
        self._strange.append(lag)
        if receipt - self._strange_since >= self._confirmed_after:
            self._lags.clear()
            self._learn(min(self._strange))
            self._strange.clear()

    def _learn(self, lag: int) -> None:
        self._lags.append(lag)
        self._difference = min(self._lags)
        if abs(self._difference - self._told) > self._trusted:
            self._tell()
        if self._policy == "auto":
            # Once put right, a clock must be well in time again to be believed as it is.
            enough = self._trusted // 2 if self.offset else self._trusted
            self.offset = self._difference if abs(self._difference) > enough else 0

    def _tell(self) -> None:
        before, self._told = self._told, self._difference
        self._skew = Skew(before=-before, now=-self._told, corrected=self._policy == "auto")
        cure = "its times are put right" if self._policy == "auto" else "set it, or give its device clock: auto"
        _log.warning("device clock differs", device=self._device, ahead_s=-self._told / 1000, what=cure)

    def _dated(
        self, changes: list[TagChange], newest: Timestamp, before: int, receipt: Timestamp
    ) -> tuple[list[TagChange], TimeQuality]:
        if newest > receipt + MAX_LEAD and (self._strange or self._policy == "source"):
            # The domain does not believe a time so far ahead either, and takes the contact for it.
            return changes, "gateway"
        if self._policy == "source":
            return changes, "source"
        if self._strange:
            return [_moved(change, None) for change in changes], "gateway"
        offset = self.offset or 0
        if offset != before:
            changes = [_moved(change, offset - before) for change in changes]
        return changes, self.time_quality


def _moved(change: TagChange, offset: int | None) -> TagChange:
    at = change.source_timestamp
    if at is None:
        return change
    return msgspec.structs.replace(change, source_timestamp=None if offset is None else at + offset)
