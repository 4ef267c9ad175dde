"""The section `download` of an equipment, as the domain takes it."""

from collections.abc import Sequence

from gateway.config.download_models import DownloadSection, ParameterSection, parse_allowance
from gateway.config.models import EquipmentSection, TagSection
from gateway.config.resolve_handshake import HandshakeResolver, Names
from gateway.config.resolve_tags import NUMBERS
from gateway.config.yaml_reader import KeyPath
from gateway.domain.tags.conversion import Conversion
from gateway.domain.tags.expressions import Compiled
from gateway.domain.values import DataType
from gateway.domain.writing.download_spec import Condition, DownloadSpec, ParameterSpec
from gateway.domain.writing.handshake import Handshake
from gateway.domain.writing.profiles import PROFILES


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


class DownloadResolver:
    """The write allow-list, what must hold, and the handshake."""

    def __init__(self, equipment: EquipmentSection, names: Names) -> None:
        assert equipment.download is not None
        self._section: DownloadSection = equipment.download
        self._device = equipment.device
        self._names = names

    def resolve(self) -> DownloadSpec:
        """The section as the domain takes it; what is wrong was reported."""
        section, names = self._section, self._names
        conditions = [
            Condition(name, compiled)
            for name, text in section.conditions.items()
            if (compiled := names.expression(text, "download", "conditions", name)) is not None
        ]
        parameters = self._parameters(section)
        handshake = HandshakeResolver(section.handshake, [*parameters.values()], names).resolve()
        self._check_uses()
        return DownloadSpec(
            device=self._one_device("tag", self._written()),
            parameters=parameters,
            handshake=handshake,
            readback_device=self._one_device("readback", [p.readback or p.tag for p in section.parameters.values()]),
            conditions=tuple(conditions),
            permit=self._permit(handshake),
            permit_timeout=_milliseconds(section.permit_timeout),
            contact_timeout=_milliseconds(section.contact_timeout),
            released_only=section.released_only,
            order_slot=names.device_slot(section.order_tag, "download", "order_tag") if section.order_tag else None,
            format_slot=names.device_slot(section.format.tag, "download", "format", "tag") if section.format else None,
            formats=section.format.sets if section.format else {},
        )

    def _permit(self, handshake: Handshake) -> Compiled | None:
        """The operator's consent; a machine that asks by itself gives its own by asking."""
        texts = [f"({self._section.permit})"] if self._section.permit is not None else []
        asks = handshake.profile.asks
        if asks is not None and asks in handshake.tags:
            texts.append(str((self._section.handshake.model_extra or {})[asks]))
        return self._names.expression(" and ".join(texts), "download", "permit") if texts else None

    def _written(self) -> list[str]:
        """The tags that are written, and those of the handshake."""
        profile, given = PROFILES[self._section.handshake.type], self._section.handshake.model_extra or {}
        signals = [str(given[name]) for name in profile.signals if name in given]
        return [*(parameter.tag for parameter in self._section.parameters.values()), *signals]

    def _check_uses(self) -> None:
        """A tag that is written has one meaning: that of one parameter, or of one signal."""
        given = self._section.handshake.model_extra or {}
        uses = [(parameter.tag, f"parameters > {name}") for name, parameter in self._section.parameters.items()]
        signals = PROFILES[self._section.handshake.type].signals
        uses += [(str(given[name]), f"handshake > {name}") for name, signal in signals.items() if name in given]
        written = {tag: use for tag, use in uses if use.startswith("par") or signals[use.rsplit(" ", 1)[1]].is_ours}
        for tag, use in uses:
            if tag in written and written[tag] != use:
                self._names.report(("download",), f"{tag} is used twice: for {written[tag]} and for {use}")

    def _one_device(self, key: str, names: Sequence[str]) -> str:
        """The device of these tags. All are on one, for one conversation carries a download."""
        devices = {device: name for name in reversed(names) if (device := self._names.device_of(name)) is not None}
        if len(devices) > 1:
            places = " and ".join(f"{name} is on {device}" for device, name in devices.items())
            self._names.report(("download",), f"what a download {_DOES[key]} must be on one device: {places}")
        return next(reversed(devices), self._device)

    def _parameters(self, section: DownloadSection) -> dict[str, ParameterSpec]:
        parameters = {}
        for name, parameter in section.parameters.items():
            keys = ("download", "parameters", name)
            self._names.device_slot(parameter.tag, *keys, "tag")
            if parameter.readback is not None:
                self._names.device_slot(parameter.readback, *keys, "readback")
            tag = self._names.tag_section(parameter.tag)
            minimum, maximum = self._limits(parameter, tag, keys)
            parameters[name] = ParameterSpec(
                name=name, tag_id=self._names.tag_id(parameter.tag),
                readback=self._names.tag_id(parameter.readback or parameter.tag),
                conversion=self._names.conversion(parameter.tag), minimum=minimum, maximum=maximum,
                step=parameter.step, states=parameter.states, shown=self._shown(parameter),
                rate=parse_allowance(parameter.rate) if parameter.rate is not None else None,
                parameter_class=parameter.parameter_class, unit=tag.unit if tag is not None else None,
            )  # fmt: skip
        return parameters

    def _length(self, parameter: ParameterSection, keys: KeyPath) -> int:
        if parameter.max_length is None:
            self._names.report(keys, "the key 'max_length' is missing: no text is written without its greatest length")
        return parameter.max_length or 0

    def _shown(self, parameter: ParameterSection) -> Conversion | None:
        """The conversion of what is read back, where it is another one."""
        written, shown = (self._names.conversion(name) for name in (parameter.tag, parameter.readback or parameter.tag))
        return None if shown == written else shown

    def _limits(self, parameter: ParameterSection, tag: TagSection | None, keys: KeyPath) -> tuple[float, float]:
        """The machine's limits of a parameter, and whether its tag can be one at all."""
        if tag is not None and tag.bit is not None:
            self._names.report((*keys, "tag"), f"{parameter.tag} is {_ONE_BIT}")
        if tag is not None and tag.type in _UNLIMITED:
            idle = {"min", "max", "step"} if tag.type is DataType.STRING else {"min", "max", "step", "max_length"}
            for key in sorted(idle & parameter.model_fields_set):
                limits = "no limits" if tag.type is DataType.BOOL else "only a max_length"
                self._names.report((*keys, key), f"{parameter.tag} is a {tag.type} and has {limits}; take {key} out")
            return 0.0, float(self._length(parameter, keys)) if tag.type is DataType.STRING else 1.0
        if tag is not None and tag.type not in NUMBERS:
            self._names.report((*keys, "tag"), f"{parameter.tag} is a {tag.type}; parameters are numbers, text or bool")
        if parameter.max_length is not None:
            self._names.report((*keys, "max_length"), f"{parameter.tag} is no text; its limits are min and max")
        for key in ("min", "max"):
            if getattr(parameter, key) is None:
                self._names.report(keys, f"the key {key!r} is missing: nothing is written without limits")
        minimum, maximum = parameter.min or 0.0, parameter.max or 0.0
        if None not in (parameter.min, parameter.max) and minimum > maximum:
            self._names.report((*keys, "min"), f"min {minimum:g} is above max {maximum:g}")
        return minimum, maximum


_ONE_BIT = (
    "one bit of a word, which cannot be written without the others; give it a bool of its own, or on Modbus write "
    "bits: instead of bit:, with type: bool"
)
_UNLIMITED = frozenset({DataType.BOOL, DataType.STRING})
_DOES = {"tag": "writes", "readback": "reads back"}
