"""`python -m simulators job-control`: a machine with a job order receiver (OPC UA for ISA-95), until SIGTERM."""

import argparse
import asyncio
import json

from simulators import options
from simulators.models.job_control import Fault, JobReceiver
from simulators.servers.command import run_until_signalled
from simulators.servers.job_control import JobControlServer


def declare(parser: argparse.ArgumentParser, _command: str) -> None:
    """Its options."""
    options.add_host(parser)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--capacity", type=int, default=4, help="how many orders it takes")
    parser.add_argument("--zero", action="store_true", help="methods return 0 for success, not the standard's bits")
    parser.add_argument("--start-after", type=float, default=1.0, help="seconds until an allowed order runs")
    parser.add_argument("--fault", action="append", default=[], choices=[*Fault], help="what goes wrong with methods")


def run(args: argparse.Namespace) -> int:
    """Take orders until SIGTERM or SIGINT."""
    receiver = JobReceiver(args.capacity, zero_is_success=args.zero, faults={Fault(one) for one in args.fault})
    asyncio.run(run_until_signalled(_serve(receiver, options.host(args), args.port, args.start_after)))
    return 0


async def _serve(receiver: JobReceiver, host: str, port: int, start_after: float) -> None:
    async with JobControlServer(receiver, host, port) as server:
        print(json.dumps({"ready": {"JOBS": f"opc.tcp://{host}:{server.port}"}}), flush=True)  # noqa: T201 - its answer
        while True:
            await asyncio.sleep(start_after)
            if receiver.step():
                await server.show()
