"""Distances to the needles on a grid (z, y, x), mm. A needle is the line from its tip to its entry;
its active zone is the first ``active_length_mm`` of it.

Invariant: without needles every distance is infinite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from monitor.config import NeedleConfig
from monitor.geometry import FloatArray, Grid
from monitor.model import Float32Array


def needle_direction(needle: NeedleConfig) -> FloatArray:
    """Unit vector from the tip towards the entry."""
    along = np.subtract(needle.entry_lps_mm, needle.tip_lps_mm)
    return np.asarray(along / np.linalg.norm(along))


# An active zone cools less at its ends. Foci so far apart, as a share of it, make of a zone of 22 mm the
# maker's iceball of 37 by 32 mm (the Cryoablation-Dosimetry repository).
_COLD_SHARE = 0.845


def active_zone_distance_mm(grid: Grid, needles: Sequence[NeedleConfig]) -> Float32Array:
    """Distance of every voxel from the nearest active zone."""
    return _nearest_mm(grid, [(n, n.type.active_length_mm) for n in needles], _to_segment)


def freezing_distance_mm(grid: Grid, needles: Sequence[NeedleConfig]) -> Float32Array:
    """How late freezing reaches every voxel, as mm beside the middle of the nearest active zone.

    Steady isotherms around a uniform line sink are spheroids whose foci are its ends: this is their
    smaller semi-axis. So ice is slender while it is young, and hardly reaches past an end."""
    return _nearest_mm(grid, [(n, n.type.active_length_mm) for n in needles], _to_spheroid)


def shaft_distance_mm(grid: Grid, needles: Sequence[NeedleConfig]) -> Float32Array:
    """Distance of every voxel from the nearest needle shaft, tip to entry."""
    lengths = [float(np.linalg.norm(np.subtract(n.entry_lps_mm, n.tip_lps_mm))) for n in needles]
    return _nearest_mm(grid, list(zip(needles, lengths, strict=True)), _to_segment)


# From the squared distance to a needle's line, the place along it from the tip, and the segment's
# length to a squared distance.
_Squared = Callable[[Float32Array, Float32Array, np.float32], Float32Array]


def _to_segment(aside_mm2: Float32Array, along: Float32Array, length: np.float32) -> Float32Array:
    past = along - np.clip(along, np.float32(0.0), length)
    return aside_mm2 + past * past


def _to_spheroid(aside_mm2: Float32Array, along: Float32Array, length: np.float32) -> Float32Array:
    focus = 0.5 * np.float32(_COLD_SHARE) * length
    past = along - 0.5 * length
    one, other = (np.sqrt(aside_mm2 + (past + f) ** 2) for f in (focus, -focus))
    longer = 0.5 * (one + other)
    return np.maximum(longer * longer - focus * focus, np.float32(0.0))


def _nearest_mm(
    grid: Grid, segments: Sequence[tuple[NeedleConfig, float]], squared: _Squared
) -> Float32Array:
    nearest = np.full(grid.shape_zyx, np.inf, np.float32)
    for needle, length_mm in segments:
        d = needle_direction(needle).astype(np.float32)
        px, py, pz = (
            (axis - tip).astype(np.float32)
            for axis, tip in zip(grid.axes_lps_mm(), needle.tip_lps_mm, strict=True)
        )
        px, py, pz = px[None, None, :], py[None, :, None], pz[:, None, None]
        along = pz * d[2] + py * d[1] + px * d[0]
        aside_mm2 = (px - along * d[0]) ** 2  # not by |p|² − along², in which float32 drowns
        for p, component in ((py, d[1]), (pz, d[2])):
            offset = p - along * component
            aside_mm2 += offset * offset
        np.minimum(nearest, squared(aside_mm2, along, np.float32(length_mm)), out=nearest)
    return np.sqrt(nearest)
