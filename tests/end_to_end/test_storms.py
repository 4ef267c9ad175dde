"""Storms: everything between a machine and the consumer fails at random, side by side; then the record is the truth.

`SEEDS=60 pytest tests/end_to_end/test_storms.py` plays sixty, `SEEDS=17-17` one of them again. Timing is the machine's,
so a seed is the same storm, but not to the millisecond.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import paho.mqtt.client as paho
import pytest

from tests.brokers import Mosquitto, eventually, until
from tests.end_to_end import storm_verdict as verdict
from tests.end_to_end.storm_stage import RECOVERY, Stage, staged
from tests.end_to_end.storm_weather import Storm
from tests.end_to_end.uplink_stage import IS_FULL, LONG
from tests.shipped_mosquitto import ShippedMosquitto, password_of

RAGE: Final = 20.0 if IS_FULL else 10.0 if "SEEDS" in os.environ else 4.0
"""Seconds of storm."""

USUAL: Final = (189,)
"""Two brokers that forget, the ways to them, the gateway and the consumer, all of them struck."""


def seeds() -> Sequence[int]:
    """Those that are asked for, as a number of them or as first-last."""
    first, _, last = os.environ.get("SEEDS", "1-20" if IS_FULL else "").rpartition("-")
    return range(int(first or 1), int(last) + 1) if last else USUAL


class Wire:
    """An ear at a broker that comes back whatever happens to the broker, and misses what comes meanwhile."""

    def __init__(self, broker: Mosquitto) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.retained: dict[str, bytes] = {}
        self.is_there = False
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        if isinstance(broker, ShippedMosquitto):
            self._client.username_pw_set("mes", password_of("mes"))
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("mfg/#", qos=0)
        self._client.on_subscribe = lambda *_: setattr(self, "is_there", True)
        self._client.on_message = self._hear
        self._port = broker.port

    def __enter__(self) -> "Wire":
        self._client.connect("127.0.0.1", self._port, keepalive=5)
        self._client.loop_start()
        until(lambda: self.is_there, "the ear is there")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()

    def _hear(self, client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        if message.retain:
            self.retained[message.topic] = bytes(message.payload)
        else:
            self.heard.append((message.topic, bytes(message.payload)))


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.timeout(300)
async def test_after_a_storm_the_consumer_has_what_the_machines_did(
    seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async with staged(tmp_path, seed) as stage:
        storm = Storm(str(seed), stage.lanes())
        try:
            with Wire(stage.brokers[0]) as ear:
                await play(stage, storm)
                figure = await judge(stage, ear)
        except BaseException:
            print(f"seed {seed}: {stage.setting}", *storm.story, sep="\n")  # noqa: T201 - to be played again
            raise
    record_property("figure", f"seed {seed}, {len(storm.story)} blows: {figure}")


async def play(stage: Stage, storm: Storm) -> None:
    """The storm over a line that works; then all recovers, and everybody ends in good order."""
    await stage.open()
    working = asyncio.create_task(stage.work())
    await storm.rage(RAGE)
    await asyncio.sleep(0.3)
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working
    stage.exit_codes.append(await stage.gateway.terminate())
    before = verdict.kept(stage.record)
    await stage.forget()
    await stage.start_gateway()
    await eventually(lambda: at_home(stage), f"the gateway is at the first broker; {stage.gateway.log}", RECOVERY)
    await stage.consumer.terminate()
    await stage.consumer.started("connected to")
    await eventually_told(stage, lambda told: all_told(stage, told, before) and all_true(stage, told))
    stage.exit_codes.append(await stage.gateway.terminate())
    there = verdict.kept(stage.record)
    await eventually_told(stage, lambda told: all_told(stage, told, there))
    stage.verdict = await stage.consumer.terminate()


def at_home(stage: Stage) -> bool:
    """The gateway's last word on brokers is that it is at the first one."""
    words = [line for line in stage.gateway.log.splitlines() if "broker connected" in line or "broker lost" in line]
    return bool(words) and "broker connected" in words[-1] and f":{stage.paths[0].port}" in words[-1]


