"""Suspects go one by one, so suspicion must end with them: behind it a backlog would have a window of one."""

from pathlib import Path

import pytest

from gateway.runtime.suspicion import Suspicion
from gateway.store.records import OutboxRow
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


def test_only_the_same_message_alone_three_times_in_a_row_is_put_aside() -> None:
    """Each connection of a bad line may end with some message under way; none of them is to blame."""
    first, second = OutboxRow(1, "t", b""), OutboxRow(2, "t", b"")
    suspicion = Suspicion()
    for ended_with in ([first], [second], [first], [second], [first, second], [first, second], [first, second]):
        suspicion.connection_lost(ended_with)
        assert not any(suspicion.convicts(row) for row in (first, second)), ended_with
    suspicion.connection_lost([first])
    assert suspicion.rows == [1]
    assert not suspicion.convicts(first), "the second connection in a row: the one before had both under way"
    suspicion.connection_lost([first])
    assert not suspicion.convicts(second)
    assert suspicion.convicts(first)
    assert not suspicion
