"""The gateway's command line as its own process, so that its exit code and both its outputs are the real ones."""

import asyncio
import sys
from typing import NamedTuple


class Done(NamedTuple):
    """How a command ended and what it said."""

    code: int | None
    out: str
    err: str


async def gateway(*arguments: str) -> Done:
    """Run one command to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return Done(process.returncode, out.decode(), err.decode())
