"""Nearest feet against every foot tried. mm, arrays (z, y, x)."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from monitor.imaging.nearest import nearest_feet

SPACING = np.array([2.5, 0.8, 1.0], np.float32)


def bodies(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The border voxels of two balls, and the point of the nearer ball below each."""
    at = np.moveaxis(np.indices(shape), 0, -1) * SPACING
    offset = at - np.array([(20.0, 12.0, 14.0), (44.0, 22.0, 30.0)])[:, None, None, None]
    apart = np.linalg.norm(offset, axis=-1)
    inside = (apart < 9.0).any(0)
    border = ndimage.binary_dilation(inside) & ~ndimage.binary_erosion(inside)
    feet = at - offset * (1.0 - 9.0 / apart[..., None])
    nearer = np.where((apart[0] < apart[1])[..., None], feet[0], feet[1])
    return border, nearer[border].astype(np.float32)


def test_hardly_a_foot_is_nearer_than_the_one_found() -> None:
    border, feet_mm = bodies((25, 40, 45))
    number, distance_mm = nearest_feet(border, feet_mm, SPACING)
    points = np.moveaxis(np.indices(border.shape), 0, -1) * SPACING
    least = cKDTree(feet_mm).query(points)[0]
    assert (distance_mm - least).max() < 0.2
    assert np.mean(distance_mm - least > 1e-3) < 0.01
    np.testing.assert_allclose(
        np.linalg.norm(points - feet_mm[number], axis=-1), distance_mm, atol=1e-3
    )


def test_one_foot_in_one_plane_is_the_nearest_of_all() -> None:
    border = np.zeros((1, 4, 5), bool)
    border[0, 2, 1] = True
    foot = np.array([[0.0, 2.0, 1.25]], np.float32)
    number, distance_mm = nearest_feet(border, foot, np.ones(3, np.float32))
    assert not number.any()
    assert distance_mm[0, 2, 4] == np.float32(2.75)
