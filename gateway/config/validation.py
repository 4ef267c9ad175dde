"""From pydantic's errors to sentences with file and line."""

import difflib
import types
from collections.abc import Iterable
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.config.problems import Problem
from gateway.config.yaml_reader import Document, KeyPath

_Model = TypeVar("_Model", bound=BaseModel)


class Reporter:
    """Collects the problems of all files; paths of keys lead back to lines."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def report(self, document: Document, path: KeyPath, message: str) -> None:
        """Note one problem at the line of `path`."""
        where = " > ".join(str(part) for part in path)
        self.problems.append(Problem(document.place(path), where, message))

    def validate(
        self, model: type[_Model], raw: Any, document: Document, path: KeyPath, also_allowed: Iterable[str] = ()
    ) -> _Model | None:
        """The validated section, or None after its problems were noted."""
        try:
            return model.model_validate(raw)
        except ValidationError as invalid:
            errors = invalid.errors(include_url=False)
            for error in errors:
                if not _follows_from_another(error, errors):
                    self._explain(model, error, document, path, also_allowed)
            return None

    def _explain(
        self, model: type[BaseModel], error: ErrorDetails, document: Document, path: KeyPath, also: Iterable[str]
    ) -> None:
        location = tuple(part for part in error["loc"] if part != "[key]")
        here = (*path, *location)
        if error["type"] == "extra_forbidden":
            at = _model_at(model, location[:-1])
            keys = [*allowed_keys(at), *(also if len(location) == 1 else ())]
            cure = getattr(at, "instead", {}).get(location[-1])  # a key that people try, and what to write instead
            self.report(document, here, cure or unknown_key(str(location[-1]), keys))
        elif error["type"] == "missing":
            self.report(document, here[:-1], f"the key {location[-1]!r} is missing")
        else:
            self.report(document, here, _sentence(error))


def _follows_from_another(error: ErrorDetails, errors: list[ErrorDetails]) -> bool:
    """A list whose entries are wrong counts as too short too; that would only confuse."""
    depth = len(error["loc"])
    deeper = [other for other in errors if other["loc"][:depth] == error["loc"] and len(other["loc"]) > depth]
    return error["type"] == "too_short" and bool(deeper)


def allowed_keys(model: Any) -> list[str]:
    """The keys that a section may have, as written in YAML."""
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


def unknown_key(key: str, keys: Iterable[str]) -> str:
    """What to say of a key that does not exist here."""
    known = sorted(set(keys))
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"the key {key!r} is unknown here; {hint}Allowed are: {', '.join(known)}"


def _sentence(error: ErrorDetails) -> str:
    text = error["msg"].removeprefix("Value error, ")
    if error["type"] in ("value_error", "enum", "literal_error") and text.startswith(("'", '"')):
        return text
    given = error["input"]
    shown = "" if isinstance(given, dict | list) or error["type"] == "value_error" else f" (it is {given!r})"
    return text[:1].lower() + text[1:] + shown


def _model_at(model: Any, location: tuple[str | int, ...]) -> Any:
    """The model that `location` leads to, walking fields, lists and mappings."""
    for part in location:
        model = _unwrap(model)
        if isinstance(model, type) and issubclass(model, BaseModel):
            fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
            model = fields.get(str(part))
        else:
            arguments = [argument for argument in get_args(model) if argument is not Ellipsis]
            model = arguments[-1] if arguments else None
    return _unwrap(model)


def _unwrap(annotation: Any) -> Any:
    """The useful part of `X | None` and `Annotated[X, …]`."""
    while get_origin(annotation) in (Union, types.UnionType) or hasattr(annotation, "__metadata__"):
        annotation = next((a for a in get_args(annotation) if a is not type(None)), None)
    return annotation
