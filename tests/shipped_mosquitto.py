"""The broker that we ship: `config/mosquitto`, line by line, but for ports, folders and the user it runs as."""

import re
import signal
import subprocess
from pathlib import Path
from typing import Final, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTProtocolVersion

from tests.brokers import Mosquitto, free_port, program, until
from tests.mqtt.certificates import Authority

SHIPPED: Final = Path(__file__).parents[1] / "config" / "mosquitto"
USERS: Final = ("edge-01", "edge-02", "mes", "dashboard")
DENIED: Final = 135
"""Not authorized (MQTT 5 §3.4.2.1)."""


def password_of(user: str) -> str:
    return f"the password of {user}"


class ShippedMosquitto(Mosquitto):
    """`config/mosquitto` as the installation in its comments leaves it, below a folder instead of /etc and /var.

    Further options go into a file in `conf.d`, as a plant would do it. The second gateway, edge-02 with line PACK/L2, is
    made as the file with the rights says: by a copy of the first one's part.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        (folder / "conf.d").mkdir()
        (folder / "data").mkdir()
        self.password_files = {user: folder / f"password of {user}" for user in USERS}
        self._add_users(folder / "passwd")
        acl = (SHIPPED / "acl").read_text()
        (folder / "acl").write_text(acl + the_gateways_part(acl, "edge-02", "PACK/L2"))
        super().__init__(folder, *options)

    def configure(self, *options: str) -> None:
        text = (SHIPPED / "mosquitto.conf").read_text()
        text = replace_line(text, "listener", f"listener {self.port} 127.0.0.1")
        text = replace_line(text, "persistence_location", f"persistence_location {self._folder}/data/")
        for key, name in {"password_file": "passwd", "acl_file": "acl", "include_dir": "conf.d"}.items():
            text = replace_line(text, key, f"{key} {self._folder / name}")
        (self._folder / "mosquitto.conf").write_text(text)
        lines = ["user root", *options]  # a test's folder is not mosquitto's; elsewhere than as root it means nothing
        (self._folder / "conf.d" / "test.conf").write_text("\n".join(lines) + "\n")

    def save(self) -> None:
        """Now, and not when it is time: sessions, their queues and retained messages."""
        assert self._process is not None
        self.database.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR1)
        until(self.database.exists, "mosquitto saved")

    @property
    def database(self) -> Path:
        """Where it saves them, whole each time."""
        return self._folder / "data" / "mosquitto.db"

    def listen_in_tls(
        self, authority: Authority, host: str = "127.0.0.1", days: tuple[float, float] = (-10, 10)
    ) -> int:
        """From the next start on, also as `tls.conf` says, with a certificate for those days; returns the port."""
        port, broker = free_port(), authority.sign("broker", host, days=days)
        text = replace_line((SHIPPED / "tls.conf").read_text(), "listener", f"listener {port} 127.0.0.1")
        files = {"cafile": authority.file, "certfile": broker.certificate, "keyfile": broker.key}
        for key, file in files.items():
            text = replace_line(text, key, f"{key} {file}")
        (self._folder / "conf.d" / "tls.conf").write_text(text)
        return port

    def allow(self, user: str, right: str) -> None:
        """One right more, and what `systemctl reload` does; returns when it holds."""
        file, probe = self._folder / "acl", f"reloaded/{right.encode().hex()}"
        rights = f"user {user}\ntopic write {probe}\n{right}"
        file.write_text(replace_line(file.read_text(), f"user {user}", rights))
        self.reload()
        with Party(self, user) as party:
            until(lambda: party.publish(probe) != DENIED, "the new right holds")

    def _add_users(self, file: Path) -> None:
        for user, own in self.password_files.items():
            create = () if file.exists() else ("-c",)
            command = [program("mosquitto_passwd"), *create, "-b", str(file), user, password_of(user)]
            subprocess.run(command, check=True)
            own.touch(mode=0o600)
            own.write_text(password_of(user))


def replace_line(text: str, key: str, line: str) -> str:
    """The text with the one line of a key replaced."""
    replaced, count = re.subn(rf"(?m)^{key}( .*)?$", lambda _: line, text)
    assert count == 1, f"{key} stands {count} times in the shipped file"
    return replaced


def the_gateways_part(acl: str, name: str, line: str) -> str:
    """The rights of the shipped gateway, for another one and another line."""
    (part,) = re.findall(r"(?ms)^user edge-01$.*?(?=^# ---)", acl)
    return part.replace("edge-01", name).replace("PACK/L1", line)


class Party:
    """Somebody with a user name at the broker, in MQTT 5: publishes, is told whether that was allowed, and listens."""

    def __init__(self, broker: Mosquitto, user: str, *filters: str, session: str | None = None) -> None:
        """With `session`, the broker keeps QoS 1 messages for whoever comes under this client id while he is away."""
        self.heard: list[tuple[str, bytes, bool]] = []
        self._codes: dict[int, int] = {}
        self._subscribed = not filters
        self._filters = filters
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=session or "",
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        self._client.username_pw_set(user, password_of(user))
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: setattr(self, "_subscribed", True)
        self._client.on_message = lambda _, __, m: self.heard.append((m.topic, bytes(m.payload), m.retain))
        self._client.on_publish = lambda _, __, mid, code, ___: self._codes.update({mid: code.value})
        self._broker = broker
        self._lasting = paho.Properties(paho.PacketTypes.CONNECT)
        if session:
            self._lasting.SessionExpiryInterval = 0xFFFFFFFF
        self._fresh = session is None

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1", self._broker.port, clean_start=self._fresh, properties=self._lasting)
        self._client.loop_start()
        until(lambda: self._subscribed, "the party is subscribed")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()

    def publish(self, topic: str, payload: bytes = b"{}", *, retain: bool = False, answer_to: str = "") -> int:
        """The broker's answer: 0 or 16 (nobody listens) if it took the message, 135 if it may not be written."""
        properties = paho.Properties(paho.PacketTypes.PUBLISH)
        if answer_to:
            properties.ResponseTopic = answer_to
        mid = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties).mid
        until(lambda: mid in self._codes, f"an answer to {topic}")
        return self._codes.pop(mid)

    def heard_on(self, topic: str) -> list[bytes]:
        return [payload for there, payload, _ in list(self.heard) if there == topic]

    def _connected(self, client: paho.Client, *_: object) -> None:
        for topic in self._filters:
            client.subscribe(topic, qos=1)
