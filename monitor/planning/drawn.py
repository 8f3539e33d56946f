"""Bodies drawn by hand: an ellipsoid from two strokes, a spherical brush, a mask on disk. LPS mm.

A drawn body is a level on a grid of its own: negative inside, in mm near the surface (exact for what a
brush or a sphere made). Invariant: a drawn body is never empty, and its grid reaches beyond its surface.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK

from monitor.geometry import FloatArray, Grid
from monitor.model import Float32Array

Point = tuple[float, float, float]

# Shorter is a slip of the hand, longer is no lesion that needles could freeze.
SHORTEST_MM, LONGEST_MM = 3.0, 150.0
_ROOM_MM = 4.0
_FAR_MM = 1e3


class DrawingError(ValueError):
    """What was drawn makes no body; ``code`` names why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Stroke:
    """A straight line drawn in a slice."""

    start_lps_mm: Point
    end_lps_mm: Point

    @property
    def length_mm(self) -> float:
        return float(np.linalg.norm(np.subtract(self.end_lps_mm, self.start_lps_mm)))

    @property
    def middle_lps_mm(self) -> FloatArray:
        return np.asarray(np.add(self.start_lps_mm, self.end_lps_mm)) / 2.0


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """``axes``: three unit vectors, rows; the third is across the slice in which it was drawn. Two are equal
    when they are the same drawing."""

    centre_lps_mm: FloatArray
    axes: FloatArray
    semi_axes_mm: FloatArray

    def scaled_radius(self, points_lps_mm: FloatArray) -> FloatArray:
        """1 on the surface, in proportion elsewhere."""
        own = (points_lps_mm - self.centre_lps_mm) @ self.axes.T / self.semi_axes_mm
        return np.asarray(np.linalg.norm(own, axis=-1))


def ellipsoid(long: Stroke, short: Stroke) -> Ellipsoid:
    """The lesion of a long and a short axis drawn in one slice. What the slice does not show, its depth,
    is taken for that of the short axis. The short axis counts as far as it runs across the long one."""
    if not SHORTEST_MM <= long.length_mm <= LONGEST_MM:
        raise DrawingError("long_axis_length")
    along = np.subtract(long.end_lps_mm, long.start_lps_mm) / long.length_mm
    drawn = np.subtract(short.end_lps_mm, short.start_lps_mm)
    across = drawn - (drawn @ along) * along
    width_mm = float(np.linalg.norm(across))
    if not SHORTEST_MM <= width_mm <= LONGEST_MM:
        raise DrawingError("short_axis_length")
    across = across / width_mm
    axes = np.stack([along, across, np.cross(along, across)])
    semi = np.array([long.length_mm, width_mm, width_mm]) / 2.0
    # Of two strokes that do not quite halve each other, the crossing of their middles' lines.
    offset = (short.middle_lps_mm - long.middle_lps_mm) @ across
    return Ellipsoid(long.middle_lps_mm + offset * across, axes, semi)


def runs_across(e: Ellipsoid, stroke: Stroke) -> bool:
    """Whether a stroke runs across the slice in which the ellipsoid was drawn rather than along it."""
    along = np.subtract(stroke.end_lps_mm, stroke.start_lps_mm)
    return bool(abs(along @ e.axes[2]) > np.sqrt(0.5) * np.linalg.norm(along))


def with_depth(e: Ellipsoid, stroke: Stroke) -> Ellipsoid:
    """The ellipsoid whose third axis reaches as far as a stroke across the first two does. Raises
    ``DrawingError``."""
    third = e.axes[2]
    ends = np.sort(
        [(np.array(p) - e.centre_lps_mm) @ third for p in (stroke.start_lps_mm, stroke.end_lps_mm)]
    )
    depth_mm = float(ends[1] - ends[0])
    if not SHORTEST_MM <= depth_mm <= LONGEST_MM:
        raise DrawingError("short_axis_length")
    semi = np.array([*e.semi_axes_mm[:2], depth_mm / 2.0])
    return Ellipsoid(e.centre_lps_mm + ends.mean() * third, e.axes, semi)


@dataclass(frozen=True, eq=False)
class DrawnBody:
    """Two are equal when they are the same drawing."""

    grid: Grid
    level_mm: Float32Array = field(repr=False)

    @property
    def volume_ml(self) -> float:
        return float((self.level_mm < 0).sum()) * self.grid.voxel_ml

    def holds(self, point_lps_mm: tuple[float, float, float]) -> bool:
        index = np.rint(self.grid.to_index_zyx(np.array(point_lps_mm))).astype(int)
        inside = (index >= 0).all() and (index < self.level_mm.shape).all()
        return bool(inside and self.level_mm[tuple(index)] < 0)


