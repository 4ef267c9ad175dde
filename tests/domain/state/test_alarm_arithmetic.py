"""Whatever an alarm does, and whenever the gateway dies: every time it came up is told, or counted in what is told."""

from typing import NamedTuple

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.contract.events import AlarmAcked, AlarmCleared, AlarmRaised
from gateway.domain.state.alarm_sources import AlarmBit
from gateway.domain.state.alarms import AlarmEvent, AlarmMemory, Alarms, AlarmSpec, Delays
from gateway.domain.tags.expressions import Inputs
from gateway.domain.values import Timestamp

STEPS = st.lists(
    st.tuples(st.integers(1, 8_000), st.integers(0, 3), st.integers(0, 3), st.booleans()), min_size=1, max_size=60
)
"""A pause, the two bits of the word, the two of the acknowledged word, and whether the gateway is killed after it."""

DELAYS = st.builds(Delays, st.sampled_from([0, 1_000, 5_000]), st.sampled_from([0, 2_000, 10_000]))
CODES = ("A", "B")


class Played(NamedTuple):
    events: list[tuple[Timestamp, AlarmEvent]]
    came_up: dict[str, int]
    memory: AlarmMemory


def play(steps: list[tuple[int, int, int, bool]], delays: Delays, *, acked: bool) -> Played:
    """Two alarms of one word, from a first look at nothing on."""
    bits = tuple(AlarmBit(code, 0, bit, 1 if acked else None) for bit, code in enumerate(CODES))
    spec, inputs = AlarmSpec(bits=bits, all_delays=delays), Inputs(["word", "acked"])
    inputs.statuses = [0, 0]
    alarms, events, came_up = Alarms(spec, AlarmMemory()), [], dict.fromkeys(CODES, 0)
    now = before = 0
    for pause, word, acknowledged, is_killed in [(1, 0, 0, False), *steps]:
        now += pause
        inputs.values = [word, acknowledged]
        events += alarms.take_scan(inputs, {0, 1}, now)
        for bit, code in enumerate(CODES):
            came_up[code] += (word & ~before) >> bit & 1
        before = word
        if is_killed:
            alarms = Alarms(spec, msgspec.json.decode(msgspec.json.encode(alarms.memory), type=AlarmMemory))
    return Played(events, came_up, alarms.memory)


@given(STEPS, DELAYS, st.booleans())
def test_every_time_it_came_up_is_told_or_counted(
    steps: list[tuple[int, int, int, bool]], delays: Delays, acked: bool
) -> None:
    played = play(steps, delays, acked=acked)
    for code in CODES:
        told = [event for _, event in played.events if event.code == code]
        raised = [event for event in told if isinstance(event, AlarmRaised)]
        again = sum(event.repeats for event in told if isinstance(event, AlarmCleared))
        brief = sum(event.suppressed for event in raised) + played.memory.brief.get(code, 0)
        still = played.memory.open.get(code)
        waiting = 0 if still is None else still.repeats * (still.cleared is None) + (not still.is_published)
        assert played.came_up[code] == len(raised) + again + brief + waiting


@given(STEPS, DELAYS, st.booleans())
def test_what_is_told_of_an_alarm_has_its_order_its_times_and_no_gap(
    steps: list[tuple[int, int, int, bool]], delays: Delays, acked: bool
) -> None:
    told: dict[str, list[tuple[Timestamp, AlarmEvent]]] = {}
    for at, event in play(steps, delays, acked=acked).events:
        told.setdefault(event.occ, []).append((at, event))
    for events in told.values():
        kinds = [type(event) for _, event in events]
        assert kinds[0] is AlarmRaised
        assert len(kinds) == len(set(kinds)) <= 3, "raised, acked and cleared at most once each"
        times = {type(event): at for at, event in events}
        for at, event in events:
            if isinstance(event, AlarmCleared):
                assert at - times[AlarmRaised] >= delays.on, "what is shorter than the on-delay is not told"
                assert round(event.dur_s * 1000) == at - times[AlarmRaised]
            if isinstance(event, AlarmAcked):
                assert acked
                assert at >= times[AlarmRaised]
