"""Measured ice where a scan shows it: at points of the scan, and as a mask on its slices. LPS mm.

The ice is kept as a signed distance in the plan's frame; a point of the scan is first led back to
the tissue's place in the plan. Invariant: nothing is ice where the ice is not known: beyond the
analysis grid, or when the measurement is INVALID.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from monitor.geometry import FloatArray, SliceGeometry
from monitor.imaging.distance import sample
from monitor.imaging.registration import Registration
from monitor.model import Float32Array, IceSegmentation

# Signed distances beyond this are all "far": infinities do not interpolate.
FAR_MM = 50.0
_ROOM_MM = 2.0
# What rounding in DICOM's decimals does to positions, with room.
_ASTRAY_MM = 0.05


def level_at(
    ice: IceSegmentation,
    registration: Registration,
    points_lps_mm: FloatArray,
    sdf_mm: Float32Array | None = None,
) -> FloatArray:
    """Signed distance (mm, negative inside, at most ``FAR_MM``) from the ice at points (..., 3) of
    the scan; from another surface of the measurement when ``sdf_mm`` gives it."""
    field = ice.sdf_mm if sdf_mm is None else sdf_mm
    if field is None:
        return np.full(np.shape(points_lps_mm)[:-1], FAR_MM)
    near = np.clip(field, -FAR_MM, FAR_MM)
    return sample(near, ice.grid, registration.to_plan(points_lps_mm), outside=FAR_MM)


def extent_lps_mm(
    ice: IceSegmentation, registration: Registration
) -> tuple[FloatArray, FloatArray] | None:
    """The box of the scan that holds the ice, with a little room; None without ice."""
    if ice.sdf_mm is None or not (ice.sdf_mm <= 0).any():
        return None
    plan = ice.grid.to_lps_mm(np.argwhere(ice.sdf_mm <= max(ice.grid.spacing_mm)))
    seen = registration.to_scan(plan)
    return seen.min(0) - _ROOM_MM, seen.max(0) + _ROOM_MM


def mask_on(
    geometry: SliceGeometry, ice: IceSegmentation, registration: Registration
) -> npt.NDArray[np.uint8]:
    """1 where the centre of a pixel of these slices (slice, row, column) is inside the ice."""
    mask = np.zeros((len(geometry.slice_offsets_mm), geometry.rows, geometry.columns), np.uint8)
    extent = extent_lps_mm(ice, registration)
    if extent is None:
        return mask
    corners = np.stack(np.meshgrid(*zip(*extent, strict=True)), -1).reshape(-1, 3)
    index = geometry.to_index_zyx(corners)
    low = np.clip(np.floor(index.min(0)).astype(int), 0, mask.shape)
    high = np.clip(np.ceil(index.max(0)).astype(int) + 1, low, mask.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    if mask[box].size:
        centres = np.moveaxis(np.mgrid[box], 0, -1)
        mask[box] = level_at(ice, registration, geometry.to_lps_mm(centres)) <= 0
    return mask


def upright(geometry: SliceGeometry) -> SliceGeometry:
    """Slices that an orthogonal, evenly spaced volume can hold: these, when they are so already;
    otherwise slices of the same orientation and pixels, the median spacing apart along their normal,
    that cover them all."""
    if is_upright(geometry):
        return geometry
    row = np.array(geometry.row_direction)
    normal = np.cross(row, geometry.column_direction)
    normal = normal / np.linalg.norm(normal)
    axes = np.array([row, np.cross(normal, row), normal])
    # First pixels of the slices, along the axes from that of the first slice.
    along = (geometry.slice_positions_lps_mm() - geometry.origin_lps_mm) @ axes.T
    low, high = along.min(0), along.max(0)
    gap_mm = float(np.median(np.diff(along[:, 2])))
    spacing = np.array([geometry.column_spacing_mm, geometry.row_spacing_mm, gap_mm])
    more = np.ceil((high - low) / spacing - 1e-6).astype(int)
    return SliceGeometry(
        origin_lps_mm=_triple(geometry.origin_lps_mm + low @ axes),
        row_direction=geometry.row_direction,
        column_direction=_triple(axes[1]),
        slice_axis=_triple(normal),
        column_spacing_mm=geometry.column_spacing_mm,
        row_spacing_mm=geometry.row_spacing_mm,
        slice_offsets_mm=tuple(float(o) for o in gap_mm * np.arange(more[2] + 1)),
        slice_thickness_mm=geometry.slice_thickness_mm,
        rows=geometry.rows + int(more[1]),
        columns=geometry.columns + int(more[0]),
    )


def is_upright(geometry: SliceGeometry) -> bool:
    """Whether the slices are stacked along their normal, at even distances, to ``_ASTRAY_MM``."""
    row, column = np.array(geometry.row_direction), np.array(geometry.column_direction)
    offsets = np.asarray(geometry.slice_offsets_mm)
    uneven = np.abs(offsets - np.linspace(0.0, offsets[-1], len(offsets))).max()
    leaning = np.linalg.norm(geometry.slice_axis - np.cross(row, column)) * offsets[-1]
    sheared = abs(row @ column) * geometry.rows * geometry.row_spacing_mm
    return bool(max(uneven, leaning, sheared) < _ASTRAY_MM)


def _triple(v: FloatArray) -> tuple[float, float, float]:
    return (float(v[0]), float(v[1]), float(v[2]))
