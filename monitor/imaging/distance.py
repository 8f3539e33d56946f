"""Sub-voxel signed distances on patient-aligned grids. Millimetres, arrays (z, y, x), LPS points.

The distance is measured to foot points on the zero level of the trilinear field and not to voxel
centres: an ordinary distance transform of a mask is off by half a voxel. Every border voxel has a
foot; a voxel's distance is that of the nearest one, and near the surface of the point under it.
Invariant: the sign is that of the level; negative is inside.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from monitor.geometry import Grid
from monitor.imaging.nearest import nearest_feet

FloatArray = npt.NDArray[np.floating[Any]]
Float32Array = npt.NDArray[np.float32]
IndexArray = npt.NDArray[np.intp]

_BAND_MM = 8.0  # margins are read within it: here each voxel finds its very own foot
_STRAY = 0.15  # voxels: a foot whose level is farther from zero has missed the surface
_WORKERS = 2
_CHUNK = 1 << 14  # voxels at a time: what belongs to them stays in the processor's cache
_STEEPEST = 1e6  # stands for an infinite level, so that its crossings stay defined


@dataclass(frozen=True)
class _Feet:
    """Points of the zero level, one for each border voxel: positions (n, 3) in z, y, x mm from
    voxel 0, unit normals pointing out, and the level's slope along them, per mm."""

    points_mm: Float32Array
    normals: FloatArray
    slopes: FloatArray


def signed_distance_mm(level: FloatArray, grid: Grid) -> Float32Array:
    """Signed distance to the zero level of a trilinear field, negative where it is negative.
    Without a zero level: -inf or +inf everywhere. NaN in ``level`` raises ``ValueError``."""
    if np.isnan(level).any():
        raise ValueError("signed_distance_mm: the level holds NaN")
    inside = level < 0
    if inside.all() or not inside.any():
        return np.full(level.shape, -np.inf if inside.all() else np.inf, np.float32)
    spacing_zyx = np.array(grid.spacing_mm[::-1], np.float32)
    level = np.clip(level, -_STEEPEST, _STEEPEST).astype(np.float32)
    border = _border(inside)
    feet = _feet(level, border, spacing_zyx)
    number, distance = nearest_feet(border, feet.points_mm, spacing_zyx)
    near = np.argwhere(distance < _BAND_MM + float(spacing_zyx.max()))
    chunks = [near[k : k + _CHUNK] for k in range(0, len(near), _CHUNK)]

    def measure(index: IndexArray) -> FloatArray:
        points_mm = index.astype(np.float32) * spacing_zyx
        return _to_surface_mm(points_mm, number[tuple(index.T)], level, feet, spacing_zyx)

    with ThreadPoolExecutor(_WORKERS) as pool:
        distance[tuple(near.T)] = np.concatenate(list(pool.map(measure, chunks)))
    return np.where(inside, -distance, distance)


def _to_surface_mm(
    points_mm: FloatArray,
    number: npt.NDArray[np.int32],
    level: Float32Array,
    feet: _Feet,
    spacing_zyx: FloatArray,
) -> FloatArray:
    """Distance to the surface under each point: feet sample it about once a voxel, so the point is
    dropped on the tangent plane of its foot and from there pulled onto the zero level."""
    normals = feet.normals[number]
    offset = points_mm - feet.points_mm[number]
    along = (offset * normals).sum(-1, keepdims=True)
    sideways_squared = (offset**2).sum(-1) - along[:, 0] ** 2
    dropped = points_mm - along * normals
    pulled = _pulled(dropped, normals, feet.slopes[number], level, spacing_zyx)
    # Too far sideways the tangent plane has left the surface (an edge, a tip): the foot it is.
    under = sideways_squared < (1.2 * float(spacing_zyx.max())) ** 2
    own = np.where(under[:, None], pulled, feet.points_mm[number])
    return np.asarray(np.linalg.norm(points_mm - own, axis=-1))


def _pulled(
    points_mm: FloatArray,
    normals: FloatArray,
    slopes: FloatArray,
    level: Float32Array,
    spacing_zyx: FloatArray,
) -> FloatArray:
    """Points moved along their normals onto the zero level: one Newton step, at most half a voxel
    (a kink's slope could throw a point far)."""
    index = points_mm / spacing_zyx
    here = _at(level, index)
    here[np.any((index < 0) | (index > np.array(level.shape) - 1), axis=1)] = 0.0
    most = 0.5 * float(spacing_zyx.max())
    return points_mm - np.clip(here / slopes, -most, most)[:, None] * normals


