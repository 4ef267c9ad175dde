"""Parameter downloads: what may be written, the handshake, the read-back, the rollback, and crashes in between."""

from typing import Any

import pytest

from tests.stage import LBL01, Stage, writes_of

HELD = {"oven_sp": 1700, "belt_speed": 240, "cmd_seq": 7, "ack_seq": 7, "cmd_status": 0, "cmd_error": 0}
ITEMS = [{"name": "oven_sp", "value": 175.0, "unit": "Cel", "min": 165, "max": 190, "class": "trim"}]


def ready() -> Stage:
    stage = Stage()
    stage.start_line()
    stage.show("LBL01", "06:06:30", word=0b10100000)
    return stage


def download(stage: Stage, cmd: str = "C3", **changes: Any) -> Any:
    body = {"cmd": cmd, "eq": "LBL01", "order": "4711", "set": "PS-P500-LBL", "rev": "C", "items": ITEMS, **changes}
    return stage.command("params.download", **body)


def results(stage: Stage) -> list[tuple[str, tuple[str, ...]]]:
    return [(data["result"], tuple(data["codes"])) for _, data in stage.told("param.result")]


def answer_until(stage: Stage, device: dict[str, Any], last: str = "") -> list[dict[str, Any]]:
    """Play a device that takes what is written; returns the writes in order."""
    written = []
    while stage.operations:
        operation = stage.operations[0]
        device.update(writes_of(operation))
        if operation.writes:
            written.append(writes_of(operation))
        stage.answer_operation(reads=device)
        if last and last in (written[-1] if written else {}):
            break
        if not stage.operations:
            stage.pass_time("06:06:31")
    return written


def test_a_good_download_writes_commits_waits_reads_back_and_answers_once() -> None:
    stage, device = ready(), dict(HELD)
    assert [(a.answer, a.final) for a in download(stage)] == [("accepted", False)]
    assert stage.operations[0].reads[:1] == ("LBL01.oven_sp",), "the snapshot comes first"
    stage.answer_operation(reads=device)
    assert writes_of(stage.answer_operation()) == {"oven_sp": 1750}
    assert writes_of(stage.answer_operation()) == {"cmd_seq": 8}, "the commit comes last"
    assert stage.operations == [], "nothing is asked before the machine had time"
    stage.pass_time("06:06:30.3")
    stage.answer_operation(reads={**device, "ack_seq": 8, "cmd_status": 1})
    stage.pass_time("06:06:30.6")
    stage.answer_operation(reads={**device, "cmd_seq": 8, "ack_seq": 8, "cmd_status": 2})
    stage.answer_operation(reads={**device, "oven_sp": 1750, "cmd_seq": 8, "ack_seq": 8})
    assert results(stage) == [("ACTIVE", ())]
    assert [(a.answer, a.final) for a in stage.answers if a.cmd == "C3"] == [("accepted", False), ("done", True)]
    assert list(stage.told("param.result")[0][1]["items"]) == [{"n": "oven_sp", "req": 175.0, "rb": 175.0}]
    assert stage.retained["ACME/HZ/PACK/L1/LBL01", "params"]["items"] == {"oven_sp": 175.0}


def test_the_same_id_again_gets_the_stored_answer_and_nothing_is_written_also_after_a_restart() -> None:
    stage = ready()
    download(stage)
    answer_until(stage, device := dict(HELD), last="cmd_seq")
    stage.pass_time("06:06:31")
    stage.answer_operation(reads={**device, "cmd_seq": 8, "ack_seq": 8, "cmd_status": 2})
    stage.answer_operation(reads=device)
    assert results(stage) == [("ACTIVE", ())]
    for _ in range(2):
        again = download(stage)
        assert [(a.answer, a.final) for a in again] == [("done", True)]
        assert stage.operations == []
        stage.kill_and_restart("06:07:00")
    assert len(stage.told("param.result")) == 1


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"items": [{"name": "oven_sp", "value": 195.0, "min": 165, "max": 190}]}, "limit", "the set's limits 165.0 to 190.0"),
        ({"items": [{"name": "oven_sp", "value": 250.0}]}, "limit", "the machine's limits 100.0 to 200.0"),
        ({"items": [{"name": "oven_sp", "value": "hot"}]}, "type", "'hot' is not a finite number"),
        ({"items": [{"name": "oven_sp", "value": 175.0, "unit": "[degF]"}]}, "unit", "given in [degF]; the machine takes Cel"),
        ({"items": [{"name": "estop", "value": 1}]}, "not_allowed", "estop is not on the write allow-list of LBL01"),
        ({"items": []}, "no_items", "the set has no items"),
        ({"eq": "XYZ"}, "unknown_equipment", "XYZ is not configured; here are FIL01, LBL01, PAL01"),
        ({"eq": "PAL01"}, "not_allowed", "PAL01 has no parameters on its write allow-list"),
        ({"valid_until": "2026-03-02T06:00:00Z"}, "expired", "valid until 2026-03-02T06:00:00Z"),
    ],
)  # fmt: skip
def test_what_may_not_be_written_is_rejected_by_name_and_nothing_reaches_the_device(
    changes: dict[str, Any], code: str, says: str
) -> None:
    stage = ready()
    (answer,) = download(stage, **changes)
    assert (answer.answer, answer.final, answer.codes) == ("rejected", True, (code,))
    assert says in " ".join(answer.detail)
    assert stage.operations == []


