"""Where the patient's tissue lies at the moment of a scan. LPS mm.

A displacement is given where it is seen: the tissue at scan point x is, at the plan's breath-hold,
at x + displacement(x). Breathing in moves the organs down and the belly's wall forward, least at
the spine and the skin; restlessness is small and different in every scan; a shift turns and moves
the whole patient; the couch moves everything along z.
Invariant: no displacement without motion: then a scan's coordinates are the plan's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scanner_sim.frame import FloatArray, Frame, even
from scanner_sim.scenario import Needle, Point, Scan, Scenario

_LATTICE_MM = 6.0
_RESTLESS_MM = 45.0
_PIVOT_MM = (0.0, 20.0)
Points = tuple[FloatArray, FloatArray, FloatArray]


@dataclass(frozen=True)
class Displacement:
    """``field_mm`` (3: x, y, z; z, y, x) on an even frame, trilinear between."""

    frame: Frame
    field_mm: npt.NDArray[np.float32]

    def to_plan(self, x: FloatArray, y: FloatArray, z: FloatArray) -> Points:
        """Where the tissue seen at scan points lies in the plan."""
        x, y, z = np.broadcast_arrays(x, y, z)
        step = self.frame.spacing_mm[0]
        at = [
            (p - o) / step for p, o in zip((z, y, x), self.frame.origin_lps_mm[::-1], strict=True)
        ]
        moved = [
            p + ndimage.map_coordinates(f, at, order=1, mode="nearest", output=np.float32)
            for p, f in zip((x, y, z), self.field_mm, strict=True)
        ]
        return (moved[0], moved[1], moved[2])

    def to_scan(self, point: Point) -> Point:
        """Where a point of the plan is seen; by fixed-point iteration."""
        seen = np.array(point, float)
        for _ in range(25):
            back = np.array([c[0] for c in self.to_plan(*(np.array([v]) for v in seen))])
            seen = seen + np.array(point) - back
        return (float(seen[0]), float(seen[1]), float(seen[2]))

    def needle(self, needle: Needle) -> tuple[Point, Point]:
        """Tip and entry of a needle that stays straight: its active zone goes with the tissue."""
        tip, entry = np.array(needle.tip_lps_mm), np.array(needle.entry_lps_mm)
        length = float(np.linalg.norm(entry - tip))
        above = tip + (entry - tip) * min(1.0, needle.made.active_length_mm / length)
        tip_seen = np.array(self.to_scan(needle.tip_lps_mm))
        along = np.array(self.to_scan((above[0], above[1], above[2]))) - tip_seen
        end = tip_seen + along / np.linalg.norm(along) * length
        return (
            (float(tip_seen[0]), float(tip_seen[1]), float(tip_seen[2])),
            (float(end[0]), float(end[1]), float(end[2])),
        )


def displacement(scenario: Scenario, scan: Scan, number: int, frame: Frame) -> Displacement:
    """Of scan ``number``, over ``frame`` and a little beyond."""
    low = np.array(frame.origin_lps_mm) - 2 * _LATTICE_MM
    high = np.array([frame.x[-1], frame.y[-1], frame.z[-1]]) + 3 * _LATTICE_MM
    lattice = even(low, high, _LATTICE_MM)
    seen = np.broadcast_arrays(*lattice.grid())
    still = _unshifted(scenario, scan, (seen[0], seen[1], seen[2]))
    total = [b - a for a, b in zip(seen, still, strict=True)]
    for n, breath in enumerate(_breathing(still, scenario.motion.organ_shift_mm * scan.breath)):
        total[n] = total[n] + breath
    if scenario.motion.restlessness_mm > 0 and number > 0:
        rng = np.random.default_rng((scenario.seed, 77, number))
        for n in range(3):
            total[n] = total[n] + _restless(lattice, rng, scenario.motion.restlessness_mm)
    return Displacement(lattice, np.stack(total).astype(np.float32))


def _unshifted(scenario: Scenario, scan: Scan, points: Points) -> Points:
    """Takes the couch's and the patient's own shift and turn back."""
    m = scenario.motion
    if scan.at_s < m.shifts_at_s:
        return points
    x, y, z = (p - s for p, s in zip(points, m.shift_lps_mm, strict=True))
    a = np.radians(m.turn_deg)
    u, v = x - _PIVOT_MM[0], y - _PIVOT_MM[1]
    return (
        _PIVOT_MM[0] + np.cos(a) * u + np.sin(a) * v,
        _PIVOT_MM[1] - np.sin(a) * u + np.cos(a) * v,
        z - m.couch_mm,
    )


def _breathing(points: Points, shift_mm: float) -> Points:
    """Displacement towards the plan's breath-hold: up, and back."""
    x, y, z = points
    from_middle = np.sqrt((x / 112.0) ** 2 + ((y + 12.0) / 80.0) ** 2)
    inside = _rise((1.3 - from_middle) / 0.55)
    spine = 1.0 - np.exp(-(x**2 + (y - 62.0) ** 2) / (2.0 * 34.0**2))
    apex = np.clip(1.0 - (z - 190.0) / 180.0, 0.25, 1.0)
    down = shift_mm * inside * spine * apex
    forward = shift_mm * 0.3 * _rise((40.0 - y) / 120.0) * _rise((1.5 - from_middle) / 0.5)
    return (0.0 * down, forward + 0.0 * down, down)


def _rise(u: FloatArray) -> FloatArray:
    """Smoothly from 0 to 1."""
    u = np.clip(u, 0.0, 1.0)
    return np.asarray(u * u * (3.0 - 2.0 * u))


def _restless(lattice: Frame, rng: np.random.Generator, amplitude_mm: float) -> FloatArray:
    noise = ndimage.gaussian_filter(rng.standard_normal(lattice.shape), _RESTLESS_MM / _LATTICE_MM)
    return np.asarray(amplitude_mm * noise / noise.std())
