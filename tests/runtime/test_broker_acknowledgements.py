"""Brokers that acknowledge in another order, twice, or what nobody sent: every message is still counted once."""

import asyncio
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.brokers import eventually, speaking_broker
from tests.runtime.test_broker_link import streams, uplink

MESSAGES = 1_000

Answer = Callable[[Sequence[int]], Sequence[int]]
"""The packet identifiers that a broker acknowledges, of those that came together."""


def a_strangers_as_well(came: Sequence[int]) -> Sequence[int]:
    """Identifiers that are on their way to nobody."""
    return [mid for one in came for mid in (one + 20_000, one, one + 20_001)]


MANNERS: dict[str, Answer] = {
    "in reverse": lambda came: came[::-1],
    "twice at once": lambda came: [mid for one in came for mid in (one, one)],
    "all of them, and all of them again": lambda came: [*came, *came],
    "strangers": a_strangers_as_well,
}


class ScriptedBroker:
    """Takes whatever comes over MQTT 5, and acknowledges it in its own manner."""

    def __init__(self, answer: Answer) -> None:
        self.payloads: list[bytes] = []
        self._answer = answer
        self._came: list[int] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        acknowledging = asyncio.create_task(self._acknowledge(writer))
        try:
            while True:
                kind, body = await packet(reader)
                if kind >> 4 == 3:
                    self._take(kind, body)
                else:
                    replies = {
                        0x10: b"\x20\x03\x00\x00\x00",
                        0x82: b"\x90\x04" + body[:2] + b"\x00\x01",
                        0xC0: b"\xd0\x00",
                    }
                    writer.write(replies.get(kind, b""))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            acknowledging.cancel()
            writer.close()

    def _take(self, kind: int, body: bytes) -> None:
        """A PUBLISH at QoS 1 (MQTT 5 §3.3); the status message is one of them."""
        assert kind & 0x06 == 0x02
        (length,) = struct.unpack_from(">H", body)
        (mid,) = struct.unpack_from(">H", body, 2 + length)
        properties = body[4 + length]
        self._came.append(mid)
        if body[2 : 2 + length].startswith(b"evt/"):
            self.payloads.append(body[5 + length + properties :])

    async def _acknowledge(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await asyncio.sleep(0.005)
            came, self._came = self._came, []
            writer.write(b"".join(struct.pack(">BBH", 0x40, 2, mid) for mid in self._answer(came)))


async def packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The first byte of a packet, and all behind its length."""
    kind, length, shift = (await reader.readexactly(1))[0], 0, 0
    while True:
        (byte,) = await reader.readexactly(1)
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return kind, await reader.readexactly(length)


@pytest.mark.parametrize("manner", MANNERS)
async def test_however_a_broker_acknowledges_every_message_is_sent_once_and_counted_once(
    manner: str, tmp_path: Path
) -> None:
    broker = ScriptedBroker(MANNERS[manner])
    async with speaking_broker(broker.talk) as port, uplink(tmp_path, port) as up:
        await up.is_told("connected")
        for _ in range(5):
            await up.commit(MESSAGES // 5)
        await up.is_empty()
        account = await up.store.account()
        await eventually(lambda: len(broker.payloads) == MESSAGES, "all came")
        assert up.link._delivery._open == 0, "the window is as wide as before"
        assert up.listener.told == ["connected"]
    assert streams([int(payload) for payload in broker.payloads]) == streams(range(MESSAGES))
    assert (account.acknowledged, account.ingested, account.unaccounted) == (MESSAGES, MESSAGES, 0)
    assert (account.published, account.dropped, account.quarantined) == (MESSAGES // 2, 0, 0)
