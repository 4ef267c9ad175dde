"""The demo as a newcomer starts it: it ends well, it ends early, it can be stopped, and it leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.brokers import until

ROOT = Path(__file__).parents[2]


PATIENCE = 90
"""Seconds for what takes a few on a machine that has nothing else to do."""


@contextmanager
def demo(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "demo", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(folder), "COLUMNS": "120"},
    ) as started:  # fmt: skip
        try:
            yield started
        finally:
            started.terminate()


def left_behind(folder: Path) -> list[str]:
    """Processes that still know the demo's folder, and files in it."""
    processes = [_command(process) for process in psutil.process_iter() if str(folder) in _command(process)]
    return processes + [str(path) for path in folder.iterdir()]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join([*process.cmdline(), process.environ().get("GATEWAY_STORE", "")])
    except psutil.Error:  # gone meanwhile, or not ours
        return ""


@pytest.mark.timeout(2 * PATIENCE)
def test_the_demo_stopped_early_prints_plain_lines_into_a_pipe_and_every_figure_is_equal(tmp_path: Path) -> None:
    with demo(tmp_path, "--for", "15") as started:
        text, _ = started.communicate(timeout=2 * PATIENCE)
    assert started.returncode == 0, text
    assert "FIL01   order.started" in text
    assert "PS-P500-LBL rev C ACTIVE" in text
    assert "every figure that the MES received is what the machines did" in text
    assert "\x1b[" not in text, "no terminal, no escape codes"
    assert left_behind(tmp_path) == []


@pytest.mark.timeout(2 * PATIENCE)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_the_demo_ends_everything_it_started(tmp_path: Path, number: signal.Signals) -> None:
    with demo(tmp_path) as started:
        until(lambda: len([line for line in left_behind(tmp_path) if " -m " in line]) >= 4, "all processes", PATIENCE)
        started.send_signal(number)
        text, _ = started.communicate(timeout=PATIENCE)
    assert started.returncode == 130, text
    assert "stopped; everything it started is ended" in text
    assert left_behind(tmp_path) == []


@pytest.mark.timeout(PATIENCE)
def test_a_broker_that_is_not_there_is_said_in_words(tmp_path: Path) -> None:
    with demo(tmp_path, "--broker", "http://127.0.0.1:1") as started:
        text, _ = started.communicate(timeout=PATIENCE)
    assert started.returncode == 2
    assert "is no broker; write mqtt://host:port" in text
    assert left_behind(tmp_path) == []
