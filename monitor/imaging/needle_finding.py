"""Each planned cryoprobe where one CT shows it, found by its metal. LPS mm, Hounsfield units.

Bright, thin voxels vote for lines near the planned directions; each line is fitted to the metal
around it, at native resolution, and ends where the metal's mass falls to half; a common shift
tells which line is which planned needle. Fits are made in the *scaled frame*: the slices' own row,
column and normal axes, each divided by the scan's blur along it, so that errors are equal in all
directions; distances in it are plain numbers.
Invariant: nothing is invented: a needle whose tip the scan does not show keeps the planned place
(moved by the expected shift) and ``found`` is False.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from monitor.config import NeedleConfig
from monitor.geometry import FloatArray
from monitor.imaging.needle_lines import Line, Scan, Settings, fitted, open_scan
from monitor.imaging.needle_profile import Metal, measured
from monitor.imaging.needles import needle_direction
from monitor.model import CtVolume
from monitor.stages import stage

Point = tuple[float, float, float]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

_AIR_HU = -1024
_DEFAULTS = Settings()


@dataclass(frozen=True)
class FoundNeedle:
    """A needle in one scan. ``direction`` is a unit vector from the tip towards the entry.

    ``moved_mm`` is the tip's distance from the plan moved by the expected shift; of it
    ``along_mm`` lies along the planned direction (positive: retracted, towards the entry) and
    ``across_mm`` across it. ``found`` False: the place is the plan's and says nothing; all are 0.
    """

    number: int
    tip_lps_mm: Point
    direction: Point
    found: bool
    quality: float
    moved_mm: float
    along_mm: float = 0.0
    across_mm: float = 0.0


@stage("needles")
def find_needles(
    volume: CtVolume,
    planned: Sequence[NeedleConfig],
    expected_shift_mm: Point = (0.0, 0.0, 0.0),
    settings: Settings = _DEFAULTS,
) -> tuple[FoundNeedle, ...]:
    """Every planned needle in the scan, in the plan's order. ``expected_shift_mm`` (LPS) is where
    the tissue is thought to have moved since the plan. Never raises on what a scanner may send."""
    expected = [_shifted(n, expected_shift_mm) for n in planned]
    scan = open_scan(volume, settings)
    metals = _metals(scan, expected)
    matches = _matches(metals, expected, settings)
    return tuple(
        _found(needle, metals[m] if m is not None else None)
        for needle, m in zip(expected, matches, strict=True)
    )


def lines_of_metal(
    volume: CtVolume, likely: Sequence[NeedleConfig], settings: Settings = _DEFAULTS
) -> tuple[Metal, ...]:
    """All lines of metal along any of the likely needles, the clearest first, whoever's they are."""
    return tuple(_metals(open_scan(volume, settings), likely))


def at_found_place(planned: NeedleConfig, found: FoundNeedle) -> NeedleConfig:
    """The planned needle at its found tip and direction, as long as planned."""
    length_mm = np.linalg.norm(np.subtract(planned.entry_lps_mm, planned.tip_lps_mm))
    entry = np.asarray(found.tip_lps_mm) + length_mm * np.asarray(found.direction)
    return replace(planned, tip_lps_mm=found.tip_lps_mm, entry_lps_mm=_triple(entry))


def _triple(v: FloatArray) -> Point:
    return (float(v[0]), float(v[1]), float(v[2]))


def _shifted(needle: NeedleConfig, shift_mm: Point) -> NeedleConfig:
    tip, entry = (np.add(p, shift_mm) for p in (needle.tip_lps_mm, needle.entry_lps_mm))
    return replace(needle, tip_lps_mm=_triple(tip), entry_lps_mm=_triple(entry))


