"""What an operator thinks of a measurement, and which volume is the baseline: by ``step``. s, mm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.console import line
from monitor.decision.safety import Block
from monitor.geometry import FloatArray
from monitor.model import CtVolume, Status
from monitor.opening import open_case, open_drawing
from monitor.pipeline import step
from monitor.procedure import Procedure
from monitor.record.masks import write_nifti
from monitor.state import OperatorAct, Output, State, initial_state
from tests.replay.recorded import CASE, PIXEL_MM, PIXELS, SLICE_MM, SLICES, bowel, drawn
from tests.test_pipeline import volume as any_volume
from tests.test_pipeline_what_if import ENGINE, of_kind, worked_off

FREEZE_UTC_S = 100.0


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Procedure:
    folder = tmp_path_factory.mktemp("review")
    for name in ("case", "plan"):
        (folder / name).mkdir()
    bowel(folder / "plan" / "bowel.mhd")
    case = folder / "case" / "case.toml"
    case.write_text(CASE, encoding="utf-8")
    return open_case(case)[1]


def scan(volume_id: str, acquired_utc_s: float, ice_mm: float) -> CtVolume:
    half_mm = 0.5 * PIXEL_MM * (PIXELS - 1)
    of = any_volume(volume_id, acquired_utc_s)
    geometry = replace(
        of.geometry,
        origin_lps_mm=(-half_mm, -half_mm, -SLICE_MM * (SLICES // 2)),
        slice_offsets_mm=tuple(SLICE_MM * k for k in range(SLICES)),
        rows=PIXELS,
        columns=PIXELS,
    )
    hu = drawn(ice_mm, seed=int(volume_id[1:4]))
    return replace(of, geometry=geometry, hu=hu, patient_id="P1", frame_of_reference_uid="2")


def act(
    state: State, plan: Procedure, name: str, at_utc_s: float = 400.0, **given: Any
) -> tuple[State, list[Output]]:
    drawn_ice = given.pop("drawn", None)
    event = OperatorAct(name, at_utc_s, params=given, drawn=drawn_ice)
    return step(state, event, plan, ENGINE)


def refused(state: State, plan: Procedure, name: str, **given: Any) -> str:
    after, outputs = act(state, plan, name, **given)
    (said,) = of_kind(outputs, "act_refused")
    assert len(outputs) == 1
    assert vars(replace(after, refused=state.refused)) == vars(state)
    return str(said["reason"])


def taken(state: State, volume: CtVolume, plan: Procedure) -> tuple[State, list[Output]]:
    """A volume as the assembly gives it."""
    from monitor import pipeline

    return pipeline._volume(state, volume, plan, ENGINE)


@pytest.fixture(scope="module")
def measured(plan: Procedure) -> State:
    """A baseline and one scan of ice, of which the forecast has learned."""
    state, _ = taken(initial_state(plan), scan("v001", 0.0, 0.0), plan)
    state, _ = step(state, OperatorAct("phase_next", FREEZE_UTC_S), plan, ENGINE)
    state, _ = worked_off(state, plan)
    state, _ = taken(state, scan("v002", 280.0, 9.0), plan)
    state, _ = worked_off(state, plan)
    assert state.ice is not None
    assert state.ice.status is not Status.INVALID
    assert state.estimate is not None
    assert state.estimate.volume_id == "v002"
    return state


def ball(folder: Path, radius_mm: float, centre: FloatArray) -> Path:
    """A mask on the scan's slices, as a console would write it."""
    geometry = scan("v001", 0.0, 0.0).geometry
    at = np.stack(
        np.meshgrid(
            SLICE_MM * np.arange(SLICES) + geometry.origin_lps_mm[2],
            PIXEL_MM * np.arange(PIXELS) + geometry.origin_lps_mm[1],
            PIXEL_MM * np.arange(PIXELS) + geometry.origin_lps_mm[0],
            indexing="ij",
        )[::-1],
        axis=-1,
    )
    mask = (np.linalg.norm(at - centre, axis=-1) < radius_mm).astype(np.uint8)
    path = folder / "ice.nii.gz"
    write_nifti(path, mask, geometry)
    return path


# ------------------------------------------------------------------ verdicts


def test_an_accepted_measurement_stays_as_it_is(plan: Procedure, measured: State) -> None:
    state, outputs = act(measured, plan, "accept_ice", volume_id="v002")
    (said,) = of_kind(outputs, "ice_reviewed")
    assert line("ice_reviewed", said) == "v002: the measured ice was accepted"
    assert len(outputs) == 1
    assert (state.ice, state.estimate) == (measured.ice, measured.estimate)
    assert not state.forecast_pending
    assert state.review is not None
    assert state.review.verdict == "accepted"
    undone, _ = act(state, plan, "undo")
    assert undone.review == measured.review
    again = refused(state, plan, "accept_ice", volume_id="v002")
    assert again == "v002 has been accepted already; undo that first"


