"""`make cases`: the acceptance lists, one line per case, with the figure that its test measured.

The cases are R01-R25 (reliability), S01-S15 (security), and the traps of the libraries: A1-A23 of asyncua, B1-B12 of
pymodbus, C1-C13 of MQTT and paho, D1-D9 of SQLite, E4 of clocks (docs/traps.md). A test belongs to a case by its name,
`test_r08_…`, `test_a5_…`, or by the mark `case("R01", "A7")`; what it measured it says with
`record_property("figure", "0 lost in 20 cuts")`. A case passed when all its tests that ran passed and at least one did. With FULL=1 in the environment tests play in full length.
"""

import contextlib
import io
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

TRAPS = [
    *(f"A{number}" for number in range(1, 24)),
    *(f"B{number}" for number in range(1, 13)),
    *(f"C{number}" for number in (*range(1, 12), 13)),  # C12 is Sparkplug's
    *(f"D{number}" for number in range(1, 10)),
    "E4",
]
CASES = [*(f"R{number:02}" for number in range(1, 26)), *(f"S{number:02}" for number in range(1, 16)), *TRAPS]
_NAME = re.compile(r"test_([rs]\d\d|[a-e]\d{1,2})_")
_LONGEST = 7200
"""Seconds that a test may take in full length, where it does not say so itself."""


@dataclass
class Case:
    """What came of the tests of one case; `skipped` and `failed` say why, and where."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        if self.failed:
            return "FAILED"
        if self.passed:
            return "passed"
        return "skipped" if self.skipped else "not yet"

    @property
    def words(self) -> str:
        """The figures; and what did not run, aloud."""
        missing = [f"not run: {reason}" for reason in dict.fromkeys(self.skipped)]
        return "; ".join([*self.failed, *dict.fromkeys(self.figures), *missing])


def cases_of(item: pytest.Item) -> set[str]:
    """`R08` for `test_r08_…`, and whatever a test is marked with."""
    match = _NAME.match(item.name)
    named = {match[1].upper()} if match else set()
    return named.union(*(mark.args for mark in item.iter_markers("case")))


class CaseReporter:
    """A pytest plugin: lets only the wanted cases run, and notes what came of each."""

    def __init__(self, wanted: Sequence[str]) -> None:
        self.cases = {name: Case() for name in wanted}
        self.broken: list[str] = []
        self._cases_of: dict[str, set[str]] = {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if cases_of(item) & self.cases.keys()]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        self._cases_of = {item.nodeid: cases_of(item) & self.cases.keys() for item in chosen}
        items[:] = chosen

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.broken.append(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name in self._cases_of[report.nodeid]:
            self._note(self.cases[name], report)

    @staticmethod
    def _note(case: Case, report: pytest.TestReport) -> None:
        if report.failed:
            case.failed.append(report.nodeid)
        elif report.skipped:
            case.skipped.append(_reason(report))
        elif report.when == "call":
            case.passed += 1
            case.figures += [str(value) for name, value in report.user_properties if name == "figure"]


def _reason(report: pytest.TestReport) -> str:
    _, _, text = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, str(report.longrepr))
    return text.removeprefix("Skipped: ")


def run(wanted: Sequence[str], folder: str = "tests") -> int:
    """Run the cases and print their lines; 0, or 1 if one failed or a test file could not be read."""
    reporter = CaseReporter(wanted)
    arguments = [folder, "-q", "-p", "no:cacheprovider"]
    if os.environ.get("FULL"):
        arguments += ["--timeout", str(_LONGEST)]
    with contextlib.redirect_stdout(io.StringIO()) as told:
        pytest.main(arguments, plugins=[reporter])
    failed = reporter.broken or any(case.failed for case in reporter.cases.values())
    lines = [f"{name} {case.verdict:<7} {case.words}".rstrip() for name, case in reporter.cases.items()]
    verdicts = [case.verdict for case in reporter.cases.values()]
    counts = ", ".join(f"{verdicts.count(word)} {word}" for word in ("passed", "FAILED", "skipped", "not yet"))
    report = [*([told.getvalue()] if failed else []), *lines, *(f"cannot be read: {name}" for name in reporter.broken)]
    sys.stdout.write("\n".join([*report, counts]) + "\n")
    return 1 if failed else 0


def main(arguments: Sequence[str]) -> int:
    """All cases, or those named; 2 for a name that is none."""
    wanted = [name.upper() for name in arguments] or CASES
    if unknown := [name for name in wanted if name not in CASES]:
        sys.stderr.write(
            f"{', '.join(unknown)}: no such case; they are R01-R25, S01-S15, and the traps A1 to E4 of docs/traps.md\n"
        )
        return 2
    return run(wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
