"""The stopwatch of the tests: what the process waits for counts, a moment in which nothing ran does not."""

import ctypes
import time

from tests.brokers import until
from tests.stopwatch import Stopwatch


def test_waiting_counts_and_standing_still_does_not() -> None:
    began = time.monotonic()
    with Stopwatch() as watch:
        until(lambda: watch.seconds >= 0.1, "a tenth of a second")
        assert time.monotonic() - began >= 0.1
        before = watch.seconds
        ctypes.PyDLL(None).usleep(500_000)  # holds the interpreter's lock, so that no thread runs
        assert watch.seconds - before < 0.1
    assert watch.seconds < time.monotonic() - began
