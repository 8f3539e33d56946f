"""A scan against what had been forecast for it: going on as learned, stopped, vanished, appeared. mm, ml."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monitor.imaging.distance import signed_distance_mm
from monitor.model import IceSegmentation, PhaseKind
from monitor.prediction.assimilation import assimilated
from monitor.prediction.disagreement import Limits, Miss, miss, reasons
from monitor.prediction.estimate import Estimate, first_estimate
from monitor.prediction.observation import edge_points
from tests.prediction.ice_of_two_needles import ENGINE, GRID, PRIOR, problem, true_ice

SCANS_S = (180.0, 360.0, 540.0)
NONE = np.full(GRID.shape_zyx, np.inf, np.float32)
FINE = Miss(0.0, 0.0, 0.0, (5.0, 7.0), (6.0, 8.0))


@pytest.fixture(scope="module")
def learned() -> Estimate:
    e = first_estimate(PRIOR, problem, ENGINE)
    for number, at_s in enumerate(SCANS_S):
        e = assimilated(e, true_ice(at_s, number), at_s, PhaseKind.FREEZE, problem, GRID, ENGINE)
        assert e.reasons == ()
    return e


def told(e: Estimate, ice: IceSegmentation, kind: PhaseKind = PhaseKind.FREEZE) -> list[str]:
    after = assimilated(e, ice, ice.acquired_utc_s, kind, problem, GRID, ENGINE)
    return [r.code for r in after.reasons]


def test_ice_that_goes_on_as_learned_does_not_disagree(learned: Estimate) -> None:
    assert told(learned, true_ice(720.0, 3)) == []


@pytest.mark.requirement("REQ-FORECAST-HONEST")
def test_a_needle_that_stopped_is_other_ice_although_it_is_then_explained(
    learned: Estimate,
) -> None:
    ice = true_ice(720.0, 3, stopped=(545.0, np.inf))
    after = assimilated(learned, ice, 720.0, PhaseKind.FREEZE, problem, GRID, ENGINE)
    assert after.stopped[0] < 720.0  # learned from the same scan
    assert [r.code for r in after.reasons] == ["forecast_disagrees"]
    # What it taught is what the next one is compared with.
    following = true_ice(900.0, 4, stopped=(545.0, np.inf))
    assert told(after, following) == []


@pytest.mark.requirement("REQ-FORECAST-HONEST")
def test_ice_that_vanished(learned: Estimate) -> None:
    gone = replace(true_ice(720.0, 3), sdf_mm=NONE)
    assert told(learned, gone) == ["forecast_disagrees"]


def test_a_ball_of_ice_that_vanished_beside_one_that_did_not(learned: Estimate) -> None:
    """The half around the strong needle is gone; the surface that is left lies where it was forecast."""
    ice = true_ice(720.0, 3)
    assert ice.sdf_mm is not None
    left = np.maximum(ice.sdf_mm, -GRID.points_lps_mm()[..., 0] - 2.0).astype(np.float32)
    assert told(learned, replace(ice, sdf_mm=left)) == ["forecast_disagrees"]


@pytest.mark.requirement("REQ-FORECAST-HONEST")
def test_ice_that_appeared_where_no_needle_is(learned: Estimate) -> None:
    ice = true_ice(720.0, 3)
    assert ice.sdf_mm is not None
    far = np.linalg.norm(GRID.points_lps_mm() - np.array([0.0, 24.0, 20.0]), axis=-1) - 9.0
    both = np.minimum(ice.sdf_mm, far).astype(np.float32)
    assert told(learned, replace(ice, sdf_mm=both)) == ["forecast_disagrees"]


def test_what_was_not_scanned_is_not_missed() -> None:
    """Half the ice lies beyond the scan: the surface there is nobody's measurement."""
    ends = np.stack([ball(9.0), ball(10.0)])
    half = np.broadcast_to(GRID.points_lps_mm()[..., 0] > 3.0, GRID.shape_zyx)
    cut = measured(9.5, sdf_mm=np.maximum(distance(9.5), -GRID.points_lps_mm()[..., 0]))
    assert miss(ends, GRID, cut, None).gone_mm > 5.0
    assert miss(ends, GRID, replace(cut, known=half), None).gone_mm == 0.0


