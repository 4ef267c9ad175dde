"""`gateway subscribe` behind a real broker: with the real gateway, and with one that answers from a list."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.cli.following import SILENCE, Follower, milliseconds
from gateway.cli.subscribe import TlsFiles, Wish, from_address, from_config
from gateway.consumer.messages import read
from gateway.consumer.reconcile import Reconciler
from gateway.consumer.reports import Asked, Filled, LastAsked, NotTaken, Report, Told
from gateway.consumer.topics import filters, status_filters
from gateway.mqtt.settings import MqttSettings
from tests.brokers import Gate, Mosquitto, eventually, free_port, speaking_broker
from tests.cli.running import gateway as command
from tests.consumer.fake_gateway import FakeGateway, Sent
from tests.consumer.played import Played
from tests.runtime.uplink_line import LONG, Mes, gateway
from tests.shipped_mosquitto import ShippedMosquitto

ROOM = 100
"""Messages that the broker keeps for a consumer that is away or slow."""
FIL = "ACME/HZ/PACK/L1/FIL01"


PLANT = """\
gateway: {{id: edge-01, site: ACME/HZ, store: {store}}}
mqtt: {{client_id: edge-01, brokers: {brokers}}}
devices:
  M1: {{driver: modbus, host: 127.0.0.1, poll_interval: 1s}}
equipment:
  ACME/HZ/PACK/L1/FIL01: {{device: M1, tags: {{a: {{register: 0, type: uint16}}}}}}
"""


class Ear:
    """Hears reports in this process; the reconciler, and the session at the broker, outlive a connection."""

    def __init__(self, port: int, user: str | None = None, password: Path | None = None) -> None:
        self.reconciler = Reconciler(f"ear-{port}")
        self.reports: list[Report] = []
        self.links: list[str] = []
        self.kept = 0
        self._settings = MqttSettings(port=port, client_id=user or "ear", username=user, password_file=password)
        self._stop = asyncio.Event()

    def hear(self, report: Report) -> None:
        self.reports.append(report)

    def keep(self) -> None:
        self.kept += 1

    def link(self, state: str) -> None:
        self.links.append(state)

    async def listen(self, *, once: bool = True) -> None:
        both = filters("mfg/v1"), status_filters("mfg/v1")
        follower = Follower(self._settings, "mfg/v1", self.reconciler, self, filters=both, keep=600)
        async with asyncio.timeout(LONG):
            await follower.run(self._stop, once=once)

    def stop(self) -> None:
        self._stop.set()

    def has_heard(self, *messages: Sent) -> None:
        """Some seconds ago."""
        for sent in messages:
            message = read("mfg/v1", sent.topic, sent.payload)
            assert message is not None
            self.reports += self.reconciler.take(message, milliseconds() - 5_000)

    def of(self, kind: type) -> list:
        return [report for report in self.reports if isinstance(report, kind)]

    @property
    def events(self) -> list[bytes]:
        return [report.event.payload for report in self.of(Told) if not report.event.of_nobody]


@pytest.mark.case("C9")
async def test_r07_what_a_queue_at_the_broker_lost_is_told_exactly_and_a_replay_restores_it(
    mosquitto: Mosquitto, tmp_path: Path, record_property: Callable
) -> None:
    mosquitto.restart("max_inflight_messages 20", f"max_queued_messages {ROOM}")
    ear = Ear(mosquitto.port)
    async with gateway(tmp_path, mosquitto.port) as line:
        with Mes(mosquitto.port) as plain:
            await ear.listen()
            await line.toggle(10)
            await line.all_acknowledged()
            await ear.listen()
            before = len(ear.events)
            await line.toggle(120)
            await line.all_acknowledged()
            await ear.listen()
            published = [one.payload for one in plain.events() if one.historical != "replay"]
            plain.check_contract()
    asked, filled = ear.of(Asked), ear.of(Filled)
    came = {json.loads(report.event.payload)["seq"] for report in ear.of(Told) if report.event.historical != "replay"}
    lost = [number for number in range(1, len(published) + 1) if number not in came]
    assert before >= 10
    assert len(lost) > len(published) // 2, "the queue ran over"
    assert [(report.first, report.last, report.missing) for report in asked] == [(lost[0], lost[-1], len(lost))]
    assert [(report.first, report.last, report.messages) for report in filled] == [(lost[0], lost[-1], len(lost))]
    assert ear.events == published
    assert ear.reconciler.missing - _telemetry_missing(ear) == 0
    figure = (
        f"{len(published)} events, {len(lost)} lost at the broker: told as {lost[0]}-{lost[-1]}, missing after replay 0"
    )
    record_property("figure", figure)


def _telemetry_missing(ear: Ear) -> int:
    return sum(numbers.left for name, numbers in ear.reconciler.streams if name.kind == "tel")


def state_events(gateway: FakeGateway, count: int) -> list[Sent]:
    names = ("from", "to", "reason", "cause")
    return [gateway.event(FIL, **dict(zip(names, ("IDLE", "RUN", None, None), strict=True))) for _ in range(count)]


@asynccontextmanager
async def running_command(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`gateway subscribe` that is connected; `communicate` after the end of the block."""
    pipe = asyncio.subprocess.PIPE
    command_line = [sys.executable, "-m", "gateway", "subscribe", *arguments]
    process = await asyncio.create_subprocess_exec(*command_line, stdout=pipe, stderr=pipe)
    assert process.stderr is not None
    assert b"connected to" in await asyncio.wait_for(process.stderr.readline(), LONG)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)


