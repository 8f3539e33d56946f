"""Pictures and contours land where the patient is, whatever way the stack was acquired. LPS mm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import view_samples as samples

from monitor.geometry import Grid, SliceGeometry
from monitor.view import contours
from monitor.view.images import Picture, Stack, grey
from monitor.view.planes import AXIAL, CORONAL, PLANES, SAGITTAL, Frame, Plane

CENTRE = (12.0, -30.0, 40.0)
RADIUS = 14.0


def stack_of(row: tuple, column: tuple, axis: tuple, offsets: tuple[float, ...] = ()) -> Stack:
    """A bright ball at CENTRE seen by a stack of the given directions, CENTRE in its middle."""
    offsets = offsets or tuple(2.0 * k for k in range(45))
    spacing, n = 1.0, 90
    middle = 0.5 * offsets[-1]
    origin = (np.array(CENTRE) - middle * np.array(axis)
              - 0.5 * spacing * (n - 1) * (np.array(row) + np.array(column)))  # fmt: skip
    geometry = SliceGeometry(tuple(origin), row, column, axis, spacing, spacing, offsets, 2.0, n, n)
    p = samples.points(geometry)
    # A mark to the patient's left of the ball, and one behind it: no flip looks like another.
    hu = np.where(np.linalg.norm(p - CENTRE, axis=-1) < RADIUS, 100, 0)
    hu[np.linalg.norm(p - np.add(CENTRE, (22.0, 0, 0)), axis=-1) < 5] = 300
    hu[np.linalg.norm(p - np.add(CENTRE, (0, 24.0, 0)), axis=-1) < 5] = 500
    hu[np.linalg.norm(p - np.add(CENTRE, (0, 0, 26.0)), axis=-1) < 5] = 700
    return Stack(hu.astype(np.int16), geometry)


T = np.deg2rad(18.0)
TILTED_COLUMN = (0.0, float(np.cos(T)), float(-np.sin(T)))
OBLIQUE = tuple(
    map(tuple, np.linalg.qr(np.array([[1, 0.2, 0.1], [-0.1, 1, 0.3], [0.1, 0.1, 1]]).T)[0].T)
)
# Where the balls are from CENTRE, how far around to look, and half their Hounsfield units.
MARKS = (
    ((0.0, 0.0, 0.0), 17.0, 50),
    ((22.0, 0.0, 0.0), 7.5, 150),
    ((0.0, 24.0, 0.0), 8.0, 250),
    ((0.0, 0.0, 26.0), 8.0, 350),
)
UNEVEN = tuple(np.cumsum([0.0] + [1.5, 2.0, 2.5] * 15))
STACKS = {
    "supine": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "prone": ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    "decubitus left": ((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
    "decubitus right": ((0, -1, 0), (1, 0, 0), (0, 0, 1)),
    "feet first": ((-1, 0, 0), (0, 1, 0), (0, 0, -1)),
    "coronal slices": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "gantry tilt": ((1, 0, 0), TILTED_COLUMN, (0, 0, 1)),
    "oblique": OBLIQUE,
    "uneven gaps": ((1, 0, 0), (0, 1, 0), (0, 0, 1), UNEVEN),
}


def middle_of(p: Picture, plane: Plane, near: np.ndarray, reach: float, level: float) -> np.ndarray:
    """The centroid (right, vertical) of the pixels above a level, within reach of a point."""
    right, vertical = np.meshgrid(p.right_mm, p.vertical_mm)
    close = np.hypot(right - near[plane.right], vertical - near[plane.vertical]) < reach
    found = close & (np.nan_to_num(p.hu) > level)
    return np.array([right[found].mean(), vertical[found].mean()])


@pytest.mark.requirement("REQ-ORIENTATION")
@pytest.mark.parametrize("plane", PLANES, ids=lambda p: p.name)
@pytest.mark.parametrize("name", STACKS)
def test_every_orientation_shows_the_same_patient(name: str, plane: Plane) -> None:
    stack = stack_of(*STACKS[name])
    everything = (-30.0, 60.0, -75.0, 15.0, -5.0, 85.0)
    extent = tuple(everything[2 * a + i] for a in (plane.right, plane.vertical) for i in (0, 1))
    p = stack.picture(plane, CENTRE[plane.across], extent)
    assert p is not None
    for shift, reach, level in MARKS:
        at = np.add(CENTRE, shift)
        if at[plane.across] == CENTRE[plane.across]:
            expected = at[[plane.right, plane.vertical]]
            assert middle_of(p, plane, at, reach, level) == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("name", ["supine", "prone", "decubitus left", "feet first", "uneven gaps"])
def test_axis_aligned_stacks_are_cut_not_resampled(name: str) -> None:
    assert stack_of(*STACKS[name]).aligned is not None


@pytest.mark.parametrize("name", ["gantry tilt", "oblique"])
def test_tilted_stacks_are_resampled(name: str) -> None:
    assert stack_of(*STACKS[name]).aligned is None


@pytest.mark.requirement("REQ-HOLES")
@pytest.mark.parametrize("column", [(0.0, 1.0, 0.0), TILTED_COLUMN], ids=["aligned", "tilted"])
def test_a_missing_slice_is_black_not_filled(column: tuple[float, ...]) -> None:
    offsets = tuple(2.0 * k for k in range(45) if not 10 <= k < 14)
    stack = stack_of((1, 0, 0), column, (0, 0, 1), offsets)
    p = stack.picture(CORONAL, CENTRE[1], (-30.0, 60.0, -5.0, 85.0))
    assert p is not None
    hole = stack.geometry.to_lps_mm(np.array([9.5, 44.5, 44.5]))[2]
    row = int(np.abs(p.vertical_mm - hole).argmin())
    assert np.isnan(p.hu[row, len(p.right_mm) // 2])
    assert grey(p.hu, 40.0, 400.0)[row, len(p.right_mm) // 2] == 0


def test_a_plane_outside_the_scan_is_no_picture() -> None:
    for name in ("supine", "gantry tilt"):
        assert stack_of(*STACKS[name]).picture(AXIAL, 300.0, (-30.0, 60.0, -75.0, 15.0)) is None


def test_slabs_are_averages_and_keep_dark_ice() -> None:
    """A 3 mm slab of 1 mm slices, one of them dark: the mean is darker, a maximum would hide it."""
    geometry = replace(
        samples.aligned_geometry((20, 32, 32), (1.0, 1.0, 1.0)), slice_thickness_mm=1.0
    )
    hu = np.full((20, 32, 32), 90, np.int16)
    hu[10] = 0
    z = geometry.to_lps_mm(np.array([10.0, 0, 0]))[2]
    p = Stack(hu, geometry).picture(AXIAL, z, (-200.0, 200.0, -200.0, 200.0))
    assert p is not None
    assert p.hu.mean() == pytest.approx(60.0)
    assert p.slab_mm == pytest.approx(3.0)


@pytest.mark.requirement("REQ-ORIENTATION")
@pytest.mark.parametrize("plane", PLANES, ids=lambda p: p.name)
def test_frames_keep_the_radiological_convention_and_invert(plane: Plane) -> None:
    frame = Frame(plane, CENTRE, 7.0, 900, 860)
    x, y = frame.to_px(np.array(CENTRE))
    assert (x, y) == (450.0, 430.0)
    right, vertical = frame.to_mm(123.0, 45.0)
    assert frame.in_plane_px(np.array(right), np.array(vertical)) == pytest.approx([123.0, 45.0])
    patient_right = frame.to_px(np.array(CENTRE) - (10.0, 0, 0))
    front = frame.to_px(np.array(CENTRE) - (0, 10.0, 0))
    head = frame.to_px(np.array(CENTRE) + (0, 0, 10.0))
    if plane is not SAGITTAL:
        assert patient_right[0] < x
    if plane is AXIAL:
        assert front[1] < y
    else:
        assert head[1] < y
    if plane is SAGITTAL:
        assert front[0] < x


@pytest.mark.parametrize("plane", PLANES, ids=lambda p: p.name)
def test_contours_between_grid_planes(plane: Plane) -> None:
    grid = Grid((-30.0, -70.0, 0.0), (1.0, 1.2, 0.8), (100, 70, 90))
    sdf = np.linalg.norm(grid.points_lps_mm() - CENTRE, axis=-1) - RADIUS
    at = CENTRE[plane.across] + 5.3
    cut = contours.cut(sdf.astype(np.float32), grid, plane, at)
    assert cut is not None
    for level in (0.0, 4.0):
        expected = np.sqrt((RADIUS + level) ** 2 - 5.3**2)
        (line,) = contours.lines(cut, level)
        radii = np.hypot(line[:, 0] - CENTRE[plane.right], line[:, 1] - CENTRE[plane.vertical])
        assert radii == pytest.approx(expected, abs=0.08)


def test_fields_that_are_not_known_have_no_contour() -> None:
    grid = samples.GRID
    field = np.full(grid.shape_zyx, np.inf, np.float32)
    cut = contours.cut(field, grid, AXIAL, 12.0)
    assert cut is not None
    assert contours.lines(cut, 0.0) == []
    assert contours.areas(cut, None, 0.0) == []
    field[60, 60, 60] = np.nan
    assert contours.cut(field, grid, AXIAL, grid.origin_lps_mm[2] + 60) is None
    assert contours.cut(field, grid, AXIAL, 500.0) is None


def test_prediction_is_interpolated_in_time_and_ends_with_its_times() -> None:
    grid = Grid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (4, 4, 4))
    fields = np.stack([np.full(grid.shape_zyx, t, np.float32) for t in (0.0, 10.0)])
    times = (100.0, 160.0)
    cut = contours.blended_cut(fields, times, 130.0, grid, AXIAL, 1.5)
    assert cut is not None
    assert cut.values == pytest.approx(5.0)
    assert contours.blended_cut(fields, times, 160.5, grid, AXIAL, 1.5) is None
    assert contours.blended_cut(fields, (), 130.0, grid, AXIAL, 1.5) is None
