"""A plane's picture out of a CT volume: an averaged slab of Hounsfield units, at its LPS place.

Volumes are (slice, row, column) int16 with their ``SliceGeometry``; pictures are (vertical, right)
float32 whose pixel centres lie at ``right_mm`` and ``vertical_mm`` (ascending, uniform, LPS).
Slices along the patient axes, flipped or turned, are cut directly; tilted or oblique stacks are
resampled. Slabs are averaged, never maxima: a maximum would hide dark ice.
Invariant: where the scan did not look (outside it, or in a gap wider than its slices) is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from monitor.geometry import SliceGeometry
from monitor.view.planes import Plane

Float32 = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.floating[Any]]
Volume = npt.NDArray[np.int16]
SLAB_MM = 3.0
_ALIGNED = 1e-4
# Half as much again as a slice is thick is table rounding; more is a hole (as in resampling).
_GAP_TOLERANCE = 1.5


@dataclass(frozen=True)
class Picture:
    """Hounsfield units of a plane, with the coordinates of the pixel centres."""

    hu: Float32
    right_mm: FloatArray
    vertical_mm: FloatArray
    slab_mm: float


class Stack:
    """A volume ready to be cut. ``axes`` (x, y, z ascending) exist where it is patient-aligned."""

    def __init__(self, hu: Volume, geometry: SliceGeometry) -> None:
        self.hu = hu
        self.geometry = geometry
        self.aligned = _aligned(hu, geometry)

    def picture(
        self, plane: Plane, at_mm: float, extent_mm: tuple[float, ...], slab_mm: float = SLAB_MM
    ) -> Picture | None:
        """The plane at ``at_mm`` within ``extent_mm`` (right low/high, vertical low/high), averaged over
        ``slab_mm``, or over one slice where that is thicker."""
        if self.aligned is not None:
            return _cut(*self.aligned, self.geometry, plane, at_mm, extent_mm, slab_mm)
        return _resampled(self.hu, self.geometry, plane, at_mm, extent_mm, slab_mm)


def _aligned(hu: Volume, g: SliceGeometry) -> tuple[Any, tuple[FloatArray, ...], int] | None:
    """The volume as (z, y, x) with ascending coordinates and the LPS axis its slices are along;
    None when its axes are not the patient's."""
    directions = np.array([g.slice_axis, g.column_direction, g.row_direction])
    main = np.abs(directions).argmax(1)
    if sorted(main) != [0, 1, 2] or not np.all(np.abs(directions).max(1) > 1 - _ALIGNED**2):
        return None
    steps = (
        np.asarray(g.slice_offsets_mm, float),
        g.row_spacing_mm * np.arange(g.rows),
        g.column_spacing_mm * np.arange(g.columns),
    )
    axes: list[FloatArray] = [np.zeros(0)] * 3
    view: Any = hu
    for array_axis, lps_axis in enumerate(main):
        sign = np.sign(directions[array_axis, lps_axis])
        coordinates = g.origin_lps_mm[lps_axis] + sign * steps[array_axis]
        axes[lps_axis] = coordinates if sign > 0 else coordinates[::-1]
        view = view if sign > 0 else np.flip(view, array_axis)
    order = [int(np.flatnonzero(main == lps_axis)[0]) for lps_axis in (2, 1, 0)]
    return np.transpose(view, order), tuple(axes), int(main[0])


