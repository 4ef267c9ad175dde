"""A folder of YAML files to one checked plant, or every error at once."""

import hashlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gateway.config.calendar import CalendarSection, resolve_calendar
from gateway.config.models import DerivedTagSection, EquipmentSection, GatewaySection, TagSection
from gateway.config.plant import Device, Plant
from gateway.config.problems import ConfigError, Place, Problem
from gateway.config.resolve import EquipmentResolver
from gateway.config.resolve_jobs import job_tags
from gateway.config.validation import Reporter, allowed_keys, unknown_key
from gateway.config.yaml_reader import Document, KeyPath, read_yaml
from gateway.domain.commands.allow_list import allow_list
from gateway.domain.equipment import EquipmentSpec
from gateway.domain.production.production_spec import ProductionSpec
from gateway.domain.state.shifts import ShiftCalendar
from gateway.domain.values import MethodCall, TagId
from gateway.drivers.base import DeviceSettings, Tag
from gateway.drivers.registry import DRIVERS, DriverEntry
from gateway.mqtt.settings import MqttSettings

SECTIONS = ("gateway", "mqtt", "calendar", "devices", "equipment")


def load_plant(folder: Path) -> Plant:
    """Read and check every `*.yaml` under `folder`; touches no network. Raises `ConfigError` with all problems."""
    files = sorted(path for path in folder.rglob("*.yaml")) if folder.is_dir() else []
    if not files:
        raise ConfigError([Problem(Place(str(folder), 1), "", "holds no *.yaml file; give a folder with -c")])
    documents = [read_yaml(path, str(path)) for path in files]
    plant = _Loader(documents).load(hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:12])
    assert plant is not None
    return plant


