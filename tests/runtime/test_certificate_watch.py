"""A certificate that ends soon is announced once a day, from the folder on the disk to the outbox."""

import asyncio
import io
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.config.load import load_plant
from gateway.config.plant import Plant
from gateway.drivers.opcua.secure_channel.certificates import DAY, Expiring, thumbprint, valid_until
from gateway.drivers.opcua.secure_channel.pki import Pki
from gateway.mqtt.settings import MqttSettings
from gateway.runtime import daemon
from gateway.runtime.certificate_watch import certificate_folders, watch_certificates
from gateway.runtime.clock import SystemClock
from tests.brokers import Mosquitto, speaking_broker
from tests.mqtt.certificates import Authority
from tests.stage import Stage

PLANT = """\
gateway: {id: edge-01, site: ACME/HZ, store: STORE}
mqtt: {client_id: edge-01, port: 1}
devices:
  M1: {driver: opcua, url: "opc.tcp://127.0.0.1:1", namespace: "urn:plc"}
  M2: {driver: opcua, url: "opc.tcp://127.0.0.1:1", namespace: "urn:plc", security: none, pki: ELSEWHERE}
equipment:
  ACME/HZ/A/L1/M1:
    device: M1
    tags:
      word: {node: s=word, type: uint16}
"""
LAST = 825
"""Days that a new certificate has."""


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    text = PLANT.replace("STORE", str(tmp_path / "var" / "gateway.db")).replace("ELSEWHERE", str(tmp_path / "else"))
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "plant.yaml").write_text(text, encoding="utf-8")
    return load_plant(tmp_path / "config")


def put_certificate(pki: Path, role: str, left: int, name: str = "urn:plc"):
    """A certificate with less than `left` days, in that folder."""
    made = Pki(pki / name).create(name, ["127.0.0.1"], round(time.time() * 1000) - (LAST - left) * DAY)
    target = pki / role / f"{thumbprint(made.certificate)}.der"
    target.parent.mkdir(parents=True, exist_ok=True)
    (pki / name / "own" / "certificate.der").rename(target)
    return made.certificate


class OneHour:
    """A clock that ends the watch after so many looks."""

    rate = 1.0
    jumped = 0

    def __init__(self, looks: int = 1) -> None:
        self.looks = looks

    def now(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        assert seconds == 3600
        self.looks -= 1
        if self.looks == 0:
            raise asyncio.CancelledError


async def watched(plant: Plant, looks: int = 1) -> list[Expiring]:
    told: list[Expiring] = []
    with pytest.raises(asyncio.CancelledError):
        await watch_certificates(plant, OneHour(looks), told.append)
    return told


async def test_a_trusted_certificate_with_9_days_left_is_told_and_a_rejected_one_is_not(plant: Plant, tmp_path: Path):
    pki = tmp_path / "var" / "pki"
    ending = put_certificate(pki, "trusted", 10)
    put_certificate(pki, "trusted", 40, "urn:plc2")
    put_certificate(pki, "rejected", 10, "urn:plc3")
    assert await watched(plant) == [Expiring("urn:plc", thumbprint(ending), valid_until(ending), 9)]


async def test_an_own_certificate_that_was_renewed_is_told_no_more(plant: Plant, tmp_path: Path):
    pki = Pki(tmp_path / "var" / "pki")
    pki.create("urn:edge", ["edge"], round(time.time() * 1000) - 800 * DAY)
    assert [finding.subject for finding in await watched(plant)] == ["urn:edge"]
    pki.own(round(time.time() * 1000))
    assert await watched(plant) == []


async def test_a_folder_that_cannot_be_read_is_said_and_looked_at_again(plant: Plant, tmp_path: Path, monkeypatch):
    put_certificate(tmp_path / "var" / "pki", "trusted", 10)
    read = Path.iterdir
    refused = iter([True])

    def refuse_once(path: Path):
        if path.name == "trusted" and next(refused, False):
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "iterdir", refuse_once)
    with capture_logs() as lines:
        assert len(await watched(plant, looks=2)) == 1
    assert "trusted cannot be read: Permission denied; let the gateway read it" in lines[0]["reason"]


def test_a_device_without_security_has_no_certificates_to_watch(plant: Plant, tmp_path: Path):
    assert certificate_folders(plant) == [tmp_path / "var" / "pki"]


async def test_a_certificate_that_is_shown_to_a_broker_is_watched_too(plant: Plant, tmp_path: Path):
    """Without it the uplink would end one night, and no device would be to blame."""
    ending = Authority(tmp_path).sign("edge-01", days=(-10, 9.5))
    tls = {"certificate": str(ending.certificate), "key": str(ending.key)}
    brokers = [{"port": 1, "tls": tls}, {"port": 2, "tls": tls}, {"port": 3, "tls": True}, {"port": 4}]
    mqtt = MqttSettings.model_validate({"client_id": "edge-01", "brokers": brokers})
    (found,) = await watched(replace(plant, mqtt=mqtt))
    assert (found.subject, found.days_left) == ("edge-01", 9)
    ending.certificate.unlink()
    with capture_logs() as lines:
        assert await watched(replace(plant, mqtt=mqtt)) == []
    assert "edge-01.pem" in lines[0]["reason"]


