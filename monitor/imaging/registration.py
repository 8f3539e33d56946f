"""Where the plan's tissue lies in a scan. LPS mm; displacement fields (component x y z; z, y, x).

Invariant: without a registration nothing moves: ``Registration.none`` maps every point to itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from monitor.geometry import FloatArray, Grid
from monitor.model import Float32Array, Reason, Status

_INVERSE_STEPS = 12


@dataclass(frozen=True)
class Registration:
    """Tissue that lies at plan point p is seen in the scan at ``p + displacement_mm(p)``, trilinear on
    ``grid`` and constant beyond. ``error_mm`` is the predicted error at the lesion's border (one
    sigma), ``quality`` falls from 1 to 0 as it grows; ``shift_lps_mm`` is the displacement there."""

    grid: Grid
    displacement_mm: Float32Array
    error_mm: float
    quality: float
    shift_lps_mm: tuple[float, float, float]
    status: Status = Status.OK
    reasons: tuple[Reason, ...] = ()

    @property
    def shift_mm(self) -> float:
        return float(np.linalg.norm(self.shift_lps_mm))

    def to_scan(self, points_lps_mm: FloatArray) -> FloatArray:
        """Where plan points (..., 3) are seen in the scan."""
        points = np.asarray(points_lps_mm, float)
        return points + self._at(points)

    def displacement_on(self, grid: Grid) -> Float32Array:
        """The displacement (component x y z; z, y, x) at another grid's voxel centres, mm: as
        ``to_scan`` has it, but axis by axis, since both grids lie along the patient."""
        field = self.displacement_mm
        for xyz, points in enumerate(grid.axes_lps_mm()):
            index = (points - self.grid.origin_lps_mm[xyz]) / self.grid.spacing_mm[xyz]
            field = _interpolated(field, index, axis=3 - xyz)
        return field

    def to_plan(self, points_lps_mm: FloatArray) -> FloatArray:
        """Where the tissue seen at scan points (..., 3) lies in the plan; by fixed-point iteration."""
        seen = np.asarray(points_lps_mm, float)
        plan = seen
        for _ in range(_INVERSE_STEPS):
            plan = seen - self._at(plan)
        return plan

    def _at(self, points: FloatArray) -> FloatArray:
        index = np.moveaxis(self.grid.to_index_zyx(points), -1, 0)
        return np.stack(
            [
                ndimage.map_coordinates(component, index, order=1, mode="nearest")
                for component in self.displacement_mm
            ],
            axis=-1,
        )


def _interpolated(field: Float32Array, index: FloatArray, axis: int) -> Float32Array:
    """Linear values at fractional indices along one axis, constant beyond the ends."""
    index = np.clip(index, 0, field.shape[axis] - 1)
    low = np.floor(index).astype(int)
    high = np.minimum(low + 1, field.shape[axis] - 1)
    share = (index - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(4)])
    result: Float32Array = field.take(low, axis)
    result += share * (field.take(high, axis) - result)
    return result
