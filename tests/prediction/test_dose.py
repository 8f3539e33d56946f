"""What the tissue has been through: against a run in steps of a second, and against ice that the model
has to learn. °C, s."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from gpu_kernels.cpu import CpuEngine
from gpu_kernels.engine import History, Members, Problem, State
from monitor.imaging.distance import signed_distance_mm
from monitor.model import IceSegmentation, PhaseKind
from monitor.prediction import dose
from monitor.prediction.assimilation import assimilated
from monitor.prediction.ensemble import MOST_LATENT
from monitor.prediction.estimate import Estimate, first_estimate
from monitor.prediction.forecast import Target, advance_forecast, begin_forecast
from monitor.prediction.reading import ice_of
from tests.prediction.ice_of_two_needles import ENGINE, GRID, PRIOR, STILL, TRUTH, problem, true_ice

FREEZE, THAW = PhaseKind.FREEZE, PhaseKind.THAW
NAN = math.nan
# Ten minutes of freeze, five of thaw, ten of freeze.
COURSE = (
    (0.0, 37.0), (30.0, -140.0), (600.0, -140.0), (600.0, NAN),
    (900.0, 0.0), (930.0, -140.0), (1500.0, -140.0), (1500.0, NAN),
)  # fmt: skip
SCANS_S = (180.0, 360.0, 570.0, 750.0, 1080.0, 1260.0, 1490.0)


def course(members: Members) -> Problem:
    made = problem(members)
    needles = tuple(replace(n, surface_degc=COURSE) for n in made.needles)
    return replace(made, needles=needles, stasis_s=3600.0)


def kind_at(at_s: float) -> PhaseKind:
    return THAW if 600.0 < at_s < 900.0 else FREEZE


def ice(state: State, number: int) -> IceSegmentation:
    sdf = signed_distance_mm(0.5 - ice_of(course(TRUTH), state, ENGINE)[0], GRID)
    known = np.ones(GRID.shape_zyx, bool)
    return IceSegmentation(f"v{number}", state.time_s, GRID, sdf, known, 1.0, 0.4, 1.0)


@cache
def truths() -> tuple[State, ...]:
    """What happens at each of the scans, with its whole history."""
    made = course(TRUTH)
    state, states = ENGINE.initial(made, 37.0, history=True), []
    for at_s in SCANS_S:
        state = dose.advanced(ENGINE, made, state, at_s)
        states.append(state)
    return tuple(states)


@cache
def learned() -> tuple[Estimate, ...]:
    """The estimate after each of the scans."""
    e, estimates = first_estimate(PRIOR, course, ENGINE), []
    for n, state in enumerate(truths()):
        kind = kind_at(state.time_s)
        e = assimilated(e, ice(state, n), state.time_s, kind, course, GRID, ENGINE, STILL)
        estimates.append(e)
    return tuple(estimates)


def in_steps_of_a_second(made: Problem, until_s: int) -> History:
    """By the engine's states alone; half a second for each end of one below."""
    state = ENGINE.initial(made, 37.0)
    before = np.asarray(ENGINE.temperature_degc(made, state), np.float32)
    lowest, below = before, {-20.0: np.zeros_like(before), -40.0: np.zeros_like(before)}
    for at_s in range(1, until_s + 1):
        state = ENGINE.advance(made, state, float(at_s))
        degc = np.asarray(ENGINE.temperature_degc(made, state), np.float32)
        lowest = np.minimum(lowest, degc)
        for limit, seconds in below.items():
            seconds += 0.5 * (before < limit) + 0.5 * (degc < limit)
        before = degc
    return History(lowest, below[-20.0], below[-40.0], (lowest < -4.5).astype(np.uint8))


def test_seconds_and_lowest_temperature_are_those_of_a_run_in_steps_of_a_second() -> None:
    """By the engine as the monitor runs an ensemble."""
    made, coarse = course(Members()), CpuEngine(most_latent=MOST_LATENT)
    fine = in_steps_of_a_second(made, 600)
    ours = dose.advanced(coarse, made, coarse.initial(made, 37.0, history=True), 600.0).history
    assert ours is not None
    cold = fine.min_degc < -20.0
    assert cold.sum() > 200
    assert np.abs(ours.min_degc - fine.min_degc)[cold].max() < 1.0
    for name, mean_s, bias_s in (("below_20_s", 15.0, 5.0), ("below_40_s", 10.0, 6.0)):
        off = (getattr(ours, name) - getattr(fine, name))[getattr(fine, name) > 0]
        assert np.abs(off).mean() < mean_s
        assert abs(off.mean()) < bias_s
    assert (ours.cycles != fine.cycles).mean() < 0.005


