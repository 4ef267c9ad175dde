"""Derived tags, paces and units in YAML: what is wrong is named with its place and its cure."""

from pathlib import Path

import pytest

from gateway.config.problems import ConfigError
from gateway.domain.tags.units import COMMON_CODES, common_code, is_unit, nearest_units
from tests.domain.one_machine import plant_of

WHERE = "equipment > ACME/HZ/PACK/L1/M1"
TAGS = """\
    tags:
      left: {register: 0, type: uint16}
      name: {register: 10-17, type: string}
"""

MISTAKES = {
    "a name that is no tag": ('sum: {expression: "left + rigt"}',
        f"{WHERE} > tags > sum > expression: the expression 'left + rigt' names the tag 'rigt', which is not "
        "configured here; the tags are: left, name, sum"),
    "a tag computed of itself": ('sum: {expression: "left + sum"}',
        f"{WHERE} > tags > sum > expression: is computed of itself: sum -> sum"),
    "an expression that never changes": ('sum: {expression: "1 + 1"}',
        f"{WHERE} > tags > sum > expression: '1 + 1' names no tag, so it never changes"),
    "a type that cannot be computed": ('sum: {expression: "left", type: datetime}',
        f"{WHERE} > tags > sum > type: datetime cannot be computed; use a number, bool or string"),
    "an address beside an expression": ('sum: {expression: "left", register: 5}',
        f"{WHERE} > tags > sum > register: the key 'register' is unknown here; Allowed are: expression, publish, type, "
        "unit"),
    "a unit that does not exist": ("sum: {register: 1, type: uint16, unit: kWh}",
        f"{WHERE} > tags > sum > unit: 'kWh' is no known UCUM unit; did you mean 'kW.h'? What has no unit of measure is "
        "put in braces: {bottle}"),
    "a deadband of a text": ("sum: {register: 20-27, type: string, publish: {deadband: 1}}",
        f"{WHERE} > tags > sum > publish > deadband: sum is a string; only numbers have a deadband"),
    "intervals the wrong way round": ("sum: {register: 1, type: uint16, publish: {min_interval: 10s, max_interval: 5s}}",
        f"{WHERE} > tags > sum > publish > max_interval: max_interval 5 s is shorter than min_interval 10 s"),
    "a pace that is none": ("sum: {register: 1, type: uint16, publish: {min_intervall: 10s}}",
        f"{WHERE} > tags > sum > publish > min_intervall: the key 'min_intervall' is unknown here; did you mean 'min_interval'? "
        "Allowed are: deadband, max_interval, min_interval"),
    "a bare duration": ("sum: {register: 1, type: uint16, publish: {min_interval: 10}}",
        f"{WHERE} > tags > sum > publish > min_interval: 10 is not a duration; write a number with its unit: "
        "500ms, 5s, 30min, 2h or 7d"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_with_a_tag_is_named_with_its_place_and_its_cure(tmp_path: Path, mistake: str) -> None:
    tag, expected = MISTAKES[mistake]
    with pytest.raises(ConfigError) as caught:
        plant_of(tmp_path, TAGS + f"      {tag}\n")
    assert [str(problem) for problem in caught.value.problems] == [f"{tmp_path}/plant.yaml:11: {expected}"]


def test_a_circle_of_derived_tags_is_shown_whole(tmp_path: Path) -> None:
    circle = '      a: {expression: "b + 1"}\n      b: {expression: "c + 1"}\n      c: {expression: "a + left"}\n'
    with pytest.raises(ConfigError) as caught:
        plant_of(tmp_path, TAGS + circle)
    told = f"plant.yaml:11: {WHERE} > tags > a > expression: is computed of itself: a -> b -> c -> a"
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("section", "place"),
    [
        ("    download: {parameters: {speed: {tag: sum, min: 0, max: 5}}}\n", "download > parameters > speed > tag"),
        ("    hold: sum\n", "hold"),
    ],
)
def test_a_derived_tag_cannot_be_written(tmp_path: Path, section: str, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plant_of(tmp_path, TAGS + '      sum: {expression: "left + 1"}\n' + section)
    assert f"{WHERE} > {place}: sum is computed by the gateway; name a tag that the device has" in str(caught.value)


def test_a_counter_needs_a_derived_tag_of_whole_numbers(tmp_path: Path) -> None:
    body = TAGS + '      sum: {expression: "left + 1"}\n    counters: {good: {tag: sum, max: 9, max_rate: 1/s}}\n'
    with pytest.raises(ConfigError) as caught:
        plant_of(tmp_path, body)
    assert "sum is a float64; counters are integers" in str(caught.value)


@pytest.mark.parametrize(
    ("unit", "code"),
    [
        ("kg", "KGM"), ("Cel", "CEL"), ("kW.h", "KWH"), ("/min", "C94"), ("{rev}/min", "RPM"), ("{bottle}/min", "C94"),
        ("{bottle}", "C62"), ("{pcs}", "H87"), ("%", "P1"), ("l/min", "L2"), ("ml", "MLT"), ("m3/h", "MQH"),
    ],
)  # fmt: skip
def test_the_common_code_of_a_unit_is_known(unit: str, code: str) -> None:
    assert (is_unit(unit), common_code(unit)) == (True, code)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("°C", "Cel"),
        ("rpm", "{rev}/min"),
        ("Nm", "N.m"),
        ("pcs", "{pcs}"),
        ("KG", "kg"),
        ("mm/sec", "mm/s"),
        ("", None),
    ],
)
def test_a_wrong_unit_leads_to_the_right_one(written: str, meant: str | None) -> None:
    assert not is_unit(written)
    assert next(iter(nearest_units(written)), None) == meant


def test_no_two_units_share_a_code_and_all_codes_have_two_or_three_characters() -> None:
    shared = {unit for unit, code in COMMON_CODES.items() if list(COMMON_CODES.values()).count(code) > 1}
    assert shared == {"{pcs}", "{piece}"}
    assert {len(code) for code in COMMON_CODES.values()} == {2, 3}
