"""Fixtures of the simulators' tests; what they are made of is in `stages`."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from stages import SMALL, Stage, free_port, wait_for_port

from simulators.models.line import Line
from simulators.scenario import Scenario, parse


@pytest.fixture
def small() -> dict[str, Any]:
    """The small scenario as its YAML gives it, free to be changed."""
    scenario: dict[str, Any] = yaml.safe_load(SMALL)
    return scenario


@pytest.fixture
def scenario(small: dict[str, Any]) -> Scenario:
    return parse(small)


@pytest.fixture
def line(scenario: Scenario) -> Line:
    return Line(scenario)


@pytest.fixture
def stage(line: Line) -> Stage:
    return Stage(line)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[int]:
    """A real mosquitto on a free loopback port, open to everybody."""
    binary = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/sbin")
    if binary is None:
        pytest.skip("mosquitto is not installed; install it (apt-get install mosquitto) to test against a real broker")
    port = free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = subprocess.Popen([binary, "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=10)
