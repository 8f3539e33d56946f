"""Needles in the beam: exact path lengths through their walls. mm, (part, view, channel).

A cryoprobe is a tube of nickel alloy with gas in it. Its shadow is thinner than a channel or a
slice, so rays are split into parts: across the slice and across the channel.
Invariant: the mean of a cylinder's paths over the rays that see it is its volume over their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from scanner_sim.tomograph.projector import FloatArray, Rays

# Parts of a ray: one per so much of the slice, six at least, spread over the channel in turn.
_PART_MM, _FEWEST_PARTS = 0.42, 6
_ACROSS = (-1 / 3, 1 / 3, 0.0)


@dataclass(frozen=True)
class Rod:
    """A hollow needle in coordinates of one slice: x along rows, y down columns, z along the normal;
    the middle of the slice is the origin."""

    tip_mm: tuple[float, float, float]
    end_mm: tuple[float, float, float]
    radius_mm: float
    wall_mm: float


def paths_mm(rods: Sequence[Rod], thickness_mm: float, rays: Rays) -> FloatArray | None:
    """Metal along each part of each ray of the slice; None when no needle is near."""
    near = [r for r in rods if _meets(r, thickness_mm)]
    if not near:
        return None
    offsets = _parts_mm(thickness_mm, rays.pitch_mm)
    result = np.zeros((len(offsets), len(rays.angles), len(rays.offsets_mm)), np.float32)
    for rod in near:
        a, b = np.array(rod.tip_mm), np.array(rod.end_mm)
        length = float(np.linalg.norm(b - a))
        for radius, sign in ((rod.radius_mm, 1.0), (rod.radius_mm - rod.wall_mm, -1.0)):
            _add(
                a, (b - a) / length, length, radius, sign,
                offsets, rays.angles, rays.offsets_mm, result,
            )  # fmt: skip
    return result


def _parts_mm(thickness_mm: float, pitch_mm: float) -> FloatArray:
    """Where the parts of a ray run, (part, 2): across the slice and across the channel."""
    count = max(_FEWEST_PARTS, 3 * round(thickness_mm / (3 * _PART_MM)))
    height = (np.arange(count) + 0.5) / count - 0.5
    across = np.resize(_ACROSS, count)
    return np.stack([height * thickness_mm, across * pitch_mm], -1)


def _meets(rod: Rod, thickness_mm: float) -> bool:
    low, high = sorted((rod.tip_mm[2], rod.end_mm[2]))
    reach = 0.5 * thickness_mm + rod.radius_mm
    return low - reach < 0.0 < high + reach


@njit(nogil=True, cache=True)
def _add(
    a: Any,
    d: Any,
    length: Any,
    radius: Any,
    sign: Any,
    offsets: Any,
    angles: Any,
    ts: Any,
    out: Any,
) -> None:  # pragma: no cover - compiled
    """Adds the chord of one solid cylinder to every ray that crosses it."""
    pitch = ts[1] - ts[0]
    for v in range(angles.shape[0]):
        c, s = np.cos(angles[v]), np.sin(angles[v])
        ta = a[0] * c + a[1] * s
        tb = (a[0] + length * d[0]) * c + (a[1] + length * d[1]) * s
        first = int((min(ta, tb) - radius - pitch - ts[0]) / pitch)
        last = int((max(ta, tb) + radius + pitch - ts[0]) / pitch) + 2
        along = -s * d[0] + c * d[1]  # the ray runs along (-sin, cos, 0)
        square = 1.0 - along * along
        for i in range(max(first, 0), min(last, ts.shape[0])):
            for p in range(offsets.shape[0]):
                t = ts[i] + offsets[p, 1]
                wx, wy, wz = t * c - a[0], t * s - a[1], offsets[p, 0] - a[2]
                wd = wx * d[0] + wy * d[1] + wz * d[2]
                we = -s * wx + c * wy
                b = we - along * wd
                q = wx * wx + wy * wy + wz * wz - wd * wd - radius * radius
                low, high = -1e6, 1e6
                if square > 1e-12:
                    root = b * b - square * q
                    if root <= 0.0:
                        continue
                    root = np.sqrt(root)
                    low, high = (-b - root) / square, (-b + root) / square
                elif q > 0.0:
                    continue
                if abs(along) > 1e-9:  # between the ends
                    e1, e2 = -wd / along, (length - wd) / along
                    low, high = max(low, min(e1, e2)), min(high, max(e1, e2))
                elif wd < 0.0 or wd > length:
                    continue
                if high > low:
                    out[p, v, i] += sign * (high - low)
