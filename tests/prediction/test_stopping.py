"""A needle that stops cooling in the middle of a freeze: found, timed, and not suspected for nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from gpu_kernels.engine import Members, Problem
from monitor.model import PhaseKind
from monitor.prediction.assimilation import assimilated
from monitor.prediction.estimate import first_estimate
from monitor.prediction.observation import Seen, beyond_mm, edge_points
from monitor.prediction.reading import ice_of
from monitor.prediction.stopping import (
    candidates,
    duty_at,
    first_difference_s,
    halted,
    misfit_of,
    misfits,
)
from tests.prediction.ice_of_two_needles import ENGINE, GRID, PRIOR, problem, true_ice

INF = math.inf


def test_halted_needles_are_not_driven_from_then_on() -> None:
    plain = problem(Members())
    first, second = halted(plain, (INF, 20.0)).needles
    assert first == plain.needles[0]
    assert second.surface_degc[0] == (0.0, 37.0)
    assert second.surface_degc[1] == pytest.approx((20.0, 37.0 - 177.0 * 20.0 / 30.0))
    assert second.surface_degc[-1][0] == 20.0
    assert math.isnan(second.surface_degc[-1][1])
    assert len(second.surface_degc) == 3


def test_candidates_stop_one_needle_in_the_last_two_intervals() -> None:
    found = set(candidates((INF, INF), (100.0, 200.0, 320.0)))
    times = (100.0, 150.0, 200.0, 260.0)
    assert found == {(t, INF) for t in times} | {(INF, t) for t in times}
    assert set(candidates((INF,), (100.0,))) == {(50.0,)}


def test_a_stopped_needle_may_be_found_to_cool_after_all() -> None:
    assert (INF, INF) in set(candidates((150.0, INF), (100.0, 200.0, 320.0)))
    assert not any(c[0] not in (150.0, INF) for c in candidates((150.0, INF), (100.0, 200.0)))


def test_a_needle_that_is_off_is_not_suspected() -> None:
    found = set(candidates((INF, INF), (100.0, 200.0, 320.0), (False, True)))
    assert found == {(t, INF) for t in (100.0, 150.0, 200.0, 260.0)}
    assert set(candidates((INF, 90.0), (100.0,), (True, True))) == {(INF, INF)}


def test_the_duty_at_a_time() -> None:
    first, second = told(Members()).needles
    assert [duty_at(first, t) for t in (0.0, 400.0)] == [1.0, 1.0]
    assert [duty_at(second, t) for t in (0.0, 269.0, 270.0, 400.0)] == [1.0, 1.0, 0.0, 0.0]


def told(members: Members) -> Problem:
    """The second needle was stopped by hand at 270 s."""
    p = problem(members)
    first, second = p.needles
    return replace(p, needles=(first, replace(second, duty=((270.0, 1.0), (270.0, 0.0)))))


def test_options_differ_from_the_earliest_stop_in_question_on() -> None:
    assert first_difference_s([(INF, 90.0), (150.0, 90.0), (200.0, 90.0)]) == 150.0
    assert first_difference_s([(INF, 90.0), (INF, INF)]) == 90.0
    assert math.isinf(first_difference_s([(INF,)]))


def test_options_side_by_side_are_each_what_a_run_alone_is() -> None:
    options = [(INF, INF), (INF, 210.0), (150.0, INF)]
    scans = [seen(at_s, number) for number, at_s in enumerate((150.0, 270.0))]
    nominal = Members((1.2,), (0.9,), (1.1,), ((0.8, 0.7),))
    start = ENGINE.initial(problem(nominal), 37.0)
    together = misfits(options, nominal, problem, start, scans, GRID, ENGINE)
    for option, found in zip(options, together, strict=True):
        p, state, alone = halted(problem(nominal), option), start, 0.0
        for scan in scans:
            state = ENGINE.advance(p, state, scan.at_s)
            beyond = beyond_mm(ice_of(p, state, ENGINE), GRID, scan.edge)
            alone += misfit_of([beyond[0]], [scan.variance_mm2])
        assert found == pytest.approx(alone, rel=0.02)
    assert together[1] != pytest.approx(together[0], rel=0.1)


def seen(at_s: float, number: int) -> Seen:
    edge = edge_points(true_ice(at_s, number), 150, seed=number)
    return Seen(at_s, edge, edge.variance_mm2)


def test_misfit() -> None:
    beyond = [np.array([1.0, -2.0]), np.array([3.0])]
    assert misfit_of(beyond, [np.array([1.0, 4.0]), np.array([9.0])]) == pytest.approx(3.0)


@pytest.mark.requirement("REQ-NEEDLE-STOPPED")
@pytest.mark.parametrize("stopped_at_s", [270.0, 200.0])
def test_a_needle_that_was_stopped_by_hand_does_not_fail(stopped_at_s: float) -> None:
    """Also where it had stopped a little before it was told."""
    e = first_estimate(PRIOR, problem, ENGINE)
    for number, at_s in enumerate((150.0, 270.0, 420.0)):
        ice = true_ice(at_s, number, stopped=(INF, stopped_at_s))
        make = told if at_s > 270.0 else problem
        if at_s != 270.0:
            e = assimilated(e, ice, at_s, PhaseKind.FREEZE, make, GRID, ENGINE)
    assert e.stopped == (INF, INF)
    if stopped_at_s == 270.0:  # what it grew to by then is as foreseen
        assert e.reasons == ()


@pytest.mark.requirement("REQ-NEEDLE-STOPPED")
@pytest.mark.parametrize("fails_at_s", [INF, 270.0])
def test_the_ice_tells(fails_at_s: float) -> None:
    """At the first scan after it, or never where none has stopped."""
    e = first_estimate(PRIOR, problem, ENGINE)
    for number, at_s in enumerate((150.0, 270.0, 420.0)):
        e = assimilated(
            e,
            true_ice(at_s, number, stopped=(INF, fails_at_s)),
            at_s,
            PhaseKind.FREEZE,
            problem,
            GRID,
            ENGINE,
        )
        if at_s <= fails_at_s:
            assert e.stopped == (INF, INF)
    if math.isinf(fails_at_s):
        assert e.stopped == (INF, INF)
    else:
        assert math.isinf(e.stopped[0])
        assert abs(e.stopped[1] - fails_at_s) <= 75.0
