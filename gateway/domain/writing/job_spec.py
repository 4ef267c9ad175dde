"""How an equipment takes job orders, as the YAML says it, and the structure that is made of an order."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from gateway.domain.contract.job_states import EFFECTS, JOB_ORDER_TYPE, NAMESPACE, Action, ReturnCode, method_node
from gateway.domain.production.orders import KnownOrder
from gateway.domain.tags.units import common_code
from gateway.domain.values import Argument, DataType, MethodCall, PlainValue, StructureArgument, TagId

UNITS_NAMESPACE: Final = "http://www.opcfoundation.org/UA/units/un/cefact"
"""Of the UnitId in an EUInformation (OPC 10000-8 §5.6.3)."""

FIELDS: Final = ("order", "op", "set", "rev", "lot", "material", "qty")
"""What a template may name in braces."""
_FIELD: Final = re.compile(r"\{(\w+)\}")


class StartPolicy(StrEnum):
    """Who lets an order start: its download (StoreAndStart), a command, or the gateway once it was read back."""

    ON_DOWNLOAD = "on_download"
    ON_COMMAND = "on_command"
    AUTOMATIC = "automatic"


class MaterialSpec(msgspec.Struct, frozen=True):
    """One entry of MaterialRequirements; the texts are templates, and one that comes out empty is left out."""

    definition: str
    lot: str = ""
    use: str = ""
    quantity: str = ""
    unit: str | None = None


class EquipmentUse(msgspec.Struct, frozen=True):
    """One entry of EquipmentRequirements."""

    id: str
    use: str = ""


class JobSpec(msgspec.Struct, frozen=True):
    """How one machine takes job orders. `parameters` are JobOrderParameter IDs by the names of the allow-list."""

    object: str
    list_tag: TagId
    list_slot: int
    capacity_tag: TagId
    start: StartPolicy = StartPolicy.ON_COMMAND
    return_code: ReturnCode = ReturnCode.BITMAP
    actions: frozenset[Action] = frozenset()
    id: str = "{order}"
    description: str = ""
    work_master: str = "{set}:{rev}"
    priority: int | None = None
    is_dispatched: frozenset[str] = frozenset()
    """Which of `Priority` and `StartTime` are those of the order's dispatch."""
    materials: tuple[MaterialSpec, ...] = ()
    equipment: tuple[EquipmentUse, ...] = ()
    operation: str | None = None
    confirm_timeout: int = 10_000
    poll: int = 500

    @property
    def methods(self) -> frozenset[str]:
        """What may be called: what a download and its undoing need, and the actions of commands."""
        store = "StoreAndStart" if self.start is StartPolicy.ON_DOWNLOAD else "Store"
        names = {store, "Update", "Cancel", "Abort", "Clear", *(EFFECTS[action].method for action in self.actions)}
        if self.start is StartPolicy.AUTOMATIC:
            names.add("Start")
        return frozenset(method_node(name) for name in names)

    def call(self, method: str, job: str, comment: str = "") -> MethodCall:
        """A method that takes the order's id, with the comment that the machine keeps of it."""
        arguments = (Argument(DataType.STRING, job), _comment(comment))
        return MethodCall(self.object, method_node(method), arguments, component=f"nsu={NAMESPACE};{method}")

    def store(self, method: str, job: StructureArgument, comment: str = "") -> MethodCall:
        """A method that takes the whole order: Store, StoreAndStart or Update."""
        component = f"nsu={NAMESPACE};{method}"
        return MethodCall(self.object, method_node(method), (_comment(comment),), job, component)


def _comment(text: str) -> Argument:
    return Argument(DataType.STRING, (text,) if text else (), localized=True)


class OrderFacts(msgspec.Struct, frozen=True):
    """What is known of an order when it is sent: by its download, and by its dispatch."""

    order: str
    set: str
    rev: str
    unit: str
    known: KnownOrder | None = None

    def fill(self, template: str, operation: str | None) -> str:
        """The template with what is known; what is not known is empty."""
        known = self.known
        values: dict[str, Any] = {
            "order": self.order, "set": self.set, "rev": self.rev,
            "op": (known.operations.get(self.unit) if known else None) or operation,
            "lot": known.lot if known else None,
            "material": known.material if known else None,
            "qty": known.planned if known else None,
        }  # fmt: skip
        return _FIELD.sub(lambda field: "" if (value := values[field[1]]) is None else str(value), template).strip()


def job_id(spec: JobSpec, facts: OrderFacts) -> str:
    """The JobOrderID."""
    return facts.fill(spec.id, spec.operation)


def job_order(
    spec: JobSpec, facts: OrderFacts, parameters: Mapping[str, tuple[Argument, str | None]]
) -> StructureArgument:
    """The JobOrder: `parameters` are typed values with their UCUM units, by JobOrderParameter ID."""
    description, master = facts.fill(spec.description, spec.operation), facts.fill(spec.work_master, spec.operation)
    known = facts.known
    priority = known.prio if known is not None and "Priority" in spec.is_dispatched else spec.priority
    fields = {
        "JobOrderID": job_id(spec, facts),
        "Description": (description,) if description else None,
        "WorkMasterID": ({"ID": master},) if master else None,
        "StartTime": known.start if known is not None and "StartTime" in spec.is_dispatched else None,
        "Priority": max(-32768, min(32767, priority)) if priority is not None else None,
        "JobOrderParameters": tuple(
            {"ID": name, "Value": value, "EngineeringUnits": engineering_units(unit)}
            for name, (value, unit) in parameters.items()
        ),
        "MaterialRequirements": _materials(spec, facts) or None,
        "EquipmentRequirements": tuple({"ID": one.id, "EquipmentUse": one.use or None} for one in spec.equipment)
        or None,
    }
    return StructureArgument(JOB_ORDER_TYPE, {name: value for name, value in fields.items() if value is not None})


def _materials(spec: JobSpec, facts: OrderFacts) -> tuple[dict[str, Any], ...]:
    """One that nobody has named yet, for the order was not dispatched, is left out."""
    filled = [_material(spec, facts, material) for material in spec.materials]
    return tuple(material for material in filled if "MaterialDefinitionID" in material)


def _material(spec: JobSpec, facts: OrderFacts, material: MaterialSpec) -> dict[str, Any]:
    texts = {
        "MaterialDefinitionID": material.definition, "MaterialLotID": material.lot, "MaterialUse": material.use,
        "Quantity": material.quantity,
    }  # fmt: skip
    filled: dict[str, Any] = {name: facts.fill(text, spec.operation) for name, text in texts.items()}
    filled = {name: text for name, text in filled.items() if text}
    units = engineering_units(material.unit) if "Quantity" in filled else None
    return filled | ({"EngineeringUnits": units} if units is not None else {})


def engineering_units(unit: str | None) -> dict[str, PlainValue] | None:
    """The EUInformation of a UCUM unit: its common code as bytes of a number; None for a unit without one."""
    code = common_code(unit) if unit is not None else None
    if code is None:
        return None
    number = int.from_bytes(code.encode("ascii"), "big")
    return {"NamespaceUri": UNITS_NAMESPACE, "UnitId": number, "DisplayName": unit, "Description": unit}
