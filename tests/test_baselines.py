"""What may be a baseline, and what of the case before is forgotten. LPS mm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from monitor.decision.safety import causes
from monitor.model import CtVolume
from monitor.opening import open_case
from monitor.pipeline import in_force, step
from monitor.procedure import Procedure
from monitor.state import OperatorAct, State, initial_state
from monitor.watching import Machine, facts_of
from tests.intake.intake_helpers import ct_slice, instance
from tests.test_pipeline import CASE, volume
from tests.test_pipeline_what_if import (
    ENGINE,
    FREEZE_UTC_S,
    NEEDLE,
    freezing,
    of_kind,
    plan,
    worked_off,
)
from tests.test_review import plan as room
from tests.test_review import scan, taken

__all__ = ["freezing", "plan", "room"]  # fixtures


def first_slices(whole: CtVolume, count: int) -> CtVolume:
    g = whole.geometry
    return replace(
        whole,
        geometry=replace(g, slice_offsets_mm=g.slice_offsets_mm[:count]),
        hu=whole.hu[:count],
    )


@pytest.mark.requirement("REQ-BASELINE")
def test_a_few_slices_that_came_first_are_no_baseline(plan: Procedure) -> None:
    whole = volume("v001", 0.0)
    for count, is_baseline in ((2, False), (12, False), (15, True), (24, True)):
        state, outputs = taken(initial_state(plan), first_slices(whole, count), plan)
        assert (state.baseline_volume is not None) == is_baseline, count
        said = of_kind(outputs, "volume_not_measured")
        assert [line["reason"] for line in said] == ([] if is_baseline else ["lesion_not_shown"])
        assert len(state.kept) == 1
    # Nor by hand.
    state, _ = taken(initial_state(plan), first_slices(whole, 2), plan)
    pick = OperatorAct("pick_baseline", 10.0, params={"volume_id": "v001"})
    state, outputs = step(state, pick, plan, ENGINE)
    (line,) = of_kind(outputs, "act_refused")
    assert line["reason"] == "v001: it shows too little of the lesion"
    assert state.baseline_volume is None


def moved(folder: Path, z_mm: float) -> Procedure:
    """The same case with the lesion, and its needle, elsewhere."""
    text = (CASE + NEEDLE).replace("[0.0, 0.0, 0.0]", f"[0.0, 0.0, {z_mm}]")
    text = text.replace("[0.0, 8.0, 0.0]", f"[0.0, 8.0, {z_mm}]")
    (folder / "case.toml").write_text(text, encoding="utf-8")
    return open_case(folder / "case.toml")[1]


@pytest.mark.requirement("REQ-BASELINE")
def test_a_case_whose_lesion_the_baseline_does_not_show_is_refused(
    plan: Procedure, freezing: State, tmp_path: Path
) -> None:
    new = moved(tmp_path, 60.0)
    event = OperatorAct("reload", FREEZE_UTC_S + 30.0, new)
    assert in_force(freezing, event, plan) is plan
    state, outputs = step(freezing, event, in_force(freezing, event, plan), ENGINE)
    (line,) = of_kind(outputs, "act_refused")
    assert line["reason"].endswith("it shows too little of the lesion")
    assert state.forecast is freezing.forecast


def test_a_forecast_of_the_case_before_is_forgotten_and_made_anew(
    plan: Procedure, freezing: State
) -> None:
    assert freezing.forecast is not None
    state, _ = step(freezing, OperatorAct("reload", FREEZE_UTC_S + 30.0, plan), plan, ENGINE)
    assert state.forecast is None
    assert state.forecast_wanted


@pytest.mark.requirement("REQ-BASELINE")
def test_ice_that_nobody_has_announced_is_measured_and_no_baseline(room: Procedure) -> None:
    """The freeze was begun at the console of the needles, and not told here."""
    state, _ = taken(initial_state(room), scan("v001", 0.0, 0.0), room)
    state, outputs = taken(state, scan("v002", 100.0, 0.0), room)
    assert state.baseline_volume is not None
    assert state.baseline_volume.volume_id == "v002"  # without ice the newer one is the better
    state, outputs = taken(state, scan("v003", 300.0, 9.0), room)
    assert state.baseline_volume.volume_id == "v002"
    assert state.ice is not None
    assert 8.0 < state.ice.volume_ml < 9.0
    found = causes(facts_of(state, room, 310.0, Machine()), 310.0)
    assert "ice_unannounced" in {c.code for c in found}
    # Told late, the freeze is reckoned from midway between the two scans.
    state, outputs = step(state, OperatorAct("phase_next", 340.0), room, ENGINE)
    assert state.progress.started_utc_s == (200.0,)
    found = causes(facts_of(state, room, 341.0, Machine()), 341.0)
    assert "ice_unannounced" not in {c.code for c in found}
    state, outputs = worked_off(state, room)
    (said,) = of_kind(outputs, "forecast")
    assert said["from_volume_id"] == "v003"
    assert state.estimate is not None
    assert state.estimate.volume_id == "v003"


@pytest.mark.requirement("REQ-BASELINE")
def test_a_freeze_told_very_late_is_not_over_at_once(room: Procedure) -> None:
    state, _ = taken(initial_state(room), scan("v001", 0.0, 0.0), room)
    state, _ = taken(state, scan("v002", 100.0, 9.0), room)
    length_s = room.config.protocol.phases[0].duration_s
    state, _ = step(state, OperatorAct("phase_next", 5000.0), room, ENGINE)
    assert state.progress.started_utc_s == (5000.0 - length_s + 60.0,)
    state, _ = step(state, OperatorAct("undo", 5010.0), room, ENGINE)
    assert state.progress.started_utc_s == ()


@pytest.mark.requirement("REQ-BASELINE")
def test_a_picked_baseline_does_not_hide_ice(room: Procedure) -> None:
    state, _ = taken(initial_state(room), scan("v001", 0.0, 0.0), room)
    pick = OperatorAct("pick_baseline", 10.0, params={"volume_id": "v001"})
    state, _ = step(state, pick, room, ENGINE)
    state, outputs = taken(state, scan("v002", 100.0, 0.0), room)
    assert of_kind(outputs, "volume_not_measured")[0]["reason"] == "baseline_picked"
    state, _ = taken(state, scan("v003", 300.0, 9.0), room)
    assert state.ice is not None
    assert state.ice.volume_ml > 2.0


@pytest.mark.requirement("REQ-BASELINE")
@pytest.mark.parametrize("radius_mm", [0.0, 9.0])
def test_a_plan_that_comes_after_the_scans_takes_the_newest_one_without_ice(
    room: Procedure, radius_mm: float
) -> None:
    """Nobody has picked; the scans came to a draft, which measures nothing."""
    draft = replace(room, planned=None)
    assert draft.draft
    state = initial_state(draft)
    for number, ice_mm in enumerate((0.0, 0.0, radius_mm, radius_mm), 1):
        state, _ = taken(state, scan(f"v00{number}", 100.0 * number, ice_mm), draft)
    state = replace(state, baseline_volume=None)
    state, _ = step(state, OperatorAct("reload", 410.0, room), room, ENGINE)
    assert state.baseline_volume is not None
    assert state.baseline_volume.volume_id == ("v002" if radius_mm else "v004")
    assert state.unannounced_utc_s == (250.0 if radius_mm else None)
    found = causes(facts_of(state, room, 410.0, Machine()), 410.0)
    assert ("ice_unannounced" in {c.code for c in found}) == bool(radius_mm)
    assert (state.ice is not None and state.ice.volume_ml > 8.0) == bool(radius_mm)


@pytest.mark.requirement("REQ-FRAME")
def test_a_frame_that_an_old_ct_has_set_gives_way_to_who_has_looked(plan: Procedure) -> None:
    """Another study has another frame, and was the first to come; not once it is what ice is measured by."""
    old = volume("v001", 0.0)
    state, _ = taken(initial_state(plan), old, plan)
    image = ct_slice("1", 0.0, patient=old.patient_id, frame="of today", mono_s=60.0)
    state, _ = step(state, image, plan, ENGINE)
    assert state.block is not None
    begun = replace(state, progress=replace(state.progress, started_utc_s=(50.0,)))
    for before, blocked in ((state, False), (begun, True)):
        after, _ = step(before, OperatorAct("clear_block", 70.0), plan, ENGINE)
        assert after.block is None
        again = replace(image, instance=instance("2", mono_s=80.0))
        after, _ = step(after, again, plan, ENGINE)
        assert (after.block is not None) == blocked
    new = replace(volume("v002", 100.0), frame_of_reference_uid="of today")
    state, _ = step(state, OperatorAct("clear_block", 70.0), plan, ENGINE)
    state, _ = taken(state, new, plan)
    assert state.baseline_volume is not None
    assert state.baseline_volume.volume_id == "v002"
