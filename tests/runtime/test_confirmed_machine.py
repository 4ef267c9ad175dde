"""A machine in doubt, behind a real Modbus server and a real broker: params.confirm reads it and releases it."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.brokers import Mosquitto, eventually
from tests.drivers.modbus_devices import device
from tests.runtime.pressed import LONG, UNIT, audited, gateway


def silent(text: str) -> str:
    """The same press with a handshake that it never answers, and nothing that shows what it works with."""
    tags = "      ready: {register: 5, table: coil, type: bool}\n      echo: {register: 6, table: coil, type: bool}\n"
    handshake = "      handshake: {type: data_ready, ready: ready, echo: echo, done_timeout: 300ms, poll: 50ms}\n"
    return text.replace("    download:\n", f"{tags}    download:\n{handshake}")


async def test_a_press_in_doubt_is_read_and_released_on_a_persons_word_and_nothing_is_written(
    mosquitto: Mosquitto, tmp_path: Path, record_property: Callable
) -> None:
    async with device() as press:
        for register, value in ((0, 1), (1, 300), (3, 40)):
            await press.set(register, value)
        async with gateway(tmp_path, mosquitto.port, press.port, silent) as mes:
            failed = await mes.download("C1", force=450, speed=60)
            assert (failed["answer"], failed["codes"]) == ("failed", ["done_timeout", "rollback_failed"])
            await press.set(1, 333)  # a person has set it at the machine
            written = len(press.writes)
            body = {"cmd": "K-1", "eq": "PRESS", "by": "op17"}
            mes.consumer.publish(f"{UNIT}/cmd/params.confirm", json.dumps(body).encode())
            done = await mes.final("K-1")
            assert (done["answer"], done["detail"]) == ("done", ["force is 333", "speed is 40"])
            cleared = f"{UNIT}/evt/alarm.cleared"
            await eventually(lambda: bool(mes.told(cleared)), "the end of the alarm", LONG)
            assert mes.told(cleared)[0]["data"]["code"] == "ROLLBACK_FAILED"
            assert len(press.writes) == written
        last = audited(tmp_path)[-1]
        assert (last.kind, last.cmd, last.by, last.result) == ("verdict", "K-1", "op17", "done")
        assert [(item.tag, item.read_back) for item in last.changes] == [("force", 333), ("speed", 40)]
    record_property("figure", "0 writes, 2 of 2 values told, 1 alarm cleared, 1 line in the audit")
