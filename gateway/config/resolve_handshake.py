"""The key `handshake` of a download, held against the table of its profile."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from pydantic import ValidationError

from gateway.config.download_models import HandshakeSection, MethodSection
from gateway.config.models import TagSection
from gateway.config.validation import unknown_key
from gateway.config.yaml_reader import KeyPath
from gateway.domain.tags.conversion import Conversion
from gateway.domain.tags.expressions import Compiled
from gateway.domain.times import parse_duration
from gateway.domain.values import INTEGER_RANGES, Argument, DataType, MethodCall, PlainValue
from gateway.domain.writing.download_spec import ParameterSpec
from gateway.domain.writing.handshake import BufferLayout, Handshake, Kind, MethodCommit
from gateway.domain.writing.profiles import PROFILES
from gateway.domain.writing.recipe_buffer import CHECKSUMS, FORMATS, ORDERS

LAYOUT: Final[dict[str, tuple[str, ...]]] = {"algorithm": tuple(CHECKSUMS), "byte_order": tuple(ORDERS)}
"""The keys of a profile with a checksum, and what they may be; the first is the default."""


class Names(Protocol):
    """What the names of an equipment's tags stand for; `keys` say where in the YAML a name is used."""

    def device_slot(self, name: str, *keys: str | int) -> int:
        """The slot of a tag of a device; -1 after reporting that there is none."""
        ...

    def expression(self, text: str, *keys: str | int) -> Compiled | None:
        """The condition, compiled; None after reporting what is wrong with it."""
        ...

    def tag_section(self, name: str) -> TagSection | None:
        """What is said of a tag; None if there is no such tag, or a wrong one."""
        ...

    def device_of(self, name: str) -> str | None:
        """The device that has the tag; None where there is no such tag, or a wrong one."""
        ...

    def tag_id(self, name: str) -> str:
        """How the domain names it."""
        ...

    def conversion(self, name: str) -> Conversion:
        """How its raw values become engineering values."""
        ...

    def report(self, keys: KeyPath, message: str) -> None:
        """A problem, with the place that it has in the equipment's section."""
        ...


