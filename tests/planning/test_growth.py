"""The lesion grown from an ellipsoid: onto the boundary where the CT shows it, else left as drawn."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.geometry import SliceGeometry
from monitor.model import CtVolume
from monitor.planning.drawn import DrawnBody, Ellipsoid, Stroke, ellipsoid, from_ellipsoid
from monitor.planning.growth import grow

_SHAPE, _DZ, _DX = (36, 110, 110), 2.5, 0.8


def scan(level: np.ndarray, contrast_hu: float, noise_hu: float = 12.0) -> CtVolume:
    """Lesion of a level (negative inside) on the voxel centres, in tissue of 50 HU."""
    rng = np.random.default_rng(5)
    hu = np.where(level < 0, 50.0 + contrast_hu, 50.0) + rng.normal(0, noise_hu, level.shape)
    return CtVolume("v001", geometry(), hu.astype(np.int16), "A", "1", "2", 0.0, 0.0, (), "count")


def geometry() -> SliceGeometry:
    nz, ny, nx = _SHAPE
    offsets = tuple(_DZ * k for k in range(nz))
    origin = (-_DX * nx / 2, -_DX * ny / 2, -_DZ * nz / 2)
    return SliceGeometry(
        origin, (1, 0, 0), (0, 1, 0), (0, 0, 1), _DX, _DX, offsets, _DZ, ny, nx
    )  # fmt: skip


def points() -> np.ndarray:
    return geometry().to_lps_mm(np.stack(np.indices(_SHAPE), -1))


def egg(p: np.ndarray) -> np.ndarray:
    """Longer towards the head than the strokes can tell, and with a bulge to the left."""
    body = np.linalg.norm(p / np.array([11.0, 9.0, 14.0]), axis=-1) - 1
    bulge = np.linalg.norm((p - np.array([8.0, 4.0, 0.0])) / 8.0, axis=-1) - 1
    return np.minimum(body, bulge)


def strokes() -> Ellipsoid:
    return ellipsoid(Stroke((-11, 0, 0), (14, 0, 0)), Stroke((1, -9, 0), (1, 10, 0)))


def dice(body: DrawnBody, level: np.ndarray) -> float:
    mine, true = body.level_mm < 0, level < 0
    return float(2 * (mine & true).sum() / (mine.sum() + true.sum()))


@pytest.mark.parametrize("contrast_hu", [-60.0, 45.0, 90.0])
def test_it_grows_onto_the_boundary(contrast_hu: float) -> None:
    e = strokes()
    grown = grow(scan(egg(points()), contrast_hu), e)
    assert grown.grown
    assert grown.shown > 0.8
    before = dice(from_ellipsoid(e), egg(from_ellipsoid(e).grid.points_lps_mm()))
    after = dice(grown.body, egg(grown.body.grid.points_lps_mm()))
    assert after > 0.92
    assert after > before + 0.1


def test_without_a_boundary_the_ellipsoid_stands_and_that_is_said() -> None:
    e = strokes()
    grown = grow(scan(egg(points()), 0.0), e)
    assert not grown.grown
    assert grown.shown < 0.2
    assert np.array_equal(grown.body.level_mm, from_ellipsoid(e).level_mm)


def test_where_half_the_boundary_shows_the_other_half_stays_as_drawn() -> None:
    """A ball whose front half borders on fat, its back half on tissue like it."""
    p = points()
    e = ellipsoid(Stroke((-12, 0, 0), (12, 0, 0)), Stroke((0, -12, 0), (0, 12, 0)))
    ball = np.linalg.norm(p, axis=-1) - 12.0
    volume = scan(np.where((ball > 0) & (p[..., 1] < 0), 1.0, -1.0), 60.0)
    grown = grow(volume, e)
    assert grown.grown
    q = grown.body.grid.points_lps_mm()
    inside = grown.body.level_mm < 0
    off = np.abs(np.linalg.norm(q, axis=-1) - 12.0)
    wrong = inside != (np.linalg.norm(q, axis=-1) < 12.0)
    assert np.quantile(off[wrong], 0.95) < 3.0
    assert dice(grown.body, np.linalg.norm(q, axis=-1) - 12.0) > 0.93


def test_it_stays_near_the_ellipsoid_whatever_the_scan_holds() -> None:
    """A lesion that is one with a large organ of the same HU does not flood it."""
    p = points()
    e = ellipsoid(Stroke((-10, 0, 0), (10, 0, 0)), Stroke((0, -10, 0), (0, 10, 0)))
    grown = grow(scan(np.abs(p[..., 0]) - 10.0, 60.0), e)
    radius = e.scaled_radius(grown.body.grid.points_lps_mm())
    assert not ((grown.body.level_mm < 0) & (radius > 1.76)).any()
    assert (grown.body.level_mm < 0)[radius < 0.69].all()


def test_a_lesion_outside_the_scan_is_left_as_drawn() -> None:
    far = Ellipsoid(np.array([500.0, 0, 0]), np.eye(3), np.full(3, 10.0))
    assert not grow(scan(egg(points()), 60.0), far).grown


def test_where_the_boundary_does_not_show_the_surface_is_the_drawn_one() -> None:
    """A ball of which a third shows nothing: there the strokes stand, though fat begins 3 mm farther."""
    p = points()
    e = ellipsoid(Stroke((-12, 0, 0), (12, 0, 0)), Stroke((0, -12, 0), (0, 12, 0)))
    ball = np.linalg.norm(p, axis=-1) - 12.0
    level = np.where((p[..., 0] > 4.0) & (p[..., 0] < 15.0), -1.0, ball)
    grown = grow(scan(level, 60.0), e)
    assert grown.grown
    q = grown.body.grid.points_lps_mm()
    off = np.abs(np.linalg.norm(q, axis=-1) - 12.0)
    wrong = (grown.body.level_mm < 0) != (np.linalg.norm(q, axis=-1) < 12.0)
    hidden = q[..., 0] > 7.0
    assert np.quantile(off[wrong & hidden], 0.95) < 1.5


def test_needles_in_the_lesion_are_not_its_boundary() -> None:
    p, e = points(), strokes()
    volume = scan(egg(p), 60.0)
    hu = volume.hu.copy()
    hu[np.hypot(p[..., 0] - 2, p[..., 2] - 1) < 1.0] = 2500
    with_needle = CtVolume("v001", volume.geometry, hu, "A", "1", "2", 0.0, 0.0, (), "count")
    grown = grow(with_needle, e)
    assert grown.grown
    assert dice(grown.body, egg(grown.body.grid.points_lps_mm())) > 0.9
