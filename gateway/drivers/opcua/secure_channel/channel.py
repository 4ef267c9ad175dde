"""The link to one OPC UA server: a secure channel with one session on it, made once and never mended.

asyncua gives the channel, the session handshake and the codec. Its `Client.connect` is left alone: that starts a
watchdog which counts a server 1.3 s slow as lost (trap A7) and a publish loop that outlives the session (A1). Here
every service goes through `call`, and whoever supervises the driver makes a new one when the link is gone.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UaClientState
from asyncua.common.utils import Buffer
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_from_binary
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from gateway.drivers.base import LinkLost
from gateway.drivers.opcua.secure_channel.limits import keep_own_measure
from gateway.drivers.opcua.secure_channel.login import log_in
from gateway.drivers.opcua.secure_channel.resumption import Ticket, resume, take_ticket
from gateway.drivers.opcua.secure_channel.security import prepare, reason_of_refusal
from gateway.drivers.opcua.secure_channel.security_settings import OpcUaSecurity
from gateway.drivers.opcua.secure_channel.trust import Distrust
from gateway.drivers.opcua.status_codes import status_name
from gateway.drivers.reasons import reason_of

CHANNEL_LIFETIME: Final = 3_600_000
"""Milliseconds asked for; the token is renewed after three quarters of what the server grants (Part 4 §5.6.2)."""
_RENEW_AFTER: Final = 0.75
_WAIT_FOREVER: Final = 0.0
"""asyncua's word for no timeout, also on the wire (TimeoutHint): as long as the link lives."""

_LINK_CODES: Final = frozenset(
    getattr(StatusCodes, name)
    for name in (
        "BadCommunicationError", "BadConnectionClosed", "BadSecureChannelClosed", "BadSecureChannelIdInvalid",
        "BadSecurityChecksFailed", "BadServerHalted", "BadServerNotConnected", "BadSessionClosed",
        "BadSessionIdInvalid", "BadSessionNotActivated", "BadShutdown", "BadTimeout",
    )
)  # fmt: skip
"""Service results that end the session, whatever was asked."""

Response = TypeVar("Response")
Decoded = TypeVar("Decoded")