async def test_people_read_events_beside_what_is_missing_and_what_it_came_to(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    gateway_ = FakeGateway()
    async with Played(gateway_, mosquitto.port).running() as played:
        async with running_command("--broker", f"mqtt://127.0.0.1:{mosquitto.port}") as process:
            events = state_events(gateway_, 5)
            gateway_.forgotten = {(FIL, 2)}
            played.publish(events[0], events[4])
            assert process.stderr is not None
            notes = [await asyncio.wait_for(process.stderr.readline(), LONG) for _ in range(3)]
        out, err = await asyncio.wait_for(process.communicate(), LONG)
    assert process.returncode == 1
    line = "2026-03-02T06:00:00.000Z  FIL01       equipment.state       IDLE → RUN"
    assert out.decode().splitlines() == [line] * 4
    assert b"".join([*notes, err]).decode().splitlines() == [
        f"missing  {FIL} 2-4: 3 events, asked for",
        f"filled   {FIL} 2-4: 2 of 3 events came",
        f"lost     {FIL} 2: the gateway no longer keeps it",
        "equipment\tevents\trevisions\trepeats\tmissed\tcame\tmissing\ttel\ttel missing",
        f"{FIL}\t4\t0\t0\t3\t2\t1\t0\t0",
        "result   4 events; 1 message is missing",
    ]
    mosquitto.stop()
    (saved,) = tmp_path.rglob("mosquitto.db")
    assert b"subscribe-" not in saved.read_bytes(), "the broker keeps a session that nobody will ask for"


async def test_a_consumer_that_is_killed_goes_on_from_its_state_file_and_skips_nothing(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    state = tmp_path / "state.json"
    arguments = ["--broker", f"mqtt://127.0.0.1:{mosquitto.port}", "--state", str(state), "--jsonl"]
    gateway_ = FakeGateway()
    events = state_events(gateway_, 120)
    async with Played(gateway_, mosquitto.port).running() as played:
        async with running_command(*arguments) as process:
            assert process.stdout is not None
            nothing = state.read_bytes()
            await asyncio.to_thread(played.publish, *events[:60])
            before = [(await asyncio.wait_for(process.stdout.readline(), LONG)).strip() for _ in range(40)]
            await eventually(lambda: state.read_bytes() != nothing, "some of it is safe", LONG)
            process.kill()
            rest, _ = await asyncio.wait_for(process.communicate(), LONG)
        before += [told for told in rest.splitlines() if told]
        await asyncio.to_thread(played.publish, *events[60:])
        after = await command("subscribe", *arguments, "--once")
    assert after.code == 0, after.err
    assert after.err.splitlines()[-1] == "result   120 events; nothing is missing", "also what came before the kill"
    told = [*before, *after.out.encode().splitlines()]
    assert list(dict.fromkeys(told)) == [event.payload for event in events]
    assert len(told) < len(events) + 60, "what was safe is not told again"


async def test_messages_of_a_cut_connection_come_with_the_next_one_and_nothing_is_asked(mosquitto: Mosquitto) -> None:
    gate = Gate(mosquitto.port)
    await gate.open()
    ear, gateway_ = Ear(gate.port), FakeGateway()
    async with Played(gateway_, mosquitto.port).running() as played:
        listening = asyncio.create_task(ear.listen(once=False))
        await eventually(lambda: bool(ear.links), "it is connected", LONG)
        played.publish(*state_events(gateway_, 5))
        await eventually(lambda: len(ear.events) == 5, "they are here", LONG)
        await gate.close()
        played.publish(*state_events(gateway_, 5))
        await gate.open()
        await eventually(lambda: len(ear.events) == 10, "the others too", LONG)
        await eventually(lambda: ear.reconciler.roll_call.open == 0, "the gateway was asked for its last number", LONG)
        ear.stop()
        await listening
    await gate.close()
    assert ear.links[0] == f"connected to 127.0.0.1:{gate.port}, MQTT 5"
    assert len(ear.links) == 3
    assert (ear.of(Asked), ear.reconciler.missing) == ([], 0)
    assert ear.kept > 0


async def test_a_first_visit_ends_when_the_status_of_a_gateway_shows_that_nothing_more_waits(
    mosquitto: Mosquitto,
) -> None:
    ear = Ear(mosquitto.port)
    async with Played(FakeGateway(), mosquitto.port).running():
        began = milliseconds()
        await ear.listen()
        assert milliseconds() - began < SILENCE, "it did not have to wait for silence"


@pytest.mark.skipif(not os.environ.get("FULL"), reason="waits for two pauses between tries; FULL=1 does")
async def test_a_broker_that_stays_away_is_said_once() -> None:
    tries: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.append(await reader.read(100))
        writer.close()

    async with speaking_broker(hang_up) as port:
        ear = Ear(port)
        listening = asyncio.create_task(ear.listen(once=False))
        await eventually(lambda: len(tries) > 2, "it is tried again", LONG)
        ear.stop()
        await listening
    assert len(ear.links) == 1


async def test_at_the_shipped_broker_the_mes_may_ask_and_a_dashboard_is_told_that_it_may_not(tmp_path: Path) -> None:
    broker, gateway_ = ShippedMosquitto(tmp_path), FakeGateway()
    mes, dashboard = (Ear(broker.port, user, broker.password_files[user]) for user in ("mes", "dashboard"))
    events = state_events(gateway_, 3)
    for ear in (mes, dashboard):
        ear.has_heard(gateway_.status(), events[0], events[2])
    broker.start()
    try:
        listening = [asyncio.create_task(ear.listen(once=False)) for ear in (mes, dashboard)]
        await eventually(lambda: bool(mes.of(LastAsked) and mes.of(Asked)), "the MES asks", LONG)
        await eventually(lambda: len(dashboard.of(NotTaken)) >= 2, "the dashboard is refused", LONG)
        for ear in (mes, dashboard):
            ear.stop()
        await asyncio.gather(*listening)
    finally:
        broker.kill()
    assert len(mes.links) == len(dashboard.links) == 1, "all subscriptions were granted"
    assert mes.of(NotTaken) == []
    refusals = {report.reason for report in dashboard.of(NotTaken)}
    assert refusals == {
        "the broker takes no cmd/replay from the user dashboard (Not authorized); give a --user who may write it"
    }
    assert (dashboard.reconciler.roll_call.open, dashboard.reconciler.missing) == (1, 1)


def refused(*arguments: str) -> str:
    """What is said of options that cannot be fulfilled; no broker is asked."""
    done = CliRunner().invoke(app, ["subscribe", *arguments])
    assert done.exit_code == 2, done.output
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--broker", "127.0.0.1:1883"], "--broker is mqtt://<host>:<port>"),
        (["--broker", "mqtt://mes:secret@127.0.0.1"], "a user goes to --user"),
        (["--broker", "mqtt://127.0.0.1:70000"], "--broker is mqtt://<host>:<port>"),
        (["--broker", "mqtt://127.0.0.1", "--eq", "FIL01"], "write the whole path, as in ACME/HZ/PACK/L1/FIL01"),
        (["--broker", "mqtt://127.0.0.1", "--user", "mes"], "--user and --password-file go together; give both"),
        (["-c", "config", "--user", "mes", "--password-file", "gone"], "--password-file: the password file gone cannot be"),
        (["--broker", "mqtt://127.0.0.1", "--ca", "ca.pem"], "are for TLS; write mqtts:// in --broker"),
        (["--broker", "mqtts://127.0.0.1", "--certificate", "mes.pem"], "certificate and key go together"),
        (["-c", "config", "--key", "mes.key"], "with -c those of the configuration are taken"),
        (["--broker", "mqtt://10.0.0.1", "--user", "m", "--password-file", "p"], "a password would go to 10.0.0.1 in clear"),
        (["-c", "config", "--eq", "FIL02"], "FIL02 is not configured; the equipment is: ACME/HZ/PACK/L1/FIL01"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_fulfilled_say_what_would_be_right(arguments: list[str], words: str) -> None:
    told = refused(*arguments)
    assert told.startswith("subscribe: ")
    assert words in told
    assert "secret" not in told


def test_a_file_that_is_no_state_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "shopping.json"
    file.write_text('{"milk": 2}')
    assert "is no state of `gateway subscribe`" in refused("--broker", "mqtt://127.0.0.1", "--state", str(file))
    assert file.read_text() == '{"milk": 2}'
    old = tmp_path / "state.json"
    old.write_text('{"client_id": "x", "root": "mfg/v1", "version": 9}')
    assert "is of version 9" in refused("--broker", "mqtt://127.0.0.1", "--state", str(old))
    old.write_text('{"client_id": "x", "root": "mfg/v1", "version": 1}')
    words = "is of topics below mfg/v1, not plant; give another --state"
    assert words in refused("--broker", "mqtt://127.0.0.1", "--state", str(old), "--root", "plant")


def test_a_state_that_cannot_be_written_is_told_before_anything_is_heard(tmp_path: Path) -> None:
    file = tmp_path / "nowhere" / "state.json"
    assert "give a file that can be written" in refused("--broker", "mqtt://127.0.0.1", "--state", str(file))


def test_a_configured_plant_says_what_to_subscribe_to(tmp_path: Path) -> None:
    wish = Wish(None, Path("config"), ["LBL01"], False, None, False, None, "mfg/v1", None, None, TlsFiles())
    source = from_config(wish)
    assert source.filters == (
        [
            "mfg/v1/ACME/HZ/evt/+", "mfg/v1/ACME/HZ/_gw/+/res/replay", "mfg/v1/ACME/HZ/_gw/+/evt/+",
            "mfg/v1/ACME/HZ/PACK/L1/LBL01/evt/+", "mfg/v1/ACME/HZ/PACK/L1/LBL01/tel",
        ],
        ["mfg/v1/ACME/HZ/_gw/+/status"],
    )  # fmt: skip


def test_with_once_a_broker_that_is_not_there_is_not_waited_for() -> None:
    done = CliRunner().invoke(app, ["subscribe", "--broker", f"mqtt://127.0.0.1:{free_port()}", "--once"])
    assert done.exit_code == 1
    assert "Connect call failed" in done.stderr or "refused" in done.stderr


def test_a_broker_at_which_no_gateway_is_heard_proves_nothing(mosquitto: Mosquitto) -> None:
    """Another root, or a user who may not read: mosquitto agrees to the subscription and sends nothing."""
    arguments = ["--broker", f"mqtt://127.0.0.1:{mosquitto.port}", "--root", "plant", "--for", "0.5"]
    done = CliRunner().invoke(app, ["subscribe", *arguments])
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == (
        "result   no gateway was heard below plant, not even its status; is that what topics begin with (--root), and may "
        "this user read them?"
    )


async def test_a_configured_plant_is_heard_as_another_user_and_no_broker_keeps_anything_of_it(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    (tmp_path / "mes.password").touch(mode=0o600)
    (tmp_path / "mes.password").write_text("secret")
    mosquitto.restart(mosquitto.add_user("mes", "secret"), "allow_anonymous false")
    brokers = f"[{{port: {free_port()}}}, {{port: {mosquitto.port}}}]"
    (tmp_path / "plant").mkdir()
    (tmp_path / "plant" / "plant.yaml").write_text(PLANT.format(brokers=brokers, store=tmp_path / "gateway.db"))
    login = ["--user", "mes", "--password-file", str(tmp_path / "mes.password")]
    done = await command("subscribe", "-c", str(tmp_path / "plant"), *login, "--for", "1")
    assert (done.code, done.out) == (1, "")
    assert f"broker   connected to 127.0.0.1:{mosquitto.port}, MQTT 5" in done.err.splitlines()
    assert done.err.splitlines()[-1].startswith("result   no gateway was heard below mfg/v1")
    mosquitto.stop()
    (saved,) = tmp_path.rglob("mosquitto.db")
    assert b"subscribe-" not in saved.read_bytes(), "nobody will ask for that session"


def test_for_ends_it_also_without_a_broker() -> None:
    done = CliRunner().invoke(app, ["subscribe", "--broker", f"mqtt://127.0.0.1:{free_port()}", "--for", "0.2"])
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == "result   no broker let us in, so nothing is known"


def test_tls_and_another_login_reach_the_broker_also_in_place_of_the_gateways(tmp_path: Path) -> None:
    password, tls = tmp_path / "password", TlsFiles(*(tmp_path / name for name in ("ca.pem", "mes.pem", "mes.key")))
    secured = Wish("mqtts://mes.example", None, [], False, None, False, None, "mfg/v1", "mes", password, tls)
    settings = from_address(secured).settings
    assert (settings.host, settings.port, settings.username) == ("mes.example", 8883, "mes")
    assert settings.tls is not None
    assert (settings.tls.ca, settings.tls.certificate, settings.tls.key) == tls
    assert settings.password_file == password
    (choice,) = from_config(secured._replace(broker=None, config=Path("config"), tls=TlsFiles())).settings.choices()
    assert (choice.username, choice.password_file) == ("mes", password)
