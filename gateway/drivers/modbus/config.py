"""What the YAML says of a Modbus device and of a tag in it."""

import re
from itertools import combinations
from typing import Annotated, Final, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from gateway.domain.values import DataType
from gateway.drivers.base import DeviceSettings, Seconds, TagAddress

Table = Literal["holding", "input", "coil", "discrete"]
WordOrder = Literal["big", "low_first"]
ByteOrder = Literal["big", "little"]
Encoding = Literal["bcd", "ascii", "utf-8", "gbk"]
Transport = Literal["tcp", "rtu_over_tcp", "rtu", "udp", "tls"]
Parity = Literal["none", "even", "odd"]
Baudrate = Literal[1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400]

BIT_TABLES: Final[frozenset[Table]] = frozenset({"coil", "discrete"})
READ_ONLY_TABLES: Final[frozenset[Table]] = frozenset({"discrete", "input"})
MAX_WRITE_REGISTERS: Final = 123
"""Most registers in one FC16 (Modbus Application Protocol V1.1b3 §6.12)."""
MAX_READ_WRITE_REGISTERS: Final = 121
"""Most registers that one FC23 writes (§6.17)."""
MAX_WRITE_COILS: Final = 1_968
"""Most coils in one FC15 (§6.11)."""
REGISTERS_OF: Final[dict[DataType, int]] = {
    DataType.INT16: 1,
    DataType.UINT16: 1,
    DataType.INT32: 2,
    DataType.UINT32: 2,
    DataType.INT64: 4,
    DataType.UINT64: 4,
    DataType.FLOAT32: 2,
    DataType.FLOAT64: 4,
}


class Span(NamedTuple):
    """Consecutive registers (or bits), addresses as on the wire, that is from 0."""

    first: int
    size: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.first + self.size

    def covers(self, other: "Span") -> bool:
        """True if every address of `other` is in this span."""
        return self.first <= other.first and other.end <= self.end

    def overlaps(self, other: "Span") -> bool:
        """True if the two share an address."""
        return self.first < other.end and other.first < self.end

    def __str__(self) -> str:
        return str(self.first) if self.size == 1 else f"{self.first}-{self.end - 1}"


