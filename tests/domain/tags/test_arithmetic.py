"""Raw to engineering and back, meters, limits: sums that one can check by hand."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.consumption.energy import EnergyMemory, EnergySpec, Meter, told
from gateway.domain.consumption.quality import Limits, SampleSpec, newest_subgroup
from gateway.domain.tags.conversion import Conversion, same_value, to_engineering, to_raw
from gateway.domain.tags.expressions import Inputs
from gateway.domain.times import format_timestamp, parse_duration, parse_timestamp, whole_seconds
from gateway.domain.values import DataType, TagChange
from tests.stage import LBL01, Stage, writes_of

TENTHS = Conversion(DataType.UINT16, scale=0.1)


def engineering(raw: Any, conversion: Conversion) -> Any:
    value, status = to_engineering(TagChange("t", raw), conversion)
    return value if status == 0 else f"0x{status:08X}"


@pytest.mark.parametrize(
    ("raw", "conversion", "value"),
    [
        (1751, TENTHS, 175.1),
        (1825, TENTHS, 182.5),
        (0.53, Conversion(DataType.FLOAT32, scale=10.0), 5.3),
        (21.3, Conversion(DataType.FLOAT64, scale=1.8, offset=32.0), 70.34),
        (100, Conversion(DataType.INT16, scale=0.5, offset=-40), 10.0),
        (0b1000, Conversion(DataType.UINT16, bit=3), True),
        (0b0111, Conversion(DataType.UINT16, bit=3), False),
        (0x7FFF, Conversion(DataType.INT16, sentinels=(0x7FFF,)), "0x803C0000"),
        (math.nan, Conversion(DataType.FLOAT32), "0x803C0000"),
        (math.inf, Conversion(DataType.FLOAT64), "0x803C0000"),
        ("text", TENTHS, "0x80740000"),
    ],
)
def test_raw_values_are_read_as_the_plant_means_them(raw: Any, conversion: Conversion, value: Any) -> None:
    assert engineering(raw, conversion) == value


@pytest.mark.parametrize(
    ("value", "conversion", "says"),
    [
        (6553.6, TENTHS, "needs the raw value 65536, which a uint16 cannot hold"),
        (-0.1, TENTHS, "needs the raw value -1"),
        (math.nan, TENTHS, "is not a finite number"),
        (True, TENTHS, "is not a number"),
        (1, Conversion(DataType.UINT16, bit=1), "is one bit of a word"),
        (5, Conversion(DataType.STRING), "is not a string"),
    ],
)
def test_what_the_device_cannot_hold_is_refused_in_words(value: Any, conversion: Conversion, says: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        to_raw(value, conversion)
    assert says in str(refused.value)


@given(st.integers(0, 65535))
def test_every_raw_value_survives_the_way_there_and_back(raw: int) -> None:
    assert to_raw(engineering(raw, TENTHS), TENTHS) == raw


@pytest.mark.case("A17")
def test_a_read_back_is_equal_in_the_devices_own_encoding_and_a_clamp_is_not() -> None:
    assert same_value(0.1, 0.10000000149011612, DataType.FLOAT32)
    assert not same_value(182.5, 180.0, DataType.FLOAT32)
    assert not same_value(1825, 1800, DataType.UINT16)
    assert not same_value(1, True, DataType.UINT16)
    assert not same_value(math.nan, math.nan, DataType.FLOAT32)


def test_a_meter_that_rolls_over_loses_no_count() -> None:
    meter = Meter(EnergySpec(slot=0, kwh_per_count=0.1, max_value=2**32 - 1), EnergyMemory())
    meter.take(2**32 - 3, 0)
    meter.take(4, 60_000)
    interval = meter.cut(60_000)
    assert interval is not None
    assert told(meter.spec, interval).kwh == 0.7


@pytest.mark.parametrize(("values", "verdict"), [
    ((327.9, 328.1), True), ((327.9, 328.0), False), ((334.0, 334.0), True), ((334.0, 334.2), False),
])  # fmt: skip
def test_a_subgroup_is_judged_by_its_mean_and_a_limit_belongs_to_the_good_side(
    values: tuple[float, ...], verdict: bool
) -> None:
    inputs = Inputs(["seq", "values"])
    inputs.values, inputs.statuses = [2, values], [0, 0]
    spec = SampleSpec("fill_weight", "CW01", 0, 1, limits_of="fill_volume")
    sample = newest_subgroup(spec, {"fill_weight": 1}, inputs, {"fill_volume": Limits(328, 334)})
    assert sample is not None
    assert (sample.in_spec, sample.subgroup, sample.n) == (verdict, "CW01-2", 2)


def test_a_rollback_takes_the_parameters_in_reverse() -> None:
    stage = Stage()
    stage.start_line()
    stage.show("LBL01", "06:06:30", word=0b10100000)
    held = {**LBL01, "oven_sp": 1700, "belt_speed": 240}
    items = [{"name": "oven_sp", "value": 175.0}, {"name": "belt_speed", "value": 260}]
    stage.command("params.download", cmd="C", eq="LBL01", set="S", rev="A", items=items)
    stage.answer_operation(reads=held)
    assert list(writes_of(stage.answer_operation(refuse=("belt_speed",)))) == ["oven_sp", "belt_speed"]
    assert list(writes_of(stage.answer_operation())) == ["belt_speed", "oven_sp"]


def test_a_value_older_than_the_contact_says_nothing_about_the_time_before_it() -> None:
    """After a reconnect a server tells values with the stamps of hours ago; the state begins with the contact."""
    from gateway.domain.values import Batch
    from tests.stage import FIL01, at

    stage = Stage()
    stage.connect("FIL01", "09:00:00")
    old = [TagChange(f"FIL01.{name}", value, 0, at("05:30:00")) for name, value in FIL01.items()]
    stage.core.handle_changes("FIL01", Batch(old, stage.now), stage.now)
    stage.commit()
    assert stage.states("FIL01") == [("09:00:00", "IDLE")]


def test_times_and_durations_are_read_with_their_units() -> None:
    assert [parse_duration(text) for text in ("500ms", "5s", "30min", "2h", "7d")] == [0.5, 5, 1800, 7200, 604800]
    for wrong in (5, "5", "five", "5 parsecs", None):
        with pytest.raises(ValueError, match="is not a duration"):
            parse_duration(wrong)
    assert format_timestamp(parse_timestamp("2026-03-02T08:25:00.031+01:00")) == "2026-03-02T07:25:00.031Z"
    with pytest.raises(ValueError, match="has no time zone"):
        parse_timestamp("2026-03-02T08:25:00")
    assert (whole_seconds(40_000), whole_seconds(40_031)) == (40, 40.031)
