"""`gateway check --connect`, the way up: every broker of the plant, and what the gateway may do there."""

import asyncio
import time
from typing import Final

import typer

from gateway.cli.table import print_table
from gateway.config.plant import Plant
from gateway.runtime.broker_inspection import inspect_brokers

_COLUMNS: Final = ("broker", "about", "found", "finding")


def check_brokers(plant: Plant) -> int:
    """Print the table; 0 if the gateway can do its work at every broker, else 1."""
    groups = asyncio.run(inspect_brokers(plant, round(time.time() * 1000)))
    findings = [finding for group in groups for finding in group]
    rows = [(one.broker, one.about, one.found, one.problem or "ok") for one in findings]
    print_table(_COLUMNS, rows, [one.is_wrong for one in findings])
    right = sum(not any(finding.is_wrong for finding in group) for group in groups)
    typer.echo(f"{right} of {len(groups)} brokers take what the gateway publishes", err=True)
    return 0 if right == len(groups) else 1
