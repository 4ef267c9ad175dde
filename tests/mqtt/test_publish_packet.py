"""PUBLISH packets made by hand, read by other people's programs; acknowledgements in whatever pieces they come."""

import asyncio

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt.client import MqttConnection, Outgoing
from gateway.mqtt.publish_packet import properties, publish_packet, variable_length
from tests.brokers import Mosquitto, eventually, speaking_broker
from tests.mqtt.test_client import VERSIONS, settings

TOPICS = st.text(st.characters(exclude_characters="+#\0", exclude_categories=("Cs",)), min_size=1, max_size=40)


@VERSIONS
@pytest.mark.parametrize("size", [0, 1, 100, 120, 16_360, 16_390, 300_000])
async def test_every_part_of_a_packet_arrives_as_it_was_given(mosquitto: Mosquitto, modern: bool, size: int) -> None:
    """Through mosquitto to paho: sizes around those at which the length takes one digit more."""
    got: list[paho.MQTTMessage] = []
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, reconnect_on_failure=False)
    subscribed = asyncio.Event()
    loop = asyncio.get_running_loop()
    client.on_connect = lambda c, *_: c.subscribe("#", qos=1)
    client.on_subscribe = lambda *_: loop.call_soon_threadsafe(subscribed.set)
    client.on_message = lambda _, __, message: got.append(message)
    client.connect("127.0.0.1", mosquitto.port)
    client.loop_start()
    await subscribed.wait()
    payload = bytes(n % 251 for n in range(size))
    async with MqttConnection(settings(mosquitto.port), None, modern=modern) as connection:
        messages = [
            Outgoing(1, "evt/ü", payload, historical="outage"),
            Outgoing(2, "res/1", payload, correlation=b"\x00\xff", historical="replay"),
            Outgoing(3, "now/state", payload, retain=True),
        ]
        assert connection.publish_all(messages) == []
        await eventually(lambda: len(got) == 3, "all arrived")
    client.disconnect()
    client.loop_stop()
    client._reset_sockets()
    assert [(m.topic, m.payload, m.qos) for m in got] == [(o.topic, payload, 1) for o in messages]
    if modern:
        assert [getattr(m.properties, "UserProperty", None) for m in got] == [
            [("historical", "outage")], [("historical", "replay")], None,
        ]  # fmt: skip
        assert got[1].properties.CorrelationData == b"\x00\xff"


@given(TOPICS, st.binary(max_size=400), st.integers(1, 65_535), st.booleans())
def test_a_packet_says_its_length_and_has_everything_in_its_place(
    topic: str, payload: bytes, mid: int, retain: bool
) -> None:
    raw, extra = topic.encode(), properties("outage", b"c")
    packet = publish_packet(mid, raw, payload, extra, retain=retain)
    assert packet[0] == 0x32 + retain
    digits = next(n for n in range(1, 5) if packet[n] < 128)
    length = sum((packet[place] & 127) << 7 * (place - 1) for place in range(1, digits + 1))
    rest = packet[1 + digits :]
    assert len(rest) == length
    assert rest == len(raw).to_bytes(2) + raw + mid.to_bytes(2) + extra + payload


@given(st.integers(0, 268_435_455))
def test_a_length_has_as_few_digits_as_it_can(number: int) -> None:
    digits = variable_length(number)
    assert sum((digit & 127) << 7 * place for place, digit in enumerate(digits)) == number
    assert len(digits) == next(n for n in range(1, 5) if number < 128**n)


@pytest.mark.parametrize("piece", [1, 3, 7, 1_000])
async def test_acknowledgements_are_understood_in_any_pieces_with_and_without_reasons(piece: int) -> None:
    """Short, with a reason, with an empty property list, with a Reason String; a ping between them; an unknown code."""
    answers = [
        (b"\x40\x02", b"", None),
        (b"\x40\x03", b"\x10", None),  # no matching subscribers: it has it all the same
        (b"\x40\x03", b"\x87", "Not authorized"),
        (b"\x40\x04", b"\x97\x00", "Quota exceeded"),
        (b"\x40\x09", b"\x80\x05\x1f\x00\x02no", "Unspecified error"),
        (b"\x40\x03", b"\xfe", "reason code 254"),
    ]

    ended = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        writer.write(b"\x20\x03\x00\x00\x00")
        mids: list[bytes] = []
        while len(mids) < len(answers):
            (await reader.readexactly(1), await reader.readexactly(1))
            await reader.readexactly(3)
            mids.append(await reader.readexactly(2))
            await reader.readexactly(1)
        said = b"".join(head + mid + rest for (head, rest, _), mid in zip(answers, mids, strict=True))
        said = said[:4] + b"\xd0\x00" + said[4:]
        for at in range(0, len(said), piece):
            writer.write(said[at : at + piece])
            await writer.drain()
            await asyncio.sleep(0.001)
        while await reader.read(1_000):
            pass
        writer.close()
        ended.set()

    heard: dict[object, str | None] = {}
    async with asyncio.timeout(10), speaking_broker(talk) as port:
        async with MqttConnection(settings(port), None, modern=True) as connection:
            assert connection.publish_all([Outgoing(n, "t", b"") for n in range(len(answers))]) == []
            async for burst in connection.acknowledgements():
                heard |= dict(burst)
                if len(heard) == len(answers):
                    break
        await ended.wait()
    assert list(heard.values()) == [refusal for _, _, refusal in answers]
    assert list(heard) == list(range(len(answers)))
