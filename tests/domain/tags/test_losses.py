"""What a device lost or changed becomes one event each; a resumed link brings its own past."""

from gateway.domain.values import Batch, Drift, Gap, TagChange
from tests.stage import FIL01, Stage, at


def test_every_gap_is_one_event_that_says_when_why_and_how_much():
    stage = Stage()
    stage.start_line()
    stage.now = at("06:00:10")
    gaps = (
        Gap(at("06:00:05"), at("06:00:07"), "sequence", 12, notifications=3),
        Gap(at("06:00:05"), at("06:00:07"), "overflow", 12, tags=2, first=("FIL01.speed", "FIL01.state")),
        Gap(at("06:00:07"), at("06:00:09"), "session"),
    )
    stage.core.handle_changes("FIL01", Batch([], stage.now, gaps), stage.now)
    stage.commit()
    told = [
        (clock, data["cause"], data["from"][11:19], data["notifications"], data["tags"])
        for clock, data in stage.told("data.gap")
    ]
    assert told == [
        ("06:00:07", "sequence", "06:00:05", 3, None),
        ("06:00:07", "overflow", "06:00:05", None, 2),
        ("06:00:09", "session", "06:00:07", None, None),
    ]
    assert len({event.id for event in stage.events if event.type == "data.gap"}) == 3


def test_a_drift_is_one_event_with_what_was_and_what_is():
    stage = Stage()
    stage.start_line()
    drift = Drift("type", "FIL01.speed", "Int16", "Int32")
    stage.core.handle_changes("FIL01", Batch([], stage.now, drifts=(drift,)), stage.now)
    stage.commit()
    ((_, data),) = stage.told("tag.drift")
    assert data == {"device": "FIL01", "what": "type", "name": "FIL01.speed", "before": "Int16", "after": "Int32"}


def test_r08_a_resumed_link_brings_what_happened_meanwhile_at_its_own_time():
    stage = Stage()
    stage.start_line()
    stage.show("FIL01", "06:00:10", **{**FIL01, "state": 6})
    stage.hear("FIL01", "06:00:20")
    stage.disconnect("FIL01", "06:00:21")
    stage.now = at("06:00:24")
    stage.core.handle_link("FIL01", True, stage.now, stage.now, resumed=True)
    held = [TagChange("FIL01.state", 9, 0, at("06:00:22"))]
    stage.core.handle_changes("FIL01", Batch(held, at("06:00:22")), stage.now)
    stage.commit()
    stage.hear("FIL01", "06:00:40")
    assert stage.states("FIL01")[-2:] == [("06:00:10", "RUN"), ("06:00:22", "DOWN")]
