"""Short connections beside the gateway's own: to look whether a broker lets us in, to send a command as a MES would."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from gateway.mqtt.client import BrokerLost, MqttConnection
from gateway.mqtt.settings import MqttSettings
from gateway.mqtt.tcp import open_socket
from gateway.mqtt.tls import peer_of, shake_hands, tls_context

_VERSIONS: Final = {"auto": (True, False), "5": (True,), "3.1.1": (False,)}


@asynccontextmanager
async def visiting(settings: MqttSettings, purpose: str) -> AsyncIterator[MqttConnection]:
    """Connect as `<client_id>-<purpose>`, without a will: the broker keeps nothing of it. Raises `BrokerLost`.

    With `protocol: auto` MQTT 3.1.1 follows where 5 is refused or not answered.
    """
    async with AsyncExitStack() as stack:
        yield await _let_in(stack, settings.as_visitor(purpose))


async def certificate_of(broker: MqttSettings) -> bytes:
    """What a broker shows (DER), proven as for every connection; no word of MQTT is said. Raises `OSError`."""
    assert broker.tls is not None
    async with asyncio.timeout(broker.connect_timeout):
        context = await asyncio.to_thread(tls_context, broker.tls)
        sock = await open_socket(broker.host, broker.port)
        with await shake_hands(sock, context, broker.host) as shaken:
            return peer_of(shaken).certificate


async def _let_in(stack: AsyncExitStack, settings: MqttSettings) -> MqttConnection:
    *others, last = _VERSIONS[settings.protocol]
    for modern in others:
        try:
            return await stack.enter_async_context(MqttConnection(settings, None, modern=modern))
        except BrokerLost as lost:
            if not (lost.wrong_version or lost.unanswered):
                raise
    return await stack.enter_async_context(MqttConnection(settings, None, modern=last))
