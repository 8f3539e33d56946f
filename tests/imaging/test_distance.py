"""Signed distances against bodies whose distance is known. mm; errors in parts of a voxel.

Invariant: the fields are random in place, so no body lies conveniently on the grid.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.geometry import Grid
from monitor.imaging.distance import resample, sample, signed_distance_mm, volume_ml

BAND_MM = 7.0


def box(half_mm: float, spacing_mm: tuple[float, float, float]) -> Grid:
    n = [int(2 * half_mm / s) + 1 for s in spacing_mm]
    origin = tuple(-(k - 1) / 2 * s for k, s in zip(n, spacing_mm, strict=True))
    return Grid(origin, spacing_mm, (n[2], n[1], n[0]))


def sphere(grid: Grid, centre: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    return np.linalg.norm(grid.points_lps_mm() - centre, axis=-1) - radius_mm


@pytest.mark.requirement("REQ-ICE-ACCURACY")
@pytest.mark.parametrize("radius_mm", [5.0, 10.0, 20.0])
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.5, 0.5, 0.5)])
def test_sphere_near_its_surface(radius_mm: float, spacing_mm: tuple[float, float, float]) -> None:
    grid = box(radius_mm + 9.0, spacing_mm)
    true = sphere(grid, (0.13, -0.37, 0.41), radius_mm)
    error = np.abs(signed_distance_mm(true, grid) - true)[np.abs(true) < BAND_MM]
    assert error.max() < 0.15 * max(spacing_mm)
    assert error.mean() < 0.06 * max(spacing_mm)


@pytest.mark.requirement("REQ-ICE-ACCURACY")
@pytest.mark.parametrize("spacing_mm", [(0.8, 0.8, 2.5), (1.0, 1.0, 3.0)])
def test_sphere_on_thick_slices(spacing_mm: tuple[float, float, float]) -> None:
    grid = box(24.0, spacing_mm)
    true = sphere(grid, (0.13, -0.37, 0.41), 15.0)
    error = np.abs(signed_distance_mm(true, grid) - true)[np.abs(true) < BAND_MM]
    assert error.max() < 0.15 * max(spacing_mm)
    assert error.mean() < 0.05 * max(spacing_mm)


@settings(max_examples=15, deadline=None)
@given(st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda n: np.linalg.norm(n) > 0.2))
def test_plane_in_any_direction(normal: tuple[float, float, float]) -> None:
    grid = box(15.0, (1.0, 1.0, 1.0))
    n = np.array(normal) / np.linalg.norm(normal)
    true = (grid.points_lps_mm() - [0.13, 0.27, 0.4]) @ n
    foot = grid.to_index_zyx(grid.points_lps_mm() - true[..., None] * n)
    within = np.all((foot > 1.5) & (foot < np.array(grid.shape_zyx) - 2.5), axis=-1)
    error = np.abs(signed_distance_mm(true, grid) - true)
    assert error[within & (np.abs(true) < BAND_MM)].max() < 0.03


def test_a_level_that_is_no_distance_gives_the_same_surface() -> None:
    """Steep, flat or saturated: only the zero counts."""
    grid = box(20.0, (1.0, 1.0, 1.0))
    true = sphere(grid, (0.2, 0.1, -0.3), 10.0)
    for level in (50.0 * true, np.tanh(true / 3.0), true * (1.0 + 0.02 * true)):
        error = np.abs(signed_distance_mm(level, grid) - true)[np.abs(true) < 5.0]
        assert error.max() < 0.15


def test_between_two_bodies_the_nearer_one_counts() -> None:
    grid = box(24.0, (1.0, 1.0, 1.0))
    true = np.minimum(sphere(grid, (-12.3, 0.2, 0.4), 8.0), sphere(grid, (11.6, 1.1, -0.3), 9.0))
    error = np.abs(signed_distance_mm(true, grid) - true)
    assert error[np.abs(true) < BAND_MM].max() < 0.2


def test_a_layer_one_voxel_thin_keeps_its_place() -> None:
    grid = box(8.0, (1.0, 1.0, 1.0))
    level = np.full(grid.shape_zyx, 0.5)
    level[8] = -0.5
    sdf = signed_distance_mm(level, grid)
    np.testing.assert_allclose(sdf[:, 8, 8], np.abs(np.arange(17) - 8) - 0.5, atol=0.02)


def test_without_a_surface_distance_is_infinite() -> None:
    grid = box(4.0, (1.0, 1.0, 1.0))
    assert (signed_distance_mm(np.full(grid.shape_zyx, 1.0), grid) == np.inf).all()
    assert (signed_distance_mm(np.full(grid.shape_zyx, -1.0), grid) == -np.inf).all()


def test_unknown_is_refused_and_infinite_is_not() -> None:
    grid = box(8.0, (1.0, 1.0, 1.0))
    level = sphere(grid, (0.2, 0.1, 0.3), 4.0)
    far = np.where(level > 3.0, np.inf, level)
    sdf = signed_distance_mm(far, grid)
    assert np.isfinite(sdf).all()
    assert np.abs(sdf - level)[np.abs(level) < 2.0].max() < 0.15
    level[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        signed_distance_mm(level, grid)


def test_the_sign_is_that_of_the_level() -> None:
    grid = box(10.0, (1.0, 1.0, 1.0))
    level = np.random.default_rng(3).normal(size=grid.shape_zyx)
    sdf = signed_distance_mm(level, grid)
    assert np.isfinite(sdf).all()
    assert not ((sdf < 0) & (level >= 0)).any()
    assert not ((sdf > 0) & (level < 0)).any()


def test_volume_of_a_sphere() -> None:
    grid = box(14.0, (1.0, 1.0, 1.0))
    sdf = signed_distance_mm(sphere(grid, (0.3, 0.2, -0.4), 10.0), grid)
    assert volume_ml(sdf, grid) == pytest.approx(4 / 3 * np.pi, rel=0.003)
    assert volume_ml(np.full(grid.shape_zyx, np.inf), grid) == 0.0


def test_sample_and_resample_are_exact_on_a_linear_field() -> None:
    grid, other = box(10.0, (1.0, 0.8, 2.5)), box(12.0, (0.7, 1.3, 1.1))
    weights = np.array([0.3, -1.2, 0.7])
    field = grid.points_lps_mm() @ weights
    there = other.points_lps_mm()
    index = grid.to_index_zyx(there)
    within = np.all((index >= 0) & (index <= np.array(grid.shape_zyx) - 1), axis=-1)
    truth = np.where(within, there @ weights, 99.0)
    np.testing.assert_allclose(sample(field, grid, there, 99.0), truth, atol=1e-5)
    np.testing.assert_allclose(resample(field, grid, other, 99.0), truth, atol=1e-4)
    assert within.any()
    assert not within.all()