def _cut(
    view: Any,
    axes: tuple[FloatArray, ...],
    slice_lps_axis: int,
    g: SliceGeometry,
    plane: Plane,
    at_mm: float,
    extent_mm: tuple[float, ...],
    slab_mm: float,
) -> Picture | None:
    """The slab around ``at_mm``, cropped to what the pane shows."""
    reach_mm = _reach(g) if plane.across == slice_lps_axis else None
    slab = _slab(axes[plane.across], at_mm, reach_mm, slab_mm)
    right = _span(axes[plane.right], extent_mm[0], extent_mm[1])
    vertical = _span(axes[plane.vertical], extent_mm[2], extent_mm[3])
    if slab is None or right is None or vertical is None:
        return None
    box: list[slice] = [slice(None)] * 3
    box[2 - plane.across], box[2 - plane.right], box[2 - plane.vertical] = slab, right, vertical
    hu = np.asarray(view[tuple(box)]).mean(axis=2 - plane.across, dtype=np.float32)
    # What remains is (vertical, right): both orders of LPS axes descend, as arrays are (z, y, x).
    picture = Picture(
        hu,
        axes[plane.right][right],
        axes[plane.vertical][vertical],
        _thickness(axes[plane.across], slab, g, plane.across == slice_lps_axis),
    )
    if plane.vertical == slice_lps_axis:
        return _evened(picture, 0, g)
    return _evened(picture, 1, g) if plane.right == slice_lps_axis else picture


def _slab(axis: FloatArray, at_mm: float, reach_mm: float | None, slab_mm: float) -> slice | None:
    """Indices whose average stands for ``at_mm``: all within half a slab, or the nearest one."""
    near = np.flatnonzero(np.abs(axis - at_mm) <= slab_mm / 2 + 1e-6)
    if len(near) > 1:
        return slice(int(near[0]), int(near[-1]) + 1)
    nearest = int(np.abs(axis - at_mm).argmin())
    step = float(np.median(np.diff(axis))) if len(axis) > 1 else 1.0
    if abs(axis[nearest] - at_mm) > (reach_mm if reach_mm is not None else step) / 2 + 1e-6:
        return None
    return slice(nearest, nearest + 1)


def _reach(g: SliceGeometry) -> float:
    """How far apart slices may lie and still stand for the tissue between them."""
    return _GAP_TOLERANCE * max(g.slice_thickness_mm, g.slice_spacing_mm)


def _thickness(axis: FloatArray, slab: slice, g: SliceGeometry, along_slices: bool) -> float:
    step = float(np.median(np.diff(axis))) if len(axis) > 1 else g.slice_thickness_mm
    single = g.slice_thickness_mm if along_slices else step
    return float(axis[slab.stop - 1] - axis[slab.start]) + single


def _span(axis: FloatArray, low_mm: float, high_mm: float) -> slice | None:
    """Indices within [low, high] and one or two beyond, so that the pane is filled to its edge."""
    inside = np.flatnonzero((axis >= low_mm) & (axis <= high_mm))
    if not len(inside):
        return None
    return slice(max(0, int(inside[0]) - 2), min(len(axis), int(inside[-1]) + 3))


def _evened(p: Picture, array_axis: int, g: SliceGeometry) -> Picture:
    """Slices at any spacing, onto uniform pixels; NaN in gaps that are too wide."""
    axis = p.vertical_mm if array_axis == 0 else p.right_mm
    if len(axis) < 2:
        return p
    gaps = np.diff(axis)
    step = float(gaps.min())
    if np.ptp(gaps) < 1e-3 * step:
        return p
    even = np.arange(axis[0], axis[-1] + 0.5 * step, step)
    k = np.interp(even, axis, np.arange(len(axis)))
    low = np.clip(np.floor(k).astype(int), 0, len(axis) - 2)
    weight = (k - low).astype(np.float32)
    rows = np.moveaxis(p.hu, array_axis, 0)
    out = rows[low] * (1 - weight)[:, None] + rows[low + 1] * weight[:, None]
    from_lower = (k - low) * gaps[low]
    hole = np.minimum(from_lower, gaps[low] - from_lower) > _reach(g) / _GAP_TOLERANCE / 2 + 1e-6
    out[(gaps[low] > _reach(g)) & hole] = np.nan
    hu = np.moveaxis(out, 0, array_axis)
    if array_axis == 0:
        return Picture(hu, p.right_mm, even, p.slab_mm)
    return Picture(hu, even, p.vertical_mm, p.slab_mm)


