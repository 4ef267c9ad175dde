"""What a wrong `handshake:` is told at `gateway check`: the line, what is wrong, and what would be right."""

from pathlib import Path

import pytest

from gateway.config.load import load_plant
from gateway.config.problems import ConfigError

PLANT = """\
gateway: {id: edge-01, site: ACME/HZ}
mqtt: {client_id: edge-01}
devices:
  PLC: {driver: modbus, host: 127.0.0.1}
  SCADA: {driver: opcua, url: "opc.tcp://127.0.0.1:4840", namespace: urn:s1, security: none}
equipment:
  ACME/HZ/A/L1/M1:
    device: PLC
    tags:
      speed: {register: 0, type: uint16}
      shown: {register: 1, type: uint16}
      name: {register: 20-29, type: string, encoding: ascii}
      number: {register: 2, type: uint16}
      word_bit: {register: 3, type: uint16, bit: 4}
      flag: {register: 5, table: coil, type: bool}
      other: {register: 6, table: coil, type: bool}
      far: {device: SCADA, node: s=far, type: bool}
      far_speed: {device: SCADA, node: s=far_speed, type: uint16}
    download:
      parameters: {speed: {tag: speed, readback: shown, min: 0, max: 9}}
      handshake: HANDSHAKE
"""
BITS = "type: request_bits, request: flag, acknowledged: other, done: other, error: number"


def problems(folder: Path, handshake: str, **changes: str) -> list[str]:
    text = PLANT.replace("HANDSHAKE", handshake)
    for old, new in changes.items():
        text = text.replace(f"{old}: {old}", f"{old}: {new}")
    (folder / "plant.yaml").write_text(text, encoding="utf-8")
    try:
        load_plant(folder)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("handshake", "says"),
    [
        ("{type: request_bit}", "'request_bit' is no handshake; did you mean 'request_bits'? Known are: data_ready,"),
        ("{type: request_bits, request: flag}", "the key 'done' is missing; request_bits needs the tag for it"),
        (f"{{{BITS}, acknowlege_timeout: 3s}}", "'acknowlege_timeout' is unknown here; did you mean 'acknowledge_timeout'?"),
        (f"{{{BITS}, done_timeout: 3 apples}}", "handshake > done_timeout: '3 apples'"),
        (f"{{{BITS}, poll: 0s}}", "must be longer than nothing"),
        (f"{{{BITS.replace('request: flag', 'request: number')}}}", "number is not a bool"),
        (f"{{{BITS.replace('request: flag', 'request: word_bit')}}}", "word_bit is one bit of a word, which cannot be written alone"),
        (f"{{{BITS.replace('error: number', 'error: name')}}}", "name is not a number or a bool"),
        (f"{{{BITS.replace('error: number', 'error: 7')}}}", "7 is not the name of a tag"),
        (f"{{{BITS.replace('done: other', 'done: othr')}}}", "the tag 'othr' is unknown; did you mean 'other'?"),
        (f"{{{BITS.replace('done: other', 'done: far')}}}", "what a download writes must be on one device: speed is on PLC and far is on SCADA"),
        ("{type: sequence_number, command: flag, acknowledged: number, status: number, error: number}", "flag is not an integer"),
        ("{type: packml, command: number, request: flag, state: number, value: 1}", "the key 'reached' is missing; packml needs a number"),
        ("{type: packml, command: number, request: flag, state: number, value: one, reached: 4}", "'one' is not a whole number"),
        ("{type: recipe_buffer, checksum: number, trigger: flag, status: number, error: number, algorithm: crc8}", "'crc8' is unknown; it is one of crc16-modbus, crc16-ccitt, crc32"),
        ("{type: data_ready, ready: flag, echo: other, algorithm: crc32}", "the key 'algorithm' is unknown here"),
        ("{type: none, done: 2}", "the key 'done' is unknown here; Allowed are: poll, readback_timeout"),
        ("{type: method, object: s=R}", "the key 'method' is missing"),
    ],
)  # fmt: skip
def test_a_wrong_handshake_is_told_with_its_cure(tmp_path: Path, handshake: str, says: str) -> None:
    told = problems(tmp_path, handshake)
    assert any("plant.yaml:" in line and says in line for line in told), told


def test_a_right_one_is_taken_and_may_read_a_status_bit_out_of_a_word(tmp_path: Path) -> None:
    assert problems(tmp_path, f"{{{BITS}}}") == []
    assert problems(tmp_path, f"{{{BITS.replace('done: other', 'done: word_bit')}}}") == []


def test_what_is_read_back_may_be_on_another_device_but_on_one(tmp_path: Path) -> None:
    assert problems(tmp_path, "{type: none}", shown="far_speed") == []
    (tmp_path / "plant.yaml").write_text(
        PLANT.replace("HANDSHAKE", "{type: none}").replace(
            "min: 0, max: 9}}", "min: 0, max: 9}, two: {tag: number, readback: far_speed, min: 0, max: 1}}"
        )
    )
    with pytest.raises(ConfigError, match="what a download reads back must be on one device"):
        load_plant(tmp_path)
