"""A machine that is taken out of the YAML, or renamed, leaves nothing behind that holds for ever."""

from pathlib import Path

from gateway.mqtt.topics import Topics
from gateway.runtime.departed import clear_departed
from gateway.store.records import Transaction
from gateway.store.store import Store
from tests.brokers import Consumer, Mosquitto, eventually
from tests.drivers.modbus_devices import device
from tests.runtime.pressed import LONG, UNIT, gateway

NOW = f"{UNIT}/now/params"


async def test_what_holds_now_is_cleared_when_its_machine_is_renamed_and_not_before(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    async with device() as press:
        await press.set(0, 1)
        async with gateway(tmp_path, mosquitto.port, press.port) as mes:
            assert (await mes.download("C1", force=450))["answer"] == "done"
            await eventually(lambda: bool(mes.told(NOW)), "what it works with", LONG)
        async with gateway(tmp_path, mosquitto.port, press.port):
            assert await holds_now(mosquitto)
        async with gateway(tmp_path, mosquitto.port, press.port, lambda text: text.replace("L1/PRESS:", "L1/PRESS2:")):
            pass
    assert not await holds_now(mosquitto)


async def holds_now(mosquitto: Mosquitto) -> bool:
    """Whether the broker has anything retained of the press, for whoever comes now."""
    with Consumer(mosquitto.port) as later:
        later.publish("behind all that is retained", b"")
        await eventually(lambda: bool(later.payloads("behind")), "what is retained", LONG)
        return bool(later.payloads(NOW))


async def test_of_many_machines_those_that_are_gone_are_cleared_once(tmp_path: Path) -> None:
    topics = Topics("mfg/v1", "ACME/HZ", "edge-01")
    paths = [f"ACME/HZ/A/L1/M{number:03}" for number in range(500)]
    async with Store(tmp_path / "record.db", new_epoch="e") as store:
        await store.commit(Transaction(retained={topics.retained(path, "state"): b"{}" for path in paths}))
        for _ in range(2):
            await clear_departed(store, topics, paths[::2])
            rows = await store.retained("", 1_000)
            assert [bool(row.payload) for row in rows] == [True, False] * 250
            assert [row.version for row in rows] == [1, 2] * 250, "a second time there is nothing to do"
