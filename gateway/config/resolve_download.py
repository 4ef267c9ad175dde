"""The section `download` of an equipment, as the domain takes it."""

from typing import Protocol

from gateway.config.download_models import DownloadSection, HandshakeSection, ParameterSection
from gateway.config.models import EquipmentSection, TagSection
from gateway.config.resolve_tags import NUMBERS
from gateway.config.yaml_reader import KeyPath
from gateway.domain.conversion import Conversion
from gateway.domain.download_spec import Condition, DownloadSpec, MethodCommit, ParameterSpec, SequenceNumber
from gateway.domain.expressions import Compiled
from gateway.domain.values import INTEGER_RANGES, DataType, MethodCall


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

    def tag_id(self, name: str) -> str:
        """How the domain names it."""
        ...

    def conversion(self, name: str) -> Conversion:
        """How its raw values become engineering values."""
        ...

    def report(self, keys: KeyPath, message: str) -> None:
        """A problem, with the place that it has in the equipment's section."""
        ...


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
        return DownloadSpec(
            device=self._device,
            parameters=self._parameters(section),
            conditions=tuple(conditions),
            permit=names.expression(section.permit, "download", "permit") if section.permit is not None else None,
            permit_timeout=_milliseconds(section.permit_timeout),
            handshake=self._handshake(section.handshake) if section.handshake is not None else None,
            commit=self._commit(section) if section.commit is not None else None,
        )

    def _commit(self, section: DownloadSection) -> MethodCommit:
        assert section.commit is not None
        if section.handshake is not None:
            text = "the machine takes parameters by a handshake or by a method; keep one"
            self._names.report(("download", "commit"), text)
        call = MethodCall(section.commit.object, section.commit.method)
        return MethodCommit(call, section.commit.result)

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
                parameter_class=parameter.parameter_class, unit=tag.unit if tag is not None else None,
            )  # fmt: skip
        return parameters

    def _limits(self, parameter: ParameterSection, tag: TagSection | None, keys: KeyPath) -> tuple[float, float]:
        """The machine's limits of a parameter, and whether its tag can be one at all."""
        if tag is not None and tag.bit is not None:
            self._names.report((*keys, "tag"), f"{parameter.tag} is {_ONE_BIT}")
        if tag is not None and tag.type is DataType.BOOL:
            for key in sorted({"min", "max"} & parameter.model_fields_set):
                self._names.report((*keys, key), f"{parameter.tag} is a bool and has no limits; take {key} out")
            return 0.0, 1.0
        if tag is not None and tag.type not in NUMBERS:
            self._names.report((*keys, "tag"), f"{parameter.tag} is a {tag.type}; parameters are numbers or bool")
        for key in ("min", "max"):
            if getattr(parameter, key) is None:
                self._names.report(keys, f"the key {key!r} is missing: nothing is written without limits")
        minimum, maximum = parameter.min or 0.0, parameter.max or 0.0
        if None not in (parameter.min, parameter.max) and minimum > maximum:
            self._names.report((*keys, "min"), f"min {minimum:g} is above max {maximum:g}")
        return minimum, maximum

    def _handshake(self, section: HandshakeSection) -> SequenceNumber:
        for key in ("command", "acknowledged", "status", "error"):
            self._names.device_slot(getattr(section, key), "download", "handshake", key)
        tag = self._names.tag_section(section.command)
        highest = INTEGER_RANGES.get(tag.type, (0, 0))[1] if tag is not None else 1
        if highest == 0:
            self._names.report(("download", "handshake", "command"), f"{section.command} is not an integer tag")
        return SequenceNumber(
            command=self._names.tag_id(section.command), acknowledged=self._names.tag_id(section.acknowledged),
            status=self._names.tag_id(section.status), error=self._names.tag_id(section.error), highest=highest,
            done=section.done, rejected=section.rejected, poll=_milliseconds(section.poll),
            acknowledge_timeout=_milliseconds(section.acknowledge_timeout),
            done_timeout=_milliseconds(section.done_timeout),
        )  # fmt: skip


_ONE_BIT = (
    "one bit of a word, which cannot be written without the others; give it a bool of its own, or on Modbus write "
    "bits: instead of bit:, with type: bool"
)
