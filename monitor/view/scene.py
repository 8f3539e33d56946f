"""What there is to draw: the arrays a snapshot names, and the cursor all planes cut. No Qt.

LPS mm. Arrays are opened read-only by path, once each; a path is never written twice.
Invariant: everything here comes from one snapshot; nothing of an older one is left to be drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.geometry import Grid
from monitor.snapshot import ArrayRef, Snapshot
from monitor.view.images import Stack
from monitor.view.planes import Plane, Point
from monitor.view.views import Views

Array = npt.NDArray[Any]
Named = tuple[str, str, Array, Grid]  # a structure's name, its file, its field and its grid
# The planes show the lesion, its margin and this much around it.
AROUND_MM = 38.0
_FIELD_MM = (90.0, 300.0)


class Arrays:
    """Arrays by path, kept while the snapshot names them."""

    def __init__(self) -> None:
        self._open: dict[str, Array] = {}

    def get(self, ref: ArrayRef | None) -> Array | None:
        if ref is None:
            return None
        if ref.path not in self._open:
            self._open[ref.path] = np.load(Path(ref.path), mmap_mode="r")
        return self._open[ref.path]

    def keep_only(self, paths: set[str]) -> None:
        self._open = {p: a for p, a in self._open.items() if p in paths}


class Scene:
    """The drawable content of the last snapshot, with the operator's cursor and zoom."""

    def __init__(self) -> None:
        self._arrays = Arrays()
        self.snapshot: Snapshot | None = None
        self.stack: Stack | None = None
        self.baseline: tuple[Stack, Point] | None = None
        self.views = Views()
        self.lesion: Array | None = None
        self.ice: Array | None = None
        self.ice_bounds: tuple[Array, Array] | None = None
        self.structures: tuple[Named, ...] = ()
        self.forecast: Array | None = None
        self.band: Array | None = None
        self.lowest: Array | None = None
        self.centre: Point = (0.0, 0.0, 0.0)
        self.field_mm = _FIELD_MM[0]
        self.zoom = 1.0
        self.chosen: Point | None = None

    def take(self, s: Snapshot) -> None:
        """Opens what the snapshot names. Raises OSError or ValueError for an unreadable file."""
        get = self._arrays.get
        # Whatever fails below leaves nothing to draw, and nothing to take for up to date.
        old, self.snapshot = self.snapshot, None
        if old is None or old.volume != s.volume or old.volume_geometry != s.volume_geometry:
            hu = get(s.volume)
            ready = hu is not None and s.volume_geometry is not None
            self.stack = Stack(hu, s.volume_geometry) if ready else None  # type: ignore[arg-type]
        self.baseline = self._compared_with(s)
        grid = s.analysis_grid
        new_lesion = old is None or old.lesion_sdf != s.lesion_sdf or old.analysis_grid != grid
        self.lesion, self.ice = _on(grid, get(s.lesion_sdf)), _on(grid, get(s.ice_sdf))
        inner, outer = _on(grid, get(s.ice_inner_sdf)), _on(grid, get(s.ice_outer_sdf))
        self.ice_bounds = None if inner is None or outer is None else (inner, outer)
        own = s.structure_grids or (grid,) * len(s.structure_sdfs)
        found = (
            (n, r.path, _on(g, get(r)), g) for (n, r), g in zip(s.structure_sdfs, own, strict=True)
        )
        self.structures = tuple((n, p, a, g) for n, p, a, g in found if a is not None and g)
        self.forecast = get(s.forecast_temperature) if s.forecast_grid is not None else None
        self.band = get(s.forecast_band) if self.forecast is not None else None
        self.lowest = get(s.forecast_lowest) if s.forecast_grid is not None else None
        self.snapshot = s
        if new_lesion or self.lesion is None:
            self._look_at_lesion(s)
        refs = (
            s.volume,
            s.baseline.volume if s.baseline else None,
            s.lesion_sdf,
            s.ice_sdf,
            s.ice_inner_sdf,
            s.ice_outer_sdf,
            s.forecast_temperature,
            s.forecast_band,
            s.forecast_lowest,
            *(r for _, r in s.structure_sdfs),
        )
        self._arrays.keep_only({r.path for r in refs if r is not None})

    def _compared_with(self, s: Snapshot) -> tuple[Stack, Point] | None:
        """The baseline, and how far the target has moved since; None where there is nothing to compare."""
        before, grid = s.baseline, s.analysis_grid
        hu = None if before is None else self._arrays.get(before.volume)
        if before is None or hu is None or grid is None or s.volume_id == s.baseline_id:
            return None
        origins = zip(grid.origin_lps_mm, before.analysis_grid.origin_lps_mm, strict=True)
        x, y, z = (now - then for now, then in origins)
        if self.baseline is not None and self.baseline[0].hu is hu:
            return self.baseline[0], (x, y, z)
        return Stack(hu, before.volume_geometry), (x, y, z)

    def _look_at_lesion(self, s: Snapshot) -> None:
        if self.lesion is not None and s.analysis_grid is not None:
            self.centre, size_mm = lesion_box(self.lesion, s.analysis_grid)
            wanted = size_mm + 2 * (s.margin_goal_mm + AROUND_MM)
            self.field_mm = float(np.clip(10 * np.ceil(wanted / 10), *_FIELD_MM))
        elif self.stack is not None:
            self.centre, self.field_mm = _middle(self.stack), _FIELD_MM[1]

    # ------------------------------------------------------------------ the cursor

    def worst(self) -> Point | None:
        """Where the minimal margin is, of the latest assessment."""
        a = self.snapshot.assessment if self.snapshot else None
        at = a.min_margin_at_lps_mm if a else None
        return at if at is not None and bool(np.isfinite(at).all()) else None

    def cursor(self) -> Point:
        """The operator's point, else the worst margin, else the lesion's centre."""
        return self.chosen or self.worst() or self.centre

    def home(self) -> None:
        self.chosen, self.zoom = None, 1.0

    def scroll(self, plane: Plane, steps: int) -> None:
        """Moves the cursor across a plane, a slice (at least 1 mm) a step."""
        point = list(self.cursor())
        point[plane.across] += steps * self._step_mm(plane)
        low, high = self._bounds(plane.across)
        point[plane.across] = float(np.clip(point[plane.across], low, high))
        self.chosen = (point[0], point[1], point[2])

    def point_at(self, plane: Plane, right_mm: float, vertical_mm: float) -> None:
        """Moves the cursor within a plane."""
        point = list(self.cursor())
        point[plane.right], point[plane.vertical] = right_mm, vertical_mm
        self.chosen = (point[0], point[1], point[2])

    def _step_mm(self, plane: Plane) -> float:
        if self.stack is None or plane.across != 2:
            return 1.0
        return max(1.0, min(5.0, self.stack.geometry.slice_spacing_mm))

    def _bounds(self, axis: int) -> tuple[float, float]:
        if self.stack is None:
            return self.centre[axis] - 100.0, self.centre[axis] + 100.0
        corners = _corners(self.stack)[:, axis]
        return float(corners.min()), float(corners.max())


def _on(grid: Grid | None, field: Array | None) -> Array | None:
    """A field that really is on the grid; anything else cannot be placed and is not drawn."""
    return (
        field if grid is not None and field is not None and field.shape == grid.shape_zyx else None
    )


def lesion_box(sdf: Array, grid: Grid) -> tuple[Point, float]:
    """The lesion's centre (its deepest point) and the longest side of its bounding box."""
    deepest = np.array(np.unravel_index(int(np.argmin(sdf)), sdf.shape), float)
    inside = np.argwhere(np.asarray(sdf) <= 0).astype(float)
    size = np.ptp(grid.to_lps_mm(inside), axis=0).max() if len(inside) else 0.0
    x, y, z = grid.to_lps_mm(deepest)
    return (float(x), float(y), float(z)), float(size)


def _corners(stack: Stack) -> Array:
    last = np.array(stack.hu.shape) - 1
    signs = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T
    return stack.geometry.to_lps_mm(signs * last)


def _middle(stack: Stack) -> Point:
    x, y, z = _corners(stack).mean(0)
    return (float(x), float(y), float(z))
