"""From nothing to a plan: a case without a lesion, images of anybody, the baseline picked, all learned from
again. s, mm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monitor.case import load_case
from monitor.config import ConfigError
from monitor.model import CtSlice, Rejected, Status
from monitor.opening import open_case
from monitor.pipeline import in_force, step
from monitor.procedure import Procedure
from monitor.publish import Publisher, snapshot
from monitor.record.store import Store
from monitor.state import ForecastDue, OperatorAct, Output, State, initial_state
from tests.test_pipeline_what_if import ENGINE, of_kind, slices, worked_off
from tests.test_review import FREEZE_UTC_S, act, plan, refused, scan, taken  # noqa: F401

DRAFT = '[patient]\nlabel = "nobody yet"\n[organ]\npreset = "liver"\n'


def opened(folder: Path, text: str) -> Procedure:
    folder.mkdir(exist_ok=True)
    path = folder / "case.toml"
    path.write_text(text, encoding="utf-8")
    return open_case(path)[1]


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Procedure:
    return opened(tmp_path_factory.mktemp("draft"), DRAFT)


@pytest.fixture(scope="module")
def two_patients(draft: Procedure) -> State:
    """v001 of P1, v002 of another."""
    state, _ = taken(initial_state(draft), scan("v001", 0.0, 0.0), draft)
    other = replace(scan("v002", 30.0, 0.0), patient_id="P2", patient_name="DOE^JANE")
    return taken(state, other, draft)[0]


def reloaded(state: State, new: Procedure, old: Procedure) -> tuple[State, list[Output], Procedure]:
    """As core and replay do it."""
    event = OperatorAct("reload", 90.0, new)
    now = in_force(state, event, old)
    return *step(state, event, now, ENGINE), now


# ------------------------------------------------------------------ the case


def test_only_a_draft_may_leave_the_patient_open(tmp_path: Path) -> None:
    path = tmp_path / "case.toml"
    path.write_text(DRAFT, encoding="utf-8")
    config = load_case(path)
    assert (config.draft, config.patient_id, config.patient_label) == (True, None, "nobody yet")
    path.write_text(DRAFT + "[lesion]\ncentre_lps_mm = [0, 0, 0]\nradius_mm = 5.0\n", "utf-8")
    with pytest.raises(ConfigError, match=r"patient.id: missing"):
        load_case(path)


def test_what_needs_a_lesion_says_that_there_is_none(draft: Procedure) -> None:
    for name in ("analysis_grid", "prediction_grid", "plan", "target", "lesion_sdf"):
        with pytest.raises(ConfigError, match=r"a draft: it has no \[lesion\] yet"):
            getattr(draft, name)


# ------------------------------------------------------------------ images of anybody


@pytest.mark.requirement("REQ-BASELINE")
def test_nothing_is_measured_and_that_is_said(two_patients: State) -> None:
    state = two_patients
    assert state.assessment is not None
    assert state.assessment.status is Status.INVALID
    assert [r.code for r in state.assessment.reasons] == ["no_plan"]
    assert (state.assessment.lesion_covered, state.assessment.min_margin_mm) == (None, None)
    assert (state.baseline_volume, state.reference, state.ice, state.estimate) == (None,) * 4
    assert state.block is None


@pytest.mark.requirement("REQ-PATIENT")
def test_slices_of_two_patients_under_one_series_never_make_one_volume(draft: Procedure) -> None:
    state, outputs = initial_state(draft), list[Output]()
    mine = slices(0.0)
    theirs = [
        replace(s, patient_id="B", instance=replace(s.instance, sop_instance_uid=f"b{k}"))
        for k, s in enumerate(mine)
    ]
    events: list[CtSlice] = [s for pair in zip(mine, theirs, strict=True) for s in pair]
    for event in events:
        state, more = step(state, event, draft, ENGINE)
        outputs += more
    assert {(v.volume_id, v.patient_id, len(v.hu)) for v in state.kept} == {
        ("v001", "A", len(mine)),
        ("v002", "B", len(mine)),
    }


def test_what_was_received_can_be_chosen_from(
    draft: Procedure, two_patients: State, tmp_path: Path
) -> None:
    (tmp_path / "scratch").mkdir()
    publisher = Publisher(Store(tmp_path / "record", tmp_path / "scratch"))
    shared = publisher.share(two_patients, draft)
    shown = snapshot(1, 60.0, 60.0, two_patients, shared, draft, ())
    assert shown.draft
    assert (shown.analysis_grid, shown.lesion_sdf, shown.baseline_id) == (None, None, None)
    assert [(r.volume_id, r.patient_id) for r in shown.received] == [("v001", "P1"), ("v002", "P2")]
    assert (shown.volume_id, shown.patient_label) == ("v002", "DOE JANE · P2")
    picked, _ = act(two_patients, draft, "pick_baseline", volume_id="v001")
    shown = snapshot(2, 60.0, 60.0, picked, publisher.share(picked, draft), draft, ())
    assert (shown.baseline_id, shown.volume_id, shown.patient_label) == ("v001", "v001", "P1")
    assert (shown.undo, shown.undo_of) == ("pick_baseline", "v001")


# ------------------------------------------------------------------ picked


def test_a_pick_fixes_whom_it_is_about(draft: Procedure, two_patients: State) -> None:
    state, outputs = act(two_patients, draft, "pick_baseline", volume_id="v001")
    assert [f["seen_fraction"] for f in of_kind(outputs, "baseline_set")] == [None]
    assert state.assessment is not None
    assert [r.code for r in state.assessment.reasons] == ["baseline", "no_plan"]
    state, outputs = step(state, slices(40.0)[0], draft, ENGINE)  # of patient A
    assert [o.reason.code for o in outputs if isinstance(o, Rejected)] == ["patient_mismatch"]
    assert state.block is not None
    state, outputs = taken(state, scan("v003", 50.0, 0.0), draft)
    assert of_kind(outputs, "volume_not_measured")[0]["reason"] == "baseline_picked"


def test_a_pick_undone_leaves_it_open_again(draft: Procedure, two_patients: State) -> None:
    state, _ = act(two_patients, draft, "pick_baseline", volume_id="v001")
    state, outputs = act(state, draft, "undo")
    assert of_kind(outputs, "undone") == [{"act": "pick_baseline", "of": "v001"}]
    assert state.assembly.expectation == two_patients.assembly.expectation
    assert (state.baseline_volume, state.picked, state.done) == (None, False, ())
    assert refused(state, draft, "undo") == "there is nothing to undo"
    state, outputs = step(state, slices(40.0)[0], draft, ENGINE)
    assert not outputs


@pytest.mark.requirement("REQ-BASELINE")
def test_a_volume_of_the_freeze_is_no_baseline(draft: Procedure, two_patients: State) -> None:
    state, _ = step(two_patients, OperatorAct("phase_next", 20.0), draft, ENGINE)
    why = refused(state, draft, "pick_baseline", volume_id="v002")
    assert why == "v002 was acquired after the first freeze began"
    state, _ = act(state, draft, "pick_baseline", volume_id="v001")
    assert state.baseline_volume is not None


# ------------------------------------------------------------------ planned


def test_with_a_lesion_the_picked_baseline_is_measured_against(
    draft: Procedure,
    two_patients: State,
    plan: Procedure,  # noqa: F811
) -> None:
    state, _ = act(two_patients, draft, "pick_baseline", volume_id="v001")
    state, _, now = reloaded(state, plan, draft)
    assert now is plan
    assert state.reference is not None
    assert state.reference.baseline.volume_id == "v001"
    assert state.estimate is not None
    state, _ = step(state, OperatorAct("phase_next", FREEZE_UTC_S), plan, ENGINE)
    state, _ = taken(state, scan("v003", 280.0, 9.0), plan)
    assert state.ice is not None
    assert state.ice.volume_ml > 1.0


def test_without_a_pick_the_cases_patient_has_the_newest(
    draft: Procedure,
    two_patients: State,
    plan: Procedure,  # noqa: F811
) -> None:
    state, _, _ = reloaded(two_patients, plan, draft)
    assert state.baseline_volume is not None
    assert (state.baseline_volume.volume_id, state.picked) == ("v001", False)
    assert state.volume is state.baseline_volume
    of_nobody = replace(plan, config=replace(plan.config, patient_id="P9"))
    state, _, _ = reloaded(two_patients, of_nobody, draft)
    assert (state.volume, state.assessment, state.baseline_volume) == (None, None, None)
    why = refused(state, of_nobody, "pick_baseline", volume_id="v001")
    assert why == "v001: it is of another patient than the case"


@pytest.mark.requirement("REQ-PATIENT")
def test_a_case_of_another_patient_is_refused_and_the_one_before_stays(
    draft: Procedure,
    two_patients: State,
    plan: Procedure,  # noqa: F811
) -> None:
    state, _ = act(two_patients, draft, "pick_baseline", volume_id="v002")
    after, outputs, now = reloaded(state, plan, draft)
    assert now is draft
    why = "the baseline v002 stands against it: it is of another patient than the case"
    assert of_kind(outputs, "act_refused") == [{"act": "reload", "reason": why}]
    assert after == replace(state, refused=f"reload: {why}")
    other = replace(plan.config, patient_id="P2", frame_of_reference_uid="3")
    _, outputs, now = reloaded(state, replace(plan, config=other), draft)
    assert now is draft
    assert "another frame of reference" in of_kind(outputs, "act_refused")[0]["reason"]


# ------------------------------------------------------------------ learned from anew


@pytest.fixture(scope="module")
def three_scans(plan: Procedure) -> State:  # noqa: F811
    """Of a freeze, each learned from as it came."""
    state, _ = taken(initial_state(plan), scan("v001", 0.0, 0.0), plan)
    state, _ = step(state, OperatorAct("phase_next", FREEZE_UTC_S), plan, ENGINE)
    for number, ice_mm in ((2, 8.0), (3, 10.0), (4, 11.0)):
        state, _ = taken(state, scan(f"v{number:03d}", 100.0 * number, ice_mm), plan)
        state, _ = worked_off(state, plan)
    assert state.estimate is not None
    assert len(state.estimate.seen) == 3
    return state


def test_all_scans_are_learned_from_anew(three_scans: State, plan: Procedure) -> None:  # noqa: F811
    before = three_scans.estimate
    state, outputs, _ = reloaded(three_scans, plan, plan)
    assert state.relearning is not None
    assert state.relearning.left == ("v002", "v003")
    assert [f["volume_id"] for f in of_kind(outputs, "assessment")] == ["v001", "v004"]
    assert state.forecast_pending
    state, outputs = worked_off(state, plan)
    measured = [f["volume_id"] for f in of_kind(outputs, "ice_segmented")]
    assert measured == ["v002", "v003", "v004"]
    assert state.relearning is None
    assert before is not None
    assert state.estimate is not None
    assert state.estimate.volume_id == "v004"
    np.testing.assert_array_equal(state.estimate.theta, before.theta)


def test_a_new_scan_waits_for_one_stretch_and_is_learned_from_too(
    three_scans: State,
    plan: Procedure,  # noqa: F811
) -> None:
    state, _, _ = reloaded(three_scans, plan, plan)
    state, _ = step(state, ForecastDue(0.0), plan, ENGINE)
    state, outputs = taken(state, scan("v005", 430.0, 11.5), plan)
    assert [f["volume_id"] for f in of_kind(outputs, "assessment")] == ["v005"]
    assert state.relearning is not None
    assert state.relearning.left == ("v003", "v004")
    state, _ = worked_off(state, plan)
    assert state.estimate is not None
    assert [s.at_s for s in state.estimate.seen] == [100.0, 200.0, 300.0, 330.0]


def test_a_rejected_scan_is_not_learned_from_when_all_are(
    three_scans: State,
    plan: Procedure,  # noqa: F811
) -> None:
    state, _ = act(three_scans, plan, "reject_ice", volume_id="v004")
    state, _ = taken(state, scan("v005", 430.0, 11.5), plan)
    state, _, _ = reloaded(state, plan, plan)
    state, _ = worked_off(state, plan)
    assert state.estimate is not None
    assert [s.at_s for s in state.estimate.seen] == [100.0, 200.0, 330.0]


def test_a_late_slices_revision_takes_its_volumes_place(three_scans: State) -> None:
    from monitor.scans import keep

    revised = replace(three_scans.kept[1], volume_id="v002r2")
    kept = keep(three_scans.kept, revised)
    assert [v.volume_id for v in kept] == ["v001", "v002r2", "v003", "v004"]
