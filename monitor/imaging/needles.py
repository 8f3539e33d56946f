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


# An iceball reaches beyond the ends of an active zone about half as far as to its sides: the maker's
# for one of 22 mm is 37 mm long and 32 mm wide (the Cryoablation-Dosimetry repository).
_BEYOND_ENDS = 2.0


def freezing_distance_mm(grid: Grid, needles: Sequence[NeedleConfig]) -> Float32Array:
    """How late freezing reaches every voxel, as mm beside the nearest active zone: what lies beyond
    an end counts double."""
    zones = [(n, n.type.active_length_mm) for n in needles]
    return _distance_mm(grid, zones, _BEYOND_ENDS)


def shaft_distance_mm(grid: Grid, needles: Sequence[NeedleConfig]) -> Float32Array:
    """Distance of every voxel from the nearest needle shaft, tip to entry."""
    lengths = [float(np.linalg.norm(np.subtract(n.entry_lps_mm, n.tip_lps_mm))) for n in needles]
    return _distance_mm(grid, list(zip(needles, lengths, strict=True)))


def _distance_mm(
    grid: Grid, segments: Sequence[tuple[NeedleConfig, float]], beyond_ends: float = 1.0
) -> Float32Array:
    """``beyond_ends``: what a millimetre past a segment's end counts, along it."""
    nearest = np.full(grid.shape_zyx, np.inf, np.float32)
    for needle, length_mm in segments:
        d = needle_direction(needle).astype(np.float32)
        px, py, pz = (
            (axis - tip).astype(np.float32)
            for axis, tip in zip(grid.axes_lps_mm(), needle.tip_lps_mm, strict=True)
        )
        px, py, pz = px[None, None, :], py[None, :, None], pz[:, None, None]
        foot = pz * d[2] + py * d[1] + px * d[0]
        past = foot - np.clip(foot, 0.0, np.float32(length_mm))
        squared_mm2 = (px - foot * d[0]) ** 2  # not by |p|² − foot², in which float32 drowns
        for p, along in ((py, d[1]), (pz, d[2])):
            offset = p - foot * along
            squared_mm2 += offset * offset
        squared_mm2 += (np.float32(beyond_ends) * past) ** 2
        np.minimum(nearest, squared_mm2, out=nearest)
    return np.sqrt(nearest)
