"""Motion between two scans of the same textured tissue, known exactly. LPS mm, HU."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from monitor.config import Factor, NeedleConfig, NeedleType
from monitor.geometry import Grid, SliceGeometry
from monitor.imaging.anchors import NO_ANCHORS, Anchors
from monitor.imaging.motion import make_template, register
from monitor.imaging.registration import Registration
from monitor.model import CtVolume, Status

GRID = Grid((-40.0, -40.0, -40.0), (1.0, 1.0, 1.0), (81, 81, 81))
NEEDLE = NeedleConfig(
    1,
    NeedleType("test", 1.5, 22.0, -140.0, 60.0, Factor(1.0, 1.3)),
    (0.0, 0.0, 0.0),
    (0.0, -80.0, 0.0),
    1.0,
)
CENTRE = np.zeros(3)
BORDER = 9.0 * np.array(
    [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float
)


def texture(points: np.ndarray) -> np.ndarray:
    """Organs as blobs of 15 to 40 mm, different everywhere."""
    rng = np.random.default_rng(5)
    lattice = 60.0 * ndimage.gaussian_filter(rng.normal(size=(40, 40, 40)), 1.0) / 0.19
    index = np.moveaxis((points + 160.0) / 8.0, -1, 0)
    return np.clip(
        40.0 + 0.6 * ndimage.map_coordinates(lattice, index, order=3, mode="wrap"), -120, 160
    )


def scan(moved: object = None, slices: int = 44, ice: bool = False, seed: int = 1) -> CtVolume:
    """``moved(p)`` leads from a scan point to the plan's."""
    first = -1.25 * (slices - 1)
    g = SliceGeometry(
        (-72.0, -72.0, first), (1, 0, 0), (0, 1, 0), (0, 0, 1), 1.2, 1.2,
        tuple(2.5 * k for k in range(slices)), 2.5, 121, 121,
    )  # fmt: skip
    k, j, i = np.meshgrid(np.arange(slices), np.arange(121), np.arange(121), indexing="ij")
    points = g.to_lps_mm(np.stack([k, j, i], -1))
    plan = points if moved is None else moved(points)  # type: ignore[operator]
    hu = texture(plan)
    if ice:
        hu -= 65.0 * (np.linalg.norm((plan - (0.0, -11.0, 0.0)) / (12.0, 17.0, 12.0), axis=-1) < 1)
    noise = ndimage.gaussian_filter(
        np.random.default_rng(seed).normal(size=hu.shape), (0, 0.8, 0.8)
    )
    hu = np.round(hu + 13.0 * noise / noise.std()).astype(np.int16)
    return CtVolume("v", g, hu, "P", "1", "2", 1.0, 1.0, (), "test")


def error_mm(
    moved: object, volume: CtVolume, anchors: Anchors = NO_ANCHORS, starts: tuple = ()
) -> float:
    """The largest error of the registration at the border of a lesion."""
    found = register(volume, make_template(scan(), GRID, [NEEDLE]), starts, anchors)
    assert found.status is not Status.INVALID
    seen = found.to_scan(BORDER)
    back = seen if moved is None else moved(seen)  # type: ignore[operator]
    return float(np.linalg.norm(back - BORDER, axis=1).max())


@pytest.mark.parametrize("ice", [False, True])
def test_a_still_patient_is_still_ice_or_not(ice: bool) -> None:
    assert error_mm(None, scan(ice=ice, seed=2)) < 0.8


@pytest.mark.requirement("REQ-MOTION")
@pytest.mark.parametrize("shift", [(3.0, -2.0, 6.0), (0.0, 4.0, -14.0)])
def test_a_shift_is_found_with_ice_in_the_way(shift: tuple[float, float, float]) -> None:
    moved = lambda p: p - np.array(shift)  # noqa: E731
    assert error_mm(moved, scan(moved, ice=True, seed=3)) < 1.0


@pytest.mark.requirement("REQ-MOTION")
def test_breathing_that_stretches_is_followed() -> None:
    """8 mm down at the middle, 4 mm at 60 mm to the side, 3 mm forward."""

    def moved(p: np.ndarray) -> np.ndarray:
        u = np.exp(-0.5 * (p[..., 0] / 50.0) ** 2)
        return p + np.stack([0 * u, 3.0 * u, 8.0 * u], -1)

    assert error_mm(moved, scan(moved, ice=True, seed=4)) < 1.5


def test_needles_carry_a_scan_of_few_slices() -> None:
    moved = lambda p: p - np.array((1.0, 2.0, 7.0))  # noqa: E731
    few = scan(moved, slices=8, seed=5)
    zone = np.array([[[0.0, 0.0, 0.0], [0.0, -22.0, 0.0]]])
    anchors = Anchors(zone, zone + np.array([1.0, 2.0, 7.0]))
    assert error_mm(moved, few, anchors, (np.array([1.0, 2.0, 7.0]),)) < 1.5


@pytest.mark.requirement("REQ-MOTION")
def test_another_place_is_no_match() -> None:
    elsewhere = scan(lambda p: p + 400.0, seed=6)
    found = register(elsewhere, make_template(scan(), GRID, [NEEDLE]))
    assert found.status is not Status.OK


def test_to_plan_undoes_to_scan() -> None:
    moved = lambda p: p - np.array((3.0, -2.0, 6.0))  # noqa: E731
    found = register(scan(moved, seed=7), make_template(scan(), GRID, [NEEDLE]))
    points = np.random.default_rng(1).uniform(-30, 30, (40, 3))
    np.testing.assert_allclose(found.to_plan(found.to_scan(points)), points, atol=0.05)


def test_on_a_grid_the_displacement_is_that_of_its_points() -> None:
    lattice = Grid((-20.0, -24.0, -8.0), (4.0, 4.0, 4.0), (5, 13, 11))
    field = np.random.default_rng(2).normal(size=(3, 5, 13, 11)).astype(np.float32)
    found = Registration(lattice, field, 0.5, 1.0, (0.0, 0.0, 0.0))
    grid = Grid((-23.3, -20.0, -10.0), (1.0, 1.5, 2.0), (14, 21, 50))  # reaches beyond the lattice
    points = grid.points_lps_mm()
    np.testing.assert_allclose(
        np.moveaxis(found.displacement_on(grid), 0, -1), found.to_scan(points) - points, atol=1e-5
    )
