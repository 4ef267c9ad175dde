"""Two equipments that write to one node or register undo each other's downloads: `gateway check` refuses them."""

from pathlib import Path

import pytest

from gateway.config.load import load_plant
from gateway.config.problems import ConfigError

DEVICES = """\
gateway: {id: edge-01, site: ACME/HZ}
mqtt: {client_id: edge-01}
devices:
  PLC: {driver: modbus, host: 127.0.0.1, port: 1502}
  NEXT: {driver: modbus, host: 127.0.0.1, port: 1502, unit_id: 2}
  SCADA: {driver: opcua, url: "opc.tcp://127.0.0.1:4840", namespace: "urn:s", security: none, structures: true}
  OTHER: {driver: opcua, url: "opc.tcp://127.0.0.1:4841", namespace: "urn:s", security: none}
  AGAIN: {driver: opcua, url: "opc.tcp://127.0.0.1:4840", namespace: "urn:t", security: none}
equipment:
"""
MACHINE = """\
  ACME/HZ/A/L1/{name}:
    device: {device}
    tags:
      speed: {{{speed}, type: {type}}}
      number: {{{number}, type: uint16}}
      status: {{{status}, type: uint16}}
    download:
      parameters: {{speed: {{tag: speed{limits}}}}}
      handshake: {{type: sequence_number, command: number, acknowledged: status, status: status, error: status}}
"""
REGISTERS = {"speed": "register: 0", "number": "register: 1", "status": "register: 2", "type": "uint16"}
OTHERS = {"speed": "register: 10", "number": "register: 11", "status": "register: 12"}
NODES = {"speed": "node: s=M1.speed", "number": "node: s=M1.number", "status": "node: s=status", "type": "uint16"}
OTHER_NODES = {"speed": "node: s=M2.speed", "number": "node: s=M2.number"}
LIMITS = {"limits": ", min: 0, max: 1"}
CURE = "one undoes what the other has brought down; correct the address, or let one of them alone write it"


def problems(folder: Path, *machines: dict[str, str]) -> list[str]:
    text = DEVICES + "".join(MACHINE.format(name=f"M{n}", **LIMITS | machine) for n, machine in enumerate(machines, 1))
    (folder / "plant.yaml").write_text(text, encoding="utf-8")
    try:
        load_plant(folder)
    except ConfigError as error:
        return [str(problem).replace(f"{folder}/", "") for problem in error.problems]
    return []


def test_two_machines_on_one_request_are_refused_with_the_line_of_the_second_and_the_name_of_the_first(
    tmp_path: Path,
) -> None:
    first, second = {"device": "PLC"} | REGISTERS, {"device": "PLC"} | REGISTERS | OTHERS
    assert problems(tmp_path, first, second) == []
    assert problems(tmp_path, first, second | {"number": "register: 1"}) == [
        "plant.yaml:23: equipment > ACME/HZ/A/L1/M2 > tags > number: holding 1 is written for M1.number too "
        f"(plant.yaml:14): {CURE}"
    ]


@pytest.mark.parametrize(
    ("speed", "type_", "collides"),
    [
        ("register: 1", "uint16", True),
        ("register: 1-2", "uint32", True),
        ("register: 2", "uint16", False),  # M1 only reads its status
        ("register: 0, bits: 3-4", "uint16", True),
        ("register: 3, bits: 3-4", "uint16", False),
    ],
)
def test_registers_collide_when_they_share_one(tmp_path: Path, speed: str, type_: str, *, collides: bool) -> None:
    second = {"device": "PLC"} | REGISTERS | OTHERS | {"speed": speed, "type": type_}
    found = problems(tmp_path, {"device": "PLC"} | REGISTERS, second)
    assert [line for line in found if "is written for M1." in line] == found
    assert bool(found) is collides


