"""Where the patient's tissue lies at the moment of a scan. LPS mm.

A displacement is given where it is seen: the tissue at scan point x is, at the plan's breath-hold,
at x + displacement(x). Breathing in moves the organs down along the wall and the belly forward, and
leaves spine, ribs and pelvis; restlessness is small, smooth and different in every scan; a shift
turns and moves the whole patient; the couch moves everything along z. Needles are stiff: they, the
ice and the tissue close around them move as one and pivot where they pass the skin.
Invariant: no displacement without motion: then a scan's coordinates are the plan's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scanner_sim.bodies import tube
from scanner_sim.frame import FloatArray, Frame, even
from scanner_sim.patient.trunk import Trunk
from scanner_sim.scenario import Needle, Point, Scan, Scenario

_LATTICE_MM = 4.0
# The layer in which organs slide along the wall; around a needle's active zone, how far tissue is
# as stiff as ice, and over what way it softens.
_SLIDING_MM = 9.0
_STIFF_MM, _FADE_MM = 17.0, 20.0
_RESTLESS_MM = 45.0
_PIVOT_MM = (0.0, 20.0)
Points = tuple[FloatArray, FloatArray, FloatArray]


@dataclass(frozen=True)
class Displacement:
    """``field_mm`` (3: x, y, z; z, y, x) on an even frame, trilinear between; ``core`` None where
    nothing moves or there is no needle."""

    frame: Frame
    field_mm: npt.NDArray[np.float32]
    core: Core | None = None

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
        return _triple(seen)

    def needle(self, needle: Needle) -> tuple[Point, Point]:
        """Tip and entry: the needle is stiff, and held by the tissue that its active zone is in."""
        tip, entry = np.array(needle.tip_lps_mm), np.array(needle.entry_lps_mm)
        if self.core is None:
            tip_seen = np.array(self.to_scan(needle.tip_lps_mm))
            return _triple(tip_seen), _triple(tip_seen + entry - tip)
        return _triple(self.core.to_scan(tip)), _triple(self.core.to_scan(entry))


@dataclass(frozen=True)
class Core:
    """The stiff body of needles and ice. Plan point p is seen at seen_lps_mm + turn (p - own_lps_mm)."""

    own_lps_mm: FloatArray
    seen_lps_mm: FloatArray
    turn: FloatArray

    def to_scan(self, point: FloatArray) -> FloatArray:
        return np.asarray(self.seen_lps_mm + self.turn @ (point - self.own_lps_mm))

    def to_plan(self, points: Points) -> Points:
        away = [p - s for p, s in zip(points, self.seen_lps_mm, strict=True)]
        back = [
            o + sum(self.turn[m, n] * away[m] for m in range(3))
            for n, o in enumerate(self.own_lps_mm)
        ]
        return (back[0], back[1], back[2])


def displacement(
    scenario: Scenario, needles: Sequence[Needle], scan: Scan, number: int, frame: Frame
) -> Displacement:
    """Of scan ``number``, over ``frame`` and a little beyond."""
    low = np.array(frame.origin_lps_mm) - 2 * _LATTICE_MM
    high = np.array([frame.x[-1], frame.y[-1], frame.z[-1]]) + 3 * _LATTICE_MM
    lattice = even(low, high, _LATTICE_MM)
    seen = np.broadcast_arrays(*lattice.grid())
    still = _unshifted(scenario, scan, (seen[0], seen[1], seen[2]))
    total = [b - a for a, b in zip(seen, still, strict=True)]
    shift_mm = scenario.motion.organ_shift_mm * scan.breath
    for n, breath in enumerate(_breathing(Trunk(scenario.habitus), still, shift_mm)):
        total[n] = total[n] + breath
    if scenario.motion.restlessness_mm > 0 and number > 0:
        rng = np.random.default_rng((scenario.seed, 77, number))
        for n in range(3):
            total[n] = total[n] + _restless(lattice, rng, scenario.motion.restlessness_mm)
    free = Displacement(lattice, np.stack(total).astype(np.float32))
    if not needles or not free.field_mm.any():
        return free
    return _stiffened(free, needles)


def _stiffened(free: Displacement, needles: Sequence[Needle]) -> Displacement:
    """Needles and what is frozen to them move as one: carried by the tissue around the active
    zones, and turned about where the needles pass the skin."""
    zones = [_active_zone(n) for n in needles]
    middle = np.mean([z.mean(0) for z in zones], 0)
    entry = np.mean([n.entry_lps_mm for n in needles], 0)
    seen_middle, seen_entry = (np.array(free.to_scan(_triple(p))) for p in (middle, entry))
    core = Core(middle, seen_middle, _turn(entry - middle, seen_entry - seen_middle))
    seen = np.broadcast_arrays(*free.frame.grid())
    plan = core.to_plan((seen[0], seen[1], seen[2]))
    near = np.min([tube(z, _STIFF_MM)(*plan) for z in zones], 0)
    stiff = 1.0 - _rise(near / _FADE_MM)
    field = [f + stiff * (p - s - f) for f, p, s in zip(free.field_mm, plan, seen, strict=True)]
    return Displacement(free.frame, np.stack(field).astype(np.float32), core)


def _active_zone(needle: Needle) -> FloatArray:
    """Its ends, (2, 3)."""
    tip, entry = np.array(needle.tip_lps_mm), np.array(needle.entry_lps_mm)
    share = min(1.0, needle.made.active_length_mm / float(np.linalg.norm(entry - tip)))
    return np.stack([tip, tip + share * (entry - tip)])


def _turn(one: FloatArray, other: FloatArray) -> FloatArray:
    """The smallest rotation from one direction to the other."""
    a, b = one / np.linalg.norm(one), other / np.linalg.norm(other)
    axis, cosine = np.cross(a, b), float(a @ b)
    skew = np.cross(np.eye(3), axis)
    return np.asarray(np.eye(3) + skew + skew @ skew / (1.0 + cosine))


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


def _breathing(trunk: Trunk, points: Points, shift_mm: float) -> Points:
    """Displacement towards the plan's breath-hold: up, and back. Organs slide along the wall, the
    spine and the ribs stay; the belly's wall comes forward."""
    x, y, z = points
    inside = _rise(-trunk.cavity(x, y, z) / _SLIDING_MM)
    from_spine = np.sqrt((x / 50.0) ** 2 + ((y - 75.0) / 44.0) ** 2)
    apex = np.clip(1.0 - (z - 190.0) / 180.0, 0.25, 1.0)
    pelvis = _rise((z + 110.0) / 80.0)
    down = shift_mm * inside * _rise((from_spine - 1.0) / 0.5) * apex * pelvis
    soft = _rise(trunk.rib_zone(x, y, z) / 40.0) * pelvis
    forward = shift_mm * 0.3 * _rise((40.0 - y) / 120.0) * soft
    return (0.0 * down, forward + 0.0 * down, down)


def _rise(u: FloatArray) -> FloatArray:
    """Smoothly from 0 to 1."""
    u = np.clip(u, 0.0, 1.0)
    return np.asarray(u * u * (3.0 - 2.0 * u))


def _triple(v: FloatArray) -> Point:
    return (float(v[0]), float(v[1]), float(v[2]))


def _restless(lattice: Frame, rng: np.random.Generator, amplitude_mm: float) -> FloatArray:
    noise = ndimage.gaussian_filter(rng.standard_normal(lattice.shape), _RESTLESS_MM / _LATTICE_MM)
    return np.asarray(amplitude_mm * noise / noise.std())
