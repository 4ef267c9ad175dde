"""`gateway contract`: the messages as an AsyncAPI document, to generate from and to validate against."""

import sys
from typing import Any

import msgspec
import yaml

from gateway.mqtt.contract import contract


def print_contract(*, as_json: bool) -> int:
    """Write the document to standard output."""
    text = msgspec.json.format(msgspec.json.encode(contract()), indent=2).decode() if as_json else as_yaml(contract())
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
    return 0


def as_yaml(document: dict[str, Any]) -> str:
    """The document as it stands in docs/contract.yaml."""
    return yaml.dump(document, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)


class _Plain(yaml.SafeDumper):
    """Short lists and references on one line; no anchors, which few readers of AsyncAPI follow."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


def _list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.SequenceNode:
    is_short = not any(isinstance(item, dict | list) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=is_short)


def _mapping(dumper: yaml.SafeDumper, items: dict[str, Any]) -> yaml.MappingNode:
    is_short = len(items) <= 1 and not any(isinstance(item, dict | list) for item in items.values())
    return dumper.represent_mapping("tag:yaml.org,2002:map", items, flow_style=is_short)


_Plain.add_representer(str, _text)
_Plain.add_representer(list, _list)
_Plain.add_representer(dict, _mapping)
