"""Scans onto the analysis grid: right values at right places, nothing where nobody looked."""

import numpy as np
import pytest

from monitor.geometry import Grid, SliceGeometry
from monitor.imaging.resampling import hu_on_grid
from monitor.model import CtVolume

TILT = np.deg2rad(18.5)


def ramp(points: np.ndarray) -> np.ndarray:
    return 3.0 * points[..., 0] - 2.0 * points[..., 1] + 5.0 * points[..., 2]


def volume(offsets: tuple[float, ...], tilted: bool, thickness_mm: float) -> CtVolume:
    column = (0.0, float(np.cos(TILT)), float(-np.sin(TILT))) if tilted else (0.0, 1.0, 0.0)
    g = SliceGeometry(
        (-20.0, -20.0, -10.0), (1, 0, 0), column, (0, 0, 1), 0.5, 0.5, offsets, thickness_mm, 80, 80
    )
    k, j, i = np.meshgrid(np.arange(len(offsets)), np.arange(80), np.arange(80), indexing="ij")
    hu = ramp(g.to_lps_mm(np.stack([k, j, i], -1)))
    return CtVolume("v", g, np.round(hu).astype(np.int16), "P", "1", "2", 0.0, 0.0, (), "test")


@pytest.mark.requirement("REQ-ORIENTATION")
def test_tilted_and_variable_gap_keep_every_point_in_place() -> None:
    offsets = (0.0, 4.0, 8.0, 9.5, 15.5, 21.5)
    found = hu_on_grid(
        volume(offsets, tilted=True, thickness_mm=6.0),
        grid := Grid((-8.0, -8.0, -6.0), (1, 1, 1), (8, 17, 17)),
    )
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, ramp(grid.points_lps_mm()), atol=0.51)


@pytest.mark.requirement("REQ-HOLES")
def test_beyond_the_slices_and_inside_a_wide_gap_is_unknown() -> None:
    grid = Grid((0.0, 0.0, -16.0), (1, 1, 1), (40, 1, 1))
    found = hu_on_grid(volume((0.0, 2.0, 4.0, 14.0, 16.0), tilted=False, thickness_mm=2.0), grid)[
        :, 0, 0
    ]
    z = grid.axes_lps_mm()[2]
    seen = np.isfinite(found)
    assert not seen[z < -11.0].any()
    assert seen[(z >= -11.0) & (z <= -5.0)].all()
    assert not seen[(z > -5.0) & (z < 3.0)].any()
    assert seen[(z >= 3.0) & (z <= 7.0)].all()
    assert not seen[z > 7.0].any()
