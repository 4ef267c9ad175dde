"""`make cases` itself: what it calls passed was run and passed."""

import subprocess
import sys
from pathlib import Path

from tests.cases import CASES, main

ROOT = Path(__file__).parents[1]

SAMPLE = """
import pytest

def test_r01_holds(record_property):
    record_property("figure", "0 lost in 20 cuts")

def test_r02_fails():
    assert 1 + 1 == 3

def test_r03_needs_a_program():
    pytest.skip("node is not installed")

def test_r04_holds_here():
    pass

def test_r04_holds_against_a_second_server():
    pytest.skip("node is not installed")

@pytest.mark.case("R05")
def test_of_another_name(record_property):
    record_property("figure", "3 of 3")

@pytest.fixture
def breaks():
    yield
    raise RuntimeError

def test_r06_leaves_something_open(breaks):
    pass

def test_no_case():
    raise AssertionError("is not run")
"""


def cases(folder: Path, *names: str) -> tuple[int, list[str]]:
    code = f"import sys; from tests.cases import run; sys.exit(run({list(names)}, {str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


def test_each_case_has_a_line_with_its_verdict_and_figure(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    code, lines = cases(tmp_path, *(f"R0{number}" for number in range(1, 8)))
    told = {line[:3]: line[4:] for line in lines if line[0:1] == "R"}

    assert code == 1, "one failed"
    assert told["R01"] == "passed  0 lost in 20 cuts"
    assert told["R02"].startswith("FAILED")
    assert told["R03"] == "skipped not run: node is not installed", "what did not run has not passed"
    assert told["R04"] == "passed  not run: node is not installed"
    assert told["R05"] == "passed  3 of 3"
    assert told["R06"].startswith("FAILED"), "what breaks while tidying up is broken too"
    assert told["R07"] == "not yet"
    assert lines[-1] == "3 passed, 2 FAILED, 1 skipped, 1 not yet"


def test_without_a_failure_the_exit_code_is_0(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text("def test_s05_holds(): pass\n")
    assert cases(tmp_path, "S05") == (0, ["S05 passed", "1 passed, 0 FAILED, 0 skipped, 0 not yet"])


def test_a_file_that_cannot_be_read_fails_the_whole(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text("def test_s05_holds(: pass\n")
    code, lines = cases(tmp_path, "S05")
    assert code == 1
    assert "cannot be read: " in lines[-2]


def test_a_name_that_is_no_case_is_refused(capsys) -> None:
    assert main(["R26"]) == 2
    assert "R01-R25" in capsys.readouterr().err
    assert (len(CASES), CASES[0], CASES[39], CASES[-1]) == (97, "R01", "S15", "E4")
