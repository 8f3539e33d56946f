"""Where voxels lie in the patient. All points are DICOM patient coordinates (LPS), millimetres.

Two kinds of grid: ``SliceGeometry`` is what a scanner sends (any orientation, gantry tilt, slices
at any spacing along one line); ``Grid`` is what we compute on (axes along L, P and S).
Invariant: ``to_index(to_lps(i)) == i`` within the grid, to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Grid:
    """A regular grid along the patient axes. ``origin_lps_mm`` is the centre of voxel (0, 0, 0);
    ``spacing_mm`` and ``origin_lps_mm`` are in the order x, y, z, ``shape_zyx`` as arrays are."""

    origin_lps_mm: tuple[float, float, float]
    spacing_mm: tuple[float, float, float]
    shape_zyx: tuple[int, int, int]

    def to_index_zyx(self, points_lps_mm: FloatArray) -> FloatArray:
        """Fractional (z, y, x) voxel indices of points (..., 3)."""
        index_xyz = (np.asarray(points_lps_mm, float) - self.origin_lps_mm) / self.spacing_mm
        return index_xyz[..., ::-1]

    def to_lps_mm(self, index_zyx: npt.NDArray[Any]) -> FloatArray:
        """Points (..., 3) of fractional (z, y, x) voxel indices."""
        return np.asarray(index_zyx, float)[..., ::-1] * self.spacing_mm + self.origin_lps_mm

    def axes_lps_mm(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Voxel-centre coordinates along x, y and z."""
        nz, ny, nx = self.shape_zyx
        o, s = self.origin_lps_mm, self.spacing_mm
        return (
            o[0] + s[0] * np.arange(nx),
            o[1] + s[1] * np.arange(ny),
            o[2] + s[2] * np.arange(nz),
        )

    def points_lps_mm(self) -> FloatArray:
        """Every voxel centre, (z, y, x, 3)."""
        x, y, z = self.axes_lps_mm()
        zz, yy, xx = np.meshgrid(z, y, x, indexing="ij")
        return np.stack([xx, yy, zz], axis=-1)

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing_mm)) / 1000.0

    @staticmethod
    def around(low_lps_mm: FloatArray, high_lps_mm: FloatArray, spacing_mm: float) -> Grid:
        """The isotropic grid that covers a box, its voxel centres at multiples of the spacing."""
        first = np.floor(np.asarray(low_lps_mm, float) / spacing_mm)
        last = np.ceil(np.asarray(high_lps_mm, float) / spacing_mm)
        nx, ny, nz = (last - first + 1).astype(int)
        x, y, z = first * spacing_mm
        return Grid((float(x), float(y), float(z)), (spacing_mm,) * 3, (int(nz), int(ny), int(nx)))


@dataclass(frozen=True)
class SliceGeometry:
    """A stack of parallel slices whose first pixels lie on one line.

    The centre of pixel (k, row j, column i) is ``origin + offsets[k]·slice_axis +
    i·column_spacing·row_direction + j·row_spacing·column_direction`` (DICOM PS3.3 C.7.6.2.1.1).
    ``slice_axis`` is a unit vector, not perpendicular to the slices when the gantry is tilted;
    ``slice_offsets_mm`` ascends and starts at 0, and need not be uniform.
    ``slice_thickness_mm`` bounds the gap across which interpolation is honest.
    """

    origin_lps_mm: tuple[float, float, float]
    row_direction: tuple[float, float, float]
    column_direction: tuple[float, float, float]
    slice_axis: tuple[float, float, float]
    column_spacing_mm: float
    row_spacing_mm: float
    slice_offsets_mm: tuple[float, ...]
    slice_thickness_mm: float
    rows: int
    columns: int

    @property
    def slice_spacing_mm(self) -> float:
        """The median distance between neighbouring slices; the thickness for a single slice."""
        if len(self.slice_offsets_mm) < 2:
            return self.slice_thickness_mm
        return float(np.median(np.diff(self.slice_offsets_mm)))

    @property
    def tilt_deg(self) -> float:
        """Angle between the slice axis and the slices' normal: the gantry tilt."""
        normal = np.cross(self.row_direction, self.column_direction)
        return float(np.degrees(np.arccos(np.clip(abs(normal @ np.array(self.slice_axis)), 0, 1))))

    def slice_positions_lps_mm(self) -> FloatArray:
        """The centre of each slice's first pixel (ImagePositionPatient), (slices, 3)."""
        offsets = np.asarray(self.slice_offsets_mm)[:, None]
        return np.asarray(self.origin_lps_mm) + offsets * np.asarray(self.slice_axis)

    def to_lps_mm(self, index_zyx: npt.NDArray[Any]) -> FloatArray:
        """Points (..., 3) of fractional (slice, row, column) indices."""
        k, j, i = np.moveaxis(np.asarray(index_zyx, float), -1, 0)
        offset = np.interp(k, np.arange(len(self.slice_offsets_mm)), self.slice_offsets_mm)
        return (
            np.asarray(self.origin_lps_mm)
            + offset[..., None] * np.asarray(self.slice_axis)
            + (i * self.column_spacing_mm)[..., None] * np.asarray(self.row_direction)
            + (j * self.row_spacing_mm)[..., None] * np.asarray(self.column_direction)
        )

    def to_index_zyx(self, points_lps_mm: FloatArray) -> FloatArray:
        """Fractional (slice, row, column) indices of points (..., 3).

        Beyond the first or last slice the slice index is extrapolated with the median spacing.
        """
        axes = np.array([self.row_direction, self.column_direction, self.slice_axis]).T
        along = (np.asarray(points_lps_mm, float) - self.origin_lps_mm) @ np.linalg.inv(axes).T
        offsets = np.asarray(self.slice_offsets_mm)
        u = along[..., 2]
        k = np.interp(u, offsets, np.arange(len(offsets)))
        k = k + np.minimum(u, 0.0) / self.slice_spacing_mm
        k = k + np.maximum(u - offsets[-1], 0.0) / self.slice_spacing_mm
        return np.stack(
            [k, along[..., 1] / self.row_spacing_mm, along[..., 0] / self.column_spacing_mm], -1
        )
