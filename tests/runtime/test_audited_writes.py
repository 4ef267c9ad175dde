"""What is written to a device is in the audit before; what cannot be audited is not written."""

import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.audit.folder import AuditFolder
from gateway.audit.trail import audit_folder
from gateway.audit.verify import verify
from tests.brokers import Mosquitto
from tests.drivers.modbus_devices import Device, device
from tests.runtime.pressed import audited, gateway


@pytest.fixture
async def press() -> AsyncIterator[Device]:
    async with device() as served:
        await served.set(0, 1)
        await served.set(1, 300)
        await served.set(3, 40)
        yield served


async def test_s15_the_audit_tells_who_wrote_what_where_and_what_it_was_before(
    press: Device, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    async with gateway(tmp_path, mosquitto.port, press.port) as mes:
        assert (await mes.download("C1", force=450, speed=60))["answer"] == "done"
    intent, outcome, verdict = audited(tmp_path)
    assert (intent.kind, intent.cmd, intent.type, intent.order, intent.corr, intent.device, intent.action) == (
        "intent", "C1", "params.download", "4711", "c-C1", "PRESS", "write",
    )  # fmt: skip
    assert [(c.tag, c.address, c.old, c.new) for c in intent.changes] == [
        ("PRESS.force", "holding 1", 300, 450), ("PRESS.speed", "holding 3", 40, 60),
    ]  # fmt: skip
    assert (outcome.kind, outcome.of, outcome.result) == ("outcome", intent.n, "answered")
    assert [(change.tag, change.status) for change in outcome.changes] == [
        ("PRESS.force", "Good"),
        ("PRESS.speed", "Good"),
    ]
    assert (verdict.kind, verdict.cmd, verdict.order, verdict.result) == ("verdict", "C1", "4711", "ACTIVE")
    assert [(c.tag, c.new, c.read_back) for c in verdict.changes] == [("force", 450, 450), ("speed", 60, 60)]
    assert intent.t <= outcome.t <= verdict.t


async def test_s15_a_day_of_downloads_reads_the_same_in_the_audit_and_in_the_device(
    press: Device, mosquitto: Mosquitto, tmp_path: Path, record_property: Callable
) -> None:
    async with gateway(tmp_path, mosquitto.port, press.port) as mes:
        for number in range(25):
            force = 100 + 7 * number if number % 5 else 901
            answer = await mes.download(f"C{number}", force=force, speed=number + 1)
            assert answer["answer"] == ("done" if number % 5 else "rejected")
    addresses = {"holding 1": 1, "holding 3": 3}
    told = [(addresses[c.address], c.new) for line in audited(tmp_path) if line.kind == "intent" for c in line.changes]
    held = [
        (address + offset, value)
        for function, address, values in press.writes
        for offset, value in enumerate(values)
    ]  # fmt: skip
    assert told == held
    assert len(told) == 40
    rejected = [line.cmd for line in audited(tmp_path) if line.kind == "verdict" and "limit" in line.codes]
    assert rejected == ["C0", "C5", "C10", "C15", "C20"]
    record_property("figure", f"{len(told)} of {len(held)} writes of the device's own log in the audit, in their order")


async def test_a_flood_of_rejected_commands_has_sixty_lines_and_a_sum_which_the_end_of_the_gateway_tells(
    press: Device, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    async with gateway(tmp_path, mosquitto.port, press.port) as mes:
        for number in range(63):
            assert (await mes.download(f"C{number}", force=901))["answer"] == "rejected"
        assert (await mes.download("D1", force=450))["answer"] == "done"
    *alone, intent, outcome, done, gathered = audited(tmp_path)
    assert [(line.kind, line.cmd) for line in alone] == [("verdict", f"C{number}") for number in range(60)]
    assert [intent.kind, outcome.kind, done.kind, done.cmd] == ["intent", "outcome", "verdict", "D1"]
    assert (gathered.kind, gathered.count, gathered.device, gathered.codes) == ("gathered", 3, "PRESS", ("limit",))


async def test_s01_a_parameter_that_is_not_listed_is_refused_audited_and_reaches_no_wire(
    press: Device, mosquitto: Mosquitto, tmp_path: Path, record_property: Callable
) -> None:
    async with gateway(tmp_path, mosquitto.port, press.port) as mes:
        answer = await mes.download("C1", force=450, estop=1)
    assert (answer["answer"], answer["codes"]) == ("rejected", ["not_allowed"])
    (verdict,) = audited(tmp_path)
    assert (verdict.kind, verdict.cmd, verdict.result, verdict.codes) == ("verdict", "C1", "REJECTED", ("not_allowed",))
    assert verdict.detail == ("estop is not on the write allow-list of PRESS",)
    assert press.writes == []
    record_property("figure", "an unlisted tag: rejected by name, audited, 0 writes on the wire")


async def test_what_cannot_be_audited_is_not_written_and_the_command_says_so(
    press: Device, mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    async with gateway(tmp_path, mosquitto.port, press.port) as mes:
        monkeypatch.setattr(os, "fsync", full)  # SQLite calls its own
        answer = await mes.download("C1", force=450)
        assert press.writes == []
        assert (answer["answer"], answer["codes"]) == ("rejected", ["audit"])
        assert "nothing is written that cannot be audited" in answer["detail"][0]
        assert "No space left on device; see whether its disk is full or read-only" in answer["detail"][0]
        monkeypatch.setattr(os, "fsync", whole)
        assert (await mes.download("C2", force=451))["answer"] == "done"
    assert [(line.kind, line.cmd) for line in audited(tmp_path)] == [
        ("verdict", "C1"), ("intent", "C2"), ("outcome", "C2"), ("verdict", "C2"),
    ]  # fmt: skip
    assert press.writes == [(6, 1, [451])]


async def test_the_record_knows_how_far_the_audit_goes_and_the_next_start_tells_what_is_gone(
    press: Device, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    async with gateway(tmp_path, mosquitto.port, press.port) as mes:
        await mes.download("C1", force=450)
        await mes.download("C2", force=451)
    folder = AuditFolder(audit_folder(tmp_path / "gateway.db"))
    (path,) = folder.files()
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))
    (folder.path / "head").unlink()
    async with gateway(tmp_path, mosquitto.port, press.port) as mes:
        await mes.download("C3", force=452)
    assert [(line.n, line.kind) for line in audited(tmp_path)][3:] == [
        (4, "intent"), (7, "cut"), (8, "intent"), (9, "outcome"), (10, "verdict"),
    ]  # fmt: skip
    flaw = verify(folder, []).flaw
    assert flaw is not None
    assert flaw.reason == "missing: lines 5 to 6 are not there; here stands line 7"


async def test_what_the_audit_costs_one_write(tmp_path: Path, record_property: Callable) -> None:
    """Two appended lines, each with its fsync; the bound is wide, for a disk may be slow."""
    from gateway.audit.lines import Entry

    folder, took = AuditFolder(tmp_path / "a"), []
    for number in range(100):
        began = time.perf_counter()
        folder.append([Entry(kind="intent", t=1_000_000 + number, cmd="C", device="PRESS")])
        folder.append([Entry(kind="outcome", t=1_000_000 + number, cmd="C", device="PRESS", of=1)])
        took.append(time.perf_counter() - began)
    median = sorted(took)[50] * 1000
    assert median < 200
    record_property("figure", f"the audit of one write takes {median:.1f} ms (median, two lines, two fsyncs)")
