"""Orders that follow another machine: what went in there comes out here a transit time later."""

from pathlib import Path

import pytest

from gateway.config.load import load_plant
from gateway.config.problems import ConfigError
from tests.stage import Stage

LINE = """\
gateway: {{id: edge-01, site: ACME/HZ}}
mqtt: {{client_id: edge-01}}
devices:
  FIL: {{driver: modbus, host: 127.0.0.1}}
  CAP: {{driver: modbus, host: 127.0.0.1, unit_id: 2}}
equipment:
  ACME/HZ/PACK/L1/FIL:
    device: FIL
    tags: {{order: {{register: 0-7, type: string}}, made: {{register: 10-11, type: uint32}}}}
    counters: {{good: {{tag: made, max: 4294967295, max_rate: 10/s}}}}
    order: {{from: tag, tag: order, operation: "10"}}
  ACME/HZ/PACK/L1/CAP:
    device: CAP
    tags: {{made: {{register: 10-11, type: uint32}}}}
    counters: {{good: {{tag: made, max: 4294967295, max_rate: 10/s}}}}
    order: {{from: {upstream}, transit: 90s, operation: "20"}}
"""


def line(folder: Path, upstream: str = "FIL") -> Stage:
    (folder / "plant.yaml").write_text(LINE.format(upstream=upstream), encoding="utf-8")
    stage = Stage(load_plant(folder))
    stage.beating = False
    for device in ("FIL", "CAP"):
        stage.connect(device, "06:00:00")
    stage.show("FIL", "06:00:00", order="", made=0)
    stage.show("CAP", "06:00:00", made=0)
    return stage


def test_an_order_arrives_and_leaves_a_transit_time_later(tmp_path: Path) -> None:
    stage = line(tmp_path)
    stage.show("FIL", "06:10:00", order="A")
    stage.show("FIL", "06:20:00", order="")
    stage.hear("CAP", "06:25:00")
    started = [(e.equipment, e.order and e.order.op, clock) for e in stage.events if e.type == "order.started" for clock, _ in stage.told("order.started", (e.equipment or "")[-3:])]  # fmt: skip
    assert started == [("ACME/HZ/PACK/L1/FIL", "10", "06:10:00"), ("ACME/HZ/PACK/L1/CAP", "20", "06:11:30")]
    assert [clock for clock, _ in stage.told("order.completed", "CAP")] == ["06:21:30"]


def test_pieces_in_transit_at_a_change_go_to_the_old_order(tmp_path: Path) -> None:
    stage = line(tmp_path)
    stage.show("FIL", "06:10:00", order="A")
    stage.show("CAP", "06:11:30", made=4)
    stage.show("FIL", "06:20:00", order="B")
    for clock, made in (("06:20:30", 500), ("06:21:30", 560), ("06:21:31", 561), ("06:25:00", 700)):
        stage.show("CAP", clock, made=made)
    stage.hear("CAP", "06:26:00")
    assert {order: stage.counted("CAP", order, "good") for order in (None, "A", "B")} == {None: 4, "A": 556, "B": 140}
    assert {flag for _, d in stage.told("production.count", "CAP") for flag in d["flags"]} == set()


def test_a_scan_over_the_moment_of_the_change_is_flagged(tmp_path: Path) -> None:
    stage = line(tmp_path)
    stage.show("FIL", "06:10:00", order="A")
    stage.show("CAP", "06:15:00", made=100)
    stage.show("FIL", "06:20:00", order="B")
    stage.show("CAP", "06:21:25", made=500)
    stage.show("CAP", "06:21:35", made=510)
    stage.hear("CAP", "06:23:00")
    flags = [(d["delta"], d["flags"]) for _, d in stage.told("production.count", "CAP")]
    assert flags[-1] == (10, ("estimated",))


def test_the_plan_survives_a_kill(tmp_path: Path) -> None:
    stage = line(tmp_path)
    stage.show("FIL", "06:10:00", order="A")
    stage.kill_and_restart("06:10:30")
    for device, shown in (("FIL", {"order": "A", "made": 0}), ("CAP", {"made": 0})):
        stage.connect(device, "06:10:35")
        stage.show(device, "06:10:35", **shown)  # type: ignore[arg-type]
    stage.show("CAP", "06:12:00", made=20)
    stage.hear("CAP", "06:13:00")
    assert [clock for clock, _ in stage.told("order.started", "CAP")] == ["06:11:30"]
    assert stage.counted("CAP", "A", "good") == 20


@pytest.mark.parametrize(("upstream", "says"), [
    ("FILL", "11: equipment > ACME/HZ/PACK/L1/CAP > order > from: FILL is none of download, tag and command, nor one of the units FIL, CAP"),
    ("CAP", "goes in a circle: CAP gets its orders from itself in the end"),
    ("tag", "transit: has no meaning with from: tag"),
])  # fmt: skip
def test_an_upstream_that_cannot_be_is_named_with_its_line(tmp_path: Path, upstream: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        line(tmp_path, upstream)
    assert says.split(": ", 1)[-1] in str(refused.value)
    assert "plant.yaml:16" in str(refused.value)
