"""S8: a broker that cannot prove who it is is not spoken to, and whoever has to mend it is told how."""

import asyncio
import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.mqtt.client import BrokerLost, MqttConnection
from gateway.mqtt.settings import TlsSettings
from gateway.mqtt.tls import tls_context
from tests.brokers import Consumer, Mosquitto, eventually, free_port, mute_broker, speaking_broker
from tests.mqtt.certificates import Authority, Files
from tests.mqtt.test_client import VERSIONS, WILL, acknowledged, descriptors, settings, threads
from tests.stopwatch import Stopwatch


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def listener(files: Files, *options: str) -> list[str]:
    return [f"certfile {files.certificate}", f"keyfile {files.key}", *options]


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


async def refusal(port: int, tls: object, **more: object) -> str:
    """What is said when it does not let us in, or we do not want to be let in."""
    with pytest.raises(BrokerLost) as caught:
        await MqttConnection(settings(port, tls=tls, **more), WILL, modern=True).__aenter__()
    assert threads() == []
    return str(caught.value)


@VERSIONS
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_s08_a_broker_with_a_certificate_of_our_authority_is_spoken_to(
    mosquitto: Mosquitto, authority: Authority, modern: bool, host: str
) -> None:
    mosquitto.restart(*listener(authority.sign("broker", "localhost", "127.0.0.1")))
    given = settings(mosquitto.port, host=host, tls={"ca": str(authority.file)})
    async with MqttConnection(given, WILL, modern=modern) as connection:
        connection.publish("a", "evt/a", b"1")
        assert await acknowledged(connection, 1) == ["a"]
        assert connection._thread is not None
        wrapped = connection._thread._socket
        assert isinstance(wrapped, ssl.SSLSocket)
        assert wrapped.version() == "TLSv1.3"
    assert threads() == []


@pytest.mark.parametrize(
    ("hosts", "days", "believed", "words"),
    [
        (["127.0.0.1"], (-10, 10), "other", "was not signed by the authorities in {other}"),
        (["127.0.0.1"], (-10, 10), None, "was not signed by the authorities that this system believes"),
        (["broker.plant.example", "127.0.0.9"], (-10, 10), "own", "is not made for 127.0.0.1; write as host: a name"),
        ([], (-10, 10), "own", "is not made for 127.0.0.1; write as host: a name"),
        (["127.0.0.1"], (-10, -0.01), "own", "has expired; renew it at the broker, or set this machine's clock"),
        (["127.0.0.1"], (0.01, 10), "own", "is not valid yet; set this machine's clock"),
    ],
    ids=["wrong CA", "system CAs", "wrong host name", "no name", "expired", "not yet valid"],
)
async def test_s08_a_broker_that_cannot_prove_who_it_is_is_not_spoken_to(
    mosquitto: Mosquitto, authority: Authority,
    hosts: list[str], days: tuple[float, float], believed: str | None, words: str,
    record_property: Callable[[str, object], None],
) -> None:  # fmt: skip
    other = Authority(authority.folder, "other CA")
    mosquitto.restart(*listener(authority.sign("broker", *hosts, days=days)))
    ca = {"own": authority.file, "other": other.file, None: None}[believed]
    said = await refusal(mosquitto.port, True if ca is None else {"ca": str(ca)})
    assert said.startswith(f"broker 127.0.0.1:{mosquitto.port}: its certificate {words.format(other=other.file)}")
    record_property(
        "figure", "MQTT: 6 of 6 wrong certificates refused, 2 of 2 wrong clients turned away, TLS 1.2 and 1.3"
    )


@pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
async def test_s08_a_broker_that_wants_a_certificate_lets_in_whoever_shows_the_right_one(
    mosquitto: Mosquitto, authority: Authority, tmp_path: Path, version: str
) -> None:
    files = authority.sign("broker", "127.0.0.1")
    mosquitto.restart(
        *listener(files, f"cafile {authority.file}", "require_certificate true", f"tls_version {version}")
    )
    known, stranger = authority.sign("edge-01"), Authority(tmp_path, "other CA").sign("edge-02")
    ca = {"ca": str(authority.file)}
    given = settings(mosquitto.port, tls=ca | {"certificate": str(known.certificate), "key": str(known.key)})
    async with MqttConnection(given, WILL, modern=True) as connection:
        connection.publish("a", "evt/a", b"1")
        assert await acknowledged(connection, 1) == ["a"]
    advice = "see tls: certificate: and key:, and what the broker trusts"
    for shown in ({}, {"certificate": str(stranger.certificate), "key": str(stranger.key)}):
        said = await refusal(mosquitto.port, ca | shown)
        assert re.search(r": refuses our certificate, or the lack of one \(\w+ alert [a-z ]+\); ", said), said
        assert said.endswith(advice)


async def test_tls_older_than_1_2_is_not_spoken(authority: Authority) -> None:
    """The broker answers the hello as one that knows only TLS 1.1: alert 70, protocol_version (RFC 8446 §6.2)."""
    assert tls_context(TlsSettings()).minimum_version == ssl.TLSVersion.TLSv1_2

    async def alert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"\x15\x03\x02\x00\x02\x02\x46")
        await writer.drain()
        writer.close()

    async with speaking_broker(alert) as port:
        assert "speaks no TLS that is safe (1.2 or 1.3)" in await refusal(port, {"ca": str(authority.file)})


async def test_tls_to_a_port_without_it_and_the_other_way_round_say_so(
    mosquitto: Mosquitto, authority: Authority
) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.close()

    async with speaking_broker(leave) as port:
        said = await refusal(port, {"ca": str(authority.file)})
        assert f"hung up during the TLS handshake; perhaps port {port} speaks no TLS, or" in said
    async with speaking_broker(greet) as port:
        said = await refusal(port, {"ca": str(authority.file)})
        assert f"does not speak TLS on port {port}; brokers usually do on 8883" in said
    words = f"hung up during the TLS handshake; perhaps port {mosquitto.port} speaks no TLS, or"
    assert words in await refusal(mosquitto.port, {"ca": str(authority.file)})
    mosquitto.restart(*listener(authority.sign("broker", "127.0.0.1")))
    assert "before it let us in; perhaps it wants TLS on this port (mqtt: tls:)" in await refusal(mosquitto.port, None)


async def test_files_that_cannot_be_used_are_said_by_name_before_anything_is_connected(
    authority: Authority, tmp_path: Path
) -> None:
    port, ca = free_port(), str(authority.file)
    own, second, sealed = authority.sign("edge"), authority.sign("two"), authority.sign("sealed", passphrase=b"canary")
    open_to_all = authority.sign("open")
    open_to_all.key.chmod(0o640)
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no certificate")
    for tls, words in (
        ({"ca": "nowhere.pem"}, "tls: ca: nowhere.pem cannot be read (No such file or directory)"),
        ({"ca": str(rubbish)}, f"tls: ca: {rubbish} holds no certificate in PEM form"),
        ({"certificate": str(own.certificate), "key": str(second.key)}, "do not belong together; the key is another"),
        ({"certificate": str(rubbish), "key": str(own.key)}, "are not a certificate and its key in PEM form"),
        ({"certificate": str(own.certificate), "key": "nowhere.key"}, "key file nowhere.key cannot be read (No such"),
        ({"certificate": str(open_to_all.certificate), "key": str(open_to_all.key)},
         f"the key file can be read by others; chmod 600 {open_to_all.key}"),
        ({"certificate": str(sealed.certificate), "key": str(sealed.key)}, "the key is encrypted; keep it as plain PEM"),
    ):  # fmt: skip
        said = await refusal(port, {"ca": ca} | tls)
        assert words in said
        assert "canary" not in said