def test_scans_that_agree_with_the_model_change_nothing() -> None:
    """Stretch by stretch from scan to scan, as in one."""
    made = course(TRUTH)
    start = ENGINE.initial(made, 37.0, history=True)
    past = dose.none(start)
    for n, whole in enumerate(truths()):
        reached = dose.advanced(ENGINE, made, start, whole.time_s)
        model_ice = ice_of(made, reached, ENGINE)
        again = ENGINE.initial(
            made, ENGINE.temperature_degc(made, reached), whole.time_s, history=True
        )
        start = replace(again, perfused_from_s=reached.perfused_from_s)
        measured = ice(whole, n).sdf_mm
        kind = kind_at(whole.time_s)
        past = dose.at_scan(past, reached, model_ice, start, measured, kind, GRID)
    whole_history = truths()[-1].history
    assert whole_history is not None
    cold = whole_history.min_degc < -10.0
    assert np.abs(past.joined.min_degc - whole_history.min_degc)[cold].max() < 1.5
    assert np.abs(past.joined.below_20_s - whole_history.below_20_s).max() < 10.0
    assert np.abs(past.joined.below_40_s - whole_history.below_40_s).max() < 10.0
    assert (past.joined.cycles != whole_history.cycles).mean() < 0.002


def test_ice_that_has_to_be_learned_is_dosed_to_a_few_seconds() -> None:
    """The prior's ice is a third too large; the scans put it right, and what it did before them too."""
    for e, state in zip(learned(), truths(), strict=True):
        true, found = state.history, e.past.joined
        assert true is not None
        for name, limit_s in (("below_20_s", 20.0), ("below_40_s", 25.0)):
            mine, theirs = getattr(found, name)[0], getattr(true, name)[0]
            either = (mine > 0) | (theirs > 0)
            assert np.abs(mine - theirs)[either].mean() < limit_s
        edge = (true.min_degc[0] < -5.0) & (true.min_degc[0] > -60.0)
        assert np.abs(found.min_degc[0] - true.min_degc[0])[edge].mean() < 2.6
    reached = [(h.min_degc[0] < -20.0).sum() for h in (found, true)]
    assert reached[0] == pytest.approx(reached[1], rel=0.1)


def test_freezes_are_counted_and_an_uncertain_edge_does_not_freeze_twice() -> None:
    first, last = learned()[2].past.joined, learned()[-1].past.joined
    assert first.cycles.max() == 1
    assert last.cycles.max() == 2
    true = truths()[-1].history
    assert true is not None
    wrong = last.cycles[0] != true.cycles[0]
    assert wrong.sum() < 0.06 * (true.cycles[0] > 0).sum()
    assert (last.cycles[0] < true.cycles[0]).sum() > (last.cycles[0] > true.cycles[0]).sum()


def test_no_scan_takes_anything_away() -> None:
    before = first_estimate(PRIOR, course, ENGINE)
    for e in learned():
        old, new = before.past.joined, e.past.joined
        assert (new.min_degc <= old.min_degc).all()
        assert (new.below_20_s >= old.below_20_s).all()
        assert (new.below_40_s >= old.below_40_s).all()
        assert (new.below_40_s <= new.below_20_s + 0.1).all()
        assert (new.cycles >= old.cycles).all()
        before = e


def test_a_scan_that_cannot_be_measured_loses_no_time() -> None:
    e = learned()[0]
    blind = replace(ice(truths()[1], 1), sdf_mm=None)
    later = assimilated(e, blind, 360.0, FREEZE, course, GRID, ENGINE)
    so_far = dose.joined(later.past.joined, dose.since_scan(later.past, later.state))
    assert so_far.below_20_s[0].max() > 300.0
    assert so_far.cycles.max() == 1