def distance(radius_mm: float) -> np.ndarray:
    return (np.linalg.norm(GRID.points_lps_mm(), axis=-1) - radius_mm).astype(np.float32)


def ball(radius_mm: float) -> np.ndarray:
    """A frozen fraction with that surface."""
    return np.clip(0.5 - distance(radius_mm) / 6.0, 0.0, 1.0).astype(np.float32)


def measured(radius_mm: float, **changes: object) -> IceSegmentation:
    known = np.ones(GRID.shape_zyx, bool)
    made = IceSegmentation("v", 0.0, GRID, distance(radius_mm), known, 1.0, 0.5, 1.0)
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("radius_mm", "outside_mm", "gone_mm"),
    [(12.0, 0.0, 0.0), (15.0, 2.2, 0.0), (9.0, 1.2, 2.0), (10.8, 0.0, 0.2)],
)
def test_how_far_a_ball_lies_from_a_band_of_11_to_12_mm(
    radius_mm: float, outside_mm: float, gone_mm: float
) -> None:
    """Less the bound of the measurement along its surface: 1.645 times half a millimetre."""
    ice = measured(radius_mm)
    m = miss(np.stack([ball(11.0), ball(12.0)]), GRID, ice, edge_points(ice, 150, seed=0))
    assert m.median_mm == pytest.approx(outside_mm, abs=0.25)
    assert m.worst_mm == pytest.approx(outside_mm, abs=0.45)
    assert m.gone_mm == pytest.approx(gone_mm, abs=1.2)  # of voxels of 3 mm
    assert m.forecast_ml == pytest.approx((5.6, 7.2), rel=0.1)


def test_a_band_that_is_wide_allows_much() -> None:
    ice = measured(9.0)
    m = miss(np.stack([ball(8.0), ball(15.0)]), GRID, ice, edge_points(ice, 150, seed=0))
    assert (m.median_mm, m.worst_mm, m.apart_ml) == (0.0, 0.0, 0.0)


def test_the_limits_are_where_they_are_said_to_be() -> None:
    limits = Limits()
    freeze, thaw = PhaseKind.FREEZE, PhaseKind.THAW
    for kind, name, limit in (
        (freeze, "median_mm", limits.median_mm),
        (freeze, "worst_mm", limits.worst_mm),
        (thaw, "worst_mm", limits.worst_in_thaw_mm),
        (freeze, "gone_mm", limits.gone_mm),
    ):
        assert reasons(replace(FINE, **{name: limit - 1e-6}), kind) == ()
        for bad in (limit, np.inf, np.nan):
            found = reasons(replace(FINE, **{name: bad}), kind)
            assert [r.code for r in found] == ["forecast_disagrees"]


@pytest.mark.parametrize("swap", [False, True])
def test_volumes_apart(swap: bool) -> None:
    for low, high, apart in (
        ((1.0, 3.0), (3.0, 4.0), 0.0),
        ((0.0, 0.0), (0.9, 2.0), 0.9),
        ((5.0, 6.0), (7.0, 9.0), 1.0),
    ):
        first, second = (high, low) if swap else (low, high)
        m = Miss(0.0, 0.0, 0.0, first, second)
        assert m.apart_ml == apart
        assert bool(reasons(m, PhaseKind.FREEZE)) == (apart >= 1.0)


def test_both_surfaces_are_read_alike() -> None:
    """The test's own fraction has the surface that it says it has."""
    sdf = signed_distance_mm(0.5 - ball(11.0), GRID)
    near = np.abs(distance(11.0)) < 2.0
    assert np.abs(sdf[near] - distance(11.0)[near]).mean() < 0.15
