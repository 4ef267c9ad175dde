"""The small safe language of `when:` rules, conditions and derived tags.

An expression is Python's expression grammar cut down to comparisons, `and or not`, `in [..]`, `.. if .. else ..`,
arithmetic, bit operations and a handful of functions. It is parsed once and compiled to closures over the inputs;
nothing is ever evaluated as Python, and nothing in it can loop, call or reach anything else.

    state in [10, 11, 12] and stop_reason == 9001
    quality(state) == 'Bad' or stale(heartbeat)
    bit(alarm_word, 3) and abs(oven_actual - oven_setpoint) > 5
    good / total * 100 if total > 0 else 0
"""

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from gateway.domain.values import StatusCode, Value, is_bad, is_good

MAX_LENGTH: Final = 2000
MAX_NODES: Final = 300


class ExpressionError(ValueError):
    """The text is not an expression of this language; the message says what would be right."""


class NoValue(Exception):  # noqa: N818 - it is an answer: an input has no usable value
    """An expression needed a tag that is Bad or was never received; `tag` is its name."""

    def __init__(self, tag: str) -> None:
        super().__init__(tag)
        self.tag = tag


class Inputs:
    """The latest values of one equipment's tags, by slot, as expressions read them."""

    __slots__ = ("names", "stale", "statuses", "values")

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.values: list[Value] = [None] * len(names)
        self.statuses: list[int] = [StatusCode.BAD_WAITING_FOR_INITIAL_DATA] * len(names)
        self.stale: list[bool] = [False] * len(names)

    def usable(self, slot: int) -> bool:
        """True if the slot holds a value that is not Bad."""
        return not is_bad(self.statuses[slot])


Compiled = Callable[[Inputs], Any]
_NOTHING: Final = Inputs([])
"""Enough to learn what a constant is."""


def _product(left: Any, right: Any) -> Any:
    """Of numbers only: Python would also repeat a text, as often as a device's number says."""
    if not isinstance(left, int | float) or not isinstance(right, int | float):
        raise TypeError("only numbers can be multiplied")
    return left * right


