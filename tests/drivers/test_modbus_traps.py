"""Traps of pymodbus that no case of the acceptance lists holds by itself."""

import asyncio

from modbus_drivers import driver

from gateway.domain.values import DataType
from gateway.drivers.base import Tag
from gateway.drivers.modbus.config import ModbusAddress


async def test_b9_a_device_never_has_two_requests_of_ours_before_it():
    """Whatever lies in a buffer of 264 bytes when one more comes is thrown away whole by many a device."""
    most, served, closed = 0, 0, asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most, served
        while data := await reader.read(4096):
            # Whoever sends a second request before the first is answered has it here by now.
            await asyncio.sleep(0.005)
            data += bytes(reader._buffer)
            reader._buffer.clear()
            most, served = max(most, len(data) // 12), served + 1
            count = data[11]
            writer.write(data[:4] + bytes([0, 3 + 2 * count]) + data[6:8] + bytes([2 * count]) + bytes(2 * count))
        writer.close()
        await writer.wait_closed()
        closed.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        tags = [Tag(f"t{at}", DataType.UINT16, ModbusAddress(register=at)) for at in range(0, 1000, 200)]
        async with driver(port, tags) as opened:
            answers = await asyncio.gather(*(opened.read([tag.tag_id]) for tag in tags for _ in range(3)))
        await closed.wait()
    assert [changes[0].value for changes in answers] == [0] * 15
    assert served >= 5
    assert most == 1
