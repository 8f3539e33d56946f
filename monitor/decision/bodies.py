"""Delineated bodies as points, so that ice is judged where the body is. LPS mm.

A body's points are the voxel centres inside it, each with the volume it stands for, and the points
of its surface, with next to none: the fraction inside the ice and the smallest margin are then
taken over the same points. Invariant: a body has at least one point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.geometry import FloatArray, Grid
from monitor.imaging.distance import resample, signed_distance_mm
from monitor.model import Float32Array, Structure

# Large bodies (skin, bowel) are thinned to about this many points.
_MAX_POINTS = 60_000
_SURFACE_WEIGHT = 1e-6
# Of the grid on which a distance around a body is found.
_AROUND_MM = 1.5


@dataclass(frozen=True)
class Body:
    """``points_lps_mm`` (n, 3), ``weights`` (n,) summing to 1."""

    name: str
    points_lps_mm: FloatArray
    weights: FloatArray
    limit_mm: float | None = None

    @property
    def volume_lps_mm(self) -> FloatArray:
        """The points that stand for equal volumes."""
        return self.points_lps_mm[self._of_volume]

    @property
    def surface_lps_mm(self) -> FloatArray:
        """Those of the surface; all of them where they are all alike."""
        return self.points_lps_mm if self._of_volume.all() else self.points_lps_mm[~self._of_volume]

    @property
    def _of_volume(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.weights > 0.5 * self.weights.max(initial=0.0))


def body(structure: Structure, within: Grid | None = None, grow_mm: float = 0.0) -> Body:
    """The points of a structure, grown by ``grow_mm`` (at most the padding of its own grid);
    with ``within``, only those in that grid's box and 60 mm around it, if any are."""
    sdf = structure.sdf_mm - np.float32(grow_mm)
    inside = np.argwhere(sdf <= 0)
    shell_mm = max(structure.grid.spacing_mm)
    outside = np.argwhere((sdf > 0) & (sdf <= shell_mm))
    surface = _onto_surface(structure.grid, sdf, outside)
    points = np.concatenate([structure.grid.to_lps_mm(inside), surface])
    weights = np.concatenate([np.ones(len(inside)), np.full(len(surface), _SURFACE_WEIGHT)])
    if within is not None:
        near = _near(points, within, 60.0)
        # A structure that lies farther away is known to be far; without points it would be unknown.
        points, weights = (points[near], weights[near]) if near.any() else (points, weights)
    step = max(1, len(points) // _MAX_POINTS)
    if step > 1:
        points, weights = points[::step], weights[::step]
    return Body(structure.name, points, weights / max(weights.sum(), 1e-12), structure.limit_mm)


def around(structure: Structure, grid: Grid, distance_mm: float) -> FloatArray:
    """Points (n, 3) of the surface that lies that far outside a structure, within a grid's box."""
    x, y, z = grid.axes_lps_mm()
    low, high = np.array([x[0], y[0], z[0]]), np.array([x[-1], y[-1], z[-1]])
    wider = Grid.around(low - distance_mm, high + distance_mm, _AROUND_MM)
    sdf = sdf_on(structure, wider) - np.float32(distance_mm)
    points = _onto_surface(wider, sdf, np.argwhere((sdf > 0) & (sdf <= _AROUND_MM)))
    return points[np.all((points >= low) & (points <= high), axis=1)]


def _onto_surface(grid: Grid, sdf: Float32Array, index: npt.NDArray[np.intp]) -> FloatArray:
    """Voxels just outside, moved along the gradient onto the surface; none where it does not come near."""
    if not len(index):
        return np.empty((0, 3))
    gradient = np.array(np.gradient(sdf, *grid.spacing_mm[::-1]))
    k, j, i = index.T
    normal_zyx = gradient[:, k, j, i]
    normal_zyx = normal_zyx / np.maximum(np.linalg.norm(normal_zyx, axis=0), 0.3)
    return np.asarray(grid.to_lps_mm(index) - (sdf[k, j, i] * normal_zyx).T[:, ::-1])


def _near(points: FloatArray, grid: Grid, reach_mm: float) -> FloatArray:
    x, y, z = grid.axes_lps_mm()
    low = np.array([x[0], y[0], z[0]]) - reach_mm
    high = np.array([x[-1], y[-1], z[-1]]) + reach_mm
    return np.asarray(np.all((points >= low) & (points <= high), axis=1))


def sdf_on(structure: Structure, grid: Grid) -> Float32Array:
    """The structure's signed distance on another grid (mm, negative inside), for every voxel."""
    rim_mm = float(structure.sdf_mm.max())
    level = resample(structure.sdf_mm, structure.grid, grid, outside=rim_mm)
    return signed_distance_mm(np.asarray(level, np.float32), grid)