@pytest.fixture
def broker(plant: Plant, tmp_path: Path, mosquitto: Mosquitto) -> Callable[..., Plant]:
    """Lets mosquitto begin anew with a certificate for those days; returns the plant whose second choice it is."""
    authority = Authority(tmp_path)

    def listen(*days: float) -> Plant:
        files = authority.sign("broker-b", "127.0.0.1", days=(-60, *days))
        mosquitto.restart(f"certfile {files.certificate}", f"keyfile {files.key}")
        brokers = [{"port": 1}, {"port": mosquitto.port, "tls": {"ca": str(authority.file)}}]
        mqtt = MqttSettings.model_validate({"client_id": "edge-01", "brokers": brokers})
        return replace(plant, mqtt=mqtt)

    return listen


async def test_the_certificate_of_a_broker_is_watched_where_it_is_also_at_one_of_second_choice(
    broker: Callable[..., Plant], tmp_path: Path
) -> None:
    (found,) = await watched(broker(29.5))
    assert (found.subject, found.days_left) == ("broker-b", 29)
    assert await watched(broker(30.5)) == []
    (tmp_path / "var" / "pki" / "trusted").mkdir(parents=True)
    (tmp_path / "var" / "pki" / "trusted" / "plc.der").write_bytes(b"what is this?")
    assert len(await watched(broker(2.5))) == 1, "files that cannot be read hide no broker"


async def test_a_broker_that_cannot_prove_who_it_is_any_more_is_said_once(broker: Callable[..., Plant]) -> None:
    ended = broker(-0.1)
    ended = replace(ended, devices={"M2": ended.devices["M2"]})  # which has no certificates of its own to watch
    with capture_logs() as lines:
        assert await watched(ended, looks=3) == []
    (line,) = lines
    assert line["event"] == "a broker cannot prove who it is"
    assert line["reason"].endswith(
        "its certificate has expired; renew it at the broker, or set this machine's clock if that is wrong"
    )


async def test_a_broker_that_is_away_is_not_the_affair_of_this_watch(plant: Plant) -> None:
    mqtt = MqttSettings.model_validate({"client_id": "edge-01", "port": 1, "tls": True})
    with capture_logs() as lines:
        assert await watched(replace(plant, mqtt=mqtt)) == []
    assert lines == []


def test_an_expiry_is_an_event_once_a_day_also_over_a_restart():
    stage = Stage()

    def tell(days_left: int) -> None:
        stage.core.handle_expiry("PLC", "ab12", stage.now + days_left * DAY, days_left, stage.now)
        stage.commit()

    tell(10)
    tell(10)
    stage.kill_and_restart("07:00:00")
    tell(10)
    stage.now += DAY
    tell(9)
    told = [event for event in stage.events if event.type == "gateway.certificate"]
    days = [(data["days_left"], data["day"]) for _, data in stage.told("gateway.certificate")]
    assert days == [(10, "2026-03-02"), (9, "2026-03-03")]
    assert len({event.id for event in told}) == 2


async def test_the_running_gateway_records_an_expiry(plant: Plant, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(daemon, "DRAIN", 0.0)
    ending = put_certificate(tmp_path / "var" / "pki", "trusted", 10)
    stop = asyncio.Event()
    gateway = daemon.Daemon(plant, SystemClock())
    running = asyncio.create_task(gateway.run(stop))
    with capture_logs() as lines:
        async with asyncio.timeout(10):
            while not (hasattr(gateway, "_core") and gateway._core.memory.expiries):
                await asyncio.sleep(0.02)
            stop.set()
            await running
    (said,) = (line for line in lines if line["event"] == "a certificate ends soon")
    assert (said["subject"], said["days_left"]) == ("urn:plc", 9)
    (event,) = recorded(Path(plant.store))
    assert (event["data"]["thumbprint"], event["data"]["days_left"], event["eq"]) == (thumbprint(ending), 9, None)


async def test_a_dry_run_knocks_at_no_broker(plant: Plant, tmp_path: Path) -> None:
    put_certificate(tmp_path / "var" / "pki", "trusted", 10)
    knocks: list[str] = []

    async def knocked(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        knocks.append("at the door")
        writer.close()

    async with speaking_broker(knocked) as port:
        mqtt = MqttSettings.model_validate({"client_id": "edge-01", "port": port, "tls": True})
        gateway, stop = daemon.Daemon(replace(plant, mqtt=mqtt), SystemClock(), io.BytesIO()), asyncio.Event()
        running = asyncio.create_task(gateway.run(stop))
        async with asyncio.timeout(10):
            while not (hasattr(gateway, "_core") and gateway._core.memory.expiries):
                await asyncio.sleep(0.02)
            stop.set()
            await running
    assert knocks == []


def recorded(store: Path) -> list[dict]:
    """What the outbox has of certificates."""
    with closing(sqlite3.connect(store)) as connection:
        rows = connection.execute("SELECT payload FROM outbox").fetchall()
    events = [msgspec.json.decode(payload) for (payload,) in rows]
    return [event for event in events if event["type"] == "gateway.certificate"]
