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
    for needle, length_mm in segments:
        d = needle_direction(needle).astype(np.float32)
        px, py, pz = (
            (axis - tip).astype(np.float32)
            for axis, tip in zip(grid.axes_lps_mm(), needle.tip_lps_mm, strict=True)
        )
        px, py, pz = px[None, None, :], py[None, :, None], pz[:, None, None]
        foot = pz * d[2] + py * d[1] + px * d[0]
        np.clip(foot, 0.0, np.float32(length_mm), out=foot)
        squared_mm2 = (px - foot * d[0]) ** 2  # not by |p|² − foot², in which float32 drowns
        for p, along in ((py, d[1]), (pz, d[2])):
            offset = p - foot * along
            squared_mm2 += offset * offset
        np.minimum(nearest, squared_mm2, out=nearest)
    return np.sqrt(nearest)
