"""docs/downloads.md names every profile with every key and default, and every code; its YAML can be copied."""

import re
from pathlib import Path
from textwrap import indent

import pytest

import gateway.domain.writing.download as download_machine
from gateway.config.load import load_plant
from gateway.domain.writing.profiles import PROFILES
from tests.stage import ROOT

DOCS = (ROOT / "docs" / "downloads.md").read_text(encoding="utf-8")
(PIECE,) = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
PLANT = """\
gateway: {id: edge-01, site: ACME/HZ}
mqtt: {client_id: edge-01}
devices:
  S1: {driver: opcua, url: "opc.tcp://127.0.0.1:4840", namespace: urn:s1, security: none}
equipment:
  ACME/HZ/PACK/L1/X1:
    device: S1
    tags:
"""


def written(milliseconds: int) -> str:
    """As people write durations in the YAML."""
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def test_the_section_can_be_copied(tmp_path: Path) -> None:
    tags = {"remote": "bool", "permit": "bool", "oven_sp": "float32", "oven_now": "float32"}
    rows = "".join(f"      {name}: {{node: s={name}, type: {kind}}}\n" for name, kind in tags.items())
    (tmp_path / "plant.yaml").write_text(PLANT + rows + indent(PIECE, "    "), encoding="utf-8")
    (spec,) = load_plant(tmp_path).equipment
    assert spec.download is not None
    assert (spec.download.contact_timeout, spec.download.handshake.times["readback_timeout"]) == (1_800_000, 2_000)


@pytest.mark.parametrize("name", PROFILES)
def test_every_key_of_every_profile_is_listed_with_its_default(name: str) -> None:
    profile = PROFILES[name]
    (row,) = [line for line in DOCS.splitlines() if line.startswith(f"| `{name}`")]
    wanted = [f"`{key}`" for key in profile.signals]
    wanted += [f"`{key}`" if value is None else f"`{key}: {value}`" for key, value in profile.settings.items()]
    wanted += [f"`{key}: {written(value)}`" for key, value in profile.times.items() if key != "poll"]
    assert [text for text in wanted if text not in row] == []


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_offers_no_time_that_does_nothing(name: str) -> None:
    profile = PROFILES[name]
    moves = [*profile.clear, *profile.commit, *profile.release]
    used = {getattr(move, "within", getattr(move, "time", None)) for move in moves} - {None, "poll"}
    assert used == set(profile.times) - {"poll", "readback_timeout"}


def test_every_code_of_a_download_is_explained() -> None:
    source = Path(download_machine.__file__).read_text(encoding="utf-8")
    ended = re.findall(r'_end\("(?:REJECTED|FAILED)", "(\w+)"', source)
    failed = re.findall(r'_fail\("(\w+)"', source)
    waited = [m.code for p in PROFILES.values() for part in (p.clear, p.commit) for m in part if hasattr(m, "code")]
    codes = {
        *ended,
        *failed,
        *(code for code in waited if code),
        "readback",
        "interrupted",
        "write_unanswered",
        "write_refused",
    }
    assert len(codes) >= 12
    assert sorted(code for code in codes if f"`{code}`" not in DOCS) == []
