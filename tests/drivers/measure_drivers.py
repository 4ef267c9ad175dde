# ruff: noqa: T201 - it prints what it measured
"""CPU cost of the two hot paths: `python tests/drivers/measure_drivers.py`. Not a test, no timing is asserted.

OPC UA: microseconds per value to decode a publish response of 1,000 doubles with both timestamps.
Modbus: microseconds per request of 125 registers, end to end over loopback, the device's share included.
"""

import asyncio
import contextlib
import logging
import struct
import time
from datetime import UTC, datetime

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from gateway.domain.values import DataType
from gateway.drivers.base import Tag
from gateway.drivers.modbus.config import ModbusSettings, Span
from gateway.drivers.modbus.link import Link
from gateway.drivers.opcua.config import OpcUaAddress
from gateway.drivers.opcua.publications import PublicationDecoder
from gateway.drivers.opcua.values import ValueDecoder

VALUES = 1_000
ROUNDS = 20
REQUESTS = 3_000


def publish_response() -> bytes:
    now = datetime.now(UTC)
    notification = ua.DataChangeNotification(
        MonitoredItems=[
            ua.MonitoredItemNotification(
                handle, ua.DataValue(ua.Variant(float(handle)), SourceTimestamp=now, ServerTimestamp=now)
            )
            for handle in range(VALUES)
        ]
    )
    response = ua.PublishResponse()
    response.Parameters.NotificationMessage = ua.NotificationMessage(1, now, [notification])
    return struct_to_binary(response)


def per_value(decode, body: bytes) -> float:
    """CPU microseconds, the best of several rounds so that the collector's pauses do not count for either side."""
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        decode(Buffer(body))
        spent.append(time.process_time() - began)
    return min(spent) / VALUES * 1e6


def measure_opcua() -> None:
    body = publish_response()
    address = OpcUaAddress(node="s=any")
    tags = [Tag(f"T.tag{number}", DataType.FLOAT64, address) for number in range(VALUES)]
    decoder = PublicationDecoder(tags, ValueDecoder(["urn:a"]))
    whole = per_value(decoder.decode, body)
    library = per_value(lambda buffer: struct_from_binary(ua.PublishResponse, buffer), body)
    print(f"opcua: {whole:.2f} us per value; asyncua's decoder alone takes {library:.2f}")


async def measure_modbus() -> None:
    reply = bytes([3, 250]) + bytes(250)
    served = asyncio.Semaphore(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while request := await reader.read(12):
                writer.write(request[:4] + struct.pack(">HB", len(reply) + 1, request[6]) + reply)
        writer.close()
        served.release()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    link = Link(ModbusSettings(host="127.0.0.1", port=server.sockets[0].getsockname()[1]))
    await link.open()
    began = time.process_time()
    for _ in range(REQUESTS):
        await link.read("holding", Span(0, 125))
    both = time.process_time() - began
    alone = await bare_conversation(server.sockets[0].getsockname()[1])
    await link.close()
    await served.acquire()
    await served.acquire()
    server.close()
    each, bare = both / REQUESTS * 1e6, alone / REQUESTS * 1e6
    print(f"modbus: {each:.0f} us per request and answer; a bare client and the device take {bare:.0f} of them")


async def bare_conversation(port: int) -> float:
    """The same conversation with nothing but streams."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.process_time()
    for number in range(REQUESTS):
        writer.write(struct.pack(">HHHBBHH", number & 0xFFFF, 0, 6, 1, 3, 0, 125))
        await reader.readexactly(259)
    spent = time.process_time() - began
    writer.close()
    return spent


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    measure_opcua()
    asyncio.run(measure_modbus())
