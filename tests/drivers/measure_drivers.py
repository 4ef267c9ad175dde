# ruff: noqa: T201 - it prints what it measured
"""CPU cost of the OPC UA decoder: `python tests/drivers/measure_drivers.py`. Not a test, no timing is asserted.

Microseconds per value to decode a publish response of 1,000 doubles with both timestamps.
"""

import logging
import time
from datetime import UTC, datetime

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from gateway.domain.values import DataType
from gateway.drivers.base import Tag
from gateway.drivers.opcua.config import OpcUaAddress
from gateway.drivers.opcua.subscribing.publications import PublicationDecoder
from gateway.drivers.opcua.values import ValueDecoder

VALUES = 1_000
ROUNDS = 20


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


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    measure_opcua()
