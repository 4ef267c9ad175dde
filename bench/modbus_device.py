"""A Modbus TCP device that costs next to nothing: any register of any unit holds its own address. FC3 only.

`python -m bench.modbus_device` says its port, then answers until it is ended.
"""

import asyncio
import struct

from bench.lines import say

_REQUEST = struct.Struct(">HHHBBHH")
_ADDRESSES = struct.pack(">65536H", *range(65_536))


class _Device(asyncio.Protocol):
    """One connection; a client asks one thing at a time, so a request is never cut in two on loopback."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """One request: answered at once."""
        transaction, protocol, _, unit, function, first, count = _REQUEST.unpack(data)
        size = 2 * count
        header = struct.pack(">HHHBBB", transaction, protocol, size + 3, unit, function, size)
        self._transport.write(header + _ADDRESSES[2 * first : 2 * first + size])


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Device, "127.0.0.1", 0)
    say({"port": server.sockets[0].getsockname()[1]})
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
