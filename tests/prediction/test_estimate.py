"""The ensemble learns from scans of ice that another member of its own family grew. mm, s."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gpu_kernels.engine import Members, Problem
from monitor.config import Factor, NeedleConfig, NeedleType
from monitor.imaging.distance import signed_distance_mm
from monitor.model import IceSegmentation, PhaseKind, Status
from monitor.prediction import ensemble
from monitor.prediction.assimilation import assimilated
from monitor.prediction.estimate import (
    Estimate,
    MakeProblem,
    first_estimate,
    replaced,
    without_course,
)
from monitor.prediction.learning import caught_up
from monitor.prediction.reading import ice_of
from monitor.prediction.stopping import halted
from tests.prediction.ice_of_two_needles import ENGINE, GRID, PRIOR, TRUTH, problem, true_ice

SCANS_S = (180.0, 360.0, 540.0)


def ice_ml(members: Members, at_s: float) -> float:
    p = problem(members)
    state = ENGINE.advance(p, ENGINE.initial(p, 37.0), at_s)
    return float(ENGINE.frozen_fraction(p, state)[0].sum()) * GRID.voxel_ml


@pytest.fixture(scope="module")
def learned() -> Estimate:
    e = first_estimate(PRIOR, problem, ENGINE)
    for number, at_s in enumerate(SCANS_S):
        e = assimilated(e, true_ice(at_s, number), at_s, PhaseKind.FREEZE, problem, GRID, ENGINE)
    return e


def mean_member(theta: np.ndarray) -> Members:
    m = ensemble.members(theta)
    return Members(*(v[:1] for v in vars(m).values()))


def test_the_prior_is_drawn_exactly() -> None:
    prior = replace(PRIOR, cooling=((-0.3, 0.3), (0.0, 0.4), (0.0, 0.0)), blood_degc=(0.1, 1.0))
    theta = ensemble.drawn(prior)
    assert theta.shape == (prior.members, ensemble.TISSUE_PARAMETERS + 3)
    np.testing.assert_allclose(theta.mean(0), (0.0, 0.0, 0.0, 0.1, -0.3, 0.0, 0.0), atol=1e-12)
    np.testing.assert_allclose(theta[:, :4].std(0), (0.5, 0.12, 0.12, 1.0))
    assert theta[:, -1].std() == pytest.approx(prior.each_needle_sd)
    members = ensemble.members(theta)
    assert len(members) == prior.members + 1
    np.testing.assert_allclose(np.log(members.cooling[0]), theta[:, 4:].mean(0), atol=1e-12)
    np.testing.assert_allclose(members.blood_shift_degc[1:], theta[:, 3])


def test_parameters_that_grew_the_ice_are_approached(learned: Estimate) -> None:
    before, after = ensemble.drawn(PRIOR), learned.theta
    cooling = np.exp(after.mean(0)[4:])
    assert cooling[0] > 1.25 * cooling[1]  # the second needle is the weak one
    assert (after.std(0)[4:] < 0.75 * before.std(0)[4:]).all()
    later_s = 840.0
    true_ml = ice_ml(TRUTH, later_s)
    errors = [abs(ice_ml(mean_member(t), later_s) / true_ml - 1.0) for t in (before, after)]
    assert errors[1] < 0.06
    assert errors[1] < 0.5 * errors[0]


def test_the_start_of_a_forecast_has_the_measured_surface(learned: Estimate) -> None:
    p = problem(learned.members)
    ice = ice_of(p, learned.state, ENGINE)
    measured = true_ice(SCANS_S[-1], 9).sdf_mm
    mine = signed_distance_mm(0.5 - ice[0], GRID)
    near = np.abs(measured) < 2.0
    assert np.abs(mine[near] - measured[near]).mean() < 0.35
    sizes = (ice > 0.5).sum((1, 2, 3))
    assert sizes[1:].min() < sizes[0] < sizes[1:].max()
    assert (learned.volume_id, learned.state.time_s) == ("v2", SCANS_S[-1])
    assert learned.reasons == ()


def test_the_same_scans_give_the_same_estimate(learned: Estimate) -> None:
    again = first_estimate(PRIOR, problem, ENGINE)
    for number, at_s in enumerate(SCANS_S):
        again = assimilated(
            again, true_ice(at_s, number), at_s, PhaseKind.FREEZE, problem, GRID, ENGINE
        )
    np.testing.assert_array_equal(again.theta, learned.theta)
    np.testing.assert_array_equal(again.state.enthalpy_j_m3, learned.state.enthalpy_j_m3)


def test_what_learning_puts_off_changes_neither_parameters_nor_state(learned: Estimate) -> None:
    assert learned.due
    caught = caught_up(learned, problem, GRID, ENGINE)
    assert not caught.due
    assert caught.theta is learned.theta
    assert caught.state is learned.state
    p = problem(caught.members)
    state = ENGINE.initial(p, 37.0)
    for at_s in SCANS_S:
        state = ENGINE.advance(p, state, at_s)
    np.testing.assert_array_equal(caught.free.enthalpy_j_m3, state.enthalpy_j_m3)
    # The last scan's are run from the scan before; earlier ones are corrected by a straight line.
    for off, real in zip(learned.predicted, caught.predicted, strict=True):
        assert np.abs(off - real).mean() < 0.15
    next_s = 720.0
    ice = true_ice(next_s, 3)
    one, other = (
        assimilated(e, ice, next_s, PhaseKind.FREEZE, problem, GRID, ENGINE)
        for e in (learned, caught)
    )
    np.testing.assert_array_equal(one.theta, other.theta)
    np.testing.assert_array_equal(one.state.enthalpy_j_m3, other.state.enthalpy_j_m3)


def test_after_a_failure_the_members_run_from_the_first_freeze(learned: Estimate) -> None:
    bare = without_course(learned)
    assert caught_up(bare, problem, GRID, ENGINE) is bare
    ice = true_ice(720.0, 3)
    e = assimilated(bare, ice, 720.0, PhaseKind.FREEZE, problem, GRID, ENGINE)
    assert not e.due
    assert len(e.course) == 3
    assert e.course[-1] is e.free


def test_a_scan_without_a_measurement_only_moves_time_on(learned: Estimate) -> None:
    blind = replace(true_ice(600.0, 3), sdf_mm=None, status=Status.INVALID)
    e = assimilated(learned, blind, 600.0, PhaseKind.FREEZE, problem, GRID, ENGINE)
    np.testing.assert_array_equal(e.theta, learned.theta)
    assert (e.volume_id, e.state.time_s, len(e.seen)) == ("v2", 600.0, 3)


@pytest.mark.parametrize("times_s", [(0.0, 180.0), (180.0, 180.0, 360.0)])
def test_a_scan_at_no_time_since_the_last_one_teaches_nothing(times_s: tuple[float, ...]) -> None:
    """One that is stamped with the second at which the freeze began; a second reconstruction of a scan."""
    e, taught = first_estimate(PRIOR, problem, ENGINE), [0]
    for number, at_s in enumerate(times_s):
        ice = true_ice(max(at_s, 60.0), number)
        e = assimilated(e, ice, at_s, PhaseKind.FREEZE, problem, GRID, ENGINE)
        assert (e.volume_id, e.state.time_s) == (f"v{number}", at_s)
        taught.append(len(e.seen))
    assert taught == [0, *(len({t for t in times_s[: n + 1] if t}) for n in range(len(times_s)))]


@pytest.mark.requirement("REQ-FORECAST-HONEST")
def test_ice_that_no_parameters_explain_is_said() -> None:
    e = first_estimate(PRIOR, problem, ENGINE)
    far = np.linalg.norm(GRID.points_lps_mm() - np.array([0.0, 0.0, 0.0]), axis=-1) - 26.0
    ice = replace(true_ice(180.0, 0), sdf_mm=far.astype(np.float32))
    e = assimilated(e, ice, 180.0, PhaseKind.FREEZE, problem, GRID, ENGINE)
    assert [r.code for r in e.reasons] == ["forecast_disagrees"]


def test_no_ice_measured_thaws_the_model() -> None:
    e = first_estimate(PRIOR, problem, ENGINE)
    none = replace(true_ice(180.0, 0), sdf_mm=np.full(GRID.shape_zyx, np.inf, np.float32))
    e = assimilated(e, none, 180.0, PhaseKind.FREEZE, problem, GRID, ENGINE)
    fraction = ENGINE.frozen_fraction(problem(e.members), e.state)
    assert not (fraction > 0.5).any()
    assert [r.code for r in e.reasons] == ["forecast_disagrees"]


def test_ice_where_none_was_forecast_is_said() -> None:
    e = first_estimate(PRIOR, warm, ENGINE)
    e = assimilated(e, true_ice(180.0, 0), 180.0, PhaseKind.FREEZE, warm, GRID, ENGINE)
    assert [r.code for r in e.reasons] == ["forecast_disagrees"]


def warm(members: Members) -> Problem:
    """Needles that draw nothing."""
    return halted(problem(members), (0.0, 0.0))


# ------------------------------------------------------------------ a needle that was moved

MOVED_MM = 9.0


def elsewhere(members: Members) -> Problem:
    """The second needle pulled back by hand."""
    p = problem(members)
    first, second = p.needles
    x, y, z = second.tip_mm
    return replace(p, needles=(first, replace(second, tip_mm=(x, y, z + MOVED_MM))))


def needle(z_mm: float) -> NeedleConfig:
    kind = NeedleType("test", 1.5, 20.0, -140.0, 30.0, Factor(1.0, 1.3))
    return NeedleConfig(2, kind, (7.0, 0.0, z_mm), (7.0, 0.0, 80.0), 1.0)


WAS, IS = (needle(-10.0),), (needle(-10.0 + MOVED_MM),)


def miss_mm(e: Estimate, make: MakeProblem, true_ice_at: IceSegmentation) -> float:
    """Of the forecast, at the measured surface."""
    p = e.problem(make)
    state = ENGINE.advance(p, e.state, true_ice_at.acquired_utc_s)
    mine = signed_distance_mm(0.5 - ice_of(p, state, ENGINE)[0], GRID)
    measured = true_ice_at.sdf_mm
    near = np.abs(measured) < 2.0
    return float(np.abs(mine[near] - measured[near]).mean())


def test_a_needle_moved_before_the_freeze_is_taken_over_from_the_first_scan_of_it() -> None:
    at_s, next_s = 180.0, 360.0
    seen, coming = (true_ice(t, n, of=elsewhere) for n, t in enumerate((at_s, next_s)))
    errors = {}
    for name, needles, make in (("as it was", WAS, problem), ("as it is", IS, elsewhere)):
        e = first_estimate(PRIOR, problem, ENGINE, WAS)
        e = replaced(e, needles, make, ENGINE)
        e = assimilated(e, seen, at_s, PhaseKind.FREEZE, make, GRID, ENGINE)
        assert (e.needles, e.taught, len(e.seen)) == (needles, True, 1)
        errors[name] = miss_mm(e, make, coming)
    assert errors["as it is"] < 0.5
    assert errors["as it is"] < 0.6 * errors["as it was"]


def test_a_needle_moved_later_freezes_where_it_is_with_what_was_learned(learned: Estimate) -> None:
    e = replace(learned, needles=WAS)
    assert replaced(e, WAS, problem, ENGINE) is e
    e = replaced(e, IS, elsewhere, ENGINE)
    after = assimilated(
        e, true_ice(720.0, 3, of=elsewhere), 720.0, PhaseKind.FREEZE, elsewhere, GRID, ENGINE
    )
    np.testing.assert_array_equal(after.theta, learned.theta)
    assert (after.volume_id, after.state.time_s, len(after.seen)) == ("v3", 720.0, 3)
    assert after.needles == IS
    p = after.problem(elsewhere)
    assert p.needles[1].tip_mm[2] == -10.0 + MOVED_MM
