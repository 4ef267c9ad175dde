"""`gateway browse`: what an OPC UA server has, to look at and to make tags of."""

import asyncio
import sys
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from gateway.cli.browse_output import CsvFile, Lines, Output, Tree, YamlTags
from gateway.cli.usage import UsageError, exit_code
from gateway.config.load import load_plant
from gateway.drivers.base import BrowsedNode, BrowsingDriver, LinkLost
from gateway.drivers.opcua.node_ids import parse_node
from gateway.drivers.registry import DRIVERS
from gateway.runtime.clock import SystemClock


class Wish(NamedTuple):
    """What shall be browsed, and what made of it."""

    url: str | None
    device: str | None
    config: Path
    start: str | None
    pattern: str | None
    csv: Path | None
    yaml: Path | None
    security: str | None


def browse_server(wish: Wish) -> int:
    """0; 1 if the server is out of reach, 2 if what was asked for is impossible."""
    return exit_code("browse", lambda: _browse_into_outputs(wish))


def _browse_into_outputs(wish: Wish) -> int:
    name, driver = _driver(wish)
    if wish.start is not None:
        _check_node(wish.start)
    with ExitStack() as opened:
        outputs = [opened.enter_context(output) for output in _outputs(wish, name)]
        return asyncio.run(_browse(driver, wish, outputs))


def _check_node(text: str) -> None:
    try:
        parse_node(text)
    except ValueError as error:
        raise UsageError(f"--from: {error}") from error


def _driver(wish: Wish) -> tuple[str, BrowsingDriver]:
    if (wish.url is None) == (wish.device is None):
        raise UsageError("give either an address (opc.tcp://<host>:<port>) or --device NAME with -c, and not both")
    name, driver, settings = _named(wish.config, wish.device) if wish.device else _addressed(wish)
    entry = DRIVERS[driver]
    if not hasattr(entry.driver, "browse"):
        raise UsageError(f"{name} is a {driver} device; that protocol cannot be browsed, OPC UA can")
    return name, cast(BrowsingDriver, entry.driver(name, settings, [], SystemClock()))


def _named(config: Path, device: str) -> tuple[str, str, Any]:
    devices = load_plant(config).devices
    if device not in devices:
        raise UsageError(f"the device {device!r} is not configured; the devices are: {', '.join(sorted(devices))}")
    return device, devices[device].driver, devices[device].settings


def _addressed(wish: Wish) -> tuple[str, str, Any]:
    given = {"url": wish.url} | ({"security": wish.security} if wish.security else {})
    try:
        return str(wish.url), "opcua", DRIVERS["opcua"].settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        hint = "; give it with --security" if where == "security" else ""
        raise UsageError(f"{where}: {first['msg'].removeprefix('Value error, ')}{hint}") from error


def _outputs(wish: Wish, name: str) -> list[Output]:
    outputs: list[Output] = []
    if wish.csv is not None:
        outputs.append(CsvFile(wish.csv))
    if wish.yaml is not None:
        outputs.append(YamlTags(wish.yaml, name))
    return outputs or [Tree() if sys.stdout.isatty() else Lines()]


async def _browse(driver: BrowsingDriver, wish: Wish, outputs: list[Output]) -> int:
    found = matched = 0
    out = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        bar = progress.add_task("browsing", total=None)
        try:
            async with driver:
                async for nodes in driver.browse(wish.start):
                    chosen = [node for node in nodes if _matches(node, wish.pattern)]
                    for output in outputs:
                        output.take(chosen)
                    found, matched = found + len(nodes), matched + len(chosen)
                    _advance(progress, bar, found, matched)
        except LinkLost as lost:
            out.print(f"[red]browse[/]: {lost}; {found} nodes came before", markup=True)
            return 1
    files = " and ".join(str(path) for path in (wish.csv, wish.yaml) if path is not None)
    out.print(f"{found} nodes browsed, {matched} taken{f' into {files}' if files else ''}")
    return 0


def _advance(progress: Progress, bar: TaskID, found: int, matched: int) -> None:
    """How many there will be nobody knows before the last: the bar moves, and the count is true."""
    progress.update(bar, completed=found, description=f"browsing, {matched} taken")


def _matches(node: BrowsedNode, pattern: str | None) -> bool:
    """By path or address, whatever the case. A filter takes variables only; their folders show by their names."""
    if pattern is None:
        return True
    wanted = pattern.lower()
    return node.facts is not None and (
        fnmatchcase("/".join(node.path).lower(), wanted) or fnmatchcase(node.address.lower(), wanted)
    )