def _found(expected: NeedleConfig, metal: Metal | None) -> FoundNeedle:
    direction = needle_direction(expected)
    if metal is None or not metal.tip_seen:
        tip = expected.tip_lps_mm
        return FoundNeedle(expected.number, tip, _triple(direction), False, 0.0, 0.0)
    moved = metal.tip_lps_mm - expected.tip_lps_mm
    along = float(moved @ direction)
    return FoundNeedle(
        number=expected.number,
        tip_lps_mm=_triple(metal.tip_lps_mm),
        direction=_triple(metal.direction),
        found=True,
        quality=metal.quality,
        moved_mm=float(np.linalg.norm(moved)),
        along_mm=along,
        across_mm=float(np.linalg.norm(moved - along * direction)),
    )


# --------------------------------------------------------------------------- candidates


def _metals(scan: Scan, expected: Sequence[NeedleConfig]) -> list[Metal]:
    """Lines of metal near the expected needles, the clearest first."""
    s = scan.settings
    points = _thin_bright(scan, expected)
    if not len(points):
        return []
    votes = _Votes(points, *_directions(scan, expected), s)
    longest_mm = max(_length_mm(n) for n in expected) + s.min_length_mm
    alive, metals = np.ones(len(points), bool), list[Metal]()
    vain = 0
    while vain < s.vain_lines[len(metals) >= len(expected)]:
        tried = [
            measured(scan, _on_points(line, points[alive], s), points[alive], longest_mm)
            for line in votes.best(alive)
        ]
        if not tried:
            break
        line, metal = max(tried, key=lambda t: t[1].seen_mm if t[1] is not None else 0.0)
        if metal is not None and _is_new(metal, metals, s) and _plausible(metal, expected, s):
            metals.append(metal)
        else:
            vain += 1
        alive &= line.distance(points) > s.shell[0]
    return metals


def _is_new(metal: Metal, known: Sequence[Metal], s: Settings) -> bool:
    """Whether it is no second line through, or further piece of, metal that is already known."""
    tip = metal.tip_lps_mm[None]
    return all(
        Line(k.tip_lps_mm, k.direction).distance(tip)[0] > s.same_mm
        or metal.direction @ k.direction < np.cos(np.radians(s.turn_sd_deg))
        for k in known
    )


def _plausible(metal: Metal, expected: Sequence[NeedleConfig], s: Settings) -> bool:
    """Whether it points as a needle may; half as much again for what the fit turned."""
    least = np.cos(np.radians(1.5 * s.search_deg))
    return any(bool(metal.direction @ needle_direction(n) >= least) for n in expected)


def _length_mm(needle: NeedleConfig) -> float:
    return float(np.linalg.norm(np.subtract(needle.entry_lps_mm, needle.tip_lps_mm)))


def _box(scan: Scan, expected: Sequence[NeedleConfig]) -> tuple[slice, slice, slice]:
    """The part of the volume where the needles may be."""
    s = scan.settings
    ends = np.array([p for n in expected for p in (n.tip_lps_mm, n.entry_lps_mm)]).reshape(-1, 3)
    ends = ends @ scan.axes.T
    corners = np.array(
        np.meshgrid(*np.array([ends.min(0) - s.search_mm, ends.max(0) + s.search_mm]).T)
    )
    index = scan.volume.geometry.to_index_zyx(corners.reshape(3, -1).T @ scan.axes)
    low = np.maximum(np.floor(index.min(0)), 0).astype(int)
    high = np.minimum(np.ceil(index.max(0)) + 1, scan.volume.hu.shape).astype(int)
    high = np.maximum(high, low)  # a negative end would count from the other side
    return (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))


