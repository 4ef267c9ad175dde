"""`python -m simulators broker`: an MQTT broker for the demo, so that no server has to be installed (amqtt).

Good enough to look at, not for data: it speaks MQTT 3.1.1 only, keeps nothing over a restart and forgets what was in
flight to a client that goes. It listens on loopback, and nobody gets in without the password; the user name is free.
"""

import argparse
import asyncio
import hmac
import json
import logging
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from amqtt.broker import Broker
from amqtt.contexts import BaseContext
from amqtt.errors import BrokerError
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session

from simulators import options, passwords
from simulators.options import UsageError


class PasswordPlugin(BaseAuthPlugin):  # type: ignore[misc]  # amqtt has no hints here
    """Lets in whoever gives the one password."""

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)
        self._password = passwords.read(Path(self.config.password_file))

    async def authenticate(self, *, session: Session) -> bool:
        """True for the right password, which is never empty, so never for an anonymous client."""
        return hmac.compare_digest((session.password or "").encode(), self._password.encode())

    @dataclass
    class Config:
        """Where the password is."""

        password_file: str = ""


def declare(parser: argparse.ArgumentParser, _command: str) -> None:
    """The options of the command."""
    options.add_host(parser)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--password-file", type=Path, required=True, help="its password, mode 0600; made if missing")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    passwords.read_or_generate(args.password_file)
    asyncio.run(_serve(options.host(args), args.port, args.password_file))
    return 0


async def _serve(host: str, port: int, password_file: Path) -> None:
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    port = port or _free_port(host)
    plugin = f"{PasswordPlugin.__module__}.{PasswordPlugin.__qualname__}"
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}"}},
            "plugins": {plugin: {"password_file": str(password_file)}},
        }
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await broker.start()
    except BrokerError as error:
        raise UsageError(
            f"the broker cannot listen on {host}:{port}: {error}; give another --port, 0 is free"
        ) from error
    try:
        banner = "demo broker: keeps nothing over a restart, not for production"
        print(banner, file=sys.stderr)  # noqa: T201 - for whoever starts it by hand
        print(json.dumps({"ready": {"broker": f"mqtt://{host}:{port}"}}), flush=True)  # noqa: T201 - the answer
        await stop.wait()
    finally:
        await broker.shutdown()


def _free_port(host: str) -> int:
    """amqtt does not tell which port it took, so a free one is looked for first."""
    with socket.create_server((host, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
