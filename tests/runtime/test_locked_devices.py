"""A lock set by `gateway lock` holds at once, over restarts, and for every way to a device; everybody is told."""

import os
import stat
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pymodbus.constants import ExcCodes

from gateway.audit.folder import AuditFolder
from gateway.audit.trail import audit_folder
from gateway.audit.verify import verify
from gateway.config.load import load_plant
from gateway.domain.contract.objections import Objection
from gateway.domain.operations import Operation
from gateway.domain.values import TagWrite
from gateway.runtime import daemon, locks
from gateway.runtime.clock import SystemClock
from gateway.runtime.locks import LockError, LockFile, lock_file
from gateway.runtime.write_gate import Passage, WriteGate
from tests.brokers import Mosquitto, eventually
from tests.drivers.modbus_devices import Device, device
from tests.gates import Remembered
from tests.runtime.pressed import EVENTS, LONG, STATUS, audited, gateway, write_plant

NOON = 1_793_966_400_000


@pytest.fixture
async def press() -> AsyncIterator[Device]:
    async with device() as served:
        await served.set(0, 1)
        yield served


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


# --- the file -------------------------------------------------------------------------------------------------------


def test_a_lock_is_there_for_whoever_looks_next_and_for_nobody_but_the_owner_to_read(store: Path) -> None:
    file = LockFile(lock_file(store))
    assert file.current().objection("PRESS") is None
    locks.lock(store, "PRESS", "knife", "maint3", NOON)
    assert file.current().objection("PRESS") == Objection(
        "locked", "PRESS is locked by maint3 since 2026-11-06T12:00:00.000Z: knife"
    )
    assert file.current().objection("OTHER") is None
    assert stat.S_IMODE(lock_file(store).stat().st_mode) == 0o600
    locks.lock(store, None, "audit of the plant", "it", NOON)
    objection = file.current().objection("OTHER")
    assert objection is not None
    assert objection.detail == "every device is locked by it since 2026-11-06T12:00:00.000Z: audit of the plant"


def test_each_lock_is_lifted_by_itself(store: Path) -> None:
    file = LockFile(lock_file(store))
    locks.lock(store, "PRESS", "knife", "maint3", NOON)
    locks.lock(store, None, "all", "it", NOON)
    assert locks.unlock(store, None, "it", NOON).by == "it"
    assert file.current().objection("PRESS") is not None
    assert locks.unlock(store, "PRESS", "maint4", NOON).reason == "knife"
    assert file.current().objection("PRESS") is None
    with pytest.raises(LockError, match="PRESS is not locked"):
        locks.unlock(store, "PRESS", "maint4", NOON)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for somebody else; run the tests as root")
def test_what_root_locks_belongs_to_whom_the_gateway_belongs(store: Path) -> None:
    os.chown(store.parent, 12_345, 12_346)
    locks.lock(store, None, "night shift", "root", NOON)
    made = [path for path in store.parent.rglob("*") if path.exists()]
    assert {path.name for path in made} == {"gateway.db.locks", "gateway.db.audit", "head", "2026-11.jsonl"}
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(12_345, 12_346)}


def test_two_who_lock_at_the_same_moment_both_hold(store: Path) -> None:
    devices = [f"M{number}" for number in range(24)]
    with ThreadPoolExecutor(max_workers=4) as people:
        list(people.map(lambda name: locks.lock(store, name, "knife", "maint3", NOON), devices))
    assert sorted(LockFile(lock_file(store)).current().devices) == sorted(devices)


def test_locks_and_unlocks_are_in_the_audit(store: Path) -> None:
    locks.lock(store, "PRESS", "knife", "maint3", NOON)
    locks.unlock(store, "PRESS", "maint4", NOON + 1)
    assert [(line.kind, line.device, line.by, line.detail) for line in audited(store.parent)] == [
        ("lock", "PRESS", "maint3", ("knife",)), ("unlock", "PRESS", "maint4", ("knife",)),
    ]  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"{", b'{"devices": 7}', b"\0" * 40])
