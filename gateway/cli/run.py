"""`gateway run`: configuration, logging, signals, and the daemon between them."""

import asyncio
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import structlog

from gateway.cli.check import show_problems
from gateway.cli.dry_run import DryRunWish
from gateway.cli.usage import UsageError
from gateway.config.load import load_plant
from gateway.config.problems import ConfigError
from gateway.domain.times import parse_timestamp
from gateway.drivers.base import Clock
from gateway.mqtt.payloads import encode_json
from gateway.runtime.clock import PlayClock, SystemClock
from gateway.runtime.daemon import Daemon
from gateway.runtime.logs import LogThread, configure_logging
from gateway.store.schema import StoreError


def run_gateway(
    folder: Path, play: str | None, *, report: bool, log_json: bool, dry_run: DryRunWish | None = None
) -> int:
    """Run until a signal. Exit 2 if the configuration is wrong, 1 if the gateway cannot go on."""
    try:
        plant, clock = load_plant(folder), _clock(play)
    except ConfigError as error:
        show_problems(error)
        return 2
    except ValueError as error:
        print(f"--play: {error}", file=sys.stderr)  # noqa: T201 - logging is not up yet
        return 2
    with LogThread(sys.stderr) as logs:
        configure_logging(logs, as_json=log_json)
        reporter = _reporter() if report else None
        if dry_run is None:
            return _run(Daemon(plant, clock), reporter)
        try:
            with dry_run.prepared(plant) as (own, out):
                return _run(Daemon(own, clock, out), reporter)
        except UsageError as error:
            structlog.get_logger().error("no dry run", reason=str(error))
            return 2


def _run(daemon: Daemon, report: Callable[[dict[str, Any]], None] | None) -> int:
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_until_signal(daemon, report))
    except Exception as error:  # noqa: BLE001 - whatever it was, one line says it, and the next start goes on
        for leaf in _leaves(error):
            _tell_end(leaf)
        return 1
    return 0


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors themselves, out of the groups that tasks wrap around them."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _tell_end(error: BaseException) -> None:
    """One line for what ended the gateway. The calls that led to it stand in the line, outermost first."""
    log = structlog.get_logger()
    if isinstance(error, StoreError):
        log.error("the record cannot be used", reason=str(error))
        return
    calls = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
    log.critical(
        "the gateway ends on an error in its own code; started again, it goes on from its last commit",
        error=f"{type(error).__name__}: {error}",
        calls=" > ".join(calls),
    )


async def _until_signal(daemon: Daemon, report: Callable[[dict[str, Any]], None] | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await daemon.run(stop, report)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it exists; the standard loop does the same, slower."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _clock(play: str | None) -> Clock:
    if play is None:
        return SystemClock()
    match = re.fullmatch(r"(?P<start>[^@]+)@(?P<epoch>[^@]+)x(?P<rate>[0-9.]+)", play)
    if match is None:
        raise ValueError(f"{play!r} is not START@EPOCHxRATE, for example 2026-03-02T06:00:00Z@2026-11-22T17:00:00Zx20")
    return PlayClock(parse_timestamp(match["start"]), parse_timestamp(match["epoch"]), float(match["rate"]))


def _reporter() -> Callable[[dict[str, Any]], None]:
    def report(figures: dict[str, Any]) -> None:
        sys.stdout.buffer.write(encode_json(figures) + b"\n")
        sys.stdout.buffer.flush()

    return report
