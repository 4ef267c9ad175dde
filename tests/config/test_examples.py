"""The plants in docs/examples are what people copy, so they must be right."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.config.load import load_plant
from gateway.domain.writing.profiles import PROFILES

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(folder for folder in (ROOT / "docs" / "examples").iterdir() if folder.is_dir())


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_gateway_check_finds_nothing_wrong_with_the_examples(folder: Path) -> None:
    checked = CliRunner().invoke(app, ["check", "-c", str(folder)])
    assert (checked.exit_code, checked.stdout[:2]) == (0, "ok"), checked.stdout


def test_the_cell_shows_every_handshake_once() -> None:
    downloads = [item.download for item in load_plant(ROOT / "docs" / "examples" / "cell").equipment]
    shown = [download.handshake.profile for download in downloads if download is not None]
    assert len(shown) == len(PROFILES)
    assert all(profile in shown for profile in PROFILES.values())
