"""Measured ice on a scan's slices: led through the motion, and onto grids that NIfTI can hold. mm."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.geometry import Grid, SliceGeometry
from monitor.imaging.mask import FAR_MM, is_upright, level_at, mask_on, upright
from monitor.imaging.registration import Registration
from monitor.model import IceSegmentation

MOVED_MM = (6.0, -4.0, 3.0)
GRID = Grid.around(np.full(3, -25.0), np.full(3, 25.0), 1.0)


def ice(radius_mm: float = 12.0) -> IceSegmentation:
    sdf = (np.linalg.norm(GRID.points_lps_mm(), axis=-1) - radius_mm).astype(np.float32)
    return IceSegmentation("v2", 0.0, GRID, sdf, np.ones(GRID.shape_zyx, bool), 1.0, 0.5, 1.0)


def moved(by: tuple[float, float, float] = MOVED_MM) -> Registration:
    coarse = Grid((-60.0, -60.0, -60.0), (60.0, 60.0, 60.0), (3, 3, 3))
    field = np.broadcast_to(np.array(by)[:, None, None, None], (3, 3, 3, 3)).astype(np.float32)
    return Registration(coarse, field, 0.5, 0.9, by)


def slices(
    tilt_deg: float = 0.0, turn_deg: float = 0.0, gaps: tuple = (2.5,) * 23
) -> SliceGeometry:
    """Prone or turned slices, whose stack runs along the patient while the gantry is tilted."""
    t, turn = np.radians(tilt_deg), np.radians(turn_deg)
    row = np.array([np.cos(turn), np.sin(turn), 0.0])
    column = np.array([-np.sin(turn) * np.cos(t), np.cos(turn) * np.cos(t), np.sin(t)])
    origin = -32.0 * row - 32.0 * column + (0.0, 0.0, -29.0)
    offsets = (0.0, *np.cumsum(gaps))
    return SliceGeometry(tuple(origin), tuple(row), tuple(column), (0.0, 0.0, 1.0), 0.8, 0.8,
                         offsets, 2.5, 81, 81)  # fmt: skip


def centres(g: SliceGeometry) -> np.ndarray:
    shape = (len(g.slice_offsets_mm), g.rows, g.columns)
    return g.to_lps_mm(np.moveaxis(np.indices(shape), 0, -1))


@pytest.mark.parametrize("tilt_deg", [0.0, 12.0])
@pytest.mark.parametrize("gaps", [(2.5,) * 23, (2.5, 3.5) * 10])
def test_the_mask_is_the_ball_where_it_was_carried(tilt_deg: float, gaps: tuple) -> None:
    g = slices(tilt_deg, 20.0, gaps)
    mask = mask_on(g, ice(), moved())
    assert mask.shape == (len(gaps) + 1, 81, 81)
    depth = np.linalg.norm(centres(g) - MOVED_MM, axis=-1)
    clear = np.abs(depth - 12.0) > 0.15  # the distance field is trilinear
    assert ((mask == 1) == (depth <= 12.0))[clear].all()
    assert mask.sum() > 1000


def test_ice_that_leaves_the_slices_is_cut_there() -> None:
    few = slices(gaps=(2.5,) * 9)  # ends at z = -6.5
    mask = mask_on(few, ice(), moved((0.0, 0.0, 0.0)))
    assert mask[-1].any()
    assert not mask_on(few, ice(), moved((0.0, 0.0, 40.0))).any()


def test_nothing_is_ice_without_a_measurement_or_beyond_its_grid() -> None:
    none = IceSegmentation("v2", 0.0, GRID, None, np.ones(GRID.shape_zyx, bool), 0.0, 0.0, 0.0)
    dry = IceSegmentation("v2", 0.0, GRID, np.full(GRID.shape_zyx, np.inf, np.float32),
                          np.ones(GRID.shape_zyx, bool), 0.0, 0.5, 1.0)  # fmt: skip
    for nothing in (none, dry):
        assert not mask_on(slices(), nothing, moved()).any()
        assert (level_at(nothing, moved(), np.zeros((2, 3))) == FAR_MM).all()
    full = IceSegmentation("v2", 0.0, GRID, np.full(GRID.shape_zyx, -1.0, np.float32),
                           np.ones(GRID.shape_zyx, bool), 0.0, 0.5, 1.0)  # fmt: skip
    assert level_at(
        full, moved((0.0, 0.0, 0.0)), np.array([[0, 0, 24.0], [0, 0, 26.0]])
    ).tolist() == [
        -1.0,
        FAR_MM,
    ]


# ------------------------------------------------------------------ upright slices


def test_slices_that_nifti_can_hold_stay_as_they_are() -> None:
    for g in (slices(), slices(turn_deg=30.0)):
        assert is_upright(g)
        assert upright(g) is g


@pytest.mark.parametrize("how", [{"tilt_deg": 12.0}, {"tilt_deg": -8.0, "turn_deg": 180.0},
                                 {"gaps": (2.5, 3.5) * 10}, {"gaps": (2.5,) * 9 + (5.0,) + (2.5,) * 9},
                                 {"tilt_deg": 5.0, "gaps": (2.5, 3.0) * 10}])  # fmt: skip
def test_other_slices_get_an_orthogonal_grid_that_covers_them(how: dict) -> None:
    g = slices(**how)
    assert not is_upright(g)
    even = upright(g)
    assert is_upright(even)
    assert (even.row_direction, even.column_spacing_mm) == (g.row_direction, g.column_spacing_mm)
    index = even.to_index_zyx(centres(g))
    last = np.array([len(even.slice_offsets_mm), even.rows, even.columns]) - 1
    assert (index > -1e-6).all()
    assert (index < last + 1e-6).all()
    assert (index.max((0, 1, 2)) > last - 1).all()  # and is no larger than it must be


def test_on_upright_slices_the_ice_keeps_its_place_and_volume() -> None:
    g = slices(12.0)
    even = upright(g)
    for grid in (g, even):
        mask = mask_on(grid, ice(), moved())
        inside = centres(grid)[mask > 0]
        assert inside.mean(0) == pytest.approx(MOVED_MM, abs=0.15)
        thick = 2.5 * np.cos(np.radians(12.0))
        assert mask.sum() * 0.8 * 0.8 * thick == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.02)
