"""What waits at the door is taken in together: one transaction, and one wait for the disk, for many commands."""

import asyncio
from pathlib import Path

import pytest

from gateway.mqtt.client import Incoming
from gateway.runtime.broker_link import GATHERED
from tests.brokers import Consumer, Mosquitto, eventually
from tests.runtime.test_broker_link import uplink


@pytest.mark.case("D3")
async def test_commands_that_wait_are_told_together_in_order_and_no_more_than_a_transaction_should_hold(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    taken: list[bytes] = []
    at_work: list[int] = [0]
    opened = asyncio.Event()

    async def take(incoming: Incoming) -> None:
        at_work.append(at_work[-1] + 1)
        taken.append(incoming.payload)
        await opened.wait()
        await asyncio.sleep(0)
        at_work.append(at_work[-1] - 1)

    sent = [b"%d" % number for number in range(2 * GATHERED + 1)]
    with Consumer(mosquitto.port, "nothing") as mes:
        async with uplink(tmp_path, mosquitto.port) as up:
            up.listener.handle_message = take  # type: ignore[method-assign]
            await up.is_told("connected")
            mes.publish("cmd/a", sent[0])
            await eventually(lambda: taken == sent[:1], "the first is being worked on")
            for payload in sent[1:]:
                await asyncio.to_thread(mes.publish, "cmd/a", payload)
            assert taken == sent[:1], "what comes meanwhile waits"
            opened.set()
            await eventually(lambda: len(taken) == len(sent), "all are taken")
            mes.publish("cmd/a", b"behind")
            await eventually(lambda: taken[-1] == b"behind", "those before it are acknowledged")
        async with uplink(tmp_path, mosquitto.port) as up:
            mes.publish("cmd/a", b"last")
            await eventually(lambda: up.listener.taken[-1:] == [b"last"], "the next link takes what is left")
            assert set(up.listener.taken) <= {b"behind", b"last"}, "what was acknowledged does not come again"
    assert taken == [*sent, b"behind"]
    assert 1 < max(at_work) <= GATHERED
