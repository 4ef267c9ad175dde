"""`python -m simulators proxy`: a fault proxy that is told by lines what to do, from stdin or a script.

    cut                         reset every connection
    refuse / accept             close the port and open it again
    freeze / thaw               half-open: nothing gets through, and then all of it
    delay 650ms [up|down]       everything later; 0ms ends it
    trickle 1 10ms [up|down]    so many bytes at a time, with that pause; 0 0ms ends it
    corrupt 100 [up|down]       a wrong bit in every hundredth byte; 0 ends it
    clear                       no fault any more
    wait 2s                     before the next line
    status                      only say what went through
    quit                        end

Each line is answered by one JSON line with what was done and the statistics. `up` is towards the target.
"""

import argparse
import asyncio
import dataclasses
import json
import re
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

from simulators import options
from simulators.options import UsageError
from simulators.proxy import BOTH, Direction, FaultProxy

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "min": 60.0}
Step = Callable[[FaultProxy], Awaitable[None]]
"""One line, understood; `quit` is None."""


def declare(parser: argparse.ArgumentParser, _: str) -> None:
    """The options of `proxy`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.add_argument("--listen", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="where to carry it")
    parser.add_argument("--script", type=Path, help="lines to carry out instead of those on stdin")
    options.add_host(parser)


def run(args: argparse.Namespace) -> int:
    """Carry until SIGTERM, SIGINT or `quit`. The end of stdin or script ends nothing."""
    host, _, port = args.to.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"--to {args.to} is no address; write HOST:PORT, as 127.0.0.1:4840")
    script = _read_script(args.script) if args.script is not None else None
    proxy = FaultProxy(int(port), host, listen=args.listen, address=options.host(args))
    try:
        asyncio.run(_run(proxy, script))
    except OSError as error:
        raise UsageError(f"cannot listen on port {args.listen}: {error}; give another --listen, 0 is free") from error
    return 0


def parse_line(line: str) -> Step | None:
    """What a line asks for; None for `quit`. Raises `ValueError` that says what would be right."""
    word, *rest = line.split()
    if word == "quit" and not rest:
        return None
    if word not in _WORDS:
        raise ValueError(f"{line.strip()!r}: no such word; the words are {', '.join([*_WORDS, 'quit'])}")
    usage, parse = _WORDS[word]
    try:
        return parse(rest)
    except (ValueError, IndexError):
        raise ValueError(f"{line.strip()!r}: write {usage}") from None


def _read_script(path: Path) -> list[str]:
    """The lines that say something; all are understood before the first is carried out."""
    try:
        lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--script {path}: cannot be read: {error}") from error
    wrong = []
    for number, line in enumerate(lines, start=1):
        try:
            if line:
                parse_line(line)
        except ValueError as error:
            wrong.append(f"{path}:{number}: {error}")
    if wrong:
        raise UsageError("\n".join(wrong))
    return [line for line in lines if line]


# --- words ------------------------------------------------------------------------------------------------------


def _plain(action: Callable[[FaultProxy], object]) -> Callable[[list[str]], Step]:
    """A word without arguments; its action may be something to wait for."""

    def parse(rest: list[str]) -> Step:
        if rest:
            raise ValueError(rest)

        async def step(proxy: FaultProxy) -> None:
            done = action(proxy)
            if isinstance(done, Awaitable):
                await done

        return step

    return parse


def _delay(rest: list[str]) -> Step:
    seconds, directions = _duration(rest[0]), _directions(rest[1:])
    return _plain(lambda proxy: proxy.delay(seconds, *directions))([])


def _trickle(rest: list[str]) -> Step:
    piece, pause, directions = _count(rest[0]), _duration(rest[1]), _directions(rest[2:])
    return _plain(lambda proxy: proxy.trickle(piece, pause, *directions))([])


def _corrupt(rest: list[str]) -> Step:
    every, directions = _count(rest[0]), _directions(rest[1:])
    return _plain(lambda proxy: proxy.corrupt(every, *directions))([])


def _wait(rest: list[str]) -> Step:
    (text,) = rest
    seconds = _duration(text)
    return _plain(lambda _: asyncio.sleep(seconds))([])


_WORDS: Final[dict[str, tuple[str, Callable[[list[str]], Step]]]] = {
    "cut": ("cut alone", _plain(FaultProxy.cut)),
    "refuse": ("refuse alone", _plain(FaultProxy.refuse)),
    "accept": ("accept alone", _plain(FaultProxy.accept)),
    "freeze": ("freeze alone", _plain(FaultProxy.freeze)),
    "thaw": ("thaw alone", _plain(FaultProxy.thaw)),
    "clear": ("clear alone", _plain(FaultProxy.clear)),
    "status": ("status alone", _plain(lambda _: None)),
    "delay": ("a time and perhaps a direction: delay 650ms [up|down]", _delay),
    "trickle": ("bytes, a pause and perhaps a direction: trickle 1 10ms [up|down]", _trickle),
    "corrupt": ("every how many bytes and perhaps a direction: corrupt 100 [up|down]", _corrupt),
    "wait": ("a time: wait 2s", _wait),
}
"""How each word is used, for people, and what it asks for."""


def _duration(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|min)", text)
    if match is None:
        raise ValueError(text)
    return float(match[1]) * _SECONDS[match[2]]


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def _directions(rest: list[str]) -> list[Direction]:
    chosen = [direction for direction in BOTH if direction in rest]
    if len(chosen) != len(rest):
        raise ValueError(rest)
    return chosen


# --- running ----------------------------------------------------------------------------------------------------


async def _run(proxy: FaultProxy, script: list[str] | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with proxy:
        _say({"ready": {"proxy": f"tcp://127.0.0.1:{proxy.port}"}})
        obeying = asyncio.create_task(_obey(proxy, script, stop))
        await stop.wait()
        obeying.cancel()
        await asyncio.gather(obeying, return_exceptions=True)


async def _obey(proxy: FaultProxy, script: list[str] | None, stop: asyncio.Event) -> None:
    async for line in _each(script) if script is not None else _typed():
        try:
            step = parse_line(line)
        except ValueError as error:
            _say({"error": str(error)})
            continue
        if step is None:
            stop.set()
            return
        await step(proxy)
        _say({"did": line, **dataclasses.asdict(proxy.statistics)})


async def _each(lines: list[str]) -> AsyncIterator[str]:
    for line in lines:
        yield line


async def _typed() -> AsyncIterator[str]:
    """The lines of stdin, which may be a terminal, a pipe or a file: only a thread can wait for all of these."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read(source: Iterator[str]) -> None:
        for line in source:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, args=(sys.stdin,), name="stdin", daemon=True).start()
    while (line := await lines.get()) is not None:
        if line.strip():
            yield line.strip()


def _say(what: dict[str, object]) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201 - the command's answers
