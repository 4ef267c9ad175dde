"""Why a connection could not be made, in the words of the operating system."""

import os
import socket
import ssl


def reason_of(error: Exception) -> str:
    """`Connection refused` where asyncio says `Connect call failed`, what is wrong with a certificate; never empty."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if (
        isinstance(error, OSError)
        and not isinstance(error, ssl.SSLError)
        and not isinstance(error, socket.gaierror)
        and error.errno is not None
    ):
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
