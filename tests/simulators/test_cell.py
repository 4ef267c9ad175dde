"""The cell: every way to take parameters as a machine plays it, by levels; its faults; its command."""

import pytest
from asyncua import Client, ua
from stages import ready, simulator

from simulators.models.handshakes.faults import FaultError, Faults, joined, parse
from simulators.models.handshakes.machine import PARAMETERS, Machine, Write
from simulators.models.handshakes.ways import BAD_SEAL, BUSY, DONE, EXECUTE, REJECTED, START, WAYS, Seal, Value
from simulators.servers.cell_opcua import URI

NEW = {"speed": 120, "oven": 1750}
SEALED = {"checksum": Seal().checksum([*NEW.values()]), "length": 8}
ASKS: dict[str, dict[str, Value]] = {
    "sequence_number": {"command": 1},
    "request_bits": {"request": True},
    "data_ready": {"ready": True},
    "packml": {"command": START, "request": True},
    "recipe_buffer": {**SEALED, "trigger": True},
    "machine_pull": {"answered": True},
    "scada_trigger": {"trigger": True},
}
"""What a client writes behind the values to have them taken."""
ANSWERS: dict[str, tuple[dict[str, Value], dict[str, Value], dict[str, Value]]] = {
    "sequence_number": (
        {"acknowledged": 1, "status": BUSY, "error": 0},
        {"acknowledged": 1, "status": DONE, "error": 0},
        {"acknowledged": 1, "status": REJECTED, "error": 5},
    ),
    "request_bits": (
        {"acknowledged": True, "done": False, "error": 0},
        {"acknowledged": True, "done": True, "error": 0},
        {"acknowledged": True, "done": False, "error": 5},
    ),
    "data_ready": ({"echo": False, "error": 0}, {"echo": True, "error": 0}, {"echo": False, "error": 5}),
    "packml": (
        {"request": False, "in_process": True, "state": 2},
        {"request": False, "in_process": False, "state": EXECUTE},
        {"request": False, "in_process": False, "state": 2},
    ),
    "recipe_buffer": (
        {"trigger": True, "status": BUSY, "error": 0},
        {"trigger": False, "status": DONE, "error": 0},
        {"trigger": False, "status": REJECTED, "error": 5},
    ),
    "machine_pull": ({"request": True}, {"request": False}, {"request": False}),
    "scada_trigger": ({"done": False}, {"done": True}, {"done": False}),
}
"""While it works, when it has taken them, and when it refuses with error 5."""


def give(machine: Machine, at_ms: int = 0, values: dict[str, int] = NEW) -> None:
    """Write values and ask the machine to take them."""
    for name, value in values.items():
        machine.write(f"{name}_set", value, at_ms)
    for tag, signal in ASKS[machine.name].items():
        machine.write(tag, signal, at_ms)


def shown(machine: Machine, like: dict[str, Value]) -> dict[str, Value]:
    return {tag: machine.tags[tag] for tag in like}


@pytest.mark.parametrize("way", ASKS)
def test_a_machine_hears_works_and_answers_and_repeated_scans_change_nothing(way: str) -> None:
    machine = Machine(way, work_ms=50)
    give(machine)
    working, taken, _ = ANSWERS[way]
    for now_ms in (0, 10, 49):
        machine.scan(now_ms)
        assert (shown(machine, working), machine.active) == (working, PARAMETERS)
    for now_ms in (50, 60, 200):
        machine.scan(now_ms)
        assert (shown(machine, taken), machine.active) == (taken, NEW)
    assert machine.taken == [PARAMETERS, NEW]


@pytest.mark.parametrize("way", ASKS)
def test_a_machine_that_refuses_says_so_once_and_keeps_what_it_works_with(way: str) -> None:
    machine = Machine(way, Faults(error=5))
    give(machine)
    for now_ms in (0, 10, 20):
        machine.scan(now_ms)
        assert (shown(machine, ANSWERS[way][2]), machine.active) == (ANSWERS[way][2], PARAMETERS)
    machine.faults = Faults()
    machine.scan(30)
    assert (machine.active == PARAMETERS) is (way != "scada_trigger"), "only a script tries again by itself"


@pytest.mark.parametrize("way", ASKS)
def test_a_late_machine_hears_what_is_still_asked_of_it_and_a_deaf_one_nothing(way: str) -> None:
    late, deaf = Machine(way, Faults(late_ms=100)), Machine(way, Faults(is_deaf=True))
    for machine in (late, deaf):
        give(machine)
        before = dict(machine.tags)
        for now_ms in (0, 99):
            machine.scan(now_ms)
            assert machine.tags == before
        machine.scan(100)
    assert (late.active, deaf.active) == (NEW, PARAMETERS)


