"""What may be said of a broker in YAML, and what is refused before anything is connected."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.mqtt.settings import MqttSettings


def test_little_needs_to_be_said() -> None:
    settings = MqttSettings(client_id="edge-01")
    assert (settings.host, settings.port, settings.protocol, settings.window) == ("127.0.0.1", 1883, "auto", 200)
    assert (settings.keepalive, settings.connect_timeout) == (10.0, 5.0)
    assert settings.password() is None


def test_mqtt_5_may_be_written_as_the_number_that_it_is() -> None:
    assert MqttSettings(client_id="edge-01", protocol=5).protocol == "5"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("window", 201), ("window", 0), ("port", 0), ("port", 65_536), ("keepalive", "500ms"), ("keepalive", 10),
        ("connect_timeout", "0s"), ("protocol", "3.1"), ("client_id", "with space"), ("client_id", ""), ("host", ""),
        ("tls", "yes"), ("password", "secret"), ("brokers", []),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_its_name(key: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        MqttSettings.model_validate({"client_id": "edge-01", key: value})
    assert [error["loc"] for error in caught.value.errors()] == [(key,)]


@pytest.mark.parametrize("host", ["192.168.1.10", "broker.plant.example", "::ffff:10.0.0.1", "0.0.0.0"])
def test_a_password_never_leaves_the_machine_in_clear(host: str, tmp_path: Path) -> None:
    """S7."""
    with pytest.raises(ValidationError, match=r"would go to .* in clear"):
        MqttSettings(client_id="edge-01", host=host, username="edge", password_file=tmp_path / "secret")
    MqttSettings(client_id="edge-01", host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_the_machine_itself_it_may_be_used(host: str, tmp_path: Path) -> None:
    settings = MqttSettings(client_id="edge-01", host=host, username="edge", password_file=tmp_path / "secret")
    assert (settings.host, settings.username) == (host, "edge")


@pytest.mark.parametrize("given", [{"username": "edge"}, {"password_file": "secret"}])
def test_half_a_credential_is_a_mistake(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="go together"):
        MqttSettings.model_validate({"client_id": "edge-01", **given})


def test_a_password_is_read_fresh_and_shown_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    settings = MqttSettings(client_id="edge-01", username="edge", password_file=secret)
    for word in ("canary-1", "canary-2"):
        secret.write_text(f"{word}\n")
        assert settings.password() == word
    assert "canary" not in f"{settings!r} {settings} {settings.model_dump()}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_password_that_others_can_read_is_not_used(tmp_path: Path, mode: int) -> None:
    secret = tmp_path / "secret"
    secret.write_text("canary")
    secret.chmod(mode)
    with pytest.raises(OSError, match=r"can be read by others; chmod 600 .*/secret"):
        MqttSettings(client_id="edge-01", username="edge", password_file=secret).password()


def test_a_password_file_with_other_bytes_than_text_is_said_by_name(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_bytes(b"\xff\xfe")
    with pytest.raises(OSError, match=r"/secret cannot be read \(is not UTF-8\)"):
        MqttSettings(client_id="edge-01", username="edge", password_file=secret).password()
