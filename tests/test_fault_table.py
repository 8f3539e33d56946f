"""A small sample of what scripts/fault_table.py does at length."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fault_accounts import account
from fault_rows import Row, markdown, written
from fault_table import SECTIONS, share, table
from fault_tries import whole

pytestmark = pytest.mark.timeout(600)
PLAIN, MACHINE = SECTIONS
SAMPLE = {"other_patient", "abort_in_store", "lost_slices", "slow_peer", "clock_jump"}
FILES = {"too_large", "million_items", "codestream_bomb"}
ROOT = Path(__file__).parents[1]


@pytest.mark.requirement("REQ-EVERY-SLICE", "REQ-HOSTILE-FILES")
def test_a_sample_of_the_faults_loses_nothing_and_is_right_again(tmp_path: Path) -> None:
    rows = table(1, SAMPLE | FILES, 500.0, tmp_path)[PLAIN]
    assert {row.fault for row in rows} == SAMPLE | FILES
    for row in rows:
        assert (row.tries, row.lost, row.wrong) == (1, 0, 0), row
        assert row.sent >= 18
    quarantined = {"other_patient", "million_items", "codestream_bomb"}
    assert {row.fault for row in rows if row.quarantined} == quarantined


def made(page: Path, *names: str) -> dict[str, list[str]]:
    """The cells that the command writes, by fault."""
    page.write_text(f"## {PLAIN}\n\n## {MACHINE}\n", encoding="utf-8")
    command = [sys.executable, "scripts/fault_table.py", "--tries", "1", "--write", str(page)]
    only = [word for name in names for word in ("--only", name)]
    done = subprocess.run([*command, *only], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [x.split(" | ") for x in page.read_text("utf-8").splitlines() if x.startswith("| `")]
    return {cells[0].strip("| `"): cells for cells in rows}


def all_right(rows: dict[str, list[str]], *names: str) -> None:
    assert set(rows) == set(names)
    if why := [cells[2] for cells in rows.values() if cells[2] != "1"]:
        pytest.skip("; ".join(why))
    assert [(cells[5], cells[6]) for cells in rows.values()] == [("0", "1 of 1")] * len(names)


@pytest.mark.long
@pytest.mark.requirement("REQ-RECORD", "REQ-IMAGES-REFUSED")
def test_a_full_disk_that_has_room_again_has_lost_nothing(tmp_path: Path) -> None:
    all_right(made(tmp_path / "page.md", "disk_full"), "disk_full")


@pytest.mark.long
@pytest.mark.parametrize(
    "names",
    [
        ("disk_protected",),
        ("disk_read_only",),
        ("wall_clock_ahead", "wall_clock_back"),
        ("kill_intake", "kill_screen", "kill_console", "kill_pacs", "kill_openigtlink"),
        ("kill_core", "kill_supervisor"),
        ("pacs_away", "kill_pacs_over_it"),
    ],
)
@pytest.mark.requirement("REQ-RESUME", "REQ-DELIVERY", "REQ-RECORD")
def test_the_machines_other_faults_lose_nothing(tmp_path: Path, names: tuple[str, ...]) -> None:
    all_right(made(tmp_path / "page.md", *names), *names)


# ------------------------------------------------------------------ what it counts, and what it says


def test_what_cannot_be_tried_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # nobody's tools
    names = {"disk_full", "disk_read_only", "kill_core", "wall_clock_back"}
    rows = table(1, names, 100.0, tmp_path)[MACHINE]
    told = {row.fault: row.cells()[2] for row in rows}
    assert set(told) == names
    for cell in told.values():
        assert cell.startswith("**not tried**: ")
        assert "the time was up" not in cell


def test_what_is_lost_is_counted(tmp_path: Path) -> None:
    kept, gone = "kept.dcm", "gone.dcm"
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / kept).touch()
    lines: list[dict[str, Any]] = [
        {"kind": "instance_received", "sop_instance_uid": "1", "path": f"blobs/{kept}"},
        {"kind": "instance_received", "sop_instance_uid": "2", "path": f"blobs/{gone}"},
        {"kind": "volume_completed", "sop_instance_uids": ["1", "2"]},
        {"kind": "association_ended"},
    ]
    numbered = [{"seq": n, **x} for n, x in enumerate(lines, 1)]
    row, room = Row("a", "b"), SimpleNamespace(record=tmp_path, journal=lambda: numbered)
    account(room, row, 0, ["1", "2"])  # type: ignore[arg-type]
    assert (row.sent, row.lost) == (2, 0)
    account(room, row, 0, ["1", "2", "3"])  # type: ignore[arg-type]
    assert row.lost == 1  # 3 is nowhere
    whole(room, row)  # type: ignore[arg-type]
    assert (row.lost, row.wrong) == (2, 0)  # a file is gone
    numbered[-1] = {"seq": 5, "kind": "fault"}
    numbered.append(json.loads(json.dumps(numbered[-1])))  # word for word the same line
    whole(room, row)  # type: ignore[arg-type]
    assert (row.lost, row.wrong) == (5, 2)  # line 4 is missing, line 5 is one too many


def test_the_time_is_shared_by_what_a_round_takes() -> None:
    assert share(100.0, [1.0, 1.0, 2.0]) == 25.0
    assert share(75.0, [1.0, 2.0]) == 25.0
    assert share(50.0, [2.0]) == 50.0


def test_the_tables_take_the_places_of_those_before(tmp_path: Path) -> None:
    page = tmp_path / "faults.md"
    page.write_text(
        f"# Faults\n\nwords\n\n## {PLAIN}\n\nwhat is done\n\n| old | table |\n|---|---|\n"
        f"\nafter it\n\n## {MACHINE}\n\nwords\n\n| old | too |\n|---|---|\n\n## Others\n\nothers\n",
        encoding="utf-8",
    )
    rows = [Row("stall", "a silence", 2, 40, 0, 0, 1, [0.5])], [Row("kill_core", "a kill")]
    for _ in range(2):
        for section, of in zip((PLAIN, MACHINE), rows, strict=True):
            written(page, section, of)
    text = page.read_text(encoding="utf-8")
    assert [text.count(markdown(of)) for of in rows] == [1, 1]
    assert "old" not in text
    assert text.endswith("\n\n## Others\n\nothers\n")
    assert "what is done\n\n| fault |" in text
    assert "\n\nafter it\n\n## " in text
    assert "1 of 2 | 0.5 (at most 0.5)" in text
    assert "| `kill_core` | a kill | **not tried**: the time was up |" in text
