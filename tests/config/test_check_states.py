"""Ready-made state models in YAML: what is wrong is named with its place and its cure."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.config.problems import ConfigError
from tests.domain.one_machine import plant_of, tags

WHERE = "equipment > ACME/HZ/PACK/L1/M1 > state"
TAGS = "    tags:\n      word: {register: 0, type: uint16}\n      name: {register: 10-17, type: string}\n"

MISTAKES = {
    "a model that does not exist": ("{model: pacml}",
        f"{WHERE} > model: the model 'pacml' does not exist; did you mean 'packml'? The models are: "
        "packml, machinery, mtconnect, weihenstephan, run-stop"),
    "a model without the tag of its state": ("{model: packml}",
        f"{WHERE} > model: the model packml needs the tag of its state: call a tag state or StateCurrent or "
        "Status.StateCurrent, or write tags: {state: <tag>}. The tags are: word, name"),
    "a role that does not exist": ("{model: packml, tags: {state: word, moed: word}}",
        f"{WHERE} > tags > moed: the model packml has no role 'moed'; did you mean 'mode'? Its roles are: state, "
        "machine_state, execute_state, mode, starved, blocked, stop_reason"),
    "a role with a tag that does not exist": ("{model: packml, tags: {state: wort}}",
        f"{WHERE} > tags > state: the tag 'wort' is unknown; did you mean 'word'? The tags are: word, name"),
    "roles without a model": ('{tags: {state: word}, rules: [{to: RUN, when: "word == 1"}]}',
        f"{WHERE} > tags: has no meaning without a model; take it out or write model: <name>"),
    "neither rules nor model": ("{debounce: 5s}",
        f"{WHERE}: needs rules: of its own, or a ready-made model: packml, machinery, mtconnect, weihenstephan, run-stop"),
    "half of the nested states": ("{model: packml, tags: {state: word, machine_state: word}}",
        f"{WHERE} > model: nested states need the tags of all of state, machine_state, execute_state, not only of "
        "state, machine_state"),
    "nested states of two kinds": ("{model: packml, tags: {state: word, machine_state: word, execute_state: name}}",
        f"{WHERE} > model: the tags of state, machine_state, execute_state must be all numbers or all text, like that "
        "of state"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_with_a_model_is_named_with_its_place_and_its_cure(tmp_path: Path, mistake: str) -> None:
    state, expected = MISTAKES[mistake]
    with pytest.raises(ConfigError) as caught:
        plant_of(tmp_path, TAGS + f"    state: {state}\n")
    assert [str(problem) for problem in caught.value.problems] == [f"{tmp_path}/plant.yaml:11: {expected}"]


def test_a_wrong_own_rule_beside_a_model_is_still_found(tmp_path: Path) -> None:
    body = tags(state="int32") + '    state: {model: packml, rules: [{to: SETUP, when: "moed == 4"}]}\n'
    with pytest.raises(ConfigError) as caught:
        plant_of(tmp_path, body)
    assert "names the tag 'moed', which is not configured here" in str(caught.value)


def test_the_check_shows_which_tag_plays_which_role(tmp_path: Path) -> None:
    derived = '      idle: {expression: "StateCurrent == 4", type: bool}\n'
    names = tags(StateCurrent="uint16", UnitModeCurrent="uint16") + derived
    plant_of(tmp_path, names + "    state: {model: packml}\n")
    result = CliRunner().invoke(app, ["check", "-c", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "M1: 2 tags, 1 derived, writes allowed: none\n" in result.output
    assert (
        "state: packml, state = StateCurrent, mode = UnitModeCurrent; without machine_state, execute_state, starved, "
        "blocked, stop_reason\n"
    ) in result.output
