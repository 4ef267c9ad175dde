"""`python -m simulators`: everything the gateway meets, each also alone."""

import argparse
import sys
from importlib import import_module
from typing import Final

from simulators.options import UsageError

COMMANDS: Final = {
    "line": ("simulators.servers.command", "play the three machines of a scenario behind their servers"),
    "fil01": ("simulators.servers.command", "play the filler alone (OPC UA)"),
    "lbl01": ("simulators.servers.command", "play the labeller alone (Modbus TCP)"),
    "scada": ("simulators.servers.command", "play palletiser and checkweigher alone (OPC UA)"),
    "job-control": ("simulators.servers.job_command", "play a machine that takes job orders (OPC UA, ISA-95)"),
    "cell": ("simulators.servers.cell_command", "play machines that take parameters in every way there is (OPC UA)"),
    "proxy": ("simulators.proxy_command", "carry TCP to a device or broker, and fail on command"),
    "broker": ("simulators.broker", "run an MQTT broker for the demo"),
    "mes": ("simulators.mes", "send a scenario's commands and keep every message"),
    "reconcile": ("simulators.reconcile", "hold what a subscriber received against machine truth"),
}
"""Module and purpose of each command; only the one that is asked for is imported, with its libraries."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 2 where it was asked for something impossible."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m simulators", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, (module, purpose) in COMMANDS.items():
        sub = commands.add_parser(name, help=purpose, description=purpose)
        if arguments[:1] == [name]:
            command = import_module(module)
            command.declare(sub, name)
            sub.set_defaults(run=command.run)
    args = parser.parse_args(arguments)
    try:
        status: int = args.run(args)
    except UsageError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command line answers on stderr
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
