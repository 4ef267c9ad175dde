"""The `state` section of one equipment: own rules, then those of a ready-made model, over the equipment's tags."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from gateway.config.models import StateSection, TagSection
from gateway.config.resolve_usage import FindSlot, Report
from gateway.config.yaml_reader import plain_scalar
from gateway.domain.state.state_models import STATE_MODELS, ModelRule, Role, StateModel
from gateway.domain.state.states import StateRule, StateSpec
from gateway.domain.tags.expressions import Compiled, compile_expression, tags_used
from gateway.domain.values import DataType, PlainValue

_REASON = re.compile(r"[A-Z0-9_]+(/[A-Z0-9_]+)*")


class CompileRule(Protocol):
    """Compiles an expression over the equipment's tags, after reporting under the keys if it is wrong."""

    def __call__(self, text: str, *keys: str | int) -> Compiled | None:  # noqa: D102 - the class says it
        ...


class StateResolver:
    """The `state` section. `types` are the sections of the tags, None for one that is wrong itself."""

    def __init__(
        self,
        section: StateSection,
        slots: Mapping[str, int],
        types: Callable[[str], TagSection | None],
        *,
        slot: FindSlot,
        expression: CompileRule,
        report: Report,
    ) -> None:
        self._section = section
        self._slots = slots
        self._types = types
        self._slot = slot
        self._expression = expression
        self._report = report
        self._reasons = _codes(section.reasons)
        self._model = self._chosen_model()
        self._roles: dict[str, int] = self._bind(self._model) if self._model is not None else {}

    def resolve(self) -> StateSpec:
        """The rules as the domain takes them; first match wins, so own rules override the model's."""
        section, seconds = self._section, _milliseconds
        rules, needs = list(self._own_rules()), set(self._own_needs())
        if self._model is not None and self._roles:
            rules += self._model_rules(self._model)
            needs |= set(self._roles.values()) - self._reason_slots(self._model)
        return StateSpec(
            rules=tuple(rules), needs=tuple(sorted(needs)), evidence=self._evidence(), reasons=self._reasons,
            debounce=seconds(section.debounce), micro_stop=seconds(section.micro_stop),
            stale_after=seconds(section.stale_after), reason_window=seconds(section.reason_window),
            model=self._cast(self._model) if self._model is not None else "",
        )  # fmt: skip

    # --- own rules ----------------------------------------------------------------------------------------------

    def _own_rules(self) -> Iterator[StateRule]:
        for number, rule in enumerate(self._section.rules):
            when = self._expression(rule.when, "state", "rules", number, "when")
            if when is not None:
                debounce = _milliseconds(rule.debounce) if rule.debounce is not None else None
                reason, slot = self._reason(rule.reason, number)
                yield StateRule(rule.to, when, debounce, reason, slot)

    def _own_needs(self) -> Iterator[int]:
        for rule in self._section.rules:
            try:
                yield from (self._slots[name] for name in tags_used(rule.when) if name in self._slots)
            except SyntaxError:
                continue  # reported with the rule

    def _reason(self, reason: str | None, number: int) -> tuple[str | None, int | None]:
        """A reason is either the name of the tag with the code, or a fixed text such as HELD/QUALITY."""
        if reason is None or _REASON.fullmatch(reason):
            return reason, None
        return None, self._slot(reason, "state", "rules", number, "reason")

    def _evidence(self) -> tuple[int, ...]:
        if self._section.raw is not None or self._model is None:
            return tuple(self._slot(name, "state", "raw") for name in self._section.raw or ())
        evidence = (role.name for role in self._model.roles if role.is_evidence)
        return tuple(self._roles[name] for name in evidence if name in self._roles)

    # --- the model ----------------------------------------------------------------------------------------------

    def _chosen_model(self) -> StateModel | None:
        section = self._section
        if section.model is None:
            if section.tags:
                self._report(("state", "tags"), "has no meaning without a model; take it out or write model: <name>")
            if not section.rules:
                text = f"needs rules: of its own, or a ready-made model: {', '.join(STATE_MODELS)}"
                self._report(("state",), text)
            return None
        if section.model not in STATE_MODELS:
            text = f"the model {section.model!r} does not exist{_meant(section.model, STATE_MODELS)} The models are: "
            self._report(("state", "model"), text + ", ".join(STATE_MODELS))
        return STATE_MODELS.get(section.model)

    def _bind(self, model: StateModel) -> dict[str, int]:
        """The slots of the roles that have a tag: the one that YAML names, else one that is called like the role."""
        known = [role.name for role in model.roles]
        for name in self._section.tags.keys() - set(known):
            text = f"the model {model.name} has no role {name!r}{_meant(name, known)} Its roles are: "
            self._report(("state", "tags", name), text + ", ".join(known))
        bound: dict[str, int] = {}
        for role in model.roles:
            slot = self._slot_of(role)
            if slot is not None:
                bound[role.name] = slot
            elif role.is_required:
                text = (
                    f"the model {model.name} needs the tag of its {role.name}: call a tag "
                    f"{' or '.join((role.name, *role.names))}, or write tags: {{{role.name}: <tag>}}. "
                    f"The tags are: {', '.join(self._slots)}"
                )
                self._report(("state", "model"), text)
                return {}
        self._check_nested(model, bound)
        return bound

    def _cast(self, model: StateModel) -> str:
        """Which tag plays which role: what was found by its name should be seen before it is relied on."""
        names = list(self._slots)
        played = [f"{role} = {names[slot]}" for role, slot in self._roles.items() if slot >= 0]
        missing = [role.name for role in model.roles if role.name not in self._roles]
        return f"{model.name}, {', '.join(played)}" + (f"; without {', '.join(missing)}" if missing else "")

    def _slot_of(self, role: Role) -> int | None:
        if role.name in self._section.tags:
            tag = self._section.tags[role.name]
            return self._slot(tag, "state", "tags", role.name) if tag is not None else None
        called = {_plain_name(tag): tag for tag in self._slots}
        found = [called[plain] for plain in map(_plain_name, (role.name, *role.names)) if plain in called]
        return self._slot(found[0], "state", "model") if found else None

    def _check_nested(self, model: StateModel, bound: Mapping[str, int]) -> None:
        """A state told by nested machines needs all of them, and all as numbers or all as text."""
        for outer, text in model.innermost.items():
            nested = [role.name for role in model.roles if role.name in tags_used(text)]
            given = [name for name in nested if name in bound]
            if 1 < len(given) < len(nested):
                missing = f"nested states need the tags of all of {', '.join(nested)}, not only of {', '.join(given)}"
                self._report(("state", "model"), missing)
            if len({self._is_text(bound[name]) for name in given}) > 1:
                mixed = f"the tags of {', '.join(given)} must be all numbers or all text, like that of {outer}"
                self._report(("state", "model"), mixed)

    def _model_rules(self, model: StateModel) -> Iterator[StateRule]:
        meanings = self._meanings(model)
        names = {role.name for role in model.roles}
        for rule in model.rules:
            wanted = tags_used(rule.when) & names | ({rule.only_with} if rule.only_with is not None else set())
            if wanted <= self._roles.keys():
                when = compile_expression(rule.when, self._roles, meanings)
                reason, slot = self._model_reason(rule, names)
                yield StateRule(rule.to, when, rule.debounce, reason, slot)

    def _meanings(self, model: StateModel) -> dict[str, Compiled]:
        """What the names in a model's rules stand for, besides tags."""
        held = [code for code, reason in self._reasons.items() if reason is not None and reason.split("/")[0] == "HELD"]
        meanings: dict[str, Compiled] = {"held_reasons": _always(held)}
        for role in model.roles:
            if role.name in self._roles:
                is_text = self._is_text(self._roles[role.name])
                meanings |= {name: _always(name if is_text else code) for name, code in role.codes.items()}
        for outer, text in model.innermost.items():
            if tags_used(text) - meanings.keys() <= self._roles.keys():
                meanings[outer] = compile_expression(text, self._roles, meanings)
        return meanings

    def _model_reason(self, rule: ModelRule, roles: set[str]) -> tuple[str | None, int | None]:
        return (None, self._roles.get(rule.reason)) if rule.reason in roles else (rule.reason, None)

    def _reason_slots(self, model: StateModel) -> set[int]:
        """A reason may arrive later than the state, so no state waits for it unless a rule compares it."""
        compared = {name for rule in model.rules for name in tags_used(rule.when)}
        reasons = {rule.reason for rule in model.rules} - compared
        return {slot for name, slot in self._roles.items() if name in reasons}

    def _is_text(self, slot: int) -> bool:
        name = next((name for name, at in self._slots.items() if at == slot), None)
        section = self._types(name) if name is not None else None
        return section is not None and (section.type is DataType.STRING or bool(section.enum))


def _codes(reasons: Mapping[str, Any]) -> dict[PlainValue, str | None]:
    """YAML keys are text; a key that looks like a number is a number, as the device sends it."""
    return {plain_scalar(code): reason for code, reason in reasons.items()}


def _plain_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _meant(name: str, known: Mapping[str, Any] | list[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else "."


def _always(value: Any) -> Compiled:
    return lambda _: value


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
