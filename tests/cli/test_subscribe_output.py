"""What `gateway subscribe` writes: every report in words, every event on one line."""

import json
from pathlib import Path

import msgspec
import pytest

from gateway.cli.event_words import words
from gateway.cli.subscribe_output import Record, summarise
from gateway.consumer.messages import EventMessage, read
from gateway.consumer.reports import Asked, Filled, GivenUp, LastAsked, NotTaken, Reused, StreamName, Told, Unread
from tests.consumer.fake_gateway import ROOT, FakeGateway
from tests.consumer.hearing import Hearing

FIL = "ACME/HZ/PACK/L1/FIL01"
STREAM = StreamName("edge-01", "e1", FIL)


def event(payload: bytes | None = None, rev: int = 1) -> EventMessage:
    sent = FakeGateway().event(FIL, "alarm.raised", rev=rev, code="E12", text="no bottles")
    read_event = read(ROOT, sent.topic, payload or sent.payload)
    assert isinstance(read_event, EventMessage)
    return read_event


def test_people_see_time_machine_type_words_and_what_is_special(capsys: pytest.CaptureFixture[str]) -> None:
    record = Record(as_json=False, keep=lambda: None)
    record.hear(Told(event(), late=False))
    record.hear(Told(event(rev=2), late=True))
    record.keep()
    line = "2026-03-02T06:00:00.000Z  FIL01       alarm.raised          E12 no bottles"
    assert capsys.readouterr().out.splitlines() == [line, f"{line}  [revision 2]  [late]"]


def test_nobody_writes_on_the_terminal_by_what_a_message_says(capsys: pytest.CaptureFixture[str]) -> None:
    record = Record(as_json=False, keep=lambda: None)
    sent = FakeGateway().event(FIL, "alarm.raised", code="E12", text="\x1b[2Jgone\nnew line")
    message = read(ROOT, sent.topic, sent.payload)
    assert isinstance(message, EventMessage)
    record.hear(Told(message, late=False))
    record.hear(Unread("a\x1b[2J", "bad"))
    told = capsys.readouterr()
    assert told.out.count("\n") == told.err.count("\n") == 1
    assert "\x1b" not in told.out + told.err


def test_programs_get_the_bytes_that_came_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    record = Record(as_json=True, keep=lambda: None)
    came = event()
    spread = json.dumps(json.loads(came.payload), indent=2).encode()
    record.hear(Told(came, late=False))
    record.hear(Told(event(spread), late=False))
    record.keep()
    first, second = capsys.readouterr().out.encode().splitlines()
    assert first == came.payload
    assert msgspec.json.decode(second) == msgspec.json.decode(first)


def test_whoever_is_killed_in_the_midst_of_a_burst_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A buffer that is full would be written out wherever that is in a line."""
    file = tmp_path / "events.jsonl"
    with file.open("w") as out:
        monkeypatch.setattr("sys.stdout", out)
        record = Record(as_json=True, keep=lambda: None)
        for _ in range(100):
            record.hear(Told(event(), late=False))
        assert file.read_bytes() == b"", "nothing is out before it is safe"
        record.keep()
        assert file.read_bytes() == (event().payload + b"\n") * 100


@pytest.mark.parametrize(("before", "between"), [(b"", b""), (b"{}\n", b""), (b'{"id": "a', b"\n")])
def test_a_line_that_a_power_cut_tore_does_not_spoil_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes, between: bytes
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(before)
    with file.open("a") as out:
        monkeypatch.setattr("sys.stdout", out)
        record = Record(as_json=True, keep=lambda: None)
        record.hear(Told(event(), late=False))
        record.keep()
    assert file.read_bytes() == before + between + event().payload + b"\n"


def test_every_note_names_the_stream_the_numbers_and_what_follows(capsys: pytest.CaptureFixture[str]) -> None:
    record = Record(as_json=False, keep=lambda: None)
    gateways = StreamName("edge-01", "e1", "ACME/HZ", of_nobody=True)
    for report in (
        Asked(STREAM, "ACME/HZ", 4, 9, 5, "c1", again=False), Asked(STREAM, "ACME/HZ", 4, 4, 1, "c2", again=True),
        Filled(STREAM, 4, 9, 5, 5), Filled(gateways, 4, 9, 1, 1_000), GivenUp(STREAM._replace(kind="tel"), 7, 8, "why"),
        NotTaken(gateways, "no answer came"), Reused(STREAM, 5), Unread("a/b", "bad"), LastAsked(STREAM, "ACME/HZ", "c3"),
    ):  # fmt: skip
        record.hear(report)
    assert capsys.readouterr().err.splitlines() == [
        f"missing  {FIL} 4-9: 5 events, asked for",
        f"missing  {FIL} 4: 1 event, asked for again",
        f"filled   {FIL} 4-9: 5 events came",
        "filled   gateway edge-01 4-9: 1 of 1,000 events came",
        f"lost     {FIL} tel 7-8: why",
        "waiting  gateway edge-01: no answer came; asked for again later",
        f"doubled  {FIL} 5: two events have this number; do two gateways have one id, or does one run on an old copy?",
        "unread   a/b: bad",
    ]


def test_the_end_says_what_is_not_known_and_does_not_claim_that_all_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    gateway, hearing = FakeGateway(), Hearing()
    hearing.take(gateway.event(FIL), gateway.event(None, "change.accepted"))
    summarise(hearing.reconciler)
    hearing.reconciler.call_roll(hearing.now)
    summarise(hearing.reconciler)
    told = capsys.readouterr().err.splitlines()
    assert told[1:4] == [
        "ACME/HZ (no equipment)\t1\t0\t0\t0\t0\t0\t0\t0",
        f"{FIL}\t1\t0\t0\t0\t0\t0\t0\t0",
        "result   2 events; nothing is missing",
    ]
    assert told[-2:] == [
        "unsure   the end of 2 streams: no gateway told the last number",
        "result   2 events; nothing is known to be missing",
    ]


def test_an_event_without_words_of_its_own_shows_its_first_fields() -> None:
    assert words("tool.wear", {"tool": "knife", "used": 5, "parts": [1], "limit": None}) == "tool knife, used 5"
    assert words("x", dict.fromkeys("abcdef", 1)) == "a 1, b 1, c 1, d 1, e 1, …"
    assert words("equipment.state", {"state": "RUN"}) == "state RUN", "a gateway of another version"
