"""The gate on the gate: every branch of it is taken, and its tests notice when it is spoilt."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def coverage(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Beside the tests' own process, whose imports came before anybody looked."""
    own = {
        "COVERAGE_FILE": str(folder / "coverage"),
        "ICEBALL_MUTANTS": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "coverage", *arguments]
    environment = {**os.environ, **own}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def measured(folder: Path, *tests: str) -> str:
    """The report of branches after these tests; empty when none is missed."""
    pytest_arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    ran = coverage(folder, "run", "--branch", "--source=monitor.decision", *pytest_arguments)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = coverage(folder, "report", "--show-missing", "--fail-under=100")
    return "" if report.returncode == 0 else report.stdout


@pytest.mark.requirement("REQ-GATE")
def test_every_branch_of_the_decision_is_tested(tmp_path: Path) -> None:
    assert measured(tmp_path, "tests/decision", "--ignore=tests/decision/test_gate.py") == ""


def test_a_branch_that_no_test_takes_is_seen(tmp_path: Path) -> None:
    report = measured(tmp_path, "tests/decision/test_protocol.py")
    assert "monitor/decision/safety.py" in report


SURVIVES = """
import sys
sys.path.insert(0, "scripts")
import mutate_decision as mutation

drawn = mutation.sample(16, seed=int(sys.argv[1]))
print([m.name for m in mutation.survivors(drawn)])
"""


@pytest.mark.requirement("REQ-GATE")
@pytest.mark.parametrize("seed", [1])
def test_spoilt_versions_of_the_decision_are_noticed(seed: int) -> None:
    """A sample; all of them: python scripts/mutate_decision.py."""
    command = [sys.executable, "-c", SURVIVES, str(seed)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "[]", ran.stdout + ran.stderr


def test_a_spoilt_version_that_changes_nothing_survives_and_is_listed() -> None:
    """That the run can tell the difference at all."""
    code = """
import sys
sys.path.insert(0, "scripts")
import mutate_decision as mutation

listed = mutation.equivalent()
named = [m for m in mutation.mutants("not_a_number") if m.name in listed]
print(len(named), named == mutation.survivors(named))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.stdout.split() == ["1", "True"], ran.stdout + ran.stderr
