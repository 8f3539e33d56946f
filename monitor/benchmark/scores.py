"""How well a measured body agrees with the true one: pure functions, by code of their own. mm, ml.

Masks and levels are (z, y, x) on a ``Grid``, levels negative inside; points LPS mm. Surfaces are the
zero crossings of a level along the lines of its grid, each with its normal and the area it stands
for (lines along an axis meet a surface |n·axis| times per unit of area), so that means are means
over area and distances are good to a fraction of a voxel.
Invariant: what is undefined (nothing to compare with) is NaN, never 0 or 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from monitor.geometry import FloatArray, Grid

BoolArray = npt.NDArray[np.bool_]

# Nearer than this to the foot of its normal, a surface is as flat as its tangent plane.
_FLAT_MM = 1.0


def dice(a: BoolArray, b: BoolArray, where: BoolArray) -> float:
    """Dice's overlap of two masks where ``where``; NaN when both are empty there."""
    total = np.count_nonzero(a & where) + np.count_nonzero(b & where)
    return 2.0 * np.count_nonzero(a & b & where) / total if total else float("nan")


def volume_error_percent(measured: BoolArray, true: BoolArray, where: BoolArray) -> float:
    """How much too large the measured body is where ``where``; NaN without a true one there."""
    truth = np.count_nonzero(true & where)
    if not truth:
        return float("nan")
    return 100.0 * (np.count_nonzero(measured & where) - truth) / truth


# ------------------------------------------------------------------ surfaces


@dataclass(frozen=True)
class Surface:
    """Points (n, 3) LPS mm, unit normals (n, 3) pointing out, areas (n,) mm²."""

    points_lps_mm: FloatArray
    normals: FloatArray
    areas_mm2: FloatArray

    def only(self, keep: BoolArray) -> Surface:
        return Surface(self.points_lps_mm[keep], self.normals[keep], self.areas_mm2[keep])


def surface(level: FloatArray, grid: Grid) -> Surface:
    """Where a level changes sign. An infinite level has no surface."""
    level = np.clip(np.asarray(level, float), -1e3, 1e3)
    slopes = np.moveaxis(np.array(np.gradient(level, *grid.spacing_mm[::-1])), 0, -1)
    parts = [_crossings(level, slopes, axis) for axis in range(3)]
    index = np.concatenate([p[0] for p in parts])
    normals = np.concatenate([p[1] for p in parts])[:, ::-1]
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    # Lines along an axis: one for each product of the other two spacings.
    lines_per_mm2 = np.array(grid.spacing_mm) / np.prod(grid.spacing_mm)
    areas = 1.0 / np.maximum(np.abs(normals) @ lines_per_mm2, 1e-12)
    return Surface(grid.to_lps_mm(index), normals, areas)


def _crossings(level: FloatArray, slopes: FloatArray, axis: int) -> tuple[FloatArray, FloatArray]:
    """Positions (n, 3) in voxels and gradients (n, 3), z y x, along one axis' lines."""
    low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
    high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
    crossing = (level[low] <= 0) != (level[high] <= 0)
    before, after = level[low][crossing], level[high][crossing]
    share = before / (before - after)
    index = np.argwhere(crossing).astype(float)
    index[:, axis] += share
    normals = (
        slopes[low][crossing] * (1.0 - share[:, None]) + slopes[high][crossing] * share[:, None]
    )
    return index, normals


def distance_mm(points_lps_mm: FloatArray, other: Surface) -> FloatArray:
    """Distance of points (n, 3) from a surface: from the tangent plane of its nearest sample, where
    that is beside the point; NaN without a surface."""
    if not len(other.points_lps_mm):
        return np.full(len(points_lps_mm), np.nan)
    apart, nearest = cKDTree(other.points_lps_mm).query(points_lps_mm)
    offset = points_lps_mm - other.points_lps_mm[nearest]
    along = np.abs(np.einsum("ij,ij->i", offset, other.normals[nearest]))
    aside = np.sqrt(np.maximum(apart**2 - along**2, 0.0))
    return np.where(aside < _FLAT_MM, along, apart)


@dataclass(frozen=True)
class SurfaceError:
    """Symmetric: over both surfaces, each compared with the other."""

    mean_mm: float
    p95_mm: float


def surface_error(a: Surface, b: Surface, a_counts: BoolArray, b_counts: BoolArray) -> SurfaceError:
    """Between two surfaces; only the points that count are asked for their distance, but any point
    of the other surface may be the nearest. The mean is the mean of the two means. NaN when one of
    them is empty."""
    mine, other = a.only(a_counts), b.only(b_counts)
    if not len(mine.areas_mm2) or not len(other.areas_mm2):
        return SurfaceError(float("nan"), float("nan"))
    to_b, to_a = distance_mm(mine.points_lps_mm, b), distance_mm(other.points_lps_mm, a)
    mean = 0.5 * (
        np.average(to_b, weights=mine.areas_mm2) + np.average(to_a, weights=other.areas_mm2)
    )
    p95 = weighted_percentile(
        np.concatenate([to_b, to_a]), np.concatenate([mine.areas_mm2, other.areas_mm2]), 95.0
    )
    return SurfaceError(float(mean), p95)


def weighted_percentile(values: FloatArray, weights: FloatArray, percent: float) -> float:
    """The smallest value at or below which that much of the weight lies."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    at = int(np.searchsorted(reached, percent / 100.0 * reached[-1]))
    return float(values[order][min(at, len(values) - 1)])


def between_share(inner_mm: FloatArray, outer_mm: FloatArray, areas_mm2: FloatArray) -> float:
    """The share of a true surface that lies outside an inner and inside an outer one, given their
    signed distances (mm, negative inside) at its points."""
    if not len(areas_mm2):
        return float("nan")
    between = (inner_mm >= 0.0) & (outer_mm <= 0.0)
    return float(areas_mm2[between].sum() / areas_mm2.sum())


# ------------------------------------------------------------------ needles


def needle_error(
    tip_mm: FloatArray, direction: FloatArray, true_tip_mm: FloatArray, true_direction: FloatArray
) -> tuple[float, float]:
    """Distance between two tips (mm) and angle between two shafts (degrees)."""
    along, true = _unit(direction), _unit(true_direction)
    # atan2: the arccosine of a dot product near 1 is good to 0.01° at best.
    angle = np.degrees(np.arctan2(np.linalg.norm(np.cross(along, true)), float(along @ true)))
    return float(np.linalg.norm(np.subtract(tip_mm, true_tip_mm))), float(angle)


def _unit(v: npt.NDArray[Any]) -> FloatArray:
    return np.asarray(v / np.linalg.norm(v))