async def test_a_burst_of_large_messages_comes_through_tls_whole_and_at_once(
    mosquitto: Mosquitto, authority: Authority
) -> None:
    """What TLS has decrypted no select() sees any more; paho must ask it for what is pending."""
    plain = free_port()
    mosquitto.restart(*listener(authority.sign("broker", "127.0.0.1"), f"listener {plain} 127.0.0.1"))
    given = settings(mosquitto.port, tls={"ca": str(authority.file)})
    await eventually(lambda: listens(plain), "the second port listens too")
    with Consumer(plain, "up/#") as mes:
        async with MqttConnection(given, WILL, modern=True) as connection:
            await connection.subscribe(["cmd/+"])
            for number in range(100):
                mes.publish("cmd/x", b"%d" % number + bytes(200_000), qos=0)
            arrived = []
            async with asyncio.timeout(20):
                while len(arrived) < 100:
                    arrived.append(await anext(connection.messages()))
            assert [int(message.payload.rstrip(b"\0")) for message in arrived] == list(range(100))
            for number in range(100):
                connection.publish(number, "up/x", b"%d" % number + bytes(100_000))
            assert await acknowledged(connection, 100) == list(range(100))
        await eventually(lambda: len(mes.messages) == 100, "all arrived")
    assert [int(payload.rstrip(b"\0")) for payload in mes.payloads("up/")] == list(range(100))


async def test_a_connection_that_is_cut_does_not_go_on_in_clear(
    mosquitto: Mosquitto, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An SSLSocket's own `shutdown` takes its TLS off first; what paho writes in that moment could be read by all."""
    mosquitto.restart(*listener(authority.sign("broker", "127.0.0.1")))
    given = settings(mosquitto.port, tls={"ca": str(authority.file)})
    undressed: list[object] = []
    monkeypatch.setattr(ssl.SSLSocket, "shutdown", lambda sock, _: undressed.append(sock))
    async with MqttConnection(given, WILL, modern=True) as connection:
        connection.hang_up("enough")
        with pytest.raises(BrokerLost, match="enough"):
            await asyncio.wait_for(anext(connection.messages()), 5)
    assert undressed == []


async def test_a_broker_that_takes_the_connection_and_never_answers_in_tls_is_given_up(authority: Authority) -> None:
    """Ten times, and nothing is left behind (traps C6, C8)."""
    async with mute_broker() as port:
        for attempt in range(10):
            given = settings(port, tls={"ca": str(authority.file)}, connect_timeout="60ms")
            with pytest.raises(BrokerLost, match=r"did not answer in TLS within 0\.06 s|nothing came back") as caught:
                await MqttConnection(given, WILL, modern=True).__aenter__()
            assert not caught.value.unanswered, "it is not the version of MQTT that it does not like"
            if attempt == 2:
                await asyncio.sleep(0.02)
                before = (descriptors(), len(asyncio.all_tasks()))
        await asyncio.sleep(0.02)
        assert (descriptors(), len(asyncio.all_tasks())) == before
        assert threads() == []


async def test_a_handshake_that_is_cancelled_ends_at_once_and_leaves_nothing_behind(authority: Authority) -> None:
    async with mute_broker() as port:
        given = settings(port, tls={"ca": str(authority.file)}, connect_timeout="1h")
        connection = MqttConnection(given, WILL, modern=True)
        connecting = asyncio.create_task(connection.__aenter__())
        await eventually(lambda: "TLS" in connection._silence, "it shakes hands")
        await asyncio.sleep(0.01)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(connecting, 10)


async def test_a_frozen_tls_broker_is_noticed_within_twice_the_keepalive_and_left_in_bounded_time(
    mosquitto: Mosquitto, authority: Authority
) -> None:
    mosquitto.restart(*listener(authority.sign("broker", "127.0.0.1")))
    given = settings(mosquitto.port, tls={"ca": str(authority.file)}, keepalive="1s")
    connection = await MqttConnection(given, WILL, modern=True).__aenter__()
    mosquitto.freeze()
    with Stopwatch() as noticed:
        for number in range(100):
            connection.publish(number, "t", bytes(200_000))
        with pytest.raises(BrokerLost, match="Keep alive timeout"):
            await asyncio.wait_for(anext(connection.acknowledgements()), 30)
    await connection.__aexit__(None, None, None)
    assert noticed.seconds <= 2 * 1.0 + 1.0, "twice the keepalive, and the second in which paho looks at its timers"
    assert threads() == []
