"""What the README shows works as it stands there."""

import re
from pathlib import Path

from typer.testing import CliRunner

from gateway.cli.app import app

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_ten_lines_of_yaml_are_a_plant(tmp_path: Path) -> None:
    (block,) = [text for text in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "PRESS1" in text]
    (tmp_path / "plant.yaml").write_text(block, encoding="utf-8")
    result = CliRunner().invoke(app, ["check", "-c", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "ACME/HZ/STAMP/L1/PRESS1: 2 tags, writes allowed: none" in result.output


def test_every_event_type_is_named() -> None:
    from gateway.domain.contract.events import EVENT_TYPES

    assert [kind.type for kind in EVENT_TYPES if f"`{kind.type}`" not in README] == []


def test_every_local_link_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (Path(__file__).parents[1] / link).exists()] == []
