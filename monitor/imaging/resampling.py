"""From a scan's slices to the analysis grid. LPS mm, Hounsfield units as float32, NaN = not seen.

Every later stage works on one patient-aligned grid, so a tilted gantry or a variable slice gap is
dealt with once, here. Invariant: a voxel is NaN unless the scan measured there: no value is
carried across a gap wider than the slices are thick, or beyond the first and last slice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from monitor.geometry import FloatArray, Grid, SliceGeometry
from monitor.model import CtVolume, Float32Array

# Slices overlap or abut in practice; half as much again is table-speed rounding, more is a hole.
_GAP_TOLERANCE = 1.5


def hu_on_grid(
    volume: CtVolume, grid: Grid, moved: Callable[[FloatArray], FloatArray] | None = None
) -> Float32Array:
    """The scan's Hounsfield units at the grid's voxel centres, (z, y, x), NaN where it did not look;
    with ``moved``, at the points (..., 3) where the tissue of those centres lies now."""
    points = grid.points_lps_mm()
    index = volume.geometry.to_index_zyx(points if moved is None else moved(points))
    window, local = _crop(volume, index)
    hu = ndimage.map_coordinates(
        window, np.moveaxis(local, -1, 0), output=np.float32, order=1, mode="nearest"
    )
    hu[~_seen(volume.geometry, index)] = np.nan
    return np.asarray(hu, np.float32)


def _crop(volume: CtVolume, index: FloatArray) -> tuple[npt.NDArray[np.float32], FloatArray]:
    """Only the part of the volume the grid touches, as float, with indices into it."""
    shape = np.array(volume.hu.shape)
    low = np.clip(np.floor(index.reshape(-1, 3).min(0)).astype(int), 0, shape - 1)
    high = np.clip(np.ceil(index.reshape(-1, 3).max(0)).astype(int) + 1, low + 1, shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return volume.hu[box].astype(np.float32), index - low


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
        clip_hu: tuple[float, float],
    ) -> Reduced:
        """The slices and pixels that a box touches, at about ``spacing_mm``."""
        g = volume.geometry
        corners = np.array(np.meshgrid(*zip(low_lps_mm, high_lps_mm, strict=True))).reshape(3, -1).T
        index = g.to_index_zyx(corners)
        factor = max(1, int(spacing_mm / min(g.row_spacing_mm, g.column_spacing_mm)))
        shape = np.array(volume.hu.shape)
        first = np.clip(np.floor(index.min(0)).astype(int) - 1, 0, shape - 1)
        last = np.clip(np.ceil(index.max(0)).astype(int) + 2, first + 1, shape)
        size = (last - first)[1:] // factor
        size = np.maximum(size, 1)
        box = volume.hu[
            first[0] : last[0],
            first[1] : first[1] + size[0] * factor,
            first[2] : first[2] + size[1] * factor,
        ]
        clipped = np.clip(box, *clip_hu).astype(np.float32)
        rows = np.add.reduceat(clipped, np.arange(0, clipped.shape[1], factor), axis=1)
        hu = np.add.reduceat(rows, np.arange(0, rows.shape[2], factor), axis=2)
        hu /= factor * factor
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

    def at(self, points_lps_mm: FloatArray) -> Float32Array:
        """HU at points (..., 3), trilinear; beyond the part, its edge's."""
        index = self._index(points_lps_mm)
        return np.asarray(
            ndimage.map_coordinates(
                self.hu, np.moveaxis(index, -1, 0), order=1, mode="nearest", output=np.float32
            )
        )

    def seen(self, points_lps_mm: FloatArray) -> npt.NDArray[np.bool_]:
        """Which points the scan looked at, as ``hu_on_grid`` means it."""
        index = self.geometry.to_index_zyx(points_lps_mm)
        limits = (np.array(self.hu.shape) - 0.5) * (1, self.factor, self.factor)
        inside = np.all((index - self.first > -0.5) & (index - self.first < limits), axis=-1)
        return inside & _seen(self.geometry, index)

    def _index(self, points_lps_mm: FloatArray) -> FloatArray:
        index = self.geometry.to_index_zyx(points_lps_mm) - self.first
        index[..., 1:] = (index[..., 1:] - 0.5 * (self.factor - 1)) / self.factor
        return index
