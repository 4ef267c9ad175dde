"""`python -m simulators line|fil01|lbl01|scada`: machines of a scenario behind their servers, until SIGTERM."""

import argparse
import asyncio
import json
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from simulators import options
from simulators.clock import PlayClock
from simulators.faults import with_faults
from simulators.models.line import Line
from simulators.options import UsageError
from simulators.scenario import ScenarioError
from simulators.servers import fil01
from simulators.servers.lbl01 import ModbusDevice
from simulators.servers.play import Device, Play
from simulators.servers.scada import ScadaDevice

DEVICES: Final[dict[str, Callable[[Play, str, int], Device]]] = {
    "FIL01": fil01.server,
    "LBL01": ModbusDevice,
    "SCADA": ScadaDevice,
}

_NOT_YET: Final = 2.0**40
"""An epoch for the time in which the servers open and nothing moves."""


def declare(parser: argparse.ArgumentParser, command: str) -> None:
    """The options of `line`, or of one device alone."""
    names = [*DEVICES] if command == "line" else [command.upper()]
    options.add_play(parser)
    options.add_host(parser)
    parser.add_argument("--until", help="HH:MM:SS of the scenario from which the machines stand still")
    parser.add_argument("--ledger", type=Path, help="write what truly happened here, at the end and at exit")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="KIND,key=value,…",
        help="a fault as in the scenario's list, e.g. bad_status,device=FIL01,tag=FIL01.MES.Permit,from=06:05:00",
    )  # fmt: skip
    for name in names:
        parser.add_argument(f"--{name.lower()}-port", type=int, default=0, help="0 takes a free one")
    parser.set_defaults(devices=names)


def run(args: argparse.Namespace) -> int:
    """Play until SIGTERM or SIGINT."""
    if args.ledger is not None and not args.ledger.parent.is_dir():
        raise UsageError(f"--ledger {args.ledger}: there is no folder {args.ledger.parent}; make it first")
    epoch, host = options.epoch(args, default=_NOT_YET), options.host(args)
    try:
        scenario = with_faults(options.scenario(args), args.fault, args.devices[0] if len(args.devices) == 1 else None)
        line = Line(scenario, options.until(args, scenario))
        asyncio.run(run_until_signalled(_serve(args, line, PlayClock(scenario, epoch, args.speed), host)))
    except ScenarioError as error:
        raise UsageError(f"{args.scenario}: {error}") from error
    return 0


async def run_until_signalled(work: Coroutine[None, None, None]) -> None:
    """Do it until SIGTERM or SIGINT, and let it tidy up."""
    task = asyncio.create_task(work)

    def stop() -> None:
        if not task.cancelling():  # a second signal must not disturb the tidying up after the first
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    with suppress(asyncio.CancelledError):
        await task


async def _serve(args: argparse.Namespace, line: Line, clock: PlayClock, host: str) -> None:
    """Open the devices, say so, play. However it ends, the devices are closed and the ledger is written."""
    play = Play(line, clock)
    devices = [DEVICES[name](play, host, getattr(args, f"{name.lower()}_port")) for name in args.devices]
    async with AsyncExitStack() as opened:
        opened.callback(_write_ledger, line, args.ledger)
        for device in devices:
            await _open(device)
            opened.push_async_callback(device.close)
        if args.epoch is None:
            play.clock = PlayClock(line.scenario, time.time(), args.speed)
        ready = {"ready": {device.name: device.url for device in devices}, "epoch": _iso(play.clock.epoch)}
        print(json.dumps(ready), flush=True)  # noqa: T201 - the ready line is the command's answer
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(play.run(devices))
            tasks.create_task(_write_at_the_end(play, args.ledger))


async def _open(device: Device) -> None:
    try:
        await device.open()
    except (OSError, RuntimeError) as error:  # pymodbus raises RuntimeError where it cannot listen
        option = f"--{device.name.lower()}-port"
        raise UsageError(
            f"{device.name} cannot listen on {device.url}: {error}; give another {option}, 0 is free"
        ) from error


async def _write_at_the_end(play: Play, ledger: Path | None) -> None:
    await play.ended.wait()
    _write_ledger(play.line, ledger)


def _write_ledger(line: Line, path: Path | None) -> None:
    """Write it whole or not at all, so that nobody reads half a ledger."""
    if path is not None:
        draft = path.with_name(f"{path.name}.new")
        draft.write_text(json.dumps(line.ledger(), indent=1), encoding="utf-8")
        draft.replace(path)


def _iso(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")
