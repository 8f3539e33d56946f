"""Stacks of closed planar contours → a level on a grid. LPS mm, axial planes.

Invariant: contours of one plane combine by the even-odd rule, so an inner contour is a hole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from monitor.geometry import FloatArray, Grid

_SAMPLE_MM = 0.15
_EXACT_PIXELS = 3.0


def level_between_planes(
    planes: Mapping[float, Sequence[FloatArray]], grid: Grid, gap_mm: float
) -> FloatArray:
    """The shape between contours: per-plane signed distances, interpolated along z. Beyond its last
    contour, and where a plane in between has none, the body tapers to an end half a slice away: a
    flat lid would add corners that no lesion has, and find the smallest margin there."""
    heights = np.array(sorted(planes))
    distances = [plane_distance_mm(planes[h], grid) for h in heights]
    stack: list[tuple[float, FloatArray]] = []
    for i, (height, distance) in enumerate(zip(heights, distances, strict=True)):
        if i == 0 or heights[i] - heights[i - 1] > 1.5 * gap_mm:
            stack.append((height - gap_mm, _end(distance)))
        stack.append((float(height), distance))
        if i == len(heights) - 1 or heights[i + 1] - heights[i] > 1.5 * gap_mm:
            stack.append((height + gap_mm, _end(distance)))
    return _interpolated(stack, grid)


def _end(distance: FloatArray) -> FloatArray:
    """The plane one slice beyond an end, outside everywhere. Linear interpolation towards it ends a
    point of depth δ after ½√(δ/D) of a slice, D the depth of the deepest: half an ellipsoid."""
    depth = np.maximum(-distance, 0.0)
    return np.where(distance < 0, 2.0 * np.sqrt(depth.max() * depth) - depth, distance)


def _interpolated(stack: list[tuple[float, FloatArray]], grid: Grid) -> FloatArray:
    """Linear in z between planes; beyond the outermost, that plane (it is outside everywhere)."""
    known = np.array([h for h, _ in stack])
    level = np.empty(grid.shape_zyx)
    for k, z in enumerate(grid.axes_lps_mm()[2]):
        above = int(np.clip(np.searchsorted(known, z), 1, len(known) - 1))
        part = float(
            np.clip((z - known[above - 1]) / max(known[above] - known[above - 1], 1e-9), 0.0, 1.0)
        )
        level[k] = (1.0 - part) * stack[above - 1][1] + part * stack[above][1]
    return level


def plane_distance_mm(lines: Sequence[FloatArray], grid: Grid) -> FloatArray:
    """Signed distance (y, x) to closed polygons in a plane, negative inside (even-odd): exact near
    them, to half a pixel beyond ``_EXACT_PIXELS``, where only the sign matters."""
    x, y, _ = grid.axes_lps_mm()
    spacing = (grid.spacing_mm[1], grid.spacing_mm[0])
    inside = _inside(lines, x, y)
    distance = ndimage.distance_transform_edt(np.pad(~inside, 1, constant_values=True), spacing)
    distance -= ndimage.distance_transform_edt(np.pad(inside, 1), spacing)
    distance = distance[1:-1, 1:-1]
    near = np.argwhere(np.abs(distance) <= _EXACT_PIXELS * max(spacing))
    points = np.column_stack([x[near[:, 1]], y[near[:, 0]]])
    exact = cKDTree(np.concatenate([_resampled(line) for line in lines])).query(points)[0]
    distance[tuple(near.T)] = np.where(inside[tuple(near.T)], -exact, exact)
    return np.asarray(distance)


def _resampled(line: FloatArray) -> FloatArray:
    """Points every ``_SAMPLE_MM`` along a closed polygon."""
    ends = np.roll(line, -1, axis=0)
    points = []
    for a, b in zip(line, ends, strict=True):
        count = max(1, int(np.ceil(np.linalg.norm(b - a) / _SAMPLE_MM)))
        points.append(a + (b - a) * (np.arange(count) / count)[:, None])
    return np.concatenate(points)


def _inside(lines: Sequence[FloatArray], x: FloatArray, y: FloatArray) -> npt.NDArray[np.bool_]:
    """Even-odd rule, row by row: a point is inside when an odd number of edges lie to its left."""
    starts = np.concatenate(lines)
    ends = np.concatenate([np.roll(line, -1, axis=0) for line in lines])
    inside = np.zeros((len(y), len(x)), bool)
    for j, row in enumerate(y):
        crossing = (starts[:, 1] <= row) != (ends[:, 1] <= row)
        a, b = starts[crossing], ends[crossing]
        at = np.sort(a[:, 0] + (row - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0]))
        inside[j] = np.searchsorted(at, x) % 2 == 1
    return inside
