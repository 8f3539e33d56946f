"""Axis-aligned grids in the patient. LPS mm, arrays (z, y, x).

Invariant: axes ascend; they need not be even (the heat grid widens outwards).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Frame:
    """Voxel centres along the patient axes."""

    x: FloatArray
    y: FloatArray
    z: FloatArray

    @property
    def shape(self) -> tuple[int, int, int]:
        return (len(self.z), len(self.y), len(self.x))

    @property
    def origin_lps_mm(self) -> tuple[float, float, float]:
        return (float(self.x[0]), float(self.y[0]), float(self.z[0]))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """x, y, z; of an even frame."""
        return (
            float(self.x[1] - self.x[0]),
            float(self.y[1] - self.y[0]),
            float(self.z[1] - self.z[0]),
        )

    def grid(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Broadcastable x, y, z."""
        return self.x[None, None, :], self.y[None, :, None], self.z[:, None, None]


def even(low: npt.ArrayLike, high: npt.ArrayLike, spacing_mm: float) -> Frame:
    """A frame from corner to corner (x, y, z)."""
    axes = [
        np.arange(a, b + 1e-6, spacing_mm)
        for a, b in zip(np.asarray(low), np.asarray(high), strict=True)
    ]
    return Frame(*axes)


def on_axes(
    field: FloatArray, frame: Frame, z: FloatArray, y: FloatArray, x: FloatArray
) -> FloatArray:
    """A field at the crossings of three axes, trilinear, 0 beyond the frame."""
    result = np.asarray(field, np.float32)
    for axis, (points, own) in enumerate(((z, frame.z), (y, frame.y), (x, frame.x))):
        low = np.clip(np.searchsorted(own, points, "right") - 1, 0, len(own) - 2)
        shape = [-1 if a == axis else 1 for a in range(3)]
        share = (points - own[low]) / (own[low + 1] - own[low])
        part = np.clip(share, 0, 1).astype(np.float32).reshape(shape)
        inside = ((points >= own[0]) & (points <= own[-1])).reshape(shape)
        result = np.where(
            inside, result.take(low, axis) * (1 - part) + result.take(low + 1, axis) * part, 0
        )
    return result
