"""The sections `tools`, `scans`, `materials: lot` and `container: sscc_prefix`."""

from pathlib import Path

import pytest

from gateway.config.load import load_plant
from gateway.domain.consumption.genealogy import ScanSpec
from gateway.domain.consumption.tools import ToolSpec
from tests.config.test_check import DEVICE, GATEWAY, problems

MACHINE = """\
equipment:
  ACME/HZ/A/L1/M1:
    device: M1
    tags:
      strokes: {register: 0, type: uint16}
      serial: {register: 1-4, type: string}
      seq: {register: 5, type: uint16}
      lot: {register: 6-9, type: string}
    counters: {produced: {tag: strokes, max: 65535, max_rate: 5/s}}
    tools: {KNIFE-3: {counter: produced, serial: serial, limit: 50000, thresholds: [98, 90], spare: SP-7781}}
    scans: {neck: {trigger: seq, child: serial, relation: assembled}}
    materials: {CAP: {counter: produced, capacity: 1000, low: 10, lot: lot}}
    container: {sequence: seq, quantity: strokes, sscc_prefix: "34012345"}
"""


def test_tools_scanners_lots_and_codes_reach_the_domain(tmp_path: Path) -> None:
    (tmp_path / "plant.yaml").write_text(GATEWAY + DEVICE + MACHINE, encoding="utf-8")
    production = load_plant(tmp_path).equipment[0].production
    assert production.usage.tools == (
        ToolSpec("KNIFE-3", "produced", 1, 50_000, "pcs", (90.0, 98.0), "SP-7781"),
    )  # fmt: skip
    assert production.usage.scans == (ScanSpec("neck", 2, 1),)
    assert production.usage.materials[0].lot == 3
    assert production.container is not None
    assert (production.container.sscc, production.container.prefix) == (None, "34012345")


MISTAKES = {
    "a tool that nothing counts": ("{counter: produced, serial", "{counter: strokes, serial",
        "m.yaml:10: equipment > ACME/HZ/A/L1/M1 > tools > KNIFE-3 > counter: no such counter: strokes; the counters "
        "are: produced"),
    "a scanner without its tag": ("child: serial", "child: seriall",
        "m.yaml:11: equipment > ACME/HZ/A/L1/M1 > scans > neck > child: the tag 'seriall' is unknown; did you mean "
        "'serial'? The tags are: strokes, serial, seq, lot"),
    "a tool without limit": ("limit: 50000", "limit: 0",
        "m.yaml:10: equipment > ACME/HZ/A/L1/M1 > tools > KNIFE-3 > limit: input should be greater than 0 (it is 0)"),
    "a container without any code": (', sscc_prefix: "34012345"', "",
        "m.yaml:13: equipment > ACME/HZ/A/L1/M1 > container: give either sscc, the tag with the code, or sscc_prefix, "
        "extension digit and company prefix"),
}  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "says"), MISTAKES.values(), ids=MISTAKES)
def test_what_is_wrong_with_them_is_told_with_its_line(tmp_path: Path, right: str, wrong: str, says: str) -> None:
    assert right in MACHINE
    assert problems(tmp_path, m=MACHINE.replace(right, wrong), p=GATEWAY + DEVICE) == [says]
