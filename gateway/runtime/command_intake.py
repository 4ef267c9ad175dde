"""What is said against a command before the core sees it: how it came, and whether it is one at all."""

from collections import Counter
from collections.abc import Collection
from typing import Final

import structlog

from gateway.domain.contract.envelope import Sender
from gateway.domain.contract.event_data import Level
from gateway.domain.contract.objections import Objection
from gateway.domain.contract.requests import EQUIPMENT_COMMANDS, GATEWAY_COMMANDS, Command
from gateway.domain.values import Timestamp
from gateway.mqtt.client import Incoming
from gateway.mqtt.payloads import Refused, digest_of
from gateway.mqtt.topics import CommandTopic, Topics

log = structlog.get_logger()

_OF_THE_GATEWAY: Final = frozenset(kind.type for kind in GATEWAY_COMMANDS)

LONGEST_TOPIC: Final = 1_024
"""Bytes of a Response Topic at most, and of Correlation Data."""

BURST: Final = 50
"""Messages without a usable id that are answered at once; a flood of rubbish must not fill the outbox."""
INTERVAL: Final = 10_000
"""Milliseconds after which as many are answered again, and what was left out is logged."""


def sender_of(incoming: Incoming, command: Command | Refused) -> Sender:
    """Who sent it, and where else its answers go. A message that is no command has no digest."""
    topic, correlation = incoming.response_topic or None, incoming.correlation_data
    if isinstance(command, Refused):
        return Sender(topic=topic, correlation=correlation)
    return Sender(command.corr, digest_of(command), topic, correlation)


def response_objection(sender: Sender, prefixes: Collection[str]) -> Objection | None:
    """Why no answer goes to the Response Topic: it would let whoever may command publish where the gateway may."""
    if sender.topic is None:
        return None
    is_topic = len(sender.topic.encode()) <= LONGEST_TOPIC and not any(letter in sender.topic for letter in "+#\0")
    if len(sender.correlation or b"") > LONGEST_TOPIC:
        return Objection("response_topic", f"Correlation Data may have {LONGEST_TOPIC} bytes")
    if is_topic and any(sender.topic.startswith(prefix) for prefix in prefixes):
        return None
    text = f"{sender.topic[:200]!r} is not below {', '.join(prefixes)}; mqtt: response_topics: in the YAML names others"
    return Objection("response_topic", text)


class Rubbish:
    """Messages that are no commands and have no id: the first of an interval are answered, the others counted."""

    def __init__(self) -> None:
        self._began = 0
        self._counts: Counter[str] = Counter()

    def may_be_answered(self, objection: Objection, now: Timestamp) -> bool:
        """True for the first few of an interval; what was left out is logged when the next interval begins."""
        if not 0 <= now - self._began < INTERVAL:
            if (left_out := self._counts.total() - BURST) > 0:
                log.warning("messages that are no commands were not answered", number=left_out, why=dict(self._counts))
            self._began = now
            self._counts.clear()
        self._counts[objection.code] += 1
        return self._counts.total() <= BURST


def answered_at(topic: CommandTopic, known: Collection[str]) -> str | None:
    """Where a command that came on this topic is answered: at its equipment, the gateway, or the site (None).

    Only commands for the gateway itself are answered there; any other is taken on its topics too, for the site.
    """
    if topic.level is Level.GATEWAY and topic.type in _OF_THE_GATEWAY:
        return Level.GATEWAY
    return topic.equipment if topic.equipment in known else None


def objection_to(
    incoming: Incoming, command: Command | Refused, path: str | None, known: Collection[str], topics: Topics
) -> Objection | None:
    """Why this message is not handed on, None if it is.

    `path` is where it is answered, `known` are the paths of all equipment.
    """
    if incoming.retain:
        return Objection("retained", "a retained command would be carried out at every reconnect")
    if isinstance(command, Refused):
        return command.objection
    if isinstance(command, GATEWAY_COMMANDS):
        right = topics.command(Level.GATEWAY, command.type)
        return None if path is Level.GATEWAY else Objection("wrong_topic", f"it is for the gateway itself: {right}")
    if path is None or not isinstance(command, EQUIPMENT_COMMANDS) or command.eq in _names(path):
        return None
    if any(command.eq in _names(other) for other in known):
        # A broker grants rights by topic: who may command one machine must not reach another by a key of the JSON.
        return Objection("wrong_topic", f"it is for {command.eq} and came on a topic of {path}")
    return None  # an equipment that nobody knows is the core's to tell


def _names(path: str) -> tuple[str, str]:
    return path, path.rpartition("/")[2]
