"""One connection, shared by all units behind it: one request at a time, first come, first served."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from weakref import WeakKeyDictionary, WeakValueDictionary

from gateway.drivers.base import LinkLost
from gateway.drivers.modbus.breaker import Breaker
from gateway.drivers.modbus.config import ModbusSettings
from gateway.drivers.modbus.connecting import frame_silence, framing_of, open_wire
from gateway.drivers.modbus.replies import BrokenReply
from gateway.drivers.modbus.tls import closing_reason, connecting_reason
from gateway.drivers.modbus.wire import Wire

_ENDPOINTS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[str, "Endpoint"]]] = (
    WeakKeyDictionary()
)
"""By loop and place: drivers are made one by one and must still meet on the same connection. An endpoint is forgotten
with its last user."""


def endpoint_of(settings: ModbusSettings) -> "Endpoint":
    """The endpoint of these settings in the running loop; made when the first unit asks for it."""
    here = _ENDPOINTS.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    found = here.get(settings.place)
    if found is None:
        found = here[settings.place] = Endpoint(settings)
    return found


class Endpoint:
    """The connection to one place. It is open while one of its users is.

    After a timeout on a transport that does not number its requests the reply may still come, and would be taken for
    the next one's. So the connection is closed, stays silent for `quiet_time`, and is opened anew (trap B1).
    """

    def __init__(self, settings: ModbusSettings) -> None:
        self._settings = settings
        self._numbered = framing_of(settings).numbered
        self._wire: Wire | None = None
        self._lock = asyncio.Lock()
        self._users: set[object] = set()
        self._breakers: dict[int, Breaker] = {}
        self._out_of_step = False
        self._free_at = 0.0

    @property
    def is_shared(self) -> bool:
        """True if somebody else is slowed down by a unit that does not answer."""
        return len(self._users) > 1 or len(self._breakers) > 1

    @property
    def is_numbered(self) -> bool:
        """True if a reply names its request."""
        return self._numbered

    def breaker(self, settings: ModbusSettings) -> Breaker:
        """The breaker of one unit; it outlives the driver, which is made anew after each loss."""
        return self._breakers.setdefault(settings.unit_id, Breaker(settings.retries_before_lost + 1))

    async def enter(self, user: object, where: str) -> None:
        """Open the connection if nobody has yet; raises `LinkLost` with the reason that the system gives."""
        async with self._lock:
            if self._wire is None or not self._wire.is_open:
                await self._keep_silence()
                await self._connect(where)
            self._users.add(user)

    async def leave(self, user: object) -> None:
        """The last one closes the connection at once, whatever the device does."""
        self._users.discard(user)
        if not self._users and self._wire is not None:
            self._wire.close()
            self._wire = None
            await asyncio.sleep(0)  # the transport closes its socket in the loop's next round

    def distrust(self, quiet: float) -> None:
        """What arrived was no answer to what was asked: the line may be out of step, the next request begins anew.

        A line that does not number its requests is left alone for `quiet` seconds first.
        """
        self._out_of_step = True
        if self._wire is not None:
            self._wire.close()
        if not self._numbered:
            loop = asyncio.get_running_loop()
            self._free_at = loop.time() + quiet
            loop.call_later(quiet, self._settle)

    def _settle(self) -> None:
        """Silence is over. Until then the loop holds on to this endpoint: who comes anew must keep the silence too."""

    async def exchange(self, settings: ModbusSettings, pdu: bytes) -> bytes:
        """Ask one unit; raises `TimeoutError`, `BrokenReply` or, when the connection is gone, `LinkLost`."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            await self._keep_silence()
            if self._out_of_step:
                await self._connect(settings.where)
            wire = self._wire
            if wire is None:
                raise LinkLost(f"{settings.where}: the device closed the connection")
            with self._judged(settings.quiet):
                try:
                    return await wire.exchange(settings.unit_id, pdu, settings.timeout)
                except ConnectionError:
                    reason = closing_reason(wire.closed_by, settings, wire.has_answered)
                    reason = f": {reason}" if reason else ""
                    raise LinkLost(f"{settings.where}: the device closed the connection{reason}") from None
                finally:
                    self._free_at = max(self._free_at, loop.time() + frame_silence(settings))

    @contextmanager
    def _judged(self, quiet: float) -> Iterator[None]:
        try:
            yield
        except BrokenReply:
            self.distrust(quiet)
            raise
        except (TimeoutError, asyncio.CancelledError):
            if not self._numbered:
                self.distrust(quiet)
            raise

    async def _keep_silence(self) -> None:
        if (pause := self._free_at - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(pause)

    async def _connect(self, where: str) -> None:
        try:
            self._wire = await open_wire(self._settings)
        except TimeoutError:
            raise LinkLost(f"{where}: cannot be connected within {self._settings.timeout:g} s") from None
        except OSError as error:
            raise LinkLost(f"{where}: cannot be connected: {connecting_reason(error, self._settings)}") from None
        self._out_of_step = False
