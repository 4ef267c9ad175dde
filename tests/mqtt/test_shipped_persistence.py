"""What a SIGKILL of the shipped broker takes back, for a consumer that is away; and how he gets it after all."""

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.brokers import eventually, until
from tests.shipped_gateway import GATEWAY, LONG, SITE, UNIT, final, running, told
from tests.shipped_mosquitto import Party, ShippedMosquitto

EVENTS: Final = f"{UNIT}/evt/equipment.state"
NUMBERS: Final = f"{GATEWAY}/evt/x"
SAVED: Final = 4
LOST: Final = 6
"""Events, before and after mosquitto saves its sessions."""


@pytest.mark.case("R07")
async def test_what_a_killed_broker_forgot_shows_at_the_next_birth_and_is_replayed(
    shipped: ShippedMosquitto, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """As docs/uplink.md says it. The save is asked for here; as shipped it is every ten seconds."""
    shipped.restart("autosave_interval 3600")
    with Party(shipped, "mes", "mfg/#", session="mes"):
        pass  # and is away from now on
    with Party(shipped, "dashboard", "mfg/#") as awake:
        async with running(tmp_path, shipped, awake) as (_, press):
            for number in range(2, SAVED + LOST + 1):  # the first one is RUN
                await press.set(0, number % 2)
                await eventually(lambda n=number: len(awake.heard_on(EVENTS)) == n, "the next event", LONG)
                if number == SAVED:
                    shipped.save()
            truth = awake.heard_on(EVENTS)
            with Party(shipped, "mes") as asker:
                asker.publish(f"{SITE}/cmd/quality.release", b'{"cmd": "Q-1"}')
            await final(awake, f"{SITE}/res/quality.release", "Q-1")  # so it has read its acknowledgements, too
            shipped.kill()
            shipped.start()
            with Party(shipped, "mes", "mfg/#", session="mes") as mes:
                await eventually(lambda: bool(told(mes, f"{GATEWAY}/evt/gateway.birth")[1:]), "the next birth", LONG)
                (last,) = told(mes, f"{GATEWAY}/evt/gateway.birth")[-1]["data"]["equipment"]
                had = [json.loads(payload)["seq"] for payload in mes.heard_on(EVENTS)]
                assert (had, last["seq"]) == ([*range(1, SAVED + 1)], SAVED + LOST), "a hole at the end"
                ask = {"cmd": "R-1", "eq": last["eq"], "from_seq": SAVED + 1, "to_seq": last["seq"]}
                mes.publish(f"{GATEWAY}/cmd/replay", json.dumps(ask).encode())
                assert await final(mes, f"{GATEWAY}/res/replay", "R-1") == "done"
                assert mes.heard_on(EVENTS) == truth
    record_property(
        "figure", f"SIGKILL of the broker: {LOST} of {SAVED + LOST} events forgotten, 0 missing after replay"
    )


@pytest.mark.case("R07")
@pytest.mark.skipif(not os.environ.get("FULL"), reason="waits for two of mosquitto's saves; FULL=1 does")
def test_a_kill_takes_back_no_more_than_since_the_last_save(
    shipped: ShippedMosquitto, record_property: Callable[[str, object], None]
) -> None:
    """Nothing of the shipped file changed: it saves every ten seconds, and is killed shortly before."""
    with Party(shipped, "mes", "mfg/#", session="mes"):
        pass
    published: list[float] = []
    with Party(shipped, "edge-01") as gateway:
        shipped.database.unlink(missing_ok=True)
        end = math.inf
        while not published or published[-1] < end:
            gateway.publish(NUMBERS, b"%d" % len(published))
            published.append(time.monotonic())
            if end == math.inf and shipped.database.exists():
                end = published[-1] + 9.5
        shipped.kill()
        shipped.start()
    with Party(shipped, "mes", "mfg/#", session="mes") as mes, Party(shipped, "edge-01") as gateway:
        gateway.publish(NUMBERS, b"last")
        until(lambda: mes.heard_on(NUMBERS)[-1:] == [b"last"], "everything that was saved")
    *kept, _ = mes.heard_on(NUMBERS)
    assert kept == [b"%d" % number for number in range(len(kept))]
    lost = published[-1] - published[len(kept)]
    assert lost < 11
    record_property("figure", f"SIGKILL of the broker just before a save: the last {lost:.1f} s forgotten, none before")
