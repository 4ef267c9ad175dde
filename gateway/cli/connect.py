"""`gateway check --connect`: every configured tag held against the device that it is supposed to be in."""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

import typer

from gateway.cli.browse_output import access, type_text
from gateway.cli.chosen_tags import ChosenDevice, choose_tags
from gateway.cli.table import print_table
from gateway.cli.values_shown import shorten, show_status, show_value
from gateway.config.plant import Plant
from gateway.domain.values import TagId, is_bad
from gateway.drivers.base import LinkLost, NodeFacts
from gateway.runtime.clock import SystemClock

_COLUMNS: Final = ("tag", "type", "access", "value", "finding")
_ABSENT: Final = frozenset({"BadNodeIdUnknown", "BadNodeIdInvalid"})
"""What a device says of a place that it has not got; Modbus's illegal data address is told by the first."""


class Finding(NamedTuple):
    """One tag's row; `problem` is empty where all is as configured."""

    tag_id: TagId
    type: str
    access: str
    value: str
    problem: str


def check_devices(plant: Plant) -> int:
    """Print the table; 0 if every tag is there as configured, else 1. Devices are asked all at once."""
    devices = choose_tags(plant, [])
    written = tags_written(plant)
    groups = asyncio.run(_check_all(devices, written))
    findings = [finding for group in groups for finding in group]
    wrong = [bool(finding.problem) for finding in findings]
    print_table(_COLUMNS, [(*finding[:4], finding.problem or "ok") for finding in findings], wrong)
    typer.echo(f"{len(findings) - sum(wrong)} of {len(findings)} tags are as configured", err=True)
    return 1 if any(wrong) else 0


def tags_written(plant: Plant) -> frozenset[TagId]:
    """The tags that the configuration lets the gateway write: parameters, the command word of their handshake, hold."""
    return frozenset(tag_id for device in plant.devices.values() for tag_id in device.allowed.tags)


async def _check_all(devices: Sequence[ChosenDevice], written: frozenset[TagId]) -> list[list[Finding]]:
    return await asyncio.gather(*(_check(device, written) for device in devices))


async def _check(device: ChosenDevice, written: frozenset[TagId]) -> list[Finding]:
    """One device; out of reach, each of its tags says why, and no other device's does."""
    try:
        async with device.driver(SystemClock()) as driver:
            inspected = await driver.inspect(device.tag_ids)
    except LinkLost as lost:
        return [Finding(tag_id, "", "", "", f"{device.device.name} is out of reach: {lost}") for tag_id in device.tags]
    return [
        judge(device, tag_id, facts, must_write=tag_id in written)
        for tag_id, facts in zip(device.tag_ids, inspected, strict=True)
    ]


def _unnamed_codes(device: ChosenDevice, tag_id: TagId, facts: NodeFacts) -> str:
    """Codes that the tag would show as mere numbers; how the others are worded is the plant's own affair."""
    conversion = device.specs[tag_id].conversion
    if conversion is None or not conversion.labels:
        return ""
    return ", ".join(f"{code} ({text})" for code, text in facts.labels.items() if code not in conversion.labels)


def judge(device: ChosenDevice, tag_id: TagId, facts: NodeFacts, *, must_write: bool) -> Finding:
    """What the device says of one tag, and every way in which the configuration does not fit it."""
    configured = device.tags[tag_id].type
    value, status_code = device.engineering(tag_id, facts.change)
    status = show_status(status_code)
    if status in _ABSENT:
        return Finding(tag_id, "", "", "", f"does not exist in the device ({status}); correct its address")
    if facts.problem:
        return Finding(tag_id, "", access(facts), "", facts.problem)
    problems = []
    if facts.type_name and facts.type is not configured:
        remedy = f"; write type: {facts.type}" if facts.type else ", which no tag can hold"
        problems.append(f"is {type_text(facts)} in the device{remedy}")
    if unnamed := _unnamed_codes(device, tag_id, facts):
        problems.append(f"has codes in the device that enum does not name: {unnamed}")
    if facts.readable is False:
        problems.append("cannot be read by this user")
    if must_write and facts.writable is False:
        problems.append("cannot be written, but the configuration lets the gateway write it")
    if is_bad(status_code):
        problems.append(f"has no value now: {status}")
    shown_type = type_text(facts) if facts.type_name else str(configured)
    return Finding(tag_id, shown_type, access(facts), shorten(show_value(value, configured)), "; ".join(problems))
