"""Commands that the core never sees: refused at the door, each by name."""

import pytest

from gateway.domain.contract.event_data import Level
from gateway.domain.contract.requests import OrderEnd, QuarantineRetry, Replay
from gateway.mqtt.client import Incoming
from gateway.mqtt.topics import CommandTopic, Topics
from gateway.runtime.command_intake import answered_at, objection_to

FIL01, LBL01 = "ACME/HZ/PACK/L1/FIL01", "ACME/HZ/PACK/L1/LBL01"
TOPICS = Topics("mfg/v1", "ACME/HZ", "edge-01")
ON_ITS_TOPIC = Incoming("cmd/order.end", b"", False, 1, 1)


@pytest.mark.parametrize("eq", ["LBL01", LBL01])
def test_a_command_for_another_machine_than_its_topic_names_is_refused(eq: str) -> None:
    """Who has the broker's right to command one machine has it for that one alone."""
    found = objection_to(ON_ITS_TOPIC, OrderEnd(cmd="C", eq=eq), FIL01, {FIL01, LBL01}, TOPICS)
    assert found is not None
    assert (found.code, found.detail) == ("wrong_topic", f"it is for {eq} and came on a topic of {FIL01}")


@pytest.mark.parametrize(("eq", "path"), [("FIL01", FIL01), (FIL01, FIL01), ("LBL01", None), ("UNKNOWN", FIL01)])
def test_a_command_on_its_own_topic_or_above_is_handed_on_and_the_unknown_is_left_to_the_core(
    eq: str, path: str | None
) -> None:
    assert objection_to(ON_ITS_TOPIC, OrderEnd(cmd="C", eq=eq), path, {FIL01, LBL01}, TOPICS) is None


def test_a_retained_command_is_refused_whatever_it_says() -> None:
    found = objection_to(ON_ITS_TOPIC._replace(retain=True), OrderEnd(cmd="C", eq="FIL01"), FIL01, {FIL01}, TOPICS)
    assert found is not None
    assert found.code == "retained"


@pytest.mark.parametrize("path", [None, FIL01])
@pytest.mark.parametrize(
    "command", [Replay(cmd="R", eq="FIL01", from_seq=1, to_seq=2), QuarantineRetry(cmd="R")], ids=lambda c: c.type
)
def test_what_is_for_the_gateway_itself_is_refused_elsewhere_with_the_topic_that_is_right(
    path: str | None, command: Replay | QuarantineRetry
) -> None:
    found = objection_to(ON_ITS_TOPIC, command, path, {FIL01}, TOPICS)
    assert found is not None
    right = f"mfg/v1/ACME/HZ/_gw/edge-01/cmd/{command.type}"
    assert (found.code, found.detail) == ("wrong_topic", f"it is for the gateway itself: {right}")
    assert objection_to(ON_ITS_TOPIC, command, Level.GATEWAY, {FIL01}, TOPICS) is None


@pytest.mark.parametrize(
    ("topic", "where"),
    [
        (CommandTopic("replay", Level.GATEWAY), Level.GATEWAY),
        (CommandTopic("quarantine.retry", Level.GATEWAY), Level.GATEWAY),
        (CommandTopic("dispatch.order", Level.GATEWAY), None),
        (CommandTopic("replay", Level.SITE), None),
        (CommandTopic("replay", Level.EQUIPMENT, FIL01), FIL01),
        (CommandTopic("order.end", Level.EQUIPMENT, LBL01), None),
    ],
)
def test_a_command_is_answered_beside_the_topic_that_it_came_on(topic: CommandTopic, where: str | None) -> None:
    """Only those for the gateway itself are answered at its own level; any other goes on being answered at the site."""
    assert answered_at(topic, {FIL01}) == where
