"""FIL01: an OPC UA server with PackTags-style nodes."""

from typing import Final

from asyncua import ua

from simulators.models.alarms import SLOTS
from simulators.models.filler import PARAMETERS
from simulators.servers.opcua import OpcUaDevice, Point
from simulators.servers.play import Play

URI: Final = "urn:simulators:fil01"
_BOOL, _INT, _FLOAT = ua.VariantType.Boolean, ua.VariantType.Int32, ua.VariantType.Float
_TEXT, _TIME = ua.VariantType.String, ua.VariantType.DateTime


def points() -> list[Point]:
    """All variables of FIL01."""
    names = {
        "Status.StateCurrent": _INT,
        "Status.UnitModeCurrent": _INT,
        "Status.MachSpeed": _FLOAT,
        "Status.CurMachSpeed": _FLOAT,
        "Status.EquipmentInterlock.Starved": _BOOL,
        "Status.EquipmentInterlock.Blocked": _BOOL,
        "Admin.StopReason[0].ID": _INT,
        "Admin.ProdProcessedCount[0].Count": _INT,
        "Admin.ProdProcessedCount[0].AccCount": _INT,
        "Admin.ProdDefectiveCount[0].Count": _INT,
        "Admin.ProdDefectiveCount[0].AccCount": _INT,
        "Machine.PowerOk": _BOOL,
        "Machine.EStop": _BOOL,
        "Machine.Heartbeat": _BOOL,
        "MES.Permit": _BOOL,
        "MES.Remote": _BOOL,
        "MES.AckSeq": _INT,
        "MES.CmdStatus": _INT,
        "MES.CmdError": _INT,
    }
    entry = {
        "Trigger": _BOOL,
        "ID": _INT,
        "Value": _INT,
        "Message": _TEXT,
        "Category": _INT,
        "DateTime": _TIME,
        "AckDateTime": _TIME,
    }
    names |= {f"Admin.Alarm[{slot}].{field}": kind for slot in range(SLOTS) for field, kind in entry.items()}
    for index in range(len(PARAMETERS)):
        names |= {f"Status.Parameter[{index}].Value": _FLOAT, f"Command.Parameter[{index}].ID": _INT}
        names |= {f"Command.Parameter[{index}].{field}": _TEXT for field in ("Name", "Unit")}
    writable = {f"Command.Parameter[{index}].Value": _FLOAT for index in range(len(PARAMETERS))}
    writable |= {"MES.CmdSeq": _INT, "MES.Hold": _BOOL}
    return [
        *(Point(f"FIL01.{name}", kind) for name, kind in names.items()),
        *(Point(f"FIL01.{name}", kind, writable=True) for name, kind in writable.items()),
    ]


def server(play: Play, host: str = "127.0.0.1", port: int = 0) -> OpcUaDevice:
    """The server in front of the line's filler."""
    filler = play.line.filler
    return OpcUaDevice(
        "FIL01", URI, points(), play, filler.tags, filler.write, handshake=filler.handshake, host=host, port=port
    )
