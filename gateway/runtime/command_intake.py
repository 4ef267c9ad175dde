"""What is said against a command before the core sees it: how it came, and whether it is one at all."""

from collections.abc import Collection

from gateway.domain.objections import Objection
from gateway.domain.requests import EQUIPMENT_COMMANDS, Command
from gateway.mqtt.client import Incoming
from gateway.mqtt.payloads import Refused


def objection_to(
    incoming: Incoming, command: Command | Refused, path: str | None, known: Collection[str]
) -> Objection | None:
    """Why this message is not handed on, None if it is.

    `path` is the equipment that its topic names, None at the levels above; `known` are the paths of all equipment.
    """
    if incoming.retain:
        return Objection("retained", "a retained command would be carried out at every reconnect")
    if isinstance(command, Refused):
        return command.objection
    if path is None or not isinstance(command, EQUIPMENT_COMMANDS) or command.eq in _names(path):
        return None
    if any(command.eq in _names(other) for other in known):
        # A broker grants rights by topic: who may command one machine must not reach another by a key of the JSON.
        return Objection("wrong_topic", f"it is for {command.eq} and came on a topic of {path}")
    return None  # an equipment that nobody knows is the core's to tell


def _names(path: str) -> tuple[str, str]:
    return path, path.rpartition("/")[2]
