"""Replay over a real broker: the same bytes again, over a cut, over a restart, while life goes on."""

import json
from pathlib import Path

from gateway.runtime.replay import Replay, Replayed
from gateway.store.records import OutboxMessage, Transaction
from gateway.store.store import Store
from tests.brokers import Gate, Mosquitto, eventually
from tests.runtime.uplink_line import LONG, MACHINE, OWN, SITE, UNIT, Mes, Received, gateway


def numbers(events: list[Received]) -> list[int]:
    return [event.body["seq"] for event in events]


async def test_events_come_again_byte_for_byte_on_their_topics_marked_as_replayed(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with Mes(mosquitto.port) as mes:
        async with gateway(tmp_path, mosquitto.port) as line:
            await line.toggle(20)
            await line.all_acknowledged()
            await eventually(lambda: len(mes.events()) == line.last, "all of them", LONG)
            first = mes.events()
            mes.ask("replay", cmd="R-1", eq="M1", from_seq=5, to_seq=14)
            done = await mes.final("R-1")
        again = mes.events(historical="replay")
    assert [(one.topic, one.payload) for one in again] == [(one.topic, one.payload) for one in first[4:14]]
    assert numbers(again) == list(range(5, 15))
    assert [answer["answer"] for answer in mes.answers("R-1")] == ["accepted", "done"]
    assert (done["codes"], done["detail"]) == ([], ["10 events sent again"])
    mes.check_contract()


async def test_the_gateways_own_events_are_a_stream_too(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Mes(mosquitto.port) as mes:
        async with gateway(tmp_path, mosquitto.port) as line:
            await eventually(lambda: bool(mes.events(None)), "the birth", LONG)
            await line.all_acknowledged()
            mes.ask("replay", cmd="R-1", eq=None, from_seq=1, to_seq=1)
            await mes.final("R-1")
        (again,) = mes.events(None, "replay")
        (before,) = (one for one in mes.events(None) if one.body["seq"] == 1 and one.historical != "replay")
    assert (again.topic, again.payload) == (before.topic, before.payload)


async def test_a_replay_goes_on_over_a_cut_while_what_happens_meanwhile_comes_too(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    gate = Gate(mosquitto.port)
    await gate.open()
    with Mes(mosquitto.port) as mes:
        async with gateway(tmp_path, gate.port) as line:
            await line.toggle(150)
            await line.all_acknowledged()
            last = line.last
            mes.ask("replay", cmd="R-1", eq=MACHINE, from_seq=1, to_seq=last)
            await eventually(lambda: len(mes.events(historical="replay")) > 20, "some of it", LONG)
            await gate.close()
            await line.toggle(5)
            assert mes.answers("R-1")[-1]["answer"] == "accepted"
            await gate.open()
            await line.toggle(5)
            done = await mes.final("R-1")
            await eventually(lambda: set(numbers(mes.events())) == set(range(1, line.last + 1)), "everything", LONG)
        again, missed = mes.events(historical="replay"), mes.events(historical="outage")
    await gate.close()
    assert set(numbers(again)) == set(range(1, last + 1))
    first = {one.payload for one in mes.events() if one.historical != "replay" and one.body["seq"] <= last}
    assert {one.payload for one in again} == first
    assert done["codes"] == []
    assert set(numbers(missed)) >= {last + 1, last + 5}


async def test_a_replay_begun_before_a_kill_is_finished_by_the_next_run(mosquitto: Mosquitto, tmp_path: Path) -> None:
    gate = Gate(mosquitto.port)
    await gate.open()
    with Mes(mosquitto.port) as mes:
        async with gateway(tmp_path, gate.port) as line:
            await line.toggle(150)
            await line.all_acknowledged()
            last = line.last
            mes.ask("replay", cmd="R-1", eq=MACHINE, from_seq=1, to_seq=last)
            await eventually(lambda: len(mes.events(historical="replay")) > 20, "some of it", LONG)
            await gate.close()
        assert [answer["answer"] for answer in mes.answers("R-1")] == ["accepted"]
        async with gateway(tmp_path, mosquitto.port):
            done = await mes.final("R-1")
        again = mes.events(historical="replay")
    assert set(numbers(again)) == set(range(1, last + 1))
    assert done["answer"] == "done"
    assert sum(answer["final"] for answer in mes.answers("R-1")) == 1


async def test_what_is_no_longer_kept_is_named(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Mes(mosquitto.port) as mes:
        async with gateway(tmp_path, mosquitto.port) as line:
            await line.toggle(10)
            await line.all_acknowledged()
            await line.daemon._store.forget_published(1 << 62)
            await line.toggle(10)
            await line.all_acknowledged()
            last = line.last
            mes.ask("replay", cmd="R-1", eq="M1", from_seq=1, to_seq=last)
            done = await mes.final("R-1")
        again = numbers(mes.events(historical="replay"))
    assert again[-1] == last
    assert done["codes"] == ["incomplete"]
    assert done["detail"] == [f"{len(again)} events sent again", f"no longer kept: 1-{again[0] - 1}"]


async def test_on_another_topic_a_replay_is_refused_with_the_right_one(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Mes(mosquitto.port) as mes:
        async with gateway(tmp_path, mosquitto.port):
            for level in (SITE, UNIT):
                mes.ask("replay", level, cmd=f"R-{level}", eq="M1", from_seq=1, to_seq=1)
                answer = await mes.final(f"R-{level}", level)
                assert (answer["answer"], answer["codes"]) == ("rejected", ["wrong_topic"])
                assert answer["detail"] == [f"it is for the gateway itself: {OWN}/cmd/replay"]
        assert mes.events(historical="replay") == []


async def test_what_is_wrong_with_a_replay_is_answered_at_the_gateways_level_too(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    with Mes(mosquitto.port) as mes:
        async with gateway(tmp_path, mosquitto.port):
            mes.ask("replay", cmd="R-1", eq="M1", from_seq=1)
            mes.ask("replay", cmd="R-2", eq="M1", from_seq=1, to_seq=1_000_000)
            mes.ask("quarantine.retry", cmd="R-3", valid_until="2001-01-01T00:00:00Z")
            body = {"cmd": "R-4", "eq": "M1", "from_seq": 1, "to_seq": 1}
            mes.publish(f"{OWN}/cmd/replay", json.dumps(body).encode(), retain=True)
            codes = [(await mes.final(f"R-{number}"))["codes"] for number in range(1, 4)]
        async with gateway(tmp_path, mosquitto.port):  # a subscription begins with what is retained
            await eventually(lambda: any(a["codes"] == ["retained"] for a in mes.answers("R-4")), "refused", LONG)
    assert codes == [["malformed"], ["beyond"], ["expired"]]


async def test_every_connect_is_told_with_the_numbers_given_by_then(mosquitto: Mosquitto, tmp_path: Path) -> None:
    gate = Gate(mosquitto.port)
    await gate.open()
    with Mes(mosquitto.port) as mes:
        async with gateway(tmp_path, gate.port) as line:
            await line.toggle(4)
            await line.all_acknowledged()
            await gate.close()
            await line.toggle(4)
            await gate.open()
            await eventually(lambda: len(mes.payloads(f"{OWN}/evt/gateway.birth")) == 2, "the second birth", LONG)
            last = line.last
            await eventually(lambda: set(numbers(mes.events())) == set(range(1, last + 1)), "everything", LONG)
            await eventually(lambda: len(mes.payloads(f"{UNIT}/tel")) == 8, "the run parameters", LONG)
            births = [one.body["data"] for one in mes.events(None) if one.topic.endswith("gateway.birth")]
            tel = max(one.body["seq"] for one in mes.received if one.topic == f"{UNIT}/tel")
    await gate.close()
    assert births[0]["equipment"] == [{"eq": MACHINE, "seq": 0, "tel": 0}]
    assert births[1]["equipment"] == [{"eq": MACHINE, "seq": last, "tel": tel}]
    assert births[1]["broker"] == f"127.0.0.1:{gate.port}"
    assert births[1]["protocol"] == "MQTT 5"
    assert tel == 8


async def test_numbers_that_two_epochs_have_are_told_apart(tmp_path: Path) -> None:
    """After a salvage with a new epoch both are in the record, the older rows first."""
    async with Store(tmp_path / "record.db", new_epoch="new") as store:
        for epoch, first in (("old", 1), ("new", 2)):  # so that what is read at once ends between the two of a number
            body = json.dumps({"epoch": epoch}).encode()
            await store.commit(Transaction([OutboxMessage("evt", body, "evt", None, n) for n in range(first, 251)]))
        await store.mark_published(range(1, 500), 0)
        for epoch, sent, missing in (("old", 250, [(251, 260)]), ("new", 249, [(1, 1), (251, 260)])):
            replay = Replay(store, None, epoch, 1, 260)
            while not replay.ended.done():
                for event in await replay.take(7):
                    assert json.loads(event.payload)["epoch"] == epoch
                    replay.settle(event.seq, accepted=True)
            assert replay.ended.result() == Replayed(sent, missing)


async def test_only_what_the_broker_did_not_acknowledge_goes_again_on_the_next_connection(tmp_path: Path) -> None:
    async with Store(tmp_path / "record.db", new_epoch="e") as store:
        body = json.dumps({"epoch": "e"}).encode()
        await store.commit(Transaction([OutboxMessage("evt", body, "evt", None, n) for n in range(1, 21)]))
        await store.mark_published(range(1, 21), 0)
        replay = Replay(store, None, "e", 1, 20)
        assert [event.seq for event in await replay.take(10)] == list(range(1, 11))
        for number in (2, 9, 4):
            replay.settle(number, accepted=True)
        replay.settle(6, accepted=False)
        replay.rewind()
        replay.settle(1, accepted=True)  # the broker's word on what the last connection sent
        again = await replay.take(100)
        assert [event.seq for event in again] == [1, 3, 5, 7, 8, 10, *range(11, 21)]
        for event in again:
            replay.settle(event.seq, accepted=True)
        assert replay.ended.result() == Replayed(19, [(6, 6)])
