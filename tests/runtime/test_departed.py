"""A machine that is taken out of the YAML, or renamed, leaves nothing behind that holds for ever."""

from pathlib import Path

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
