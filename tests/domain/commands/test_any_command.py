"""Whatever a sender writes into a command that decodes: the core raises nothing, and answers.

An error in the core ends the daemon, and a broker hands the same message over again at the next start (QoS 1).
"""

from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import given, settings

from gateway.domain.contract.requests import COMMAND_TYPES
from tests.stage import Stage

WORDS = st.sampled_from(
    ["", "FIL01", "LBL01", "PAL01", "ACME/HZ/PACK/L1/FIL01", "PS-F", "PS-L", "A", "B", "released", "4711", "4712", "L-1",
     "LBL-330", "oven_sp", "belt_speed", "fill_volume", "speed", "produced", "cancel", "hold", "resume", "resequence",
     "update", "delivered", "material", "unit", "immediate", "at_time", "next_order", "from_lot", "pcs", "case", "Cel",
     "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-03-02T06:00:00Z", "now", "\u0000", "订单|7", "a" * 5_000,
     "IDLE", "RUN", "ROLLBACK_FAILED@2026-03-02T06:00:00.000Z", "trim", "golden", "constant", "order"]
)  # fmt: skip
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2**31, -(2**63), 2**63 - 1, 10**30, 0.5, -0.0, 1e308, -1e308, 175.0, 240]), st.integers()
)


TIMES = ["2026-03-02T06:00:00Z", "2026-03-02T07:00:00.500Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]
LIKELY: dict[str, list[Any]] = {
    "eq": ["FIL01", "LBL01"], "hash": [None], "order": ["4711", "4712"], "set": ["PS-L", "PS-F"], "rev": ["A", "B"],
    "to": ["A", "B"], "name": ["oven_sp", "belt_speed", "fill_volume", "speed"], "kind": ["material", "unit", "deliver"],
    "eta": TIMES, "start": TIMES, "t": TIMES, "unit": ["Cel", "mm/s", "pcs", None], "lot": ["L-1", "4711-L1", None],
    "class": ["trim", "golden", "constant", "order", None], "mode": ["immediate", "at_time", "next_order", "from_lot"],
    "min": [None], "max": [None], "counter": ["produced", "good"], "version": [1, 2, 41], "value": [175.0, 240, 2**64 - 1],
    "status": ["delivered", "open"], "material": ["LBL-330", "P-500"], "by": ["op17"], "user": ["op17"],
}  # fmt: skip
"""What people would write, by the key: so that most commands get past the first objection."""


def values(kind: Any) -> st.SearchStrategy[Any]:  # noqa: PLR0911, PLR0912 - one for each kind of type
    """Values that the type lets through, odd ones preferred."""
    match kind:
        case msgspec.inspect.Metadata():
            return values(kind.type)
        case msgspec.inspect.StrType():
            return WORDS
        case msgspec.inspect.BoolType():
            return st.booleans()
        case msgspec.inspect.IntType():
            return NUMBERS.map(int).filter(lambda number: kind.ge is None or number >= kind.ge)
        case msgspec.inspect.FloatType():
            return NUMBERS
        case msgspec.inspect.NoneType():
            return st.none()
        case msgspec.inspect.LiteralType():
            return st.sampled_from(kind.values)
        case msgspec.inspect.EnumType():
            return st.sampled_from([member.value for member in kind.cls])
        case msgspec.inspect.UnionType():
            return st.one_of([values(part) for part in kind.types])
        case msgspec.inspect.VarTupleType() | msgspec.inspect.ListType():
            return st.lists(values(kind.item_type), max_size=3)
        case msgspec.inspect.DictType():
            return st.dictionaries(WORDS, values(kind.value_type), max_size=3)
        case msgspec.inspect.AnyType():
            return st.one_of(WORDS, NUMBERS, st.none(), st.booleans())
        case msgspec.inspect.StructType():
            return bodies(kind)
    raise AssertionError(f"no values for {kind}")


def bodies(kind: msgspec.inspect.StructType) -> st.SearchStrategy[dict[str, Any]]:
    def value(field: msgspec.inspect.Field) -> st.SearchStrategy[Any]:
        likely = LIKELY.get(field.encode_name)
        odd = values(field.type)
        return (
            odd if likely is None else st.integers(0, 9).flatmap(lambda dice: st.sampled_from(likely) if dice else odd)
        )

    needed = {field.encode_name: value(field) for field in kind.fields if field.required}
    more = {field.encode_name: value(field) for field in kind.fields if not field.required}
    return st.fixed_dictionaries(needed, optional=more)


COMMANDS = st.sampled_from(sorted(COMMAND_TYPES)).flatmap(
    lambda name: st.tuples(st.just(name), bodies(msgspec.inspect.type_info(COMMAND_TYPES[name])))
)


def prepared() -> Stage:
    """A line with a set released and an order dispatched."""
    stage = Stage()
    stage.start_line()
    stage.show("LBL01", "06:01:00", word=0b10100000)
    items = [{"name": "oven_sp", "value": 175.0, "unit": "Cel", "min": 165, "max": 190, "class": "trim"}]
    stage.command("params.release", cmd="P-1", sets=[{"set": "PS-L", "rev": "A", "items": items}])
    stage.dispatch("4711")
    return stage


@settings(max_examples=250)
@given(st.lists(st.one_of(COMMANDS, st.sampled_from(["restart", "wait", "scan"])), min_size=1, max_size=6))
def test_every_command_that_decodes_is_answered_and_the_core_goes_on(steps: list[Any]) -> None:
    stage, minute = prepared(), 5
    for number, step in enumerate(steps):
        minute += 1
        clock = f"06:{minute:02}:00"
        if step == "restart":
            stage.operations.clear()
            stage.kill_and_restart(clock)
        elif step == "wait":
            stage.pass_time(clock)
        elif step == "scan":
            stage.show("LBL01", clock, word=0b10100000)
            while stage.operations:
                stage.operations.pop(0)
        else:
            kind, body = step
            answers = stage.command(kind, **{**body, "cmd": f"C{number}", "valid_until": None})
            assert f"C{number}" in [answer.cmd for answer in answers], (kind, body)
    stage.kill_and_restart("06:40:00")
    stage.pass_time("06:45:00")