@pytest.mark.requirement("REQ-ACTS")
def test_a_rejected_measurement_is_none_and_teaches_nothing(
    plan: Procedure, measured: State
) -> None:
    assert measured.review is not None
    untaught = measured.review.before.estimate
    state, outputs = act(measured, plan, "reject_ice", volume_id="v002")
    assert state.ice is not None
    assert (state.ice.status, state.ice.sdf_mm) == (Status.INVALID, None)
    (assessment,) = of_kind(outputs, "assessment")
    assert assessment["status"] == "INVALID"
    assert assessment["lesion_covered"] is None
    assert assessment["reasons"][-1]["code"] == "ice_rejected"
    assert state.estimate is untaught
    assert state.forecast_wanted
    state, outputs = worked_off(state, plan)
    assert of_kind(outputs, "forecast")[-1]["from_volume_id"] is None
    assert state.estimate is not None
    assert untaught is not None
    np.testing.assert_array_equal(state.estimate.theta, untaught.theta)
    assert state.estimate.state.time_s == 180.0


@pytest.mark.requirement("REQ-ACTS")
def test_an_undone_rejection_is_as_if_it_had_not_been(plan: Procedure, measured: State) -> None:
    state, _ = worked_off(act(measured, plan, "reject_ice", volume_id="v002")[0], plan)
    state, outputs = act(state, plan, "undo")
    assert of_kind(outputs, "undone") == [{"act": "reject_ice", "of": "v002"}]
    state, _ = worked_off(state, plan)
    assert (state.ice, state.review) == (measured.ice, measured.review)
    assert state.assessment == measured.assessment
    assert state.estimate is not None
    assert measured.estimate is not None
    np.testing.assert_array_equal(state.estimate.theta, measured.estimate.theta)


def test_a_drawn_surface_replaces_the_measured_one(
    plan: Procedure, measured: State, tmp_path: Path
) -> None:
    centre = np.array([0.0, -6.0, 0.0])
    mine = open_drawing(ball(tmp_path, 15.0, centre))
    state, outputs = act(measured, plan, "correct_ice", volume_id="v002", path="x", drawn=mine)
    ice, registration = state.ice, state.registration
    assert ice is not None
    assert ice.sdf_mm is not None
    assert registration is not None
    assert ice.status is Status.DEGRADED
    assert ice.reasons[-1].code == "ice_corrected"
    to_surface_mm = (
        np.linalg.norm(registration.to_scan(ice.grid.points_lps_mm()) - centre, axis=-1) - 15.0
    )
    near = np.abs(to_surface_mm) < 3.0
    assert np.abs(ice.sdf_mm - to_surface_mm)[near].mean() < 0.4
    assert ice.volume_ml == pytest.approx(4.0 / 3.0 * np.pi * 1.5**3, rel=0.05)
    (assessment,) = of_kind(outputs, "assessment")
    assert assessment["status"] == "DEGRADED"
    assert assessment["lesion_covered"] == 1.0
    assert assessment["lesion_covered_interval"][0] <= 1.0
    state, _ = worked_off(state, plan)
    assert state.estimate is not None
    assert measured.estimate is not None
    assert state.estimate.volume_id == "v002"
    assert not np.array_equal(state.estimate.theta, measured.estimate.theta)


def test_a_rejection_outlives_an_edit_of_the_case(plan: Procedure, measured: State) -> None:
    state, _ = act(measured, plan, "reject_ice", volume_id="v002")
    state, outputs = step(state, OperatorAct("reload", 410.0, plan), plan, ENGINE)
    assert of_kind(outputs, "ice_segmented")[-1]["status"] == "INVALID"
    assert state.review is not None
    assert state.review.verdict == "rejected"
    assert state.ice is not None
    assert state.ice.status is Status.INVALID
    assert state.assessment is not None
    assert state.assessment.reasons[-1].code == "ice_rejected"


def test_after_the_protocol_nothing_is_foreseen_from_what_was_rejected(
    plan: Procedure, measured: State
) -> None:
    state, _ = step(measured, OperatorAct("phase_next", 500.0), plan, ENGINE)
    state, _ = step(state, OperatorAct("phase_next", 600.0), plan, ENGINE)
    assert state.forecast is not None
    state, _ = act(state, plan, "reject_ice", 610.0, volume_id="v002")
    assert not state.work_pending
    assert state.forecast is None


def test_the_next_scan_is_measured_as_ever_and_ends_the_review(
    plan: Procedure, measured: State
) -> None:
    state, _ = act(measured, plan, "reject_ice", volume_id="v002")
    state, _ = taken(state, scan("v003", 460.0, 11.0), plan)
    assert state.review is not None
    assert (state.review.volume_id, state.review.verdict) == ("v003", "measured")
    assert refused(state, plan, "undo") == "there is nothing to undo"
    why = refused(state, plan, "reject_ice", volume_id="v002")
    assert why == "only the scan measured last can be reviewed, v003, not v002"