_BINARY: Final[dict[type[ast.AST], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _product,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}
_COMPARE: Final[dict[type[ast.AST], Callable[[Any, Any], Any]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_UNARY: Final[dict[type[ast.AST], Callable[[Any], Any]]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_CONSTANTS: Final = {"true": True, "false": False}
_VALUE_FUNCTIONS: Final[dict[str, tuple[int, Callable[..., Any]]]] = {
    "abs": (1, abs),
    "bit": (2, lambda word, number: bool(int(word) >> int(number) & 1)),
    "max": (2, max),
    "min": (2, min),
    "round": (1, round),
}
_TAG_FUNCTIONS: Final = ("quality", "stale")
FUNCTIONS: Final = tuple(sorted([*_VALUE_FUNCTIONS, *_TAG_FUNCTIONS]))
"""Everything that an expression may call."""


def compile_expression(text: str, slots: Mapping[str, int], meanings: Mapping[str, Compiled] | None = None) -> Compiled:
    """Compile `text` over the tags named in `slots` (name → slot of `Inputs`).

    `meanings` are names that stand for something else than a tag, such as the states of a ready-made model.

    The result raises `NoValue` when it needs a tag without a usable value; `and` and `or` stop early as usual, so
    a tag that is not reached is not needed. A division by zero or a comparison of unlike types counts as no value
    too: device data never stops the gateway. Raises `ExpressionError`.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"is {len(text)} characters long; at most {MAX_LENGTH} are allowed")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"does not parse: {_syntax(error)}") from None
    if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
        raise ExpressionError(f"has more than {MAX_NODES} parts; split it into derived tags")
    return _guarded(_Compiler(slots, meanings or {}).compile(tree.body), text)


def tags_used(text: str) -> set[str]:
    """The names in a compilable expression that are tags."""
    tree = ast.parse(text.strip(), mode="eval")
    calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - calls - set(_CONSTANTS)


def _syntax(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.offset:
        return f"{error.msg} at column {error.offset}"
    return str(error) or type(error).__name__


def _guarded(run: Compiled, text: str) -> Compiled:
    def guarded(inputs: Inputs) -> Any:
        try:
            return run(inputs)
        except (TypeError, ArithmeticError, ValueError) as error:
            raise NoValue(f"{text}: {error}") from None

    return guarded


class _Compiler:
    """Turns the permitted part of Python's syntax tree into closures."""

    def __init__(self, slots: Mapping[str, int], meanings: Mapping[str, Compiled]) -> None:
        self._slots = slots
        self._meanings = meanings

    def compile(self, node: ast.expr) -> Compiled:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return lambda _: value
            case ast.Name(id=name):
                return self._name(name)
            case ast.BoolOp(op=op, values=parts):
                return self._boolean(op, [self.compile(part) for part in parts])
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                return self._apply(_UNARY[type(op)], [operand])
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return self._apply(_BINARY[type(op)], [left, right])
            case ast.Compare(left=left, ops=ops, comparators=others):
                return self._comparison(left, ops, others)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                if all(isinstance(item, ast.Constant) for item in items):
                    constants = [self.compile(item)(_NOTHING) for item in items]
                    return lambda _: constants
                elements = [self.compile(item) for item in items]
                return lambda inputs: [element(inputs) for element in elements]
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                return self._choice(test, body, otherwise)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                return self._call(name, args)
        raise ExpressionError(
            f"{ast.unparse(node)!r} is not allowed; use comparisons, and/or/not, in [..], if/else, + - * / // %, & |, "
            f"and the functions {', '.join(FUNCTIONS)}"
        )

    def _slot(self, name: str) -> int:
        if name not in self._slots:
            known = ", ".join(sorted(self._slots)) or "none"
            raise ExpressionError(f"names the tag {name!r}, which is not configured here; the tags are: {known}")
        return self._slots[name]

    def _name(self, name: str) -> Compiled:
        if name in _CONSTANTS:
            constant = _CONSTANTS[name]
            return lambda _: constant
        if name in self._meanings:
            return self._meanings[name]
        slot = self._slot(name)

        def value(inputs: Inputs) -> Value:
            if is_bad(inputs.statuses[slot]):
                raise NoValue(name)
            return inputs.values[slot]

        return value

    def _apply(self, function: Callable[..., Any], operands: Sequence[ast.expr]) -> Compiled:
        if len(operands) == 1:
            only = self.compile(operands[0])
            return lambda inputs: function(only(inputs))
        left, right = (self.compile(operand) for operand in operands)
        return lambda inputs: function(left(inputs), right(inputs))

    def _boolean(self, op: ast.boolop, parts: list[Compiled]) -> Compiled:
        if isinstance(op, ast.And):
            return lambda inputs: all(part(inputs) for part in parts)
        return lambda inputs: any(part(inputs) for part in parts)

    def _choice(self, test: ast.expr, body: ast.expr, otherwise: ast.expr) -> Compiled:
        is_so, then, other = self.compile(test), self.compile(body), self.compile(otherwise)
        return lambda inputs: then(inputs) if is_so(inputs) else other(inputs)

    def _comparison(self, left: ast.expr, ops: Sequence[ast.cmpop], others: Sequence[ast.expr]) -> Compiled:
        for op in ops:
            if type(op) not in _COMPARE:
                raise ExpressionError("compares with 'is'; use == or !=")
        operands = [self.compile(part) for part in [left, *others]]
        functions = [_COMPARE[type(op)] for op in ops]
        if len(functions) == 1:
            function, (first, second) = functions[0], operands
            if isinstance(others[0], ast.Constant):
                constant = second(_NOTHING)
                return lambda inputs: function(first(inputs), constant)
            return lambda inputs: function(first(inputs), second(inputs))

        def chain(inputs: Inputs) -> bool:
            values = [operand(inputs) for operand in operands]
            return all(function(values[i], values[i + 1]) for i, function in enumerate(functions))

        return chain

    def _call(self, name: str, args: Sequence[ast.expr]) -> Compiled:
        if name in _TAG_FUNCTIONS:
            return self._tag_function(name, args)
        if name not in _VALUE_FUNCTIONS:
            known = ", ".join(FUNCTIONS)
            raise ExpressionError(f"calls {name!r}, which does not exist; the functions are: {known}")
        arity, function = _VALUE_FUNCTIONS[name]
        if len(args) != arity:
            raise ExpressionError(f"gives {name}() {len(args)} arguments; it takes {arity}")
        return self._apply(function, args)

    def _tag_function(self, name: str, args: Sequence[ast.expr]) -> Compiled:
        if len(args) != 1 or not isinstance(args[0], ast.Name):
            raise ExpressionError(f"{name}() takes exactly one tag name")
        slot = self._slot(args[0].id)
        if name == "stale":
            return lambda inputs: inputs.stale[slot]
        return lambda inputs: _quality(inputs.statuses[slot])


def _quality(status_code: int) -> str:
    if is_good(status_code):
        return "Good"
    return "Bad" if is_bad(status_code) else "Uncertain"