def test_a_damaged_file_locks_everything_and_says_what_to_do(store: Path, content: bytes) -> None:
    locks.lock(store, "PRESS", "knife", "maint3", NOON)
    file = LockFile(lock_file(store))
    lock_file(store).write_bytes(content)
    for device_name in ("PRESS", "OTHER"):
        objection = file.current().objection(device_name)
        assert objection is not None
        assert f"{lock_file(store)} cannot be read" in objection.detail
        assert "look at it, then `gateway unlock` writes it anew" in objection.detail
    assert file.current() == file.current(), "said once, not at every look"
    with pytest.raises(LockError, match="everything is locked"):
        locks.unlock(store, "PRESS", "maint4", NOON)
    locks.unlock(store, None, "it", NOON)
    assert file.current().objection("PRESS") is None
    locks.lock(store, "PRESS", "knife", "maint3", NOON)
    assert (file.current().objection("PRESS") is not None, file.is_damaged) == (True, False)


def test_a_lock_is_on_the_disk_before_it_is_said_to_hold(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    whole = os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        whole(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    locks.lock(store, "PRESS", "knife", "maint3", NOON)
    assert synced[:2] == ["gateway.db.locks.new", store.parent.name]


def test_what_cannot_be_audited_is_not_unlocked(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks.lock(store, None, "all", "it", NOON)
    whole = AuditFolder._add

    def full(folder: AuditFolder, path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AuditFolder, "_add", full)
    with pytest.raises(
        LockError, match=r"it stays locked, for that it was unlocked cannot be audited: .* No space left"
    ):
        locks.unlock(store, None, "it", NOON)
    with pytest.raises(LockError, match=r"it is locked, but that is not in the audit: .* No space left"):
        locks.lock(store, "PRESS", "knife", "it", NOON)
    monkeypatch.setattr(AuditFolder, "_add", whole)
    assert LockFile(lock_file(store)).current().objection("PRESS") is not None


# --- at the gate ----------------------------------------------------------------------------------------------------


async def test_a_lock_set_while_the_disk_is_waited_for_still_stops_the_operation(tmp_path: Path) -> None:
    plant = load_plant(write_plant(tmp_path, 1, 1))
    store = Path(plant.store)
    remembered = Remembered()
    append = remembered.append

    async def slow(entries):
        locks.lock(store, "PRESS", "knife", "maint3", NOON)
        return await append(entries)

    remembered.append = slow
    gate = WriteGate(LockFile(lock_file(store)), remembered, SystemClock())
    operation = Operation("PRESS", "1", writes=(TagWrite("PRESS.force", 1),))
    refused = await gate.admit(plant.devices["PRESS"], operation)
    assert isinstance(refused, Objection)
    assert refused.code == "locked"
    assert [entry.kind for entry in remembered.entries] == ["intent", "refused"]
    locks.unlock(store, "PRESS", "maint3", NOON)
    remembered.append = append
    assert isinstance(await gate.admit(plant.devices["PRESS"], operation), Passage)


# --- the running gateway --------------------------------------------------------------------------------------------


async def test_a_lock_takes_effect_at_the_next_command_and_is_told_to_everybody(
    press: Device, mosquitto: Mosquitto, tmp_path: Path, store: Path, record_property: Callable
) -> None:
    async with gateway(tmp_path, mosquitto.port, press.port) as mes:
        assert (await mes.download("C1", force=450))["answer"] == "done"
        locks.lock(store, "PRESS", "knife", "maint3", NOON)
        answer = await mes.download("C2", force=451)
        assert (answer["answer"], answer["codes"]) == ("rejected", ["locked"])
        assert answer["detail"] == ["PRESS is locked by maint3 since 2026-11-06T12:00:00.000Z: knife"]
        held = {"device": "PRESS", "reason": "knife", "by": "maint3", "since": "2026-11-06T12:00:00.000Z"}
        await eventually(lambda: mes.told(STATUS)[-1]["locks"] == [held], "the status", LONG)
        locks.unlock(store, "PRESS", "maint3", NOON)
        assert (await mes.download("C3", force=452))["answer"] == "done"
        await eventually(lambda: mes.told(STATUS)[-1]["locks"] == [], "the status without the lock", LONG)
        await eventually(lambda: len(mes.told(f"{EVENTS}/gateway.lock")) == 2, "both events", LONG)
        told = [event["data"] for event in mes.told(f"{EVENTS}/gateway.lock")]
    assert [(data["device"], data["locked"], data["by"]) for data in told] == [
        ("PRESS", True, "maint3"), ("PRESS", False, "maint3"),
    ]  # fmt: skip
    assert [values for _, _, values in press.writes] == [[450], [452]]
    assert [line.kind for line in audited(tmp_path)] == [
        "intent", "outcome", "verdict", "lock", "verdict", "unlock", "intent", "outcome", "verdict",
    ]  # fmt: skip
    assert verify(AuditFolder(audit_folder(store)), []).flaw is None, "two programs wrote one chain"
    record_property("figure", "0 writes to a locked device; lock and unlock in the audit's one chain")


async def test_a_lock_is_told_by_itself_and_holds_over_a_restart_and_one_lifted_meanwhile_is_told_too(
    press: Device, mosquitto: Mosquitto, tmp_path: Path, store: Path
) -> None:
    async with gateway(tmp_path, mosquitto.port, press.port) as mes:
        locks.lock(store, None, "power cut", "it", NOON)
        await eventually(lambda: bool(mes.told(f"{EVENTS}/gateway.lock")), "the event, without any command", LONG)
    async with gateway(tmp_path, mosquitto.port, press.port) as mes:
        assert (await mes.download("C1", force=450))["codes"] == ["locked"]
        assert mes.told(STATUS)[-1]["locks"][0]["device"] is None
        assert mes.told(f"{EVENTS}/gateway.lock") == [], "told before the restart"
    locks.unlock(store, None, "it", NOON)
    async with gateway(tmp_path, mosquitto.port, press.port) as mes:
        await eventually(lambda: bool(mes.told(f"{EVENTS}/gateway.lock")), "the event", LONG)
        assert mes.told(f"{EVENTS}/gateway.lock")[0]["data"]["locked"] is False
        assert (await mes.download("C2", force=451))["answer"] == "done"
    assert [values for _, _, values in press.writes] == [[451]]


async def test_a_lock_set_in_the_middle_stops_the_rollback_and_the_answer_says_so(
    mosquitto: Mosquitto, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The press takes the force and refuses the speed; in that moment somebody locks it."""
    note = Device._note

    async def refuse_speed(press: Device, function, start, address, count, registers, values):
        await note(press, function, start, address, count, registers, values)
        if address == 3 and values:
            locks.lock(store, "PRESS", "knife", "maint3", NOON)
            return ExcCodes.ILLEGAL_VALUE
        return None

    monkeypatch.setattr(Device, "_note", refuse_speed)
    monkeypatch.setattr(daemon, "LOOK_AT_LOCKS", 60.0)
    async with device() as press:
        await press.set(0, 1)
        async with gateway(tmp_path, mosquitto.port, press.port) as mes:
            answer = await mes.download("C1", force=450, speed=60)
            assert mes.told(f"{EVENTS}/gateway.lock"), "the core knew of the lock before it told what came of it"
        assert (answer["answer"], answer["codes"]) == ("failed", ["write_refused", "locked", "rollback_failed"])
        assert answer["detail"][1] == "PRESS is locked by maint3 since 2026-11-06T12:00:00.000Z: knife"
        assert answer["detail"][2] == "force is not back at its old value"
        assert [values for _, _, values in press.writes] == [[450], [60]], "the rollback did not reach the wire"
        assert await press.get(1) == [450], "and what is told is what the press holds"
    assert [line.kind for line in audited(tmp_path)] == ["intent", "lock", "outcome", "refused", "verdict"]
    refused = audited(tmp_path)[3]
    assert (refused.cmd, refused.action, refused.codes) == ("C1", "rollback: write", ("locked",))
    verdict = audited(tmp_path)[-1]
    assert (verdict.kind, verdict.result, verdict.codes) == (
        "verdict",
        "FAILED",
        ("write_refused", "locked", "rollback_failed"),
    )