def drawn(grid: Grid, level_mm: FloatArray) -> DrawnBody:
    """A body of a level. Raises ``DrawingError`` where nothing is inside."""
    if not (level_mm < 0).any():
        raise DrawingError("empty")
    level = np.ascontiguousarray(level_mm, np.float32)
    level.setflags(write=False)
    return DrawnBody(grid, level)


def ellipsoid_grid(e: Ellipsoid, times: float) -> Grid:
    """The grid that covers an ellipsoid so many times as large, fine enough for its smallest side."""
    spacing = float(np.clip(e.semi_axes_mm.min() / 10.0, 0.6, 1.25))
    half = np.sqrt(((e.axes * e.semi_axes_mm[:, None] * times) ** 2).sum(0))
    return Grid.around(
        e.centre_lps_mm - half - _ROOM_MM, e.centre_lps_mm + half + _ROOM_MM, spacing
    )


def from_ellipsoid(e: Ellipsoid) -> DrawnBody:
    grid = ellipsoid_grid(e, 1.0)
    radius = e.scaled_radius(grid.points_lps_mm())
    return drawn(grid, (radius - 1.0) * e.semi_axes_mm.min())


def ball(centre_lps_mm: Point, radius_mm: float) -> DrawnBody:
    """The first touch of a brush."""
    centre, r = np.asarray(centre_lps_mm), np.full(3, radius_mm)
    return from_ellipsoid(Ellipsoid(centre, np.eye(3), r))


def brushed(body: DrawnBody, centre_lps_mm: Point, radius_mm: float, add: bool) -> DrawnBody:
    """The body with a sphere added or cut away. What is left of nothing raises ``DrawingError``."""
    body = _covering(body, centre_lps_mm, radius_mm) if add else body
    points = body.grid.points_lps_mm() - np.asarray(centre_lps_mm)
    to_sphere = np.linalg.norm(points, axis=-1) - radius_mm
    if add:
        return drawn(body.grid, np.minimum(body.level_mm, to_sphere))
    return drawn(body.grid, np.maximum(body.level_mm, -to_sphere))


def _covering(body: DrawnBody, centre_lps_mm: Point, radius_mm: float) -> DrawnBody:
    """On a grid that holds the sphere, too: voxels stay where they were."""
    grid, s = body.grid, body.grid.spacing_mm[0]
    centre = np.asarray(centre_lps_mm)
    reach = radius_mm + _ROOM_MM
    low_zyx = np.floor(grid.to_index_zyx(centre - reach)).astype(int)
    high_zyx = np.ceil(grid.to_index_zyx(centre + reach)).astype(int)
    before = np.maximum(-low_zyx, 0)
    after = np.maximum(high_zyx - (np.array(grid.shape_zyx) - 1), 0)
    if not before.any() and not after.any():
        return body
    level = np.pad(
        body.level_mm,
        [(int(b), int(a)) for b, a in zip(before, after, strict=True)],
        constant_values=_FAR_MM,
    )
    origin = np.asarray(grid.origin_lps_mm) - before[::-1] * s
    shape = (level.shape[0], level.shape[1], level.shape[2])
    moved = Grid((float(origin[0]), float(origin[1]), float(origin[2])), grid.spacing_mm, shape)
    return DrawnBody(moved, level)


def from_sdf(grid: Grid, sdf_mm: FloatArray) -> DrawnBody:
    """A body to be edited: a measured or imported one. Raises ``DrawingError`` when it is empty."""
    return drawn(grid, np.clip(sdf_mm, -_FAR_MM, _FAR_MM))


def write_mask(body: DrawnBody, path: Path) -> None:
    """NIfTI: 1 inside. Raises ``OSError``."""
    image = SimpleITK.GetImageFromArray((body.level_mm < 0).astype(np.uint8))
    image.SetOrigin(body.grid.origin_lps_mm)  # ITK's world is LPS
    image.SetSpacing(body.grid.spacing_mm)
    try:
        SimpleITK.WriteImage(image, str(path), True)
    except RuntimeError as error:
        raise OSError(
            f"{path}: cannot be written ({str(error).strip().splitlines()[-1]})"
        ) from None
