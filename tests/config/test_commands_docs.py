"""docs/commands.md names every command with its keys and every code that one can be answered with; its keys work."""

import re
from pathlib import Path

import pytest

from gateway.config.load import load_plant
from gateway.domain.contract.requests import COMMAND_TYPES
from gateway.domain.writing.parameter_classes import STATES
from tests.stage import ROOT

DOCS = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
MODULES = (
    "dispatch", "order_changes", "releases", "set_conditions", "supply", "holds", "master_data", "parameter_classes",
    "preconditions", "downloads", "confirmations",
)  # fmt: skip
ELSEWHERE = {"unreadable", "no_order"}
"""Codes of docs/downloads.md and docs/job_control.md."""


@pytest.mark.parametrize("kind", COMMAND_TYPES)
def test_every_command_is_there_with_its_keys(kind: str) -> None:
    rows = [line for line in DOCS.splitlines() if line.startswith("| `") and f"`{kind}`" in line.split("|")[1]]
    assert rows, f"{kind} is not in docs/commands.md"
    keys = set(COMMAND_TYPES[kind].__struct_fields__) - {"cmd", "corr", "valid_until", "eq"}
    assert [key for key in sorted(keys) if f"`{key}`" not in rows[0]] == []


def test_every_code_is_explained() -> None:
    files = {file.stem: file for file in (ROOT / "gateway" / "domain").rglob("*.py")}
    sources = [files[name].read_text(encoding="utf-8") for name in MODULES]
    codes = {code for source in sources for code in re.findall(r'Objection\(\s*"(\w+)"', source)}
    assert len(codes) > 30
    assert [code for code in sorted(codes - ELSEWHERE) if f"`{code}`" not in DOCS] == []


def test_every_class_is_explained_with_its_states() -> None:
    for name, states in STATES.items():
        (shown,) = re.findall(rf"^\| `{name}` \| [^|]+ \| ([^|]+) \|$", DOCS, re.MULTILINE)
        wanted = {str(state) for state in states if state is not None}
        assert shown == "every state" if name == "trim" else {*shown.split(", ")} == wanted


def test_the_keys_of_the_download_section_work_as_they_stand_there(tmp_path: Path) -> None:
    keys = re.findall(r"^\| `((?:released_only|order_tag|format): [^`]+)` \|", DOCS, re.MULTILINE)
    assert len(keys) == 3
    (tmp_path / "plant.yaml").write_text(PLANT + "".join(f"      {key}\n" for key in keys), encoding="utf-8")
    (spec,) = load_plant(tmp_path).equipment
    assert spec.download is not None
    assert (spec.download.released_only, spec.download.order_slot, spec.download.format_slot) == (True, 1, 2)
    assert spec.download.formats == {"PS-P330-LBL": 2, "PS-P500-LBL": 3}


PLANT = """\
gateway: {id: edge-01, site: ACME/HZ}
mqtt: {client_id: edge-01}
devices:
  M1: {driver: modbus, host: 127.0.0.1}
equipment:
  ACME/HZ/PACK/L1/M1:
    device: M1
    tags:
      oven: {register: 0, type: uint16}
      current_order: {register: 10-17, type: string}
      format_no: {register: 20, type: uint16}
    download:
      parameters: {oven: {tag: oven, min: 0, max: 300}}
"""
