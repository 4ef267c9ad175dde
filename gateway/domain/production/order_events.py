"""What is told of a run of a job order: how far it is, and what it came to."""

from gateway.domain.contract.events import OrderCompleted, OrderProgress
from gateway.domain.production.orders import Run
from gateway.domain.production.windows import ClosedWindow
from gateway.domain.times import format_timestamp, whole_seconds


def progress(run: Run, window: ClosedWindow) -> OrderProgress:
    """How far the order is at the end of a window, and when it will be done at the window's pace."""
    good, length = run.totals.get("good"), max(1, window.end - window.start)
    made = window.tallies["good"].delta if "good" in window.tallies else 0
    rate = round(made * 60_000 / length, 3)
    left = None if run.planned is None or good is None else max(0, run.planned - good)
    eta = format_timestamp(window.end + round(left * 60_000 / rate)) if left is not None and rate > 0 else None
    return OrderProgress(
        window_end=format_timestamp(window.end), planned=run.planned, rate_per_min=rate, eta=eta,
        produced=run.totals.get("produced"), good=good, scrap=run.totals.get("scrap"), rework=run.totals.get("rework"),
    )  # fmt: skip


def completed(run: Run, kwh: float | None) -> OrderCompleted:
    """The totals of a run that is over."""
    good = run.totals.get("good")
    return OrderCompleted(
        run=run.number, planned=run.planned,
        produced=run.totals.get("produced"), good=good,
        scrap=run.totals.get("scrap"), rework=run.totals.get("rework"),
        times_s={state: whole_seconds(spent) for state, spent in run.times.items()},
        kwh=kwh, partial=run.planned is not None and good is not None and good < run.planned,
    )  # fmt: skip
