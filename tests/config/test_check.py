"""The configuration check: every error of all files at once, each with file, line, what is wrong and what is right."""

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.config.load import load_plant
from gateway.config.problems import ConfigError

GATEWAY = """\
gateway: {id: edge-01, site: ACME/HZ}
mqtt: {client_id: edge-01}
"""
DEVICE = """\
devices:
  M1: {driver: modbus, host: 127.0.0.1}
"""
MACHINE = """\
equipment:
  ACME/HZ/A/L1/M1:
    device: M1
    tags:
      word: {register: 0, type: uint16}
      good: {register: 1, type: uint16}
    state:
      rules:
        - {to: RUN, when: "bit(word, 0)"}
"""


def problems(folder: Path, **files: str) -> list[str]:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_plant(folder)
    return [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems]


def test_the_smallest_plant_is_right(tmp_path: Path) -> None:
    (tmp_path / "plant.yaml").write_text(GATEWAY + DEVICE + MACHINE, encoding="utf-8")
    plant = load_plant(tmp_path)
    assert [spec.unit for spec in plant.equipment] == ["M1"]
    assert [tag.tag_id for tag in plant.devices["M1"].tags] == ["M1.word", "M1.good"]


MISTAKES = {
    "a tag that does not exist": ("good: {register: 1, type: uint16}", "goot: {register: 1, type: uint16}",
        []),
    "an unknown tag in an expression": ('"bit(word, 0)"', '"bit(wort, 0)"',
        ["m.yaml:9: equipment > ACME/HZ/A/L1/M1 > state > rules > 0 > when: the expression 'bit(wort, 0)' names the tag "
         "'wort', which is not configured here; the tags are: good, word"]),
    "an expression that does not parse": ('"bit(word, 0)"', '"bit(word, 0"',
        ["m.yaml:9: equipment > ACME/HZ/A/L1/M1 > state > rules > 0 > when: the expression 'bit(word, 0' does not parse: "
         "'(' was never closed at column 4"]),
    "an unknown state": ("to: RUN", "to: RUNNING",
        ["m.yaml:9: equipment > ACME/HZ/A/L1/M1 > state > rules > 0 > to: input should be 'RUN', 'IDLE', 'STARVED', "
         "'BLOCKED', 'HELD', 'DOWN', 'SETUP', 'MAINT', 'OFF' or 'UNKNOWN' (it is 'RUNNING')"]),
    "an unknown key": ("type: uint16}\n      good", "typ: uint16}\n      good",
        ["m.yaml:5: equipment > ACME/HZ/A/L1/M1 > tags > word > typ: the key 'typ' is unknown here; did you mean 'type'? "
         "Allowed are: bit, bits, byte_order, device, encoding, enum, heartbeat, offset, poll_interval, publish, "
         "register, scale, scale_register, sentinels, swap_bytes, table, type, unit, word_order",
         "m.yaml:5: equipment > ACME/HZ/A/L1/M1 > tags > word: the key 'type' is missing"]),
    "a key given twice": ("    device: M1\n", "    device: M1\n    device: M2\n",
        ["m.yaml:4: equipment > ACME/HZ/A/L1/M1: the key 'device' is already given in line 3; keep one of the two"]),
    "a wrong type": ("good: {register: 1, type: uint16}", "good: {register: one, type: uint16}",
        ["m.yaml:6: equipment > ACME/HZ/A/L1/M1 > tags > good > register: 'one' is not a register; write one address (100) "
         "or a range with both ends (30-37)"]),
    "an unknown device": ("device: M1", "device: M7",
        ["m.yaml:3: equipment > ACME/HZ/A/L1/M1 > device: the device 'M7' is not configured; the devices are: M1"]),
    "a place outside the site": ("ACME/HZ/A/L1/M1", "ACME/SH/A/L1/M1",
        ["m.yaml:2: equipment > ACME/SH/A/L1/M1: does not lie in the gateway's site; write ACME/HZ/<area>/<line>/<unit>"]),
    "an alias": ("device: M1", "device: *m",
        ["m.yaml:3: uses the alias *m; aliases are not allowed, write the value out"]),
    "a bare duration": ("    state:\n", "    state:\n      debounce: 5\n",
        ["m.yaml:8: equipment > ACME/HZ/A/L1/M1 > state > debounce: 5 is not a duration; write a number with its unit: "
         "500ms, 5s, 30min, 2h or 7d"]),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_place_and_its_cure(tmp_path: Path, mistake: str) -> None:
    right, wrong, expected = MISTAKES[mistake]
    assert right in MACHINE
    files = {"g": GATEWAY + DEVICE, "m": MACHINE.replace(right, wrong, 1)}
    if expected:
        assert sorted(problems(tmp_path, **files)) == sorted(expected)
    else:
        for name, text in files.items():
            (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
        load_plant(tmp_path)


WRITES = """\
    download:
      parameters:
        speed: {tag: good, %s}
"""


def test_a_write_without_limits_is_an_error(tmp_path: Path) -> None:
    told = problems(tmp_path, g=GATEWAY + DEVICE, m=MACHINE + WRITES % "min: 5")
    assert told == [
        "m.yaml:12: equipment > ACME/HZ/A/L1/M1 > download > parameters > speed: the key 'max' is missing: nothing is "
        "written without limits"
    ]


def test_limits_the_wrong_way_round_are_an_error(tmp_path: Path) -> None:
    told = problems(tmp_path, g=GATEWAY + DEVICE, m=MACHINE + WRITES % "min: 5, max: 3")
    assert told == [
        "m.yaml:12: equipment > ACME/HZ/A/L1/M1 > download > parameters > speed > min: min 5 is above max 3"
    ]


def test_errors_of_all_files_come_at_once(tmp_path: Path) -> None:
    told = problems(
        tmp_path,
        g=GATEWAY.replace("edge-01, site", "edge 01, site") + DEVICE.replace("127.0.0.1", "127.0.0.1, prot: 502"),
        m=MACHINE.replace("uint16", "uint17").replace('"bit(word, 0)"', '"bit(wort, 0)"'),
    )
    assert [line.split(":")[:2] for line in told] == [
        ["g.yaml", "1"], ["g.yaml", "4"], ["m.yaml", "5"], ["m.yaml", "6"], ["m.yaml", "9"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1, 2", "is not YAML"),
        ("a:\n\tb: 1", "indent with spaces"),
        ("a: &x [1]\nb: [*x, *x]", "anchors are not allowed"),
        ("[" * 10_000, "nested deeper than 40 levels"),
        ("a: " + "x" * 6_000_000, "at most 5,000,000 are read"),
        ("a: !!python/object:os.system x", "tags are not allowed"),
        ("gateway: {id: a\x00b}", "is not YAML"),
        ("just text", "is not a mapping; its top level has gateway, mqtt, calendar, devices, equipment"),
    ],
)
def test_hostile_yaml_is_refused_quickly_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    started = time.process_time()
    told = problems(tmp_path, hostile=text)
    assert any(line.startswith("hostile.yaml:") and says in line for line in told), told
    assert time.process_time() - started < 1


def test_words_mean_what_they_say(tmp_path: Path) -> None:
    from gateway.config.yaml_reader import read_yaml

    (tmp_path / "w.yaml").write_text(
        'a: no\nb: 12:30:00\nc: 017\nd: 0x1F\ne: true\nf: 1e3\ng: "5"\nh:\ni: 1.5\nj: -7', encoding="utf-8"
    )
    assert read_yaml(tmp_path / "w.yaml", "w.yaml").data == {
        "a": "no", "b": "12:30:00", "c": "017", "d": 31, "e": True, "f": 1000.0, "g": "5", "h": None, "i": 1.5, "j": -7,
    }  # fmt: skip


def test_a_site_differs_by_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = "devices:\n  M1:\n    driver: modbus\n    host: 127.0.0.1\n    port: ${TEST_PORT:-1502}\n"
    text = GATEWAY + device + MACHINE
    (tmp_path / "plant.yaml").write_text(text, encoding="utf-8")
    assert load_plant(tmp_path).devices["M1"].settings.model_dump()["port"] == 1502
    monkeypatch.setenv("TEST_PORT", "2502")
    assert load_plant(tmp_path).devices["M1"].settings.model_dump()["port"] == 2502
    told = problems(tmp_path, plant=text.replace(":-1502", ""), other="gateway:\n  id: ${TEST_NOTHING}")
    assert any("the environment variable TEST_NOTHING is not set" in line for line in told)


def test_ten_thousand_tags_are_checked_in_under_three_seconds(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text(GATEWAY + DEVICE, encoding="utf-8")
    for machine in range(100):
        tags = "".join(
            f"      t{n}: {{register: {n * 2}-{n * 2 + 1}, type: uint32, publish: true}}\n" for n in range(100)
        )
        body = MACHINE.replace("L1/M1", f"L1/X{machine}").replace("    state:", tags + "    state:")
        (tmp_path / f"m{machine}.yaml").write_text(body, encoding="utf-8")
    started = time.process_time()
    plant = load_plant(tmp_path)
    assert time.process_time() - started < 3
    assert sum(len(spec.tags) for spec in plant.equipment) == 10_200


def test_the_command_shows_every_problem_and_exits_2(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text(GATEWAY + DEVICE, encoding="utf-8")
    (tmp_path / "m.yaml").write_text(MACHINE.replace("uint16", "uint17"), encoding="utf-8")
    result = CliRunner().invoke(app, ["check", "-c", str(tmp_path)])
    assert result.exit_code == 2
    assert "m.yaml:5" in result.output
    assert "m.yaml:6" in result.output
    assert "2 problems; nothing was started" in result.output


def test_the_demo_plant_is_right() -> None:
    result = CliRunner().invoke(app, ["check", "-c", str(Path(__file__).parents[2] / "config")])
    assert result.exit_code == 0, result.output
    assert "3 devices, 3 equipment, 63 tags" in result.output


def test_s06_a_device_that_is_spoken_to_in_clear_is_named(tmp_path: Path) -> None:
    devices = """\
devices:
  M1: {driver: modbus, host: 127.0.0.1}
  SAFE: {driver: opcua, url: "opc.tcp://127.0.0.1:4840"}
  OPEN: {driver: opcua, url: "opc.tcp://127.0.0.1:4841", security: none}
"""
    (tmp_path / "g.yaml").write_text(GATEWAY + devices + MACHINE, encoding="utf-8")
    result = CliRunner().invoke(app, ["check", "-c", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "neither signed nor encrypted: M1, OPEN\n" in result.output