def parse_span(text: object) -> Span:
    """`100` or `"30-37"` (both ends belong to it); raises `ValueError` that says what to write."""
    if isinstance(text, Span):
        return text
    match = re.fullmatch(r"(\d+)(?:\s*-\s*(\d+))?", str(text)) if isinstance(text, int | str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a register; write one address (100) or a range with both ends (30-37)")
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last <= 0xFFFF:
        raise ValueError(f"{text!r} is not a register range; write the lower address first, none above 65535")
    return Span(first, last - first + 1)


Registers = Annotated[
    Span,
    BeforeValidator(parse_span),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[0-9]+( *- *[0-9]+)?$"}]}),
]


class Checksum(BaseModel):
    """The register that seals a block: CRC-16/MODBUS over the bytes of `over`, high byte of each register first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    span: Registers = Field(alias="register")
    over: Registers
    type: Literal["crc16-modbus"]


class WriteBlock(BaseModel):
    """Holding registers that the device accepts only as a whole, checksum included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    registers: Registers
    checksum: Checksum

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        block, seal, over = self.registers, self.checksum.span, self.checksum.over
        if seal.size != 1 or not block.covers(seal):
            raise ValueError(f"the checksum register {seal} must be a single register of the block {block}")
        if not block.covers(over) or over.overlaps(seal):
            raise ValueError(f"the checksum is over {over}; that must lie in the block {block} and leave out {seal}")
        return self


class ModbusSettings(DeviceSettings):
    """One unit behind one Modbus endpoint. `poll_interval` is plant time; all that concerns the wire is wall time.

    A read that gets no answer is repeated `retries_before_lost` times before the link counts as lost; a write never
    is, for the device may have carried it out (trap B3). Registers up to `max_gap` apart are read in one request,
    unless one of the `forbidden` ranges lies between them. Units with the same place share one connection.

    With `read_write_multiple` holding registers are written and read back in one request (FC23), which many devices
    lack. `read_modify_write` allows to write a bit by way of its whole register where the device lacks FC22: bits that
    the machine changes in between are set back.

    `port` is a TCP or UDP port, or for `rtu` the path of the serial port. `quiet_time` (by default the timeout) is how
    long an RTU line is left alone after a reply that did not come: it must outlast the latest reply (trap B1). A reply
    on a serial line that pauses for longer than `character_timeout` is broken; USB adapters alone may pause for 16 ms.
    """

    transport: Transport = "tcp"
    host: str = ""
    port: Annotated[int, Field(ge=1, le=65535)] | str | None = None
    baudrate: Baudrate = 19200
    parity: Parity = "even"
    stopbits: Literal[1, 2] = 1
    character_timeout: Annotated[Seconds, Field(gt=0)] = 0.05
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    unit_id: Annotated[int, Field(ge=0, le=255)] = 1
    poll_interval: Annotated[Seconds, Field(gt=0)] = 1.0
    timeout: Annotated[Seconds, Field(gt=0)] = 1.0
    quiet_time: Annotated[Seconds, Field(ge=0)] | None = None
    request_delay: Annotated[Seconds, Field(ge=0)] = 0.0
    max_requests_per_second: Annotated[float, Field(gt=0)] | None = None
    max_registers: Annotated[int, Field(ge=1, le=125)] = 125
    max_gap: Annotated[int, Field(ge=0, le=124)] | None = None
    retries_before_lost: Annotated[int, Field(ge=0, le=10)] = 2
    read_write_multiple: bool = False
    read_modify_write: bool = False
    forbidden: tuple[Registers, ...] = ()
    blocks: tuple[WriteBlock, ...] = ()

    @property
    def tcp_port(self) -> int:
        """The port of a network transport; 802 is the registered one of Modbus over TLS."""
        if isinstance(self.port, int):
            return self.port
        return 802 if self.transport == "tls" else 502

    @property
    def is_in_clear(self) -> bool:
        """See `DeviceSettings`. A serial line counts too, though one has to get at its cable."""
        return self.transport != "tls"

    @property
    def place(self) -> str:
        """Where the connection leads: units with the same place share it."""
        return str(self.port) if self.transport == "rtu" else f"{self.host}:{self.tcp_port}"

    @property
    def where(self) -> str:
        """Place and unit, for people."""
        return f"{self.place} unit {self.unit_id}"

    @property
    def quiet(self) -> float:
        """Seconds of silence on an RTU line after a missing reply."""
        return self.timeout if self.quiet_time is None else self.quiet_time

    @property
    def widest_gap(self) -> int:
        """Registers nobody wants that are read along rather than asking twice.

        At 19,200 baud a register takes 1.1 ms, and one more request about ten times that with its pauses.
        """
        if self.max_gap is not None:
            return self.max_gap
        return 10 if self.transport in ("rtu", "rtu_over_tcp") else 50

    @property
    def max_write_registers(self) -> int:
        """Most registers that one request writes to this device."""
        most = MAX_READ_WRITE_REGISTERS if self.read_write_multiple else MAX_WRITE_REGISTERS
        return min(self.max_registers, most)

    @property
    def connection(self) -> dict[str, object]:
        """What units on one connection must agree on."""
        keys = ("transport", *sorted(_SERIAL_KEYS), "ca_file", "cert_file", "key_file")
        return {key: getattr(self, key) for key in keys}

    @model_validator(mode="after")
    def _transport_has_its_keys(self) -> Self:
        if problem := _transport_problem(self):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _blocks_fit(self) -> Self:
        for block in self.blocks:
            if block.registers.size > self.max_write_registers:
                raise ValueError(
                    f"the block {block.registers} has {block.registers.size} registers, and is written whole; "
                    f"one request of this device carries {self.max_write_registers}"
                )
        for one, other in combinations(self.blocks, 2):
            if one.registers.overlaps(other.registers):
                raise ValueError(
                    f"the blocks {one.registers} and {other.registers} overlap; make them one or part them"
                )
        return self


_SERIAL_KEYS: Final = frozenset({"baudrate", "parity", "stopbits", "character_timeout"})
_LAST_SERIAL_UNIT: Final = 247
"""The addresses above are reserved (Modbus over Serial Line V1.02 §2.2)."""
_TLS_KEYS: Final = frozenset({"ca_file", "cert_file", "key_file"})


def _transport_problem(settings: ModbusSettings) -> str:
    """What is wrong with the keys of the transport; empty if nothing."""
    serial, given = settings.transport == "rtu", settings.model_fields_set
    idle = (set() if serial else given & _SERIAL_KEYS) | (set() if settings.transport == "tls" else given & _TLS_KEYS)
    if idle:
        return f"{', '.join(sorted(idle))}: nothing for transport {settings.transport}; take it out"
    if serial and not isinstance(settings.port, str):
        return "transport rtu needs the path of a serial port, such as port: /dev/ttyUSB0"
    if serial and settings.host:
        return "transport rtu has no host; take it out, or write transport: rtu_over_tcp"
    if not serial and not settings.host:
        return f"transport {settings.transport} needs the key 'host'"
    if not serial and isinstance(settings.port, str):
        return f"transport {settings.transport} needs a port number; a serial port belongs to transport: rtu"
    if settings.transport in ("rtu", "rtu_over_tcp") and not 1 <= settings.unit_id <= _LAST_SERIAL_UNIT:
        return f"unit_id {settings.unit_id}: units on a serial line are 1-247; to 0 all listen and nobody answers"
    if (settings.cert_file is None) != (settings.key_file is None):
        return "cert_file and key_file belong together; give both or neither"
    return ""


class ModbusAddress(TagAddress):
    """Where a tag lies, and how its registers make a value.

    `word_order` says which register of a number comes first, `byte_order` which byte of each register. `bits` (3, or
    4-7) is the part of a register that the tag is; it can be written alone. `scale_register` holds the power of ten
    that the value is to be multiplied with, as in SunSpec models, and is read in the same request. `poll_interval` is
    the tag's own, in plant time; tags that share one are read together.
    """

    span: Registers = Field(alias="register")
    table: Table = "holding"
    word_order: WordOrder = "big"
    byte_order: ByteOrder = "big"
    bits: Registers | None = None
    scale_register: Annotated[int, Field(ge=0, le=0xFFFF)] | None = None
    poll_interval: Annotated[Seconds, Field(gt=0)] | None = None
    encoding: Encoding | None = None
    swap_bytes: bool = False

    def overlaps(self, other: Self) -> bool:
        """See `TagAddress`. Two parts of one register have nothing in common if they share no bit."""
        apart = self.bits is not None and other.bits is not None and not self.mask & other.mask
        return self.span.overlaps(other.span) and not apart

    @property
    def shown(self) -> str:
        """`holding 110-111`, `holding 0, bits 3`."""
        return f"{self.table} {self.span}" + (f", bits {self.bits}" if self.bits is not None else "")

    @property
    def needed(self) -> Span:
        """All registers that one reading needs, the scale factor's included; never read in two requests."""
        if self.scale_register is None:
            return self.span
        first, end = min(self.span.first, self.scale_register), max(self.span.end, self.scale_register + 1)
        return Span(first, end - first)

    @property
    def mask(self) -> int:
        """The bits of the register, as it travels, that are the tag's; 0 if it is the whole."""
        if self.bits is None:
            return 0
        mask = (1 << self.bits.size) - 1 << self.bits.first
        return mask if self.byte_order == "big" else (mask & 0xFF) << 8 | mask >> 8

    @property
    def scale_span(self) -> Span | None:
        """The scale register, if there is one."""
        return None if self.scale_register is None else Span(self.scale_register, 1)

    def value_type(self, data_type: DataType) -> DataType:
        """With a scale register a whole number in the device is one with a point for everybody else."""
        return data_type if self.scale_register is None else DataType.FLOAT64
