"""Writing: every request is sent once, in the order asked, and nothing follows one whose outcome is in doubt."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from gateway.domain.values import Scalar, StatusCode, TagId, TagWrite, WriteResult
from gateway.drivers.base import Tag
from gateway.drivers.modbus.checksum import seal
from gateway.drivers.modbus.codec import Codec
from gateway.drivers.modbus.config import MAX_WRITE_COILS, READ_ONLY_TABLES, ModbusAddress, ModbusSettings, Span
from gateway.drivers.modbus.link import Link, NoReply
from gateway.drivers.modbus.replies import ILLEGAL_FUNCTION, BrokenReply, Refused
from gateway.drivers.modbus.writes import RegisterWrite, WriteRequest, block_around, plan_writes

NOT_SENT: Final = StatusCode.BAD_REQUEST_CANCELLED_BY_CLIENT
"""A write before it is in doubt, so this one was held back."""

_log = structlog.get_logger(__name__)


class NotKept(Exception):  # noqa: N818 - it says what happened
    """The device took the write and holds something else: it clamped the values, or they are not its to have."""

    status_code: Final = StatusCode.BAD_OUT_OF_RANGE


class RegisterWriter:
    """Carries out the writes of one device, one call after the other.

    A request without a believable answer may have been carried out or not (trap B3), and one that reads back something
    else was not carried out as asked. In both cases nothing more is sent behind it: a trigger must not follow values
    that are perhaps not there. What was held back is `NOT_SENT`; the caller reads back what is true.
    """

    def __init__(
        self,
        link: Link,
        device: str,
        settings: ModbusSettings,
        tags: Mapping[TagId, Tag[ModbusAddress]],
        codecs: Mapping[TagId, Codec],
    ) -> None:
        self._link = link
        self._device = device
        self._settings = settings
        self._tags = tags
        self._codecs = codecs
        self._has_mask_write = True
        self._one_at_a_time = asyncio.Lock()

    async def write(self, writes: Sequence[TagWrite]) -> list[WriteResult]:
        """One result for each write; a value that does not fit is refused without a packet. Raises `LinkLost` only."""
        async with self._one_at_a_time:
            scales = await self._read_scales(writes)
            prepared = [self._prepare(place, write, scales) for place, write in enumerate(writes)]
            status_codes = {place: status for place, status in enumerate(prepared) if isinstance(status, int)}
            to_send = [write for write in prepared if isinstance(write, RegisterWrite)]
            in_doubt = False
            for request in plan_writes(to_send, self._settings.blocks, self._settings.max_write_registers):
                status, doubtful = (NOT_SENT, True) if in_doubt else await self._outcome(request)
                in_doubt = in_doubt or doubtful
                status_codes.update((write.place, status) for write in request.writes)
        return [WriteResult(write.tag_id, status_codes[place]) for place, write in enumerate(writes)]

    # --- values to bytes ------------------------------------------------------------------------------------------

    async def _read_scales(self, writes: Sequence[TagWrite]) -> dict[Span, bytes | int]:
        """The scale registers of the tags to be written as they are now, or the status that says why they are not."""
        scales: dict[Span, bytes | int] = {}
        written = [self._tags[write.tag_id].address for write in writes]
        for address in written:
            scale = address.scale_span
            if scale is None or scale in scales or address.table in READ_ONLY_TABLES:
                continue
            if any(scale.overlaps(other.span) for other in written if other.table == address.table):
                scales[scale] = StatusCode.BAD_NOT_WRITABLE  # which of the two scales would the value be meant in?
                continue
            try:
                scales[scale] = await self._link.read(address.table, scale)
            except (Refused, BrokenReply) as failure:
                scales[scale] = failure.status_code
        return scales

    def _prepare(self, place: int, write: TagWrite, scales: Mapping[Span, bytes | int]) -> RegisterWrite | int:
        address = self._tags[write.tag_id].address
        block = block_around(address.table, address.span, self._settings.blocks)
        most = MAX_WRITE_COILS if address.table == "coil" else self._settings.max_write_registers
        sealed = block is not None and block.checksum.span.overlaps(address.span)
        if address.table in READ_ONLY_TABLES or sealed or address.span.size > most:
            return StatusCode.BAD_NOT_WRITABLE
        if isinstance(write.value, tuple):
            return StatusCode.BAD_TYPE_MISMATCH
        raw = self._encode(write.tag_id, write.value, scales)
        return raw if isinstance(raw, int) else RegisterWrite(place, address.table, address.span, raw, address.mask)

    def _encode(self, tag_id: TagId, value: Scalar, scales: Mapping[Span, bytes | int]) -> bytes | int:
        codec, scale_span = self._codecs[tag_id], self._tags[tag_id].address.scale_span
        if scale_span is None or codec.encode_scaled is None:
            return codec.encode(value)
        scale = scales[scale_span]
        return scale if isinstance(scale, int) else codec.encode_scaled(value, scale)

    # --- bytes to the device --------------------------------------------------------------------------------------

    async def _outcome(self, request: WriteRequest) -> tuple[int, bool]:
        """The status of the writes in a request, and whether what the device holds now is in doubt."""
        try:
            await self._perform(request)
        except Refused as refusal:
            return refusal.status_code, False
        except (BrokenReply, NoReply, NotKept) as doubt:
            return doubt.status_code, True
        return StatusCode.GOOD, False

    async def _perform(self, request: WriteRequest) -> None:
        if request.block is not None:
            span = request.block.registers
            present = await self._link.read("holding", span)
            await self._write_registers(
                span.first, seal(request.block, present, [(write.span, write.raw) for write in request.writes])
            )
        elif mask := request.writes[0].mask:
            await self._write_bits(request.span.first, mask, int.from_bytes(request.raw, "big"))
        elif request.writes[0].table == "coil":
            await self._link.write_coils(request.span.first, request.raw)
        else:
            await self._write_registers(request.span.first, request.raw)

    async def _write_registers(self, first: int, raw: bytes) -> None:
        if not self._settings.read_write_multiple:
            await self._link.write_registers(first, raw)
            return
        try:
            kept = await self._link.write_and_read(first, raw)
        except Refused as refusal:
            if refusal.code == ILLEGAL_FUNCTION:
                _log.warning("device has no function 23", device=self._device, cure="take read_write_multiple out")
            raise
        if kept != raw:
            raise NotKept

    async def _write_bits(self, register: int, mask: int, value: int) -> None:
        """By the device itself, with FC22. One that lacks it gets read-modify-write, if the YAML allows that.

        Bits that the machine changes between read and write are then set back, so it is nobody's default.
        """
        if self._has_mask_write:
            try:
                await self._link.write_bits(register, mask, value)
            except Refused as refusal:
                if refusal.code != ILLEGAL_FUNCTION:
                    raise
                cure = "" if self._settings.read_modify_write else "allow read_modify_write for this device"
                _log.warning("device has no function 22 to write bits", device=self._device, cure=cure)
                if not self._settings.read_modify_write:
                    raise
                self._has_mask_write = False
            else:
                return
        present = int.from_bytes(await self._link.read("holding", Span(register, 1)), "big")
        await self._link.write_registers(register, (present & ~mask | value & mask).to_bytes(2, "big"))
