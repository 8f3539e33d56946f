"""A needle that stops cooling in the middle of a freeze: found, timed, and not suspected for nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gpu_kernels.engine import Members
from monitor.model import PhaseKind
from monitor.prediction.estimate import assimilated, first_estimate
from monitor.prediction.stopping import candidates, halted, misfit_of, suspected
from tests.prediction.ice_of_two_needles import ENGINE, FEW, GRID, problem, true_ice

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


def test_the_best_candidate_and_only_if_it_gains_enough() -> None:
    cost = {(50.0,): 20.0, (100.0,): 10.0, (150.0,): 30.0, (INF,): 25.0}
    times = (100.0, 200.0)
    assert suspected((INF,), times, cost.__getitem__, 12.0) == (100.0,)
    assert suspected((INF,), times, cost.__getitem__, 16.0) is None


def test_misfit() -> None:
    beyond = [np.array([1.0, -2.0]), np.array([3.0])]
    assert misfit_of(beyond, [np.array([1.0, 4.0]), np.array([9.0])]) == pytest.approx(3.0)


@pytest.mark.parametrize("fails_at_s", [INF, 270.0])
def test_the_ice_tells(fails_at_s: float) -> None:
    """At the first scan after it, or never where none has stopped."""
    e = first_estimate(2, problem, ENGINE, FEW)
    for number, at_s in enumerate((150.0, 270.0, 420.0)):
        e = assimilated(
            e,
            true_ice(at_s, number, stopped=(INF, fails_at_s)),
            at_s,
            PhaseKind.FREEZE,
            problem,
            GRID,
            ENGINE,
            FEW,
        )
        if at_s <= fails_at_s:
            assert e.stopped == (INF, INF)
    if math.isinf(fails_at_s):
        assert e.stopped == (INF, INF)
    else:
        assert math.isinf(e.stopped[0])
        assert abs(e.stopped[1] - fails_at_s) <= 75.0
