"""Imports go one way: domain <- drivers, mqtt, store <- config <- runtime <- cli, web; and never around the corner."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cases import TRAPS

ROOT = Path(__file__).parents[1]

MAY_IMPORT = {
    "domain": {"domain"},
    "drivers": {"domain", "drivers"},
    "mqtt": {"domain", "mqtt"},
    "store": {"domain", "store"},
    "audit": {"domain", "audit"},
    "consumer": {"domain", "mqtt", "consumer"},
    "config": {"domain", "drivers", "mqtt", "store", "config"},
    "runtime": {"domain", "drivers", "mqtt", "store", "audit", "config", "runtime"},
    "cli": {"domain", "drivers", "mqtt", "store", "audit", "consumer", "config", "runtime", "cli"},
}
LAYERS = {
    "domain": ["contract", "tags", "state", "consumption", "production", "writing", "dispatching", "commands"],
    "drivers/opcua": ["secure_channel", "structured", "subscribing"],
    "store": ["salvaging"],
}
"""The folders inside a part, lowest first. What stands beside them is what they share, or what holds them together."""
ONLY_IMPORTER = {"asyncua": "drivers", "pymodbus": "drivers", "paho": "mqtt", "sqlite3": "store", "typer": "cli"}
IMPURE = {"asyncio", "socket", "time", "random", "secrets", "os", "pathlib", "logging", "structlog", "threading", "io"}


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"{package} has no modules: the test looks in the wrong place"
    return found


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the whole name"
            yield str(node.module)


def part_of(path: Path) -> str:
    """`domain` for gateway/domain/state/states.py."""
    return path.relative_to(ROOT / "gateway").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules("gateway"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    part = part_of(path)
    if part in ("__init__", "__main__"):
        return
    own = [name for name in imports(path) if name.split(".")[0] == "gateway" and name != "gateway"]
    wrong = [name for name in own if name.split(".")[1] not in MAY_IMPORT[part]]
    assert not wrong, f"{part} may import {sorted(MAY_IMPORT[part])}, not {wrong}"


@pytest.mark.parametrize("part", LAYERS)
def test_a_folder_imports_only_from_those_below_it(part: str) -> None:
    base, order = ROOT / "gateway" / part, LAYERS[part]
    assert {path.name for path in base.iterdir() if (path / "__init__.py").exists()} == set(order)
    package = f"gateway.{part.replace('/', '.')}."
    for folder in order:
        above = tuple(package + other for other in order[order.index(folder) + 1 :])
        for path in modules(f"gateway/{part}/{folder}"):
            assert not [name for name in imports(path) if name.startswith(above)], path


def test_the_architecture_page_tells_of_every_module_of_the_domain_in_its_folder() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page[page.index("### Inside `domain/`") : page.index("## The way of a value")]
    beside, *rest = re.split(r"\*\*`(\w+)/`\*\*", table)
    told = {"": beside} | dict(zip(rest[::2], rest[1::2], strict=True))
    for path in modules("gateway/domain"):
        folder = "" if path.parent.name == "domain" else path.parent.name
        assert path.stem == "__init__" or f"`{path.stem}`" in told[folder], f"tell of {folder}/{path.stem}"


@pytest.mark.parametrize("path", modules("gateway"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_library_has_one_importer(path: Path) -> None:
    for name in imports(path):
        owner = ONLY_IMPORTER.get(name.split(".")[0])
        assert owner in (None, part_of(path)), f"only gateway/{owner} imports {name}"


@pytest.mark.parametrize("path", modules("gateway/domain"), ids=lambda path: path.name)
def test_the_domain_knows_no_clock_no_io_and_no_chance(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & IMPURE


def test_no_cancellation_is_lost() -> None:
    """Before Python 3.12 `asyncio.wait_for` swallows one that comes when its future is done; `asyncio.timeout` does not."""
    for package in ("gateway", "simulators"):
        for path in modules(package):
            assert "wait_for(" not in path.read_text(encoding="utf-8"), (
                f"{path}: write `async with asyncio.timeout(...)`"
            )


def test_gateway_and_simulators_meet_on_the_wire_only() -> None:
    for path in modules("gateway"):
        assert not [name for name in imports(path) if name.split(".")[0] == "simulators"], path
    for path in modules("simulators"):
        assert not [name for name in imports(path) if name.split(".")[0] == "gateway"], path


@pytest.mark.case("A19", "S12")
def test_no_code_is_made_from_data() -> None:
    banned = {"eval", "exec", "compile", "__import__", "load_type_definitions"}
    for package in ("gateway", "simulators"):
        for path in modules(package):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
            names = {f.id for f in calls if isinstance(f, ast.Name)} | {
                f.attr for f in calls if isinstance(f, ast.Attribute) and f.attr == "load_type_definitions"
            }
            assert not names & banned, path
            assert not {"pickle", "marshal", "shelve"} & {name.split(".")[0] for name in imports(path)}, path


DRIVERS = {"driver", "_driver", "_connection"}
"""What a driver is called wherever one is held."""


def device_calls(name: str, source: str) -> list[str]:
    """Where a driver's `write` or `call` is called, or handed on to be called elsewhere: file, line, function."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.AsyncFunctionDef | ast.FunctionDef):
            continue
        for node in ast.walk(function):
            held = getattr(node, "value", None)
            owner = getattr(held, "id", getattr(held, "attr", None))
            if isinstance(node, ast.Attribute) and node.attr in ("write", "call") and owner in DRIVERS:
                found.append(f"{name}:{node.lineno} {function.name}")
    return found


