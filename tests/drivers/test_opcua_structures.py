"""Tags that are fields of structures, on a real server: read, subscribed, written back, and what is wrong told."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from clocks import PlantClock
from opcua_links import link, until
from opcua_servers import PLC, plc, proxy
from opcua_structures import (
    BOOL,
    DOUBLE,
    INT32,
    STRING,
    define,
    define_enum,
    explain_units,
    f32,
    i32,
    place,
    recipe,
    recipe_body,
    text,
)
from structlog.testing import capture_logs

from gateway.domain.values import Batch, DataType, StatusCode, TagChange, TagWrite, WriteResult
from gateway.drivers.base import Tag
from gateway.drivers.opcua.config import OpcUaAddress, OpcUaSettings
from gateway.drivers.opcua.driver import OpcUaDriver

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOT_FOUND, NO_DATA, NO_ELEMENT, TYPE_UNKNOWN = 0x803E0000, 0x809B0000, 0x80370000, 0x80110000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Any]:
    async with plc() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def server(shared: Any) -> AsyncIterator[Any]:
    yield shared
    await shared.clear()


def field(name: str, path: str | None, data_type: DataType = DataType.STRING, **address: Any) -> Tag[OpcUaAddress]:
    return Tag(name, data_type, OpcUaAddress(node=address.pop("node", "s=recipe"), field=path, **address))


NAME, SPEED = field("name", "Name"), field("speed", "Head.Speed", DataType.FLOAT32)
THIRD, NOTE = field("third", "Items[2].Value"), field("note", "Note")
RECIPE = [NAME, SPEED, THIRD, NOTE, field("nozzles", "Head.Nozzles", DataType.INT16)]
HELD = {"name": "P-500", "speed": 120.5, "third": "c", "note": None, "nozzles": (7, -8)}


@asynccontextmanager
async def driver(port: int, tags: list[Tag[OpcUaAddress]], **keys: Any) -> AsyncIterator[OpcUaDriver]:
    settings = OpcUaSettings(
        url=f"opc.tcp://127.0.0.1:{port}", namespace=PLC, security="none", structures=True, publishing_interval="20ms",
        sampling_interval="20ms", keepalive="200ms", **keys,
    )  # fmt: skip
    async with OpcUaDriver("FIL01", settings, tags, PlantClock()) as made:
        yield made


def values(changes: list[TagChange]) -> dict[str, Any]:
    return {change.tag_id: change.value for change in changes}


def statuses(changes: list[TagChange]) -> dict[str, int]:
    return {change.tag_id: change.status_code for change in changes if change.status_code}


async def read(link: OpcUaDriver, tags: list[Tag[OpcUaAddress]]) -> list[TagChange]:
    return await link.read([tag.tag_id for tag in tags])


async def news(batches: AsyncIterator[Batch]) -> list[TagChange]:
    """The changes of the next batch that has any."""
    async with asyncio.timeout(20):
        async for batch in batches:
            if batch.changes:
                return batch.changes
    raise AssertionError("the link ended")


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_declared", [True, False], ids=["its DataType says", "only the value says"])
async def test_fields_are_read_through_nested_structures_and_arrays(server: Any, is_declared: bool) -> None:
    kind = await recipe(server)
    await place(server, "recipe", kind.value(*recipe_body()), kind if is_declared else None)
    async with driver(server.port, RECIPE) as link:
        changes = await read(link, RECIPE)
    assert values(changes) == HELD
    assert statuses(changes) == {"note": NO_DATA}, "the optional field is left out"
    assert all(change.source_timestamp for change in changes)


async def test_many_fields_are_one_monitored_item_and_only_what_changed_is_told(server: Any) -> None:
    kind = await recipe(server)
    node = await place(server, "recipe", kind.value(*recipe_body()))
    await server.add("count", 5)
    count = Tag("count", DataType.INT32, OpcUaAddress(node="s=count"))
    async with driver(server.port, [*RECIPE, count]) as link:
        batches = link.changes()
        assert values(await news(batches)) == {**HELD, "count": 5}
        assert len(server.subscription.monitored_item_srv._monitored_items) == 2
        await node.write_value(kind.value(*recipe_body(speed=121.0, third="d", note="new")))
        assert values(await news(batches)) == {"speed": 121.0, "third": "d", "note": "new"}
        await node.write_value(kind.value(*recipe_body(speed=121.0, third="d")))
        (gone,) = await news(batches)
        assert gone == TagChange("note", None, NO_DATA, gone.source_timestamp, gone.server_timestamp)


async def test_with_trigger_timestamp_every_sample_of_a_structure_is_told(server: Any) -> None:
    kind = await recipe(server)
    node = await place(server, "recipe", kind.value(*recipe_body()))
    async with driver(server.port, [NAME, SPEED], trigger="timestamp") as link:
        batches = link.changes()
        await news(batches)
        await node.write_value(kind.value(*recipe_body()))
        assert values(await news(batches)) == {"name": "P-500", "speed": 120.5}


async def test_polled_structures_say_the_same(server: Any) -> None:
    kind = await recipe(server)
    node = await place(server, "recipe", kind.value(*recipe_body()))
    async with driver(server.port, RECIPE, mode="poll", poll_interval="20ms") as link:
        batches = link.changes()
        assert values(await news(batches)) == HELD
        await node.write_value(kind.value(*recipe_body(speed=99.0)))
        assert values(await news(batches)) == {"speed": 99.0}


async def test_every_kind_of_value_may_be_a_field(server: Any) -> None:
    mode = await define_enum(server, "Mode", "Idle", "Running")
    kind = await define(
        server, "All", ("Mode", mode.nodeid), ("Title", ua.VariantType.LocalizedText), ("At", ua.VariantType.DateTime),
        ("Blob", ua.VariantType.ByteString), ("Id", ua.VariantType.Guid), ("Node", ua.VariantType.NodeId),
        ("Key", ua.VariantType.QualifiedName), ("Any", ua.VariantType.Variant), ("Flags", BOOL, "array"),
        ("Took", ua.NodeId(ua.ObjectIds.Duration)),
    )  # fmt: skip
    guid = bytes(range(16))
    body = [
        i32(1), b"\x03" + text("de") + text("Füller"), struct.pack("<q", 132_223_104_000_000_000), text("\x01\x02"),
        guid, b"\x03" + struct.pack("<H", server.index) + text("PLC1"), struct.pack("<H", 1) + text("key"),
        b"\x04" + struct.pack("<h", -5), struct.pack("<i??", 2, True, False), struct.pack("<d", 2.5),
    ]  # fmt: skip
    await place(server, "recipe", kind.value(*body))
    types = {
        "Mode": DataType.INT32, "At": DataType.DATETIME, "Blob": DataType.BYTES, "Any": DataType.INT16,
        "Flags": DataType.BOOL, "Took": DataType.FLOAT64,
    }  # fmt: skip
    names = ["Mode", "Title", "At", "Blob", "Id", "Node", "Key", "Any", "Flags", "Took"]
    tags = [field(name, name, types.get(name, DataType.STRING)) for name in names]
    async with driver(server.port, [*tags, field("second", "Flags[1]", DataType.BOOL)]) as link:
        changes = await read(link, [*tags, field("second", "Flags[1]")])
    assert statuses(changes) == {}
    assert values(changes) == {
        "Mode": 1, "Title": "Füller", "At": 1_577_836_800_000, "Blob": b"\x01\x02",
        "Id": "03020100-0504-0706-0809-0a0b0c0d0e0f", "Node": f"nsu={PLC};s=PLC1", "Key": "key", "Any": -5,
        "Flags": (True, False), "Took": 2.5, "second": False,
    }  # fmt: skip


async def test_a_union_has_one_of_its_fields_and_an_array_of_structures_is_entered_by_place(server: Any) -> None:
    kind = await define(server, "Result", ("Weight", DOUBLE), ("Error", STRING), is_union=True)
    weight, error = (kind.value(i32(1), struct.pack("<d", 331.5)), kind.value(i32(2), text("jam")))
    await place(server, "recipe", [weight, error])
    tags = [
        field("weight", "[0].Weight", DataType.FLOAT64), field("none", "[0].Error"), field("error", "[1].Error"),
        field("beyond", "[2].Error"),
    ]  # fmt: skip
    async with driver(server.port, tags) as link:
        changes = await read(link, tags)
    assert values(changes) == {"weight": 331.5, "none": None, "error": "jam", "beyond": None}
    assert statuses(changes) == {"none": NO_DATA, "beyond": NO_ELEMENT}


async def test_a_structure_carried_with_its_type_is_found_out_and_one_of_the_standard_too(server: Any) -> None:
    inner = await define(server, "Inner", ("Torque", DOUBLE))
    outer = await define(server, "Outer", ("Payload", ua.NodeId(ua.ObjectIds.Structure)))
    encoding = b"\x03" + struct.pack("<H", inner.encoding.NamespaceIndex)
    numeric = b"\x02" + struct.pack("<HI", inner.encoding.NamespaceIndex, inner.encoding.Identifier)
    assert encoding[1:] == numeric[1:3]
    await place(server, "recipe", outer.value(numeric, b"\x01", i32(8), struct.pack("<d", 12.5)))
    await explain_units(server)
    await place(server, "unit", ua.EUInformation("urn:u", 5, ua.LocalizedText("mm")))
    tags = [field("torque", "Payload.Torque", DataType.FLOAT64), field("unit", "DisplayName", node="s=unit")]
    async with driver(server.port, tags) as link:
        assert values(await read(link, tags)) == {"torque": 12.5, "unit": "mm"}


async def test_what_a_structure_went_through_while_the_link_was_cut_is_fetched(server: Any) -> None:
    kind = await recipe(server)
    node = await place(server, "recipe", kind.value(*recipe_body()))
    speeds = [float(speed) for speed in range(10)]
    async with proxy(server.port) as wire, link(wire.port, NAME, SPEED, structures=True) as record:
        await until(lambda: record.values("speed") == [120.5])
        wire.refuse()
        wire.cut()
        for speed in speeds:
            await node.write_value(kind.value(*recipe_body(speed=speed)))
        wire.accept()
        await until(lambda: record.values("speed")[-1] == speeds[-1])
    assert record.values("speed") == [120.5, *speeds]
    assert record.values("name") == ["P-500"]
    assert record.gaps == []


# --- what is not there, or not what it was --------------------------------------------------------------------------

WRONG = {
    "Sped": "Recipe has no field Sped; its fields are: Name, Head, Items, Note",
    "Head.Sped": "Head has no field Sped; did you mean Speed? Its fields are: Speed, Nozzles",
    "Head": "Head is a structure; name one of its fields: Speed, Nozzles",
    "Items": "Items is an array of structures; write Items[0].<field>",
    "Items.Value": "Items is an array; write Items[0].Value",
    "Head[0].Speed": "Head is no array; take [0] out",
    "Name.Length": "Name has no fields",
}


async def test_a_field_that_does_not_exist_is_bad_and_told_once_in_words(server: Any) -> None:
    kind = await recipe(server)
    node = await place(server, "recipe", kind.value(*recipe_body()))
    tags = [field(path, path) for path in WRONG]
    with capture_logs() as logs:
        async with driver(server.port, [*tags, NAME]) as link:
            batches = link.changes()
            first = await news(batches)
            facts = await link.inspect([tag.tag_id for tag in tags])
            await node.write_value(kind.value(*recipe_body(name="P-330")))
            assert values(await news(batches)) == {"name": "P-330"}
    assert values(first)["name"] == "P-500"
    assert {status for name, status in statuses(first).items()} == {NOT_FOUND, StatusCode.BAD_TYPE_MISMATCH}
    assert {tag.tag_id: fact.problem.replace("Its", "its", 1) for tag, fact in zip(tags, facts, strict=True)} == {
        path: says.replace("Its", "its", 1) for path, says in WRONG.items()
    }
    told = [log["tag"] for log in logs if log["event"] == "field cannot be read"]
    assert sorted(told) == sorted(WRONG)


async def test_a_field_of_another_type_than_configured_is_bad_and_a_drift(server: Any) -> None:
    kind = await recipe(server)
    await place(server, "recipe", kind.value(*recipe_body()))
    async with driver(server.port, [field("speed", "Head.Speed", DataType.INT32), NAME]) as link:
        (change,) = await link.read(["speed"])
        assert change.status_code == StatusCode.BAD_TYPE_MISMATCH
        (facts,) = await link.inspect(["speed"])
        assert (facts.type, facts.problem) == (DataType.FLOAT32, "")
        drifts = []
        async with asyncio.timeout(20):
            async for batch in link.changes():
                drifts += batch.drifts
                if drifts:
                    break
    assert [(drift.name, drift.before, drift.after) for drift in drifts] == [("speed", "Int32", "Float")]


async def test_a_plain_value_where_a_structure_was_is_bad_for_all_its_tags(server: Any) -> None:
    kind = await recipe(server)
    node = await place(server, "recipe", kind.value(*recipe_body()), kind)
    async with driver(server.port, [NAME, SPEED]) as link:
        batches = link.changes()
        await news(batches)
        for variant, status in (
            (ua.Variant(), StatusCode.BAD_DEVICE_FAILURE),
            (ua.Variant(7, ua.VariantType.Int32), StatusCode.BAD_TYPE_MISMATCH),
            (ua.Variant(), StatusCode.BAD_DEVICE_FAILURE),
        ):
            code = StatusCode.GOOD if variant.Value else status
            await server.server.write_attribute_value(node.nodeid, ua.DataValue(variant, ua.StatusCode(code)))
            assert statuses(await news(batches)) == dict.fromkeys(("name", "speed"), status)
        await node.write_value(kind.value(*recipe_body()))
        assert values(await news(batches)) == {"name": "P-500", "speed": 120.5}


@pytest.mark.parametrize(
    "damage",
    [
        lambda parts: parts[:-1],
        lambda parts: [*parts, b"\0"],
        lambda parts: [parts[0], parts[1], f32(1) + i32(2**31 - 1)],
        lambda parts: [parts[0], parts[1], parts[2], i32(2**31 - 1)],
    ],
    ids=["too short", "too long", "a long array", "a long array of structures"],
)
async def test_a_body_that_is_not_what_its_definition_says_is_bad_never_a_guess(server: Any, damage: Any) -> None:
    kind = await recipe(server)
    await place(server, "recipe", kind.value(*damage(recipe_body())))
    async with driver(server.port, [NAME]) as link:
        assert statuses(await read(link, [NAME])) == {"name": StatusCode.BAD_DECODING_ERROR}


async def test_a_type_that_comes_later_is_asked_for_then_and_what_is_not_explained_is_bad(server: Any) -> None:
    node = await place(server, "recipe", ua.ExtensionObject(ua.NodeId(9999, server.index), b"?"))
    async with driver(server.port, [NAME]) as link:
        batches = link.changes()
        assert statuses(await news(batches)) == {"name": TYPE_UNKNOWN}
        kind = await recipe(server)
        await node.write_value(kind.value(*recipe_body()))
        assert values(await news(batches)) == {"name": "P-500"}


@pytest.mark.case("A19")
async def test_a_definition_that_leads_nowhere_or_in_a_circle_leaves_the_type_unknown(server: Any) -> None:
    lost = await define(server, "Lost", ("Name", STRING), ("Gone", ua.NodeId(4711, server.index)))
    loop = await define(server, "Loop", ("Name", STRING))
    definition = await loop.node.read_data_type_definition()
    definition.BaseDataType = loop.node.nodeid
    await loop.node.write_data_type_definition(definition)
    await place(server, "lost", lost.value(text("x"), i32(1)), lost)
    await place(server, "loop", loop.value(text("x")), loop)
    tags = [field("lost", "Name", node="s=lost"), field("loop", "Name", node="s=loop")]
    async with driver(server.port, tags) as link:
        changes = await read(link, tags)
        (facts,) = await link.inspect(["lost"])
    assert (values(changes), statuses(changes)) == ({"lost": None, "loop": "x"}, {"lost": TYPE_UNKNOWN})
    assert facts.problem == "the server does not say what the value is made of; it gives no DataTypeDefinition"


async def test_two_plcs_may_mean_different_types_by_the_same_node_ids(server: Any) -> None:
    async with plc() as other:
        server.server.iserver.aspace._nodeid_counter.clear()
        server.server.iserver.aspace._nodeid_counter.update({0: 50_000, server.index: 70_000})
        other.server.iserver.aspace._nodeid_counter.update({0: 50_000, other.index: 70_000})
        one = await define(server, "Torque", ("Name", STRING), ("Value", DOUBLE))
        two = await define(other, "Torque", ("Value", INT32), ("Name", STRING))
        assert one.encoding == two.encoding
        await place(server, "recipe", one.value(text("M5"), struct.pack("<d", 5.5)))
        await place(other, "recipe", two.value(i32(7), text("M7")))
        here = [NAME, field("value", "Value", DataType.FLOAT64)]
        there = [NAME, field("value", "Value", DataType.INT32)]
        async with driver(server.port, here) as link, driver(other.port, there) as other_link:
            for _ in range(2):
                assert values(await read(link, here)) == {"name": "M5", "value": 5.5}
                assert values(await read(other_link, there)) == {"name": "M7", "value": 7}


# --- writing --------------------------------------------------------------------------------------------------------


async def test_a_field_is_written_by_changing_it_alone_in_the_whole(server: Any) -> None:
    kind = await recipe(server)
    node = await place(server, "recipe", kind.value(*recipe_body(note="keep")))
    tags = [
        field("speed", "Head.Speed", DataType.FLOAT32, rewrite=True), field("third", "Items[2].Value", rewrite=True),
        field("nozzle", "Head.Nozzles[1]", DataType.INT16, rewrite=True), NAME,
    ]  # fmt: skip
    async with driver(server.port, tags) as link:
        wanted = {"speed": 99.5, "third": "longer than before", "nozzle": 300}
        results = await link.write([TagWrite(name, value) for name, value in wanted.items()])
        assert [result.status_code for result in results] == [0, 0, 0]
        assert values(await read(link, tags)) == {**wanted, "name": "P-500"}
    written = (await node.read_value()).Body
    assert written == b"".join(recipe_body(speed=99.5, note="keep", third="longer than before")).replace(
        struct.pack("<hh", 7, -8), struct.pack("<hh", 7, 300)
    )


async def test_a_field_that_may_not_be_rewritten_is_refused_and_nothing_of_its_structure_is_written(
    server: Any,
) -> None:
    kind = await recipe(server)
    node = await place(server, "recipe", kind.value(*recipe_body()))
    tags = [NAME, field("speed", "Head.Speed", DataType.FLOAT32, rewrite=True), field("gone", "Note", rewrite=True)]
    async with driver(server.port, tags) as link:
        refused = await link.write([TagWrite("speed", 1.0), TagWrite("name", "X")])
        mistyped = await link.write([TagWrite("speed", "fast")])
        absent = await link.write([TagWrite("gone", "X")])
    held_back = StatusCode.BAD_REQUEST_CANCELLED_BY_CLIENT
    assert refused == [WriteResult("speed", held_back), WriteResult("name", StatusCode.BAD_NOT_WRITABLE)]
    assert mistyped == [WriteResult("speed", StatusCode.BAD_TYPE_MISMATCH)]
    assert absent == [WriteResult("gone", NO_DATA)]
    assert (await node.read_value()).Body == b"".join(recipe_body())


async def test_an_element_of_an_array_of_structures_is_written_alone(server: Any) -> None:
    item = await define(server, "Step", ("Id", INT32), ("Temp", DOUBLE))
    await place(server, "recipe", [item.value(i32(n), struct.pack("<d", 20.0 + n)) for n in range(3)])
    tags = [field(f"t{n}", f"[{n}].Temp", DataType.FLOAT64, rewrite=True) for n in range(3)]
    async with driver(server.port, tags) as link:
        assert await link.write([TagWrite("t1", 80.5)]) == [WriteResult("t1")]
        assert values(await read(link, tags)) == {"t0": 20.0, "t1": 80.5, "t2": 22.0}
