"""Trap A23 and the variant "PLC clock +8 h": whatever a device's clock shows, durations are right and nothing is dated
in the future.
"""

from datetime import UTC, datetime, timedelta

import pytest
from asyncua import ua
from clocks import PlantClock
from opcua_links import link, tag, until
from opcua_servers import plc

from gateway.domain.times import format_timestamp
from gateway.domain.values import Batch, ConditionChange, TagChange
from gateway.drivers.opcua.device_clock import TRUSTED, DeviceClock
from tests.stage import FIL01, Stage, at

HOUR = 3_600_000
DELAY = 300
"""Milliseconds from a value's birth to its receipt: sampling, publishing, transit."""


class Plc:
    """FIL01 eight_hours a clock that is `ahead` of ours by so many milliseconds, publishing into the core."""

    def __init__(self, policy: str = "auto", ahead: int = 0, sampling: float = 0.25) -> None:
        self.ahead = ahead
        self.stage = Stage()
        self.clock = DeviceClock("FIL01", policy, PlantClock(), 0.5, sampling)
        self.clock.begin()
        self.qualities: list[str] = []
        self.stage.connect("FIL01", "06:00:00")
        self._publish(FIL01, age=12 * HOUR)

    def _publish(self, values: dict, age: int = 0, delay: int = DELAY) -> None:
        """What the machine shows `delay` before now, as the decoder and the driver hand it on."""
        stage = self.stage
        changes = [
            TagChange(f"FIL01.{name}", value, 0, stage.now - delay - age + self.ahead) for name, value in values.items()
        ]
        dated, quality = self.clock.date(self.clock.correct(changes), stage.now)
        batch = Batch(dated, stage.now, time_quality=quality, skew=self.clock.take_skew())
        stage.core.handle_changes("FIL01", batch, stage.now)
        stage.commit()
        self.qualities.append(quality)

    def run(self, until_clock: str, **values) -> None:
        """Beat once a second until then, at which moment it shows these values."""
        stage, end = self.stage, at(until_clock)
        while (tick := (stage.now // 1000 + 1) * 1000) < end:
            stage.now = tick + DELAY
            self._publish({"heartbeat": bool(tick // 1000 % 2)})
        stage.now = end + DELAY
        self._publish(values)

    def downtimes(self) -> list[tuple[str, float]]:
        return [(data["start"][11:19], data["dur_s"]) for _, data in self.stage.told("downtime.closed")]

    def skews(self) -> list[tuple[float, float, bool]]:
        return [(data["before_s"], data["ahead_s"], data["corrected"]) for _, data in self.stage.told("device.clock")]


@pytest.mark.parametrize("ahead", [8 * HOUR, -8 * HOUR, -36 * 365 * 24 * HOUR, 4_000, 0])
def test_a23_a_wrong_plc_clock_gives_right_durations_and_nothing_in_the_future(ahead):
    plc = Plc(ahead=ahead)
    plc.run("06:00:10", state=6)
    plc.run("06:10:00", state=9)
    plc.run("06:12:00", state=6)
    plc.run("06:12:10")
    off = min(abs(ahead), 4_000) if abs(ahead) <= 5_000 else 0
    seconds = [(data["start"], data["dur_s"]) for _, data in plc.stage.told("downtime.closed")]
    ((start, duration),) = seconds
    assert abs(at(start[11:23]) - at("06:10:00") - off) <= DELAY
    assert duration == 120
    assert max(event.source_time - event.gateway_time for event in plc.stage.events) <= off
    quality = "estimated" if abs(ahead) > 5_000 else "source"
    assert {event.time_quality for event in plc.stage.events if event.type == "downtime.closed"} == {quality}
    expected = [(0, pytest.approx(ahead / 1000, abs=0.5), True)] if abs(ahead) > 5_000 else []
    assert plc.skews() == expected


@pytest.mark.parametrize("jump", [3 * HOUR, -3 * HOUR])
def test_a23_a_clock_that_is_set_while_the_machine_runs_tears_no_state(jump):
    plc = Plc()
    plc.run("06:00:10", state=6)
    plc.run("06:10:00", state=9)
    plc.run("06:11:00")
    plc.ahead = jump
    plc.run("06:12:00", state=6)
    plc.run("06:20:00", state=9)
    plc.run("06:21:00", state=6)
    plc.run("06:21:10")
    assert plc.downtimes() == [("06:10:00", pytest.approx(120, abs=0.3)), ("06:20:00", 60)]
    assert plc.skews() == [(0, pytest.approx(jump / 1000, abs=0.5), True)]
    assert [clock for clock, _ in plc.stage.states("FIL01")][-4:] == ["06:10:00", "06:12:00", "06:20:00", "06:21:00"]


@pytest.mark.case("R21", "E4")
def test_when_our_own_clock_is_set_forward_its_times_go_along_at_once_and_no_state_is_lost():
    """The PLC's clock stays; by ours, it is an hour behind from then on, and that is told."""
    plc = Plc()
    plc.run("06:00:10", state=6)
    plc.run("06:10:00", state=9)
    plc.run("06:12:00", state=6)
    plc.run("06:13:00")
    plc.clock._clock.jumped = HOUR
    plc.stage.now += HOUR
    plc.stage.core.handle_clock_jump(HOUR, 0, plc.stage.now)
    plc.ahead = -HOUR
    plc.run("07:13:02", state=9)
    plc.run("07:14:02", state=6)
    plc.run("07:20:00")
    assert plc.downtimes() == [("06:10:00", 120), ("07:13:02", pytest.approx(60, abs=0.5))]
    assert [clock for clock, _ in plc.stage.states("FIL01")][-4:] == ["06:10:00", "06:12:00", "07:13:02", "07:14:02"]
    assert plc.skews() == [(0, pytest.approx(-3_600, abs=0.5), True)]
    assert len(plc.stage.told("gateway.clock")) == 1


def test_a23_a_clock_that_is_put_right_again_is_believed_again_and_both_are_told():
    plc = Plc(ahead=8 * HOUR)
    plc.run("06:05:00", state=6)
    plc.ahead = 0
    plc.run("06:10:00", state=9)
    plc.run("06:12:00", state=6)
    plc.run("06:12:10")
    assert plc.downtimes() == [("06:10:00", 120)]
    eight_hours = pytest.approx(28_800, abs=0.5)
    assert plc.skews() == [(0, eight_hours, True), (eight_hours, pytest.approx(0, abs=0.5), True)]
    assert plc.qualities[-1] == "source"


def test_values_that_were_held_up_do_not_count_against_the_clock():
    plc = Plc()
    plc.run("06:01:00", state=6)
    for held_up in (20_000, 19_500, 19_000):
        plc._publish({"state": 6}, delay=held_up)
    plc.run("06:01:10")
    assert set(plc.qualities) == {"source"}
    assert plc.skews() == []


def test_one_tag_with_an_old_stamp_is_no_wrong_clock_and_is_dated_by_its_receipt():
    plc = Plc()
    plc.run("06:01:00", state=6)
    plc.stage.now += 1000
    plc._publish({"mode": 2}, age=9 * HOUR)
    plc.run("06:05:00")
    assert plc.qualities.count("gateway") == 1
    assert plc.stage.states("FIL01")[-1] == ("06:01:01", "MAINT")
    assert plc.skews() == []


def test_a_tag_that_the_server_seldom_samples_is_no_wrong_clock():
    plc = Plc(sampling=60)
    plc.run("06:01:00", state=6)
    for _ in range(4):
        plc.stage.now += 1000
        plc._publish({"mode": 1}, age=40_000)
        plc.run(format_timestamp(plc.stage.now + 59_000)[11:19])
    assert plc.skews() == []
    assert set(plc.qualities) == {"source"}


def test_an_alarm_condition_s_time_is_put_right_with_the_values():
    plc = Plc(ahead=8 * HOUR)
    plc.run("06:00:10", state=6)
    told = ConditionChange("PAL01", "4002", True, False, None, None, at("14:00:05"))
    (right,) = plc.clock.correct_conditions([told])
    assert abs(right.at - at("06:00:05")) <= DELAY
    gateway = DeviceClock("SCADA", "gateway", PlantClock(), 0.5, 0.25)
    assert [change.at for change in gateway.correct_conditions([told])] == [None]


def test_with_clock_source_a_wrong_clock_is_told_with_its_cure_and_left_as_it_is(capsys):
    plc = Plc("source", ahead=8 * HOUR)
    plc.run("06:00:10", state=6)
    plc.run("06:01:00")
    assert plc.skews() == [(0, pytest.approx(28_800, abs=0.5), False)]
    assert plc.qualities[-2] == "gateway"  # the domain dates by the contact what comes from the future
    assert "clock: auto" in capsys.readouterr().out


def test_with_clock_gateway_nothing_of_the_device_s_clock_is_believed():
    plc = Plc("gateway", ahead=-20_000)
    plc.run("06:10:00", state=6)
    plc.run("06:11:00")
    assert plc.stage.states("FIL01")[-1] == ("06:10:00", "RUN")
    assert set(plc.qualities) == {"gateway"}
    assert plc.skews() == []


async def count_eight_hours_ahead(node, record, until_quality: str) -> Batch:
    """Show 1, 2, 3 … dated eight hours ahead until a value comes that is dated by this clock; its batch."""
    await until(record.values)
    for value in range(1, 1_000):
        shown = datetime.fromtimestamp(record.link._clock.now() / 1000, UTC) + timedelta(hours=8)
        count = ua.Variant(value, ua.VariantType.Int32)
        await node.write_value(ua.DataValue(count, SourceTimestamp=shown))
        await until(lambda value=value: record.values()[-1] == value)
        batch = next(batch for batch in reversed(record.batches) if batch.changes)  # a keep-alive may be behind it
        if batch.time_quality == until_quality:
            return batch
    raise AssertionError(f"never dated by {until_quality}")


async def test_a_server_eight_hours_ahead_is_put_right_within_seconds():
    async with plc() as server:
        node = await server.add("count", 0)
        async with link(server.port, tag("count"), clock="auto") as record:
            batch = await count_eight_hours_ahead(node, record, "estimated")
            (change,) = batch.changes
            assert -TRUSTED <= change.source_timestamp - batch.contact <= 0
            (skew,) = [batch.skew for batch in record.batches if batch.skew is not None]
            assert (round(skew.now / HOUR, 2), skew.before, skew.corrected) == (8, 0, True)


async def test_a_server_eight_hours_ahead_is_dated_by_us_where_the_yaml_says_so():
    async with plc() as server:
        node = await server.add("count", 0)
        async with link(server.port, tag("count"), clock="gateway") as record:
            (change,) = (await count_eight_hours_ahead(node, record, "gateway")).changes
            assert change.source_timestamp is None


async def test_a_polled_server_is_dated_as_its_yaml_says_too():
    async with plc() as server:
        node = await server.add("count", 0)
        keys = {"mode": "poll", "poll_interval": "50ms", "clock": "gateway"}
        async with link(server.port, tag("count"), **keys) as record:
            (change,) = (await count_eight_hours_ahead(node, record, "gateway")).changes
            assert change.source_timestamp is None