def test_s03_one_function_writes_to_devices_and_only_behind_the_gate(record_property: Callable) -> None:
    paths = [path for path in modules("gateway") if "drivers" not in path.relative_to(ROOT).parts]
    found = [call for path in paths for call in device_calls(str(path.relative_to(ROOT)), path.read_text("utf-8"))]
    assert [call.rsplit(" ", 1)[1] for call in found] == ["_perform"] * 2, found
    assert {call.split(":")[0] for call in found} == {"gateway/runtime/device_link.py"}, found
    link = (ROOT / "gateway/runtime/device_link.py").read_text("utf-8")
    (perform,) = [f for f in ast.walk(ast.parse(link)) if isinstance(f, ast.AsyncFunctionDef) and f.name == "_perform"]
    names = [node.attr for node in ast.walk(perform) if isinstance(node, ast.Attribute)]
    assert {"admit", "write", "call"} <= set(names)
    text = ast.unparse(perform)
    assert text.index(".admit(") < text.index("driver.write("), "the gate is asked before"
    record_property("figure", f"{len(paths)} modules, one write and one call, both in DeviceLink._perform")


@pytest.mark.parametrize(
    "planted",
    [
        "async def sneak(self):\n    await self._driver.write(())",
        "async def sneak(driver):\n    return await driver.call(())",
        "def sneak(self):\n    later(self._connection.write)",
    ],
)
def test_s03_a_second_way_to_a_device_would_be_found(planted: str) -> None:
    assert [call.rsplit(" ", 1)[1] for call in device_calls("x.py", planted)] == ["sneak"]


def test_every_trap_that_the_code_names_is_explained() -> None:
    explained = set(re.findall(r"^\| ([A-E]\d+) \|", (ROOT / "docs" / "traps.md").read_text(), re.M))
    texts = [path.read_text() for folder in ("gateway", "simulators") for path in (ROOT / folder).rglob("*.py")]
    named = {
        trap
        for text in texts
        for some in re.findall(r"traps? ([A-E]\d{1,2}(?:(?:, | and )[A-E]\d{1,2})*)|\(([A-E]\d{1,2})\)", text)
        for trap in re.findall(r"[A-E]\d{1,2}", " ".join(some))
    }
    assert len(named) > 20
    assert named <= explained, f"explain {', '.join(sorted(named - explained))} in docs/traps.md"
    assert set(TRAPS) <= explained