@pytest.mark.parametrize("way", ["request_bits", "scada_trigger", "machine_pull", "recipe_buffer"])
def test_what_is_taken_back_before_a_scan_has_seen_it_never_was(way: str) -> None:
    """So a SCADA system misses a pulse that is shorter than its scan."""
    machine = Machine(way, Faults(late_ms=30))
    machine.scan(0)
    give(machine)
    machine.scan(20)
    (signal,) = set(ASKS[way]) & {"request", "trigger", "answered"}
    machine.write(signal, False, 40)
    machine.scan(60)
    machine.write(signal, True, 70)
    machine.scan(90)
    assert machine.active == PARAMETERS, "its time begins anew"
    machine.scan(120)
    assert machine.active == NEW


def test_answer_bits_go_down_with_the_request_and_a_toggle_works_both_ways() -> None:
    bits, toggle = Machine("request_bits"), Machine("data_ready")
    give(bits)
    give(toggle)
    for machine in (bits, toggle):
        machine.scan(0)
    bits.write("request", False, 10)
    toggle.write("speed_set", 130, 10)
    toggle.write("ready", False, 10)
    for machine in (bits, toggle):
        machine.scan(10)
    assert shown(bits, ANSWERS["request_bits"][0]) == {"acknowledged": False, "done": False, "error": 0}
    assert (toggle.tags["echo"], toggle.active["speed"]) == (False, 130)


def test_an_error_of_a_toggle_is_there_until_the_toggle_is_taken_back() -> None:
    machine = Machine("data_ready", Faults(error=5))
    give(machine)
    machine.scan(0)
    machine.write("ready", False, 10)
    machine.scan(10)
    assert machine.tags["error"] == 0


@pytest.mark.parametrize("algorithm", ["crc16-modbus", "crc16-ccitt", "crc32"])
@pytest.mark.parametrize("byte_order", ["big", "little"])
def test_a_buffer_is_taken_only_with_its_seal(algorithm: str, byte_order: str) -> None:
    seal = Seal(algorithm, byte_order)
    for spoilt in (None, "checksum", "length"):
        machine = Machine("recipe_buffer", seal=seal)
        give(machine)
        machine.write("checksum", seal.checksum([*NEW.values()]), 0)
        if spoilt is not None:
            machine.write(spoilt, 7, 0)
        machine.scan(0)
        is_taken = (machine.tags["error"], machine.active) == (0, NEW)
        assert is_taken or (machine.tags["error"], machine.active) == (BAD_SEAL, PARAMETERS)
        assert is_taken is (spoilt is None)


def test_the_checksums_are_those_of_the_catalogue() -> None:
    """The check values for the nine digits, here the eight bytes of two numbers by hand."""
    assert Seal("crc32").content([1, 2]) == bytes.fromhex("0000000100000002")
    assert Seal("crc32", "little").content([1, -2]) == bytes.fromhex("01000000feffffff")
    values = [0x31323334, 0x35363738]
    checks = {name: Seal(name).checksum(values) for name in ("crc16-modbus", "crc16-ccitt", "crc32")}
    assert checks == {"crc16-modbus": 0x37DD, "crc16-ccitt": 0xA12B, "crc32": 0x9AE0DAAF}


def test_clamped_ignored_and_refused_writes() -> None:
    machine = Machine("none", Faults(ceilings={"speed": 110}, ignored=frozenset({"oven_set"})))
    assert machine.write("speed_set", 120, 1)
    assert machine.write("oven_set", 1750, 2)
    machine.scan(3)
    assert machine.active == {"speed": 110, "oven": 1700}
    machine.faults = Faults(refused=frozenset({"oven_set"}))
    assert not machine.write("oven_set", 1750, 4)
    assert machine.tags["oven_set"] == 1700
    assert machine.writes == [
        Write(1, "speed_set", 120, True), Write(2, "oven_set", 1750, True), Write(4, "oven_set", 1750, False)
    ]  # fmt: skip


@pytest.mark.parametrize("faults", [Faults(is_deaf=True), Faults(error=5)])
def test_a_machine_that_is_told_nothing_takes_what_it_finds_unless_it_is_deaf_or_refuses(faults: Faults) -> None:
    machine = Machine("none", faults)
    machine.write("speed_set", 120, 0)
    machine.scan(0)
    assert machine.active == PARAMETERS
    machine.faults = Faults()
    machine.scan(10)
    machine.scan(20)
    assert machine.taken == [PARAMETERS, {"speed": 120, "oven": 1700}]


