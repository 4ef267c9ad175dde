"""Master data that the gateway has a use for: which materials there are, and how many pieces other units are.

Every kind has a version that never goes back; the same one again is taken, for a large sync may come in several
messages. `full` replaces what was known of the kind, else it is added to it.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import field

from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import MasterdataSync

KINDS: Final = ("material", "unit")


class UnitFactor(msgspec.Struct):
    """One `unit` is `factor` pieces, of that material or of every one."""

    unit: str
    factor: float
    material: str | None = None


class MasterData(msgspec.Struct):
    """What was synced; survives a restart."""

    versions: dict[str, int] = field(default_factory=dict)
    materials: list[str] = field(default_factory=list)
    knows_all_materials: bool = False
    """True once a full list came: then a material that is not in it does not exist."""
    units: list[UnitFactor] = field(default_factory=list)

    def sync(self, command: MasterdataSync) -> list[Objection]:
        """Take all of it, or nothing and why."""
        against = list(self._objections(command))
        if against:
            return against
        if command.kind == "material":
            listed = [item["material"] for item in command.items]
            self.materials = list(dict.fromkeys([*([] if command.full else self.materials), *listed]))
            self.knows_all_materials = self.knows_all_materials or command.full
        else:
            units = {} if command.full else {(unit.unit, unit.material): unit for unit in self.units}
            taken = [UnitFactor(item["unit"], float(item["factor"]), item.get("material")) for item in command.items]
            self.units = [*(units | {(unit.unit, unit.material): unit for unit in taken}).values()]
        self.versions[command.kind] = command.version
        return []

    def unknown_material(self, material: str | None) -> Objection | None:
        """Why an order of that material cannot be taken."""
        if material is None or not self.knows_all_materials or material in self.materials:
            return None
        version = self.versions["material"]
        return Objection("unknown_material", f"{material} is not among the materials of master data version {version}")

    def pieces(self, quantity: int, unit: str, material: str | None) -> int | Objection:
        """So many of that unit in pieces; the factor of the material itself goes before that of every one."""
        found = {known.material: known.factor for known in self.units if known.unit == unit}
        factor = found.get(material, found.get(None))
        if factor is None:
            known = ", ".join(sorted({known.unit for known in self.units})) or "none"
            text = f"nobody said how many pieces one {unit} of {material} is; sync master data 'unit' (known: {known})"
            return Objection("unit", text)
        pieces = quantity * factor
        if pieces < 1 or pieces > 2**53 or pieces != round(pieces):
            return Objection("unit", f"{quantity} {unit} at {factor:g} are {pieces:g} pieces; that is no whole number")
        return round(pieces)

    def _objections(self, command: MasterdataSync) -> Iterator[Objection]:
        if command.kind not in KINDS:
            text = f"{command.kind!r}: the gateway takes {' and '.join(KINDS)}; all else is in its configuration"
            yield Objection("kind", text)
            return
        known = self.versions.get(command.kind)
        if known is not None and command.version < known:
            yield Objection("version", f"{command.kind} is known in version {known}; {command.version} is older")
        for place, item in enumerate(command.items):
            if not (_is_material(item) if command.kind == "material" else _is_unit(item)):
                wanted = "{material: text}" if command.kind == "material" else "{unit: text, factor: number above 0}"
                yield Objection("malformed", f"items[{place}] is not {wanted}")


def _is_material(item: dict[str, Any]) -> bool:
    return _is_name(item.get("material"))


def _is_unit(item: dict[str, Any]) -> bool:
    factor, material = item.get("factor"), item.get("material")
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not 0 < factor <= 2**53:
        return False
    return _is_name(item.get("unit")) and (material is None or _is_name(material))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
