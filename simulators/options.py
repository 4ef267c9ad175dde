"""What several commands ask for in the same words."""

import argparse
from datetime import datetime
from pathlib import Path

from simulators.scenario import Scenario, ScenarioError, load
from simulators.scenario_parts import seconds_since

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class UsageError(Exception):
    """What was asked for cannot be done; the text says what would be right."""


def add_play(parser: argparse.ArgumentParser) -> None:
    """The options of everything that plays a scenario."""
    parser.add_argument("--scenario", type=Path, required=True, help="the scenario file to play")
    parser.add_argument("--epoch", help="wall time (ISO 8601) at which the scenario's start happens; default: now")
    parser.add_argument("--speed", type=float, default=1.0, help="plant seconds per wall second")


def add_host(parser: argparse.ArgumentParser) -> None:
    """The options of everything that listens."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--allow-remote", action="store_true", help="allow a --host that others can reach")


def scenario(args: argparse.Namespace) -> Scenario:
    """The scenario named on the command line; raises `UsageError`."""
    try:
        return load(args.scenario)
    except ScenarioError as error:
        raise UsageError(str(error)) from error


def epoch(args: argparse.Namespace, default: float) -> float:
    """Seconds since 1970 at which the scenario's start happens; raises `UsageError`."""
    if args.speed <= 0:
        raise UsageError(f"--speed {args.speed:g} stands still; write a number above 0")
    if args.epoch is None:
        return default
    try:
        at = datetime.fromisoformat(args.epoch)
    except ValueError as error:
        raise UsageError(f"--epoch {args.epoch} is not a time; write ISO 8601, as 2026-03-02T06:00:00Z") from error
    if at.tzinfo is None:
        raise UsageError(f"--epoch {args.epoch} has no time zone; append Z for UTC")
    return at.timestamp()


def until(args: argparse.Namespace, played: Scenario) -> int | None:
    """The scenario's second from which the machines stand still; raises `UsageError`."""
    if args.until is None:
        return None
    try:
        return seconds_since(played.start, args.until)
    except ValueError as error:
        raise UsageError(f"--until: {error}") from error


def host(args: argparse.Namespace) -> str:
    """The address to listen on; raises `UsageError` for one that others can reach unless they are let in."""
    address: str = args.host
    if address not in LOOPBACK and not args.allow_remote:
        raise UsageError(f"--host {address} lets others in; add --allow-remote if that is meant, or leave it out")
    return address
