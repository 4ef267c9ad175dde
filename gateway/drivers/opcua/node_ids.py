"""NodeIds that survive a restart of the device: by namespace URI, never by index.

The text form is that of OPC 10000-6 §5.3.1.11: `nsu=<uri>;s=<text>`, or `i=` numeric, `g=` GUID, `b=` base64. An index
means another namespace after the server was restarted with other namespaces (trap A2), so it is refused.
"""

import base64
import binascii
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from asyncua import ua

Identifier = int | str | bytes | uuid.UUID

_NODE: Final = re.compile(r"(?:nsu=(?P<uri>[^;]+);)?(?P<kind>[sigb])=(?P<text>.+)", re.DOTALL)

_COMPONENT: Final = re.compile(r"nsu=(?P<uri>[^;]+);(?P<name>.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class NodeName:
    """A node as the configuration names it; `namespace` None means the namespace of its device."""

    namespace: str | None
    identifier: Identifier

    def __str__(self) -> str:
        identifier = make_node_id(self.identifier).to_string()
        uri = self.namespace.replace("%", "%25").replace(";", "%3B") if self.namespace is not None else None
        return f"nsu={uri};{identifier}" if uri is not None else str(identifier)


def parse_node(text: object) -> NodeName:
    """The node named by `nsu=<uri>;s=…`, `s=…`, `i=…`, `g=…` or `b=…`; raises `ValueError` that says what to write."""
    if isinstance(text, NodeName):
        return text
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is not a node; write it as text: nsu=<namespace uri>;s=<name>, or s=<name>")
    if text.startswith("ns="):
        raise ValueError(
            f"{text!r} names its namespace by index, which means another namespace after the server is restarted "
            "with other namespaces; write nsu=<namespace uri>;… or leave it to the device's namespace: key"
        )
    match = _NODE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a node; write nsu=<namespace uri>;s=<name>, s=<name> or i=<number>")
    # Part 6 escapes exactly these two characters of the URI.
    uri = match["uri"] and match["uri"].replace("%3B", ";").replace("%25", "%")
    return NodeName(uri, _PARSE_IDENTIFIER[match["kind"]](match["text"]))


class ComponentName(NamedTuple):
    """A browse name with the URI of its namespace."""

    namespace: str
    name: str


def parse_component(text: object) -> ComponentName:
    """The name in `nsu=<namespace uri>;<name>` (OPC 10000-6 §5.1.13); raises `ValueError` that says what to write."""
    if isinstance(text, ComponentName):
        return text
    match = _COMPONENT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is no browse name; write nsu=<namespace uri>;<name>")
    return ComponentName(match["uri"].replace("%3B", ";").replace("%25", "%"), match["name"])


def _numeric(text: str) -> int:
    if not text.isdecimal() or int(text) > 0xFFFFFFFF:
        raise ValueError(f"'i={text}' is not numeric; write a whole number from 0 to 4294967295, or s= for a name")
    return int(text)


def _guid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise ValueError(f"'g={text}' is not a GUID; write it as g=09087e75-8e5e-499b-954f-f2a9603db28a") from None


def _opaque(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError(f"'b={text}' is not base64; write it as b=M/RbKBsRVkePCePcx24oRA==") from None


_PARSE_IDENTIFIER: Final[dict[str, Callable[[str], Identifier]]] = {
    "s": str,
    "i": _numeric,
    "g": _guid,
    "b": _opaque,
}


def make_node_id(identifier: Any, index: Any = 0) -> ua.NodeId:
    """asyncua's NodeId. Its annotations ask for its own integer classes, which nothing checks or makes."""
    return ua.NodeId(identifier, index)


def format_node(node_id: ua.NodeId, namespaces: Sequence[str]) -> str:
    """The text form by namespace URI; nodes of the OPC UA namespace itself (index 0) go without."""
    identifier = make_node_id(node_id.Identifier).to_string()
    index = node_id.NamespaceIndex
    if index == 0:
        return identifier
    # An index without a namespace is a fault of the server: shown as it came, never as another namespace.
    uri = namespaces[index].replace("%", "%25").replace(";", "%3B") if index < len(namespaces) else None
    return f"nsu={uri};{identifier}" if uri else f"ns={index};{identifier}"
