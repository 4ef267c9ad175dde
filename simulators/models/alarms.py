"""Every alarm of a scenario as an occurrence with its three moments, and what machines show of them."""

from dataclasses import dataclass
from typing import Final

from simulators.scenario import Scenario, ScenarioError

SLOTS: Final = 8
"""Entries of the PackTags array Admin.Alarm."""
_TEXTS: Final = {
    "2107": ("Infeed jam", 700),
    "9001": ("Held by quality", 600),
    "3301": ("Label reel low", 400),
    "3310": ("Label sensor unsteady", 300),
    "4002": ("Stretch film low", 400),
    "4010": ("Pallet magazine low", 500),
}


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One alarm from raise to clear, in milliseconds since the start; a chattering one is never acknowledged."""

    code: str
    raised: int
    acked: int | None
    cleared: int

    @property
    def text(self) -> str:
        """What the machine says."""
        return _TEXTS.get(self.code, (f"Alarm {self.code}", 500))[0]

    @property
    def severity(self) -> int:
        """1 to 1000, as OPC UA Part 9 has it."""
        return _TEXTS.get(self.code, ("", 500))[1]

    @property
    def over(self) -> int:
        """When nothing more will happen to it."""
        return max(self.cleared, self.acked or 0)

    def active(self, ms: int) -> bool:
        """True from raise to clear."""
        return self.raised <= ms < self.cleared

    def acknowledged(self, ms: int) -> bool:
        """True from the acknowledgement on."""
        return self.acked is not None and self.acked <= ms

    def retained(self, ms: int) -> bool:
        """True while a person still has something to see or to do: active, or gone but not acknowledged."""
        return self.raised <= ms and (ms < self.cleared or (self.acked is not None and ms < self.acked))


def occurrences(scenario: Scenario, equipment: str) -> list[Occurrence]:
    """All alarms of a machine in order of their raising, the chattering ones pulse by pulse."""
    real = [
        Occurrence(alarm.code, alarm.raised * 1000, alarm.acked * 1000, alarm.cleared * 1000)
        for alarm in scenario.alarms
        if alarm.eq == equipment
    ]
    for chatter in scenario.chatter:
        if chatter.eq == equipment:
            on, period = round(chatter.on_s * 1000), round((chatter.on_s + chatter.off_s) * 1000)
            starts = range(chatter.at * 1000, chatter.at * 1000 + chatter.pulses * period, period)
            real += [Occurrence(chatter.code, start, None, start + on) for start in starts]
    return sorted(real, key=lambda occurrence: (occurrence.raised, occurrence.code))


class AlarmArray:
    """The PackTags alarm array: an alarm takes the lowest free entry and stays there, also when it is over, until
    another needs the place; so nobody misses an acknowledgement that comes last."""

    def __init__(self, alarms: list[Occurrence], equipment: str) -> None:
        self._slots: list[list[Occurrence]] = [[] for _ in range(SLOTS)]
        for alarm in alarms:
            free = next((slot for slot in self._slots if not slot or slot[-1].over <= alarm.raised), None)
            if free is None:
                raise ScenarioError(f"alarms: {equipment} can show {SLOTS} at once, {alarm.code} would be one more")
            free.append(alarm)

    def tags(self, ms: int, prefix: str) -> dict[str, object]:
        """Points of all entries; the DateTimes are milliseconds since the start, None where there is none yet."""
        points: dict[str, object] = {}
        for index, slot in enumerate(self._slots):
            alarm = next((alarm for alarm in reversed(slot) if alarm.raised <= ms), None)
            points |= _entry(alarm, ms, f"{prefix}[{index}]")
        return points


def _entry(alarm: Occurrence | None, ms: int, name: str) -> dict[str, object]:
    return {
        f"{name}.Trigger": alarm is not None and alarm.active(ms),
        f"{name}.ID": _number(alarm.code) if alarm else 0,
        f"{name}.Value": 0,
        f"{name}.Message": alarm.text if alarm else "",
        f"{name}.Category": alarm.severity if alarm else 0,
        f"{name}.DateTime": alarm.raised if alarm else None,
        f"{name}.AckDateTime": alarm.acked if alarm and alarm.acknowledged(ms) else None,
    }


def _number(code: str) -> int:
    return int(code) if code.isdigit() else 0


class AlarmWords:
    """Alarm word and acknowledged word of a PLC: one bit a code.

    Bit 0 is 3301, bit 1 is 3310, further codes follow in order. An acknowledged bit stays until its alarm is raised
    again.
    """

    FIXED: Final = ("3301", "3310")

    def __init__(self, alarms: list[Occurrence], equipment: str) -> None:
        self.codes = [*self.FIXED, *sorted({alarm.code for alarm in alarms} - {*self.FIXED})]
        if len(self.codes) > 16:
            raise ScenarioError(f"alarms: {equipment} has 16 alarm bits, the scenario names {len(self.codes)} codes")
        self._alarms = alarms

    def words(self, ms: int) -> tuple[int, int]:
        """(alarm word, acknowledged word)."""
        active = acked = 0
        for bit, code in enumerate(self.codes):
            last = next((a for a in reversed(self._alarms) if a.code == code and a.raised <= ms), None)
            if last is not None:
                active |= last.active(ms) << bit
                acked |= last.acknowledged(ms) << bit
        return active, acked
