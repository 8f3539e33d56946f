"""The three planes of the screen and where LPS millimetres fall on them. Pure.

Planes are patient-aligned: axial (x to the right, y down), coronal (x right, z up), sagittal
(y right, z up), so the patient's right is on the screen's left in axial and coronal, and anterior
on the left in sagittal. Pixels are pane pixels, y down, (0, 0) the pane's top left corner.
Invariant: ``to_mm(to_px(p)) == p``, and all three planes cut the same cursor point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Plane:
    """``across``, ``right`` and ``vertical`` are LPS axes 0..2 (normal, rightwards, vertical);
    ``up`` says whether the vertical coordinate grows upwards. Letters: left, right, top, bottom."""

    name: str
    across: int
    right: int
    vertical: int
    up: bool
    letters: tuple[str, str, str, str]


AXIAL = Plane("axial", 2, 0, 1, False, ("R", "L", "A", "P"))
CORONAL = Plane("coronal", 1, 0, 2, True, ("R", "L", "S", "I"))
SAGITTAL = Plane("sagittal", 0, 1, 2, True, ("A", "P", "S", "I"))
PLANES = (AXIAL, CORONAL, SAGITTAL)


@dataclass(frozen=True)
class Frame:
    """A pane of ``width_px`` × ``height_px`` whose middle is ``centre_lps_mm``."""

    plane: Plane
    centre_lps_mm: Point
    px_per_mm: float
    width_px: int
    height_px: int

    def to_px(self, points_lps_mm: FloatArray) -> FloatArray:
        """Pane pixels (..., 2) of points (..., 3)."""
        p = np.asarray(points_lps_mm, float)
        return self.in_plane_px(p[..., self.plane.right], p[..., self.plane.vertical])

    def in_plane_px(self, right_mm: FloatArray, vertical_mm: FloatArray) -> FloatArray:
        """Pane pixels (..., 2) of in-plane coordinates."""
        c = self.centre_lps_mm
        x = (right_mm - c[self.plane.right]) * self.px_per_mm + self.width_px / 2
        y = (vertical_mm - c[self.plane.vertical]) * self._down() + self.height_px / 2
        return np.stack([x, y], -1)

    def to_mm(self, x_px: float, y_px: float) -> tuple[float, float]:
        """In-plane coordinates (right, vertical) of a pane pixel."""
        c = self.centre_lps_mm
        right = (x_px - self.width_px / 2) / self.px_per_mm + c[self.plane.right]
        return right, (y_px - self.height_px / 2) / self._down() + c[self.plane.vertical]

    def extent_mm(self) -> tuple[float, float, float, float]:
        """In-plane (right low, right high, vertical low, vertical high) that the pane shows."""
        r0, v0 = self.to_mm(0, 0)
        r1, v1 = self.to_mm(self.width_px, self.height_px)
        return min(r0, r1), max(r0, r1), min(v0, v1), max(v0, v1)

    def _down(self) -> float:
        """Pixels downwards per mm of the vertical coordinate."""
        return -self.px_per_mm if self.plane.up else self.px_per_mm
