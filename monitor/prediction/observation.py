"""A measured ice surface as points, and how far beyond each a model's surface lies. LPS mm.

Invariant: a model whose surface is the measured one lies 0 mm beyond every point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from monitor.geometry import Grid
from monitor.imaging.distance import sample
from monitor.model import SDS_90, Float32Array, FloatArray, IceSegmentation

# Along the normal, to both sides; what lies farther is this far.
_REACH_MM, _STEP_MM = 12.0, 1.0


@dataclass(frozen=True)
class EdgePoints:
    """``points_lps_mm`` and outward ``normals`` (n, 3), the measurement's ``variance_mm2`` (n,), and
    the area (mm²) that they stand for together."""

    points_lps_mm: FloatArray
    normals: FloatArray
    variance_mm2: FloatArray
    area_mm2: float


@dataclass(frozen=True)
class Seen:
    """One scan's surface, when, and the variance that each of its points counts with (mm²)."""

    at_s: float
    edge: EdgePoints
    variance_mm2: FloatArray


def edge_points(ice: IceSegmentation, count: int, seed: int) -> EdgePoints:
    """Up to ``count`` points of the surface, evenly by chance. ``ice`` must hold a finite surface."""
    assert ice.sdf_mm is not None
    sdf, grid = ice.sdf_mm, ice.grid
    half_mm = 0.5 * max(grid.spacing_mm)
    near = np.argwhere((np.abs(sdf) <= half_mm) & ice.known)
    area_mm2 = len(near) * grid.voxel_ml * 1000.0 / (2.0 * half_mm)
    keep = np.random.default_rng(seed).permutation(len(near))[:count]
    k, j, i = near[np.sort(keep)].T
    slopes: list[Float32Array] = list(np.gradient(sdf, *grid.spacing_mm[::-1]))
    slopes_zyx = [s[k, j, i] for s in slopes]
    normals = np.stack(slopes_zyx[::-1], axis=-1).astype(float)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 0.3)
    points = grid.to_lps_mm(np.stack([k, j, i], -1)) - sdf[k, j, i, None] * normals
    return EdgePoints(points, normals, _sd_mm(ice, points) ** 2, float(area_mm2))


def _sd_mm(ice: IceSegmentation, points_lps_mm: FloatArray) -> FloatArray:
    """The measurement's own word for its error there; its mean error where it gives no bounds."""
    if ice.inner_sdf_mm is None or ice.outer_sdf_mm is None:
        return np.full(len(points_lps_mm), ice.edge_error_mm)
    width = (ice.inner_sdf_mm - ice.outer_sdf_mm).astype(np.float32)
    half_mm = 0.5 * np.asarray(sample(width, ice.grid, points_lps_mm, outside=np.nan), float)
    return np.where(np.isfinite(half_mm), half_mm / SDS_90, ice.edge_error_mm)


def beyond_mm(ice: Float32Array, grid: Grid, edge: EdgePoints) -> FloatArray:
    """(member, n): how far beyond each point, along its normal, the ice's surface of each
    member lies; ``ice`` is (member, z, y, x) on ``grid`` (``reading``)."""
    steps_mm = np.arange(-_REACH_MM, _REACH_MM + 0.5 * _STEP_MM, _STEP_MM)
    rays = edge.points_lps_mm[:, None] + steps_mm[:, None] * edge.normals[:, None]
    index = np.moveaxis(grid.to_index_zyx(rays), -1, 0)
    return np.stack(
        [_crossing_mm(ndimage.map_coordinates(i, index, order=1, mode="nearest")) for i in ice]
    )


def _crossing_mm(ice: FloatArray) -> FloatArray:
    """Of profiles (n, step) the crossing of ½ nearest to the middle, going out where the middle is
    frozen and in where it is not."""
    level = np.asarray(ice, float) - 0.5
    middle = level.shape[1] // 2
    frozen = level[:, middle] > 0
    out, back = level[:, middle:], -level[:, middle::-1]
    walk = np.where(frozen[:, None], out, back)  # from positive to negative, either way
    crossed = walk <= 0
    at = np.argmax(crossed, axis=1)
    rows = np.arange(len(walk))
    before, after = walk[rows, np.maximum(at - 1, 0)], walk[rows, at]
    span = np.where(before == after, 1.0, before - after)
    steps = np.where(crossed.any(axis=1), np.maximum(at - 1, 0) + before / span, np.inf)
    found_mm = np.minimum(steps * _STEP_MM, _REACH_MM)
    return np.where(frozen, found_mm, -found_mm)
