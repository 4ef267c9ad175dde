"""The tags that a command was asked for, by device, and a driver for just these."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from gateway.cli.usage import UsageError
from gateway.config.plant import Device, Plant
from gateway.domain.tags.conversion import to_engineering
from gateway.domain.tags.tag_spec import TagSpec
from gateway.domain.values import TagChange, TagId, Value
from gateway.drivers.base import Clock, Driver, Tag
from gateway.drivers.registry import DRIVERS


@dataclass(frozen=True, slots=True)
class ChosenDevice:
    """One device with the tags that were asked for: as the plant sees them, and as the driver does."""

    device: Device
    specs: dict[TagId, TagSpec]
    tags: dict[TagId, Tag[Any]]

    @property
    def tag_ids(self) -> list[TagId]:
        """In the order of the configuration."""
        return list(self.tags)

    def driver(self, clock: Clock) -> Driver:
        """A driver, unconnected, that knows these tags only."""
        device = self.device
        return DRIVERS[device.driver].driver(device.name, device.settings, list(self.tags.values()), clock)

    def engineering(self, tag_id: TagId, change: TagChange) -> tuple[Value, int]:
        """The value as the plant understands it, and its status code."""
        conversion = self.specs[tag_id].conversion
        return (change.value, change.status_code) if conversion is None else to_engineering(change, conversion)


def choose_tags(plant: Plant, names: Sequence[str]) -> list[ChosenDevice]:
    """The tags with these ids or patterns (`FIL01.*`), all where none is given; devices in the plant's order.

    Raises `UsageError` for a name that no tag has.
    """
    specs = {spec.tag_id: spec for equipment in plant.equipment for spec in equipment.tags}
    wanted = {tag_id for name in names or ["*"] for tag_id in _matching(name, specs)}
    chosen = [
        ChosenDevice(
            device,
            {tag.tag_id: specs[tag.tag_id] for tag in device.tags if tag.tag_id in wanted},
            {tag.tag_id: tag for tag in device.tags if tag.tag_id in wanted},
        )
        for device in plant.devices.values()
    ]
    return [device for device in chosen if device.tags]


def _matching(name: str, known: dict[TagId, TagSpec]) -> list[TagId]:
    found = [tag_id for tag_id in known if fnmatchcase(tag_id, name)]
    if not found:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "a tag is <unit>.<tag>, as FIL01.state, or FIL01.*"
        raise UsageError(f"no tag is named {name!r}; {hint}")
    return found
