"""Which broker is tried next, in which version of MQTT, and when it is time to look for a better one."""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from gateway.domain.uplink import BrokerName
from gateway.mqtt.client import BrokerLost
from gateway.mqtt.settings import MqttSettings
from gateway.mqtt.visits import visiting

LONGEST_PAUSE: Final = 3600.0
"""Seconds after which a preferred broker is looked at in any case, however often moving there was in vain."""


class Next(Enum):
    """What follows a connection that was lost or did not come about."""

    AGAIN = auto()
    """The same broker in MQTT 3.1.1, at once; nobody needs to hear of it."""
    ANOTHER = auto()
    """The next broker of the round, at once."""
    WAIT = auto()
    """The round is over; the next one begins, after a pause, with the preferred broker."""


class BrokerChoice:
    """Goes round the brokers in order of preference. `settings` and `modern` are what the next connection is made with.

    `pause` is how long to stay at a broker of second choice before those before it (`better`) are looked at, in
    seconds of plant time. It doubles when a preferred broker lets visitors in but not us.
    """

    def __init__(self, settings: MqttSettings) -> None:
        self._choices = settings.choices()
        self._at = 0
        self._modern = [choice.protocol != "3.1.1" for choice in self._choices]
        self._stood = False
        self._left: int | None = None
        self.pause = settings.return_after

    @property
    def settings(self) -> MqttSettings:
        """Those of the broker whose turn it is."""
        return self._choices[self._at]

    @property
    def modern(self) -> bool:
        """True for MQTT 5."""
        return self._modern[self._at]

    @property
    def name(self) -> BrokerName:
        """How the broker is called in logs and events."""
        return BrokerName(self.settings.place, "MQTT 5" if self.modern else "MQTT 3.1.1")

    @property
    def better(self) -> Sequence[MqttSettings]:
        """The brokers that are preferred to this one."""
        return self._choices[: self._at]

    def accepted(self) -> None:
        """The connection stands. The next outage may end with another broker there: it is asked for MQTT 5 again."""
        self._stood = True
        self._modern[self._at] = self.settings.protocol != "3.1.1"
        if self._left is None or self._at < self._left:
            self.pause = self.settings.return_after
        else:
            self.pause = min(LONGEST_PAUSE, self.pause * 2)
        self._left = None

    def move(self) -> None:
        """Leave this broker for a better one; the next connection is tried with the preferred one."""
        self._left, self._at, self._stood = self._at, 0, False

    def lost(self, lost: BrokerLost) -> Next:
        """What to do now. MQTT 3.1.1 follows at once where 5 is refused, and by turns where nothing is said."""
        if self._stood:
            self._at, self._stood = 0, False
            return Next.WAIT
        if self.settings.protocol == "auto" and (lost.wrong_version or lost.unanswered):
            was_modern, self._modern[self._at] = self.modern, not self.modern
            if was_modern and lost.wrong_version:
                return Next.AGAIN
        self._at = (self._at + 1) % len(self._choices)
        return Next.WAIT if self._at == 0 else Next.ANOTHER


async def visit(settings: MqttSettings) -> str | None:
    """See whether a broker lets us in; None if it does, otherwise why not."""
    try:
        async with visiting(settings, "visit"):
            return None
    except BrokerLost as lost:
        return str(lost)
