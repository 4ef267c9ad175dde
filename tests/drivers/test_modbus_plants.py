"""Modbus devices in a plant's YAML: what goes together, what does not, and what a tag's type is for everybody else."""

from pathlib import Path

import pytest

from gateway.config.load import load_plant
from gateway.config.plant import Plant
from gateway.config.problems import ConfigError
from gateway.domain.tags.conversion import same_value, to_raw
from gateway.domain.values import DataType

GATEWAY = """\
gateway: {id: edge-01, site: ACME/HZ}
mqtt: {client_id: edge-01}
"""


def plant(folder: Path, text: str) -> Plant:
    (folder / "plant.yaml").write_text(GATEWAY + text, encoding="utf-8")
    return load_plant(folder)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        plant(folder, text)
    return [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems]


TWO_DEVICES = """\
devices:
  OVEN:  {{driver: modbus, host: 10.1.2.11, {one}}}
  METER: {{driver: modbus, host: 10.1.2.11, {two}}}
"""

TOGETHER = {
    "two units of one gateway": ("unit_id: 1", "unit_id: 2"),
    "different limits for different units": ("unit_id: 1, max_registers: 32", "unit_id: 2, timeout: 2s"),
    "the same unit behind two ports": ("unit_id: 1", "unit_id: 1, port: 503"),
    "the default port written out": ("unit_id: 1, port: 502", "unit_id: 2"),
}


@pytest.mark.parametrize("story", TOGETHER)
def test_devices_that_go_together_share_an_endpoint(tmp_path, story):
    one, two = TOGETHER[story]
    assert set(plant(tmp_path, TWO_DEVICES.format(one=one, two=two)).devices) == {"OVEN", "METER"}


CONFLICTS = {
    "another transport": (
        "unit_id: 1", "unit_id: 2, transport: rtu_over_tcp",
        "10.1.2.11:502 has another transport there; units on one connection agree on it",
    ),
    "the same unit twice": (
        "unit_id: 3", "unit_id: 3",
        "10.1.2.11:502 unit 3 is configured there; give each unit one device, or correct unit_id",
    ),
    "another certificate": (
        "unit_id: 1, transport: tls, ca_file: a.pem", "unit_id: 2, transport: tls, ca_file: b.pem",
        "10.1.2.11:802 has another ca_file there; units on one connection agree on it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", CONFLICTS)
def test_devices_that_cannot_share_their_endpoint_are_told_with_both_places(tmp_path, story):
    one, two, words = CONFLICTS[story]
    assert problems(tmp_path, TWO_DEVICES.format(one=one, two=two)) == [
        f"plant.yaml:5: devices > METER: does not go together with OVEN ({tmp_path}/plant.yaml:4): {words}"
    ]


def test_units_on_one_serial_line_agree_on_its_speed_and_parity(tmp_path):
    text = """\
devices:
  OVEN:  {driver: modbus, transport: rtu, port: /dev/ttyUSB0, unit_id: 1}
  METER: {driver: modbus, transport: rtu, port: /dev/ttyUSB0, unit_id: 2, baudrate: 9600, parity: none, stopbits: 2}
"""
    (problem,) = problems(tmp_path, text)
    assert problem.endswith(
        "/dev/ttyUSB0 has another baudrate, parity, stopbits there; units on one connection agree on it"
    )


SCALED = """\
devices:
  INV: {driver: modbus, host: 10.1.2.11}
equipment:
  ACME/HZ/A/L1/INV:
    device: INV
    tags:
      limit: {register: 10, type: int16, scale_register: 13}
    download:
      parameters:
        limit: {tag: limit, min: 0, max: 100, class: trim}
"""


def test_a_parameter_behind_a_scale_register_keeps_its_digits_on_the_way_to_the_device_and_back(tmp_path):
    loaded = plant(tmp_path, SCALED)
    download = loaded.equipment[0].download
    assert download is not None
    conversion = download.parameters["limit"].conversion
    assert loaded.devices["INV"].tags[0].type is DataType.INT16, "the register is what it is"
    assert conversion.type is DataType.FLOAT64
    assert to_raw(12.34, conversion) == 12.34
    assert same_value(7000.0, 7000, conversion.type), "a device whose scale is 3 says 7 and means 7000"
    assert not same_value(1.0, True, conversion.type)


@pytest.mark.parametrize(("table", "cure"), [("input", "name a holding register"), ("discrete", "name a coil")])
def test_a_parameter_in_a_table_that_can_only_be_read_is_told_before_anybody_downloads_it(tmp_path, table, cure):
    kind = "uint16" if table == "input" else "bool"
    text = SCALED.replace("type: int16, scale_register: 13", f"type: {kind}, table: {table}")
    if kind == "bool":
        text = text.replace("min: 0, max: 100, ", "")
    assert problems(tmp_path, text) == [
        "plant.yaml:9: equipment > ACME/HZ/A/L1/INV > tags > limit: the configuration lets the gateway write this tag, "
        f"but table {table} can only be read; {cure}"
    ]


RARELY = """\
devices:
  M1: {driver: modbus, host: 10.1.2.11, poll_interval: 60s}
equipment:
  ACME/HZ/A/L1/M1:
    device: M1
    tags:
      running: {register: 0, type: uint16, bit: 0}
      energy:  {register: 8-9, type: uint32}
    state:
      stale_after: 30s
      rules: [{to: RUN, when: "running"}, {to: IDLE, when: "true"}]
"""


def test_a_device_that_is_polled_more_rarely_than_it_may_be_silent_is_told(tmp_path):
    assert problems(tmp_path, RARELY) == [
        "plant.yaml:12: equipment > ACME/HZ/A/L1/M1 > state > stale_after: M1 is polled only every 60 s; "
        "lengthen stale_after or shorten poll_interval"
    ]
    fast = RARELY.replace("register: 0, type: uint16,", "register: 0, type: uint16, poll_interval: 1s,")
    assert plant(tmp_path, fast).devices["M1"], "one group that is polled often enough is sign of life enough"
