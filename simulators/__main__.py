"""`python -m simulators`: everything the gateway meets, each also alone."""

import argparse
import sys

from simulators.options import UsageError
from simulators.scenario import ScenarioError
from simulators.servers import command as machines


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 2 where it was asked for something impossible."""
    parser = argparse.ArgumentParser(prog="python -m simulators", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    machines.add(commands)
    args = parser.parse_args(arguments)
    try:
        return args.run(args) or 0
    except (UsageError, ScenarioError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command line answers on stderr
        return 2


if __name__ == "__main__":
    sys.exit(main())