def test_a_freeze_without_ice_has_frozen_nothing() -> None:
    none = replace(ice(truths()[0], 0), sdf_mm=np.full(GRID.shape_zyx, np.inf, np.float32))
    e = assimilated(first_estimate(PRIOR, course, ENGINE), none, 60.0, FREEZE, course, GRID, ENGINE)
    assert e.past.joined.cycles.max() == 0
    assert e.past.joined.below_20_s.max() == 0.0


def test_around_a_needle_found_to_have_stopped_the_cold_does_not_last() -> None:
    e = first_estimate(PRIOR, problem, ENGINE)
    for n, at_s in enumerate((180.0, 360.0, 540.0)):
        before, scan = e, true_ice(at_s, n, stopped=(200.0, math.inf))
        e = assimilated(e, scan, at_s, FREEZE, problem, GRID, ENGINE)
    assert e.stopped[0] < 300.0
    lasted_s = (e.past.joined.below_40_s - before.past.joined.below_40_s)[0]
    near = np.linalg.norm(GRID.points_lps_mm()[..., :2] - [-7.0, 0.0], axis=-1) < 4.0
    cold = near & (before.past.joined.below_40_s[0] > 60.0)
    assert cold.any()
    assert lasted_s[cold].max() < 30.0


def test_a_forecast_goes_on_from_there_whatever_the_drift() -> None:
    e = learned()[1]
    assert e.drifts
    inside = GRID.points_lps_mm().reshape(-1, 3)
    ball = inside[np.linalg.norm(inside, axis=1) < 9.0]
    target = Target(ball, ball, volumes_lps_mm=(("lesion", ball), ("lesion and margin", inside)))
    job = begin_forecast(e.problem(course), e, GRID, target, FREEZE)
    while not job.done:
        job = advance_forecast(job, ENGINE, 21)
    made = dose.map_of([o.dose for o in job.outputs])
    assert (np.diff(made.min_degc, axis=0) <= 0).all()
    for seconds in (made.below_20_s, made.below_40_s, made.cycles):
        assert (np.diff(seconds.astype(int), axis=0) >= 0).all()
    np.testing.assert_array_equal(made.cycles[0], e.past.joined.cycles[0])
    assert np.abs(made.below_20_s[0] - e.past.joined.below_20_s[0]).max() <= 1.0
    lesion = dose.body_dose("lesion", [o.volumes[0] for o in job.outputs], 0.1, 0.9)
    for rising in (lesion.reached_20, lesion.reached_40, lesion.hold_20_s, lesion.cycles):
        assert (np.diff(rising, axis=0) >= 0).all()
        assert (rising[:, 0] <= rising[:, 1]).all()
    assert (np.diff(lesion.warmest_degc, axis=0) <= 0).all()
    assert (lesion.reached_40 <= lesion.reached_20).all()
    assert 0.1 < lesion.reached_20[0, 0] < lesion.reached_20[-1, 0]
    everywhere = dose.body_dose("all", [o.volumes[1] for o in job.outputs], 0.1, 0.9)
    assert (everywhere.reached_20 < lesion.reached_20).all()
    assert everywhere.hold_20_s.max() == 0.0


def test_a_summary_tells_shares_and_the_point_spared_most() -> None:
    points = History(
        np.array([[-50.0], [-30.0], [-10.0], [NAN]]),
        np.array([[300.0], [60.0], [0.0], [0.0]]),
        np.array([[120.0], [0.0], [0.0], [0.0]]),
        np.array([[2.0], [1.6], [1.0], [1.0]]),
    )
    whole = dose.summary(dose.mapped(points, lambda field: field[:3]), -8.0)[:, 0]
    np.testing.assert_allclose(whole, [2 / 3, 1 / 3, -10.0, 0.0, 0.0, 1.0])
    cold = replace(points, cycles=np.array([[1.0], [0.4], [0.2], [1.0]]))
    assert dose.summary(dose.mapped(cold, lambda field: field[:3]), -8.0)[-1, 0] == 1.0
    assert dose.summary(dose.mapped(cold, lambda field: field[:3]), -11.0)[-1, 0] == 0.0
    unknown = dose.summary(points, -8.0)[:, 0]
    assert unknown[0] == 0.5  # what is not known has not been reached
    assert math.isnan(unknown[2])
