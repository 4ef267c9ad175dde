"""Probes of the self-test: messages that mean nothing, on every class of topics, and how a consumer knows them.

Each has the `type` `gateway.selftest`, and none is retained. Where a class has only one topic a probe goes there: for
a reader of `tel` it is a batch without rows, for one of `status` it says what holds already: offline while the
gateway tests itself, but online where somebody tries its topics while it runs.
"""

from collections.abc import Sequence
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta, field

from gateway.domain.contract.event_data import Level
from gateway.mqtt.payloads import encode_json
from gateway.mqtt.topics import Topics

SELF_TEST: Final = "gateway.selftest"

State = Literal["offline", "online"]


class SelfTestProbe(msgspec.Struct, kw_only=True):
    """A test message that means nothing; pass over whatever has this `type`. Never retained.

    Over MQTT 3.1.1 a gateway sends them at every connect, before anything else, to see whether the broker passes on
    what it publishes; `gateway check --connect` sends them as well. They have no `seq` and are not stored.
    """

    type: Literal["gateway.selftest"] = SELF_TEST
    v: Annotated[int, Meta(description="version of the contract")] = 1
    gateway: str = field(name="gw")
    equipment: str | None = field(name="eq")
    test: Annotated[str, Meta(description="another one for each connection")]
    state: Annotated[State, Meta(description="for who reads it as a status: what holds already")] = "offline"
    names: Annotated[list[str], Meta(description="empty, for who reads it as run parameters")] = []
    rows: Annotated[list[list[int]], Meta(description="empty, as names")] = []


class Probe(NamedTuple):
    """A topic, and what is published there."""

    topic: str
    payload: bytes


def probes(topics: Topics, gateway: str, equipment: Sequence[str], test: str, state: State = "offline") -> list[Probe]:
    """One for each class of topics that the gateway publishes on, of each equipment. `test` is in all of them."""
    made = [
        Probe(topic, encode_json(SelfTestProbe(gateway=gateway, equipment=path, test=test)))
        for path in equipment
        for topic in topics.probes(path, SELF_TEST)
    ]
    own = encode_json(SelfTestProbe(gateway=gateway, equipment=None, test=test, state=state))
    return made + [Probe(topic, own) for level in (None, Level.GATEWAY) for topic in topics.probes(level, SELF_TEST)]
