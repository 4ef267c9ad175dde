"""Counts that belong to the right order: rollover, change of order, restart, and the bucket of nobody's pieces."""

from gateway.domain.production.counters import CounterMemory, CounterSpec, RestartPolicy, advance
from gateway.domain.production.orders import OrderMemory, OrderSource, OrderSpec, OrderTracker
from tests.stage import LBL01, PAL01, Stage


def running_labeller(batch: str = "4711") -> Stage:
    stage = Stage()
    stage.start_line()
    stage.dispatch("4711")
    stage.show("LBL01", "06:10:00", batch_id=batch, word=0b100001)
    return stage


def test_a_sixteen_bit_counter_that_rolls_over_loses_no_piece() -> None:
    stage = running_labeller()
    for second, reading in enumerate([65532, 65534, 0, 2, 4], start=1):
        stage.show("LBL01", f"06:10:{second:02}", total_in=reading)
    stage.hear("LBL01", "06:11:00")
    assert stage.counted("LBL01", "4711", "produced") == 10


def test_pieces_seen_in_the_poll_that_brings_the_batch_id_belong_to_the_new_order() -> None:
    stage = Stage()
    stage.start_line()
    stage.show("LBL01", "06:10:00", batch_id="4711", good=502, word=0b100001)
    stage.hear("LBL01", "06:11:00")
    assert stage.counted("LBL01", "4711", "good") == 2
    assert stage.counted("LBL01", None, "good") == 0


def test_pieces_seen_in_the_poll_that_clears_the_batch_id_belong_to_the_old_order() -> None:
    stage = running_labeller()
    stage.show("LBL01", "06:10:30", good=540)
    stage.show("LBL01", "06:10:31", good=542, batch_id="", word=0b100000)
    stage.hear("LBL01", "06:10:40")
    assert stage.counted("LBL01", "4711", "good") == 42
    assert [(clock, data["good"]) for clock, data in stage.told("order.completed", "LBL01")] == [("06:10:31", 42)]


def test_pieces_between_two_orders_in_one_poll_go_to_the_old_one_and_are_flagged() -> None:
    stage = running_labeller()
    stage.show("LBL01", "06:10:30", good=510)
    stage.show("LBL01", "06:10:31", good=513, batch_id="4712")
    stage.hear("LBL01", "06:11:40")
    assert (stage.counted("LBL01", "4711", "good"), stage.counted("LBL01", "4712", "good")) == (13, 0)
    flags = [data["flags"] for _, data in stage.told("production.count", "LBL01") if data["counter"] == "good"]
    assert ("estimated",) in [tuple(f) for f in flags]


def test_pieces_without_an_order_are_kept_in_the_unassigned_bucket() -> None:
    stage = Stage()
    stage.start_line()
    stage.show("LBL01", "06:10:00", good=505)
    stage.hear("LBL01", "06:11:00")
    assert stage.counted("LBL01", None, "good") == 5


def test_an_order_brought_by_download_starts_at_the_first_run_and_ends_at_its_quantity() -> None:
    stage = Stage()
    stage.start_line()
    stage.dispatch("4711", qty=10)
    stage.core.equipment["ACME/HZ/PACK/L1/FIL01"].orders.arm("4711", "PS-P500-FIL", "C")
    stage.show("FIL01", "06:10:00", state=3)
    stage.show("FIL01", "06:10:10", state=6)
    for second, (produced, scrap) in enumerate([(102, 12), (104, 12), (106, 12), (108, 12), (110, 12), (112, 12)], 11):
        stage.show("FIL01", f"06:10:{second}", processed=produced, defective=scrap)
    stage.show("FIL01", "06:10:17", state=2)
    stage.hear("FIL01", "06:10:30")
    assert [clock for clock, _ in stage.told("order.started", "FIL01")] == ["06:10:10"]
    clock, done = stage.told("order.completed", "FIL01")[0]
    assert (clock, done["produced"], done["scrap"], done["good"]) == ("06:10:16", 12, 2, 10)
    assert done["times_s"] == {"RUN": 6}
    assert stage.counted("FIL01", "4711", "good") == 10