def _resampled(
    hu: Volume,
    g: SliceGeometry,
    plane: Plane,
    at_mm: float,
    extent_mm: tuple[float, ...],
    slab_mm: float,
) -> Picture | None:
    """A patient-aligned plane through a tilted stack, by linear interpolation."""
    step = max(min(g.column_spacing_mm, g.row_spacing_mm), 0.5)
    right = np.arange(extent_mm[0], extent_mm[1] + step, step)
    vertical = np.arange(extent_mm[2], extent_mm[3] + step, step)
    total = np.zeros((len(vertical), len(right)), np.float32)
    thick = max(3, 2 * round(slab_mm / 4.0) + 1) if g.slice_spacing_mm < slab_mm else 1
    depths = slab_mm * ((np.arange(thick) + 0.5) / thick - 0.5)
    for depth in depths:
        points = np.empty((len(vertical), len(right), 3))
        points[..., plane.across] = at_mm + depth
        points[..., plane.right] = right
        points[..., plane.vertical] = vertical[:, None]
        total += _sampled(hu, g, g.to_index_zyx(points))
    if np.isnan(total).all():
        return None
    slab = slab_mm if len(depths) > 1 else g.slice_thickness_mm
    return Picture(total / np.float32(len(depths)), right, vertical, slab)


def _sampled(hu: Volume, g: SliceGeometry, index: FloatArray) -> Float32:
    low = np.clip(np.floor(index.reshape(-1, 3).min(0)).astype(int), 0, np.array(hu.shape) - 1)
    high = np.clip(np.ceil(index.reshape(-1, 3).max(0)).astype(int) + 1, low + 1, hu.shape)
    part = np.asarray(hu[low[0] : high[0], low[1] : high[1], low[2] : high[2]])
    out = ndimage.map_coordinates(
        part, np.moveaxis(index - low, -1, 0), output=np.float32, order=1, mode="nearest"
    )
    out[~_seen(g, index)] = np.nan
    return np.asarray(out, np.float32)


def _seen(g: SliceGeometry, index: FloatArray) -> npt.NDArray[np.bool_]:
    """Inside the slices' outlines, and within reach of a slice."""
    k, j, i = np.moveaxis(index, -1, 0)
    last = len(g.slice_offsets_mm) - 1
    end = 0.5 * g.slice_thickness_mm / g.slice_spacing_mm
    seen: npt.NDArray[np.bool_] = (
        (j >= -0.5) & (j <= g.rows - 0.5) & (i >= -0.5) & (i <= g.columns - 0.5)
    )
    seen &= (k >= -end) & (k <= last + end)
    if last < 1:
        return seen
    gaps = np.diff(np.asarray(g.slice_offsets_mm))
    below = np.clip(np.floor(k).astype(int), 0, len(gaps) - 1)
    from_lower = (k - below) * gaps[below]
    reach = _reach(g) / _GAP_TOLERANCE
    hole = np.minimum(from_lower, gaps[below] - from_lower) > reach / 2 + 1e-6
    return np.asarray(seen & ~((gaps[below] > _reach(g)) & hole), bool)


def difference(now: Picture, before: Picture, moved_mm: tuple[float, float]) -> Picture:
    """What has changed since ``before``, whose tissue has moved by (right, vertical) mm: on the pixels of
    ``now``, NaN where either did not look."""
    axes = (
        (now.vertical_mm - moved_mm[1], before.vertical_mm),
        (
            now.right_mm - moved_mm[0],
            before.right_mm,
        ),
    )
    index = [np.interp(want, have, np.arange(len(have)), -1.0, -1.0) for want, have in axes]
    rows, columns = (i.astype(np.float32) for i in index)
    then = ndimage.map_coordinates(
        before.hu, np.meshgrid(rows, columns, indexing="ij"), output=np.float32, order=1
    )
    then[rows < 0], then[:, columns < 0] = np.nan, np.nan
    return Picture(now.hu - then, now.right_mm, now.vertical_mm, now.slab_mm)


def grey(hu: Float32, level_hu: float, width_hu: float) -> npt.NDArray[np.uint8]:
    """Grey values of a window; NaN is black, as air is."""
    scaled = (hu - (level_hu - width_hu / 2)) * (255.0 / max(width_hu, 1.0))
    return np.asarray(np.nan_to_num(np.clip(scaled, 0, 255), nan=0.0), np.uint8)
