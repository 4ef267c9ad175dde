"""S7: what opens the broker's door is nowhere it could be read, and `gateway check` says so with file and line."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.config.load import load_plant
from gateway.mqtt.client import BrokerLost, MqttConnection
from gateway.mqtt.settings import MqttSettings
from gateway.runtime import daemon
from gateway.runtime.clock import SystemClock
from tests.brokers import Consumer, Mosquitto, eventually, free_port
from tests.mqtt.test_client import WILL, settings

CANARY = "canary-7f3a"
DOCS = Path(__file__).parents[2] / "docs" / "brokers.md"


def check(folder: Path, *lines: str, store: Path = Path("unused.db")) -> str:
    """What `gateway check` says of a plant with these lines below `mqtt:`, which stands in the third line."""
    text = f"gateway: {{id: edge-01, site: ACME/HZ, store: {store}}}\ndevices: {{}}\nmqtt:\n  client_id: edge-01\n"
    (folder / "plant.yaml").write_text(text + "\n".join(f"  {line}" for line in lines) + "\n")
    result = CliRunner().invoke(app, ["check", "-c", str(folder)])
    assert CANARY not in result.output
    return f"{result.exit_code} {' '.join(result.output.split())}"


# --- gateway check ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["password_file: secret", "password_env: SECRET", "password_credential: mqtt"])
def test_s07_a_password_to_another_host_without_tls_is_refused_with_file_and_line(
    tmp_path: Path, where: str, record_property: Callable[[str, object], None]
) -> None:
    said = check(tmp_path, "host: broker.plant.example", "username: edge", where)
    assert said.startswith("2 ")
    assert (
        "plant.yaml:6: mqtt > username: a password would go to broker.plant.example in clear; write tls: true" in said
    )
    said = check(tmp_path, "brokers:", "  - {host: 127.0.0.1}", f"  - {{host: 10.0.0.9, username: edge, {where}}}")
    assert "plant.yaml:7: mqtt > brokers > 1 > username: a password would go to 10.0.0.9 in clear" in said
    for fine in (["host: 10.0.0.9", "tls: true"], ["host: 127.0.0.1"]):
        assert check(tmp_path, *fine, "username: edge", where).startswith("0 ")
    record_property("figure", "MQTT: password from file, environment or systemd refused without TLS, loopback excepted")


def test_a_password_in_the_yaml_is_refused_and_not_shown(tmp_path: Path) -> None:
    said = check(tmp_path, f"password: {CANARY}", "username: edge")
    assert "plant.yaml:5: mqtt > password: a password does not stand in the YAML; write it into a file of mode" in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"password_env: {CANARY} is it!", "mqtt > password_env: password_env is the name of an environment variable"),
        (f"password_credential: /etc/{CANARY}", "mqtt > password_credential: password_credential is the name of a"),
        (f"host: edge:{CANARY}@broker", "mqtt > host: host is the name or the address of a machine and nothing else"),
        ("host: mqtt://broker", "no mqtt://, no user, no path"),
        ("host: broker..plant", "mqtt > host: host is no host name: its parts have 1 to 63 letters each"),
        (f"host: {'.'.join(['a' * 63] * 4)}", "mqtt > host: host is no host name"),
        ('host: "a\\0b"', "mqtt > host: host is the name or the address of a machine and nothing else"),
        ("host: broker:1883", "mqtt > host: the port has a key of its own; write port: beside host:"),
        ("tls: {insecure: true}", "mqtt > tls > insecure: a broker is always verified; give in ca: the file"),
        ("tls: {verify: false}", "mqtt > tls > verify: a broker is always verified"),
        ("tls: {certificate: edge.pem}", "mqtt > tls: certificate and key go together; give both or neither"),
        ("return_after: 500ms", "mqtt > return_after"),
        ("tls: 1", "mqtt > tls"),
        ("password_files: x", "did you mean 'password_file'?"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_line_and_what_would_be_right(
    tmp_path: Path, line: str, words: str
) -> None:
    said = check(tmp_path, line)
    assert said.startswith("2 ")
    assert "plant.yaml:5: mqtt > " in said
    assert words in said


def test_two_places_for_one_password_and_keys_beside_a_list_of_brokers_are_one_too_many(tmp_path: Path) -> None:
    said = check(tmp_path, "username: edge", "password_file: a", "password_env: B")
    assert "plant.yaml:3: mqtt: password_file and password_env are two places for one password; keep one" in said
    said = check(tmp_path, "host: 10.0.0.9", "brokers: [{host: 10.0.0.8}]")
    assert "plant.yaml:3: mqtt: host beside brokers: each broker has keys of its own in the list" in said


def test_the_examples_of_the_documentation_pass_the_check(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\nmqtt:\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        lines = [line[2:] for line in block.splitlines() if "client_id" not in line]
        assert check(tmp_path, *lines).startswith("0 ")


def test_the_port_follows_from_tls_and_each_broker_of_a_list_is_one_of_the_choices() -> None:
    given = {"client_id": "edge", "keepalive": "3s", "brokers": [{"host": "a", "tls": True}, {"host": "b", "port": 1}]}
    choices = MqttSettings.model_validate(given).choices()
    assert [(one.place, one.keepalive, one.client_id, one.brokers) for one in choices] == [
        ("a:8883", 3.0, "edge", ()),
        ("b:1", 3.0, "edge", ()),
    ]
    assert [one.tls is None for one in choices] == [False, True]
    short = MqttSettings(client_id="edge")
    assert short.choices() == (short,)
    assert MqttSettings.model_validate({"client_id": "edge", "tls": False}).port == 1883


# --- where a password comes from ----------------------------------------------------------------------------------


def from_file(folder: Path, monkeypatch: pytest.MonkeyPatch, secret: str) -> dict[str, str]:
    file = folder / "secret"
    file.touch(mode=0o600)
    file.write_text(secret + "\n")
    return {"password_file": str(file)}


def from_environment(folder: Path, monkeypatch: pytest.MonkeyPatch, secret: str) -> dict[str, str]:
    monkeypatch.setenv("MQTT_SECRET", secret)
    return {"password_env": "MQTT_SECRET"}


def from_credential(folder: Path, monkeypatch: pytest.MonkeyPatch, secret: str) -> dict[str, str]:
    (folder / "mqtt").write_text(secret + "\n")
    (folder / "mqtt").chmod(0o440)  # as systemd shows it where it gives the right by an ACL
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return {"password_credential": "mqtt"}


SOURCES = pytest.mark.parametrize("source", [from_file, from_environment, from_credential])


@SOURCES
async def test_the_password_opens_the_door_and_is_shown_nowhere(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Callable
) -> None:
    mosquitto.restart(mosquitto.add_user("edge", CANARY), "allow_anonymous false")
    given = settings(mosquitto.port, username="edge", **source(tmp_path, monkeypatch, CANARY))
    with capture_logs() as logs:
        async with MqttConnection(given, WILL, modern=True) as connection:
            shown = f"{given!r} {given.model_dump()} {vars(connection)!r}"
        wrong = settings(mosquitto.port, username="edge", **source(tmp_path, monkeypatch, f"{CANARY}-wrong"))
        with pytest.raises(BrokerLost, match="Not authorized") as caught:
            await MqttConnection(wrong, WILL, modern=True).__aenter__()
    assert CANARY not in f"{shown} {logs} {caught.value!r} {caught.value.__context__!r}"


@SOURCES
async def test_a_whole_gateway_with_a_password_tells_it_to_nobody(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Callable
) -> None:
    """Neither the log nor a message nor the record on disk has it, from the first refusal to the last goodbye."""
    monkeypatch.setattr(daemon, "DRAIN", 0.5)
    passwords = mosquitto.add_user("edge", CANARY)
    mosquitto.restart(passwords, "allow_anonymous true")
    given = source(tmp_path, monkeypatch, f"{CANARY}-wrong")
    lines = [f"port: {mosquitto.port}", "username: edge", *(f"{key}: {value}" for key, value in given.items())]
    assert check(tmp_path, *lines, store=tmp_path / "record.db").startswith("0 ")
    stop = asyncio.Event()
    with capture_logs() as logs, Consumer(mosquitto.port) as consumer:
        running = asyncio.create_task(daemon.Daemon(load_plant(tmp_path), SystemClock()).run(stop))
        await eventually(lambda: "Not authorized" in str(logs), "the wrong one is refused")
        source(tmp_path, monkeypatch, CANARY)
        await eventually(lambda: any(b"online" in message.payload for message in consumer.messages), "it is in")
        await eventually(lambda: any(m.topic.endswith("evt/gateway.birth") for m in consumer.messages), "it is born")
        stop.set()
        await running
    record = b"".join(file.read_bytes() for file in tmp_path.glob("record.db*") if file.is_file())
    assert CANARY not in f"{logs} {consumer.messages}"
    assert b"gateway.birth" in record
    assert CANARY.encode() not in record


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"password_file": "nowhere"}, "the password file nowhere cannot be read (No such file or directory)"),
        ({"password_env": "NOT_THERE"}, "the environment variable NOT_THERE (mqtt: password_env) is not set or empty"),
        ({"password_credential": "mqtt"}, "there is no CREDENTIALS_DIRECTORY, so no credential mqtt; run as a systemd"),
    ],
)
async def test_a_password_that_is_not_there_is_said_with_what_to_do(given: dict[str, str], words: str) -> None:
    with pytest.raises(BrokerLost) as caught:
        await MqttConnection(settings(free_port(), username="edge", **given), WILL, modern=True).__aenter__()
    assert words in str(caught.value)


async def test_an_empty_file_and_a_missing_credential_are_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = from_file(tmp_path, monkeypatch, "")
    with pytest.raises(OSError, match="is empty; write the password into it"):
        settings(1, username="edge", **given).password()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(OSError, match=r"the credential mqtt .* cannot be read \(No such file"):
        settings(1, username="edge", password_credential="mqtt").password()
