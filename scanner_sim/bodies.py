"""Bodies as level functions: negative inside, about millimetres near the surface. LPS mm.

Invariant: the same function draws a body into the image, the RTSTRUCT and the truth.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scanner_sim.frame import FloatArray
from scanner_sim.scenario import Body, Point

Level = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
_RIM_MM = 5.0


def ellipsoid(centre: Point, semi_axes: Point) -> Level:
    smallest = min(semi_axes)

    def level(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        u = ((x - centre[0]) / semi_axes[0]) ** 2 + ((y - centre[1]) / semi_axes[1]) ** 2
        return np.asarray((np.sqrt(u + ((z - centre[2]) / semi_axes[2]) ** 2) - 1.0) * smallest)

    return level


def tube(points: npt.ArrayLike, radius_mm: float, end_radius_mm: float | None = None) -> Level:
    """A round tube along a polyline (n, 3); its radius may change evenly from end to end."""
    line = np.asarray(points, float)
    pieces = len(line) - 1
    taper = (radius_mm if end_radius_mm is None else end_radius_mm) - radius_mm

    def level(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        nearest = np.full(np.broadcast(x, y, z).shape, np.inf, np.float32)
        for number, (a, b) in enumerate(itertools.pairwise(line)):
            d = b - a
            t = ((x - a[0]) * d[0] + (y - a[1]) * d[1] + (z - a[2]) * d[2]) / (d @ d)
            t = np.clip(t, 0.0, 1.0)
            square = (
                (x - a[0] - t * d[0]) ** 2 + (y - a[1] - t * d[1]) ** 2 + (z - a[2] - t * d[2]) ** 2
            )
            radius = radius_mm + taper * (number + t) / pieces
            nearest = np.minimum(nearest, np.sqrt(square) - radius)
        return nearest

    return level


def inset(level: Level, by_mm: float) -> Level:
    """What lies at least so deep in a body."""
    return lambda x, y, z: level(x, y, z) + by_mm


def rounded(one: FloatArray, other: FloatArray, by_mm: float) -> FloatArray:
    """What lies in both bodies, the edge between them rounded: values of two levels."""
    near = np.maximum(by_mm - np.abs(one - other), 0.0)
    return np.asarray(np.maximum(one, other) + near**2 / (4.0 * by_mm))


def body_level(body: Body) -> Level:
    """A scenario's own body: an ellipsoid for one point, a tube for more."""
    if len(body.points_lps_mm) == 1:
        return ellipsoid(body.points_lps_mm[0], body.semi_axes_mm)
    return tube(body.points_lps_mm, body.semi_axes_mm[0])


def body_box(body: Body, around_mm: float = 6.0) -> tuple[FloatArray, FloatArray]:
    """Corners of a box that holds the body."""
    points = np.array(body.points_lps_mm)
    reach = np.array(body.semi_axes_mm) + around_mm
    return points.min(0) - reach, points.max(0) + reach


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


def patch(inner: Level, centre: Point, reach_mm: float) -> Level:
    """The part of a body within reach of a point. Farther than ``_RIM_MM`` beyond that, which is more than a
    voxel, it is how far: the body itself is not asked."""

    def level(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        x, y, z = np.broadcast_arrays(x, y, z)
        away = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
        far = np.asarray(away - reach_mm)
        near = np.asarray(far < _RIM_MM)
        far[near] = np.maximum(inner(x[near], y[near], z[near]), far[near])
        return far

    return level
