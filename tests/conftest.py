"""Fixtures for all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.address_space import load_once
from tests.brokers import Mosquitto

# A busy machine is no mistake of a test: properties are judged by what they find, not by how long they took.
settings.register_profile("line", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("line")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "case(*names): belongs to those cases of the acceptance lists, see tests/cases.py"
    )
    load_once()


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A command that runs inside a test sets up logging for a process of its own; the next test starts without."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real broker that is already running."""
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    broker = Mosquitto(folder)
    try:
        yield broker.start()
    finally:
        broker.kill()
