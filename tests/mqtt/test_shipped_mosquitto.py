"""The rights of the shipped broker, one by one: who writes what, who hears what, who does not get in at all."""

from collections.abc import Callable
from typing import Final

import paho.mqtt.client as paho
import pytest

from tests.brokers import until
from tests.shipped_mosquitto import DENIED, USERS, Party, ShippedMosquitto

SITE: Final = "mfg/v1/ACME/HZ"
L1: Final = f"{SITE}/PACK/L1"
L2: Final = f"{SITE}/PACK/L2"


def of_line(line: str, gateway: str) -> dict[str, set[str]]:
    """Topics of the line of one gateway, and who may write them."""
    levels = (line, f"{line}/FIL01")
    data = {f"{level}/{kind}": {gateway} for level in levels for kind in ("evt/x", "tel", "now/state", "res/x")}
    return data | {f"{level}/cmd/params.download": {"mes"} for level in levels}


def of_gateway(gateway: str) -> dict[str, set[str]]:
    branch = f"{SITE}/_gw/{gateway}"
    data = {f"{branch}/{kind}": {gateway} for kind in ("status", "evt/gateway.birth", "now/messages", "res/replay")}
    return data | {f"{branch}/cmd/replay": {"mes"}}


WRITERS: Final = {
    **of_line(L1, "edge-01"),
    **of_line(L2, "edge-02"),
    **of_gateway("edge-01"),
    **of_gateway("edge-02"),
    # Somebody's own name below `_gw` makes nobody a gateway.
    **{f"{SITE}/_gw/{user}/evt/gateway.birth": set() for user in ("mes", "dashboard")},
    f"{SITE}/evt/change.accepted": {"edge-01", "edge-02"},
    f"{SITE}/res/dispatch.order": {"edge-01", "edge-02"},
    f"{SITE}/_res/mes-1": {"edge-01", "edge-02"},
    f"{SITE}/cmd/dispatch.order": {"mes"},
    "mfg/v1/ACME/OTHER/cmd/dispatch.order": set(),
    "mfg/v1/ACME/OTHER/PACK/L1/FIL01/evt/x": set(),
    "elsewhere": set(),
    "$SYS/broker/uptime": set(),
}
"""Topics of every class, and who may write them."""


def test_s09_everybody_writes_exactly_what_is_his_and_is_told_where_it_is_not(
    shipped: ShippedMosquitto, record_property: Callable[[str, object], None]
) -> None:
    allowed: dict[str, set[str]] = {topic: set() for topic in WRITERS}
    for user in USERS:
        with Party(shipped, user) as party:
            for topic in WRITERS:
                if party.publish(topic) != DENIED:
                    allowed[topic].add(user)
    assert allowed == WRITERS
    pairs = len(WRITERS) * len(USERS)
    record_property("figure", f"{pairs} pairs of user and topic: each as the rights say, each denial told by code 135")


def test_s09_everybody_hears_exactly_what_is_for_him(shipped: ShippedMosquitto) -> None:
    """A gateway hears commands to itself and its own data; the MES all; a screen all but commands."""
    topics = {topic for topic, writers in WRITERS.items() if writers}
    branch = f"{SITE}/_gw"
    expected = {
        "mes": topics,
        "dashboard": {topic for topic in topics if "/cmd/" not in topic},
        "edge-01": {topic for topic in topics if not topic.startswith((L2, f"{branch}/edge-02"))},
        "edge-02": {topic for topic in topics if not topic.startswith((L1, f"{branch}/edge-01"))},
    }
    assert {user: heard_by(shipped, user, topics) for user in USERS} == expected


def heard_by(shipped: ShippedMosquitto, user: str, topics: set[str]) -> set[str]:
    """What a user hears of everything, when whoever may publish does."""
    last = f"{SITE}/evt/change.applied"
    with Party(shipped, user, "#") as listener:
        for writer in ("mes", "edge-02", "edge-01"):
            with Party(shipped, writer) as party:
                for topic in topics:
                    party.publish(topic)
                party.publish(last)
        until(lambda: bool(listener.heard_on(last)), "all before it was heard")
        return {topic for topic, _, _ in listener.heard} - {last}


def test_s09_the_brokers_own_figures_are_for_the_mes_and_for_screens(shipped: ShippedMosquitto) -> None:
    own = f"{SITE}/_gw/edge-01/now/messages"
    with Party(shipped, "edge-01") as gateway:
        gateway.publish(own, b"1", retain=True)
    for user, hears in {"mes": True, "dashboard": True, "edge-01": False}.items():
        with Party(shipped, user, "$SYS/broker/version", own) as party:
            until(lambda listener=party: bool(listener.heard_on(own)), "what was asked for last")
            assert bool(party.heard_on("$SYS/broker/version")) == hears, user


def test_s09_what_is_retained_can_be_cleared_by_its_gateway_alone(shipped: ShippedMosquitto) -> None:
    """An empty retained message takes away what holds now, from everybody who comes later."""
    now = f"{L1}/FIL01/now/state"
    with Party(shipped, "edge-01") as gateway:
        gateway.publish(now, b"1", retain=True)
        for user in ("mes", "dashboard", "edge-02"):
            with Party(shipped, user) as other:
                assert other.publish(now, b"", retain=True) == DENIED
        with Party(shipped, "dashboard", now) as screen:
            until(lambda: screen.heard == [(now, b"1", True)], "what holds now is still there")
        assert gateway.publish(now, b"", retain=True) != DENIED


@pytest.mark.parametrize("login", [(None, None), ("edge-01", "wrong"), ("edge-01", ""), ("nobody", "x")])
def test_s09_without_the_right_password_nobody_gets_in(
    shipped: ShippedMosquitto, login: tuple[str | None, str | None]
) -> None:
    codes: list[str] = []
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, reconnect_on_failure=False)
    client.on_connect = lambda _, __, ___, code, ____: codes.append(str(code))
    client.username_pw_set(*login)
    client.connect("127.0.0.1", shipped.port)
    client.loop_start()
    until(lambda: bool(codes), "an answer")
    client.disconnect()
    client.loop_stop()
    client._reset_sockets()
    assert codes == ["Not authorized"]
