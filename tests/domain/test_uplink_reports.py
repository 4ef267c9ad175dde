"""What the gateway says of its way to the broker: births, and what was dropped, refused or lost with a file."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.domain.effects import Effects, GatewayIdentity, Recorder, SequenceMemory
from gateway.domain.times import format_timestamp
from gateway.domain.uplink import (
    BrokerName,
    DroppedMessages,
    LostMessages,
    Notice,
    NumberedNotice,
    QuarantinedMessages,
    SalvagedRecord,
)
from gateway.domain.uplink_reports import MOST, births
from gateway.mqtt.payloads import encode_event
from tests.domain.one_machine import machine, tags
from tests.stage import LINE, Stage, at

FIL01, LBL01 = f"{LINE}/FIL01", f"{LINE}/LBL01"
TOPIC = "mfg/v1/ACME/HZ/PACK/L1/FIL01/evt/alarm.raised"
MOSQUITTO = BrokerName("127.0.0.1:1883", "MQTT 5")


def notices(stage: Stage, *told: Notice) -> None:
    """The store has these to tell, numbered 1, 2 …"""
    stage.core.handle_notices([NumberedNotice(number, notice) for number, notice in enumerate(told, 1)], stage.now)
    stage.commit()


def published(stage: Stage, kind: str) -> list[dict[str, Any]]:
    """The events of a type, as they go out."""
    return [msgspec.json.decode(encode_event(event)) for event in stage.events if event.type == kind]


def dropped(
    equipment: str | None, first: int, last: int, begin: str = "06:00:00", end: str = "06:00:01"
) -> DroppedMessages:
    return DroppedMessages(equipment, "tel", first, last, last - first + 1, at(begin), at(end))


def refused(topic: str = TOPIC, first: int = 7, last: int = 9) -> QuarantinedMessages:
    return QuarantinedMessages(topic, "Not authorized", 3, first, last, at("06:00:00"), at("06:00:02"))


# --- birth ------------------------------------------------------------------------------------------------------------


def test_a_connect_tells_the_last_number_of_every_stream_by_then() -> None:
    stage = Stage()
    stage.start_line()
    numbers = {
        path: max((event.seq for event in stage.events if event.equipment == path), default=0)
        for path in (FIL01, LBL01, f"{LINE}/PAL01")
    }
    messages = {path: sum(tel.equipment == path for tel in stage.telemetry) for path in numbers}
    stage.core.handle_broker(True, stage.now, stage.now, MOSQUITTO)
    stage.show("FIL01", "06:00:00", state=6)
    stage.commit()
    (birth,) = published(stage, "gateway.birth")
    assert birth["data"] == {
        "configuration": stage.plant.fingerprint, "version": "0", "broker": "127.0.0.1:1883", "protocol": "MQTT 5",
        "part": 1, "parts": 1,
        "equipment": [{"eq": path, "seq": seq, "tel": messages[path]} for path, seq in numbers.items()],
    }  # fmt: skip
    assert numbers[FIL01] > 0
    assert any(messages.values())


def test_every_connect_is_told_and_one_without_a_broker_is_not() -> None:
    stage = Stage()
    stage.core.handle_broker(True, stage.now, stage.now)
    for second in range(2):
        stage.core.handle_broker(True, stage.now + second, stage.now + second, MOSQUITTO)
    stage.commit()
    assert len(stage.told("gateway.birth")) == 2
    assert len({event.id for event in stage.events}) == len(stage.events)


def test_the_outage_is_told_before_the_birth_that_ends_it() -> None:
    stage = Stage()
    stage.core.handle_broker(False, stage.now, stage.now)
    stage.core.handle_broker(True, stage.now, stage.now, MOSQUITTO)
    stage.commit()
    assert [event.type for event in stage.events] == ["gateway.outage", "gateway.birth"]


def test_lanes_are_streams_of_their_own(tmp_path: Path) -> None:
    body = (
        tags(strokes="uint32", left="uint32")
        + "    counters: {good: {tag: strokes, max: 4294967295, max_rate: 5/s}}\n"
        + "    lanes:\n      left:\n        counters: {good: {tag: left, max: 4294967295, max_rate: 5/s}}\n"
    )
    stage = machine(tmp_path, body)
    stage.core.handle_broker(True, stage.now, stage.now, MOSQUITTO)
    stage.commit()
    ((_, birth),) = stage.told("gateway.birth")
    assert [one["eq"] for one in birth["equipment"]] == ["ACME/HZ/PACK/L1/M1", "ACME/HZ/PACK/L1/M1.left"]


def test_a_thousand_equipments_are_two_messages_of_less_than_64_kilobytes() -> None:
    """With paths of 60 characters and numbers of nine digits."""
    identity, effects = GatewayIdentity("edge-01", "0" * 12, "0" * 12, "0.1.0"), Effects()
    paths = [f"ACME-BEVERAGES/HERZOGENAURACH/PACKAGING-HALL-2/L{n:04}/FILLER{n:04}" for n in range(1_000)]
    recorders: dict[str | None, Recorder] = {
        path: Recorder(identity, path, SequenceMemory(100_000_000 + n), effects) for n, path in enumerate(paths)
    }
    site = recorders[None] = Recorder(identity, None, SequenceMemory(), effects)
    messages = dict.fromkeys(paths, 999_999_999)
    for data, moment in births(MOSQUITTO, at("06:00:00"), identity, recorders, messages):
        site.event(data, moment, moment)
    sizes = [len(encode_event(event)) for event in effects.events]
    told = [one.equipment for event in effects.events for one in event.data.equipment]  # type: ignore[attr-defined]
    assert told == paths
    assert len(sizes) == 2
    assert max(sizes) < 64_000
    assert len({event.id for event in effects.events}) == 2


# --- what became of messages ------------------------------------------------------------------------------------------


def test_dropped_messages_are_one_event_with_their_ranges() -> None:
    stage = Stage()
    notices(stage, dropped(FIL01, 11, 610), dropped(LBL01, 1, 400, "06:00:02", "06:00:03"))
    (told,) = published(stage, "gateway.dropped")
    assert told["t_src"] == format_timestamp(at("06:00:03"))
    assert told["data"] == {
        "number": 1, "reason": "record_full", "messages": 1_000,
        "streams": [
            {"eq": FIL01, "stream": "tel", "from_seq": 11, "to_seq": 610, "messages": 600},
            {"eq": LBL01, "stream": "tel", "from_seq": 1, "to_seq": 400, "messages": 400},
        ],
        "from": format_timestamp(at("06:00:00")), "to": format_timestamp(at("06:00:03")),
    }  # fmt: skip
    assert stage.notices_told == [1, 2]


def test_very_many_dropped_ranges_are_several_events_that_differ_in_id() -> None:
    stage = Stage()
    notices(stage, *(dropped(FIL01, n, n) for n in range(1, 2 * MOST + 2)))
    told = stage.told("gateway.dropped")
    assert [len(data["streams"]) for _, data in told] == [MOST, MOST, 1]
    assert [data["messages"] for _, data in told] == [MOST, MOST, 1]
    assert len({event.id for event in stage.events}) == 3
    assert stage.notices_told == list(range(1, 2 * MOST + 2))


def test_refused_messages_are_an_event_for_each_topic() -> None:
    stage = Stage()
    other = "mfg/v1/ACME/HZ/PACK/L1/FIL01/tel"
    notices(stage, refused(), refused(other, 12, 12))
    assert stage.told("gateway.quarantined") == [
        ("06:00:02", {"topic": TOPIC, "reason": "Not authorized", "messages": 3, "first": 7, "last": 9}),
        ("06:00:02", {"topic": other, "reason": "Not authorized", "messages": 3, "first": 12, "last": 12}),
    ]


def test_a_broker_that_refuses_even_that_is_not_told_so_again_and_again() -> None:
    stage = Stage()
    stage.commit()
    notices(stage, refused("mfg/v1/ACME/HZ/_gw/edge-01/evt/gateway.quarantined"))
    assert stage.events == []
    assert stage.notices_told == [1], "the store may forget it: it is counted there"


def test_a_salvaged_record_is_told_with_what_it_lost() -> None:
    stage = Stage()
    lost = (LostMessages(FIL01, "evt", 11, 14, 4), LostMessages(None, "res", 0, None, None))
    notices(stage, SalvagedRecord("malformed", "g.damaged", 20_112, ((48, 51), (60, None)), lost, True, at("06:00:05")))
    (told,) = published(stage, "gateway.salvaged")
    assert told["t_src"] == format_timestamp(at("06:00:05"))
    assert told["data"] == {
        "reason": "malformed", "file": "g.damaged", "rows_saved": 20_112, "new_epoch": True,
        "lost": [
            {"eq": FIL01, "stream": "evt", "from_seq": 11, "to_seq": 14, "messages": 4},
            {"eq": None, "stream": "res", "from_seq": 0, "to_seq": None, "messages": None},
        ],
        "lost_rows": [[48, 51], [60, None]], "part": 1, "parts": 1,
    }  # fmt: skip


@pytest.mark.parametrize(("ranges", "rows"), [(0, 0), (1, MOST + 1), (2 * MOST + 1, 3)])
def test_of_a_badly_damaged_record_every_range_is_told_in_as_many_parts_as_it_needs(ranges: int, rows: int) -> None:
    stage = Stage()
    lost = tuple(LostMessages(FIL01, "evt", n, n, 1) for n in range(ranges))
    notices(stage, SalvagedRecord("malformed", "f", 1, tuple((n, n) for n in range(rows)), lost, False, at("06:00:05")))
    told = [data for _, data in stage.told("gateway.salvaged")]
    assert sum(len(data["lost"]) for data in told) == ranges
    assert sum(len(data["lost_rows"]) for data in told) == rows
    parts = max(1, -(-ranges // MOST), -(-rows // MOST))
    assert [(data["part"], data["parts"]) for data in told] == [(n, parts) for n in range(1, parts + 1)]
    assert len({event.id for event in stage.events}) == parts


@pytest.mark.parametrize("notice", [dropped(FIL01, 1, 9), refused()], ids=lambda n: type(n).__name__)
def test_what_a_crash_left_untold_is_told_under_the_same_id(notice: Notice) -> None:
    """Nothing was committed when the gateway died, so the store has the notice still."""
    ids = []
    for clock in ("06:10:00", "07:20:00"):
        stage = Stage(clock=clock)
        notices(stage, notice)
        ids += [event.id for event in stage.events]
        assert stage.events[0].source_time < at("06:01:00"), "when it happened, not when it is told"
    assert len(ids) == 2
    assert len(set(ids)) == 1
