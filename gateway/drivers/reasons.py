"""Why a connection could not be made, in the words of the operating system."""

import os
import socket


def reason_of(error: Exception) -> str:
    """`Connection refused` where asyncio says `Connect call failed`; never empty."""
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
