"""What holds now is there at every broker: also at one that was killed before it saved, and at one that never had it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.runtime import delivery
from gateway.store.schema import StoreFull
from tests.brokers import Consumer, Mosquitto, eventually
from tests.runtime.test_broker_link import eventually_sent, uplink

TOPICS = {f"now/{number:03}": b"%d" % number for number in range(500)}
"""More than a window, and more than are read at once."""

CHANGED = {topic: b"new" + payload for topic, payload in TOPICS.items()}


async def test_a_broker_that_forgot_what_holds_now_is_told_all_of_it_once(mosquitto: Mosquitto, tmp_path: Path) -> None:
    async with uplink(tmp_path, mosquitto.port) as up:
        await up.put(retained=TOPICS)
        await eventually_sent(up)
        mosquitto.kill()  # it never saved
        mosquitto.start()
        with Consumer(mosquitto.port, "now/#") as consumer:
            await eventually(lambda: len(consumer.messages) >= len(TOPICS), "all of it")
            await up.put(retained=CHANGED)
            await eventually(lambda: len(consumer.messages) >= 2 * len(TOPICS), "what changed since")
            await eventually_sent(up)
        heard = [(message.topic, message.payload) for message in consumer.messages]
        assert sorted(heard) == sorted([*TOPICS.items(), *CHANGED.items()]), "each once"
        with Consumer(mosquitto.port, "now/#") as later:
            await eventually(lambda: len(later.messages) == len(TOPICS), "what holds now")
            assert {message.topic: message.payload for message in later.messages} == CHANGED


async def test_what_a_broker_refused_is_tried_again_at_the_next_connect(mosquitto: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic read #\n")
    mosquitto.restart(f"acl_file {tmp_path / 'acl'}")
    async with uplink(tmp_path, mosquitto.port) as up:
        await up.put(retained={"now/state": b"1"})
        await eventually_sent(up)
        mosquitto.restart()
        with Consumer(mosquitto.port, "now/#") as consumer:
            await eventually(lambda: consumer.payloads() == [b"1"], "what was refused")


async def test_a_full_disk_while_a_broker_refuses_what_holds_now_is_waited_for(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "DISK_FULL_PAUSE", 0.01)
    (tmp_path / "acl").write_text("topic read #\n")
    mosquitto.restart(f"acl_file {tmp_path / 'acl'}")
    tries = 0
    async with uplink(tmp_path, mosquitto.port) as up:
        note = up.store.mark_retained_sent

        async def has_room_at_the_third_try(rows: Sequence[tuple[str, int]]) -> None:
            nonlocal tries
            tries += bool(rows)
            if rows and tries < 3:
                raise StoreFull("no space left on device")
            await note(rows)

        monkeypatch.setattr(up.store, "mark_retained_sent", has_room_at_the_third_try)
        await up.put(retained={"now/state": b"1"})
        await eventually_sent(up)
        assert not up.running.done()
    assert tries == 3