def test_a_machine_that_pulls_does_not_ask_while_the_last_answer_stands() -> None:
    machine = Machine("machine_pull")
    give(machine)
    machine.scan(0)
    machine.ask()
    assert machine.tags["request"] is False
    machine.write("answered", False, 10)
    machine.ask()
    machine.scan(10)
    assert (machine.tags["request"], machine.taken) == (True, [PARAMETERS, NEW])


def test_a_method_answers_with_its_error_and_a_deaf_machine_says_yes() -> None:
    machine = Machine("method")
    for faults, answer, speed in ((Faults(error=5), 5, 100), (Faults(is_deaf=True), 0, 100), (Faults(), 0, 120)):
        machine.faults = faults
        machine.write("speed_set", 120, 0)
        assert (machine.call(), machine.active["speed"]) == (answer, speed)


@pytest.mark.parametrize("is_retentive", [True, False])
def test_a_restart_keeps_the_memory_or_loses_it(is_retentive: bool) -> None:
    machine = Machine("request_bits", work_ms=50)
    give(machine)
    machine.scan(0)
    machine.restart(is_retentive=is_retentive)
    machine.scan(40)
    machine.scan(89)
    assert machine.active == PARAMETERS, "the work begins anew"
    machine.scan(90)
    assert machine.active == (NEW if is_retentive else PARAMETERS)


@pytest.mark.parametrize("way", WAYS)
def test_what_a_crash_left_up_is_gone_after_a_reset(way: str) -> None:
    machine = Machine(way)
    new = dict(machine.tags)
    machine.leave_stale()
    assert (machine.tags == new) is (way in ("none", "method"))
    machine.write("speed_set", 1, 0)
    machine.reset()
    assert (machine.tags, machine.writes, machine.taken) == (new, [], [PARAMETERS])


def test_faults_as_the_command_line_says_them() -> None:
    texts = ["deaf", "late=20", "error=5", "clamp=speed/110", "clamp=oven/9", "ignore=speed_set", "refuse=oven_set"]
    parsed = [parse(f"packml:{text}") for text in texts]
    assert {way for way, _ in parsed} == {"packml"}
    assert joined([faults for _, faults in parsed]) == Faults(
        is_deaf=True, late_ms=20, error=5, ceilings={"speed": 110, "oven": 9},
        ignored=frozenset({"speed_set"}), refused=frozenset({"oven_set"}),
    )  # fmt: skip


@pytest.mark.parametrize("text", ["packml", "packml:deaf=1", "packml:error=0", "packml:clamp=speed", "packml:late=x"])
def test_a_fault_that_is_none_is_answered_with_those_there_are(text: str) -> None:
    with pytest.raises(FaultError, match=f"--fault {text}: write WAY:deaf"):
        parse(text)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--fault", "packml:dead"], "--fault packml:dead: write WAY:deaf, WAY:late=2000"),
        (["--fault", "bits:deaf"], "there is no machine 'bits'; there are sequence_number, request_bits"),
        (["--fault", "none:refuse=speed"], "--fault none: nobody writes speed; clients write oven_set, speed_set"),
        (["--fault", "none:clamp=x/5"], "--fault none: no parameter 'x'; there are speed, oven"),
        (["--scan-ms", "0"], "--scan-ms 0 is no time between two scans"),
    ],
)
def test_what_the_command_cannot_do_it_says(options: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    from simulators.__main__ import main

    assert main(["cell", *options]) == 2
    assert text in capsys.readouterr().err


async def test_the_cell_runs_alone_with_its_faults() -> None:
    options = ("--fault", "none:clamp=speed/110", "--fault", "none:refuse=oven_set", "--stale", "data_ready")
    with simulator("cell", *options, "--ask-s", "0.2", "--modbus-port", "0") as process:
        doors = ready(process)["ready"]
        assert doors["MODBUS"].startswith("modbus://127.0.0.1:")
        async with Client(doors["CELL"]) as client:
            index = await client.get_namespace_index(URI)

            def node(name: str) -> object:
                return client.get_node(ua.NodeId(name, index))

            oven, speed = node("none.oven_set"), node("none.speed_set")
            with pytest.raises(ua.uaerrors.BadUserAccessDenied):
                await oven.write_value(ua.DataValue(ua.Variant(1750, ua.VariantType.Int32)))
            await speed.write_value(ua.DataValue(ua.Variant(120, ua.VariantType.Int32)))
            while await node("none.speed_now").read_value() != 110:
                pass
            assert await oven.read_value() == 1700
            assert await node("data_ready.echo").read_value() is True
            for answered in (True, False):
                await node("machine_pull.answered").write_value(ua.DataValue(ua.Variant(answered)))
                while await node("machine_pull.request").read_value() is answered:
                    pass
            assert await node("method").call_method(f"{index}:Apply") == 0
