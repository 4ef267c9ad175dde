"""The most that a server may send in one message, kept by us and not by what it promised (trap A18).

asyncua only advertises a limit, lets the server's acknowledgement replace it, and piles up an unfinished chunk of any
announced size: a server that goes mad would take the gateway's memory, and with it every other device.
"""

from collections.abc import Callable
from typing import Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UASocketProtocol
from asyncua.common.connection import TransportLimits

MAX_MESSAGE: Final = 16 * 2**20
"""Bytes. The longest answers, a browse of a thousand nodes or an array of a million bytes, have a tenth of it."""
MAX_CHUNKS: Final = 4096
"""Twice what a message of that size needs in the smallest chunks that Part 6 §7.1.2.3 allows, 8192 bytes."""
_LEAST_BUFFER: Final = 8192


class _OwnLimits(TransportLimits):
    """Of the server's numbers only how much it takes at once is heard."""

    def __init__(self) -> None:
        super().__init__(max_recv_buffer=MAX_MESSAGE, max_chunk_count=MAX_CHUNKS, max_message_size=MAX_MESSAGE)

    def update_client_limits(self, msg: ua.Acknowledge) -> None:
        self.max_send_buffer = min(self.max_send_buffer, max(msg.ReceiveBufferSize, _LEAST_BUFFER))


def bound_messages(client: Client) -> None:
    """Make every connection of a client that is not connected yet break when a message grows beyond the limits."""
    client.max_messagesize, client.max_chunkcount = MAX_MESSAGE, MAX_CHUNKS
    make_protocol: Callable[[], UASocketProtocol] = client.uaclient._make_protocol

    def make_bounded() -> UASocketProtocol:
        protocol = make_protocol()
        protocol._connection._limits = _OwnLimits()
        receive = protocol.data_received

        def receive_bounded(data: bytes) -> None:
            receive(data)
            if len(protocol.receive_buffer or b"") > MAX_MESSAGE and protocol.transport is not None:
                protocol.transport.abort()

        protocol.data_received = receive_bounded  # type: ignore[method-assign]
        return protocol

    client.uaclient._make_protocol = make_bounded  # type: ignore[method-assign]
