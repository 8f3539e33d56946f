"""Sub-voxel signed distances on patient-aligned grids. Millimetres, arrays (z, y, x), LPS points.

The distance is measured to foot points on the zero level, found by linear interpolation in the
voxels beside it, and not to voxel centres: an ordinary distance transform of a mask is off by half
a voxel. Invariant: the sign is that of the level; negative is inside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from monitor.geometry import Grid

FloatArray = npt.NDArray[np.floating[Any]]
Float32Array = npt.NDArray[np.float32]

_BAND_MM = 8.0


def signed_distance_mm(level: FloatArray, grid: Grid) -> Float32Array:
    """Signed distance to the zero level of a trilinear field, negative where it is negative.
    Without a zero level: -inf or +inf everywhere. NaN in ``level`` raises ``ValueError``."""
    if np.isnan(level).any():
        raise ValueError("signed_distance_mm: the level holds NaN")
    inside = level < 0
    if inside.all() or not inside.any():
        return np.full(level.shape, -np.inf if inside.all() else np.inf, np.float32)
    spacing_zyx = np.array(grid.spacing_mm[::-1])
    border = _border(inside)
    feet_mm, normals = _feet(np.asarray(level, np.float64), border, spacing_zyx)
    nearest = ndimage.distance_transform_edt(
        ~border, sampling=spacing_zyx, return_distances=False, return_indices=True
    )
    number = np.zeros(level.shape, np.int32)
    number[border] = np.arange(len(feet_mm))
    number = _closest_foot(number[tuple(nearest)], feet_mm, spacing_zyx)
    distance = _to_surface_mm(number, feet_mm, normals, spacing_zyx)
    return np.where(inside, -distance, distance).astype(np.float32)


def _closest_foot(
    number: npt.NDArray[np.int32], feet_mm: Float32Array, spacing_zyx: FloatArray
) -> npt.NDArray[np.int32]:
    """The foot of the nearest border voxel is not always the nearest foot: within ``_BAND_MM``,
    where margins are read, the nearest one is searched for."""
    near = np.flatnonzero(_squared_mm2(number, feet_mm, spacing_zyx) < _BAND_MM**2)
    points = np.stack(np.unravel_index(near, number.shape), -1) * spacing_zyx
    best = number.copy()
    best.flat[near] = cKDTree(feet_mm).query(points.astype(np.float32), workers=-1)[1]
    return best


def _squared_mm2(
    number: npt.NDArray[np.int32], feet_mm: Float32Array, spacing_zyx: FloatArray
) -> Float32Array:
    squared = np.zeros(number.shape, np.float32)
    for axis in range(3):
        shape = [-1 if a == axis else 1 for a in range(3)]
        here = (np.arange(number.shape[axis]) * spacing_zyx[axis]).astype(np.float32).reshape(shape)
        squared += (here - feet_mm[:, axis][number]) ** 2
    return squared


def _to_surface_mm(
    number: npt.NDArray[np.int32],
    feet_mm: Float32Array,
    normals: Float32Array,
    spacing_zyx: FloatArray,
) -> Float32Array:
    """Distance of every voxel to the surface at its foot: to the tangent plane while the foot is
    about underneath (feet sample the surface once a voxel), else to the foot itself."""
    squared = _squared_mm2(number, feet_mm, spacing_zyx)
    along = np.zeros(number.shape, np.float32)
    for axis in range(3):
        shape = [-1 if a == axis else 1 for a in range(3)]
        here = (np.arange(number.shape[axis]) * spacing_zyx[axis]).astype(np.float32).reshape(shape)
        along += (here - feet_mm[:, axis][number]) * normals[:, axis][number]
    sideways_squared = squared - along * along
    near_plane = sideways_squared < np.float32((1.2 * max(spacing_zyx)) ** 2)
    return np.where(near_plane, np.abs(along), np.sqrt(squared))


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


def _feet(
    level: npt.NDArray[np.float64], border: npt.NDArray[np.bool_], spacing_zyx: FloatArray
) -> tuple[Float32Array, Float32Array]:
    """For each border voxel its foot on the zero level (z, y, x in mm from voxel 0) and the unit
    normal there: the plane through the zero crossings on its axes, so that a steep or kinked level
    does not throw the foot away as dividing by a gradient would."""
    index = np.argwhere(border)
    inverse = np.zeros((len(index), 3))
    centre = level[border]
    for axis in range(3):
        for step in (-1, 1):
            other = index.copy()
            other[:, axis] = np.clip(other[:, axis] + step, 0, level.shape[axis] - 1)
            beyond = level[tuple(other.T)]
            crosses = (centre < 0) != (beyond < 0)
            gap = np.where(crosses, centre - beyond, 1.0)
            along_mm = np.maximum(centre / gap, 1e-6) * spacing_zyx[axis]
            # A plane that cuts the axes at a, b, c lies at 1/√(1/a² + 1/b² + 1/c²).
            candidate = np.where(crosses, step / along_mm, 0.0)
            stronger = np.abs(candidate) > np.abs(inverse[:, axis])
            inverse[:, axis] = np.where(stronger, candidate, inverse[:, axis])
    length = np.linalg.norm(inverse, axis=1, keepdims=True)
    feet_mm = index * spacing_zyx + inverse / length**2
    return feet_mm.astype(np.float32), _normals(level, index, spacing_zyx)


def _normals(
    level: npt.NDArray[np.float64], index: npt.NDArray[np.intp], spacing_zyx: FloatArray
) -> Float32Array:
    """Unit gradients at voxels, by central differences."""
    gradient = np.zeros((len(index), 3))
    for axis in range(3):
        ends = []
        for step in (-1, 1):
            other = index.copy()
            other[:, axis] = np.clip(other[:, axis] + step, 0, level.shape[axis] - 1)
            ends.append(level[tuple(other.T)])
        gradient[:, axis] = (ends[1] - ends[0]) / spacing_zyx[axis]
    length = np.linalg.norm(gradient, axis=1, keepdims=True)
    return (gradient / np.maximum(length, 1e-12)).astype(np.float32)


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
