"""One line of metal in a CT, measured: where it runs, where it begins, how sure. LPS mm, HU.

Fits are made in the *scaled frame*: the slices' own row, column and normal axes, each divided by the
scan's blur along it, so that errors are equal in all directions; distances in it are plain numbers.
Invariant: a line ends where the metal's mass falls to half, or where the scan does not show more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from monitor.geometry import FloatArray
from monitor.model import CtVolume

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

_AIR_HU = -1024


@dataclass(frozen=True)
class Settings:
    """Every number the search depends on, with its reason."""

    # A needle is looked for this far from its expected place: breathing and couch move it by 20 mm.
    search_mm: float = 25.0
    # ... and turned by this much: an organ turns by some degrees, a re-inserted needle by more.
    search_deg: float = 24.0
    # A tube of 1.5 mm in a slice of 5 mm, or starved of photons along the slice, still reads this.
    bright_hu: float = 500.0
    # Nothing wider than a needle: at this distance the metal has ended, in all directions but one.
    beside_mm: float = 5.0
    beside_contrast_hu: float = 300.0
    # Standard deviations of the scan's blur: in the slice (point spread and the needle's radius),
    # and across, as a share of the thickness: a box has 0.29; wider, for the next stair of an
    # oblique needle must lie inside ``tube``.
    blur_mm: float = 0.8
    box_sd: float = 0.36
    # Votes: steps of 3 degrees part a needle of 60 mm by 1.6 mm at its ends, one bin.
    vote_step_deg: float = 3.0
    vote_bin: float = 2.0
    # Where the best line is turned by more, the best within this of the plan is tried too: in thick
    # slices parallel needles can be threaded together.
    vote_near_deg: float = 6.0
    most_points: int = 2500
    # Nearer to each other's axis than two needles can be placed: one needle.
    same_mm: float = 3.0
    # Lines tried in vain (edges of bone that look thin) before the search ends: while needles are
    # missing, and when there is one for each.
    vain_lines: tuple[int, int] = (5, 2)
    # A line with less than this is no needle: ribs are straight over less, seen nearly end-on.
    min_length_mm: float = 14.0
    # In the scaled frame: metal ends here; what surrounds it lies between these.
    tube: float = 3.0
    shell: tuple[float, float] = (4.0, 7.0)
    # Metal stands out from the brightest tenth of its surroundings (a plate of bone crosses them)
    # by this.
    metal_contrast_hu: float = 350.0
    # The brightest tenth of a needle reads at least this: thin edges of bone read 750 to 800 HU in
    # the tuning scans, the weakest needle (1.5 mm, along a slice of 5 mm) 1430 HU. Where half of it
    # reads less than the second number, photons were scarce and the quality is less.
    metal_hu: float = 1150.0
    clear_hu: float = 1500.0
    # Below this quality tips were wrong by up to 13 mm (1.5 mm needles along a slice of 5 mm); the
    # poorest of the tuning scans, right to 0.3 mm, had 0.71.
    least_quality: float = 0.6
    # Excess over the surroundings that is noise and streaks, not metal.
    floor_hu: float = 200.0
    # To where a needle is and how far it goes, brighter metal adds nothing: along a slice the same
    # needle reads from 700 HU to the scanner's highest.
    saturation_hu: float = 700.0
    # A needle goes on over gaps (other needles' streaks, starved slices) that are shorter than the
    # metal beyond them; metal is where more than this share of the usual is present.
    gap_cost: float = 1.0
    present: float = 0.35
    # The tip is where the mass falls to half of what it is over this length behind it: blur moves
    # the half of a step nowhere.
    half: float = 0.5
    plateau_mm: float = 20.0
    # Rounds of correction (the second changes little), and the largest believed (scaled).
    corrections: int = 2
    most_corrected: float = 2.5
    # Towards a hole or the scan's end, this share of a slice does not tell a tip from a needle that
    # goes on; slices farther apart than this many thicknesses leave a hole.
    end_slices: float = 0.25
    hole: float = 1.5
    # Whose line: how far needles move and turn together, and each against the others; a needle that
    # fits no better than ``unmatched`` (a squared number of standard deviations) was not found.
    common_sd_mm: float = 12.0
    common_sd_deg: float = 10.0
    across_sd_mm: float = 4.0
    along_sd_mm: float = 8.0
    turn_sd_deg: float = 6.0
    unmatched: float = 9.0


@dataclass(frozen=True)
class Line:
    """In the scaled frame: a point and a unit direction towards the entry."""

    point: FloatArray
    direction: FloatArray

    def foot(self, points: FloatArray) -> FloatArray:
        """Position of points (n, 3) along the line."""
        return np.asarray((points - self.point) @ self.direction)

    def distance(self, points: FloatArray) -> FloatArray:
        """Distance of points (n, 3) from the line."""
        offset = points - self.point
        along = offset @ self.direction
        squared = np.einsum("ij,ij->i", offset, offset) - along**2
        return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


@dataclass(frozen=True)
class Scan:
    """The slices in the scaled frame: ``first_mm`` (slices, 3) are the row, column and normal
    coordinates of their first pixels; ``axes`` has the frame's axes as rows."""

    volume: CtVolume
    axes: FloatArray
    blur_mm: FloatArray
    box_mm: float
    first_mm: FloatArray
    settings: Settings

    @property
    def pixel_mm(self) -> FloatArray:
        g = self.volume.geometry
        return np.array([g.column_spacing_mm, g.row_spacing_mm])

    def scaled(self, points_lps_mm: FloatArray) -> FloatArray:
        return np.asarray(points_lps_mm, float) @ self.axes.T / self.blur_mm

    def lps_mm(self, scaled: FloatArray) -> FloatArray:
        return (np.asarray(scaled, float) * self.blur_mm) @ self.axes

    def centres(self, index_zyx: IntArray) -> FloatArray:
        """Scaled centres of voxels (n, 3)."""
        k, j, i = index_zyx.T
        mm = self.first_mm[k]
        mm[:, :2] += np.stack([i, j], -1) * self.pixel_mm
        return mm / self.blur_mm


