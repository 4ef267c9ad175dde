"""Run parameters as they leave: one row per value, in messages that are numbered for ever."""

import math
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.load import load_plant
from gateway.domain.contract.envelope import NAMESPACE, FlaggedRow, Row, _uuid5
from gateway.domain.values import Batch, StatusCode, TagChange
from tests.stage import Stage, at

PLANT = """\
gateway: {id: edge-01, site: ACME/HZ}
mqtt: {client_id: edge-01}
devices:
  PRESS: {driver: opcua, url: "opc.tcp://127.0.0.1:4840", namespace: "urn:press", security: none}
equipment:
  ACME/HZ/A/L1/PRESS:
    device: PRESS
    tags:
      force: {node: s=force, type: float64, publish: true}
      path:  {node: s=path, type: float64, publish: true}
"""
NOON = at("12:00:00")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "plant.yaml").write_text(PLANT, encoding="utf-8")
    stage = Stage(load_plant(tmp_path), "12:00:00")
    stage.connect("PRESS")
    return stage


def tell(stage: Stage, *changes: tuple[str, object, int, int | None]) -> None:
    """Values with their status and their own time; they arrive at noon."""
    told = [TagChange(f"PRESS.{name}", value, status, stamp) for name, value, status, stamp in changes]
    stage.core.handle_changes("PRESS", Batch(told, NOON), NOON)
    stage.commit()


def test_a_value_has_its_own_time_and_one_that_is_missing_or_cannot_be_is_the_contact(stage: Stage) -> None:
    hours = 8 * 3_600_000
    tell(stage, ("force", 1.0, 0, NOON - 40), ("force", 2.0, 0, NOON + hours), ("path", 3.0, 0, None))
    (message,) = stage.telemetry
    assert (message.start, message.names) == (NOON - 40, ["force", "path"])
    assert message.rows == [Row(0, 0, 1.0), Row(40, 0, 2.0), Row(40, 1, 3.0)]


def test_the_first_time_of_a_message_is_never_that_of_a_wrong_clock(stage: Stage) -> None:
    tell(stage, ("force", 1.0, 0, NOON + 8 * 3_600_000))
    (message,) = stage.telemetry
    assert (message.start, message.rows) == (NOON, [Row(0, 0, 1.0)])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_told_as_bad_and_without_a_value(stage: Stage, value: float) -> None:
    tell(stage, ("force", value, 0, NOON), ("path", None, StatusCode.BAD_DEVICE_FAILURE, NOON))
    (message,) = stage.telemetry
    assert message.rows == [
        FlaggedRow(0, 0, None, StatusCode.BAD_OUT_OF_RANGE),
        FlaggedRow(0, 1, None, StatusCode.BAD_DEVICE_FAILURE),
    ]


def test_messages_are_numbered_without_a_gap_over_a_restart(stage: Stage) -> None:
    tell(stage, ("force", 1.0, 0, NOON))
    tell(stage, ("force", 2.0, 0, NOON))
    stage.kill_and_restart("12:00:01")
    stage.connect("PRESS")
    tell(stage, ("force", 3.0, 0, NOON))
    assert [message.seq for message in stage.telemetry] == [1, 2, 3]


@given(st.text())
def test_an_event_id_is_the_uuid_of_version_5_that_others_make_of_it(name: str) -> None:
    assert _uuid5(name) == str(uuid.uuid5(NAMESPACE, name))
