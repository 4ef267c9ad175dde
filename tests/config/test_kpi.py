"""The section `kpi`: what is planned comes from YAML or from a parameter, in a unit of time or of a rate."""

from pathlib import Path

import pytest

from gateway.config.load import load_plant
from gateway.domain.production.kpi import IsoTime, KpiSpec
from gateway.domain.state.states import State
from tests.config.test_check import DEVICE, GATEWAY, problems

MACHINE = """\
equipment:
  ACME/HZ/A/L1/M1:
    device: M1
    tags:
      word: {register: 0, type: uint16}
      pace: {register: 1, type: uint16, unit: /min}
      level: {register: 2, type: uint16, unit: mm}
    state: {rules: [{to: RUN, when: "bit(word, 0)"}]}
    download: {parameters: {pace: {tag: pace, min: 1, max: 9}, level: {tag: level, min: 1, max: 9}}}
    kpi: KPI
"""


@pytest.mark.parametrize(
    ("kpi", "spec"),
    [
        ("true", KpiSpec()),
        ("false", None),
        ("{cycle_time: 500ms}", KpiSpec(500.0)),
        ("{cycle_parameter: pace}", KpiSpec(None, "pace", 60_000, True)),
        ("{times: {DOWN: ADET}}", KpiSpec(times={State.DOWN: IsoTime.ADET})),
    ],
)
def test_what_is_planned_is_a_time_or_a_rate(tmp_path: Path, kpi: str, spec: KpiSpec | None) -> None:
    (tmp_path / "plant.yaml").write_text(GATEWAY + DEVICE + MACHINE.replace("KPI", kpi), encoding="utf-8")
    assert load_plant(tmp_path).equipment[0].kpi == spec


MISTAKES = {
    "an unknown parameter": ("{cycle_parameter: pase}",
        "kpi > cycle_parameter: no such parameter: pase; those of download are: pace, level"),
    "a unit that is no time": ("{cycle_parameter: level}",
        "kpi > cycle_parameter: level is in mm; it must be in ms, s, min, h, /ms, /s, /min, /h"),
    "a time that does not exist": ("{times: {DOWN: ADTT}}", "kpi > times > DOWN: input should be 'APT', 'AUST', 'ADET'"),
    "no time at all": ("{cycle_time: 0s}", "kpi > cycle_time: input should be greater than 0"),
}  # fmt: skip


@pytest.mark.parametrize(("kpi", "says"), MISTAKES.values(), ids=MISTAKES)
def test_what_is_wrong_with_it_is_told_with_its_line(tmp_path: Path, kpi: str, says: str) -> None:
    (found,) = problems(tmp_path, m=MACHINE.replace("KPI", kpi), p=GATEWAY + DEVICE)
    assert found.startswith("m.yaml:10: equipment > ACME/HZ/A/L1/M1 > ")
    assert says in found


def test_indicators_need_states(tmp_path: Path) -> None:
    stateless = MACHINE.replace("    state:", "    #state:").replace("KPI", "true")
    (found,) = problems(tmp_path, m=stateless, p=GATEWAY + DEVICE)
    assert found.endswith("kpi: needs the section state: the indicators are shares of the time spent in the states")
