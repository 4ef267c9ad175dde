"""The section `job_control`: what is wrong is told with its place and its cure; the page of it can be copied."""

import re
from pathlib import Path
from textwrap import indent

import pytest

from gateway.config.load import load_plant
from gateway.config.plant import Plant
from gateway.config.problems import ConfigError
from gateway.domain.contract.job_states import NAMESPACE, Action, method_node
from tests.stage import ROOT

DOCS = (ROOT / "docs" / "job_control.md").read_text(encoding="utf-8")
PIECES = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
HEAD = """\
gateway: {id: edge-01, site: ACME/HZ}
mqtt: {client_id: edge-01}
devices:
  M1: {driver: opcua, url: "opc.tcp://127.0.0.1:4840", namespace: "urn:m", security: none, structures: true}
  P1: {driver: modbus, host: 127.0.0.1}
equipment:
  ACME/HZ/PACK/L1/M1:
    device: M1
    tags: {state: {node: s=State, type: int32}}
"""
SECTION = "    job_control:\n      object: s=JobControl\n"


def load(folder: Path, body: str, head: str = HEAD) -> Plant:
    (folder / "plant.yaml").write_text(head + body, encoding="utf-8")
    return load_plant(folder)


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: str(PIECES.index(piece)))
def test_a_piece_of_the_page_can_be_copied(tmp_path: Path, piece: str) -> None:
    (spec,) = load(tmp_path, indent(piece, "    ")).equipment
    assert spec.download is not None
    assert spec.download.job is not None


def test_every_key_and_every_action_is_on_the_page() -> None:
    from gateway.config.job_models import JobControlSection, JobOrderSection, JobParameterSection

    for model in (JobControlSection, JobOrderSection, JobParameterSection):
        for name, field in model.model_fields.items():
            assert f"`{field.alias or name}`" in DOCS, name
    assert [action for action in Action if f"`{action}`" not in DOCS] == []


@pytest.mark.parametrize(
    ("start", "actions", "methods"),
    [
        ("on_command", "", {"Store"}),
        ("on_download", "", {"StoreAndStart"}),
        ("automatic", "", {"Store", "Start"}),
        ("on_command", "actions: [pause, revoke_start]", {"Store", "Pause", "RevokeStart"}),
    ],
)
def test_nothing_may_be_called_that_the_yaml_does_not_ask_for(
    tmp_path: Path, start: str, actions: str, methods: set[str]
) -> None:
    made = load(tmp_path, f"{SECTION}      start: {start}\n      {actions}\n")
    always = {"Update", "Cancel", "Abort", "Clear"}
    assert made.devices["M1"].allowed.methods == {method_node(name) for name in methods | always}
    assert made.devices["M1"].allowed.tags == frozenset()
    assert {tag.tag_id for tag in made.devices["M1"].tags} == {"M1.state", "M1.job_list", "M1.job_capacity"}
    assert made.devices["M1"].tags[1].address.component == (NAMESPACE, "JobOrderList")


def test_the_receiver_may_be_on_another_device_and_only_that_one_may_be_called(tmp_path: Path) -> None:
    other = (
        '  J1: {driver: opcua, url: "opc.tcp://127.0.0.1:4841", namespace: "urn:j", security: none, structures: true}'
    )
    made = load(tmp_path, SECTION + "      device: J1\n", HEAD.replace("  P1:", f"{other}\n  P1:"))
    assert made.devices["M1"].allowed.methods == frozenset()
    assert method_node("Store") in made.devices["J1"].allowed.methods
    assert [tag.tag_id for tag in made.devices["J1"].tags] == ["M1.job_list", "M1.job_capacity"]


NUMBER = "      parameters: {fill: {type: float32"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (SECTION + NUMBER + "}}\n", "12: equipment > ACME/HZ/PACK/L1/M1 > job_control > parameters > fill: the key 'min' is missing"),
        (SECTION + NUMBER + ", min: 5, max: 1}}\n", "min 5 is above max 1"),
        (SECTION + "      parameters: {text: {type: string}}\n", "text is a string; parameters are numbers or bool"),
        (SECTION + "      parameters: {on: {type: bool, max: 1}}\n", "on is a bool and has no limits; take max out"),
        (
            SECTION + "      parameters: {a: {id: X, type: bool}, b: {id: X, type: bool}}\n",
            "X is the id of a already; each JobOrderParameter is given once",
        ),
        (SECTION + "      job_order: {id: 'WO'}\n", "'WO' must have {order} in it once"),
        (SECTION + "      job_order: {id: '{order}{op}'}\n", "has two fields side by side"),
        (SECTION + "      job_order: {work_master: '{sett}'}\n", "{sett} is not known here; the fields are: {order}"),
        (SECTION + "      actions: [jump]\n", "jump"),
        (SECTION.replace("s=JobControl", "JobControl"), "'JobControl' is not a node"),
        (SECTION + "    download: {parameters: {a: {tag: state, min: 0, max: 1}}}\n", "keep download or job_control"),
        ("    order: {from: job_control}\n", "from: job_control needs the section job_control beside it"),
        (
            SECTION + "    lanes: {left: {order: {from: job_control}}}\n",
            "a lane gets its orders from a tag or a unit upstream",
        ),
        (SECTION + "      device: P1\n", "needs structures: true at its device, an OPC UA server"),
        (SECTION + "      permit: state == \n", "the expression"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_cure(tmp_path: Path, body: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, body)
    told = [str(problem) for problem in caught.value.problems]
    assert any(says in line for line in told), told


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (", structures: true", "", "needs structures: true at its device"),
        ("{state: {", "{job_list: {node: s=x, type: int32}, state: {", "job_list is a tag of job_control; take another name"),
    ],
)  # fmt: skip
def test_what_it_needs_around_it_is_told(tmp_path: Path, before: str, after: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, SECTION, HEAD.replace(before, after))
    assert any(says in str(problem) for problem in caught.value.problems)
