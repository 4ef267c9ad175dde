"""A TCP connection that can be given up at any moment.

paho's own way blocks a thread that nobody can interrupt (trap C8); here a cancelled or late try leaves nothing behind.
"""

import asyncio
import socket


async def open_socket(host: str, port: int) -> socket.socket:
    """Connect to the first address of the host that answers. Raises `OSError` with the last reason."""
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            # Without it on both ends a command's answer waits some 40 ms for an acknowledgement of TCP.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure
