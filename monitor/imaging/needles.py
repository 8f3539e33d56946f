"""Distances to the needles on a grid (z, y, x), mm. A needle is the line from its tip to its entry;
its active zone is the first ``active_length_mm`` of it.

Invariant: without needles every distance is infinite.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monitor.config import NeedleConfig
from monitor.geometry import FloatArray, Grid
from monitor.model import Float32Array


def needle_direction(needle: NeedleConfig) -> FloatArray:
    """Unit vector from the tip towards the entry."""
    along = np.subtract(needle.entry_lps_mm, needle.tip_lps_mm)
    return np.asarray(along / np.linalg.norm(along))


def active_zone_distance_mm(grid: Grid, needles: Sequence[NeedleConfig]) -> Float32Array:
    """Distance of every voxel from the nearest active zone."""
    return _distance_mm(grid, [(n, n.type.active_length_mm) for n in needles])


def shaft_distance_mm(grid: Grid, needles: Sequence[NeedleConfig]) -> Float32Array:
    """Distance of every voxel from the nearest needle shaft, tip to entry."""
    lengths = [float(np.linalg.norm(np.subtract(n.entry_lps_mm, n.tip_lps_mm))) for n in needles]
    return _distance_mm(grid, list(zip(needles, lengths, strict=True)))


def _distance_mm(grid: Grid, segments: Sequence[tuple[NeedleConfig, float]]) -> Float32Array:
    nearest = np.full(grid.shape_zyx, np.inf, np.float32)
    x, y, z = grid.axes_lps_mm()
    for needle, length_mm in segments:
        d = needle_direction(needle)
        px, py, pz = (axis - tip for axis, tip in zip((x, y, z), needle.tip_lps_mm, strict=True))
        along = (pz * d[2])[:, None, None] + (py * d[1])[None, :, None] + (px * d[0])[None, None, :]
        square = (pz**2)[:, None, None] + (py**2)[None, :, None] + (px**2)[None, None, :]
        foot = np.clip(along, 0.0, length_mm)
        squared_mm2 = np.maximum(square - 2 * foot * along + foot**2, 0.0)
        np.minimum(nearest, np.sqrt(squared_mm2).astype(np.float32), out=nearest)
    return nearest