def _border(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Voxels with a neighbour across the zero level along an axis."""
    border = np.zeros_like(inside)
    for axis in range(3):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        crossing = inside[low] != inside[high]
        border[low] |= crossing
        border[high] |= crossing
    return border


def _feet(level: Float32Array, border: npt.NDArray[np.bool_], spacing_zyx: FloatArray) -> _Feet:
    """For each border voxel its foot on the zero level. The first guess is the plane through the
    zero crossings on its axes: dividing by the smooth gradient alone would throw the foot away
    where the level is steep or kinked."""
    index = np.argwhere(border)
    crossing, smooth, edges = _gradients(level, index, spacing_zyx)
    slopes = np.linalg.norm(crossing, axis=1)
    points_mm = index * spacing_zyx - (level[border] / slopes**2)[:, None] * crossing
    # In a layer one voxel thin the central difference vanishes or turns: it is no normal there.
    length = np.linalg.norm(smooth, axis=1)
    usable = (smooth * crossing).sum(1) > 0.5 * slopes * length
    normals = np.where(usable[:, None], smooth, crossing)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    points_mm = _pulled(points_mm.astype(np.float32), normals, slopes, level, spacing_zyx)
    # In a notch the plane leaves the surface: there the crossing on the steepest axis it is.
    stray = np.abs(_at(level, points_mm / spacing_zyx)) > _STRAY * slopes * spacing_zyx.max()
    steepest = edges * (np.abs(edges) == np.abs(edges).max(axis=1, keepdims=True))
    on_axis = index * spacing_zyx - steepest * (level[border] / (steepest**2).sum(1))[:, None]
    points_mm = np.where(stray[:, None], on_axis, points_mm)
    return _Feet(points_mm.astype(np.float32), normals, slopes)


def _at(level: Float32Array, index: FloatArray) -> FloatArray:
    return np.asarray(ndimage.map_coordinates(level, index.T, order=1, mode="nearest"))


def _gradients(
    level: Float32Array, index: IndexArray, spacing_zyx: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """At border voxels, per mm: the gradient with the steeper one-sided difference on each axis
    that crosses zero and the central one elsewhere; the central one throughout; and the steeper
    one-sided one, 0 on axes that do not cross zero."""
    smooth, edges = np.zeros((2, len(index), 3), np.float32)
    centre = level[tuple(index.T)]
    for axis in range(3):
        ends, steps = [], []
        for step in (-1, 1):
            other = index.copy()
            other[:, axis] = np.clip(other[:, axis] + step, 0, level.shape[axis] - 1)
            beyond = level[tuple(other.T)]
            slope = np.where((centre < 0) != (beyond < 0), step * (beyond - centre), 0.0)
            steeper = np.abs(slope) > np.abs(edges[:, axis])
            edges[:, axis] = np.where(steeper, slope, edges[:, axis])
            ends.append(beyond)
            steps.append(other[:, axis])
        smooth[:, axis] = (ends[1] - ends[0]) / np.maximum(steps[1] - steps[0], 1)
    crossing = np.where(edges != 0, edges, smooth)
    return crossing / spacing_zyx, smooth / spacing_zyx, edges / spacing_zyx


def sample(field: FloatArray, grid: Grid, points_lps_mm: FloatArray, outside: float) -> FloatArray:
    """Trilinear values at points (..., 3); ``outside`` beyond the outermost voxel centres."""
    index = grid.to_index_zyx(points_lps_mm)
    found = ndimage.map_coordinates(field, np.moveaxis(index, -1, 0), order=1, mode="nearest")
    last = np.array(field.shape) - 1
    beyond = np.any((index < -1e-6) | (index > last + 1e-6), axis=-1)
    return np.asarray(np.where(beyond, outside, found))


def resample(field: FloatArray, from_grid: Grid, to_grid: Grid, outside: float) -> Float32Array:
    """The field on another grid, trilinear, axis by axis; ``outside`` where it does not reach."""
    result = np.asarray(field, np.float32)
    covered = np.ones((1, 1, 1), bool)
    for axis, points in enumerate(reversed(to_grid.axes_lps_mm())):
        xyz = 2 - axis
        index = (points - from_grid.origin_lps_mm[xyz]) / from_grid.spacing_mm[xyz]
        last = field.shape[axis] - 1
        low = np.clip(np.floor(index).astype(int), 0, max(last - 1, 0))
        high = np.minimum(low + 1, last)
        shape = [-1 if a == axis else 1 for a in range(3)]
        part = np.clip(index - low, 0.0, 1.0).astype(np.float32).reshape(shape)
        result = result.take(low, axis) * (1 - part) + result.take(high, axis) * part
        covered = covered & ((index >= -1e-6) & (index <= last + 1e-6)).reshape(shape)
    return np.where(covered, result, np.float32(outside)).astype(np.float32)


def volume_ml(sdf_mm: FloatArray, grid: Grid) -> float:
    """The volume inside; voxels that the surface cuts count by how deep their centres lie."""
    if not np.isfinite(sdf_mm).any():
        return float(np.count_nonzero(sdf_mm < 0)) * grid.voxel_ml
    half_mm = 0.5 * float(np.mean(grid.spacing_mm))
    return float(np.clip(0.5 - sdf_mm / (2 * half_mm), 0.0, 1.0).sum()) * grid.voxel_ml
