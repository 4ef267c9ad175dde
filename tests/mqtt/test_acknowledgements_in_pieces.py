"""A broker's acknowledgements wherever TCP cuts them: each is read once, and what never came whole was never said."""

import asyncio

import pytest

from gateway.mqtt.client import BrokerLost, MqttConnection, Outgoing
from tests.brokers import speaking_broker
from tests.mqtt.test_client import WILL, settings

CONNACK = b"\x20\x03\x00\x00\x00"
ANSWERS = [
    (b"\x40\x02\x00\x01", None),
    (b"\x40\x03\x00\x02\x87", "Not authorized"),
    (b"\x40\x04\x00\x03\x00\x00", None),
    (b"\x40\x03\x00\x04\x10", None),
    (b"\x40\x04\x00\x05\x87\x00", "Not authorized"),
    (b"\x40\x02\x00\x06", None),
]
"""As MQTT 5 §3.4 lets a broker say it: with and without a reason, with and without (no) properties."""

ALL = b"".join(packet for packet, _ in ANSWERS)
PAUSE = 0.02
"""Seconds between two pieces, so that they are read one by one; the test holds as well where they are not."""


async def hear(cut: int, *, ends_there: bool) -> list[tuple[object, str | None]]:
    """What comes of `ALL`, cut in two or ended at that byte; the connection then ends."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        writer.write(CONNACK)
        await reader.read(1_000)
        writer.write(ALL[:cut])
        await asyncio.sleep(PAUSE)
        writer.write(b"" if ends_there else ALL[cut:])
        writer.close()

    heard: list[tuple[object, str | None]] = []

    async def read() -> None:
        async for burst in connection.acknowledgements():
            heard.extend(burst)

    async with speaking_broker(talk) as port, MqttConnection(settings(port), WILL, modern=True) as connection:
        connection.publish_all([Outgoing(number, "t", b"") for number in range(1, len(ANSWERS) + 1)])
        with pytest.raises(BrokerLost, match="the broker closed the connection"):
            await read()
        assert connection.unacknowledged == list(range(len(heard) + 1, len(ANSWERS) + 1))
    return heard


@pytest.mark.parametrize("ends_there", [False, True], ids=["cut in two", "closed in the middle"])
async def test_wherever_they_are_cut_each_answer_is_read_once_and_half_of_one_is_none(ends_there: bool) -> None:
    told = list(enumerate((refusal for _, refusal in ANSWERS), 1))
    whole = [sum(len(packet) for packet, _ in ANSWERS[:count]) for count in range(1, len(ANSWERS) + 1)]
    for cut in range(1, len(ALL)):
        expected = sum(end <= cut for end in whole) if ends_there else len(ANSWERS)
        assert await asyncio.wait_for(hear(cut, ends_there=ends_there), 10) == told[:expected], cut
