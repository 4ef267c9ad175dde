"""What a broker means that does not let us in, or is not there: its reason, and what to do about it."""

import os
import socket
from typing import Final

from gateway.mqtt.settings import BrokerSettings

_NOBODY: Final = (
    "it lets in nobody without a user; give username and password_file, on the command line --user and --password-file"
)

_CURES: Final = {
    "Unsupported protocol version": "write protocol: auto, or 3.1.1",
    "Client identifier not valid": "it does not take this client_id; give another, or allow it at the broker",
    "Server unavailable": "the broker is starting, or full; its own log says which",
    "Server busy": "the broker is overloaded, or at its limit of connections (max_connections)",
    "Banned": "this client is banned at the broker; lift that there",
    "Quota exceeded": "the broker's limit of clients or sessions is reached; raise it there",
    "Connection rate exceeded": "too many connections in a short time; the broker has a limit for that",
    "Use another server": "the broker was moved; correct host:",
    "Server moved": "the broker was moved; correct host:",
}
"""By the names of MQTT 5 (§3.2.2.2), which paho gives to the codes of 3.1.1 as well."""


def refusal(reason: str, broker: BrokerSettings) -> str:
    """The broker's answer to CONNECT in words that say what to do."""
    cure = _CURES.get(reason, "")
    if reason in {"Not authorized", "Bad user name or password"}:
        known = f"it does not know the user {broker.username}, or not with this password"
        cure = _NOBODY if broker.username is None else known
    return f"refused the connection ({reason})" + (f"; {cure}" if cure else "")


def unreached(error: OSError, broker: BrokerSettings) -> str:
    """Why there is nobody to talk to, where the operating system knows."""
    if isinstance(error, socket.gaierror):
        return f"{error.strerror}; correct host:, or what this machine asks for names (DNS, /etc/hosts)"
    # asyncio's own text is `Connect call failed ('127.0.0.1', 1883)`.
    reason = os.strerror(error.errno) if error.errno is not None else str(error)
    if isinstance(error, ConnectionRefusedError):
        return f"{reason}: nothing listens on port {broker.port}; start the broker, or correct host: and port:"
    return reason
