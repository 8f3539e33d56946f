"""Fields at points, for all members at once. LPS mm."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from monitor.geometry import Grid
from monitor.prediction.sampling import sampled, sampled_at

GRID = Grid((-10.0, 5.0, 2.0), (2.0, 3.0, 4.0), (6, 7, 8))
FIELD = np.random.default_rng(1).normal(size=(3, *GRID.shape_zyx)).astype(np.float32)


def test_points_get_what_map_coordinates_gives_them_beyond_the_grid_too() -> None:
    index = np.random.default_rng(2).uniform(-2.0, 9.0, (500, 3))
    found = sampled(FIELD, index)
    wanted = [ndimage.map_coordinates(f, index.T, order=1, mode="nearest") for f in FIELD]
    np.testing.assert_allclose(found.T, wanted, atol=1e-5)


def test_a_voxel_centre_is_that_voxel_and_no_points_are_no_values() -> None:
    found = sampled_at(FIELD, GRID.points_lps_mm().reshape(-1, 3), GRID)
    np.testing.assert_allclose(found.T.reshape(FIELD.shape), FIELD, atol=1e-5)
    assert sampled_at(FIELD, np.zeros((0, 3)), GRID).shape == (0, 3)


def test_a_value_that_is_no_number_is_not_hidden() -> None:
    unknown = FIELD.copy()
    unknown[1, 2, 2, 2] = np.nan
    found = sampled(unknown, np.array([[2.5, 2.0, 2.0], [0.0, 0.0, 0.0]]))
    assert np.isnan(found[0, 1])
    assert np.isfinite(found[1]).all()
    assert np.isfinite(found[0, [0, 2]]).all()