def test_what_cannot_be_reviewed(plan: Procedure, measured: State, tmp_path: Path) -> None:
    bare = initial_state(plan)
    assert refused(bare, plan, "accept_ice", volume_id="v001") == "no scan has been measured yet"
    blocked = replace(measured, block=Block("patient_mismatch", "P1", "P2", 1.0))
    assert "another patient" in refused(blocked, plan, "reject_ice", volume_id="v002")
    assert refused(measured, plan, "correct_ice", volume_id="v002") == "no ice was drawn"
    assert measured.review is not None
    registration = replace(measured.review.registration, status=Status.INVALID)
    lost = replace(measured, review=replace(measured.review, registration=registration))
    mine = open_drawing(ball(tmp_path, 12.0, np.zeros(3)))
    why = refused(lost, plan, "correct_ice", volume_id="v002", drawn=mine)
    assert why.startswith("scan and baseline could not be matched")
    far = replace(mine, grid=replace(mine.grid, origin_lps_mm=(500.0, 0.0, 0.0)))
    why = refused(measured, plan, "correct_ice", volume_id="v002", drawn=far)
    assert why == "nothing of the drawn ice lies around lesion and needles"
    unmeasured = replace(measured.review.measured, status=Status.INVALID, sdf_mm=None)
    none = replace(measured, review=replace(measured.review, measured=unmeasured))
    why = refused(none, plan, "accept_ice", volume_id="v002")
    assert why == "there is no measurement of v002 to accept"
    state, _ = act(measured, plan, "reject_ice", volume_id="v002")
    assert refused(state, plan, "reject_ice", volume_id="v002") == "v002 has been rejected already"


# ------------------------------------------------------------------ the baseline


@pytest.fixture(scope="module")
def two_before(plan: Procedure) -> State:
    """Two scans before the freeze: the newer one is the baseline."""
    state, _ = taken(initial_state(plan), scan("v001", 0.0, 0.0), plan)
    state, _ = taken(state, scan("v002", 30.0, 0.0), plan)
    assert state.baseline_volume is not None
    assert state.baseline_volume.volume_id == "v002"
    return state


def baseline_of(state: State) -> str:
    assert state.reference is not None
    assert state.baseline_volume is not None
    assert state.reference.baseline.volume_id == state.baseline_volume.volume_id
    return state.baseline_volume.volume_id


def test_any_volume_may_be_the_baseline_and_stays_it(plan: Procedure, two_before: State) -> None:
    assert [v.volume_id for v in two_before.kept] == ["v001", "v002"]
    state, outputs = act(two_before, plan, "pick_baseline", 40.0, volume_id="v001")
    assert [f["volume_id"] for f in of_kind(outputs, "baseline_set")] == ["v001"]
    assert baseline_of(state) == "v001"
    state, outputs = taken(state, scan("v003", 50.0, 0.0), plan)
    (said,) = of_kind(outputs, "volume_not_measured")
    assert said == {"volume_id": "v003", "reason": "baseline_picked"}
    assert "another volume was picked" in str(line("volume_not_measured", said))
    assert baseline_of(state) == "v001"
    state, _ = act(state, plan, "pick_baseline", 60.0, volume_id="v003")
    assert baseline_of(state) == "v003"
    state, outputs = act(state, plan, "undo", 70.0)
    assert of_kind(outputs, "undone") == [{"act": "pick_baseline", "of": "v003"}]
    assert (baseline_of(state), state.picked) == ("v001", True)
    state, _ = act(state, plan, "undo", 80.0)
    assert (baseline_of(state), state.picked) == ("v002", False)


def test_a_scan_of_the_freeze_is_measured_against_the_picked_baseline(
    plan: Procedure, two_before: State
) -> None:
    state, _ = act(two_before, plan, "pick_baseline", 40.0, volume_id="v001")
    state, _ = step(state, OperatorAct("phase_next", FREEZE_UTC_S), plan, ENGINE)
    assert refused(state, plan, "undo") == "there is nothing to undo"
    why = refused(state, plan, "pick_baseline", volume_id="v002")
    assert why == "the first freeze has begun: the baseline stays"
    state, _ = taken(state, scan("v003", 280.0, 9.0), plan)
    assert baseline_of(state) == "v001"
    assert state.ice is not None
    assert state.ice.volume_ml > 1.0
    assert [v.volume_id for v in state.kept] == ["v001", "v002", "v003"]


def test_which_volumes_cannot_be_picked(plan: Procedure, two_before: State) -> None:
    bare = initial_state(plan)
    none = refused(bare, plan, "pick_baseline", volume_id="v001")
    assert none == "no volume has been received yet"
    why = refused(two_before, plan, "pick_baseline", volume_id="v009")
    assert why == "v009 has not been received (v001, v002)"
    state, _ = act(two_before, plan, "pick_baseline", volume_id="v001")
    assert refused(state, plan, "pick_baseline", volume_id="v001") == "v001 has been picked already"
