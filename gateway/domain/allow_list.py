"""What the configuration lets the gateway change in a device. What is not in it is refused before any packet."""

from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.domain.acknowledgement import METHODS
from gateway.domain.equipment import EquipmentSpec
from gateway.domain.operations import Operation
from gateway.domain.values import TagId


class AllowList(msgspec.Struct, frozen=True):
    """The tags of one device that may be written, and the methods that may be called; by default none."""

    tags: frozenset[TagId] = frozenset()
    methods: frozenset[str] = frozenset()

    def refused(self, operation: Operation) -> list[str]:
        """What an operation would change and may not, by name."""
        tags = [write.tag_id for write in operation.writes if write.tag_id not in self.tags]
        return tags + [call.method for call in operation.calls if call.method not in self.methods]


NOTHING: Final = AllowList()


def allow_list(device: str, equipment: Iterable[EquipmentSpec]) -> AllowList:
    """Parameters with what commits them, the hold bit; where permitted, Acknowledge and Confirm."""
    tags: set[TagId] = set()
    methods: set[str] = set()
    for spec in equipment:
        if spec.download is not None and spec.download.job is not None:
            methods |= spec.download.job.methods if spec.download.device == device else set()
        elif spec.download is not None and spec.download.device == device:
            tags |= {parameter.tag_id for parameter in spec.download.parameters.values()}
            tags |= spec.download.handshake.written
            method = spec.download.handshake.method
            methods |= {method.call.method} if method is not None else set()
        if spec.hold is not None and spec.hold.device == device:
            tags.add(spec.hold.tag_id)
        if spec.alarms is not None and spec.alarms.acknowledged_at == device:
            methods |= METHODS
    return AllowList(frozenset(tags), frozenset(methods))
