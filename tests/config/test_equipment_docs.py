"""Every piece of YAML in docs/equipment.md is right as it stands there, and what it lists is what there is."""

import re
from pathlib import Path
from textwrap import indent

import pytest

from gateway.config.load import load_plant
from gateway.domain.state.state_models import STATE_MODELS
from gateway.domain.tags.expressions import FUNCTIONS
from tests.stage import ROOT

DOCS = (ROOT / "docs" / "equipment.md").read_text(encoding="utf-8")
PIECES = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
PLANT = """\
gateway: {id: edge-01, site: ACME/HZ}
mqtt: {client_id: edge-01}
devices:
  M1: {driver: modbus, host: 127.0.0.1}
  S1: {driver: opcua, url: "opc.tcp://127.0.0.1:4840", namespace: urn:s1, security: none, alarm_conditions: true}
equipment:
  ACME/HZ/PACK/L1/X1:
    device: DEVICE
"""
TAGS = {
    "lanes": ("left", "right", "left_order", "right_order"),
    "state": ("StateCurrent", "word_17", "mode", "mode_word", "power_ok"),
    "alarms": (
        "alarm_word", "acked_word", "alarm_triggers", "alarm_ids", "alarm_texts", "alarm_categories", "alarm_acks"
    ),
}  # fmt: skip


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.partition(":")[0] + str(PIECES.index(piece)))
def test_a_piece_of_the_page_can_be_copied(tmp_path: Path, piece: str) -> None:
    kind = piece.partition(":")[0]
    text = PLANT.replace("DEVICE", "M1" if kind == "tags" else "S1")
    if kind != "tags":
        text += "    tags:\n" + "".join(f'      {name}: {{node: "s={name}", type: int32}}\n' for name in TAGS[kind])
    (tmp_path / "plant.yaml").write_text(text + indent(piece, "    "), encoding="utf-8")
    (spec,) = load_plant(tmp_path).equipment
    assert kind == "tags" or getattr(spec, kind) is not None


def test_every_model_every_role_and_every_function_is_listed() -> None:
    for model in STATE_MODELS.values():
        (row,) = [line for line in DOCS.splitlines() if line.startswith(f"| `{model.name}`")]
        assert [role.name for role in model.roles if f"`{role.name}`" not in row] == []
        assert [role.name for role in model.roles if role.is_required != (f"**`{role.name}`**" in row)] == []
    language = DOCS[DOCS.index("## Expressions") : DOCS.index("## Derived tags")]
    assert [name for name in FUNCTIONS if f"`{name}" not in language] == []
