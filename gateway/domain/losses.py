"""What a batch says besides values: what the device lost, how it drifted, how far its clock is off."""

from collections.abc import Iterator

from gateway.domain.contract.event_data import Report
from gateway.domain.contract.gateway_events import DataGap, DeviceClock, TagDrift
from gateway.domain.times import format_timestamp
from gateway.domain.values import Batch


def losses(device: str, batch: Batch) -> Iterator[Report]:
    """One event for each gap, and one for each thing that the device says differently."""
    for gap in batch.gaps:
        lost = DataGap(
            device=device, cause=gap.cause, start=format_timestamp(gap.start), end=format_timestamp(gap.end),
            notification=gap.number, notifications=gap.notifications, tags=gap.tags, first=gap.first,
            filled=gap.filled,
        )  # fmt: skip
        yield Report(lost, gap.end)
    for drift in batch.drifts:
        told = TagDrift(device=device, what=drift.what, name=drift.name, before=drift.before, after=drift.after)
        yield Report(told, batch.contact)
    if batch.skew is not None:
        ahead, before = batch.skew.now / 1000, batch.skew.before / 1000
        clock = DeviceClock(device=device, ahead_s=ahead, before_s=before, corrected=batch.skew.corrected)
        yield Report(clock, batch.contact)