def given_up(stage: Stage) -> set[verdict.Number]:
    """What the consumer said is lost, in all its lives."""
    return verdict.lost(file.read_text(encoding="utf-8") for file in stage.consumer.out.parent.glob("consumer*.log"))


def all_told(stage: Stage, told: verdict.Told, events: Mapping[verdict.Number, bytes]) -> bool:
    return events.keys() <= told.events.keys() | given_up(stage)


def all_true(stage: Stage, told: verdict.Told) -> bool:
    events = verdict.decoded(told)
    for machine in stage.machines:
        try:
            verdict.true_to(machine, events[machine.path])
        except AssertionError:
            return False
    return True


async def eventually_told(stage: Stage, is_enough: Callable[[verdict.Told], bool]) -> None:
    """Wait until the consumer's record is as it should be, or fail with what it lacks."""
    deadline = asyncio.get_running_loop().time() + RECOVERY
    size = -1
    while asyncio.get_running_loop().time() < deadline:
        if len(stage.told) != size:
            size = len(stage.told)
            if is_enough(verdict.read_told(stage.told)):
                return
        await asyncio.sleep(0.1)
    told = verdict.read_told(stage.told)
    verdict.whole(told)
    for machine in stage.machines:
        verdict.true_to(machine, verdict.decoded(told)[machine.path])
    missing = sorted(verdict.kept(stage.record).keys() - told.events.keys())
    raise AssertionError(f"not told: {missing}; {stage.consumer.log[-2000:]}\n{stage.gateway.log[-3000:]}")


async def judge(stage: Stage, ear: Wire) -> str:
    """Everything held against everything; the figures."""
    told = verdict.read_told(stage.told)
    hold_to_truth(stage, told)
    lacking = hold_to_sums(stage, told)
    verdict.accounted(ear.heard)
    again = verdict.same_bytes(ear.heard)
    with Wire(stage.brokers[0]) as late:
        await eventually(lambda: shows_the_end(stage, late), "each machine's last state, retained", LONG)
    # Whether it had time to ask for the last numbers, after it was started again, is chance.
    assert stage.verdict == (1 if lacking or "unsure" in stage.consumer.log else 0), stage.consumer.log
    assert set(stage.exit_codes) == {0}
    asked_for, _ = verdict.missed(stage.state)
    return f"{len(told.events)} events, {asked_for} of them asked for, {again} heard again; {lacking} tel missing"


def hold_to_truth(stage: Stage, told: verdict.Told) -> None:
    """Machines, consumer and record say the same."""
    assert given_up(stage) == set(), "nothing may be lost for good: the record keeps what a broker may lose"
    verdict.whole(told)
    events = verdict.decoded(told)
    for machine in stage.machines:
        verdict.true_to(machine, events[machine.path])
    record = verdict.kept(stage.record)
    assert record.items() <= told.events.items(), "the consumer's record is the gateway's, byte for byte"
    assert len(record) == len(told.events) or stage.setting.tight, "nothing is forgotten where there is room"


def hold_to_sums(stage: Stage, told: verdict.Told) -> int:
    """The gateway's accounts add up, and what it dropped is what it told; how many run parameters are missing."""
    sums = verdict.account(stage.record)
    assert (sums.unaccounted, sums.queued, sums.quarantined) == (0, 0, 0)
    assert sums.dropped == 0 or stage.setting.tight
    dropped = verdict.dropped_as_told(verdict.decoded(told)["gateway"])
    assert dropped == sums.dropped or (sums.notices and dropped < sums.dropped), "some may be told after the next start"
    asked_for, lacking = verdict.missed(stage.state)
    if stage.setting.keeps_all:
        assert asked_for == 0, "nothing had to be sent again"
        assert lacking <= sums.dropped, "nothing is missing but what was dropped"
        # A gateway that is killed does not know that the broker has what it drops in its next life.
        assert dropped <= lacking or "gateway" in stage.setting.lanes, "what is told as dropped is missing"
    return lacking


def shows_the_end(stage: Stage, late: Wire) -> bool:
    """Whoever comes now sees each machine in its last state."""
    return all(verdict.shown(late.retained, machine) == machine.states[-1] for machine in stage.machines)
