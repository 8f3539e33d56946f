"""Bodies as level functions: negative inside, about millimetres near the surface. LPS mm.

Invariant: the same function draws a body into the image, the RTSTRUCT and the truth.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

FloatArray = npt.NDArray[np.floating[Any]]
Level = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]


def ellipsoid(centre: tuple[float, float, float], semi_axes: tuple[float, float, float]) -> Level:
    smallest = min(semi_axes)

    def level(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        u = ((x - centre[0]) / semi_axes[0]) ** 2 + ((y - centre[1]) / semi_axes[1]) ** 2
        return np.asarray((np.sqrt(u + ((z - centre[2]) / semi_axes[2]) ** 2) - 1.0) * smallest)

    return level


def tube(points: FloatArray, radius_mm: float) -> Level:
    """A round tube along a polyline (n, 3)."""

    def level(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        nearest = np.full(np.broadcast(x, y, z).shape, np.inf)
        for a, b in itertools.pairwise(points):
            d = b - a
            t = ((x - a[0]) * d[0] + (y - a[1]) * d[1] + (z - a[2]) * d[2]) / (d @ d)
            t = np.clip(t, 0.0, 1.0)
            square = (
                (x - a[0] - t * d[0]) ** 2 + (y - a[1] - t * d[1]) ** 2 + (z - a[2] - t * d[2]) ** 2
            )
            nearest = np.minimum(nearest, square)
        return np.asarray(np.sqrt(nearest) - radius_mm)

    return level


def sampled(field: FloatArray, origin_xyz: FloatArray, spacing_xyz: FloatArray) -> Level:
    """A level given on a grid (z, y, x) along the patient axes."""

    def level(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        x, y, z = np.broadcast_arrays(x, y, z)
        index = [
            (z - origin_xyz[2]) / spacing_xyz[2],
            (y - origin_xyz[1]) / spacing_xyz[1],
            (x - origin_xyz[0]) / spacing_xyz[0],
        ]
        return np.asarray(ndimage.map_coordinates(field, index, order=1, mode="nearest"))

    return level


def patch(inner: Level, centre: tuple[float, float, float], reach_mm: float) -> Level:
    """The part of a body within reach of a point."""

    def level(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        far = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2) - reach_mm
        return np.maximum(inner(x, y, z), far)

    return level
