"""From a scan's slices to the analysis grid. LPS mm, Hounsfield units as float32, NaN = not seen.

Every later stage works on one patient-aligned grid, so a tilted gantry or a variable slice gap is
dealt with once, here. Invariant: a voxel is NaN unless the scan measured there: no value is
carried across a gap wider than the slices are thick, or beyond the first and last slice.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from monitor.geometry import FloatArray, Grid, SliceGeometry
from monitor.model import CtVolume, Float32Array

# Slices overlap or abut in practice; half as much again is table-speed rounding, more is a hole.
_GAP_TOLERANCE = 1.5
# Planes of the grid at a time: what belongs to them stays in the processor's cache.
_PLANES = 4
_WORKERS = 2


def hu_on_grid(
    volume: CtVolume, grid: Grid, displacement_mm: Float32Array | None = None
) -> Float32Array:
    """The scan's Hounsfield units at the grid's voxel centres, (z, y, x), NaN where it did not look;
    with ``displacement_mm`` (component x y z; z, y, x), so far beside the centres: where their tissue
    lies now."""
    points = grid.points_lps_mm()
    if displacement_mm is not None:
        points += np.moveaxis(displacement_mm, 0, -1)
    hu = np.empty(grid.shape_zyx, np.float32)

    def fill(planes: slice) -> None:
        index = volume.geometry.to_index_zyx(points[planes])
        ndimage.map_coordinates(
            volume.hu, np.moveaxis(index, -1, 0), output=hu[planes], order=1, mode="nearest"
        )
        hu[planes][~_seen(volume.geometry, index)] = np.nan

    with ThreadPoolExecutor(_WORKERS) as pool:
        list(pool.map(fill, (slice(k, k + _PLANES) for k in range(0, len(hu), _PLANES))))
    return hu


def _seen(geometry: SliceGeometry, index: FloatArray) -> npt.NDArray[np.bool_]:
    """Where the scan measured: inside the slices' outlines and within reach of a slice."""
    k, j, i = np.moveaxis(index, -1, 0)
    last = len(geometry.slice_offsets_mm) - 1
    half_end = 0.5 * geometry.slice_thickness_mm / geometry.slice_spacing_mm
    inside = (j >= -0.5) & (j <= geometry.rows - 0.5) & (i >= -0.5) & (i <= geometry.columns - 0.5)
    inside &= (k >= -half_end) & (k <= last + half_end)
    return inside & ~_in_gap(geometry, k)


def _in_gap(geometry: SliceGeometry, k: FloatArray) -> npt.NDArray[np.bool_]:
    """Farther than half a slice thickness from both neighbours of a gap that is too wide."""
    offsets = np.asarray(geometry.slice_offsets_mm)
    if len(offsets) < 2:
        return np.zeros(k.shape, bool)
    gaps = np.diff(offsets)
    reach = max(geometry.slice_thickness_mm, geometry.slice_spacing_mm)
    if gaps.max() <= _GAP_TOLERANCE * reach:  # as nearly every scan
        return np.zeros(k.shape, bool)
    below = np.clip(np.floor(k).astype(int), 0, len(gaps) - 1)
    gap = gaps[below]
    from_lower = (k - below) * gap
    rounding = 1e-6 * reach
    hole = np.minimum(from_lower, gap - from_lower) > reach / 2 + rounding
    return (gap > _GAP_TOLERANCE * reach) & hole


@dataclass(frozen=True)
class Reduced:
    """A part of a volume with fewer pixels, clipped in HU: enough to see motion by. Pixel (k, j, i)
    is the mean of ``factor``² pixels of slice ``first[0] + k``."""

    geometry: SliceGeometry
    hu: Float32Array
    first: tuple[int, int, int]
    factor: int

    @staticmethod
    def of(
        volume: CtVolume,
        low_lps_mm: FloatArray,
        high_lps_mm: FloatArray,
        spacing_mm: float,
        clip_hu: tuple[int, int],
    ) -> Reduced:
        """The slices and pixels that a box touches, at about ``spacing_mm``."""
        g = volume.geometry
        corners = np.array(np.meshgrid(*zip(low_lps_mm, high_lps_mm, strict=True))).reshape(3, -1).T
        index = g.to_index_zyx(corners)
        shape = np.array(volume.hu.shape)
        first = np.clip(np.floor(index.min(0)).astype(int) - 1, 0, shape - 1)
        last = np.clip(np.ceil(index.max(0)).astype(int) + 2, first + 1, shape)
        factor = max(1, int(spacing_mm / min(g.row_spacing_mm, g.column_spacing_mm)))
        factor = min(factor, *(int(n) for n in (last - first)[1:]))
        size = (last - first)[1:] // factor
        box = volume.hu[
            first[0] : last[0],
            first[1] : first[1] + size[0] * factor,
            first[2] : first[2] + size[1] * factor,
        ]
        clipped = np.clip(box, *clip_hu)  # still int16: a quarter of the memory to go through
        hu = _sums(_sums(clipped, factor, axis=1), factor, axis=2) / np.float32(factor**2)
        return Reduced(g, hu, (int(first[0]), int(first[1]), int(first[2])), factor)

    def smoothed(self, sigma_mm: float) -> Reduced:
        """Smoothed by a Gaussian in mm; the slices' thickness and the pixels' count towards it."""
        g = self.geometry
        own = np.array([g.slice_thickness_mm, *(2 * [self.factor * g.row_spacing_mm])]) / np.sqrt(
            12
        )
        steps = np.array([g.slice_spacing_mm, *(2 * [self.factor * g.row_spacing_mm])])
        sigma = np.sqrt(np.maximum(sigma_mm**2 - own**2, 0.0)) / steps
        hu = ndimage.gaussian_filter(self.hu, sigma, truncate=2.5, mode="nearest")
        return replace(self, hu=hu)

    def look(self, points_lps_mm: FloatArray) -> tuple[Float32Array, npt.NDArray[np.bool_]]:
        """HU at points (n, 3), trilinear (beyond the part, its edge's), and which of them the scan
        looked at, as ``hu_on_grid`` means it."""
        index = np.ascontiguousarray(self.geometry.to_index_zyx(points_lps_mm).T)
        seen = _seen(self.geometry, index.T)
        index -= np.array(self.first)[:, None]
        limits = (np.array(self.hu.shape) - 0.5) * (1, self.factor, self.factor)
        for along, limit in zip(index, limits, strict=True):
            seen &= (along > -0.5) & (along < limit)
        index[1:] = (index[1:] - 0.5 * (self.factor - 1)) / self.factor
        hu = ndimage.map_coordinates(self.hu, index, order=1, mode="nearest", output=np.float32)
        return hu, seen


def _sums(a: npt.NDArray[Any], count: int, axis: int) -> Float32Array:
    """Sums of ``count`` neighbours along an axis, of which there is a multiple."""
    parts = np.moveaxis(a, axis, 0)
    total = parts[::count].astype(np.float32)
    for first in range(1, count):
        total += parts[first::count]
    return np.moveaxis(total, 0, axis)
