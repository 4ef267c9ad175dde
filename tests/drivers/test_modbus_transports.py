"""TLS and UDP, one connection for many units, budgets, bits and groups; and what two devices must agree on."""

import asyncio
import datetime
import ipaddress
import ssl
from contextlib import asynccontextmanager

import pytest
from clocks import ManualClock, PlantClock
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from modbus_devices import Asked, honest_read, liar
from modbus_lines import rtu_over_tcp, sealed

from gateway.domain.conversion import Conversion, to_engineering, to_raw
from gateway.domain.values import DataType, StatusCode, TagChange, TagWrite, WriteResult
from gateway.drivers.base import LinkLost, Tag
from gateway.drivers.modbus.config import ModbusAddress, ModbusSettings, shared_endpoint_problem
from gateway.drivers.modbus.driver import ModbusDriver


def tag(name: str, data_type: DataType, register, **address) -> Tag[ModbusAddress]:
    return Tag(name, data_type, ModbusAddress(register=register, **address))


WORD = tag("word", DataType.UINT16, 0)


def driver(tags, clock=None, **keys) -> ModbusDriver:
    settings = ModbusSettings(**{"host": "127.0.0.1", "timeout": "5s", "poll_interval": "20ms", **keys})
    return ModbusDriver("PLC", settings, tags, clock or PlantClock())


# --- TLS (B12) and UDP ------------------------------------------------------------------------------------------------


def certificate(folder, name: str, host: str, days: int = 1):
    """A self-signed certificate for `host`, valid up to `days` from now: the files of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return files


@asynccontextmanager
async def tls_device(files):
    async def serve(reader, writer):
        header = await reader.readexactly(7)
        pdu = await reader.readexactly(5)
        asked = Asked(int.from_bytes(header[:2], "big"), header[6], pdu)
        writer.write(honest_read(asked, 7))
        await reader.read()
        writer.transport.abort()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.sleep(0.05)


async def test_b12_a_device_with_the_right_certificate_is_read_over_tls(tmp_path):
    files = certificate(tmp_path, "plc", "127.0.0.1")
    async with (
        tls_device(files) as port,
        driver([WORD], transport="tls", port=port, ca_file=str(files[0])) as opened,
    ):
        assert [change.value for change in await opened.read(["word"])] == [7]


@pytest.mark.parametrize(
    ("host", "days", "ca", "words"),
    [
        ("127.0.0.1", 1, "other", "self-signed certificate"),
        ("127.0.0.9", 1, "plc", "IP address mismatch"),
        ("127.0.0.1", -1, "plc", "certificate has expired"),
    ],
    ids=["wrong CA", "wrong host", "expired"],
)
async def test_b12_a_certificate_that_proves_nothing_is_refused(tmp_path, host, days, ca, words):
    files = certificate(tmp_path, "plc", host, days)
    certificate(tmp_path, "other", "127.0.0.1")
    async with tls_device(files) as port:
        with pytest.raises(LinkLost, match=words):
            async with driver([WORD], transport="tls", port=port, ca_file=str(tmp_path / f"{ca}.pem")):
                pass


class UdpDevice(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        asked = Asked(int.from_bytes(data[:2], "big"), data[6], data[7:])
        self.transport.sendto(honest_read(asked, 9), addr)


async def test_a_device_is_read_over_udp():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(UdpDevice, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    async with driver([WORD], transport="udp", port=port) as opened:
        assert [change.value for change in await opened.read(["word"])] == [9]
    transport.close()
    await asyncio.sleep(0.01)


# --- one connection, budgets ------------------------------------------------------------------------------------------


async def test_units_of_one_endpoint_share_one_connection():
    async with (
        rtu_over_tcp(lambda request: (0.0, _own_unit(request))) as (units, port),
        driver([WORD], transport="rtu_over_tcp", port=port, unit_id=1) as one,
        driver([WORD], transport="rtu_over_tcp", port=port, unit_id=2) as two,
    ):
        answers = await asyncio.gather(*(opened.read(["word"]) for opened in (one, two, one, two)))
        assert [changes[0].value for changes in answers] == [1, 2, 1, 2]
        assert units.connections == 1


def _own_unit(request: bytes) -> bytes:
    return sealed(bytes([request[0], 3, 2, 0, request[0]]))


async def test_a_device_is_asked_no_more_often_than_it_bears():
    async with liar(honest_read) as plc, driver([WORD], port=plc.port, max_requests_per_second=50) as opened:
        began = asyncio.get_running_loop().time()
        for _ in range(6):
            await opened.read(["word"])
        assert asyncio.get_running_loop().time() - began >= 5 / 50


def test_units_on_one_connection_must_agree_on_it_and_be_different_units():
    one = ModbusSettings(host="10.0.0.1", unit_id=1)
    assert shared_endpoint_problem(one, ModbusSettings(host="10.0.0.1", unit_id=2)) == ""
    assert shared_endpoint_problem(one, ModbusSettings(host="10.0.0.2", unit_id=1)) == ""
    other = ModbusSettings(host="10.0.0.1", unit_id=2, transport="rtu_over_tcp")
    assert "10.0.0.1:502 has another transport there" in shared_endpoint_problem(one, other)
    assert "10.0.0.1:502 unit 1 is configured there" in shared_endpoint_problem(one, one)


# --- bits, groups, enumerations ---------------------------------------------------------------------------------------


async def test_a_bit_is_written_by_the_device_itself_and_never_read_first():
    async with liar(lambda asked: asked.frame(asked.pdu)) as plc:
        async with driver([tag("run", DataType.BOOL, 100, bits=3)], port=plc.port) as opened:
            assert await opened.write([TagWrite("run", True)]) == [WriteResult("run")]
        assert [asked.pdu.hex() for asked in plc.asked] == ["160064fff70008"]


async def test_tags_with_an_interval_of_their_own_are_polled_by_it_and_a_batch_names_those_it_speaks_for():
    fast, slow = tag("fast", DataType.UINT16, 0, poll_interval="100ms"), tag("slow", DataType.UINT16, 200)
    clock = ManualClock()
    async with liar(honest_read) as plc, driver([fast, slow], clock, port=plc.port, poll_interval="1s") as opened:
        batches = opened.changes()
        polled = [(await anext(batches)).polled]
        for _ in range(20):
            following = asyncio.ensure_future(anext(batches))
            await clock.advance(0.1)
            polled.append((await following).polled)
        asked = [int.from_bytes(asked.pdu[1:3], "big") for asked in plc.asked]
    assert (asked.count(0), asked.count(200)) == (21, 3)
    both = [number for number, groups in enumerate(polled) if set(groups) == {frozenset({"fast"}), frozenset({"slow"})}]
    assert both == [0, 10, 20]
    assert polled.count((frozenset({"fast"}),)) == 18


def test_a_code_is_shown_as_the_text_that_it_means_and_written_back_as_the_code():
    conversion = Conversion(DataType.UINT16, labels={0: "stopped", 1: "running"})
    assert to_engineering(TagChange("t", 1), conversion) == ("running", StatusCode.GOOD)
    assert to_engineering(TagChange("t", 9), conversion) == ("9", StatusCode.UNCERTAIN)
    assert to_raw("stopped", conversion) == 0
    with pytest.raises(ValueError, match="is none of stopped, running"):
        to_raw("flying", conversion)
