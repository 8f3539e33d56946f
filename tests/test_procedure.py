"""A case and its delineations have to fit together. LPS mm."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.cli import main

CASE = """
[patient]
id = "A"
[organ]
preset = "liver"
[lesion]
centre_lps_mm = [0.0, 0.0, 0.0]
radius_mm = 10.0
[[needle]]
number = 1
type = "icerod_1_5"
tip_lps_mm = [0.0, 0.0, 0.0]
entry_lps_mm = [0.0, -100.0, 0.0]
[[needle]]
number = 7
type = "icerod_1_5"
tip_lps_mm = [{x_mm}, 0.0, 0.0]
entry_lps_mm = [{x_mm}, -100.0, 0.0]
"""


def check(folder: Path, x_mm: float) -> int:
    case = folder / "case.toml"
    case.write_text(CASE.format(x_mm=x_mm), encoding="utf-8")
    return main(["check", str(case)])


@pytest.mark.requirement("REQ-NEEDLES")
def test_a_needle_far_from_the_lesion_is_an_error_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(tmp_path, 210.0) == 2
    error = capsys.readouterr().err
    assert "needle 7: tip_lps_mm: 200 mm from the lesion, expected at most 60 mm" in error
    assert "needle 1" not in error


def test_a_tip_beyond_the_lesion_is_fine(tmp_path: Path) -> None:
    assert check(tmp_path, 45.0) == 0


def test_the_example_case_can_be_checked_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    example = Path(__file__).parents[1] / "docs" / "example_case.toml"
    assert main(["check", str(example)]) == 0
    assert "1 needle(s)" in capsys.readouterr().out
