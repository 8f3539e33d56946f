"""A small sample of what scripts/fault_table.py does at length."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_table import Row, markdown, table, written

pytestmark = pytest.mark.timeout(600)
SAMPLE = {"other_patient", "abort_in_store", "lost_slices", "slow_peer", "clock_jump"}


@pytest.mark.requirement("REQ-EVERY-SLICE")
def test_a_sample_of_the_faults_loses_nothing_and_is_right_again(tmp_path: Path) -> None:
    rows = table(1, SAMPLE, 500.0, tmp_path)
    assert {row.fault for row in rows} == SAMPLE
    for row in rows:
        assert (row.tries, row.lost, row.wrong) == (1, 0, 0), row
        assert row.sent >= 18
    assert {row.fault for row in rows if row.quarantined} == {"other_patient"}


def test_the_table_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    page = tmp_path / "faults.md"
    page.write_text(
        "# Faults\n\nwords\n\n## Scanner and network\n\nwhat is done\n\n| old | table |\n|---|---|\n"
        "\n## Processes, disk and clock\n\nothers\n",
        encoding="utf-8",
    )
    row = Row("stall", "a silence", 2, 40, 0, 0, 1, [0.5])
    for _ in range(2):
        written(page, [row])
    text = page.read_text(encoding="utf-8")
    assert text.count(markdown([row])) == 1
    assert "old" not in text
    assert text.endswith("\n\n## Processes, disk and clock\n\nothers\n")
    assert "what is done\n\n| fault |" in text
    assert "1 of 2 | 0.5 (at most 0.5)" in text
