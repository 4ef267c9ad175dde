"""The broker that we ship, for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shipped_mosquitto import ShippedMosquitto


@pytest.fixture
def shipped(tmp_path: Path) -> Iterator[ShippedMosquitto]:
    """`config/mosquitto`, running."""
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    broker = ShippedMosquitto(folder)
    try:
        yield broker.start()
    finally:
        broker.kill()