def test_windows_end_on_the_minute_and_never_hold_two_orders() -> None:
    stage = running_labeller()
    for clock, good in [("06:10:20", 510), ("06:11:00", 520), ("06:11:01", 522)]:
        stage.show("LBL01", clock, good=good)
    stage.show("LBL01", "06:11:30", good=530, batch_id="", word=0b100000)
    stage.show("LBL01", "06:11:40", good=533)
    stage.hear("LBL01", "06:12:05")
    rows = [
        (clock, d["delta"], d["order_total"])
        for clock, d in stage.told("production.count", "LBL01")
        if d["counter"] == "good"
    ]
    assert rows == [("06:11:00", 20, 20), ("06:11:30", 10, 30), ("06:12:00", 3, None)]


def test_a_restart_in_the_middle_of_an_order_keeps_order_baseline_window_and_sequence() -> None:
    stage = running_labeller()
    stage.show("LBL01", "06:10:20", good=510)
    stage.kill_and_restart("06:10:25")
    stage.connect("LBL01", "06:10:26")
    stage.show("LBL01", "06:10:26", **{**LBL01, "word": 0b100001, "batch_id": "4711", "good": 522})
    stage.show("LBL01", "06:10:40", good=550, batch_id="", word=0b100000)
    stage.hear("LBL01", "06:10:50")
    assert stage.counted("LBL01", "4711", "good") == 50
    assert [data["run"] for _, data in stage.told("order.started", "LBL01")] == [1]
    assert [data["good"] for _, data in stage.told("order.completed", "LBL01")] == [50]
    numbers = [event.seq for event in stage.events if event.equipment == "ACME/HZ/PACK/L1/LBL01"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len({event.id for event in stage.events}) == len(stage.events)
    assert [kind for kind in ("gateway.restarted",) if stage.told(kind)] == ["gateway.restarted"]


def test_a_pallet_is_reported_once_and_keeps_its_order_when_it_leaves_with_the_last_bottle() -> None:
    stage = Stage()
    stage.start_line()
    stage.dispatch("4711")
    stage.show("SCADA", "06:10:00", current_order="4711", state=1)
    pallet = {"pallet_seq": 4, "pallet_sscc": "340123450000000017", "pallet_cases": 48, "pallet_qty": 960}
    stage.show("SCADA", "06:20:00", **pallet)
    stage.kill_and_restart("06:20:05")
    stage.connect("SCADA", "06:20:06")
    stage.show("SCADA", "06:20:06", **{**PAL01, **pallet, "state": 1, "current_order": "4711"})
    last = {"pallet_seq": 5, "pallet_sscc": "340123450000000024", "pallet_cases": 2, "pallet_qty": 40}
    stage.show("SCADA", "06:30:00", **last, current_order="", state=0)
    pallets = [event for event in stage.events if event.type == "container.completed"]
    assert [(p.data.sscc, p.data.qty, p.data.full, p.order.id) for p in pallets] == [
        ("340123450000000017", 960, True, "4711"), ("340123450000000024", 40, False, "4711"),
    ]  # fmt: skip


def test_a_hold_interrupts_the_order_and_its_end_resumes_it() -> None:
    stage = Stage()
    stage.start_line()
    stage.core.equipment["ACME/HZ/PACK/L1/FIL01"].orders.arm("4711", "PS", "C")
    stage.show("FIL01", "06:10:00", state=6)
    stage.show("FIL01", "06:20:10", state=11, stop_reason=9001)
    stage.hear("FIL01", "06:20:16")
    stage.show("FIL01", "06:52:00", state=6, stop_reason=0)
    stage.hear("FIL01", "06:52:06")
    assert stage.told("order.interrupted") == [("06:20:10", {"run": 1, "cause": "HELD/QUALITY"})]
    assert [clock for clock, _ in stage.told("order.resumed")] == ["06:52:00"]


SPEC = CounterSpec("good", 0, max_value=65535, max_rate=10.0)


def test_counter_steps_by_what_is_plausible() -> None:
    cases = [
        # previous, reading, seconds, delta, flags
        (100, 105, 1, 5, ()),
        (65530, 4, 1, 10, ()),
        (41200, 0, 60, 0, ("reset",)),
        (41200, 8, 60, 8, ("reset",)),
        (100, 5000, 1, 0, ("suspect",)),
        (41200, 20000, 1, 0, ("suspect",)),
        (100, 100, 3600, 0, ()),
    ]
    for previous, reading, elapsed, delta, flags in cases:
        step = advance(SPEC, CounterMemory(previous, 0), reading, elapsed * 1000)
        assert (step.delta, step.flags) == (delta, flags), (previous, reading)


def test_a_small_step_down_is_a_correction_where_it_is_allowed_and_never_a_rollover() -> None:
    spec = CounterSpec("good", 0, max_value=65535, max_rate=10.0, tolerance=2)
    step = advance(spec, CounterMemory(1204, 0), 1203, 1000)
    assert (step.delta, step.flags) == (-1, ("correction",))


def test_a_counter_that_only_resets_never_wraps() -> None:
    spec = CounterSpec("good", 0, max_value=65535, max_rate=10.0, policy=RestartPolicy.RESET)
    assert advance(spec, CounterMemory(65530, 0), 4, 1000).flags == ("reset",)


def test_a_jump_that_no_machine_can_make_is_announced_and_not_counted() -> None:
    stage = running_labeller()
    stage.show("LBL01", "06:10:01", good=30000)
    stage.show("LBL01", "06:10:02", good=30002)
    stage.hear("LBL01", "06:11:00")
    assert stage.told("counter.suspect") == [
        ("06:10:01", {"counter": "good", "previous": 500, "value": 30000, "plausible": 6020})
    ]
    assert stage.counted("LBL01", "4711", "good") == 2


def test_what_a_machine_makes_while_a_poll_takes_its_time_is_no_jump() -> None:
    for lag, counted in ((0, 0), (10_000, 120)):
        stage = running_labeller()
        stage.show("LBL01", "06:10:01", good=500)
        stage.show("LBL01", "06:10:02", lag=lag, good=620)
        stage.hear("LBL01", "06:11:00")
        assert stage.counted("LBL01", "4711", "good") == counted
        assert len(stage.told("counter.suspect")) == (not counted)


def test_a_run_has_no_share_of_what_lies_before_its_start_or_after_its_end() -> None:
    from gateway.domain.contract.events import OrderRef
    from gateway.domain.production.orders import Run

    run = Run(OrderRef("4711"), 1, start=1000, trigger="download", end=5000)
    shares = [run.overlaps(0, 500), run.overlaps(0, 2000), run.overlaps(4000, 9000), run.overlaps(6000, 9000)]
    assert shares == [0, 1000, 1000, 0]


def test_of_a_thousand_orders_it_is_known_how_often_they_ran_and_no_more_by_the_order_that_ran_longest_ago() -> None:
    memory = OrderMemory()
    tracker = OrderTracker(OrderSpec(OrderSource.COMMAND), "M1", memory)

    def run(order: str, moment: int) -> int:
        number = tracker.start(order, None, moment, "command").number
        tracker.end(moment)
        memory.closing.clear()
        return number

    assert [run("regular", 1), run("once", 2)] == [1, 1]
    assert {run(f"A{number}", number) for number in range(998)} == {1}
    assert run("regular", 2_000) == 2
    assert run("last", 2_001) == 1
    assert len(memory.numbers) == 1_000
    assert (memory.has_run("once"), memory.has_run("regular"), memory.has_run("A0")) == (False, True, True)
    assert run("regular", 2_002) == 3
