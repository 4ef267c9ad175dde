"""From the schemas that msgspec writes to those that people read: short, without what the contract does not promise."""

import inspect
from typing import Any


def tidy(schema: Any) -> Any:
    """The same schema without titles, and with `type: [number, 'null']` where it says `anyOf` of plain types."""
    if isinstance(schema, list):
        return [tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "properties" in schema:
        properties = {name: tidy(part) for name, part in schema["properties"].items()}
        schema = {**schema, "properties": properties}
    rest = {key: value if key == "properties" else tidy(value) for key, value in schema.items() if key != "title"}
    if "description" in rest:
        rest["description"] = inspect.cleandoc(rest["description"])
    return _joined(rest) if "anyOf" in rest else rest


def as_published(schema: dict[str, Any]) -> dict[str, Any]:
    """Every field is there in what the gateway sends, so none is optional and no default is of use."""
    properties = {
        name: {key: value for key, value in part.items() if key != "default"}
        for name, part in schema.get("properties", {}).items()
    }
    return {**schema, "properties": properties, "required": list(properties)}


def as_taken(schema: dict[str, Any]) -> dict[str, Any]:
    """A default of null only says that the field may be left out, and that `required` says already."""
    properties = {
        name: {key: value for key, value in part.items() if key != "default" or value is not None}
        for name, part in schema.get("properties", {}).items()
    }
    return {**schema, "properties": properties}


def _joined(schema: dict[str, Any]) -> dict[str, Any]:
    """Alternatives that are plain types as a list of them; constraints of the one that has any stay."""
    branches = schema["anyOf"]
    described = [branch for branch in branches if len(branch) > 1]
    if len(described) > 1 or any(not isinstance(branch.get("type"), str) for branch in branches):
        return schema
    if described and any(branch["type"] not in ("null", described[0]["type"]) for branch in branches):
        return schema
    types = [branch["type"] for branch in branches]
    if "number" in types:
        types = [name for name in types if name != "integer"]
    constraints = described[0] if described else {}
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**constraints, **rest, "type": types}


def shared(schema: Any, part: dict[str, Any], reference: dict[str, str]) -> Any:
    """The same schema with `part` referred to wherever it stands, also where null is allowed instead."""
    if schema == part:
        return reference
    if schema == {**part, "type": [part["type"], "null"]}:
        return {"anyOf": [reference, {"type": "null"}]}
    if isinstance(schema, dict):
        return {key: shared(value, part, reference) for key, value in schema.items()}
    return [shared(item, part, reference) for item in schema] if isinstance(schema, list) else schema
