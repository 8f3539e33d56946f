"""The metal along a line through a CT: where it begins and ends, how sure. LPS mm, HU.

In the scaled frame of ``needle_lines``. The metal's mass is what stands out from the surroundings of
the line. Invariant: a needle ends where that falls to half, or where the scan does not show more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from monitor.geometry import FloatArray
from monitor.imaging.needle_lines import Line, Scan, Settings, Tube, fitted, tube_around

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

_AIR_HU = -1024
_STEP_MM = 0.25
_STRETCH_MM = 4.0
_PARTS = (np.arange(6) - 2.5) / 6.0


@dataclass(frozen=True)
class Metal:
    """A line of metal in the scan: ``tip_lps_mm`` is where it begins, which ``tip_seen`` says the
    scan did show; ``seen_mm`` of it stand out."""

    tip_lps_mm: FloatArray
    direction: FloatArray
    tip_seen: bool
    quality: float
    seen_mm: float


def measured(
    scan: Scan, line: Line, points: FloatArray, longest_mm: float
) -> tuple[Line, Metal | None]:
    """The line fitted to the metal around it, and what it is if it is a needle."""
    s = scan.settings
    feet = line.foot(points[line.distance(points) < s.tube])
    if not len(feet):
        return line, None
    beyond = s.min_length_mm / scan.unit_mm(line)
    tube = tube_around(scan, line, feet.min() - beyond, feet.max() + beyond)
    run: _Run | None = None
    for _ in range(3):
        run = _estimate(scan, line, tube, run, longest_mm)
        if run is None:
            return line, None
        line = run.line
    if run is None or not run.is_metal(s):
        return line, None
    return line, _needle(scan, _corrected(scan, run, tube, longest_mm))


def _estimate(
    scan: Scan, line: Line, tube: Tube, run: _Run | None, longest_mm: float
) -> _Run | None:
    """The line through the metal (of a run, where there is one) and the run of metal on it."""
    line = _on_metal(scan, line, tube, run)
    return _run(scan, line, _profile(scan, line, tube), longest_mm)


def _corrected(scan: Scan, run: _Run, tube: Tube, longest_mm: float) -> _Run:
    """The run that, shown by the scan's slices, would be estimated as this one was: slices turn an
    oblique needle into stairs, and a tip into a part of a slice."""
    s = scan.settings
    guess = run
    for _ in range(s.corrections):
        shown = replace(tube, hu=_shown_hu(scan, guess, tube))
        again = _estimate(scan, guess.line, shown, guess, longest_mm)
        if again is None:
            return run
        guess = guess.moved(run.tip - again.tip, run.end - again.end)
    off = max(np.linalg.norm(guess.tip - run.tip), np.linalg.norm(guess.end - run.end))
    return guess if off <= s.most_corrected else run


def _shown_hu(scan: Scan, run: _Run, tube: Tube) -> FloatArray:
    """A run of metal as the slices show it, over nothing: averaged over their thickness, as bright
    as this one."""
    direction = run.line.direction * scan.blur_mm
    unit_mm = float(np.linalg.norm(direction))
    direction = direction / unit_mm
    offset = (tube.points - run.tip) * scan.blur_mm
    shown = np.zeros(len(tube.hu))
    for part in _PARTS * scan.box_mm:
        here = offset + np.array([0.0, 0.0, part])
        along = here @ direction
        aside = np.einsum("ij,ij->i", here, here) - along**2
        ends = np.clip(np.minimum(along, run.length_mm - along) / scan.blur_mm[0] + 0.5, 0.0, 1.0)
        shown += ends * np.exp(-0.5 * aside / scan.blur_mm[0] ** 2)
    core = run.line.distance(tube.points) < 0.5 * scan.settings.tube
    core &= shown > 0.2 * shown.max()
    if not core.any():
        return shown
    bright = np.quantile(tube.hu[core], 0.9) / np.quantile(shown[core], 0.9)
    return np.asarray(np.minimum(shown * bright, tube.hu.max()))


def _on_metal(scan: Scan, line: Line, tube: Tube, run: _Run | None) -> Line:
    """The line through all the metal, or through a run of it."""
    s = scan.settings
    along_mm, excess, _ = _excess(scan, line, tube)
    weight = np.minimum(excess, s.saturation_hu)
    if run is not None:
        first, last = line.foot(np.stack([run.tip, run.end])) * scan.unit_mm(line)
        weight = weight * (along_mm > first) * (along_mm < last)
    return fitted(line, tube.points, weight)


@dataclass(frozen=True)
class _Profile:
    """Along a line, at ``along_mm`` (ascending, from the line's point): the metal's mass, the same
    saturated, how bright its core is, and where metal stands out from its surroundings."""

    along_mm: FloatArray
    mass: FloatArray
    presence: FloatArray
    core_hu: FloatArray
    stands_out: BoolArray


@dataclass(frozen=True)
class _Surroundings:
    """In stretches of a line, by their middles, HU: what is usual around it, how bright its core is,
    and the brightest tenth around it; soft tissue at least."""

    along_mm: FloatArray
    usual_hu: FloatArray
    core_hu: FloatArray
    brightest_hu: FloatArray

    @staticmethod
    def of(tube: Tube, along_mm: FloatArray, distance: FloatArray, s: Settings) -> _Surroundings:
        stretch = np.floor(along_mm / _STRETCH_MM).astype(int)
        shell, core = distance > s.shell[0], distance < 0.5 * s.tube
        usual, brightest = _quantiles(tube.hu[shell], stretch[shell], (0.75, 0.9))
        (metal,) = _quantiles(tube.hu[core], stretch[core], (0.9,))
        stretches = np.array(sorted(usual) or [0])
        # Nothing stands out of the unknown; nor does a vessel in lung, bright as it is beside air.
        return _Surroundings(
            (stretches + 0.5) * _STRETCH_MM,
            np.array([max(usual.get(k, np.inf), s.tissue_hu) for k in stretches]),
            np.array([metal.get(k, float(_AIR_HU)) for k in stretches]),
            np.array([max(brightest.get(k, np.inf), s.tissue_hu) for k in stretches]),
        )


def _excess(scan: Scan, line: Line, tube: Tube) -> tuple[FloatArray, FloatArray, _Surroundings]:
    """Of every voxel: where along the line it lies, mm; its HU over what is usual beside it, noise and
    streaks taken off, if it lies on the line, else 0; and the surroundings that say what is usual."""
    s = scan.settings
    along_mm = line.foot(tube.points) * scan.unit_mm(line)
    distance = line.distance(tube.points)
    surroundings = _Surroundings.of(tube, along_mm, distance, s)
    usual = np.interp(along_mm, surroundings.along_mm, surroundings.usual_hu)
    excess = np.maximum(tube.hu - usual - s.floor_hu, 0.0) * (distance < s.tube)
    return along_mm, excess, surroundings


def _quantiles(
    values: FloatArray, groups: IntArray, shares: Sequence[float]
) -> list[dict[int, float]]:
    """Quantiles of the values of each group."""
    if not len(values):
        return [{} for _ in shares]
    # One key for both: faster than sorting by two.
    order = np.argsort(groups * (np.ptp(values) + 1.0) + values)
    ordered, first_name = values[order], int(groups.min())
    counts = np.bincount(groups - first_name)
    filled = np.flatnonzero(counts)
    names, count = (filled + first_name).tolist(), counts[filled]
    first = np.cumsum(count) - count
    at = [first + np.floor(share * (count - 1)).astype(int) for share in shares]
    return [dict(zip(names, ordered[i].tolist(), strict=True)) for i in at]


def _profile(scan: Scan, line: Line, tube: Tube) -> _Profile:
    s = scan.settings
    along_mm, mass, surroundings = _excess(scan, line, tube)
    first = np.floor(along_mm.min() / _STEP_MM)
    step = np.rint(along_mm / _STEP_MM - first).astype(int)
    sigma = _sampling_mm(scan, line) / _STEP_MM
    smooth = [
        ndimage.gaussian_filter1d(np.bincount(step, m), sigma, mode="constant")
        for m in (mass, np.minimum(mass, s.saturation_hu))
    ]
    grid = (first + np.arange(len(smooth[0]))) * _STEP_MM
    nearest = np.abs(grid[:, None] - surroundings.along_mm).argmin(1)
    core_hu = surroundings.core_hu[nearest]
    stands_out = core_hu - surroundings.brightest_hu[nearest] >= s.metal_contrast_hu
    return _Profile(grid, smooth[0], smooth[1], core_hu, stands_out)


def _sampling_mm(scan: Scan, line: Line) -> float:
    """The kernel that carries the profile from voxel to voxel: nearly half their step along it."""
    g = scan.volume.geometry
    edges = np.array([g.column_spacing_mm, g.row_spacing_mm, g.slice_spacing_mm]) / scan.blur_mm
    return 0.45 * float(np.linalg.norm(edges * line.direction)) * scan.unit_mm(line)


@dataclass(frozen=True)
class _Run:
    """Metal from ``tip`` to ``end`` (scaled frame); ``share`` of it stands out, half of it is
    brighter than ``usual_hu``, a tenth brighter than ``bright_hu``."""

    tip: FloatArray
    end: FloatArray
    length_mm: float
    share: float
    usual_hu: float
    bright_hu: float

    @property
    def line(self) -> Line:
        along = self.end - self.tip
        return Line(self.tip, along / np.linalg.norm(along))

    def is_metal(self, s: Settings) -> bool:
        long_and_bright = self.length_mm >= s.min_length_mm and self.bright_hu >= s.metal_hu
        return long_and_bright and self.quality(s) >= s.least_quality

    def quality(self, s: Settings) -> float:
        """Less when there are gaps, little of it is seen, or photons were scarce."""
        enough = min(1.0, self.length_mm / (2.0 * s.min_length_mm))
        return self.share * enough * float(np.clip(self.usual_hu / s.clear_hu, 0.0, 1.0))

    def moved(self, tip: FloatArray, end: FloatArray) -> _Run:
        return replace(self, tip=self.tip + tip, end=self.end + end)


def _run(scan: Scan, line: Line, profile: _Profile, longest_mm: float) -> _Run | None:
    """The stretch of a line with most metal and least gaps; None without."""
    s = scan.settings
    if not profile.stands_out.any():
        return None
    level = float(np.median(profile.presence[profile.stands_out]))
    metal = profile.stands_out & (profile.presence > s.present * level)
    first, last = _densest(np.where(metal, 1.0, -s.gap_cost))
    tip_mm = _tip_mm(profile, first, s)
    end_mm = min(float(profile.along_mm[last]), tip_mm + longest_mm)
    if not end_mm > tip_mm:
        return None
    inside = (profile.along_mm >= tip_mm) & (profile.along_mm <= end_mm)
    share = float(profile.stands_out[inside].mean())
    usual_hu, bright_hu = (float(q) for q in np.quantile(profile.core_hu[inside], (0.5, 0.9)))
    tip, end = (line.point + mm / scan.unit_mm(line) * line.direction for mm in (tip_mm, end_mm))
    return _Run(tip, end, end_mm - tip_mm, share, usual_hu, bright_hu)


def _densest(gain: FloatArray) -> tuple[int, int]:
    """First and last index of the interval with the largest sum."""
    total = np.concatenate([[0.0], np.cumsum(gain)])
    lowest = np.minimum.accumulate(total)
    last = int(np.argmax(total - lowest))
    return int(np.argmin(total[: last + 1])), max(last - 1, 0)


def _tip_mm(profile: _Profile, first: int, s: Settings) -> float:
    """Where the mass falls, outwards from the run's first metal, to half of what it is behind it."""
    mass, grid = profile.mass, profile.along_mm
    behind = mass[first : first + int(s.plateau_mm / _STEP_MM)]
    level = s.half * float(np.median(behind[behind > 0])) if behind.any() else 0.0
    inner = first + int(np.argmax(behind >= level))
    below = np.flatnonzero(mass[:inner] < level)
    if not len(below):
        return float(grid[0])
    i = int(below[-1])
    return float(grid[i] + _STEP_MM * (level - mass[i]) / (mass[i + 1] - mass[i]))


def _needle(scan: Scan, run: _Run) -> Metal:
    tip, end = scan.lps_mm(run.tip), scan.lps_mm(run.end)
    direction = (end - tip) / np.linalg.norm(end - tip)
    shown, quality = _shows(scan, run.tip), run.quality(scan.settings)
    return Metal(tip, direction, shown, quality, run.share * run.length_mm)


def _shows(scan: Scan, tip: FloatArray) -> bool:
    """Whether the scan looked on all sides of a tip, so that metal that ends there does end."""
    g, margin_mm = scan.volume.geometry, scan.settings.end_slices * scan.box_mm
    mm = tip * scan.blur_mm
    heights = np.sort(scan.first_mm[:, 2])
    holes = np.flatnonzero(np.diff(heights) > scan.settings.hole * scan.box_mm)
    low = np.array([-np.inf, *heights[holes], heights[-1]]) + 0.5 * scan.box_mm - margin_mm
    high = np.array([heights[0], *heights[holes + 1], np.inf]) - 0.5 * scan.box_mm + margin_mm
    index = g.to_index_zyx(scan.lps_mm(tip))[1:]
    inside = np.all((index >= 1) & (index <= np.array([g.rows, g.columns]) - 2))
    return bool(inside and not np.any((low < mm[2]) & (mm[2] < high)))
