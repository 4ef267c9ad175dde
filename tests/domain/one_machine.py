"""One machine behind Modbus, configured by the YAML that a test writes; its values are shown to the core directly."""

from pathlib import Path

from gateway.config.load import load_plant
from gateway.config.plant import Plant
from gateway.domain.state.states import Observation, observe
from gateway.domain.times import format_timestamp
from gateway.domain.values import Value
from tests.stage import Stage

HEAD = """\
gateway: {id: edge-01, site: ACME/HZ}
mqtt: {client_id: edge-01}
devices:
  M1: {driver: modbus, host: 127.0.0.1}
equipment:
  ACME/HZ/PACK/L1/M1:
    device: M1
"""


def plant_of(folder: Path, body: str) -> Plant:
    """The plant whose only equipment M1 is `body`, the YAML below `device:`, indented by four."""
    (folder / "plant.yaml").write_text(HEAD + body, encoding="utf-8")
    return load_plant(folder)


def machine(folder: Path, body: str) -> Stage:
    """A stage with that plant, connected at 06:00:00."""
    stage = Stage(plant_of(folder, body))
    stage.beating = False
    stage.connect("M1", "06:00:00")
    return stage


def tags(**types: str) -> str:
    """A `tags:` section of registers one after the other."""
    text = "    tags:\n"
    for number, (name, kind) in enumerate(types.items()):
        words = {"string": 8, "int32": 2, "uint32": 2, "float32": 2, "float64": 4}.get(kind, 1)
        registers = f"{number * 10}-{number * 10 + words - 1}" if words > 1 else f"{number * 10}"
        extra = ", bits: 0" if kind == "bool" else ""
        text += f"      {name}: {{register: {registers}, type: {kind}{extra}}}\n"
    return text


def shown(stage: Stage, **values: Value) -> Observation:
    """What the state rules say when the machine shows these values; None is a Bad one."""
    (equipment,) = stage.core.equipment.values()
    assert equipment.spec.state is not None
    inputs = equipment.inputs
    for slot, name in enumerate(inputs.names):
        inputs.values[slot] = values.get(name)
        inputs.statuses[slot] = 0 if values.get(name) is not None else 0x80000000
    return observe(equipment.spec.state, inputs, 0)


def rows(stage: Stage) -> list[tuple[str, str, Value, int]]:
    """(time of day, name, value, status) of every run parameter told, in the order told."""
    return [
        (format_timestamp(batch.start + row.offset)[11:23].removesuffix(".000"), batch.names[row.name], row.value,
         getattr(row, "status_code", 0))
        for batch in stage.telemetry for row in batch.rows
    ]  # fmt: skip
