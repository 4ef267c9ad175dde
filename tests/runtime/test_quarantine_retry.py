"""What a broker refuses is put aside, told, counted, and sent once more when somebody has mended the cause."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.core import Core
from gateway.domain.effects import GatewayIdentity
from gateway.mqtt.topics import Topics
from gateway.runtime import uplink_duties
from gateway.runtime.clock import SystemClock
from gateway.runtime.commit import Committer
from gateway.store.records import OutboxMessage, Transaction
from gateway.store.schema import StoreFull
from gateway.store.store import Store
from tests.brokers import Mosquitto, eventually
from tests.runtime.uplink_line import LONG, OWN, UNIT, Mes, gateway

STATE = f"{UNIT}/evt/equipment.state"
DOWNTIME = f"{UNIT}/evt/downtime.closed"
EVERYTHING = "topic readwrite #\n"


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute between two tellings is long for a test."""
    monkeypatch.setattr(uplink_duties, "LOOK", 0.02)
    monkeypatch.setattr(uplink_duties, "TELL_AGAIN", 0.02)


@pytest.fixture
def forbid(mosquitto: Mosquitto, tmp_path: Path) -> Callable[..., None]:
    """Forbids topics to the gateway; called without any it allows all, and connections stay."""
    acl = tmp_path / "acl"
    acl.write_text(EVERYTHING)
    mosquitto.restart(f"acl_file {acl}")

    def forbid(*topics: str) -> None:
        acl.write_text("".join(f"topic deny {topic}\n" for topic in topics) + EVERYTHING)
        mosquitto.reload()

    return forbid


def told(mes: Mes) -> list[dict]:
    return [one.body["data"] for one in mes.events(None) if one.topic.endswith("/gateway.quarantined")]


@pytest.mark.case("R05")
async def test_refused_messages_are_told_and_after_the_cause_is_mended_a_retry_brings_them(
    mosquitto: Mosquitto, forbid: Callable[..., None], tmp_path: Path, record_property: Callable
) -> None:
    forbid(STATE)
    with Mes(mosquitto.port) as mes:
        async with gateway(tmp_path, mosquitto.port) as line:
            await line.toggle(30)
            await line.all_acknowledged()
            refused = line.store.quarantined
            await eventually(lambda: sum(one["messages"] for one in told(mes)) == refused, "all are told", LONG)
            assert {(one["topic"], one["reason"]) for one in told(mes)} == {
                (STATE, "the broker refused it: Not authorized")
            }
            assert not mes.payloads(STATE)
            assert len(mes.payloads(DOWNTIME)) > 10, "others flow"
            assert line.store.unaccounted == 0
            forbid()
            mes.ask("quarantine.retry", cmd="Q-1", topic=DOWNTIME)
            assert (await mes.final("Q-1"))["detail"] == ["0 messages queued again"]
            mes.ask("quarantine.retry", cmd="Q-2", topic=STATE)
            done = await mes.final("Q-2")
            await eventually(lambda: len(mes.payloads(STATE)) == refused, "they arrive", LONG)
            await line.all_acknowledged()
            assert (line.store.quarantined, line.store.unaccounted) == (0, 0)
        numbers = sorted(one.body["seq"] for one in mes.events())
    assert refused >= 29
    assert (done["answer"], done["detail"]) == ("done", [f"{refused} messages queued again"])
    assert numbers == list(range(1, len(numbers) + 1)), "nothing is missing"
    mes.check_contract()
    record_property("figure", f"{refused} refused, told and put aside, others flowed; all {refused} came by one retry")


async def test_a_broker_that_refuses_even_the_news_of_it_is_not_told_again_and_again(
    mosquitto: Mosquitto, forbid: Callable[..., None], tmp_path: Path
) -> None:
    forbid(STATE, f"{OWN}/evt/gateway.quarantined")
    with Mes(mosquitto.port) as mes:
        async with gateway(tmp_path, mosquitto.port) as line:
            await line.toggle(states := 10)
            await line.settled()
            news = line.store.quarantined - states
            await line.settled()
            assert line.store.quarantined - states == news, "each piece of news is refused once, and not told again"
            forbid()
            mes.ask("quarantine.retry", cmd="Q-1")
            await mes.final("Q-1")
            await eventually(lambda: line.store.quarantined == 0 and len(told(mes)) == news, "all came", LONG)
    assert sum(one["messages"] for one in told(mes)) == states


async def test_what_follows_the_first_news_is_gathered_for_a_while(
    mosquitto: Mosquitto, forbid: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that refuses all day does not fill the record with events that say so."""
    monkeypatch.setattr(uplink_duties, "TELL_AGAIN", 3600)
    forbid(STATE)
    with Mes(mosquitto.port) as mes:
        async with gateway(tmp_path, mosquitto.port) as line:
            await line.toggle(1)
            await eventually(lambda: len(told(mes)) == 1, "the first news", LONG)
            for _ in range(5):
                await line.toggle(1)
                await line.all_acknowledged()
            assert line.store.quarantined == 6
            assert line.daemon._store.has_notices
    assert len(told(mes)) == 1


async def test_a_full_record_holds_retry_and_news_up_and_loses_neither(
    mosquitto: Mosquitto, forbid: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink_duties, "FULL_PAUSE", 0.01)
    forbid(STATE)
    with Mes(mosquitto.port) as mes:
        async with gateway(tmp_path, mosquitto.port) as line:
            store = line.daemon._store
            for name in ("take_notices", "requeue"):
                monkeypatch.setattr(store, name, full_twice(getattr(store, name)))
            await line.toggle(1)
            await eventually(lambda: bool(told(mes)), "the news", LONG)
            forbid()
            mes.ask("quarantine.retry", cmd="Q-1")
            assert (await mes.final("Q-1"))["detail"] == ["1 message queued again"]


def full_twice(work: Callable[..., Any]) -> Callable[..., Any]:
    """The store's method on a day on which there is no room at first."""
    refusals = iter([StoreFull("full"), StoreFull("full")])

    async def method(*arguments: Any) -> Any:
        if (refusal := next(refusals, None)) is not None:
            raise refusal
        return await work(*arguments)

    return method


async def test_a_notice_that_a_crash_left_untold_is_told_once_by_the_next_run(tmp_path: Path) -> None:
    message = OutboxMessage("mfg/v1/x", b"{}", "evt", None, 1)
    async with Store(tmp_path / "record.db", new_epoch="e") as store:
        await store.commit(Transaction(messages=[message]))
        await store.quarantine(1, "Not authorized", 1_000)
        first = await store.take_notices()
        assert not store.has_notices, "it is being told"
    ids = []
    for expected in (first, []):
        async with Store(tmp_path / "record.db", new_epoch="e") as store:
            core = Core((), GatewayIdentity("edge-01", "c", "e", "0"), {}, {}, 0)
            committer = Committer(core, store, Topics("mfg/v1", "ACME/HZ", "edge-01"), SystemClock())
            notices = await store.take_notices()
            assert notices == expected
            core.handle_notices(notices, 5_000)
            effects = core.take_effects(5_000)
            assert effects is not None
            ids += [event.id for event in effects.events]
            await store.commit(committer.transaction(effects))
    assert len(ids) == 1