@dataclass(frozen=True)
class Metal:
    """A line of metal in the scan: ``tip_lps_mm`` is where it begins, which ``tip_seen`` says the
    scan did show; ``seen_mm`` of it stand out."""

    tip_lps_mm: FloatArray
    direction: FloatArray
    tip_seen: bool
    quality: float
    seen_mm: float


def open_scan(volume: CtVolume, s: Settings) -> Scan:
    g = volume.geometry
    normal = np.cross(g.row_direction, g.column_direction)
    axes = np.stack([g.row_direction, g.column_direction, normal])
    box_mm = max(g.slice_thickness_mm, g.slice_spacing_mm)
    across_mm = float(np.hypot(s.box_sd * box_mm, 0.5 * s.blur_mm))
    blur_mm = np.array([s.blur_mm, s.blur_mm, across_mm])
    return Scan(volume, axes, blur_mm, box_mm, g.slice_positions_lps_mm() @ axes.T, s)


def fitted(line: Line, points: FloatArray, weight: FloatArray) -> Line:
    """The weighted principal axis of points; the line as it was when there are too few."""
    total = weight.sum()
    if np.count_nonzero(weight) < 5 or not total > 0:
        return line
    centre = weight @ points / total
    offset = points - centre
    direction = np.linalg.eigh((offset * weight[:, None]).T @ offset)[1][:, -1]
    return Line(centre, direction * (1.0 if direction @ line.direction >= 0 else -1.0))


@dataclass(frozen=True)
class _Tube:
    """The voxels around a line: scaled centres (n, 3) and Hounsfield units (n)."""

    points: FloatArray
    hu: FloatArray


@dataclass(frozen=True)
class _Profile:
    """Along a line, at ``along_mm`` (ascending, from the line's point): the metal's mass, the same
    saturated, how bright its core is, and where metal stands out from its surroundings."""

    along_mm: FloatArray
    mass: FloatArray
    presence: FloatArray
    core_hu: FloatArray
    stands_out: BoolArray


_STEP_MM = 0.25
_STRETCH_MM = 4.0
_PARTS = (np.arange(6) - 2.5) / 6.0


def measured(
    scan: Scan, line: Line, points: FloatArray, longest_mm: float
) -> tuple[Line, Metal | None]:
    """The line fitted to the metal around it, and what it is if it is a needle."""
    s = scan.settings
    feet = line.foot(points[line.distance(points) < s.tube])
    if not len(feet):
        return line, None
    beyond = s.min_length_mm / _unit_mm(scan, line)
    tube = _tube(scan, line, feet.min() - beyond, feet.max() + beyond)
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
    scan: Scan, line: Line, tube: _Tube, run: _Run | None, longest_mm: float
) -> _Run | None:
    """The line through the metal (of a run, where there is one) and the run of metal on it."""
    line = _on_metal(scan, line, tube, run)
    return _run(scan, line, _profile(scan, line, tube), longest_mm)


def _corrected(scan: Scan, run: _Run, tube: _Tube, longest_mm: float) -> _Run:
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


def _shown_hu(scan: Scan, run: _Run, tube: _Tube) -> FloatArray:
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


def _tube(scan: Scan, line: Line, first: float, last: float) -> _Tube:
    pieces = list(_pieces(scan, line, first, last))
    if not pieces:
        return _Tube(np.zeros((0, 3)), np.zeros(0))
    index = np.concatenate(pieces)
    points = scan.centres(index)
    near = line.distance(points) < scan.settings.shell[1]
    return _Tube(points[near], scan.volume.hu[tuple(index[near].T)].astype(float))


