"""A surface that missed its forecast on one side goes on missing it there. mm, s."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from monitor.geometry import Grid
from monitor.imaging.distance import signed_distance_mm
from monitor.prediction.drift import asked_at, moved, observed

GRID = Grid((-30.0, -30.0, -30.0), (3.0, 3.0, 3.0), (21, 21, 21))
POINTS = GRID.points_lps_mm()
BALL = (np.linalg.norm(POINTS, axis=-1) - 15.0).astype(np.float32)
# A bite of 3 mm beside a vessel at x > 0, fading over the ball.
BITTEN = (BALL + 3.0 * np.clip(POINTS[..., 0] / 15.0, 0.0, 1.0)).astype(np.float32)


def radius_mm(level: np.ndarray, towards: tuple[float, float, float]) -> float:
    """Where a level passes zero on the way out."""
    line = np.linspace(0.0, 28.0, 281)[:, None] * np.array(towards)
    index = np.round(GRID.to_index_zyx(line), 6)
    values = ndimage.map_coordinates(level, index.T, order=1)
    return float(np.linalg.norm(line[np.argmax(values > 0)]))


def test_half_of_the_miss_is_carried_on_where_it_was() -> None:
    drift = observed(BITTEN, BALL, 180.0, GRID)
    later = moved(BITTEN, drift, 180.0, GRID)
    bite = radius_mm(BITTEN, (1.0, 0.0, 0.0)) - radius_mm(later, (1.0, 0.0, 0.0))
    assert 0.5 < bite < 1.6
    assert abs(radius_mm(later, (-1.0, 0.0, 0.0)) - 15.0) < 0.4
    half = moved(BITTEN, drift, 90.0, GRID)
    so_far = radius_mm(BITTEN, (1.0, 0.0, 0.0)) - radius_mm(half, (1.0, 0.0, 0.0))
    assert so_far == pytest.approx(0.5 * bite, abs=0.3)


def test_a_forecast_that_came_true_or_missed_evenly_has_no_drift() -> None:
    for measured in (BALL, BALL + np.float32(2.0)):
        drift = observed(measured, BALL, 180.0, GRID)
        assert drift is not None
        assert np.abs(drift.local_mm[np.abs(measured) < 3.0]).max() < 0.1
        assert drift.lasting_mm == 0.0


@pytest.mark.parametrize(
    ("first_mm", "then_mm", "lasting_mm"), [(1.0, 2.0, 1.0), (-2.0, -0.5, -0.5), (1.0, -2.0, 0.0)]
)
def test_a_miss_on_all_sides_is_carried_on_when_it_came_twice(
    first_mm: float, then_mm: float, lasting_mm: float
) -> None:
    first = observed(BALL + np.float32(first_mm), BALL, 180.0, GRID)
    then = observed(BALL + np.float32(then_mm), BALL, 180.0, GRID, first)
    assert then is not None
    assert then.lasting_mm == pytest.approx(lasting_mm, abs=0.05)
    later = moved(BALL, then, 180.0, GRID)
    assert radius_mm(later, (1.0, 0.0, 0.0)) == pytest.approx(15.0 - lasting_mm, abs=0.3)


def test_several_fields_move_alike_and_only_where_they_are_told() -> None:
    drift = observed(BITTEN, BALL, 180.0, GRID)
    inside = BALL < 20.0
    both = moved(np.stack([BALL, 2.0 * BALL]), drift, 180.0, GRID, inside)
    whole = moved(BALL, drift, 180.0, GRID)
    np.testing.assert_array_equal(both[0][inside], whole[inside])
    np.testing.assert_array_equal(both[0][~inside], BALL[~inside])
    np.testing.assert_allclose(both[1][inside], 2.0 * whole[inside], atol=1e-4)
    assert np.abs(whole - BALL)[inside].max() > 0.5


def test_nothing_to_compare_is_no_drift() -> None:
    none = np.full_like(BALL, np.inf)
    assert observed(none, BALL, 180.0, GRID) is None
    assert observed(BALL, none, 180.0, GRID) is None
    assert observed(BALL, BALL, 0.0, GRID) is None
    assert moved(BALL, None, 60.0, GRID) is BALL
    points = POINTS[0, 0]
    assert asked_at(points, None, 60.0, GRID) is points


def test_points_ask_where_the_field_was_moved_from() -> None:
    drift = observed(BITTEN, BALL, 180.0, GRID)
    later = moved(BALL, drift, 180.0, GRID)
    points = POINTS[6:15, 6:15, 6:15].reshape(-1, 3)
    asked = asked_at(points, drift, 180.0, GRID)
    straight = np.linalg.norm(asked, axis=-1) - 15.0
    np.testing.assert_allclose(later[6:15, 6:15, 6:15].ravel(), straight, atol=0.5)
    assert signed_distance_mm(later, GRID).min() < -8.0
