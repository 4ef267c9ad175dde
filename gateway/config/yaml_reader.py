"""YAML as a plant needs it: every value knows its line, and nothing surprising is accepted.

Built from the parser's events instead of a stock loader, because those let the last of two equal keys win, read
`no` as false, `12:30:00` as 45000 and `017` as 15, and grow an alias bomb without limit (traps E5). Plain scalars
follow YAML 1.2's core schema; aliases, tags and duplicate keys are errors; size and depth are bounded.

`${NAME}` and `${NAME:-default}` stand for an environment variable: what differs from site to site, such as hosts and
ports, need not be edited into the files.
"""

import os
import re
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.config.problems import Place, Problem

MAX_BYTES: Final = 5_000_000
MAX_DEPTH: Final = 40

KeyPath = tuple[str | int, ...]
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_WORDS: Final[dict[str, bool | None]] = {"": None, "~": None, "null": None, "true": True, "false": False}


class Document:
    """One file: its data, the line of every key, and what is wrong with it as YAML."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.data: Any = None
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self.is_readable = True

    def place(self, path: KeyPath) -> Place:
        """Where `path` is, or the nearest key above it."""
        while path and path not in self.lines:
            path = path[:-1]
        return Place(self.file, self.lines.get(path, 1))


def read_yaml(path: Path, shown_as: str) -> Document:
    """Read one file. Errors end up in `problems`; a file that cannot be read to its end has no data."""
    document = Document(shown_as)
    _read(document, path)
    if not document.is_readable:
        document.data = None
    return document


def _read(document: Document, path: Path) -> None:
    shown_as, problem = document.file, None
    try:
        content = path.read_bytes()
        if len(content) > MAX_BYTES:
            raise _Stop(1, f"has {len(content):,} bytes; at most {MAX_BYTES:,} are read: split it into several files")
        _Builder(document).build(content)
    except OSError as error:
        problem = Problem(Place(shown_as, 1), "", f"cannot be read: {error.strerror}")
    except _Stop as stop:
        problem = Problem(Place(shown_as, stop.line), "", stop.message)
    except yaml.YAMLError as error:
        problem = _syntax_problem(error, shown_as)
    except UnicodeDecodeError as error:
        problem = Problem(Place(shown_as, 1), "", f"is not UTF-8 text (byte {error.start})")
    if problem is not None:
        document.is_readable = False
        document.problems.append(problem)


class _Stop(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, line: int, message: str) -> None:
        self.line = line
        self.message = message


class _Frame:
    """An open mapping or sequence."""

    __slots__ = ("key", "path", "value")

    def __init__(self, value: Any, path: KeyPath) -> None:
        self.value = value
        self.path = path
        self.key: str | None = None


class _Builder:
    """Builds data and line numbers from parser events with a stack of its own, so that depth is bounded."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._stack: list[_Frame] = []
        self._documents = 0

    def build(self, content: bytes) -> None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        for event in yaml.parse(content.decode("utf-8-sig"), Loader=loader):
            line = event.start_mark.line + 1 if event.start_mark else 1
            match event:
                case yaml.ScalarEvent():
                    self._scalar(event, line)
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._refuse_extras(event, line)
                    self._open({} if isinstance(event, yaml.MappingStartEvent) else [], line)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    self._stack.pop()
                case yaml.AliasEvent():
                    raise _Stop(line, f"uses the alias *{event.anchor}; aliases are not allowed, write the value out")
                case yaml.DocumentStartEvent():
                    self._documents += 1
                    if self._documents > 1:
                        raise _Stop(line, "begins a second document with ---; one file holds one document")

    def _refuse_extras(self, event: Any, line: int) -> None:
        if event.anchor:
            raise _Stop(line, f"defines the anchor &{event.anchor}; anchors are not allowed, write the value out")
        if event.tag and event.tag != "!":
            raise _Stop(line, f"uses the YAML tag {event.tag}; tags are not allowed")

    def _scalar(self, event: Any, line: int) -> None:
        self._refuse_extras(event, line)
        frame = self._stack[-1] if self._stack else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            self._key(frame, event.value, line)
        else:
            text = _VARIABLE.sub(lambda match: _variable(match, line), event.value)
            self._place(plain_scalar(text) if event.implicit[0] else text, line)

    def _key(self, frame: _Frame, key: str, line: int) -> None:
        if key in frame.value:
            first = self._document.lines[(*frame.path, key)]
            where = " > ".join(str(part) for part in frame.path)
            text = f"the key {key!r} is already given in line {first}; keep one of the two"
            self._document.problems.append(Problem(Place(self._document.file, line), where, text))
        else:
            self._document.lines[(*frame.path, key)] = line
        frame.key = key

    def _open(self, value: Any, line: int) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise _Stop(line, f"is nested deeper than {MAX_DEPTH} levels")
        frame = self._stack[-1] if self._stack else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            raise _Stop(line, "has a list or mapping as a key; keys are plain words")
        self._stack.append(_Frame(value, self._place(value, line)))

    def _place(self, value: Any, line: int) -> KeyPath:
        if not self._stack:
            self._document.data = value
            return ()
        frame = self._stack[-1]
        if isinstance(frame.value, dict):
            assert frame.key is not None
            path: KeyPath = (*frame.path, frame.key)
            frame.value.setdefault(frame.key, value)
            frame.key = None
            return path
        path = (*frame.path, len(frame.value))
        frame.value.append(value)
        self._document.lines[path] = line
        return path


def _variable(match: re.Match[str], line: int) -> str:
    value = os.environ.get(match[1], match[2])
    if value is None:
        raise _Stop(line, f"the environment variable {match[1]} is not set; set it or write ${{{match[1]}:-default}}")
    return value


def plain_scalar(text: str) -> Any:
    """What an unquoted scalar means in YAML 1.2's core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text, 0 if "x" in text else 10)
    return float(text) if _FLOAT.fullmatch(text) else text


def _syntax_problem(error: yaml.YAMLError, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    text = getattr(error, "problem", None) or str(error)
    if "cannot start any token" in text:
        text += "; if it is a tab, indent with spaces"
    return Problem(Place(file, mark.line + 1 if mark else 1), "", f"is not YAML: {text}")
