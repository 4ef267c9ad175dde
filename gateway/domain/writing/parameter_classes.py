"""Who may change which parameter, and when: the class that PLM gives it in the set, and the one in the YAML.

| class | value | may change in |
|---|---|---|
| `golden` | as released; another one needs a new revision | IDLE, SETUP, HELD, DOWN |
| `trim` | the MES adjusts it within the band of the set | every state |
| `constant` | as released; whoever changes it is named (`by`) | MAINT |
| `order` | the MES gives it, with an order that is known here | IDLE, SETUP, HELD, DOWN |

Where the two classes differ the rules of both hold, so the stricter wins: `trim` in the set does not open a parameter
that the YAML calls `golden`, and the other way round.
"""

from typing import Final

from gateway.domain.contract.objections import Objection
from gateway.domain.state.states import State

FREE_STATES: Final = frozenset({State.IDLE, State.SETUP, State.HELD, State.DOWN})
"""Where the machine makes nothing, and an operator is there."""

STATES: Final[dict[str, frozenset[State | None]]] = {
    "golden": FREE_STATES,
    "trim": frozenset({*State, None}),
    "constant": frozenset({State.MAINT}),
    "order": FREE_STATES,
}
"""Every class, and the states in which a parameter of it may change."""


def classes(of_yaml: str, of_item: str | None) -> frozenset[str]:
    """The classes whose rules hold for a parameter."""
    return frozenset({of_yaml} if of_item is None else {of_yaml, of_item})


def is_fixed(held: frozenset[str]) -> bool:
    """True if only a released revision says what its value is."""
    return bool(held & {"golden", "constant"})


def frozen(name: str, held: frozenset[str], state: State | None, by: str | None) -> Objection | None:
    """Why a parameter may not change now, in this state, for that person."""
    allowed = frozenset.intersection(*(STATES[kind] for kind in held))
    if state not in allowed:
        where = ", ".join(sorted(str(one) for one in allowed)) or "no state"
        return Objection("state", f"{name} may not change in {state}; its class {_named(held)} may in {where}")
    if "constant" in held and not (by or "").strip():
        return Objection("by", f"{name} is a machine constant; say in 'by' who changes it")
    return None


def _named(held: frozenset[str]) -> str:
    return " and ".join(sorted(held))
