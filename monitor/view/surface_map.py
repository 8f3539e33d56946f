"""The margin over the lesion's surface, spread out flat. Pure; LPS mm, radians.

Rays from the lesion's deepest point meet its surface for the last time where the margin is read: minus
the ice's signed distance there. They lie on a Mollweide map, which keeps areas: anterior in its middle,
the patient's right on the left, superior on top. What a bent lesion hides behind itself is not on the
map; the smallest margin is marked from the assessment, not from it.
Invariant: where there is no surface or no ice measured the map is NaN, never a margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from monitor.geometry import Grid
from monitor.view.planes import Point

Float32 = npt.NDArray[np.float32]
Array = npt.NDArray[np.floating]
ROWS, COLUMNS = 40, 80
_STEP_MM = 1.0


@dataclass(frozen=True)
class SurfaceMap:
    """``margin_mm`` (row, column), the first row superior; NaN outside the ellipse. ``centre`` is where the
    rays begin."""

    margin_mm: Float32
    centre_lps_mm: Point


def surface_map(lesion_sdf: Array, ice_sdf: Array, grid: Grid, centre: Point) -> SurfaceMap:
    """Rays a few degrees apart, marched outwards through the lesion."""
    directions, inside = _directions()
    box, origin = _cropped(lesion_sdf, grid)
    corners = origin + np.array([[0, 0, 0], box.shape[::-1]]) * np.array(grid.spacing_mm)
    reach_mm = float(np.linalg.norm(np.abs(corners - np.array(centre)).max(0)))
    radii = np.arange(0.0, reach_mm, _STEP_MM).astype(np.float32)
    along = _sampled(box, (np.array(centre) - origin) / grid.spacing_mm, directions, radii, grid)
    at_mm = _last_crossing(along, radii)
    points = np.array(centre) + at_mm[:, None] * directions
    index = (points - grid.origin_lps_mm) / grid.spacing_mm
    margin = -ndimage.map_coordinates(
        np.asarray(ice_sdf, np.float32), index[:, ::-1].T, order=1, mode="nearest"
    )
    flat = np.full((ROWS, COLUMNS), np.nan, np.float32)
    flat[inside] = np.where(np.isfinite(at_mm), margin, np.nan)
    return SurfaceMap(flat, centre)


def on_map(point: Point, centre: Point) -> tuple[float, float] | None:
    """(x, y) of a point's direction, each -1..1 with y up; None for the centre itself."""
    offset = np.array(point, float) - centre
    far = float(np.linalg.norm(offset))
    if not far > 1e-6:
        return None
    x, y, z = offset / far
    latitude, longitude = math.asin(z), math.atan2(x, -y)
    theta = latitude
    for _ in range(12):
        slope = 2.0 + 2.0 * math.cos(2.0 * theta)
        if slope < 1e-9:
            break
        theta -= (2.0 * theta + math.sin(2.0 * theta) - math.pi * math.sin(latitude)) / slope
    return longitude / math.pi * math.cos(theta), math.sin(theta)


def _directions() -> tuple[Array, npt.NDArray[np.bool_]]:
    """Unit vectors (n, 3) of the map's pixels, and which of its pixels they are."""
    y = 1.0 - (np.arange(ROWS) + 0.5) * 2.0 / ROWS
    x = (np.arange(COLUMNS) + 0.5) * 2.0 / COLUMNS - 1.0
    xx, yy = np.meshgrid(x, y)
    inside = xx**2 + yy**2 < 1.0
    theta = np.arcsin(yy[inside])
    latitude = np.arcsin((2.0 * theta + np.sin(2.0 * theta)) / np.pi)
    longitude = np.pi * xx[inside] / np.cos(theta)
    flat = np.cos(latitude)
    vectors = [flat * np.sin(longitude), -flat * np.cos(longitude), np.sin(latitude)]
    return np.stack(vectors, -1), inside


def _cropped(sdf: Array, grid: Grid) -> tuple[Float32, npt.NDArray[np.float64]]:
    """The part of the field that holds the lesion, and where its first voxel lies."""
    inside = np.asarray(sdf) <= 0
    low, high = np.zeros(3, int), np.array([2, 2, 2])
    if inside.any():
        others = ((1, 2), (0, 2), (0, 1))
        spans = [np.flatnonzero(inside.any(axis=axes)) for axes in others]
        low = np.maximum([s[0] - 2 for s in spans], 0)
        high = np.minimum([s[-1] + 3 for s in spans], sdf.shape)
    part = np.asarray(sdf[low[0] : high[0], low[1] : high[1], low[2] : high[2]], np.float32)
    return part, np.array(grid.origin_lps_mm) + low[::-1] * np.array(grid.spacing_mm)


def _sampled(box: Float32, start: Array, directions: Array, radii: Float32, grid: Grid) -> Float32:
    """(ray, radius): the field along the rays; far outside beyond the box."""
    steps = directions / np.array(grid.spacing_mm)
    index = start + radii[None, :, None] * steps[:, None, :]
    found = ndimage.map_coordinates(
        box, np.moveaxis(index[..., ::-1], -1, 0), order=1, mode="constant", cval=1e3,
        output=np.float32,
    )  # fmt: skip
    return np.asarray(found, np.float32)


def _last_crossing(along: Float32, radii: Float32) -> Array:
    """(ray,): where each ray leaves the lesion for good; NaN where it is never in it."""
    inside = along <= 0
    last = along.shape[1] - 1 - np.argmax(inside[:, ::-1], axis=1)
    rows = np.arange(len(along))
    after = np.minimum(last + 1, along.shape[1] - 1)
    a, b = along[rows, last], np.minimum(along[rows, after], _STEP_MM)
    at = radii[last] + _STEP_MM * a / np.minimum(a - b, -1e-6)
    return np.where(inside.any(1), at, np.nan)
