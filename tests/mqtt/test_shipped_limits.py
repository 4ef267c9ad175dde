"""What the shipped broker tells its clients of its limits, over its two listeners, and what becomes of what is beyond."""

from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from gateway.mqtt.client import BrokerLost, MqttConnection
from gateway.mqtt.settings import MqttSettings
from tests.brokers import until
from tests.mqtt.certificates import Authority
from tests.shipped_mosquitto import SHIPPED, Party, ShippedMosquitto, password_of

OWN = "mfg/v1/ACME/HZ/_gw/edge-01/evt/x"


def settings(broker: ShippedMosquitto, **more: Any) -> MqttSettings:
    login = {"username": "edge-01", "password_file": broker.password_files["edge-01"]}
    return MqttSettings(client_id="edge-01", **{"port": broker.port, **login, **more})


async def acknowledged(connection: MqttConnection) -> str | None:
    """Publishes one message; why it was refused."""
    connection.publish("token", OWN, b"1")
    async for burst in connection.acknowledgements():
        return burst[0].refusal
    raise AssertionError("the connection ended")


WRITTEN_OUT = {
    "listener": "1883 127.0.0.1",
    "allow_anonymous": "false",
    "per_listener_settings": "false",
    "set_tcp_nodelay": "true",
    "max_connections": "200",
    "max_queued_messages": "500000",
    "max_queued_bytes": "250000000",
    "queue_qos0_messages": "false",
    "persistent_client_expiration": "14d",
    "max_inflight_messages": "200",
    "max_inflight_bytes": "0",
    "max_packet_size": "1000000",
    "memory_limit": "1000000000",
    "persistence": "true",
    "autosave_on_changes": "false",
    "autosave_interval": "10",
}
"""What no version's default may decide."""


def test_every_limit_is_written_out_as_the_page_says_and_nobody_has_a_password() -> None:
    lines = [line for line in (SHIPPED / "mosquitto.conf").read_text().splitlines() if line and line[0] != "#"]
    written = [tuple(line.split(" ", 1)) for line in lines]
    assert {pair for pair in written if pair[0] in WRITTEN_OUT} == set(WRITTEN_OUT.items())
    assert "tls_version tlsv1.2" in (SHIPPED / "tls.conf").read_text().splitlines(), "at least"
    page = (SHIPPED.parents[1] / "docs" / "uplink.md").read_text()
    for figure in ("(500,000)", "(250 MB", "(14 days)", "(1 GB)", "`autosave_interval 10`"):
        assert figure in page.replace("\n", " "), figure
    assert {path.name for path in SHIPPED.iterdir()} == {"mosquitto.conf", "acl", "tls.conf"}


async def test_the_gateway_is_told_the_window_and_the_largest_packet(shipped: ShippedMosquitto) -> None:
    async with MqttConnection(settings(shipped), None, modern=True) as connection:
        assert (connection.window, connection.maximum_packet) == (200, 1_000_000)
        assert await acknowledged(connection) is None


async def test_the_tls_listener_of_the_example_starts_and_wants_a_certificate_and_a_password(
    shipped: ShippedMosquitto, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    own = authority.sign("edge-01")
    port = shipped.listen_in_tls(authority)
    shipped.stop()
    shipped.start()
    tls = {"ca": authority.file, "certificate": own.certificate, "key": own.key}
    async with MqttConnection(settings(shipped, port=port, tls=tls), None, modern=True) as connection:
        assert (connection.window, connection.maximum_packet) == (200, 1_000_000)
        assert await acknowledged(connection) is None
    with pytest.raises(BrokerLost, match="certificate"):
        async with MqttConnection(settings(shipped, port=port, tls={"ca": authority.file}), None, modern=True):
            pass
    nobody = MqttSettings(client_id="edge-01", port=port, tls=tls)  # type: ignore[arg-type]
    with pytest.raises(BrokerLost, match="ot authori"):
        async with MqttConnection(nobody, None, modern=True):
            pass


def test_a_queue_that_is_full_drops_what_is_newest_and_acknowledges_it_all_the_same(shipped: ShippedMosquitto) -> None:
    """Trap C9: so only a hole in the numbers tells. As docs/uplink.md says it."""
    shipped.restart("max_queued_messages 10", "sys_interval 1")
    with Party(shipped, "mes", "mfg/#", session="mes"):
        pass
    with Party(shipped, "edge-01") as gateway:
        assert {gateway.publish(OWN, b"%d" % n) for n in range(50)} == {0}
    with Party(shipped, "mes", "mfg/#", "$SYS/broker/publish/messages/dropped", session="mes") as mes:
        until(lambda: mes.heard_on("$SYS/broker/publish/messages/dropped")[-1:] == [b"40"], "mosquitto counts them")
        assert mes.heard_on(OWN) == [b"%d" % n for n in range(10)]


def test_message_size_limit_is_not_used_because_it_loses_what_it_acknowledged(shipped: ShippedMosquitto) -> None:
    """Before MQTT 5. That is why `max_packet_size` stands in its place."""
    shipped.restart("message_size_limit 1000")
    acknowledged: list[int] = []
    old = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311, reconnect_on_failure=False)
    old.username_pw_set("edge-01", password_of("edge-01"))
    old.on_publish = lambda _, __, mid, ___, ____: acknowledged.append(mid)
    with Party(shipped, "mes", "mfg/#") as mes:
        old.connect("127.0.0.1", shipped.port)
        old.loop_start()
        mids = [old.publish(OWN, payload, qos=1).mid for payload in (bytes(2_000), b"small")]
        until(lambda: acknowledged == mids, "both are acknowledged")
        until(lambda: mes.heard_on(OWN) == [b"small"], "one arrived")
        old.disconnect()
        old.loop_stop()
        old._reset_sockets()
