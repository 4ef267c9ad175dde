"""From the wire to the state: a device of which some tags are asked every second, some every ten, some every minute."""

import asyncio
from pathlib import Path

from clocks import ManualClock
from modbus_devices import liar
from modbus_memory import Memory

from gateway.config.load import load_plant
from gateway.drivers.modbus.driver import ModbusDriver
from tests.domain.tags.test_contacts import PLANT
from tests.stage import Stage, at


async def test_a_press_runs_while_its_slow_heartbeat_beats_and_is_unknown_when_it_stands_still(tmp_path: Path) -> None:
    memory = Memory()
    memory.registers[0] = 1
    async with liar(memory) as plc:
        text = PLANT.replace("RULES\n", "").replace(
            "host: 127.0.0.1", f"host: 127.0.0.1, port: {plc.port}, timeout: 10s"
        )
        (tmp_path / "plant.yaml").write_text(text, encoding="utf-8")
        plant, clock = load_plant(tmp_path), ManualClock(at("06:00:00"))
        stage, device = Stage(plant), plant.devices["P1"]
        stage.connect("P1", "06:00:00")
        async with ModbusDriver("P1", device.settings, device.tags, clock) as press:
            batches = press.changes()
            for second in range(61):
                polling = asyncio.ensure_future(anext(batches))
                if second:
                    await clock.advance(1)
                stage.now = clock.now()
                stage.core.handle_changes("P1", await polling, stage.now)
                stage.core.handle_deadline(stage.now)
                stage.commit()
                memory.registers[2] = min(second, 30)
                if second == 49:
                    assert stage.states("P1") == [("06:00:00", "RUN")], "the last beat was seen at 06:00:40"
    assert stage.states("P1") == [("06:00:00", "RUN"), ("06:00:40", "UNKNOWN")]
    asked = [pdu for pdu in memory.asked if pdu == "0300000001"]
    assert (len(asked), len(memory.asked)) == (54, 61), "every second one request, the groups due at once share it"
