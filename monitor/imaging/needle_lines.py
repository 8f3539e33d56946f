"""Lines through a CT, fitted to points, and the voxels around them. LPS mm, HU.

Fits are made in the *scaled frame*: the slices' own row, column and normal axes, each divided by the
scan's blur along it, so that errors are equal in all directions; distances in it are plain numbers.
Invariant: a line points the way it did before it was fitted, towards the entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.geometry import FloatArray
from monitor.model import CtVolume

IntArray = npt.NDArray[np.intp]


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
    # What is no brighter than soft tissue is no metal, whatever air surrounds it.
    tissue_hu: float = 60.0
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

    def unit_mm(self, line: Line) -> float:
        """Millimetres of one step along a line."""
        return float(np.linalg.norm(self.blur_mm * line.direction))

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
class Tube:
    """The voxels around a line: scaled centres (n, 3) and Hounsfield units (n)."""

    points: FloatArray
    hu: FloatArray


def tube_around(scan: Scan, line: Line, first: float, last: float) -> Tube:
    """The voxels around a line between two positions along it."""
    pieces = list(_pieces(scan, line, first, last))
    if not pieces:
        return Tube(np.zeros((0, 3)), np.zeros(0))
    index = np.concatenate(pieces)
    points = scan.centres(index)
    near = line.distance(points) < scan.settings.shell[1]
    return Tube(points[near], scan.volume.hu[tuple(index[near].T)].astype(float))


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