class _Loader:
    def __init__(self, documents: list[Document]) -> None:
        self._documents = documents
        self._reporter = Reporter()
        self._complete = all(document.is_readable for document in documents)
        self._tags: dict[str, list[Tag[Any]]] = {}
        self._devices: dict[str, tuple[DriverEntry, str, DeviceSettings | None]] = {}
        self._device_places: dict[str, Place] = {}
        self._device_documents: dict[str, Document] = {}
        self._tag_places: dict[TagId, tuple[Document, KeyPath]] = {}
        self._equipment_documents: dict[str, Document] = {}

    def load(self, fingerprint: str) -> Plant | None:
        for document in self._documents:
            self._reporter.problems.extend(document.problems)
            self._check_sections(document)
        gateway = self._single("gateway", GatewaySection)
        mqtt = self._single("mqtt", MqttSettings)
        calendar = self._calendar()
        for document, name, raw in self._entries("devices"):
            self._device(document, name, raw)
        units: dict[str, str] = {}
        equipment = [
            self._equipment(document, path, raw, gateway, units) for document, path, raw in self._entries("equipment")
        ]
        self._check_devices()
        self._check_upstream([spec for spec in equipment if spec is not None], units)
        self._check_writes([spec for spec in equipment if spec is not None])
        self._check_written_once([spec for spec in equipment if spec is not None])
        self._check_pauses([spec for spec in equipment if spec is not None])
        if self._reporter.problems:
            raise ConfigError(self._reporter.problems)
        assert gateway is not None
        assert mqtt is not None
        specs = [msgspec.structs.replace(spec, calendar=calendar) for spec in equipment if spec is not None]
        return Plant(
            gateway_id=gateway.id, site=gateway.site, topic_root=gateway.topic_root, store=gateway.store,
            store_limit=gateway.store_limit, keep_published=round(gateway.keep_published * 1000), mqtt=mqtt,
            devices={
                name: Device(
                    name, driver, settings.beside(Path(gateway.store)), self._tags.get(name, []),
                    allow_list(name, specs),
                )
                for name, (_, driver, settings) in self._devices.items() if settings is not None
            },
            equipment=specs,
            fingerprint=fingerprint,
        )  # fmt: skip

    # --- sections -----------------------------------------------------------------------------------------------

    def _check_sections(self, document: Document) -> None:
        if document.data is None:
            return
        if not isinstance(document.data, dict):
            self._reporter.report(document, (), f"is not a mapping; its top level has {', '.join(SECTIONS)}")
            document.data = {}
        for key in document.data:
            if key not in SECTIONS:
                self._reporter.report(document, (key,), unknown_key(key, SECTIONS))

    def _single(self, section: str, model: type[Any]) -> Any:
        found = [document for document in self._documents if section in (document.data or {})]
        if not found and not self._complete:
            return None
        if not found:
            place = Place(str(Path(self._documents[0].file).parent), 1)
            self._reporter.problems.append(Problem(place, section, f"no file has the section {section!r}"))
            return None
        for second in found[1:]:
            first = found[0].place((section,))
            self._reporter.report(second, (section,), f"is already given in {first.file}:{first.line}; keep one")
        return self._reporter.validate(model, found[0].data[section], found[0], (section,))

    def _calendar(self) -> ShiftCalendar | None:
        """The shifts of the plant, where it has any."""
        document = next((document for document in self._documents if "calendar" in (document.data or {})), None)
        section = self._single("calendar", CalendarSection) if document is not None else None
        if document is None or section is None:
            return None
        return resolve_calendar(section, lambda keys, text: self._reporter.report(document, ("calendar", *keys), text))

    def _entries(self, section: str) -> Iterator[tuple[Document, str, Any]]:
        """The named entries of a section over all files; a name given twice is a problem."""
        seen: dict[str, Place] = {}
        for document in self._documents:
            entries = (document.data or {}).get(section)
            if entries is None:
                continue
            if not isinstance(entries, Mapping):
                self._reporter.report(document, (section,), "is not a mapping of names to settings")
                continue
            for name, raw in entries.items():
                place = document.place((section, name))
                if name in seen:
                    text = f"{name!r} is already given in {seen[name].file}:{seen[name].line}; keep one"
                    self._reporter.report(document, (section, name), text)
                    continue
                seen[name] = place
                yield document, name, raw

    # --- devices and tags ---------------------------------------------------------------------------------------

    def _device(self, document: Document, name: str, raw: Any) -> None:
        path: KeyPath = ("devices", name)
        if not isinstance(raw, Mapping) or raw.get("driver") not in DRIVERS:
            given = raw.get("driver") if isinstance(raw, Mapping) else None
            text = f"the driver {given!r} does not exist" if given else "the key 'driver' is missing"
            self._reporter.report(document, (*path, "driver"), f"{text}; the drivers are: {', '.join(sorted(DRIVERS))}")
            return
        entry = DRIVERS[raw["driver"]]
        rest = {key: value for key, value in raw.items() if key != "driver"}
        settings = self._reporter.validate(entry.settings, rest, document, path, also_allowed=["driver"])
        if settings is not None:
            self._check_conflicts(document, name, entry, settings)
        self._devices[name] = (entry, raw["driver"], settings)
        self._device_places[name] = document.place(path)

    def _check_conflicts(self, document: Document, name: str, entry: DriverEntry, settings: DeviceSettings) -> None:
        """Devices that share a connection must agree on it; both places are told."""
        for other, (other_entry, _, other_settings) in self._devices.items():
            if other_entry is not entry or other_settings is None:
                continue
            if problem := entry.conflict(settings, other_settings):
                place = self._device_places[other]
                text = f"does not go together with {other} ({place.file}:{place.line}): {problem}"
                self._reporter.report(document, ("devices", name), text)
        self._device_documents[name] = document

    def _check_devices(self) -> None:
        """What a device says of its tags can be checked only when all of them are known, and right by themselves."""
        if self._reporter.problems:
            return
        for name, (entry, _, settings) in self._devices.items():
            for problem in entry.check_all(settings, self._tags.get(name, [])):
                self._reporter.report(self._device_documents[name], ("devices", name), problem)

    def _check_upstream(self, specs: Sequence[EquipmentSpec], units: Mapping[str, str]) -> None:
        """Whoever gets its orders from another unit or lane must name one, and nobody may follow itself in the end."""
        upstream: dict[str, str | None] = {}
        places: dict[str, tuple[Document, KeyPath]] = {}
        for spec in specs:
            document, keys = self._equipment_documents[spec.path], ("equipment", spec.path)
            parts: list[tuple[str, ProductionSpec, KeyPath]] = [(spec.unit, spec.production, keys)]
            parts += [(f"{spec.unit}.{lane.name}", lane.production, (*keys, "lanes", lane.name)) for lane in spec.lanes]
            for unit, production, where in parts:
                upstream[unit] = production.order.upstream if production.order is not None else None
                places[unit] = document, (*where, "order", "from")
        for unit, followed in upstream.items():
            name, seen = followed, {unit}
            if name is not None and name not in upstream and name not in units:
                text = f"{name} is none of download, tag and command, nor one of the units {', '.join(upstream)}"
                self._reporter.report(*places[unit], text)
            while name is not None and name not in seen:
                seen.add(name)
                name = upstream.get(name)
            if name is not None:
                self._reporter.report(*places[unit], f"goes in a circle: {name} gets its orders from itself in the end")

    def _check_writes(self, specs: Sequence[EquipmentSpec]) -> None:
        """Every tag that the gateway may write, told at its own place."""
        for device, tags in self._tags.items():
            allowed = allow_list(device, specs).tags
            for tag in tags:
                for problem in self._devices[device][0].check_write(tag) if tag.tag_id in allowed else ():
                    self._reporter.report(*self._tag_places[tag.tag_id], problem)
        for spec in specs:
            method = spec.download.handshake.method if spec.download is not None else None
            if spec.download is not None and spec.download.job is not None:
                self._check_job_control(spec.path, spec.download.device, spec.download.job.call("Store", ""))
            if spec.download is not None and method is not None:
                self._check_commit(spec.path, spec.download.device, method.call)

    def _check_written_once(self, specs: Sequence[EquipmentSpec]) -> None:
        """No two tags that may be written lie at one place. What is only read may be shared by everybody."""
        written: dict[Hashable, list[Tag[Any]]] = {}
        for device, tags in self._tags.items():
            allowed, (entry, _, settings) = allow_list(device, specs).tags, self._devices[device]
            for tag in (tag for tag in tags if tag.tag_id in allowed and settings is not None):
                neighbours = written.setdefault(entry.place(settings, tag.address), [])
                first = next((other for other in neighbours if tag.address.overlaps(other.address)), None)
                if first is not None:
                    self._report_written_twice(tag, first)
                neighbours.append(tag)

    def _report_written_twice(self, tag: Tag[Any], first: Tag[Any]) -> None:
        document, keys = self._tag_places[first.tag_id]
        place = document.place(keys)
        text = (
            f"{tag.address.shown} is written for {first.tag_id} too ({place.file}:{place.line}): one undoes what the "
            "other has brought down; correct the address, or let one of them alone write it"
        )
        self._reporter.report(*self._tag_places[tag.tag_id], text)

    def _check_job_control(self, path: str, device: str, call: MethodCall) -> None:
        entry, _, settings = self._devices[device]
        for problem in entry.check_call(settings, call) if settings is not None else ():
            self._reporter.report(self._equipment_documents[path], ("equipment", path, "job_control"), problem)

    def _check_commit(self, path: str, device: str, call: MethodCall) -> None:
        entry, _, settings = self._devices[device]
        for problem in entry.check_call(settings, call) if settings is not None else ():
            keys = ("equipment", path, "download", "handshake")
            self._reporter.report(self._equipment_documents[path], keys, problem)

    def _check_pauses(self, specs: Sequence[EquipmentSpec]) -> None:
        """A device that is asked more rarely than `stale_after` would make its equipment UNKNOWN between two polls."""
        for spec in specs:
            for device in spec.state_tags if spec.state is not None else ():
                entry, _, settings = self._devices[device]
                pause = entry.longest_pause(settings, self._tags[device]) if settings is not None else 0.0
                if spec.state is not None and pause * 1000 >= spec.state.stale_after:
                    text = f"{device} is polled only every {pause:g} s; lengthen stale_after or shorten poll_interval"
                    place = ("equipment", spec.path, "state", "stale_after")
                    self._reporter.report(self._equipment_documents[spec.path], place, text)

    def _equipment(
        self, document: Document, path: str, raw: Any, gateway: GatewaySection | None, units: dict[str, str]
    ) -> EquipmentSpec | None:
        keys: KeyPath = ("equipment", path)
        unit = path.rsplit("/", 1)[-1]
        if gateway is not None and not path.startswith(f"{gateway.site}/"):
            text = f"does not lie in the gateway's site; write {gateway.site}/<area>/<line>/<unit>"
            self._reporter.report(document, keys, text)
        if unit in units:
            text = f"the unit name {unit} is already used by {units[unit]}; unit names are unique in a gateway"
            self._reporter.report(document, keys, text)
        units.setdefault(unit, path)
        self._equipment_documents[path] = document
        section = self._reporter.validate(EquipmentSection, raw, document, keys)
        if section is None:
            self._partial_tags(document, unit, keys, raw)
            return None
        bodies = section.tags | self._job_tags(document, keys, section)
        tags = {
            name: self._tag(document, unit, (*keys, "tags", name), body, section.device)
            for name, body in bodies.items() if "expression" not in body
        }  # fmt: skip
        derived = self._derived_tags(document, keys, section.tags)
        self._check_conditions(document, keys, section)
        return EquipmentResolver(self._reporter, document, keys, section, tags, derived).resolve(path, unit)

    def _job_tags(self, document: Document, keys: KeyPath, section: EquipmentSection) -> dict[str, dict[str, Any]]:
        """The tags that a section `job_control` brings along; its device must know methods and structures."""
        given = job_tags(section.job_control)
        where = (*keys, "job_control")
        for name in given.keys() & section.tags.keys():
            self._reporter.report(document, (*keys, "tags", name), f"{name} is a tag of job_control; take another name")
        if section.job_control is not None:
            entry = self._devices.get(section.job_control.device or section.device)
            settings = entry[2] if entry is not None else None
            if settings is not None and not getattr(settings, "structures", False):
                text = "needs structures: true at its device, an OPC UA server with a job order receiver"
                self._reporter.report(document, where, text)
                return {}
        return given

    def _derived_tags(
        self, document: Document, keys: KeyPath, bodies: Mapping[str, dict[str, Any]]
    ) -> dict[str, DerivedTagSection]:
        """The tags with an expression; one that is wrong is left out after it was reported."""
        sections = {
            name: self._reporter.validate(DerivedTagSection, body, document, (*keys, "tags", name))
            for name, body in bodies.items() if "expression" in body
        }  # fmt: skip
        return {name: section for name, section in sections.items() if section is not None}

    def _check_conditions(self, document: Document, keys: KeyPath, section: EquipmentSection) -> None:
        """Alarms by condition need a device that is asked for conditions."""
        entry = self._devices.get(section.device)
        if section.alarms is None or section.alarms.conditions is None or entry is None or entry[2] is None:
            return
        if not getattr(entry[2], "alarm_conditions", False):
            text = f"needs alarm_conditions: true at the device {section.device}, an OPC UA server with conditions"
            self._reporter.report(document, (*keys, "alarms", "conditions"), text)

    def _partial_tags(self, document: Document, unit: str, keys: KeyPath, raw: Any) -> None:
        """The equipment is wrong elsewhere; its tags are still checked, so that all errors show at once."""
        if not isinstance(raw, Mapping) or not isinstance(raw.get("tags"), Mapping):
            return
        for name, body in raw["tags"].items():
            if isinstance(body, Mapping) and "expression" not in body:
                self._tag(document, unit, (*keys, "tags", name), dict(body), str(raw.get("device")))

    def _tag(
        self, document: Document, unit: str, keys: KeyPath, body: dict[str, Any], equipment_device: str
    ) -> tuple[TagSection, str] | None:
        """One tag, checked by what all tags have and by its driver. Returns it with its device's name."""
        device = str(body.get("device", equipment_device))
        if device not in self._devices:
            if not self._complete:  # it may stand in the file that could not be read
                return None
            known = ", ".join(sorted(self._devices)) or "none"
            where = keys if "device" in body else (*keys[:2], "device")
            self._reporter.report(document, where, f"the device {device!r} is not configured; the devices are: {known}")
            return None
        entry, _, settings = self._devices[device]
        address_keys = allowed_keys(entry.address)
        common = {key: value for key, value in body.items() if key not in address_keys}
        own = {key: value for key, value in body.items() if key in address_keys}
        section = self._reporter.validate(TagSection, common, document, keys, also_allowed=address_keys)
        address = self._reporter.validate(entry.address, own, document, keys)
        if section is None or address is None:
            return None
        if settings is not None:
            address = entry.settle(settings, address)
        tag: Tag[Any] = Tag(f"{unit}.{keys[-1]}", section.type, address)
        if settings is not None:
            for problem in entry.check(settings, tag):
                self._reporter.report(document, keys, problem)
        self._tags.setdefault(device, []).append(tag)
        self._tag_places[tag.tag_id] = document, keys
        return section.model_copy(update={"type": address.value_type(section.type)}), device
