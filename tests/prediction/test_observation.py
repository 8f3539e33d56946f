"""Points on a measured surface, and how far beyond them a model's surface lies. mm."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.geometry import Grid
from monitor.model import IceSegmentation
from monitor.prediction.observation import beyond_mm, edge_points

FINE = Grid((-30.0, -30.0, -30.0), (1.0, 1.0, 1.0), (61, 61, 61))
COARSE = Grid((-30.0, -30.0, -30.0), (3.0, 3.0, 3.0), (21, 21, 21))
CENTRE = np.array([2.0, -3.0, 1.0])


def away_mm(grid: Grid) -> np.ndarray:
    return np.linalg.norm(grid.points_lps_mm() - CENTRE, axis=-1)


def measured(radius_mm: float, bound_mm: float | None = None) -> IceSegmentation:
    sdf = (away_mm(FINE) - radius_mm).astype(np.float32)
    known = np.ones(FINE.shape_zyx, bool)
    bounds = () if bound_mm is None else (sdf + np.float32(bound_mm), sdf - np.float32(bound_mm))
    ice = IceSegmentation("v1", 0.0, FINE, sdf, known, 1.0, 0.5, 1.0)
    return ice if not bounds else IceSegmentation(
        "v1", 0.0, FINE, sdf, known, 1.0, 0.5, 1.0, inner_sdf_mm=bounds[0], outer_sdf_mm=bounds[1]
    )  # fmt: skip


def model(*radii_mm: float) -> np.ndarray:
    """Frozen fraction that falls over 6 mm, half at the radius."""
    r = away_mm(COARSE)
    return np.stack([np.clip(0.5 + (a - r) / 6.0, 0.0, 1.0) for a in radii_mm]).astype(np.float32)


def test_points_lie_on_the_surface_with_normals_out_of_it() -> None:
    edge = edge_points(measured(14.0), 200, seed=3)
    out = edge.points_lps_mm - CENTRE
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 14.0, atol=0.05)
    assert (np.einsum("ij,ij->i", out / 14.0, edge.normals) > 0.99).all()
    assert edge.area_mm2 == pytest.approx(4 * np.pi * 14.0**2, rel=0.06)
    assert len(edge.points_lps_mm) == 200


def test_variance_is_the_measurements_own() -> None:
    bounds = edge_points(measured(14.0, bound_mm=1.645), 50, seed=3).variance_mm2
    np.testing.assert_allclose(bounds, 1.0, atol=1e-3)
    np.testing.assert_allclose(edge_points(measured(14.0), 50, seed=3).variance_mm2, 0.25)


@pytest.mark.parametrize("offset_mm", [-6.0, -1.5, 0.0, 0.4, 5.0])
def test_how_far_beyond(offset_mm: float) -> None:
    edge = edge_points(measured(14.0), 150, seed=1)
    (beyond,) = beyond_mm(model(14.0 + offset_mm), COARSE, edge)
    np.testing.assert_allclose(beyond, offset_mm, atol=0.35)


def test_no_ice_and_ice_everywhere_are_as_far_as_it_looks() -> None:
    edge = edge_points(measured(14.0), 50, seed=1)
    extremes = np.zeros((2, *COARSE.shape_zyx), np.float32)
    extremes[1] = 1.0
    none, everything = beyond_mm(extremes, COARSE, edge)
    assert (none == -12.0).all()
    assert (everything == 12.0).all()
