"""A Modbus device whose tags are polled at several intervals: what a poll says, and what it does not say."""

from pathlib import Path

import pytest

from gateway.config.load import load_plant
from gateway.domain.values import Batch, TagChange
from tests.stage import Stage, at

PLANT = """\
gateway: {id: edge-01, site: ACME/HZ}
mqtt: {client_id: edge-01}
devices:
  P1: {driver: modbus, host: 127.0.0.1, poll_interval: 1s}
equipment:
  ACME/HZ/A/L1/P1:
    device: P1
    tags:
      running:   {register: 0, type: uint16, bit: 0}
      guard:     {register: 1, type: uint16, poll_interval: 10s}
      heartbeat: {register: 2, type: uint16, poll_interval: 10s, heartbeat: 2s}
      energy:    {register: 8-9, type: uint32, poll_interval: 60s}
    state:
      debounce: 2s
      stale_after: 30s
      rules:
        - {to: UNKNOWN, when: "stale(heartbeat)"}
RULES
        - {to: RUN,  when: "running"}
        - {to: IDLE, when: "true"}
    energy: {tag: energy, kwh: 0.1, max: 4294967295}
"""
FAST = frozenset({"P1.running"})
SLOW = frozenset({"P1.guard", "P1.heartbeat"})
METER = frozenset({"P1.energy"})


class Press:
    """The press P1 on a stage; `poll` is one poll of some of its groups."""

    def __init__(self, folder: Path, guarded: bool = True) -> None:
        rule = '        - {to: DOWN, when: "guard == 1", debounce: 0s}' if guarded else ""
        (folder / "plant.yaml").write_text(PLANT.replace("RULES", rule), encoding="utf-8")
        self._stage = Stage(load_plant(folder))
        self._stage.connect("P1", "06:00:00")
        self.poll("06:00:00", FAST, SLOW, METER, running=1, guard=0, heartbeat=0, energy=0)

    def poll(self, clock: str, *groups: frozenset[str], **values: int) -> None:
        stage = self._stage
        stage.now = at(clock)
        changes = [TagChange(f"P1.{name}", value) for name, value in values.items()]
        stage.core.handle_changes("P1", Batch(changes, stage.now, polled=groups), stage.now)
        stage.core.handle_deadline(stage.now)
        stage.commit()

    def poll_fast(self, *seconds: int) -> None:
        """Every second the same as before."""
        for second in seconds:
            self.poll(f"06:{second // 60:02}:{second % 60:02}", FAST)

    @property
    def states(self) -> list[tuple[str, str]]:
        return self._stage.states("P1")


@pytest.fixture
def press(tmp_path: Path) -> Press:
    return Press(tmp_path)


def test_a_heartbeat_that_is_asked_for_every_ten_seconds_is_not_missed_in_between(press):
    press.poll_fast(*range(1, 10))
    press.poll("06:00:10", FAST, SLOW, heartbeat=1)
    press.poll_fast(*range(11, 20))
    assert press.states == [("06:00:00", "RUN")]


def test_a_heartbeat_that_stands_still_is_missed_at_its_own_poll(press):
    press.poll("06:00:10", FAST, SLOW, heartbeat=1)
    press.poll_fast(*range(11, 20))
    assert press.states == [("06:00:00", "RUN")]
    press.poll("06:00:20", FAST, SLOW)
    assert press.states == [("06:00:00", "RUN"), ("06:00:10", "UNKNOWN")]


def test_a_stop_is_settled_only_when_every_tag_of_its_rules_was_asked_again(press):
    press.poll("06:00:06", FAST, running=0)
    press.poll_fast(7, 8, 9)
    assert press.states == [("06:00:00", "RUN")], "two seconds have passed, but the guard is unknown since 06:00:00"
    press.poll("06:00:10", FAST, SLOW, heartbeat=1)
    assert press.states == [("06:00:00", "RUN"), ("06:00:06", "IDLE")]


def test_a_slow_group_holds_a_stop_up_for_five_seconds_at_most(press):
    press.poll("06:00:01", FAST, running=0)
    press.poll_fast(2, 3, 4, 5, 6, 7)
    assert press.states == [("06:00:00", "RUN")]
    press.poll_fast(8)
    assert press.states == [("06:00:00", "RUN"), ("06:00:01", "IDLE")], "from 06:00:03 + 5 s on the clock counts"


def test_a_meter_that_no_rule_uses_holds_nobody_up(press):
    press.poll("06:00:10", FAST, SLOW, running=0, heartbeat=1)
    press.poll("06:00:12", FAST, SLOW)
    assert press.states == [("06:00:00", "RUN"), ("06:00:10", "IDLE")], "the meter is polled at 06:01:00"


def test_a_device_that_answers_is_heard_however_seldom_some_of_it_is_asked(press):
    press.poll_fast(*range(1, 50))
    assert press.states == [("06:00:00", "RUN")], "the slow group is unknown for 49 s, the device silent for none"


def test_a_new_connection_is_known_from_its_first_poll_on(tmp_path):
    press = Press(tmp_path)
    press._stage.disconnect("P1", "06:00:05")
    press._stage.connect("P1", "06:00:08")
    press.poll("06:00:08", FAST, SLOW, METER, running=0, guard=0, heartbeat=5, energy=0)
    press.poll("06:00:10", FAST, SLOW)
    assert press.states == [("06:00:00", "RUN"), ("06:00:08", "IDLE")]
