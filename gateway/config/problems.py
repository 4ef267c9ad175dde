"""What is wrong in a configuration, where, and what would be right."""

from collections.abc import Sequence
from typing import NamedTuple


class Place(NamedTuple):
    """A line of a file."""

    file: str
    line: int


class Problem(NamedTuple):
    """One error. `where` is the path of keys, for example `equipment > FIL01 > tags > acc`."""

    place: Place
    where: str
    message: str

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        return f"{self.place.file}:{self.place.line}: {where}{self.message}"


class ConfigError(Exception):
    """The configuration cannot be used; `problems` holds every error of all files."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = sorted(set(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))