@pytest.mark.parametrize(
    ("bits", "collides"),
    [
        ("3-5", True),
        ("5-6", False),
        ("3-4, byte_order: little", False),  # as they travel, 11 and 12
        ("11-12, byte_order: little", True),
    ],
)
def test_bits_of_one_register_may_belong_to_two_machines(tmp_path: Path, bits: str, *, collides: bool) -> None:
    first = {"device": "PLC"} | REGISTERS | {"speed": "register: 0, bits: 3-4"}
    second = {"device": "PLC"} | REGISTERS | OTHERS | {"speed": f"register: 0, bits: {bits}"}
    assert bool(problems(tmp_path, first, second)) is collides


def test_the_same_registers_of_another_unit_are_other_registers(tmp_path: Path) -> None:
    assert problems(tmp_path, {"device": "PLC"} | REGISTERS, {"device": "NEXT"} | REGISTERS) == []


def test_a_coil_is_no_register_of_the_same_number(tmp_path: Path) -> None:
    coil = {"speed": "register: 0, table: coil", "type": "bool", "limits": ""}
    assert problems(tmp_path, {"device": "PLC"} | REGISTERS, {"device": "PLC"} | REGISTERS | OTHERS | coil) == []


def test_a_node_that_two_machines_write_is_refused_and_one_that_both_read_is_not(tmp_path: Path) -> None:
    first = {"device": "SCADA"} | NODES
    assert problems(tmp_path, first, first | OTHER_NODES) == []
    (found,) = problems(tmp_path, first, first | OTHER_NODES | {"speed": "node: nsu=urn:s;s=M1.number"})
    assert "nsu=urn:s;s=M1.number is written for M1.number too" in found


def test_two_devices_with_one_url_are_one_server_but_names_in_two_namespaces_are_two_nodes(tmp_path: Path) -> None:
    first, second = {"device": "SCADA"} | NODES, {"device": "AGAIN"} | NODES
    assert problems(tmp_path, first, second) == []
    assert problems(tmp_path, first, first | {"device": "OTHER"}) == [], "another url"
    (found,) = problems(tmp_path, first, second | {"number": "node: nsu=urn:s;s=M1.number"})
    assert "is written for M1.number too" in found


def test_the_parts_of_one_object_are_nodes_of_their_own(tmp_path: Path) -> None:
    part = 'node: s=set, component: "nsu=urn:s;{}"'
    first = {"device": "SCADA"} | NODES | {"speed": part.format("Speed")}
    assert problems(tmp_path, first, first | OTHER_NODES | {"speed": part.format("Pace")}) == []
    assert len(problems(tmp_path, first, first | OTHER_NODES | {"speed": part.format("Speed")})) == 1


@pytest.mark.parametrize(
    ("field", "collides"), [("Head.Speed", True), ("Head.Count", False), ("Head", True), ("Head.Speed.Raw", True)]
)
def test_fields_of_one_structure_collide_where_one_is_in_the_other(
    tmp_path: Path, field: str, *, collides: bool
) -> None:
    first = {"device": "SCADA"} | NODES | {"speed": "node: s=set, field: Head.Speed, rewrite: true"}
    second = {"device": "SCADA"} | NODES | OTHER_NODES | {"speed": f"node: s=set, field: {field}, rewrite: true"}
    assert bool(problems(tmp_path, first, second)) is collides


def test_two_tags_of_one_machine_at_one_place_are_refused_too(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, {"device": "PLC"} | REGISTERS | {"number": "register: 0"})
    assert "holding 0 is written for M1.speed too" in found


def test_a_hold_bit_belongs_to_one_machine_for_releasing_the_lot_of_one_would_release_that_of_the_other(
    tmp_path: Path,
) -> None:
    hold = "    hold: hold\n    device: {device}\n    tags:\n      hold: {{node: s=hold, type: bool}}\n"
    text = DEVICES + "".join(f"  ACME/HZ/A/L1/{name}:\n" + hold.format(device="SCADA") for name in ("M1", "M2"))
    (tmp_path / "plant.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"M2 > tags > hold: s=hold is written for M1\.hold too"):
        load_plant(tmp_path)