def test_every_reason_is_given_at_once() -> None:
    stage = ready()
    stage.show("LBL01", "06:06:40", word=0b10000000)
    stage.disconnect("LBL01", "06:06:41")
    (answer,) = download(stage, items=[{"name": "oven_sp", "value": 250.0}, {"name": "nozzle", "value": 1}])
    assert answer.codes == ("no_contact", "remote_mode", "limit", "not_allowed")
    assert results(stage) == [("REJECTED", ("no_contact", "remote_mode", "limit", "not_allowed"))]


def test_a_second_download_waits_its_turn_by_being_refused() -> None:
    stage = ready()
    download(stage)
    (answer,) = download(stage, cmd="C4")
    assert answer.codes == ("active_download",)


def test_a_golden_parameter_may_not_change_while_the_machine_runs_but_an_unchanged_one_may_come_along() -> None:
    items = [*ITEMS, {"name": "belt_speed", "value": 240, "unit": "mm/s"}]
    for value, want in ((240, None), (260, ("REJECTED", ("state",)))):
        stage = ready()
        stage.show("LBL01", "06:06:40", word=0b10100001)
        items[1]["value"] = value
        download(stage, items=items)
        stage.answer_operation(reads=HELD)
        assert results(stage) == ([want] if want else [])
        assert bool(stage.operations) is (want is None)


def test_the_permit_is_waited_for_and_its_absence_ends_in_a_rejection() -> None:
    stage = Stage()
    stage.start_line()
    download(stage)
    assert stage.operations == []
    stage.show("LBL01", "06:06:30", word=0b10100000)
    assert len(stage.operations) == 1
    other = Stage()
    other.start_line()
    download(other)
    other.pass_time("06:30:01")
    assert results(other) == [("REJECTED", ("permit_timeout",))]


def test_a_download_that_waits_for_the_permit_waits_on_over_a_lost_link_and_a_restart() -> None:
    stage = Stage()
    stage.start_line()
    download(stage)
    stage.disconnect("LBL01", "06:01:00")
    stage.connect("LBL01", "06:01:10")
    assert stage.operations == [], "nothing is looked at before somebody permits it"
    stage.kill_and_restart("06:02:00")
    stage.connect("LBL01", "06:02:01")
    assert (stage.operations, results(stage)) == ([], [])
    stage.pass_time("06:30:01")
    assert results(stage) == [("REJECTED", ("permit_timeout",))], "30 minutes after the command, not after the restart"


def test_a_clamp_is_a_failure_and_the_old_values_are_back_and_verified() -> None:
    stage, device = ready(), dict(HELD)
    download(stage, items=[{"name": "oven_sp", "value": 182.5}])
    stage.answer_operation(reads=device)
    stage.answer_operation()
    stage.answer_operation()
    stage.pass_time("06:06:33")
    stage.answer_operation(reads={**device, "cmd_seq": 8, "ack_seq": 8, "cmd_status": 2})
    stage.answer_operation(reads={**device, "oven_sp": 1800, "ack_seq": 8})
    assert writes_of(stage.answer_operation()) == {"oven_sp": 1700}
    assert writes_of(stage.answer_operation()) == {"cmd_seq": 9}
    for moment in ("06:06:36", "06:06:36.100"):  # the status was 2 before, so it is looked at twice
        stage.pass_time(moment)
        stage.answer_operation(reads={**device, "cmd_seq": 9, "ack_seq": 9, "cmd_status": 2})
    stage.answer_operation(reads={**device, "oven_sp": 1700})
    ((_, result),) = stage.told("param.result")
    assert (result["result"], tuple(result["codes"]), result["rolled_back"]) == (
        "FAILED",
        ("readback",),
        {"oven_sp": 170.0},
    )
    assert stage.answers[-1].answer == "failed"
    assert "requested 182.5, the device holds 180.0" in stage.answers[-1].detail[0]


def test_a_machine_that_rejects_gets_its_old_values_back_without_a_second_commit() -> None:
    stage, device = ready(), dict(HELD)
    download(stage)
    for _ in range(3):
        stage.answer_operation(reads=device)
    stage.pass_time("06:06:31")
    stage.answer_operation(reads={**device, "ack_seq": 8, "cmd_status": 3, "cmd_error": 2})
    assert writes_of(stage.answer_operation()) == {"oven_sp": 1700}
    stage.answer_operation(reads=device)
    assert results(stage) == [("FAILED", ("device_error",))]
    assert stage.operations == []


def test_a_machine_that_never_answers_is_rolled_back() -> None:
    stage, device = ready(), dict(HELD)
    download(stage)
    for _ in range(3):
        stage.answer_operation(reads=device)
    while not stage.told("param.result"):
        if stage.operations:
            operation = stage.answer_operation(reads=device)
            device.update(writes_of(operation))
        else:
            stage.pass_time(f"06:{6 + (stage.now // 60000) % 60 - 6:02}:{(stage.now // 1000) % 60 + 1:02}")
    assert results(stage)[0][1][0] == "ack_timeout"
    assert device["oven_sp"] == 1700


