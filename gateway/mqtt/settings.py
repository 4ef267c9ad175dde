"""What the YAML says of the brokers."""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic import field_validator as check_field
from pydantic import model_validator as check_model

from gateway.domain.times import parse_duration
from gateway.mqtt.credentials import password_from_credential, password_from_environment, password_from_file

Seconds = Annotated[float, BeforeValidator(parse_duration)]

PORT: Final = 1883
TLS_PORT: Final = 8883
"""The ports that IANA has for MQTT, without and with TLS."""

LONGEST_HOST: Final = 253
"""Bytes of a host name (RFC 1035 §2.3.4)."""

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CREDENTIAL: Final = re.compile(r"[A-Za-z0-9_@-][A-Za-z0-9_.@-]*")


def _only_a_host(host: str) -> str:
    if not host or re.search(r"[/@\s\0]", host):
        raise ValueError("host is the name or the address of a machine and nothing else: no mqtt://, no user, no path")
    if re.fullmatch(r"[^:]+:\d+", host):
        raise ValueError("the port has a key of its own; write port: beside host:")
    try:
        fits = len(host.encode("idna")) <= LONGEST_HOST
    except UnicodeError:
        fits = False
    if not fits:
        raise ValueError("host is no host name: its parts have 1 to 63 letters each, all of it 253 at most")
    return host


def _variable_name(name: str) -> str:
    if not _VARIABLE.fullmatch(name):  # perhaps it is the password itself: it must not be shown
        raise ValueError("password_env is the name of an environment variable, such as MQTT_PASSWORD")
    return name


def _credential_name(name: str) -> str:
    if not _CREDENTIAL.fullmatch(name):
        raise ValueError("password_credential is the name of a systemd credential: LoadCredential=<name>:<file>")
    return name


class TlsSettings(BaseModel):
    """Whom we believe, and who we are. The broker's chain and host name are verified, always.

    Without `ca`, those whom the operating system believes may have signed the broker's certificate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    instead: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("insecure", "verify", "skip_verify", "check_hostname", "allow_other_host"),
        "a broker is always verified; give in ca: the file of the authority that signed its certificate",
    )

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @check_model(mode="after")
    def _belong_together(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together; give both or neither")
        return self


def _tls_as_written(given: object) -> object:
    """`tls: true` is TLS with nothing more to say, `tls: false` is none."""
    return {} if given is True else None if given is False else given


def _version_as_written(given: object) -> object:
    """Who writes `protocol: 5` has written a number."""
    return "5" if given == 5 and not isinstance(given, bool) else given


class BrokerSettings(BaseModel):
    """Where one broker is and how it lets us in. `protocol: auto` speaks MQTT 5, or 3.1.1 where that is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    instead: ClassVar[Mapping[str, str]] = {
        "password": (
            "a password does not stand in the YAML; write it into a file of mode 0600 and name that in "
            "password_file, or give password_env or password_credential"
        )
    }

    host: Annotated[str, AfterValidator(_only_a_host)] = "127.0.0.1"
    tls: Annotated[TlsSettings | None, BeforeValidator(_tls_as_written)] = None
    port: Annotated[int, Field(ge=1, le=65535)] = PORT
    username: str | None = None
    password_file: Path | None = None
    password_env: Annotated[str, AfterValidator(_variable_name)] | None = None
    password_credential: Annotated[str, AfterValidator(_credential_name)] | None = None
    protocol: Annotated[Literal["auto", "5", "3.1.1"], BeforeValidator(_version_as_written)] = "auto"
    self_test: bool = True

    @check_model(mode="before")
    @classmethod
    def _usual_port(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("port") is None:
            return {**given, "port": TLS_PORT if given.get("tls") not in (None, False) else PORT}
        return given

    @check_field("username")
    @classmethod
    def _not_in_clear(cls, username: str | None, info: ValidationInfo) -> str | None:
        """S7: what opens the door does not travel where others can listen."""
        known = info.data.keys() >= {"host", "tls"}  # otherwise they are wrong by themselves
        if username is not None and known and info.data["tls"] is None and not is_loopback(info.data["host"]):
            raise ValueError(
                f"a password would go to {info.data['host']} in clear; write tls: true, or tls: {{ca: <file>}} if your "
                "own authority signed the broker's certificate"
            )
        return username

    @check_model(mode="after")
    def _one_password(self) -> Self:
        given = [key for key in ("password_file", "password_env", "password_credential") if getattr(self, key)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are two places for one password; keep one")
        if (self.username is None) == bool(given):
            raise ValueError(
                "username and password_file (or password_env, password_credential) go together; give both or neither"
            )
        return self

    @property
    def place(self) -> str:
        """How the broker is called in logs."""
        return f"{self.host}:{self.port}"

    def password(self) -> str | None:
        """The password, read when it is needed and kept nowhere. Raises `OSError` with what to do."""
        if self.password_file is not None:
            return password_from_file(self.password_file)
        if self.password_env is not None:
            return password_from_environment(self.password_env)
        if self.password_credential is not None:
            return password_from_credential(self.password_credential)
        return None


class MqttSettings(BrokerSettings):
    """The brokers: one, whose keys stand here, or several in `brokers`, the preferred one first. Times are wall time.

    `choices` has them one by one; a connection is made with one of those. `return_after`, plant time, is how often a
    gateway at another broker looks whether a preferred one is back.
    """

    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    keepalive: Annotated[Seconds, Field(ge=1, le=3600)] = 10.0
    connect_timeout: Annotated[Seconds, Field(gt=0)] = 5.0
    window: Annotated[int, Field(ge=1, le=200)] = 200
    response_topics: tuple[Annotated[str, Field(pattern=r"^[^+#\x00]+/$")], ...] = ()
    brokers: Annotated[tuple[BrokerSettings, ...], Field(min_length=1)] = ()
    return_after: Annotated[Seconds, Field(ge=1)] = 300.0

    @check_model(mode="before")
    @classmethod
    def _said_once(cls, given: Any) -> Any:
        """Without it, a host beside the list would be passed over in silence."""
        if isinstance(given, dict) and given.get("brokers"):
            twice = sorted(key for key in BrokerSettings.model_fields if given.get(key) is not None)
            if twice:
                raise ValueError(f"{', '.join(twice)} beside brokers: each broker has keys of its own in the list")
        return given

    def as_visitor(self, purpose: str) -> "MqttSettings":
        """The same under a client id of its own: with the gateway's, a broker would throw the gateway out."""
        return self.model_copy(update={"client_id": f"{self.client_id[: 63 - len(purpose)]}-{purpose}"})

    def choices(self) -> tuple["MqttSettings", ...]:
        """The same settings once per broker, in order of preference."""
        return tuple(
            self.model_copy(update={"brokers": (), **{key: getattr(one, key) for key in BrokerSettings.model_fields}})
            for one in self.brokers
        ) or (self,)


def is_loopback(host: str) -> bool:
    """True for this machine's own addresses."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
