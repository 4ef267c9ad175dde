"""Fields of structures as the YAML names them: `Head.Speed`, `Items[2].Value`, `[0].Name` in an array of structures."""

import difflib
import re
from collections.abc import Iterable
from typing import Final

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from gateway.domain.values import StatusCode
from gateway.drivers.opcua.structured.structure_codec import Absent, Group, Leaf, Node, Unknown

FieldPath = tuple[str | int, ...]
"""From the outside in: a name is a field, a number the place in an array, from 0."""

TYPE_UNKNOWN: Final = StatusCodes.BadDataTypeIdUnknown
"""What a field has before the server has said what its structure is made of."""

WHOLE: Final = "*"
"""What stands in the YAML for the structure itself."""

_STEP: Final = re.compile(
    r'(?:^|(?<=[^.])\.)(?:"(?P<quoted>[^"]+)"|(?P<name>[^.\[\]"\s][^.\[\]"]*))|\[(?P<place>\d{1,9})\]'
)


def parse_field(text: object) -> FieldPath:
    """The path; raises `ValueError` that says what to write. A name with a dot or bracket stands in double quotes.

    An asterisk is no field but the whole, as JSON text (see `structure_text`).
    """
    if isinstance(text, tuple):
        return text
    if text == WHOLE:
        return ()
    steps: list[str | int] = []
    position = 0
    while isinstance(text, str) and position < len(text) and (step := _STEP.match(text, position)):
        name = step["quoted"] or step["name"]
        steps.append(name if name is not None else int(step["place"]))
        position = step.end()
    if not isinstance(text, str) or not steps or position < len(text):
        raise ValueError(
            f"{text!r} is not a field; write its names as Head.Speed, and places in arrays as Items[2].Value"
        )
    return tuple(steps)


def format_field(path: FieldPath) -> str:
    """The text that `parse_field` takes."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (f'"{step}"' if re.search(r"[.\[\]\s]", step) else step)
    return text


class NoField(Exception):  # noqa: N818 - it says what happened, and reads so where it is caught
    """There is no value at this place; `problem` says what is wrong with the configuration, or is empty."""

    def __init__(self, status_code: int, problem: str = "") -> None:
        super().__init__(problem)
        self.status_code, self.problem = status_code, problem


def find(node: Node, path: FieldPath) -> Leaf:
    """The value at the end of the path; raises `NoField`."""
    for depth, step in enumerate(path):
        node = _step(node, step, format_field(path[:depth]) or "the value")
    if isinstance(node, Leaf):
        return node
    raise _missing(node, format_field(path))


def _step(node: Node, step: str | int, where: str) -> Node:
    if isinstance(node, Absent | Unknown):
        raise _missing(node, where)
    if isinstance(step, int):
        return _element(node, step, where)
    if isinstance(node, Group):
        if step not in node.fields:
            raise NoField(StatusCodes.BadNotFound, f"{node.name} has no field {step}; {_hint(step, node.fields)}")
        return node.fields[step]
    what = f"is an array; write {where}[0].{step}" if isinstance(node, list) else "has no fields"
    raise NoField(StatusCodes.BadNotFound, f"{where} {what}")


def _element(node: Node, place: int, where: str) -> Node:
    if isinstance(node, list) and place < len(node):
        return node[place]
    if isinstance(node, Leaf) and node.is_array and place < len(node.value):
        element = node.value[place]
        if node.kind is ua.VariantType.Variant:
            return Leaf(element.VariantType, element.Value, bool(element.is_array))
        return Leaf(node.kind, element, span=node.span, array=node.value, place=place)
    if isinstance(node, list) or (isinstance(node, Leaf) and node.is_array):
        raise NoField(StatusCodes.BadIndexRangeNoData)
    raise NoField(StatusCodes.BadNotFound, f"{where} is no array; take [{place}] out")


def _missing(node: Node, where: str) -> NoField:
    """Why what is there is no value."""
    match node:
        case Absent():
            return NoField(StatusCodes.BadNoData)
        case Unknown():
            return NoField(
                TYPE_UNKNOWN, f"the server does not say what {where} is made of; it gives no DataTypeDefinition"
            )
        case Group():
            text = f"{where} is a structure; name one of its fields: {', '.join(node.fields)}"
            return NoField(StatusCode.BAD_TYPE_MISMATCH, text)
        case _:
            return NoField(StatusCode.BAD_TYPE_MISMATCH, f"{where} is an array of structures; write {where}[0].<field>")


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return (f"did you mean {close[0]}? " if close else "") + f"Its fields are: {', '.join(known)}"