def _thin_bright(scan: Scan, expected: Sequence[NeedleConfig]) -> FloatArray:
    """Scaled centres (n, 3) of voxels near an expected needle that are bright, and brighter than
    what lies beside them on both sides, in all directions but one; thinned out if too many."""
    s, g = scan.settings, scan.volume.geometry
    box = _box(scan, expected) if expected else (slice(0, 0),) * 3
    hu = scan.volume.hu[box].astype(np.int32)  # differences of int16 overflow
    index = np.argwhere(hu > s.bright_hu)
    if not len(index):
        return np.zeros((0, 3))
    dj, di = (max(1, round(s.beside_mm / mm)) for mm in (g.row_spacing_mm, g.column_spacing_mm))
    dk = 1 + int(np.ceil(s.beside_mm / g.slice_spacing_mm))
    pad = np.array([dk, dj, di])
    padded = np.pad(hu, [(p, p) for p in pad], constant_values=_AIR_HU)
    oj, oi = max(1, round(0.7 * dj)), max(1, round(0.7 * di))
    pairs = np.array([[0, dj, 0], [0, 0, di], [0, oj, oi], [0, oj, -oi], [dk, 0, 0]])
    flat = np.ravel_multi_index(tuple((index + pad).T), padded.shape)
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    values = padded.ravel()
    beside = [np.maximum(values[flat + o], values[flat - o]) for o in pairs @ strides]
    second = np.sort(np.stack(beside), axis=0)[-2]
    thin = hu[tuple(index.T)] - second >= s.beside_contrast_hu
    points = scan.centres(index[thin] + [b.start for b in box])
    points = points[_near(scan.lps_mm(points), expected, s.search_mm)]
    return points[:: 1 + len(points) // s.most_points]


def _near(
    points_lps_mm: FloatArray, expected: Sequence[NeedleConfig], reach_mm: float
) -> BoolArray:
    """Which points lie within reach of the straight line of some needle."""
    near = np.zeros(len(points_lps_mm), bool)
    for needle in expected:
        line = Line(np.asarray(needle.tip_lps_mm), needle_direction(needle))
        near |= line.distance(points_lps_mm) < reach_mm
    return near


def _directions(scan: Scan, expected: Sequence[NeedleConfig]) -> tuple[FloatArray, BoolArray]:
    """Unit vectors (n, 3) of the scaled frame around every planned direction, and which are near."""
    s = scan.settings
    steps = np.arange(-s.search_deg, s.search_deg + 1e-6, s.vote_step_deg)
    a, b = (t.ravel() for t in np.meshgrid(steps, steps))
    disc = np.tan(np.radians(np.stack([a, b], -1)[np.hypot(a, b) <= s.search_deg]))
    planned = np.array([needle_direction(n) for n in expected])
    fan = np.zeros((0, 3))
    for d in planned:
        new = d + disc @ _across(d)
        new /= np.linalg.norm(new, axis=1, keepdims=True)
        known = (new @ fan.T).max(1, initial=-1.0) > np.cos(np.radians(0.7 * s.vote_step_deg))
        fan = np.concatenate([fan, new[~known]])
    near = (fan @ planned.T).max(1) >= np.cos(np.radians(s.vote_near_deg))
    scaled = scan.scaled(fan)
    return scaled / np.linalg.norm(scaled, axis=1, keepdims=True), near


def _across(direction: FloatArray) -> FloatArray:
    """Two unit vectors (..., 2, 3) perpendicular to directions (..., 3) and to each other."""
    helper = np.eye(3)[np.argmin(np.abs(direction), -1)]
    u = np.cross(direction, helper)
    u /= np.linalg.norm(u, axis=-1, keepdims=True)
    return np.stack([u, np.cross(direction, u)], -2)


class _Votes:
    """Every direction projects the points onto a plane of bins across it; where most meet is a line."""

    def __init__(
        self, points: FloatArray, directions: FloatArray, near: BoolArray, s: Settings
    ) -> None:
        self._directions, self._near, self._bin = directions, near, s.vote_bin
        self._fewest = s.min_length_mm / s.blur_mm
        self._across = _across(directions)
        self._centre = points.mean(0)
        # One direction at a time: threads of BLAS would wait for a busy core longer than they work.
        plane = np.matmul(self._across, (points - self._centre).T) / s.vote_bin
        self._half = int(np.ceil(np.abs(plane).max())) + 1
        bins = np.floor(plane).astype(np.int32) + self._half
        side, rank = 2 * self._half, np.arange(len(directions), dtype=np.int32)
        self._flat = (rank[:, None] * side + bins[:, 0]) * side + bins[:, 1]

    def best(self, alive: BoolArray) -> list[Line]:
        """The line on which most of the points that are left lie, and the best near the plan if
        that is another; none where too few are left."""
        side, count = 2 * self._half, len(self._directions)
        votes = np.bincount(self._flat[:, alive].ravel(), minlength=count * side**2)
        votes = votes.reshape(count, side, side)
        votes = votes[:, :-1] + votes[:, 1:]
        votes = votes[:, :, :-1] + votes[:, :, 1:]
        most = votes.reshape(count, -1).max(1)
        ranks = [int(most.argmax())]
        if not self._near[ranks[0]]:
            ranks.append(int(np.where(self._near, most, -1).argmax()))
        return [self._line(d, votes[d]) for d in ranks if most[d] >= self._fewest]

    def _line(self, d: int, votes: IntArray) -> Line:
        u, v = np.unravel_index(int(votes.argmax()), votes.shape)
        offset = (np.array([u, v]) + 1 - self._half) * self._bin
        return Line(self._centre + offset @ self._across[d], self._directions[d])


def _on_points(line: Line, points: FloatArray, s: Settings) -> Line:
    """The line through the points beside it, drawn in step by step."""
    for gate in (5.0, 4.0, s.tube):
        near = points[line.distance(points) < gate]
        line = fitted(line, near, np.ones(len(near)))
    return line


# --------------------------------------------------------------------------- whose line


@dataclass(frozen=True)
class _Deviation:
    """Of a metal from an expected needle, LPS: across it and, when the tip was seen, along it, mm;
    and the small turn from its direction to the metal's, degrees about axes (3)."""

    across_mm: FloatArray
    along_mm: FloatArray
    turn_deg: FloatArray


def _matches(
    metals: Sequence[Metal], expected: Sequence[NeedleConfig], s: Settings
) -> list[int | None]:
    """For each expected needle the metal that is it. Needles move together: every pair of a metal
    and a needle proposes a common motion, and the one that explains most with least wins."""
    none: list[int | None] = [None] * len(expected)
    if not metals or not expected:
        return none
    pairs = [[_deviation(m, n) for n in expected] for m in metals]
    still = _Deviation(np.zeros(3), np.zeros(3), np.zeros(3))
    best, best_cost = none, np.inf
    for common in [still, *(p for row in pairs for p in row)]:
        cost = np.array([[_misfit(p, common, s) for p in row] for row in pairs])
        rows, columns = linear_sum_assignment(np.minimum(cost, s.unmatched))
        total = _unlikely(common, s) + s.unmatched * len(expected)
        total += float(np.minimum(cost[rows, columns] - s.unmatched, 0.0).sum())
        if total < best_cost:
            best_cost, best = total, list(none)
            for m, n in zip(rows, columns, strict=True):
                best[n] = int(m) if cost[m, n] < s.unmatched else None
    return best


def _deviation(metal: Metal, needle: NeedleConfig) -> _Deviation:
    d = needle_direction(needle)
    offset = metal.tip_lps_mm - needle.tip_lps_mm
    lean = max(float(metal.direction @ d), 0.2)  # that of another needle may lie across
    across = offset - metal.direction * (offset @ d) / lean
    along = (offset @ d) * d if metal.tip_seen else np.full(3, np.nan)
    return _Deviation(across, along, np.degrees(np.cross(d, metal.direction)))


def _misfit(pair: _Deviation, common: _Deviation, s: Settings) -> float:
    """Squared standard deviations of a pair from the common motion."""
    along = np.nan_to_num(pair.along_mm - common.along_mm)
    across, turn = pair.across_mm - common.across_mm, pair.turn_deg - common.turn_deg
    squares = (
        across @ across / s.across_sd_mm**2,
        along @ along / s.along_sd_mm**2,
        turn @ turn / s.turn_sd_deg**2,
    )
    return float(sum(squares))


def _unlikely(common: _Deviation, s: Settings) -> float:
    """Squared standard deviations of a common motion from none."""
    shift, turn = common.across_mm + np.nan_to_num(common.along_mm), common.turn_deg
    return float(shift @ shift / s.common_sd_mm**2 + turn @ turn / s.common_sd_deg**2)
