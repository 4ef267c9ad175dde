"""What became of every message: told retained, beside the outbox, to every broker, and always adding up."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.runtime import uplink_duties
from gateway.store.records import Statistics
from tests.brokers import Gate, Mosquitto, eventually
from tests.runtime.uplink_line import LONG, MACHINE, OWN, Mes, gateway

TOPIC = f"{OWN}/now/messages"


class Looks:
    """How often the counts were looked at, in a hurry."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._number = 0
        self._counts = uplink_duties.counts
        monkeypatch.setattr(uplink_duties, "COUNT_AGAIN", 0.02)
        monkeypatch.setattr(uplink_duties, "counts", self._look)

    def _look(self, statistics: Statistics) -> dict[str, int]:
        self._number += 1
        return self._counts(statistics)

    async def some_more(self) -> None:
        wanted = self._number + 5
        await eventually(lambda: self._number >= wanted, "the counts are looked at", LONG)


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


def told(mes: Mes) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in mes.payloads(TOPIC)]


async def test_the_counts_are_told_when_they_change_and_always_add_up(
    mosquitto: Mosquitto, tmp_path: Path, looks: Looks
) -> None:
    with Mes(mosquitto.port) as mes:
        async with gateway(tmp_path, mosquitto.port) as line:
            await line.toggle(20)
            await line.all_acknowledged()
            ingested = line.store.ingested
            await eventually(lambda: told(mes)[-1]["acknowledged"] == ingested, "the counts of all", LONG)
            number = len(told(mes))
            await looks.some_more()
            assert len(told(mes)) == number, "they do not count themselves, and say nothing when nothing changed"
            sums = [one["acknowledged"] + one["queued"] + one["dropped"] + one["quarantined"] for one in told(mes)]
            assert sums == [one["ingested"] for one in told(mes)]
        late = Mes(mosquitto.port)
        with late:
            await eventually(lambda: bool(told(late)), "what a later subscriber gets", LONG)
        assert told(late)[0]["ingested"] == ingested
        assert told(late)[0]["file_bytes"] > 0
    mes.check_contract()


async def test_a_connect_tells_them_anew_for_its_birth_alone_changes_them(
    mosquitto: Mosquitto, tmp_path: Path, looks: Looks
) -> None:
    """It may be another broker, or one that has forgotten."""
    gate = Gate(mosquitto.port)
    await gate.open()
    with Mes(mosquitto.port) as mes:
        async with gateway(tmp_path, gate.port) as line:
            await line.all_acknowledged()
            await eventually(lambda: bool(told(mes)), "the counts", LONG)
            await gate.close()
            await eventually(lambda: not line.daemon._broker.connected, "the loss is seen", LONG)
            number, acknowledged = len(told(mes)), line.store.acknowledged
            await looks.some_more()
            assert len(told(mes)) == number
            await gate.open()
            await eventually(lambda: told(mes)[-1]["acknowledged"] > acknowledged, "the counts again", LONG)
            await line.all_acknowledged()
    await gate.close()


async def test_a_window_of_one_takes_counts_and_replays_in_turn(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Mes(mosquitto.port) as mes:
        async with gateway(tmp_path, mosquitto.port, window=1) as line:
            await line.toggle(10)
            await line.all_acknowledged()
            mes.ask("replay", cmd="R-1", eq=MACHINE, from_seq=1, to_seq=10)
            done = await mes.final("R-1")
            await eventually(lambda: told(mes)[-1]["ingested"] == line.store.acknowledged, "the counts", LONG)
    assert done["detail"] == ["10 events sent again"]
    assert len(mes.events(historical="replay")) == 10