def test_a_rollback_that_does_not_hold_is_not_called_one() -> None:
    stage, device = ready(), dict(HELD)
    download(stage, items=[{"name": "oven_sp", "value": 182.5}])
    for _ in range(3):
        stage.answer_operation(reads=device)
    stage.pass_time("06:06:33")
    stage.answer_operation(reads={**device, "cmd_seq": 8, "ack_seq": 8, "cmd_status": 2})
    stage.answer_operation(reads={**device, "oven_sp": 1800})
    stage.answer_operation()
    stage.answer_operation()
    for moment in ("06:06:36", "06:06:36.100"):  # the status was 2 before, so it is looked at twice
        stage.pass_time(moment)
        stage.answer_operation(reads={**device, "cmd_seq": 9, "ack_seq": 9, "cmd_status": 2})
    stage.answer_operation(reads={**device, "oven_sp": 1800})
    ((_, result),) = stage.told("param.result")
    assert (result["result"], tuple(result["codes"])) == ("FAILED", ("readback", "rollback_failed"))
    assert result["rolled_back"] is None


@pytest.mark.parametrize("answered", [0, 1, 2, 3])
def test_a_crash_at_any_step_ends_in_a_true_answer_and_no_value_is_written_twice(answered: int) -> None:
    stage, device, written = ready(), dict(HELD), []
    download(stage)

    def take_one() -> None:
        operation = stage.operations[0]
        for name, value in writes_of(operation).items():
            device[name] = value
            written.append((name, value))
            if name == "cmd_seq":
                device.update(ack_seq=value, cmd_status=2)
        stage.answer_operation(reads=device)

    for _ in range(answered):
        take_one()
    in_flight = list(stage.operations)
    for operation in in_flight:  # the device got it, the gateway died before the answer
        for name, value in writes_of(operation).items():
            device[name] = value
            written.append((name, value))
            if name == "cmd_seq":
                device.update(ack_seq=value, cmd_status=2)
    stage.operations.clear()
    stage.kill_and_restart("06:06:35")
    stage.connect("LBL01", "06:06:36")
    stage.show("LBL01", "06:06:36", **{**LBL01, "word": 0b10100000, "oven_sp": device["oven_sp"]})
    for second in range(37, 50):
        while stage.operations:
            take_one()
        stage.pass_time(f"06:06:{second}")
    ((result, codes),) = results(stage)
    assert [a.final for a in stage.answers if a.cmd == "C3"].count(True) == 1
    assert (result, device["oven_sp"]) in (("ACTIVE", 1750), ("FAILED", 1700)), codes
    assert len(set(written)) == len(written)


def test_a_link_lost_in_the_middle_is_picked_up_where_the_device_says_it_is() -> None:
    stage, device = ready(), dict(HELD)
    download(stage)
    stage.answer_operation(reads=device)
    stage.answer_operation()
    stage.answer_operation(lost=True)
    stage.disconnect("LBL01", "06:06:31")
    stage.connect("LBL01", "06:06:33")
    device.update(oven_sp=1750, cmd_seq=8, ack_seq=8, cmd_status=2)
    stage.answer_operation(reads=device)
    stage.answer_operation(reads=device)
    assert results(stage) == [("ACTIVE", ())]


def test_an_unknown_or_malformed_command_is_rejected_in_words() -> None:
    stage = ready()
    (unknown,) = stage.command("reboot.plant", cmd="X1")
    assert (unknown.answer, unknown.codes) == ("rejected", ("unknown_type",))
    assert "known are: alarm.ack, change.notice, counter.rebase" in unknown.detail[0]
    (half,) = stage.command("params.download", cmd="X2", eq="LBL01")
    assert (half.answer, half.codes) == ("rejected", ("malformed",))
    (nameless,) = stage.command("params.download", eq="LBL01")
    assert "has no usable id" in nameless.detail[0]


def test_an_automatic_download_waits_for_the_operator_whatever_the_dispatch_says() -> None:
    stage = Stage()
    stage.start_line()
    items = [{"name": "oven_sp", "value": 175.0, "unit": "Cel", "min": 165, "max": 190, "class": "trim"}]
    stage.command("params.release", cmd="R-1", sets=[{"set": "PS-L", "rev": "A", "items": items}])
    ops = [{"op": "0020", "eq": "LBL01", "set": "PS-L", "rev": "released"}]
    automatic = {"when": ["IDLE"], "permit": False}
    stage.command("dispatch.order", cmd="D-1", order="4711", qty=10, ops=ops, auto_download=automatic)
    stage.show("LBL01", "06:06:30", word=0b00100000)
    assert stage.operations == [], "remote, but no permit"
    stage.show("LBL01", "06:06:40", word=0b10100000)
    assert stage.operations[0].token.startswith("ACME/HZ/PACK/L1/LBL01|download|auto:4711:0020:1")
