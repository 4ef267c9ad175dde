"""SCADA: an OPC UA server with the tags of PAL01 and CW01 and PAL01's alarms as Alarms & Conditions events."""

from collections.abc import Mapping
from typing import Any, Final

from asyncua import ua
from asyncua.common.event_objects import OffNormalAlarm
from asyncua.server.server import Server
from asyncua.ua.object_ids import ObjectIds

from simulators.models.alarms import Occurrence
from simulators.models.palletiser import WRITABLE
from simulators.servers.opcua import OpcUaDevice, Point
from simulators.servers.play import Play

URI: Final = "urn:simulators:scada"
_BOOL, _INT, _UINT = ua.VariantType.Boolean, ua.VariantType.Int32, ua.VariantType.UInt32
_TEXT, _DOUBLE = ua.VariantType.String, ua.VariantType.Double
_REFRESH_SEVERITY: Final = 100


def points() -> list[Point]:
    """All variables of the SCADA server."""
    names = {
        "PAL01.State": _INT,
        "PAL01.CurrentOrder": _TEXT,
        "PAL01.GoodTotal": _UINT,
        "PAL01.CasesTotal": _UINT,
        "PAL01.PalletSeq": _UINT,
        "PAL01.PalletSSCC": _TEXT,
        "PAL01.PalletCases": _UINT,
        "PAL01.PalletQty": _UINT,
        "PAL01.PalletOrder": _TEXT,
        "PAL01.Heartbeat": _BOOL,
        "CW01.SampleToggle": _BOOL,
        "CW01.Values": _DOUBLE,
        "CW01.SampleSeq": _UINT,
    }
    return [
        *(Point(name, kind) for name, kind in names.items()),
        *(Point(name, _TEXT, writable=True) for name in WRITABLE),
    ]


class ScadaDevice(OpcUaDevice):
    """Beside its variables it raises an event at each of the three moments of an alarm, with the plant time of that
    moment. ConditionRefresh sends the retained ones again, between its start and end events (OPC UA Part 9 §5.5.7)."""

    def __init__(self, play: Play, host: str = "127.0.0.1", port: int = 0) -> None:
        self._line = play.line
        self._told_ms = -1
        write = play.line.palletiser.write
        super().__init__("SCADA", URI, points(), play, self._tags, write, host=host, port=port)

    def prepare(self, server: Server) -> None:
        """Have asyncua offer ConditionRefresh; the number is the severity of its start and end events."""
        server.iserver.bind_condition_methods = _REFRESH_SEVERITY

    async def publish(self) -> None:
        """Write what changed, then tell of the alarms."""
        await super().publish()
        now = min(self._line.time.ms, self._line.time.until_s * 1000)
        for at, alarm in self._moments(now):
            await self._server.iserver.subscription_service.trigger_event(self._event(alarm, at))
        self._told_ms = now

    def _tags(self) -> Mapping[str, Any]:
        return self._line.palletiser.tags() | self._line.checkweigher.tags()

    def _moments(self, now: int) -> list[tuple[int, Occurrence]]:
        """What happened to alarms since the last time; the same alarm may be there twice."""
        moments = [
            (at, alarm)
            for alarm in self._line.alarms[self._line.palletiser.name]
            for at in (alarm.raised, alarm.acked, alarm.cleared)
            if at is not None and self._told_ms < at <= now
        ]
        return sorted(moments, key=lambda moment: moment[0])

    def _event(self, alarm: Occurrence, at: int) -> Any:
        """The condition as it is after what happened at that moment."""
        active, acknowledged = alarm.active(at), alarm.acknowledged(at)
        # asyncua has no hints here: it adds an event's fields at run time.
        event: Any = OffNormalAlarm(message=alarm.text, severity=alarm.severity)  # type: ignore[no-untyped-call]
        event.emitting_node = ua.NodeId(ua.Int32(ObjectIds.Server))
        changed = self.moment(alarm.raised if active else alarm.cleared)
        for name, value, kind in (
            ("NodeId", self.node_id(f"PAL01.Alarm.{alarm.code}"), ua.VariantType.NodeId),
            ("EventId", f"{alarm.code}@{alarm.raised}:{at}".encode(), ua.VariantType.ByteString),
            ("SourceNode", self.node_id("PAL01"), ua.VariantType.NodeId),
            ("SourceName", self._line.palletiser.name, ua.VariantType.String),
            ("Time", self.moment(at), ua.VariantType.DateTime),
            ("ReceiveTime", self.moment(at), ua.VariantType.DateTime),
            ("ConditionName", alarm.code, ua.VariantType.String),
            ("Retain", alarm.retained(at), _BOOL),
            ("EnabledState", ua.LocalizedText("Enabled"), ua.VariantType.LocalizedText),
            ("EnabledState/Id", True, _BOOL),
            ("ActiveState", ua.LocalizedText("Active" if active else "Inactive"), ua.VariantType.LocalizedText),
            ("ActiveState/Id", active, _BOOL),
            ("ActiveState/TransitionTime", changed, ua.VariantType.DateTime),
            (
                "AckedState",
                ua.LocalizedText("Acknowledged" if acknowledged else "Unacknowledged"),
                ua.VariantType.LocalizedText,
            ),
            ("AckedState/Id", acknowledged, _BOOL),
        ):
            event.add_property(name, value, kind)
        return event
