"""A whole procedure at the console, from nothing to the end, by mouse and keys on real X servers.

The hands are those of ``scripts/play_console.py``, which also makes the user guide's pictures. What was done
is read from the journal, what was drawn from the case that the console wrote; the truth is the simulator's.
"""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from desktop import missing_tools
from PIL import Image
from play_console import LESION_SEMI_MM, SCENARIO, Told, play
from scanner_desk import rendered

from monitor.cli import main

SIMULATED = Path(__file__).parents[2] / "scanner_sim" / "scenarios" / f"{SCENARIO}.toml"
# Where pictures and record are to stay, to be looked at; with scans/ in it that need not be made again.
KEPT = os.environ.get("ICEBALL_GUIDE_DIR", "")
pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(bool(missing_tools()), reason=f"needs {', '.join(missing_tools())}"),
]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rendered(SCENARIO, Path(KEPT) / "scans" if KEPT else tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def played(
    dcmtk: dict[str, str], scans: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Told, Path]:
    out = Path(KEPT) if KEPT else tmp_path_factory.mktemp("played")
    return play(out, scans), out


@pytest.fixture(scope="module")
def journal(played: tuple[Told, Path]) -> list[dict[str, Any]]:
    lines = (played[1] / "record" / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(x) for x in lines]


@pytest.fixture(scope="module")
def case(played: tuple[Told, Path]) -> Path:
    """What the console sent."""
    return played[1] / "record" / "console" / "001"


def of(journal: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [x for x in journal if x["kind"] == kind]


def test_ready_within_two_minutes(played: tuple[Told, Path]) -> None:
    told, _ = played
    print(told)
    assert told.plan.person_s() + told.waited_s < 120.0
    assert told.plan.clicks + told.plan.drags + told.plan.keys < 60


def test_the_acts_are_those_of_the_hands(journal: list[dict[str, Any]]) -> None:
    acts = [x["act"] for x in of(journal, "operator") if x["act"] != "acknowledge"]
    assert acts == [
        "pick_baseline", "reload", "phase_next", "accept_ice", "needle", "undo", "what_if", "reject_ice",
        "undo", "correct_ice", "phase_next", "undo", "phase_next", "phase_next",
    ]  # fmt: skip
    assert [x["verdict"] for x in of(journal, "ice_reviewed")] == [
        "accepted", "rejected", "measured", "corrected",
    ]  # fmt: skip
    assert [x["act"] for x in of(journal, "undone")] == ["needle", "reject_ice", "phase_next"]
    phases = [(x["phase"], x["cycle"]) for x in of(journal, "phase")]
    assert phases == [
        ("freeze", 1), ("thaw", 1), ("freeze", 1), ("thaw", 1), ("freeze", 2), ("ended", 2),
    ]  # fmt: skip
    assert of(journal, "what_if")
    assert not of(journal, "act_refused")
    assert not of(journal, "fault")
    assert not of(journal, "process_restarted")
    assert journal[-1]["kind"] == "procedure_ended"
    assert journal[-1]["by"] == "operator"


def test_an_alarm_was_acknowledged(journal: list[dict[str, Any]]) -> None:
    assert of(journal, "alarm_acknowledged")


def test_the_lesion_was_drawn_where_it_is(case: Path) -> None:
    """Two strokes, grown to the boundary and brushed, beside the simulator's own."""
    image = SimpleITK.ReadImage(str(case / "lesion.nii.gz"))
    inside = SimpleITK.GetArrayFromImage(image) > 0
    zyx = np.argwhere(inside)
    points = np.array(image.GetOrigin()) + zyx[:, ::-1] * np.array(image.GetSpacing())
    true = tomllib.loads(SIMULATED.read_text(encoding="utf-8"))["lesion"]
    radius = (points - true["centre_lps_mm"]) / true["semi_axes_mm"]
    assert np.linalg.norm(points.mean(0) - true["centre_lps_mm"]) < 3.0
    voxel_ml = float(np.prod(image.GetSpacing())) / 1000.0
    true_ml = 4.0 / 3.0 * np.pi * float(np.prod(true["semi_axes_mm"])) / 1000.0
    both_ml = float((np.linalg.norm(radius, axis=1) <= 1.0).sum()) * voxel_ml
    dice = 2.0 * both_ml / (len(points) * voxel_ml + true_ml)
    assert dice > 0.75, dice
    assert tuple(true["semi_axes_mm"][:2]) == LESION_SEMI_MM


def test_needles_structure_organ_and_patient_are_the_ones_of_the_room(case: Path) -> None:
    told = tomllib.loads((case / "case.toml").read_text(encoding="utf-8"))
    true = tomllib.loads(SIMULATED.read_text(encoding="utf-8"))
    assert told["patient"]["id"] == true["patient"]["id"]
    assert told["organ"]["preset"] == true["organ"]
    assert [s["name"] for s in told["structure"]] == ["bowel"]
    tips, there = (np.array([n["tip_lps_mm"] for n in x["needle"]]) for x in (told, true))
    apart_mm = np.linalg.norm(tips[:, None] - there, axis=-1)
    assert len(tips) == len(there)
    assert sorted(apart_mm.argmin(axis=1)) == list(range(len(there)))  # each is one of them
    assert apart_mm.min(axis=1).max() < 3.0


def test_the_ice_at_the_end_is_the_simulators(journal: list[dict[str, Any]], scans: Path) -> None:
    true = json.loads((scans / "truth" / "truth.json").read_text(encoding="utf-8"))["scans"][-1]
    final = of(journal, "assessment")[-1]
    assert final["volume_id"] == "v009"
    assert final["ice_volume_ml"] == pytest.approx(true["ice_volume_ml"], rel=0.15)


def test_the_record_works_out_to_the_same(played: tuple[Told, Path]) -> None:
    assert main(["replay", str(played[1] / "record")]) == 0


def test_there_are_pictures_of_every_step_on_both_monitors(played: tuple[Told, Path]) -> None:
    for of_window in ("console", "room"):
        pictures = sorted(played[1].glob(f"*_{of_window}.png"))
        assert len(pictures) >= 28
        seen = [np.asarray(Image.open(p).convert("L")) for p in pictures]
        assert all(s.shape == (1080, 1920) and s.std() > 10.0 for s in seen)


def test_the_windows_are_where_they_were_asked_for(played: tuple[Told, Path]) -> None:
    state = played[1] / "state" / "iceball"
    assert json.loads((state / "room.json").read_text(encoding="utf-8"))["monitor"] == 1
    assert json.loads((state / "console.json").read_text(encoding="utf-8"))["monitor"] == 0