def _pieces(scan: Scan, line: Line, first: float, last: float) -> Iterator[IntArray]:
    """Indices of a box of voxels in every slice that the line passes, from foot to foot."""
    reach, shape = scan.settings.shell[1], scan.volume.hu.shape
    heights = scan.first_mm[:, 2] / scan.blur_mm[2] - line.point[2]
    rise = float(line.direction[2])
    rise = rise if abs(rise) > 1e-3 else 1e-3
    low, high = np.sort((heights[:, None] + np.array([-reach, reach])) / rise, axis=1).T
    for k in np.flatnonzero((low < last) & (high > first)):
        feet = np.array([max(low[k], first), min(high[k], last)])
        ends = line.point[:2] + feet[:, None] * line.direction[:2]
        pixel = (ends * scan.blur_mm[:2] - scan.first_mm[k, :2]) / scan.pixel_mm
        margin = reach * scan.blur_mm[:2] / scan.pixel_mm
        i0, j0 = np.maximum(np.floor(pixel.min(0) - margin), 0).astype(int)
        i1, j1 = np.minimum(np.ceil(pixel.max(0) + margin) + 1, shape[:0:-1]).astype(int)
        if i1 > i0 and j1 > j0:
            j, i = np.mgrid[j0:j1, i0:i1]
            yield np.stack([np.full(j.size, k), j.ravel(), i.ravel()], -1)


def _on_metal(scan: Scan, line: Line, tube: _Tube, run: _Run | None) -> Line:
    """The line through all the metal, or through a run of it."""
    s = scan.settings
    along_mm = line.foot(tube.points) * _unit_mm(scan, line)
    surroundings = _Surroundings.of(line, tube, along_mm, s)
    excess = np.minimum(surroundings.excess(tube, along_mm, s), s.saturation_hu)
    weight = excess * (line.distance(tube.points) < s.tube)
    if run is not None:
        first, last = line.foot(np.stack([run.tip, run.end])) * _unit_mm(scan, line)
        weight = weight * (along_mm > first) * (along_mm < last)
    return fitted(line, tube.points, weight)


def _unit_mm(scan: Scan, line: Line) -> float:
    """Millimetres of one step along the line."""
    return float(np.linalg.norm(scan.blur_mm * line.direction))


@dataclass(frozen=True)
class _Surroundings:
    """In stretches of a line, by their middles, HU: what is usual around it, how bright its core is,
    and the brightest tenth around it."""

    along_mm: FloatArray
    usual_hu: FloatArray
    core_hu: FloatArray
    brightest_hu: FloatArray

    @staticmethod
    def of(line: Line, tube: _Tube, along_mm: FloatArray, s: Settings) -> _Surroundings:
        distance = line.distance(tube.points)
        stretch = np.floor(along_mm / _STRETCH_MM).astype(int)
        shell, core = distance > s.shell[0], distance < 0.5 * s.tube
        usual, brightest = _quantiles(tube.hu[shell], stretch[shell], (0.75, 0.9))
        (metal,) = _quantiles(tube.hu[core], stretch[core], (0.9,))
        stretches = np.array(sorted(usual) or [0])
        return _Surroundings(
            (stretches + 0.5) * _STRETCH_MM,
            np.array(
                [usual.get(k, np.inf) for k in stretches]
            ),  # nothing stands out of the unknown
            np.array([metal.get(k, float(_AIR_HU)) for k in stretches]),
            np.array([brightest.get(k, np.inf) for k in stretches]),
        )

    def excess(self, tube: _Tube, along_mm: FloatArray, s: Settings) -> FloatArray:
        """Of every voxel over what is usual beside it, noise and streaks taken off."""
        usual = np.interp(along_mm, self.along_mm, self.usual_hu)
        return np.asarray(np.maximum(tube.hu - usual - s.floor_hu, 0.0))


def _quantiles(
    values: FloatArray, groups: IntArray, shares: Sequence[float]
) -> list[dict[int, float]]:
    """Quantiles of the values of each group."""
    order = np.lexsort((values, groups))
    names, first, count = np.unique(groups[order], return_index=True, return_counts=True)
    ordered = values[order]
    at = [first + np.floor(share * (count - 1)).astype(int) for share in shares]
    return [dict(zip(names.tolist(), ordered[i].tolist(), strict=True)) for i in at]


def _profile(scan: Scan, line: Line, tube: _Tube) -> _Profile:
    s = scan.settings
    along_mm = line.foot(tube.points) * _unit_mm(scan, line)
    surroundings = _Surroundings.of(line, tube, along_mm, s)
    mass = surroundings.excess(tube, along_mm, s) * (line.distance(tube.points) < s.tube)
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
    return 0.45 * float(np.linalg.norm(edges * line.direction)) * _unit_mm(scan, line)


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
    tip, end = (line.point + mm / _unit_mm(scan, line) * line.direction for mm in (tip_mm, end_mm))
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
