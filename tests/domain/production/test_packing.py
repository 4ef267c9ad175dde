"""What is kept of the past takes little room, and is told from what is not as it was kept."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.contract.events import ProductionCount
from gateway.domain.production.packing import LONG, packed, unpacked
from gateway.domain.renumbering import renumbered
from tests.domain.one_machine import machine, tags
from tests.stage import Stage

JSON = st.recursive(st.none() | st.integers(-(2**53), 2**53) | st.text(), st.lists) | st.text(min_size=LONG)


@given(JSON)
def test_what_was_packed_is_unpacked(item: object) -> None:
    assert msgspec.json.decode(unpacked(packed(item))) == item


def test_what_an_older_gateway_kept_is_read_as_it_is() -> None:
    assert unpacked(b'{"start":1}') == b'{"start":1}'
    assert packed({"start": 1}) == b'{"start":1}', "what is short stays as it is"


@pytest.mark.parametrize(
    "spoiled", [b"\x78", b"\x78\x01 and so on", packed("x" * LONG)[:-1], packed("x" * LONG)[:-4] + b"abcd"]
)
def test_what_is_not_as_it_was_packed_is_refused(spoiled: bytes) -> None:
    with pytest.raises(ValueError, match="not as it was packed"):
        unpacked(spoiled)


def test_a_new_epoch_leaves_the_past_as_it_is() -> None:
    kept = {"S/M1|window|1795422996000": packed(list(range(LONG))), "S/M1": b'{"sequence":{"events":7}}'}
    assert renumbered(kept) == kept | {"S/M1": b'{"sequence":{}}'}


def press(folder: Path) -> Stage:
    """It makes four pieces a second, from 06:00:00 on for six minutes, and each is seen."""
    stage = machine(
        folder,
        tags(strokes="uint32")
        + "    counters: {good: {tag: strokes, max: 4294967295, max_rate: 50/s}}\n    order: {from: command}\n",
    )
    start = stage.now
    for piece in range(1_440):
        moment = start + 250 * piece
        stage.show("M1", f"06:{piece // 240:02}:{piece // 4 % 60:02}.{moment % 1000:03}", strokes=piece)
    stage.show("M1", "06:06:00", strokes=1_440)
    return stage


def test_the_past_of_a_machine_that_counts_four_times_a_second_is_small_and_can_be_told_anew(tmp_path: Path) -> None:
    stage = press(tmp_path)
    past = [blob for key, blob in stage.checkpoints.items() if "|window|" in key]
    assert len(past) == 6
    assert sum(map(len, past)) < 6 * 1_000, "240 moments a window, each of them 16 bytes of JSON"
    stage.kill_and_restart("06:06:30")
    stage.command("order.start", cmd="S", eq="M1", order="4711", t="2026-03-02T06:03:00Z")
    assert counted(stage) == {None: 720, "4711": 720}


def counted(stage: Stage) -> dict[str | None, int]:
    """Pieces by order, of the highest revision of every event."""
    newest = {event.id: event for event in stage.events if isinstance(event.data, ProductionCount)}
    pieces: dict[str | None, int] = {}
    for event in newest.values():
        order = event.order.id if event.order else None
        assert isinstance(event.data, ProductionCount)
        pieces[order] = pieces.get(order, 0) + event.data.delta
    return pieces
