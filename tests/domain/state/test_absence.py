"""What changed while the gateway was away is dated by the stamp of the device, if that lies in the absence."""

from gateway.domain.values import Batch, TagChange, Value
from tests.stage import FIL01, Stage, at

PATH = "ACME/HZ/PACK/L1/FIL01"


def running() -> Stage:
    stage = Stage()
    stage.start_line()
    stage.dispatch("4711", qty=1000)
    stage.core.equipment[PATH].orders.arm("4711", "PS", "C")
    stage.show("FIL01", "06:10:00", state=6)
    stage.hear("FIL01", "06:10:10")
    return stage


def come_back(stage: Stage, clock: str, stamp: str, **shown: Value) -> None:
    """A new session whose values have the stamps of their last change: `stamp` for what is shown, else 05:30."""
    stage.connect("FIL01", clock)
    values = {**FIL01, "state": 6, **shown}
    changes = [
        TagChange(f"FIL01.{name}", value, 0, at(stamp) if name in shown else at("05:30:00"))
        for name, value in values.items()
    ]
    changes.append(TagChange("FIL01.heartbeat", True, 0, stage.now - 500))
    stage.core.handle_changes("FIL01", Batch(changes, stage.now), stage.now)
    stage.commit()


def test_a_stop_in_a_short_absence_began_when_the_plc_says() -> None:
    stage = running()
    stage.kill_and_restart("06:10:24")
    come_back(stage, "06:10:25", "06:10:17", state=11, stop_reason=2107)
    assert stage.states("FIL01")[-2:] == [("06:10:00", "RUN"), ("06:10:17", "DOWN")]


def test_a_long_absence_is_unknown_until_the_change_that_the_plc_dates() -> None:
    stage = running()
    stage.kill_and_restart("06:15:00")
    come_back(stage, "06:15:02", "06:13:00", state=11, stop_reason=2107)
    assert stage.states("FIL01")[-2:] == [("06:10:10", "UNKNOWN"), ("06:13:00", "DOWN")]
    assert stage.told("equipment.state", "FIL01")[-2][1]["cause"] == "GATEWAY_DOWN"


def test_a_state_that_is_older_than_the_absence_holds_since_the_contact() -> None:
    """Nobody knows whether it held all the time; and the heartbeat's stamp proves nothing."""
    stage = running()
    stage.kill_and_restart("06:15:00")
    come_back(stage, "06:15:02", "05:30:00", state=6)
    assert stage.states("FIL01")[-2:] == [("06:10:10", "UNKNOWN"), ("06:15:02", "RUN")]


def test_an_order_that_began_in_the_absence_began_when_the_machine_did() -> None:
    stage = Stage()
    stage.start_line()
    stage.dispatch("4711", qty=1000)
    stage.core.equipment[PATH].orders.arm("4711", "PS", "C")
    stage.hear("FIL01", "06:09:00")
    stage.kill_and_restart("06:12:00")
    come_back(stage, "06:12:01", "06:10:00", state=6)
    stage.show("FIL01", "06:12:30", processed=150)
    stage.hear("FIL01", "06:14:00")
    assert [clock for clock, _ in stage.told("order.started", "FIL01")] == ["06:10:00"]
    assert stage.counted("FIL01", "4711", "produced") == 50
