"""From a scan's slices to the analysis grid. LPS mm, Hounsfield units as float32, NaN = not seen.

Every later stage works on one patient-aligned grid, so a tilted gantry or a variable slice gap is
dealt with once, here. Invariant: a voxel is NaN unless the scan measured there: no value is
carried across a gap wider than the slices are thick, or beyond the first and last slice.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from monitor.geometry import FloatArray, Grid, SliceGeometry
from monitor.model import CtVolume, Float32Array

# Slices overlap or abut in practice; half as much again is table-speed rounding, more is a hole.
_GAP_TOLERANCE = 1.5


def hu_on_grid(volume: CtVolume, grid: Grid) -> Float32Array:
    """The scan's Hounsfield units at the grid's voxel centres, (z, y, x), NaN where it did not look."""
    index = volume.geometry.to_index_zyx(grid.points_lps_mm())
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
