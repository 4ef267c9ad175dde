"""The demo as a newcomer starts it: it ends well, it ends early, it can be stopped, and it leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gateway", "demo", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(folder), "COLUMNS": "120"},
    )  # fmt: skip


def left_behind(folder: Path) -> list[str]:
    """Processes that still know the demo's folder, and files in it."""
    return [" ".join(process.cmdline()) for process in psutil.process_iter() if _knows(process, folder)] + [
        str(path) for path in folder.iterdir()
    ]


def _knows(process: psutil.Process, folder: Path) -> bool:
    try:
        told = [*process.cmdline(), process.environ().get("GATEWAY_STORE", "")]
    except psutil.Error:  # gone meanwhile, or not ours
        return False
    return any(str(folder) in part for part in told)


@pytest.mark.timeout(120)
def test_the_demo_stopped_early_prints_plain_lines_into_a_pipe_and_every_figure_is_equal(tmp_path: Path) -> None:
    demo = start(tmp_path, "--for", "15")
    text, _ = demo.communicate(timeout=100)
    assert demo.returncode == 0, text
    assert "FIL01   order.started" in text
    assert "PS-P500-LBL rev C ACTIVE" in text
    assert "every figure that the MES received is what the machines did" in text
    assert "\x1b[" not in text, "no terminal, no escape codes"
    assert left_behind(tmp_path) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_the_demo_ends_everything_it_started(tmp_path: Path, number: signal.Signals) -> None:
    demo = start(tmp_path)
    deadline = time.monotonic() + 30
    while len([line for line in left_behind(tmp_path) if " -m " in line]) < 4:
        assert time.monotonic() < deadline, left_behind(tmp_path)
        time.sleep(0.1)
    demo.send_signal(number)
    text, _ = demo.communicate(timeout=30)
    assert demo.returncode == 130, text
    assert "stopped; everything it started is ended" in text
    assert left_behind(tmp_path) == []


@pytest.mark.timeout(60)
def test_a_broker_that_is_not_there_is_said_in_words(tmp_path: Path) -> None:
    demo = start(tmp_path, "--broker", "http://127.0.0.1:1")
    text, _ = demo.communicate(timeout=50)
    assert demo.returncode == 2
    assert "is no broker; write mqtt://host:port" in text
    assert left_behind(tmp_path) == []
