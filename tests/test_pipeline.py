"""The procedure as one function: what a step leaves known. LPS mm, UTC seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpu_kernels.select import open_engine
from monitor.ahead import next_scan_known
from monitor.decision import protocol
from monitor.decision.protocol import Progress
from monitor.decision.safety import Block, causes
from monitor.forecast_values import Forecast, NextScan
from monitor.geometry import SliceGeometry
from monitor.model import CtVolume, PhaseKind, Reason, Rejected, Status, StructureDistance
from monitor.opening import open_case
from monitor.pipeline import UNUSED_AFTER_S, due, step
from monitor.procedure import Procedure
from monitor.state import Line, OperatorAct, State, Tick, initial_state
from monitor.watching import Machine, facts_of
from tests.intake.intake_helpers import ct_slice

CASE = """
[patient]
id = "A"
[organ]
preset = "liver"
[lesion]
centre_lps_mm = [0.0, 0.0, 0.0]
radius_mm = 8.0
[[structure]]
name = "bowel"
centre_lps_mm = [25.0, 0.0, 0.0]
radius_mm = 6.0
"""
N_SLICES, N_PIXELS, SLICE_MM, PIXEL_MM = 24, 64, 3.0, 2.0


def procedure(folder: Path) -> Procedure:
    """A case whose needles are not known: ice cannot be measured."""
    case = folder / "case.toml"
    case.write_text(CASE, encoding="utf-8")
    return open_case(case)[1]


def volume(volume_id: str, acquired_utc_s: float) -> CtVolume:
    half_mm = 0.5 * PIXEL_MM * (N_PIXELS - 1)
    geometry = SliceGeometry(
        (-half_mm, -half_mm, -0.5 * SLICE_MM * N_SLICES), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0),
        (0.0, 0.0, 1.0), PIXEL_MM, PIXEL_MM, tuple(SLICE_MM * k for k in range(N_SLICES)),
        SLICE_MM, N_PIXELS, N_PIXELS,
    )  # fmt: skip
    noise = np.random.default_rng(1).normal(50.0, 10.0, (N_SLICES, N_PIXELS, N_PIXELS))
    return CtVolume(
        volume_id, geometry, noise.astype(np.int16), "A", "1", "2", acquired_utc_s,
        acquired_utc_s, (), "test",
    )  # fmt: skip


def measured_again(state: State, plan: Procedure) -> State:
    return step(state, OperatorAct("reload", 400.0, plan), plan, open_engine("reference"))[0]


@pytest.mark.requirement("REQ-STRUCTURES")
def test_a_scan_that_cannot_be_measured_leaves_the_last_known_distances(tmp_path: Path) -> None:
    plan = procedure(tmp_path)
    near = (StructureDistance("bowel", 3.0, 5.0, 2.0),)
    state = replace(
        initial_state(plan),
        baseline_volume=volume("v001", 0.0),
        volume=volume("v002", 300.0),
        structures=near,
    )
    state = measured_again(state, plan)
    assert state.assessment is not None
    assert (state.assessment.volume_id, state.assessment.status) == ("v002", Status.INVALID)
    assert state.structures == near


@pytest.mark.requirement("REQ-STRUCTURES")
def test_the_end_of_the_procedure_forgets_no_distance(tmp_path: Path) -> None:
    plan, engine = procedure(tmp_path), open_engine("reference")
    near = (StructureDistance("bowel", 3.0, 5.0, 2.0),)
    state = replace(initial_state(plan), structures=near)
    for at in range(1 + len(plan.config.protocol.phases)):
        state, outputs = step(state, OperatorAct("phase_next", float(at)), plan, engine)
    assert outputs[-1].fields["phase"] == PhaseKind.ENDED.value  # type: ignore[union-attr]
    assert state.structures == near


def test_only_a_tick_that_is_due_does_anything(tmp_path: Path) -> None:
    """The others are not journalled, so they must leave no trace: over a whole protocol, with slices
    that silence completes."""
    plan, engine = procedure(tmp_path), open_engine("reference")
    state, _ = step(initial_state(plan), OperatorAct("phase_next", 0.0), plan, engine)
    mattered = 0
    for at in range(0, 2400, 7):
        if at in (70, 777):
            lonely = ct_slice(f"u{at}", 0.0, patient="A", mono_s=float(at) - 2.0)
            state, _ = step(state, lonely, plan, engine)
        tick = Tick(float(at), float(at))
        after, outputs = step(state, tick, plan, engine)
        assert due(state, tick, plan) == bool(outputs)
        if not outputs:
            assert (after.assembly, after.progress) == (state.assembly, state.progress)
        mattered += bool(outputs)
        state = after
    assert mattered == 2 + len(plan.config.protocol.phases)


def received(state: State, plan: Procedure, name: str, acquired_utc_s: float, at_s: float) -> State:
    """With a scan as it comes over the wire, its first slice at ``at_s``."""
    engine, noise = open_engine("reference"), volume(name, 0.0).hu
    half_mm = 0.5 * PIXEL_MM * (N_PIXELS - 1)
    for k in range(N_SLICES):
        one = ct_slice(
            f"{name}-{k}", SLICE_MM * (k - 0.5 * N_SLICES), patient="A", series=name,
            mono_s=at_s + 0.01 * k, acquired_utc_s=acquired_utc_s, expected=N_SLICES,
            thickness_mm=SLICE_MM, at_mm=(-half_mm, -half_mm),
        )  # fmt: skip
        one = replace(one, hu=noise[k], pixel_spacing_mm=(PIXEL_MM, PIXEL_MM))
        state, _ = step(state, one, plan, engine)
    return state


@pytest.mark.requirement("REQ-IMAGE-AGE")
def test_a_scan_stamped_an_hour_ahead_does_not_keep_the_next_ones_out(tmp_path: Path) -> None:
    plan, engine = procedure(tmp_path), open_engine("reference")
    state = received(initial_state(plan), plan, "a", 1000.0, 1010.0)
    state, _ = step(state, OperatorAct("phase_next", 1020.0), plan, engine)
    known = state.estimate
    state = received(state, plan, "b", 1200.0 + 3600.0, 1210.0)
    assert state.assessment is not None
    assert state.assessment.as_of_utc_s == 4800.0  # it stands, and is alarmed: image_time_wrong
    state = received(state, plan, "c", 1400.0, 1410.0)
    assert state.assessment is not None
    assert state.assessment.as_of_utc_s == 1400.0
    assert state.estimate is known
    state = received(state, plan, "d", 1300.0, 1420.0)  # one that is only late is not measured
    assert state.assessment is not None
    assert state.assessment.as_of_utc_s == 1400.0


def test_a_machine_that_slept_leaves_no_phase_out(tmp_path: Path) -> None:
    plan, engine = procedure(tmp_path), open_engine("reference")
    freeze, thaw, again = (p.duration_s for p in plan.config.protocol.phases)
    state, _ = step(initial_state(plan), OperatorAct("phase_next", 0.0), plan, engine)
    late_s = freeze + thaw + 5.0
    state, outputs = step(state, Tick(late_s, late_s), plan, engine)
    lines = [o.fields for o in outputs if isinstance(o, Line) and o.kind == "phase"]
    assert [tuple(x.values()) for x in lines] == [
        ("thaw", 1, freeze, freeze + thaw, late_s),
        ("freeze", 2, freeze + thaw, freeze + thaw + again, late_s),
    ]
    over_s = late_s + again
    after, outputs = step(state, Tick(over_s, over_s), plan, engine)
    assert [tuple(o.fields.values()) for o in outputs if isinstance(o, Line)] == [
        ("ended", 2, freeze + thaw + again, None, over_s)
    ]
    # What the engine is given: the needles were off in the thaw that nobody was awake for.
    assert protocol.intervals(after.progress, plan.config.protocol, 0.0) == (
        (PhaseKind.FREEZE, 0.0, freeze),
        (PhaseKind.THAW, freeze, freeze + thaw),
        (PhaseKind.FREEZE, freeze + thaw, freeze + thaw + again),
    )


def frozen_since(plan: Procedure, start_utc_s: float) -> State:
    """A freeze that runs, with the forecast of a scan three minutes into it."""
    made = Forecast(
        "v002", start_utc_s + 180.0, plan.prediction_grid, (start_utc_s + 180.0,),
        np.zeros((1, *plan.prediction_grid.shape_zyx), np.float32), -4.5, None, None, "cpu",
        kind=PhaseKind.FREEZE, next_scan=NextScan(start_utc_s + 390.0, "image_age"),
    )  # fmt: skip
    return replace(
        initial_state(plan),
        progress=Progress((start_utc_s,)),
        volume=volume("v002", start_utc_s + 180.0),
        forecast=made,
    )


def test_the_next_scan_is_the_forecasts_while_it_is_of_the_latest_scan(tmp_path: Path) -> None:
    plan = procedure(tmp_path)
    state = frozen_since(plan, 1000.0)
    assert next_scan_known(state, plan, 1200.0) == NextScan(1390.0, "image_age")
    at_once = NextScan(1200.0, "unmeasured")
    newer = replace(state, volume=volume("v003", 1190.0))
    assert next_scan_known(newer, plan, 1200.0) == at_once
    assert next_scan_known(replace(newer, forecast_wanted=True), plan, 1200.0) is None
    assert next_scan_known(replace(state, forecast=None), plan, 1200.0) == at_once
    assert state.forecast is not None
    of_a_thaw = replace(state, forecast=replace(state.forecast, kind=PhaseKind.THAW))
    assert next_scan_known(of_a_thaw, plan, 1200.0) == at_once
    unknown = replace(state, forecast=replace(state.forecast, start_utc_s=float("nan")))
    assert next_scan_known(unknown, plan, 1200.0) == at_once


def test_no_scan_is_asked_for_before_and_after_the_procedure(tmp_path: Path) -> None:
    plan = procedure(tmp_path)
    assert next_scan_known(initial_state(plan), plan, 0.0) is None
    over = replace(frozen_since(plan, 1000.0), progress=Progress((1000.0,), ended_utc_s=1100.0))
    assert next_scan_known(over, plan, 1200.0) is None


@pytest.mark.requirement("REQ-SCAN-UNUSABLE")
def test_images_that_came_and_are_in_no_volume_are_said_until_one_is(tmp_path: Path) -> None:
    plan, engine = procedure(tmp_path), open_engine("reference")
    state = initial_state(plan)

    def causes_at(now_utc_s: float) -> list[tuple[str, dict[str, str]]]:
        found = causes(facts_of(state, plan, now_utc_s, Machine()), now_utc_s)
        return [(c.code, dict(c.params)) for c in found if c.code == "scan_unusable"]

    scout, broken = ct_slice("s", 0.0, patient="A"), ct_slice("b", 0.0, patient="A", mono_s=100.0)
    for s, code in ((scout, "localizer"), (broken, "pixel_data_unreadable")):
        rejected = Rejected(s.instance, Reason(code, "Said so."))
        state, _ = step(state, rejected, plan, engine)
    came = broken.instance.received_utc_s
    assert causes_at(came + UNUSED_AFTER_S - 1.0) == []  # the rest of its scan may still come
    said = [("scan_unusable", {"reason": "pixel_data_unreadable"})]
    assert causes_at(came + UNUSED_AFTER_S) == said
    lonely = ct_slice("l", 0.0, patient="A", mono_s=101.0)
    state, _ = step(state, lonely, plan, engine)
    state, _ = step(state, Tick(120.0, 120.0), plan, engine)
    assert causes_at(lonely.instance.received_utc_s) == [
        ("scan_unusable", {"reason": "single_slice"})
    ]
    for k in range(5):
        image = ct_slice(f"v{k}", 3.0 * k, patient="A", mono_s=130.0)
        state, _ = step(state, image, plan, engine)
    state, _ = step(state, Tick(150.0, 150.0), plan, engine)
    assert state.kept
    assert causes_at(1e6) == []


def test_clearing_where_nothing_is_blocked_is_refused(tmp_path: Path) -> None:
    """Or the record would say that a block was cleared."""
    plan, engine = procedure(tmp_path), open_engine("reference")
    state, outputs = step(initial_state(plan), OperatorAct("clear_block", 1.0), plan, engine)
    assert outputs == [Line("act_refused", {"act": "clear_block", "reason": "nothing is blocked"})]
    blocked = replace(state, block=Block("patient_mismatch", "A", "B", 0.0))
    assert step(blocked, OperatorAct("clear_block", 2.0), plan, engine)[0].block is None


@pytest.mark.requirement("REQ-IMAGE-AGE")
@pytest.mark.parametrize(
    ("ahead_s", "offset_s"), [(0.5, 0.0), (5.0, 0.0), (5.5, -5.5), (-30.0, 0.0), (-31.0, 31.0)]
)
def test_clocks_a_few_seconds_apart_are_left_alone(
    tmp_path: Path, ahead_s: float, offset_s: float
) -> None:
    """The stamps' by ``ahead_s`` before the images' arrival; what is more than a scan takes is told."""
    plan, engine = procedure(tmp_path), open_engine("reference")
    state = initial_state(plan)
    for k in range(5):
        image = ct_slice(f"v{k}", 3.0 * k, patient="A", mono_s=100.0)
        stamped = replace(image, acquired_utc_s=image.instance.received_utc_s + ahead_s)
        state, _ = step(state, stamped, plan, engine)
    state, _ = step(state, Tick(120.0, 120.0), plan, engine)
    assert state.clock_offset_s == pytest.approx(offset_s)
    told = "clock_offset" in {r.code for r in state.kept[-1].reasons}
    assert told == (offset_s != 0.0)


@pytest.mark.requirement("REQ-CLOCKS")
@pytest.mark.parametrize("old_s", [3 * 86400.0, 2400.0, 40.0, -3 * 86400.0])
def test_an_old_ct_that_came_first_is_found_out_by_the_first_scan_of_now(
    tmp_path: Path, old_s: float
) -> None:
    """The planning CT of three days ago, pushed by mistake: its stamp is no word on the scanner's clock."""
    plan, engine = procedure(tmp_path), open_engine("reference")
    state = initial_state(plan)
    for number, (at_s, ahead_s) in enumerate([(100.0, -old_s), (200.0, -2.0), (300.0, -90.0)]):
        for k in range(5):
            image = ct_slice(f"{number}.{k}", 3.0 * k, patient="A", mono_s=at_s)
            stamped = replace(image, acquired_utc_s=image.instance.received_utc_s + ahead_s)
            state, _ = step(state, stamped, plan, engine)
        state, _ = step(state, Tick(at_s + 20.0, at_s + 20.0), plan, engine)
        assert state.clock_offset_s == pytest.approx(old_s if number == 0 else 0.0)
    by_age = [v.last_received_utc_s - v.acquired_utc_s for v in state.kept]
    assert by_age == pytest.approx([0.0, 2.0, 90.0], abs=1.0)
