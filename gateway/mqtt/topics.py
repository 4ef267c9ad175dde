"""Where messages go: `{root}/{enterprise}/{site}/{area}/{line}/{unit}/…`, and what hangs below the gateway itself."""

from typing import Final, NamedTuple

from gateway.domain.contract.event_data import Level
from gateway.domain.contract.events import EVENT_TYPES

OF_THE_GATEWAY: Final = frozenset(kind.type for kind in EVENT_TYPES if Level.GATEWAY in kind.levels)


class CommandTopic(NamedTuple):
    """A topic that a command came on: its type, its level, and the equipment's path below which it is, if any."""

    type: str
    level: Level
    equipment: str | None = None


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

    def now(self, kind: str) -> str:
        """Retained: what holds of the gateway itself."""
        return f"{self._gateway}/now/{kind}"

    def answer(self, path: str | None, kind: str) -> str:
        """The answer to a command: at an equipment, at the site (None), or at the gateway (`Level.GATEWAY`)."""
        return f"{self._level(path)}/res/{kind}"

    def command(self, path: str | None, kind: str) -> str:
        """A command to the gateway: for an equipment, for the site (None), or for the gateway (`Level.GATEWAY`)."""
        return f"{self._level(path)}/cmd/{kind}"

    def command_filters(self, equipment: list[str]) -> list[str]:
        """What to subscribe: commands for each equipment, for the site and for the gateway."""
        return [f"{self._level(path)}/cmd/+" for path in [*equipment, None, Level.GATEWAY]]

    def probes(self, path: str | None, kind: str) -> list[str]:
        """One topic for each class that is published at a level: an equipment, the site (None), `Level.GATEWAY`."""
        level = self._level(path)
        both = [f"{level}/evt/{kind}", f"{level}/res/{kind}"]
        if path is None:
            return both
        return [*both, f"{level}/now/{kind}", self.status if path is Level.GATEWAY else f"{level}/tel"]

    def parse_command(self, topic: str) -> CommandTopic | None:
        """What a command's topic says, None if it is no command topic."""
        level, separator, kind = topic.rpartition("/cmd/")
        if not separator or not kind:
            return None
        if level == self._gateway:
            return CommandTopic(kind, Level.GATEWAY)
        if level == self._site:
            return CommandTopic(kind, Level.SITE)
        return CommandTopic(kind, Level.EQUIPMENT, level.removeprefix(f"{self._root}/"))

    def _level(self, path: str | None) -> str:
        if path is Level.GATEWAY:
            return self._gateway
        return self._site if path is None else f"{self._root}/{path}"
