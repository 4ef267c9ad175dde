"""The machines do what the script says, to the second and to the bottle."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stages import DEMO

from simulators.models.flow import Flow, Run, sort_out
from simulators.models.labeller import PARAMETERS, crc16
from simulators.models.line import Line
from simulators.models.palletiser import sscc
from simulators.models.states import Interval, debounced
from simulators.scenario import Scenario, ScenarioError, load, parse

PRODUCED = "FIL01.Admin.ProdProcessedCount[0]"
SCRAPPED = "FIL01.Admin.ProdDefectiveCount[0]"


def _at(line: Line, second: float) -> Line:
    line.advance_to(round(second * 1000))
    return line


def test_pieces_of_a_second_show_in_the_next_one(line: Line) -> None:
    assert _at(line, 60).filler.tags()[f"{PRODUCED}.Count"] == 0
    assert _at(line, 61).filler.tags()[f"{PRODUCED}.Count"] == 1


def test_the_filler_fills_100_jams_10_s_and_fills_100_more(line: Line) -> None:
    figures = {second: _at(line, second).filler.tags()[f"{PRODUCED}.Count"] for second in (160, 165, 170, 270, 400)}

    assert figures == {160: 100, 165: 100, 170: 100, 270: 200, 400: 200}


def test_the_accumulated_counter_rolls_over_after_its_maximum(line: Line) -> None:
    assert _at(line, 109).filler.tags()[f"{PRODUCED}.AccCount"] == 999
    assert _at(line, 110).filler.tags()[f"{PRODUCED}.AccCount"] == 0
    assert _at(line, 270).filler.tags()[f"{PRODUCED}.AccCount"] == 150


def test_every_bottle_of_a_scrap_window_is_scrap(line: Line) -> None:
    tags = _at(line, 270).filler.tags()

    assert (tags[f"{SCRAPPED}.Count"], tags[f"{SCRAPPED}.AccCount"]) == (10, 17)


def test_good_bottles_reach_the_labeller_after_transit(line: Line) -> None:
    before, first = _at(line, 90).labeller.tags(), _at(line, 91).labeller.tags()

    assert (before["batch_id"], before["run"], before["total_in"]) == ("81", True, 65500)
    assert first["total_in"] == 65501


def test_the_batch_id_goes_with_the_last_bottle_counted(line: Line) -> None:
    assert _at(line, 289).labeller.tags()["batch_id"] == "81"
    last = _at(line, 290).labeller.tags()

    assert (last["batch_id"], last["starved"]) == ("", False)
    assert (last["total_in"], last["good"], last["reject"]) == ((65500 + 190) % 65536, 180, 10)


def test_a_labeller_without_bottles_in_a_batch_is_starved(line: Line) -> None:
    assert [_at(line, second).labeller.tags()["starved"] for second in (179, 180, 189, 190)] == [
        False,
        True,
        True,
        False,
    ]


def test_energy_is_metered_in_whole_raw_counts_and_carries_into_the_high_word(line: Line) -> None:
    # 36 kW are 0.01 kWh a second: a raw count of 0.1 kWh every 10 s.
    assert [_at(line, second).labeller.tags()["energy"] for second in (0, 9, 10, 600)] == [65530, 65530, 65531, 65590]


def test_pallets_leave_when_their_last_bottle_is_counted_and_the_rest_at_the_orders_end(line: Line) -> None:
    # Good labels come from second 100 on: the 50th in second 149, the 100th (10 s later for the jam) in second 209.
    assert [(p.at, p.qty, p.cases, p.full) for p in line.palletiser.pallets] == [
        (150, 50, 5, True),
        (210, 50, 5, True),
        (260, 50, 5, True),
        (330, 30, 3, False),
    ]
    tags = _at(line, 330).palletiser.tags()
    assert (tags["PAL01.PalletSeq"], tags["PAL01.PalletQty"], tags["PAL01.CasesTotal"]) == (4, 30, 18)
    assert (tags["PAL01.PalletOrder"], tags["PAL01.CurrentOrder"]) == ("81", "")


def test_an_sscc_has_a_right_check_digit_and_stays_with_its_pallet(scenario: Scenario) -> None:
    labels = [sscc(scenario, number) for number in range(1, 200)]

    assert len(set(labels)) == 199
    assert all(len(label) == 18 and label.isdigit() for label in labels)
    # GS1: weights 3, 1, 3 … from the left, the check digit makes the sum a multiple of ten.
    assert all(sum(int(d) * (3, 1)[i % 2] for i, d in enumerate(label)) % 10 == 0 for label in labels)
    assert labels[0] == Line(scenario).palletiser.pallets[0].sscc


def test_samples_are_inside_the_limits_unless_the_script_says_otherwise(line: Line) -> None:
    # The grid is 30 s; the filler executes strictly inside 60..160 and 170..270, so 60 is no sample. Set B: 328..334.
    assert [second for second, _ in line.checkweigher.samples] == [90, 120, 150, 180, 210, 240]
    means = {
        second: sum(line.checkweigher.weights(number)) / 5
        for number, (second, _) in enumerate(line.checkweigher.samples, start=1)
    }
    assert {second: 328 <= mean <= 334 for second, mean in means.items()} == {
        90: True, 120: True, 150: True, 180: True, 210: True, 240: False,
    }  # fmt: skip
    assert means[240] == pytest.approx(326.8, abs=0.01)


def test_weights_follow_the_active_volume_and_are_the_same_in_every_play(scenario: Scenario) -> None:
    def weights(volume: float | None) -> list[float]:
        line = Line(scenario)
        if volume is not None:
            line.filler.write("FIL01.Command.Parameter[0].Value", volume)
            line.filler.write("FIL01.MES.CmdSeq", 1)
        _at(line, 95)
        return line.checkweigher.tags()["CW01.Values"]  # type: ignore[return-value]

    assert weights(None) == weights(None)
    assert sum(weights(333.0)) / 5 - sum(weights(331.0)) / 5 == pytest.approx(2.0, abs=0.01)


def test_a_sample_flips_the_toggle_and_counts_up(line: Line) -> None:
    samples = [_at(line, second).checkweigher.tags() for second in (89, 90, 120)]

    assert [(s["CW01.SampleToggle"], s["CW01.SampleSeq"]) for s in samples] == [(False, 0), (True, 1), (False, 2)]


def test_an_alarm_shows_its_three_moments_in_one_entry(line: Line) -> None:
    def entry(second: int) -> tuple[object, ...]:
        tags = _at(line, second).filler.tags()
        return tuple(tags[f"FIL01.Admin.Alarm[0].{name}"] for name in ("Trigger", "ID", "DateTime", "AckDateTime"))

    assert entry(161) == (False, 0, None, None)
    assert entry(162) == (True, 2107, 162_000, None)
    assert entry(165) == (True, 2107, 162_000, 165_000)
    assert entry(169) == (False, 2107, 162_000, 165_000)


def test_alarm_bits_rise_fall_and_are_acknowledged_also_after_they_fell(line: Line) -> None:
    def words(second: float) -> tuple[object, object]:
        tags = _at(line, second).labeller.tags()
        return tags["alarm_word"], tags["acknowledged_word"]

    assert [words(second) for second in (179, 180, 200, 220)] == [(0, 0), (1, 0), (0, 0), (0, 1)]
    assert [words(240 + half / 2)[0] for half in range(12)] == [2, 2, 0, 0, 2, 2, 0, 0, 2, 2, 0, 0]


def test_a_download_is_acknowledged_at_once_and_active_after_the_handshake(line: Line) -> None:
    filler = _at(line, 10).filler
    filler.write("FIL01.Command.Parameter[0].Value", 331.0)
    filler.write("FIL01.MES.CmdSeq", 1)

    tags = filler.tags()
    assert (tags["FIL01.MES.AckSeq"], tags["FIL01.MES.CmdStatus"], tags["FIL01.Status.Parameter[0].Value"]) == (
        1,
        1,
        0.0,
    )
    tags = _at(line, 11.999).filler.tags()
    assert tags["FIL01.MES.CmdStatus"] == 1
    tags = _at(line, 12).filler.tags()
    assert (tags["FIL01.MES.CmdStatus"], tags["FIL01.Status.Parameter[0].Value"]) == (2, 331.0)


def test_a_repeated_or_skipped_sequence_number_changes_nothing(line: Line) -> None:
    filler = _at(line, 10).filler
    for number in (0, 2, 7, -1):
        filler.write("FIL01.MES.CmdSeq", number)
    assert filler.tags()["FIL01.MES.AckSeq"] == 0

    filler.write("FIL01.MES.CmdSeq", 1)
    _at(line, 20).filler.write("FIL01.MES.CmdSeq", 1)
    assert (filler.tags()["FIL01.MES.CmdStatus"], line.due_ms) == (2, None)


def test_a_number_that_is_none_is_refused(line: Line) -> None:
    filler = line.filler
    filler.write("FIL01.Command.Parameter[1].Value", float("nan"))
    filler.write("FIL01.MES.CmdSeq", 1)

    assert (filler.tags()["FIL01.MES.CmdStatus"], filler.tags()["FIL01.MES.CmdError"]) == (3, 2)


def _download(line: Line, oven_sp: int, sequence: int, crc: int | None = None) -> dict[str, Any]:
    values = [oven_sp, *(parameter.initial for parameter in PARAMETERS[1:])]
    line.labeller.write_parameters(0, [*values, crc16(values) if crc is None else crc])
    line.labeller.handshake.request(sequence, line.time.ms)
    return line.labeller.tags()


def test_the_labeller_refuses_downloads_until_it_is_remote(line: Line) -> None:
    refused = _download(_at(line, 29), 1750, 1)
    assert (refused["ack_seq"], refused["status"], refused["error"]) == (1, 3, 1)

    _download(_at(line, 30), 1750, 2)
    taken = _at(line, 32).labeller.tags()
    assert (taken["ack_seq"], taken["status"], taken["error"], taken["oven_setpoint"]) == (2, 2, 0, 1750)


def test_the_labeller_refuses_a_wrong_crc(line: Line) -> None:
    refused = _download(_at(line, 40), 1750, 1, crc=1)

    assert (refused["status"], refused["error"], refused["oven_setpoint"]) == (3, 2, 1500)


def test_the_labeller_clamps_silently_and_its_registers_agree(line: Line) -> None:
    _download(_at(line, 40), 1825, 1)
    tags = _at(line, 42).labeller.tags()

    assert (tags["status"], tags["parameters"][0], tags["oven_setpoint"]) == (2, 1800, 1800)
    assert tags["crc"] == crc16(tags["parameters"])


def test_the_crc_is_the_one_of_modbus() -> None:
    # The request 01 03 00 00 00 0A of the Modbus over serial line guide has the CRC bytes C5 CD on the wire, low first.
    assert crc16([0x0103, 0x0000, 0x000A]) == 0xCDC5


def test_short_excursions_merge_into_what_was_before_but_a_fault_never_does() -> None:
    flicker, fault, end = Interval(10, 12, "STARVED"), Interval(20, 21, "DOWN"), Interval(21, 40, "RUN")
    rows = [Interval(0, 10, "RUN"), flicker, Interval(12, 20, "RUN"), fault, end]

    assert debounced(rows, 5) == [Interval(0, 20, "RUN"), Interval(20, 21, "DOWN"), Interval(21, 40, "RUN")]


def test_an_excursion_takes_the_state_that_was_before_it() -> None:
    rows = [Interval(0, 10, "IDLE"), Interval(10, 12, "RUN"), Interval(12, 20, "STARVED")]

    assert debounced(rows, 5) == [Interval(0, 12, "IDLE"), Interval(12, 20, "STARVED")]


def test_a_suspended_filler_is_starved_or_else_blocked(small: dict[str, Any]) -> None:
    rows = small["filler"]["timeline"]
    rows[2:3] = [{"at": "23:57:40", "state": 5, "starved": True}]
    rows[3] |= {"starved": False}
    starved = _at(Line(parse(small)), 165).filler.tags()
    rows[2] |= {"starved": False}
    blocked = _at(Line(parse(small)), 165).filler.tags()
    interlock = "FIL01.Status.EquipmentInterlock"

    assert (starved[f"{interlock}.Starved"], starved[f"{interlock}.Blocked"]) == (True, False)
    assert (blocked[f"{interlock}.Starved"], blocked[f"{interlock}.Blocked"]) == (False, True)


def _with_a_second_order(small: dict[str, Any]) -> Line:
    small["orders"]["82"] = {**small["orders"]["81"], "qty": 20, "lot": "82-L1"}
    small["filler"]["timeline"][4:] = [
        {"at": "23:59:30", "state": 4, "order": None},
        {"at": "00:01:00", "state": 6, "order": "82"},
        {"at": "00:01:20", "state": 4, "order": None},
    ]
    small["palletiser"]["order_end"]["82"] = "00:02:00"
    small["commands"][1] |= {"at": "00:00:40", "order": "82", "rev": "A", "done": "00:00:42"}
    return Line(parse(small))


def test_the_count_of_a_job_begins_anew_with_the_next_job_the_accumulated_one_goes_on(small: dict[str, Any]) -> None:
    line = _with_a_second_order(small)
    before, after = _at(line, 359).filler.tags(), _at(line, 365).filler.tags()

    assert (before[f"{PRODUCED}.Count"], before[f"{PRODUCED}.AccCount"]) == (200, 150)
    assert (after[f"{PRODUCED}.Count"], after[f"{PRODUCED}.AccCount"]) == (5, 155)


def test_weights_are_those_of_the_set_that_the_order_had_then(small: dict[str, Any]) -> None:
    # 81 ran before anything was released for it: the first revision, 495..505. 82 has A released: the same figures.
    line = _with_a_second_order(small)
    line.filler.write("FIL01.Command.Parameter[0].Value", 503.0)
    line.filler.write("FIL01.MES.CmdSeq", 1)
    _at(line, 100).filler.write("FIL01.Command.Parameter[0].Value", 497.0)
    line.filler.write("FIL01.MES.CmdSeq", 2)
    _at(line, 400)

    # What was weighed at 90 stays what it was, whatever became active at 102.
    assert sum(line.checkweigher.weights(1)) / 5 == pytest.approx(503, abs=0.3)
    assert sum(line.checkweigher.weights(2)) / 5 == pytest.approx(497, abs=0.3)


def test_a_download_counts_for_the_weights_from_its_done_on(small: dict[str, Any]) -> None:
    small["commands"][1] |= {"at": "23:56:40", "done": "23:56:42"}
    line = Line(parse(small))

    # Samples at 90 and 120; revision B (328..334) is active from 102 on, before that the first one (495..505) holds.
    assert 495 <= sum(line.checkweigher.weights(1)) / 5 <= 505
    assert 328 <= sum(line.checkweigher.weights(2)) / 5 <= 334


def test_a_reel_is_changed_at_each_splice(small: dict[str, Any]) -> None:
    small["labeller"]["reels"] = {"material": "L", "labels": 100, "low_after": 90, "splices": ["23:57:00", "23:58:00"]}
    line = Line(parse(small))

    assert [_at(line, second).labeller.tags()["reel"] for second in (119, 120, 180)] == [1, 2, 3]


def test_the_oven_heats_up_while_warming_up(line: Line) -> None:
    assert [_at(line, second).labeller.tags()["oven_actual"] for second in (0, 20, 40, 100)] == [200, 850, 1500, 1500]


def test_an_oven_without_warm_up_is_hot_from_the_start(small: dict[str, Any]) -> None:
    small["labeller"]["warm_up"] = ["23:55:00", "23:55:00"]

    assert Line(parse(small)).labeller.tags()["oven_actual"] == 1500


def test_what_happens_after_the_end_does_not_happen(small: dict[str, Any]) -> None:
    small["end"] = "2026-03-02T23:59:40Z"
    line = Line(parse(small))
    line.step(3600)

    # The last 10 bottles are still on the belt, and the last pallet has not left.
    assert line.ledger()["orders"]["81"]["LBL01"]["produced"] == 180
    completed = {name: window["completed"] for name, window in line.ledger()["windows"]["81"].items()}
    assert completed == {"FIL01": True, "LBL01": False, "PAL01": False}


def test_alarms_stand_still_with_their_machines(scenario: Scenario) -> None:
    line = Line(scenario, until=165)

    assert _at(line, 400).filler.tags()["FIL01.Admin.Alarm[0].Trigger"] is True
    assert line.labeller.tags()["alarm_word"] == 0


def test_machines_stand_still_from_until_on_but_stay_switched_on(scenario: Scenario) -> None:
    line = Line(scenario, until=100)
    beats = {_at(line, second).filler.tags()["FIL01.Machine.Heartbeat"] for second in (500, 501)}

    assert line.filler.tags()[f"{PRODUCED}.Count"] == 40
    assert line.ledger()["until"] == "2026-03-02T23:56:40.000Z"
    assert beats == {True, False}


def test_a_timeline_that_misses_the_quantity_is_refused(small: dict[str, Any]) -> None:
    small["orders"]["81"]["qty"] = 191

    with pytest.raises(ScenarioError, match="yield 190 good bottles of the order 81, which asks for 191"):
        Line(parse(small))


@given(steps=st.lists(st.integers(1, 400), max_size=8))
def test_one_long_step_is_the_same_as_many_short_ones(steps: list[int]) -> None:
    long, short = Line(load(DEMO)), Line(load(DEMO))
    for line in (long, short):
        line.filler.write("FIL01.Command.Parameter[0].Value", 500.0)
        line.filler.write("FIL01.MES.CmdSeq", 1)
    for seconds in steps:
        long.step(seconds)
        for _ in range(seconds):
            short.step(1)

    assert long.ledger() == short.ledger()
    assert long.filler.tags() == short.filler.tags()
    assert long.labeller.tags() == short.labeller.tags()


runs = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=6)
windows = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60)).map(lambda w: (w[0], w[0] + w[1])), max_size=4)


@given(runs=runs, windows=windows, rate=st.integers(1, 5))
def test_a_flow_counts_as_bottle_by_bottle(
    runs: list[tuple[int, int]], windows: list[tuple[int, int]], rate: int
) -> None:
    at, planned = 0, []
    for pause, length in runs:
        planned.append(Run(at + pause, at + pause + length, "A"))
        at += pause + length
    flow = Flow(sort_out(planned, windows), rate)
    bottles = [k for run in planned for k in range(run.start, run.end) for _ in range(rate)]
    rejected = [k for k in bottles if any(a <= k < b for a, b in windows)]

    for second in range(0, at + 2, 7):
        assert flow.made(second) == sum(k < second for k in bottles)
        assert flow.only(lambda run: run.rejected).made(second) == sum(k < second for k in rejected)
    assert [flow.shows(n) for n in range(1, flow.total + 1)] == [k + 1 for k in bottles]


def test_a_whole_shift_costs_next_to_nothing(small: dict[str, Any]) -> None:
    small["end"] = "2026-03-03T07:55:00Z"
    started = time.process_time()
    line = Line(parse(small))
    line.step(8 * 3600)
    line.ledger()

    assert time.process_time() - started < 0.05
