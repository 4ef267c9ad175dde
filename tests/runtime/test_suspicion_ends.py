"""Suspects go one by one, so suspicion must end with them: behind it a backlog would have a window of one."""

from pathlib import Path

import pytest

from gateway.runtime.suspicion import Suspicion
from tests.brokers import Consumer, Gate, Mosquitto, eventually
from tests.runtime.test_broker_link import numbers, uplink


@pytest.mark.parametrize("limit", ["", "max_packet_size 2000"], ids=["all of them go", "one fits no packet any more"])
async def test_the_window_is_whole_again_as_soon_as_each_suspect_had_its_answer(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Not only when nothing is left to be sent, which after a long outage is hours later."""
    monkeypatch.setattr(Suspicion, "drop", lambda _: None)
    gate = Gate(mosquitto.port)
    await gate.open()
    async with uplink(tmp_path, gate.port) as up:
        await up.is_told("connected")
        mosquitto.freeze()
        await up.commit(3, size=3_000)
        await up.put(retained={"now/a": b"1"})
        connection = up.link._delivery._connection  # type: ignore[union-attr]
        await eventually(lambda: connection.in_flight >= 4, "they are under way")
        await gate.close()
        await eventually(lambda: bool(up.link._suspicion), "suspicion")
        mosquitto.thaw()
        mosquitto.restart(limit)
        with Consumer(mosquitto.port) as consumer:
            await up.put([("evt/0", b"7")])
            await gate.open()
            await eventually(lambda: 7 in numbers(consumer), "what follows arrived")
            await up.is_empty()
            await eventually(lambda: not up.link._suspicion, "nobody is suspected any more")
        assert up.store.statistics.quarantined == (3 if limit else 0)
    await gate.close()
