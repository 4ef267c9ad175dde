"""Opening the one connection that the settings of an endpoint describe."""

import asyncio
from functools import partial
from typing import Final

from gateway.drivers.modbus.config import ModbusSettings
from gateway.drivers.modbus.framing import Framing, RtuFraming, TcpFraming
from gateway.drivers.modbus.serial_port import SerialPort
from gateway.drivers.modbus.tls import tls_context
from gateway.drivers.modbus.wire import Wire

_BITS_PER_CHARACTER: Final = 11
"""Start, eight data bits, parity or a second stop bit, stop (Modbus over Serial Line V1.02 §2.5.1)."""
_SHORTEST_SILENCE: Final = 0.00175
"""Seconds between two RTU frames above 19,200 baud (§2.5.1.1); below, three and a half characters."""


def framing_of(settings: ModbusSettings) -> Framing:
    """RTU numbers nothing; all the others have the header of Modbus TCP."""
    return RtuFraming() if settings.transport in ("rtu", "rtu_over_tcp") else TcpFraming()


def frame_silence(settings: ModbusSettings) -> float:
    """Seconds that must pass between two frames: the standard's on a serial line, or longer if the device says so."""
    if settings.transport != "rtu":
        return settings.request_delay
    return max(settings.request_delay, _SHORTEST_SILENCE, 3.5 * _BITS_PER_CHARACTER / settings.baudrate)


async def open_wire(settings: ModbusSettings) -> Wire:
    """Connect within the timeout; raises `TimeoutError` or `OSError` (a refused certificate is one, too)."""
    if settings.transport == "rtu":
        wire = Wire(framing_of(settings), settings.character_timeout)
        wire.attach(SerialPort(wire, str(settings.port), settings.baudrate, settings.parity, settings.stopbits))
        return wire
    wire = Wire(framing_of(settings))
    loop = asyncio.get_running_loop()
    host, port = settings.host, settings.tcp_port
    async with asyncio.timeout(settings.timeout):
        if settings.transport == "udp":
            await loop.create_datagram_endpoint(lambda: wire, remote_addr=(host, port))
        else:
            # asyncio sets TCP_NODELAY itself.
            connect = partial(loop.create_connection, lambda: wire, host, port)
            await (connect(ssl=tls_context(settings)) if settings.transport == "tls" else connect())
    return wire
