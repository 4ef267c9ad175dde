"""The gateway as a process at the broker that we ship: its rights are enough for everything it does, and no more."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from gateway.store.store import Store
from tests.brokers import eventually
from tests.shipped_gateway import DOWNLOAD, GATEWAY, LONG, SITE, UNIT, final, forces, running, told
from tests.shipped_mosquitto import Party, ShippedMosquitto
from tests.stopwatch import Stopwatch

FORGOTTEN: Final = """\
  ACME/HZ/PACK/L3/PRESS3:
    device: PRESS
    tags: {{force: {{register: 2, type: uint16, publish: true}}}}
"""
"""A machine of a line that the rights do not name."""
WIDE: Final = """\
  ACME/HZ/PACK/L1/WIDE:
    device: PRESS
    tags:
""" + "".join(
    f"      temperature_of_zone_{n}: {{{{register: {n}, type: uint16, publish: true}}}}\n" for n in range(100)
)
"""A machine whose first message is larger than 2,000 bytes."""
TOO_LARGE: Final = [("5", 1, "exceed the broker's Maximum Packet Size of 2,000")]
"""By version of MQTT: how many connections it takes to put a message aside, and what is said of it then."""
if os.environ.get("FULL"):  # three backoffs; time-scaled in tests/runtime/test_broker_link_refusals.py
    TOO_LARGE.append(("3.1.1", 4, "3 connections in a row ended with it"))


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_s09_the_gateway_lacks_no_right_for_events_commands_and_answers(
    shipped: ShippedMosquitto, tmp_path: Path, protocol: str, record_property: Callable[[str, object], None]
) -> None:
    with Party(shipped, "mes", "mfg/#") as mes, Party(shipped, "dashboard", "mfg/#") as screen:
        async with running(tmp_path, shipped, mes, protocol) as (process, press):
            body = {**DOWNLOAD, "cmd": "D-1", "items": [{"name": "force", "value": 450}]}
            mes.publish(f"{UNIT}/cmd/params.download", json.dumps(body).encode())
            assert await final(mes, f"{UNIT}/res/params.download", "D-1") == "done"
            assert await press.get(1) == [450]
            mes.publish(f"{SITE}/cmd/quality.release", b'{"cmd": "Q-1"}', answer_to=f"{SITE}/_res/mes-1")
            where = f"{SITE}/_res/mes-1" if protocol == "5" else f"{SITE}/res/quality.release"
            assert await final(mes, where, "Q-1") == "rejected", "something is missing in it"
            mes.publish(f"{GATEWAY}/cmd/replay", b'{"cmd": "R-1", "eq": null, "from_seq": 1, "to_seq": 1}')
            assert await final(mes, f"{GATEWAY}/res/replay", "R-1") == "done"
            await eventually(lambda: forces(screen, UNIT)[-1:] == [450], "what the press has now", LONG)
        await eventually(lambda: "offline" in str(told(screen, f"{GATEWAY}/status")[-1]), "its goodbye", LONG)
    assert {"equipment.state", "param.result"} <= {topic.rpartition("/")[2] for topic, _, _ in screen.heard}
    assert not any("/cmd/" in topic for topic, _, _ in screen.heard)
    for complaint in ("quarantined", "refuse", "broker lost"):
        assert complaint not in process.log
    record_property("figure", f"MQTT {protocol}: events, tel, now, status, answers, commands at 3 levels; 0 refused")


async def test_r05_what_may_not_be_written_is_told_keeps_nobody_waiting_and_comes_when_it_may(
    shipped: ShippedMosquitto, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """S9: mosquitto answers 135 to the topics of a line that was forgotten in the rights."""
    forgotten = f"{SITE}/PACK/L3/PRESS3"
    with Party(shipped, "mes", "mfg/#") as mes:
        async with running(tmp_path, shipped, mes, more=FORGOTTEN) as (_, press):
            put_aside = f"{GATEWAY}/evt/gateway.quarantined"
            await eventually(lambda: bool(told(mes, put_aside)), "what was put aside is told", LONG)
            await press.set(1, 7)
            await eventually(lambda: forces(mes, UNIT) == [0, 7], "the others flow", LONG)
            assert forces(mes, forgotten) == []
            data = told(mes, put_aside)[0]["data"]
            assert (data["topic"], data["reason"]) == (f"{forgotten}/tel", "the broker refused it: Not authorized")
            assert data["messages"] == 1

            shipped.allow("edge-01", f"topic write {forgotten}/#")
            mes.publish(f"{GATEWAY}/cmd/quarantine.retry", b'{"cmd": "Q-1"}')
            assert await final(mes, f"{GATEWAY}/res/quarantine.retry", "Q-1") == "done"
            await eventually(lambda: forces(mes, forgotten) == [0], "what was put aside", LONG)
    assert [batch["seq"] for batch in told(mes, f"{forgotten}/tel")] == [1]
    async with Store(tmp_path / "gateway.db", new_epoch="unused") as store:
        counted = store.statistics
    assert (counted.quarantined, counted.queued, counted.acknowledged) == (0, 0, counted.ingested)
    record_property("figure", "1 of 1 put aside, told, and sent when it might be; the others were not held up")


@pytest.mark.parametrize(("protocol", "connections", "reason"), TOO_LARGE)
async def test_r06_what_is_too_large_for_the_broker_does_not_stop_what_is_behind_it(
    shipped: ShippedMosquitto,
    tmp_path: Path,
    protocol: str,
    connections: int,
    reason: str,
    record_property: Callable[[str, object], None],
) -> None:
    """The first message of all is too large. MQTT 5 says so beforehand; before MQTT 5 mosquitto hangs up (trap C5)."""
    shipped.restart("max_packet_size 2000")
    with Party(shipped, "mes", "mfg/#") as mes, Stopwatch() as watch:
        async with running(tmp_path, shipped, mes, protocol, WIDE) as (process, press):
            await press.set(50, 7)
            await eventually(lambda: 7 in forces(mes, f"{SITE}/PACK/L1/WIDE"), "what came behind it", LONG)
            took = watch.seconds
            put_aside = f"{GATEWAY}/evt/gateway.quarantined"
            await eventually(lambda: bool(told(mes, put_aside)), "what was put aside is told", LONG)
    data = told(mes, put_aside)[0]["data"]
    assert (data["topic"], data["messages"]) == (f"{SITE}/PACK/L1/WIDE/tel", 1)
    assert reason in data["reason"]
    assert process.log.count("broker connected") == connections
    assert [batch["seq"] for batch in told(mes, f"{SITE}/PACK/L1/WIDE/tel") if batch["rows"]] == [2]
    assert took < 10
    record_property(
        "figure", f"MQTT {protocol}: put aside after {connections} connections, the next row at {took:.1f} s"
    )
