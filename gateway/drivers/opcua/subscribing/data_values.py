"""A DataValue as it stands on the wire: behind each time its own picoseconds (OPC 10000-6 §5.2.2.17).

asyncua looks for the picoseconds behind both times. Of a server that sends them, as node-opcua does, it would give a
server time of the year 9999. Data changes never come here, `decoder` knows their order; answers to reads do.
"""

from collections.abc import Callable
from typing import Any, Final

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua import ua_binary

_create_deserializer: Final = ua_binary._create_dataclass_deserializer
_FIELDS: Final[tuple[tuple[int, str, Callable[[Buffer], Any]], ...]] = (
    (0x01, "Value", ua_binary.variant_from_binary),
    (0x02, "StatusCode", lambda data: ua.StatusCode(ua_binary.Primitives.UInt32.unpack(data))),
    (0x04, "SourceTimestamp", ua_binary.Primitives.DateTime.unpack),
    (0x10, "SourcePicoseconds", ua_binary.Primitives.UInt16.unpack),
    (0x08, "ServerTimestamp", ua_binary.Primitives.DateTime.unpack),
    (0x20, "ServerPicoseconds", ua_binary.Primitives.UInt16.unpack),
)
"""In the order of the wire, which is not that of the bits."""


def read_times_in_order() -> None:
    """Let asyncua read a DataValue in that order, for all connections of this process."""
    ua_binary._create_dataclass_deserializer = _create_ordered_deserializer  # type: ignore[assignment]


def _create_ordered_deserializer(kind: type | str) -> Callable[[Buffer], Any]:
    return _read_data_value if kind is ua.DataValue else _create_deserializer(kind)


def _read_data_value(data: Buffer) -> ua.DataValue:
    mask = ua_binary.Primitives.Byte.unpack(data)
    return ua.DataValue(**{name: unpack(data) for bit, name, unpack in _FIELDS if mask & bit})
