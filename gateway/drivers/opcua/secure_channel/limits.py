"""What a server does not decide for us: how much it sends, how much it claims, and by whose clock a token ends.

asyncua only advertises a size limit, lets the server's acknowledgement replace it, and piles up an unfinished chunk of
any announced size (trap A18): a server that goes mad would take the gateway's memory, and with it every other device.
It also holds the server's moment of a token's creation against our clock (trap A23): where a PLC's clock is behind by
more than a token lasts, the first message after a renewal that still carries the old token would end the link.

And it believes any length of an array: an element of Null takes no byte, so five bytes that claim two thousand million
of them keep the whole gateway busy until its memory is full.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UASocketProtocol
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import Buffer
from asyncua.ua import ua_binary
from asyncua.ua.uaerrors import UaError

from gateway.drivers.opcua.secure_channel.refusals import hear_refusals

MAX_MESSAGE: Final = 16 * 2**20
"""Bytes. The longest answers, a browse of a thousand nodes or an array of a million bytes, have a tenth of it."""
MAX_CHUNKS: Final = 4096
"""Twice what a message of that size needs in the smallest chunks that Part 6 §7.1.2.3 allows, 8192 bytes."""
_LEAST_BUFFER: Final = 8192
_unpack_array = ua_binary.unpack_uatype_array


class _OwnLimits(TransportLimits):
    """Of the server's numbers only how much it takes at once is heard."""

    def __init__(self) -> None:
        super().__init__(max_recv_buffer=MAX_MESSAGE, max_chunk_count=MAX_CHUNKS, max_message_size=MAX_MESSAGE)

    def update_client_limits(self, msg: ua.Acknowledge) -> None:
        self.max_send_buffer = min(self.max_send_buffer, max(msg.ReceiveBufferSize, _LEAST_BUFFER))


def believe_no_empty_elements() -> None:
    """Let asyncua refuse an array that claims elements of Null; for all connections of this process."""
    ua_binary.unpack_uatype_array = _unpack_credible_array  # type: ignore[assignment]


def _unpack_credible_array(kind: ua.VariantType, data: Buffer) -> list[Any] | None:
    if kind is ua.VariantType.Null and (length := int.from_bytes(data.copy(4).read(4), "little", signed=True)) > 0:
        raise UaError(f"an array claims {length} elements that take no bytes")
    return _unpack_array(kind, data)


def keep_own_measure(client: Client) -> None:
    """Give every connection of a client that is not connected yet our limits and our clock.

    A connection on which a message grows too long is ended; its requests fail like those of any lost link.
    """
    client.max_messagesize, client.max_chunkcount = MAX_MESSAGE, MAX_CHUNKS
    make_protocol: Callable[[], UASocketProtocol] = client.uaclient._make_protocol

    def make_measured() -> UASocketProtocol:
        protocol = make_protocol()
        protocol._connection._limits = _OwnLimits()
        _bound_unfinished_chunk(protocol)
        _date_tokens(protocol)
        hear_refusals(protocol)
        return protocol

    client.uaclient._make_protocol = make_measured  # type: ignore[method-assign]


def _bound_unfinished_chunk(protocol: UASocketProtocol) -> None:
    receive = protocol.data_received

    def receive_bounded(data: bytes) -> None:
        receive(data)
        if len(protocol.receive_buffer or b"") > MAX_MESSAGE and protocol.transport is not None:
            protocol.transport.abort()

    protocol.data_received = receive_bounded  # type: ignore[method-assign]


def _date_tokens(protocol: UASocketProtocol) -> None:
    connection = protocol._connection
    set_channel = connection.set_channel

    def set_dated_channel(params: Any, request_type: ua.SecurityTokenRequestType, client_nonce: bytes) -> None:
        params.SecurityToken.CreatedAt = datetime.now(UTC)
        set_channel(params, request_type, client_nonce)

    connection.set_channel = set_dated_channel  # type: ignore[method-assign]