class HandshakeResolver:
    """Finds the tags and numbers of one profile, and reports by its place what does not go together."""

    def __init__(self, section: HandshakeSection, parameters: Sequence[ParameterSpec], names: Names) -> None:
        self._type = section.type
        self._profile = PROFILES[section.type]
        self._given: Mapping[str, Any] = section.model_extra or {}
        self._parameters = parameters
        self._names = names

    def resolve(self) -> Handshake:
        """The handshake as the domain takes it; what is wrong was reported."""
        if self._profile.calls:
            return self._method()
        self._check_readback()
        layout = self._layout() if "checksum" in self._profile.signals else None
        tags = self._tags()
        self._check_keys([*LAYOUT] if layout is not None else [])
        return Handshake(
            self._profile, tags, self._settings(), self._times(), highest=self._highest(), bits=self._bits(),
            layout=layout,
        )  # fmt: skip

    def _tags(self) -> dict[str, str]:
        tags = {}
        for name, signal in self._profile.signals.items():
            given = self._given.get(name)
            if isinstance(given, str):
                self._names.device_slot(given, "download", "handshake", name)
                self._check_kind(name, signal.kind, self._names.tag_section(given))
                tags[name] = self._names.tag_id(given)
            elif given is not None:
                self._report(name, f"{given!r} is not the name of a tag")
            elif not signal.is_optional:
                self._missing(name, "the tag for it")
        return tags

    def _check_kind(self, name: str, kind: Kind, tag: TagSection | None) -> None:
        fits = {
            Kind.BOOL: lambda section: section.type is DataType.BOOL or section.bit is not None,
            Kind.INTEGER: lambda section: section.type in INTEGER_RANGES and section.bit is None,
            Kind.ANY: lambda section: section.type is DataType.BOOL or section.type in INTEGER_RANGES,
        }
        if tag is not None and not fits[kind](tag):
            self._report(name, f"{self._given[name]} is not {kind}")
        elif tag is not None and tag.bit is not None and self._profile.signals[name].is_ours:
            self._report(name, f"{self._given[name]} is one bit of a word, which cannot be written alone")

    def _bits(self) -> dict[str, int]:
        """The signals that are one bit of a word; the driver gives the word."""
        sections = {name: self._names.tag_section(str(self._given.get(name))) for name in self._profile.signals}
        return {name: tag.bit for name, tag in sections.items() if tag is not None and tag.bit is not None}

    def _check_readback(self) -> None:
        for parameter in self._parameters if self._profile.needs_readback else ():
            if not parameter.is_echoed:
                text = f"{self._type} alone does not tell that a value was taken; name the tag that shows it: readback"
                self._names.report(("download", "parameters", parameter.name), text)

    def _settings(self) -> dict[str, PlainValue]:
        settings: dict[str, PlainValue] = {}
        for key, default in self._profile.settings.items():
            value = self._given.get(key, default)
            if value is None:
                self._missing(key, "a number")
            elif not isinstance(value, int):
                self._report(key, f"{value!r} is not a whole number")
            settings[key] = value
        if "rejected" in settings and settings["done"] == settings["rejected"]:
            self._report("done", f"{settings['done']} is also what rejected means; they must differ")
        return settings

    def _times(self) -> dict[str, int]:
        times = dict(self._profile.times)
        for key in times.keys() & self._given.keys():
            try:
                times[key] = round(parse_duration(self._given[key]) * 1000)
            except ValueError as error:
                self._report(key, str(error))
        if times.get("poll") == 0:
            self._report("poll", "must be longer than nothing")
        return times

    def _highest(self) -> int:
        """The last command number, by the type of its tag."""
        given = self._given.get("command")
        tag = self._names.tag_section(given) if isinstance(given, str) else None
        return INTEGER_RANGES.get(tag.type, (0, 0))[1] if tag is not None else 0

    def _layout(self) -> BufferLayout:
        chosen = {key: self._given.get(key, known[0]) for key, known in LAYOUT.items()}
        for key, known in LAYOUT.items():
            if chosen[key] not in known:
                self._report(key, f"{chosen[key]!r} is unknown; it is one of {', '.join(known)}")
        for parameter in self._parameters:
            if parameter.conversion.type not in FORMATS:
                self._report("checksum", f"{parameter.name} is a {parameter.conversion.type}, which has no fixed place")
        return BufferLayout(chosen["algorithm"], chosen["byte_order"])

    def _method(self) -> Handshake:
        try:
            section = MethodSection.model_validate({"type": self._type, **self._given})
        except ValidationError as invalid:
            for error in invalid.errors():
                key = str(error["loc"][0])
                known = [name for name in MethodSection.model_fields if name != "type"]
                texts = {"missing": f"the key {key!r} is missing", "extra_forbidden": unknown_key(key, known)}
                place = ("download", "handshake", *(() if error["type"] == "missing" else error["loc"]))
                self._names.report(place, texts.get(error["type"], error["msg"].removeprefix("Value error, ")))
            return Handshake(self._profile, {})
        arguments = tuple(Argument(argument.type, argument.value) for argument in section.arguments)
        method = MethodCommit(MethodCall(section.object, section.method, arguments), section.result)
        times = {"poll": round(section.poll * 1000), "readback_timeout": round(section.readback_timeout * 1000)}
        return Handshake(self._profile, {}, times=times, method=method)

    def _check_keys(self, more: Sequence[str]) -> None:
        known = [*self._profile.signals, *self._profile.settings, *self._profile.times, *more]
        for key in self._given:
            if key not in known:
                self._report(key, unknown_key(key, known))

    def _missing(self, key: str, what: str) -> None:
        self._names.report(("download", "handshake"), f"the key {key!r} is missing; {self._type} needs {what}")

    def _report(self, key: str, text: str) -> None:
        self._names.report(("download", "handshake", key), text)
