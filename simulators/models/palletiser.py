"""PAL01: packs the labeller's good bottles into cases and pallets, each with its SSCC."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from simulators.models.flow import Flow
from simulators.models.labeller import Labeller
from simulators.models.line_time import LineTime, Written
from simulators.models.states import Interval, debounced, seen
from simulators.scenario import Scenario

_STATE_NUMBERS: Final = {"IDLE": 0, "RUN": 1, "DOWN": 2, "STARVED": 3}
_SSCC_PREFIX: Final = "34012345"
"""Extension digit 3 and the company prefix 4012345, an invented one."""
WRITABLE: Final = ("PAL01.MES.TaskText", "PAL01.MES.OrderId")


@dataclass(frozen=True, slots=True)
class Pallet:
    """A pallet that left at `at` seconds."""

    at: int
    order: str
    qty: int
    cases: int
    full: bool
    sscc: str


def sscc(scenario: Scenario, number: int) -> str:
    """The SSCC of the n-th pallet (1, 2, 3 …) of a scenario: 18 digits, the last one the GS1 check digit.

    It depends on nothing else, so a pallet keeps it over restarts of whatever asks.
    """
    shift = crc32(f"{scenario.name} {scenario.start.isoformat()}".encode()) % 100_000
    digits = f"{_SSCC_PREFIX}{shift:05}{number:04}"
    weighted = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(digits))
    return f"{digits}{-weighted % 10}"


class Palletiser:
    """Everything the SCADA server shows of PAL01, as a function of the line's time."""

    name: Final = "PAL01"

    def __init__(self, scenario: Scenario, time: LineTime, labeller: Labeller) -> None:
        self._part = part = scenario.palletiser
        self._time = time
        self.good = labeller.good
        self.orders = {order: (start, part.order_end[order]) for order, (start, _) in labeller.orders.items()}
        self.good_of = {order: self.good.of(order) for order in self.orders}
        self.pallets = list(self._pallets(scenario))
        self._leaving = [pallet.at for pallet in self.pallets]
        self.shown = _shown_states(labeller, scenario)
        self._state_starts = [interval.start for interval in self.shown]
        self._texts = dict.fromkeys(WRITABLE, "")

    def states(self, debounce_s: float) -> list[Interval]:
        """The canonical states of the whole scenario."""
        return debounced(self.shown, debounce_s)

    def cases(self, order: str, second: int) -> int:
        """Cases filled for an order so far; what does not fill a case leaves without one."""
        return self.good_of[order].made(second) // self._part.bottles_per_case

    def gone(self, second: int) -> list[Pallet]:
        """The pallets that have left by then."""
        return self.pallets[: bisect_right(self._leaving, second)]

    def write(self, tag: str, value: Written) -> bool:
        """A client writes; False if the tag is none that can be written."""
        if tag in self._texts:
            self._texts[tag] = str(value)
        return tag in self._texts

    def tags(self) -> dict[str, object]:
        """One scan: point name → value."""
        second = self._time.second
        state = self.shown[bisect_right(self._state_starts, second) - 1].state
        order = next((order for order, (start, end) in self.orders.items() if start <= second < end), "")
        pallets = self.gone(second)
        last = pallets[-1] if pallets else Pallet(0, "", 0, 0, full=False, sscc="")
        return {
            "PAL01.State": _STATE_NUMBERS[state],
            "PAL01.CurrentOrder": order,
            "PAL01.GoodTotal": self.good.made(second),
            "PAL01.CasesTotal": sum(self.cases(order, second) for order in self.orders),
            "PAL01.PalletSeq": len(pallets),
            "PAL01.PalletSSCC": last.sscc,
            "PAL01.PalletCases": last.cases,
            "PAL01.PalletQty": last.qty,
            "PAL01.PalletOrder": last.order,
            "PAL01.Heartbeat": self._time.heartbeat,
            **self._texts,
        }

    def _pallets(self, scenario: Scenario) -> Iterator[Pallet]:
        part = self._part
        size = part.bottles_per_case * part.cases_per_pallet
        leaving = sorted(
            (at, order, qty)
            for order, (_, end) in self.orders.items()
            for at, qty in _loads(self.good_of[order], size, end)
        )
        for number, (at, order, qty) in enumerate(leaving, start=1):
            yield Pallet(at, order, qty, qty // part.bottles_per_case, qty == size, sscc(scenario, number))


def _loads(good: Flow, size: int, end: int) -> Iterator[tuple[int, int]]:
    """(when it leaves, bottles) of every pallet of an order."""
    for count in range(size, good.total + 1, size):
        yield good.shows(count), size
    if good.total % size:
        yield end, good.total % size


def _shown_states(labeller: Labeller, scenario: Scenario) -> list[Interval]:
    """PAL01 follows the labeller as the SCADA sees it: while it does not see it, PAL01 shows IDLE."""
    upstream = seen(labeller.states(scenario.debounce_s), labeller.name, scenario)
    follows = (row if row.state in {"RUN", "STARVED"} else row._replace(state="IDLE") for row in upstream)
    return debounced(follows, scenario.debounce_s)
