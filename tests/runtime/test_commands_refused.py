"""Commands that the core never sees: refused at the door, each by name."""

import pytest

from gateway.domain.requests import OrderEnd
from gateway.mqtt.client import Incoming
from gateway.runtime.command_intake import objection_to

FIL01, LBL01 = "ACME/HZ/PACK/L1/FIL01", "ACME/HZ/PACK/L1/LBL01"
ON_ITS_TOPIC = Incoming("cmd/order.end", b"", False, 1, 1)


@pytest.mark.parametrize("eq", ["LBL01", LBL01])
def test_a_command_for_another_machine_than_its_topic_names_is_refused(eq: str) -> None:
    """Who has the broker's right to command one machine has it for that one alone."""
    found = objection_to(ON_ITS_TOPIC, OrderEnd(cmd="C", eq=eq), FIL01, {FIL01, LBL01})
    assert found is not None
    assert (found.code, found.detail) == ("wrong_topic", f"it is for {eq} and came on a topic of {FIL01}")


@pytest.mark.parametrize(("eq", "path"), [("FIL01", FIL01), (FIL01, FIL01), ("LBL01", None), ("UNKNOWN", FIL01)])
def test_a_command_on_its_own_topic_or_above_is_handed_on_and_the_unknown_is_left_to_the_core(
    eq: str, path: str | None
) -> None:
    assert objection_to(ON_ITS_TOPIC, OrderEnd(cmd="C", eq=eq), path, {FIL01, LBL01}) is None


def test_a_retained_command_is_refused_whatever_it_says() -> None:
    found = objection_to(ON_ITS_TOPIC._replace(retain=True), OrderEnd(cmd="C", eq="FIL01"), FIL01, {FIL01})
    assert found is not None
    assert found.code == "retained"
