"""Where messages go: `{root}/{enterprise}/{site}/{area}/{line}/{unit}/…`, and what hangs below the gateway itself."""

from typing import Final, NamedTuple

from gateway.domain.event_data import Level
from gateway.domain.events import EVENT_TYPES

OF_THE_GATEWAY: Final = frozenset(kind.type for kind in EVENT_TYPES if Level.GATEWAY in kind.levels)


class CommandTopic(NamedTuple):
    """A topic that a command came on: its type and the equipment path, None at site or gateway level."""

    type: str
    equipment: str | None


class Topics:
    """The topic tree of one gateway."""

    def __init__(self, root: str, site: str, gateway: str) -> None:
        self._root = root
        self._site = f"{root}/{site}"
        self._gateway = f"{root}/{site}/_gw/{gateway}"

    @property
    def status(self) -> str:
        """Retained: online or, by the broker's hand, offline."""
        return f"{self._gateway}/status"

    def event(self, equipment: str | None, kind: str) -> str:
        """Events of an equipment, `change.*` at site level, and the gateway's own."""
        if equipment is not None:
            return f"{self._root}/{equipment}/evt/{kind}"
        return f"{self._gateway if kind in OF_THE_GATEWAY else self._site}/evt/{kind}"

    def telemetry(self, equipment: str) -> str:
        """Batched run parameters."""
        return f"{self._root}/{equipment}/tel"

    def retained(self, equipment: str, kind: str) -> str:
        """What holds now: state, order or params."""
        return f"{self._root}/{equipment}/now/{kind}"

    def answer(self, equipment: str | None, kind: str) -> str:
        """The answer to a command, at the level that the command was for."""
        return f"{self._level(equipment)}/res/{kind}"

    def command(self, equipment: str | None, kind: str) -> str:
        """A command to the gateway, at the level that it is for."""
        return f"{self._level(equipment)}/cmd/{kind}"

    def command_filters(self, equipment: list[str]) -> list[str]:
        """What to subscribe: commands for each equipment, for the site and for the gateway."""
        return [f"{self._level(path)}/cmd/+" for path in [*equipment, None]] + [f"{self._gateway}/cmd/+"]

    def parse_command(self, topic: str) -> CommandTopic | None:
        """What a command's topic says, None if it is no command topic."""
        level, separator, kind = topic.rpartition("/cmd/")
        if not separator or not kind:
            return None
        if level in (self._site, self._gateway):
            return CommandTopic(kind, None)
        return CommandTopic(kind, level.removeprefix(f"{self._root}/"))

    def _level(self, equipment: str | None) -> str:
        return self._site if equipment is None else f"{self._root}/{equipment}"
