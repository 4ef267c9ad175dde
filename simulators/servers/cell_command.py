"""`python -m simulators cell`: machines that take parameters in every way (OPC UA, some also Modbus), until SIGTERM."""

import argparse
import asyncio
import json
from contextlib import AsyncExitStack

from simulators import options
from simulators.models.handshakes.faults import FaultError, Faults, joined, parse
from simulators.models.handshakes.machine import PARAMETERS, Machine
from simulators.models.handshakes.ways import WAYS
from simulators.options import UsageError
from simulators.servers.cell_modbus import CellModbus
from simulators.servers.cell_opcua import CellServer
from simulators.servers.command import run_until_signalled


def declare(parser: argparse.ArgumentParser, _command: str) -> None:
    """Its options."""
    options.add_host(parser)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--modbus-port", type=int, help="open a second door to some of them; 0 takes a free one")
    parser.add_argument("--scan-ms", type=int, default=10, help="between two scans of every machine")
    parser.add_argument("--work-ms", type=int, default=0, help="from what a machine heard until it has done it")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="WAY:FAULT",
        help="deaf, late=2000 (ms), error=5, clamp=speed/110, ignore=speed_set, refuse=oven_set; as packml:deaf",
    )  # fmt: skip
    parser.add_argument(
        "--stale", action="append", default=[], choices=WAYS, help="begin with what a crash of either side leaves up"
    )
    parser.add_argument("--ask-s", type=float, default=0.0, help="machine_pull asks again after so long; 0 is never")


def run(args: argparse.Namespace) -> int:
    """Take parameters until SIGTERM or SIGINT."""
    if args.scan_ms < 1:
        raise UsageError(f"--scan-ms {args.scan_ms} is no time between two scans; write 1 or more")
    machines = _machines(args)
    server = CellServer(machines, options.host(args), args.port, args.scan_ms / 1000)
    door = None if args.modbus_port is None else CellModbus(machines, options.host(args), args.modbus_port)
    asyncio.run(run_until_signalled(_serve(server, door, args.ask_s)))
    return 0


def _machines(args: argparse.Namespace) -> dict[str, Machine]:
    faults: dict[str, list[Faults]] = {way: [] for way in WAYS}
    for text in args.fault:
        try:
            way, fault = parse(text)
        except FaultError as error:
            raise UsageError(str(error)) from error
        if way not in faults:
            raise UsageError(f"--fault {text}: there is no machine {way!r}; there are {', '.join(WAYS)}")
        faults[way].append(fault)
    machines = {way: Machine(way, joined(faults[way]), args.work_ms) for way in WAYS}
    for machine in machines.values():
        _check_names(machine)
    for way in args.stale:
        machines[way].leave_stale()
    return machines


def _check_names(machine: Machine) -> None:
    """A fault of a tag that there is not would be one that never happens."""
    faults = machine.faults
    if strange := (faults.ignored | faults.refused) - machine.writable:
        raise UsageError(
            f"--fault {machine.name}: nobody writes {', '.join(sorted(strange))}; "
            f"clients write {', '.join(sorted(machine.writable))}"
        )
    if unknown := [name for name in faults.ceilings if name not in PARAMETERS]:
        raise UsageError(f"--fault {machine.name}: no parameter {unknown[0]!r}; there are {', '.join(PARAMETERS)}")


async def _serve(server: CellServer, door: CellModbus | None, ask_s: float) -> None:
    async with AsyncExitStack() as opened:
        ready = {"CELL": (await opened.enter_async_context(server)).url}
        if door is not None:
            ready["MODBUS"] = (await opened.enter_async_context(door)).url
        print(json.dumps({"ready": ready}), flush=True)  # noqa: T201 - its answer
        while True:
            await asyncio.sleep(ask_s or 3600)
            if ask_s:
                server.machines["machine_pull"].ask()