class ServiceFault(Exception):  # noqa: N818 - the protocol's own word for it
    """The server refused a whole service call while the session goes on; `code` says why."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what} was refused with {status_name(code)}")
        self.code = code


class Channel:
    """One connection. `request_timeout` and `session_timeout` are seconds of wall time; the latter is how long the
    server keeps session and subscription of a gateway that says nothing.

    Every method raises `LinkLost` when the server is out of reach, silent for `request_timeout`, or says something
    that cannot be decoded.
    """

    def __init__(self, url: str, request_timeout: float, session_timeout: float, security: OpcUaSecurity) -> None:
        self._url = url
        self._timeout = request_timeout
        self._security = security
        self._client = Client(url, timeout=request_timeout)
        keep_own_measure(self._client)
        self._client.application_uri = self._client.product_uri = "urn:shopfloor-gateway"
        self._client.description = "shopfloor-gateway"
        self._client.secure_channel_timeout = CHANNEL_LIFETIME
        self._client.session_timeout = round(1000 * session_timeout)
        self._lost: str | None = None
        self._renewal: asyncio.Task[None] | None = None

    async def open(self, ticket: Ticket | None = None) -> bool:
        """Open channel and session; True if the session is the one of `ticket`, which the server has kept."""
        _quieten_asyncua()
        try:
            resumed = await self._connect(ticket)
        except BaseException:
            await self.close()
            raise
        self._renewal = asyncio.create_task(self._renew(), name=f"channel renewal {self._url}")
        return resumed

    @property
    def ticket(self) -> Ticket | None:
        """What it takes to go on with this session over another channel; None unless the link broke."""
        return take_ticket(self._client) if self._lost is not None else None

    async def _connect(self, ticket: Ticket | None) -> bool:
        client = self._client
        try:
            await prepare(client, self._security, self._url, self._timeout)
            await client.connect_socket()
            await client.send_hello()
            await client.open_secure_channel()
            if ticket is not None and await resume(client, self._security, ticket):
                return True
            await client.create_session()
            await log_in(client, self._security)
            return False
        except Distrust as reason:
            raise self.fail(str(reason)) from None
        except TimeoutError:
            raise self.fail(f"does not answer within {self._timeout:g} s") from None
        except (OSError, UaError) as error:
            raise self.fail(f"cannot be connected: {reason_of_refusal(client, error)}") from None

    async def call(self, request: Any, response_type: type[Response], patience: float | None = None) -> Response:
        """One service call; raises `ServiceFault` when the server refuses it as a whole.

        `patience` is for a service that may take longer than others, in seconds of wall time.
        """
        body = await self._exchange(request, self._timeout if patience is None else patience)
        response: Response = self.decode(partial(struct_from_binary, response_type), body)
        return response

    async def publish(self, acknowledgements: list[ua.SubscriptionAcknowledgement]) -> Buffer:
        """Send one PublishRequest; gives back the undecoded answer, however long the server takes to have one."""
        request = ua.PublishRequest()
        request.Parameters.SubscriptionAcknowledgements = acknowledgements
        return await self._exchange(request, _WAIT_FOREVER)

    async def _exchange(self, request: Any, patience: float) -> Buffer:
        """Send a request, give back the undecoded answer; wait for it `patience` seconds of wall time."""
        what = type(request).__name__
        protocol = self._client.uaclient.protocol
        if protocol is None or self._lost is not None:
            raise self.lost(self._lost or "is not connected")
        try:
            return await protocol.send_request(request, patience)
        except TimeoutError:
            raise self.fail(f"does not answer a {what} within {patience:g} s") from None
        except UaStatusCodeError as error:
            closing = protocol.transport is None or protocol.transport.is_closing()
            if closing or error.code in _LINK_CODES:
                raise self.fail(f"ended the session: {status_name(error.code)}") from None
            raise ServiceFault(what, error.code) from None
        except (OSError, UaError) as error:
            raise self.fail(f"connection lost: {error}") from None

    def decode(self, decoder: Callable[[Buffer], Decoded], body: Buffer) -> Decoded:
        """Decode an answer; one that cannot be decoded ends the link, for nothing behind it can be believed."""
        try:
            return decoder(body)
        except Exception as error:  # noqa: BLE001 - asyncua's decoder, fed with bytes of a stranger, raises anything
            raise self.fail(f"sent an answer that cannot be decoded: {error!r}") from None

    def lost(self, reason: str) -> LinkLost:
        """The error to raise for a reason that leaves the connection open, to be closed in good order."""
        return LinkLost(f"{self._url}: {reason}")

    def fail(self, reason: str) -> LinkLost:
        """Break the connection, so that whatever waits on it wakes up; answers with the error to raise."""
        if self._lost is None:
            self._lost = reason
            protocol = self._client.uaclient.protocol
            if protocol is not None and protocol.transport is not None:
                protocol.transport.abort()
        return self.lost(self._lost)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._client.secure_channel_timeout / 1000 * _RENEW_AFTER)
            try:
                await self._client.open_secure_channel(renew=True)
                self._client.uaclient.revolve_security_token()
            except (OSError, TimeoutError, UaError) as error:
                self.fail(f"the secure channel could not be renewed: {reason_of(error)}")
                return

    async def close(self) -> None:
        """Close session, channel and socket; takes no longer than one request timeout, and never raises."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        uaclient = self._client.uaclient
        if uaclient.state is UaClientState.CONNECTED and self._lost is None:
            with contextlib.suppress(LinkLost, ServiceFault):
                await self.call(ua.CloseSessionRequest(DeleteSubscriptions=True), ua.CloseSessionResponse)
                await uaclient.close_secure_channel()
        async with uaclient.subscribe_state() as state:
            self.fail("is closed")
            if uaclient.protocol is not None:
                with contextlib.suppress(TimeoutError):
                    await state.wait_for_state(UaClientState.DISCONNECTED, timeout=self._timeout)


def _quieten_asyncua() -> None:
    """asyncua logs tracebacks for a lost link (trap A1) and, below WARNING, whole requests with passwords (A22).

    All that matters reaches us as an exception and is said once, by us.
    """
    logging.getLogger("asyncua").setLevel(logging.WARNING)
    for part in ("asyncua.client", "asyncua.common", "asyncua.crypto"):
        logging.getLogger(part).setLevel(logging.CRITICAL)
