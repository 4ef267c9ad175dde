"""What the YAML says of the broker."""

import ipaddress
import stat
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gateway.domain.times import parse_duration

Seconds = Annotated[float, BeforeValidator(parse_duration)]


class MqttSettings(BaseModel):
    """One broker. Times are wall time. `protocol: auto` speaks MQTT 5 and falls back to 3.1.1 where it is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    username: str | None = None
    password_file: Path | None = None
    keepalive: Annotated[Seconds, Field(ge=1, le=3600)] = 10.0
    connect_timeout: Annotated[Seconds, Field(gt=0)] = 5.0
    window: Annotated[int, Field(ge=1, le=200)] = 200
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    response_topics: tuple[Annotated[str, Field(pattern=r"^[^+#\x00]+/$")], ...] = ()

    @model_validator(mode="after")
    def _credentials_are_safe(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file go together; give both or neither")
        if self.username is not None and not _is_loopback(self.host):
            raise ValueError(
                f"a password would go to {self.host} in clear; credentials are only for a broker on this machine "
                "until TLS is configured"
            )
        return self

    def password(self) -> str | None:
        """The password, read when it is needed and kept nowhere.

        Raises `OSError` with what to do, also if others than the owner can read the file.
        """
        file = self.password_file
        if file is None:
            return None
        try:
            mode, text = file.stat().st_mode, file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
            raise OSError(f"the password file {file} cannot be read ({reason})") from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise OSError(f"the password file can be read by others; chmod 600 {file}")
        return text.strip()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
