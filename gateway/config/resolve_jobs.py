"""The section `job_control` of an equipment, as the domain takes it, and the tags that it brings along."""

from typing import Any, Final

from gateway.config.job_models import JobControlSection, JobParameterSection
from gateway.config.resolve_handshake import Names
from gateway.config.resolve_tags import NUMBERS
from gateway.domain.contract.job_states import CAPACITY, JOB_ORDER_LIST, NAMESPACE
from gateway.domain.tags.conversion import Conversion
from gateway.domain.values import DataType
from gateway.domain.writing.download_spec import Condition, DownloadSpec, ParameterSpec
from gateway.domain.writing.handshake import Handshake
from gateway.domain.writing.job_spec import EquipmentUse, JobSpec, MaterialSpec
from gateway.domain.writing.profiles import PROFILES

LIST_TAG: Final = "job_list"
CAPACITY_TAG: Final = "job_capacity"


def job_tags(section: JobControlSection | None) -> dict[str, dict[str, Any]]:
    """The two tags of a receiver, as the YAML would have them: its list as a whole, and how many orders it takes."""
    if section is None:
        return {}
    place = {"node": section.object} | ({"device": section.device} if section.device is not None else {})
    return {
        LIST_TAG: place | {"component": f"nsu={NAMESPACE};{JOB_ORDER_LIST}", "field": "*", "type": "string"},
        CAPACITY_TAG: place | {"component": f"nsu={NAMESPACE};{CAPACITY}", "type": "uint16"},
    }


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


class JobResolver:
    """The allow-list of parameters and methods, what must hold, and how an order is made up."""

    def __init__(self, section: JobControlSection, device: str, operation: str | None, names: Names) -> None:
        self._section = section
        self._device = section.device or device
        self._operation = operation
        self._names = names

    def resolve(self) -> DownloadSpec:
        """The section as the domain takes it; what is wrong was reported."""
        section, names = self._section, self._names
        conditions = [
            Condition(name, compiled)
            for name, text in section.conditions.items()
            if (compiled := names.expression(text, "job_control", "conditions", name)) is not None
        ]
        permit = names.expression(section.permit, "job_control", "permit") if section.permit is not None else None
        return DownloadSpec(
            device=self._device, parameters=self._parameters(), handshake=Handshake(PROFILES["none"], {}),
            readback_device=self._device, conditions=tuple(conditions), permit=permit,
            permit_timeout=_milliseconds(section.permit_timeout),
            contact_timeout=_milliseconds(section.contact_timeout),
            job=self._job(),
        )  # fmt: skip

    def _job(self) -> JobSpec:
        section, order = self._section, self._section.job_order
        return JobSpec(
            object=section.object, list_tag=self._names.tag_id(LIST_TAG),
            list_slot=self._names.device_slot(LIST_TAG, "job_control"), capacity_tag=self._names.tag_id(CAPACITY_TAG),
            start=section.start, return_code=section.return_code, actions=frozenset(section.actions),
            id=order.id, description=order.description, work_master=order.work_master,
            priority=order.priority if isinstance(order.priority, int) else None,
            is_dispatched=frozenset(
                name for name, source in (("Priority", order.priority), ("StartTime", order.start_time))
                if source == "dispatch"
            ),
            materials=tuple(MaterialSpec(m.definition, m.lot, m.use, m.quantity, m.unit) for m in order.materials),
            equipment=tuple(EquipmentUse(one.id, one.use) for one in order.equipment),
            operation=self._operation, confirm_timeout=_milliseconds(section.confirm_timeout),
            poll=_milliseconds(section.poll),
        )  # fmt: skip

    def _parameters(self) -> dict[str, ParameterSpec]:
        given: dict[str, str] = {}
        parameters = {}
        for name, parameter in self._section.parameters.items():
            job_id = parameter.id or name
            if job_id in given:
                text = f"{job_id} is the id of {given[job_id]} already; each JobOrderParameter is given once"
                self._names.report(("job_control", "parameters", name), text)
            given[job_id] = name
            minimum, maximum = self._limits(name, parameter)
            parameters[name] = ParameterSpec(
                name=name, tag_id=job_id, readback=job_id, conversion=Conversion(parameter.type), minimum=minimum,
                maximum=maximum, parameter_class=parameter.parameter_class, unit=parameter.unit,
            )  # fmt: skip
        return parameters

    def _limits(self, name: str, parameter: JobParameterSection) -> tuple[float, float]:
        """A number needs its limits, a bool has none, and nothing else is sent."""
        keys = ("job_control", "parameters", name)
        if parameter.type is DataType.BOOL:
            for key in sorted({"min", "max"} & parameter.model_fields_set):
                self._names.report((*keys, key), f"{name} is a bool and has no limits; take {key} out")
            return 0.0, 1.0
        if parameter.type not in NUMBERS:
            self._names.report((*keys, "type"), f"{name} is a {parameter.type}; parameters are numbers or bool")
            return 0.0, 0.0
        for key in ("min", "max"):
            if getattr(parameter, key) is None:
                self._names.report(keys, f"the key {key!r} is missing: nothing is sent without limits")
        minimum, maximum = parameter.min or 0.0, parameter.max or 0.0
        if None not in (parameter.min, parameter.max) and minimum > maximum:
            self._names.report((*keys, "min"), f"min {minimum:g} is above max {maximum:g}")
        return minimum, maximum
