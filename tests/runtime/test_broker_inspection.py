"""`gateway check --connect`, the way up: what a visitor finds at the broker that we ship, and at others."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import yaml

from gateway.config.load import load_plant
from gateway.drivers.opcua.secure_channel.certificates import CertificateError
from gateway.mqtt import client
from gateway.mqtt.client import MqttConnection, Will
from gateway.mqtt.probes import SELF_TEST
from gateway.mqtt.settings import MqttSettings
from gateway.mqtt.tls import Peer
from gateway.runtime import broker_inspection
from gateway.runtime.broker_inspection import BrokerFinding, inspect_brokers
from tests.brokers import Mosquitto, eventually, free_port, speaking_broker
from tests.contract import the_contract
from tests.mqtt.certificates import Authority
from tests.shipped_mosquitto import Party, ShippedMosquitto

FIL01, OWN = "mfg/v1/ACME/HZ/PACK/L1/FIL01", "mfg/v1/ACME/HZ/_gw/edge-01"
STATUS = f"{OWN}/status"
VERSIONS = pytest.mark.parametrize("protocol", ["5", "3.1.1"])
DAY = 86_400_000


class Site:
    """A plant of one machine, and brokers to choose from."""

    def __init__(self, folder: Path, broker: ShippedMosquitto) -> None:
        self.folder = folder / "plant"
        self.folder.mkdir()
        self.broker = broker
        self.connect_timeout = "2s"
        self.shipped = {"host": "127.0.0.1", "port": broker.port, **self.login("edge-01")}

    def login(self, user: str) -> dict[str, str]:
        return {"username": user, "password_file": str(self.broker.password_files[user])}

    def change_rights(self, old: str, new: str) -> None:
        """Of everybody who has them."""
        acl = self.broker.password_files["mes"].parent / "acl"
        acl.write_text(acl.read_text().replace(old, new))
        self.broker.stop()
        self.broker.start()

    async def inspect(self, *brokers: dict, later: int = 0) -> list[list[BrokerFinding]]:
        """`later` is milliseconds from now."""
        plant = {
            "gateway": {"id": "edge-01", "site": "ACME/HZ", "store": str(self.folder / "gateway.db")},
            "mqtt": {"client_id": "edge-01", "connect_timeout": self.connect_timeout, "brokers": list(brokers)},
            "devices": {"M1": {"driver": "modbus", "host": "127.0.0.1", "poll_interval": "1s"}},
            "equipment": {"ACME/HZ/PACK/L1/FIL01": {"device": "M1", "tags": {"a": {"register": 0, "type": "uint16"}}}},
        }
        (self.folder / "plant.yaml").write_text(yaml.safe_dump(plant))
        return await inspect_brokers(load_plant(self.folder), round(time.time() * 1000) + later)

    async def look(self, *, later: int = 0, **keys: object) -> dict[str, BrokerFinding]:
        """At the one that is shipped, with other keys: what was found, by what it is about."""
        (findings,) = await self.inspect(self.shipped | keys, later=later)
        return {finding.about: finding for finding in reversed(findings)}  # the first of each, which sums up

    async def why_not(self, **keys: object) -> str:
        """Why it does not let us in."""
        found = await self.look(**keys)
        assert list(found) == ["connection"]
        assert found["connection"].is_wrong
        return found["connection"].problem


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "shipped"
    folder.mkdir()
    broker = ShippedMosquitto(folder)
    try:
        yield Site(tmp_path, broker.start())
    finally:
        broker.kill()


@asynccontextmanager
async def saying(*answers: bytes, hang_up: bool = False) -> AsyncIterator[int]:
    """A broker that gives these answers, one to each packet, and then says nothing more; yields its port."""
    gone = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            for answer in answers:
                await reader.read(65_536)
                writer.write(answer)
            while await reader.read(65_536) and not hang_up:
                pass
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        gone.set()

    async with speaking_broker(talk) as port:
        yield port
        await gone.wait()


@VERSIONS
async def test_the_shipped_broker_has_nothing_against_the_shipped_gateway(site: Site, protocol: str) -> None:
    (findings,) = await site.inspect(site.shipped | {"protocol": protocol})
    size = "up to 1,000,000 bytes" if protocol == "5" else "of any size"
    assert [(one.about, one.found) for one in findings] == [
        ("TLS", "none: neither encrypted nor proven who it is"),
        ("connection", f"MQTT {protocol} as edge-01, 200 messages at once, packets {size}"),
        ("publishing", "10 of 10 topics"),
        ("commands", "3 of 3 subscriptions agreed to"),
    ]
    assert not any(one.problem or one.is_wrong for one in findings)


@VERSIONS
async def test_a_gateway_that_runs_meanwhile_is_not_disturbed_and_nothing_is_left_behind(
    site: Site, protocol: str
) -> None:
    """It is under the same user; consumers hear nothing of it but probes, and on `status` none that is not true."""
    running = MqttSettings.model_validate(site.shipped | {"client_id": "edge-01"})
    with Party(site.broker, "mes", "mfg/v1/#") as mes:
        will = Will(STATUS, b'{"state": "offline"}')
        async with MqttConnection(running, will, modern=True) as gateway:
            gateway.publish("status", STATUS, b'{"state": "online"}', retain=True)
            await gateway.room(1)
            found = await site.look(protocol=protocol)
            assert found["publishing"].found == "10 of 10 topics"
            gateway.publish("status", STATUS, b'{"state": "still here"}')
            await gateway.room(1)
            await eventually(lambda: any(b"still here" in payload for _, payload, _ in mes.heard), "all is heard")
        heard = [(topic, json.loads(payload)) for topic, payload, _ in mes.heard]
    probes = [(topic, body) for topic, body in heard if body.get("type") == SELF_TEST]
    assert len(probes) == 11, "one for each class of topics, and one to hear ourselves"
    for topic, body in probes:
        the_contract().check(topic, body)
    assert [body["state"] for topic, body in heard if topic == STATUS] == ["online", "online", "still here"]
    with Party(site.broker, "mes", "mfg/v1/#") as late:
        late.publish("mfg/v1/ACME/HZ/cmd/nothing")
        late_topics = [topic for topic, _, retained in late.heard if retained]
    assert late_topics == [STATUS]


async def test_one_broker_by_two_names_is_not_visited_by_two_of_one_name_at_once(site: Site) -> None:
    """The second would throw out the first."""
    both = await site.inspect(site.shipped, site.shipped | {"host": "localhost", "protocol": "3.1.1"})
    assert [[one.problem for one in findings] for findings in both] == [[""] * 4] * 2


async def test_without_a_retained_status_nobody_is_told_that_the_gateway_is_online(site: Site) -> None:
    with Party(site.broker, "mes", STATUS) as mes:
        await site.look()
        await eventually(lambda: bool(mes.heard), "the probe is heard")
    assert [json.loads(payload)["state"] for payload in mes.heard_on(STATUS)] == ["offline"]


async def test_a_status_that_nobody_understands_is_not_taken_for_online(site: Site) -> None:
    with Party(site.broker, "mes", STATUS) as mes, Party(site.broker, "edge-01") as gateway:
        gateway.publish(STATUS, b"online?", retain=True)
        await site.look()
        await eventually(lambda: len(mes.heard) > 1, "the probe is heard")
    assert [json.loads(payload)["state"] for payload in mes.heard_on(STATUS)[1:]] == ["offline"]


async def test_who_may_write_but_not_read_cannot_see_whether_it_is_online_and_says_nothing_there(
    site: Site,
) -> None:
    site.change_rights("topic readwrite", "topic write")
    with Party(site.broker, "mes", STATUS) as mes:
        found = await site.look()
    assert mes.heard == []
    assert found["publishing"].found.startswith("9 of 9 topics; status was left out, for this user does not hear")
    assert not found["publishing"].is_wrong


async def test_a_topic_that_is_forbidden_is_named_with_what_that_means(site: Site) -> None:
    site.change_rights("topic readwrite mfg/v1/ACME/HZ/PACK/L1/+/tel\n", "")
    for protocol, meaning, said in (
        ("5", "messages on the others are put aside (gateway.quarantined)", "refused (Not authorized); let this user"),
        ("3.1.1", "the gateway would send nothing at all here (MQTT 3.1.1)", "does not come back; let this user write"),
    ):
        (findings,) = await site.inspect(site.shipped | {"protocol": protocol})
        summary, named = (one for one in findings if one.about == "publishing")
        assert (summary.found, summary.problem, summary.is_wrong) == ("9 of 10 topics", meaning, True)
        assert (named.found, named.is_wrong) == (f"{FIL01}/tel", True)
        assert named.problem.startswith(said)
        assert [one.is_wrong for one in findings if one.about == "commands"] == [False], "it goes on behind it"


async def test_a_gateway_that_may_not_even_write_of_itself_does_not_wait_to_hear_that(site: Site) -> None:
    site.change_rights("topic readwrite mfg/v1/ACME/HZ/_gw/edge-01/evt/+\n", "")
    site.connect_timeout = "10min"
    async with asyncio.timeout(30):
        found = await site.look()
    assert found["publishing"].found.startswith("8 of 9 topics; status was left out")


async def test_a_broker_for_small_messages_only_is_told_by_each_topic_that_it_could_not_have(
    site: Site, mosquitto: Mosquitto
) -> None:
    mosquitto.restart("max_packet_size 150")
    (findings,) = await site.inspect({"host": "127.0.0.1", "port": mosquitto.port})
    found = [one for one in findings if one.about == "publishing"]
    assert found[0].found.startswith("0 of 9 topics")
    assert all("exceed the broker's Maximum Packet Size of 150" in one.problem for one in found[1:])


async def test_a_broker_that_acknowledges_nothing_is_not_waited_for_for_ever(site: Site) -> None:
    async with saying(b"\x20\x03\x00\x00\x00", b"\x90\x05\x00\x01\x00\x01\x01") as port:  # CONNACK, SUBACK
        (findings,) = await site.inspect({"host": "127.0.0.1", "port": port, "protocol": "5"})
    assert (findings[-1].problem, findings[-1].is_wrong) == ("acknowledged nothing within 2 s", True)


async def test_a_broker_that_hangs_up_on_a_topic_is_told_with_the_topic(site: Site) -> None:
    """Some do so even over MQTT 5, where they could say that they refuse it."""
    answers = b"\x20\x03\x00\x00\x00", b"\x90\x05\x00\x01\x00\x01\x01"  # CONNACK, SUBACK
    async with saying(*answers, hang_up=True) as port:
        (findings,) = await site.inspect({"host": "127.0.0.1", "port": port, "protocol": "5"})
    publishing, connection = findings[-2:]
    assert (publishing.about, publishing.found) == ("publishing", f"{OWN}/evt/{SELF_TEST}")
    assert publishing.problem.startswith("was not acknowledged before it hung up; let this user write it in")
    assert (connection.about, connection.problem) == ("connection", "the broker closed the connection")
    assert publishing.is_wrong
    assert connection.is_wrong


async def test_who_told_us_not_to_test_over_3_1_1_is_told_that_nothing_was(site: Site) -> None:
    with Party(site.broker, "mes", "mfg/v1/#") as mes:
        found = await site.look(protocol="3.1.1", self_test=False)
    assert found["publishing"].found.startswith("not tried: self_test: false")
    assert not found["publishing"].is_wrong
    assert mes.heard == []


async def test_a_subscription_that_is_refused_is_named(site: Site) -> None:
    """mosquitto refuses none, and withholds the messages; this broker says so."""
    async with saying(b"\x20\x02\x00\x00", b"\x90\x05\x00\x01\x01\x80\x01") as port:  # CONNACK, SUBACK
        (findings,) = await site.inspect({"host": "127.0.0.1", "port": port, "protocol": "3.1.1", "self_test": False})
    summary, named = (one for one in findings if one.about == "commands")
    assert (summary.found, summary.is_wrong) == ("2 of 3 subscriptions agreed to", True)
    assert (named.found, named.is_wrong) == ("mfg/v1/ACME/HZ/cmd/+", True)
    assert "let this user read it in the broker's rights (ACL)" in named.problem


async def test_each_broker_that_does_not_let_us_in_is_told_with_its_cure_and_hides_no_other(site: Site) -> None:
    (site.folder / "password").touch(mode=0o600)
    (site.folder / "password").write_text("another")
    nobody = free_port()
    wrong, unknown, closed, named, right = await site.inspect(
        site.shipped | {"password_file": str(site.folder / "password")},
        {"host": "127.0.0.1", "port": site.broker.port},
        {"host": "127.0.0.1", "port": nobody},
        {"host": "broker.invalid"},
        site.shipped,
    )
    told = [one.problem for findings in (wrong, unknown, closed, named) for one in findings if one.is_wrong]
    assert told[0].startswith("refused the connection (Not authorized); it does not know the user edge-01, or not")
    assert "(Not authorized); it lets in nobody without a user; give username and password_file, on" in told[1]
    assert told[2].startswith(f"Connection refused: nothing listens on port {nobody}; start the broker, or correct")
    assert told[3].endswith("; correct host:, or what this machine asks for names (DNS, /etc/hosts)")
    assert not any(one.is_wrong for one in right)


class TestTls:
    """The listener of `tls.conf`, which wants certificates of both."""

    @pytest.fixture
    def secure(self, site: Site, tmp_path: Path) -> Callable[..., dict]:
        """Restarts the broker with a certificate for those days; returns the gateway's keys."""
        authority = Authority(tmp_path)
        own = authority.sign("edge-01", days=(-1, 40.5))

        def listen(days: tuple[float, float] = (-1, 20.5), host: str = "127.0.0.1") -> dict:
            port = site.broker.listen_in_tls(authority, host, days)
            site.broker.stop()
            site.broker.start()
            tls = {"ca": str(authority.file), "certificate": str(own.certificate), "key": str(own.key)}
            return {"port": port, "tls": tls}

        return listen

    async def test_who_signed_for_the_broker_and_how_long_it_lasts_is_said(
        self, site: Site, secure: Callable[..., dict]
    ) -> None:
        found = await site.look(**secure((-1, 60.5)))
        assert found["TLS"].found.startswith("TLSv1.3, certificate of broker by plant CA, until 20")
        assert found["TLS"].found.endswith(", 60 days")
        assert found["own certificate"].found.startswith("edge-01 by plant CA, until 20")
        assert [(one.problem, one.is_wrong) for one in found.values()] == [("", False)] * 5

    async def test_a_certificate_that_ends_soon_is_a_hint_and_no_fault(
        self, site: Site, secure: Callable[..., dict]
    ) -> None:
        keys = secure()
        found = await site.look(**keys)
        assert (found["TLS"].problem, found["TLS"].is_wrong) == ("ends in 20 days; renew it at the broker", False)
        assert found["own certificate"].problem == ""
        found = await site.look(**keys, later=15 * DAY)
        own = keys["tls"]["certificate"]
        assert found["own certificate"].problem == f"ends in 25 days; renew it in {own}"

    async def test_certificates_that_cannot_be_read_hide_nothing_else(
        self, site: Site, secure: Callable[..., dict], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """OpenSSL takes some that are not as the standard wants them."""

        def unreadable(path: Path) -> None:
            raise CertificateError(f"{path} holds no X.509 certificate")

        monkeypatch.setattr(client, "peer_of", lambda _: Peer("TLSv1.3", b"nothing"))
        monkeypatch.setattr(broker_inspection, "read_certificate", unreadable)
        found = await site.look(**secure())
        assert (found["TLS"].found, found["TLS"].is_wrong) == ("TLSv1.3", False)
        assert found["TLS"].problem.startswith("sends something that is no X.509 certificate")
        assert found["own certificate"].problem.endswith("edge-01.pem holds no X.509 certificate")
        assert found["publishing"].found == "10 of 10 topics"

    async def test_a_broker_that_cannot_prove_who_it_is_is_told_with_the_cure(
        self, site: Site, secure: Callable[..., dict], tmp_path: Path
    ) -> None:
        keys = secure((-10, -0.01))
        assert (await site.why_not(**keys)).startswith("its certificate has expired; renew it at the broker")
        keys = secure(host="broker.plant.example")
        assert (await site.why_not(**keys)).startswith("its certificate is not made for 127.0.0.1; write as host:")
        other = Authority(tmp_path, "other CA").file
        assert (await site.why_not(**keys | {"tls": {"ca": str(other)}})).startswith(
            "its certificate was not signed by"
        )
        keys = secure()
        assert "refuses our certificate, or the lack of one" in await site.why_not(
            **keys | {"tls": {"ca": keys["tls"]["ca"]}}
        )
