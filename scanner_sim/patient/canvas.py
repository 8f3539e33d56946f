"""Paints level functions into CT numbers and labels, with texture and soft edges. HU, LPS mm.

Levels are smooth, so they are evaluated on a coarse grid and interpolated to the voxels; coarse
points are bent by smooth noise first (``wobble``), so that no organ is a clean ellipsoid.
Invariant: later paint covers earlier paint; a voxel's label is the tissue that fills most of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy import ndimage

from scanner_sim.bodies import Level
from scanner_sim.frame import FloatArray, Frame
from scanner_sim.scenario import Tissue, tissue_names

# Fine voxels per coarse cell, (z, y, x), and over how many mm an edge is soft.
_RATIO = (2, 3, 3)
_SOFT_MM = 0.8
# Texture: lobules and grain, periodic lattices of this many points.
_LATTICE, _LOBULE_MM, _GRAIN_MM = 48, 5.0, 1.3
_WOBBLE_MM, _WOBBLE_CELL_MM = 3.0, 46.0

Box = tuple[npt.ArrayLike, npt.ArrayLike]


class Wobble:
    """A smooth random displacement of space, a few millimetres strong."""

    def __init__(self, frame: Frame, rng: np.random.Generator) -> None:
        axes = (frame.z, frame.y, frame.x)
        self._low = np.array([a[0] for a in axes]) - 2.0 * _WOBBLE_CELL_MM
        size = [int((a[-1] - a[0]) / _WOBBLE_CELL_MM) + 6 for a in axes]
        self._lattice = _WOBBLE_MM * rng.standard_normal((3, *size)).astype(np.float32)

    def __call__(
        self, x: FloatArray, y: FloatArray, z: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        x, y, z = np.broadcast_arrays(x, y, z)
        at = [(p - low) / _WOBBLE_CELL_MM for p, low in zip((z, y, x), self._low, strict=True)]
        moved = [
            p + ndimage.map_coordinates(field, at, order=2, mode="nearest", output=np.float32)
            for p, field in zip((x, y, z), self._lattice, strict=True)
        ]
        return (moved[0], moved[1], moved[2])


class Canvas:
    """HU float32 and label uint8 volumes (z, y, x) on ``frame``, painted body by body."""

    def __init__(
        self,
        frame: Frame,
        tissues: Mapping[str, Tissue],
        wobble: Wobble,
        rng: np.random.Generator,
    ) -> None:
        self.frame = frame
        self.hu = np.full(frame.shape, -1000.0, np.float32)
        self.label = np.zeros(frame.shape, np.uint8)
        self._tissues = tissues
        self._labels = {name: n for n, name in enumerate(tissue_names())}
        self._axes = [
            _coarse(a, r) for a, r in zip((frame.z, frame.y, frame.x), _RATIO, strict=True)
        ]
        z, y, x = np.meshgrid(*self._axes, indexing="ij", sparse=True)
        self.bent = wobble(x, y, z)
        shape = (3, _LATTICE, _LATTICE, _LATTICE)
        noise = ndimage.gaussian_filter(
            rng.standard_normal(shape).astype(np.float32), (0, 0.6, 0.6, 0.6), mode="wrap"
        )
        self._noise = noise / noise.std()

    def field(self, level: Level, bent: bool = True) -> FloatArray:
        """A level on the whole coarse grid, to be combined and painted."""
        if bent:
            return np.asarray(level(*self.bent), np.float32)
        z, y, x = np.meshgrid(*self._axes, indexing="ij", sparse=True)
        return np.asarray(np.broadcast_to(level(x, y, z), self.bent[0].shape), np.float32)

    def paint_field(
        self,
        field: FloatArray,
        tissue: str,
        *,
        above_mm: float = -np.inf,
        hu_offset: float = 0.0,
        first: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        """Paints where ``above_mm`` < field < 0; ``first`` is the field's place on the grid."""
        t = self._tissues[tissue]
        values = (t.hu + hu_offset, t.grain_hu, float(self._labels[tissue]), above_mm)

        def slab(low: int, high: int) -> None:
            _paint(
                self.hu, self.label, field, np.array(first), low, high, np.array(_RATIO),
                np.array(values, np.float32), np.array(self.frame.origin_lps_mm, np.float32),
                np.array(self.frame.spacing_mm, np.float32), self._noise,
            )  # fmt: skip

        in_slabs(field.shape[0] - 1, slab)

    def paint(
        self,
        level: Level,
        tissue: str,
        box: Box,
        *,
        above_mm: float = -np.inf,
        hu_offset: float = 0.0,
        bent: bool = True,
    ) -> None:
        """Paints a level within a box (corners x, y, z) only."""
        parts = self.window(*box)
        if parts is None:
            return
        if bent:
            points = tuple(p[parts] for p in self.bent)
        else:
            axes = [axis[p] for axis, p in zip(self._axes, parts, strict=True)]
            z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
            points = (x, y, z)
        shape = tuple(p.stop - p.start for p in parts)
        field = np.broadcast_to(level(*points), shape).astype(np.float32)
        self.paint_field(
            field,
            tissue,
            above_mm=above_mm,
            hu_offset=hu_offset,
            first=(parts[0].start, parts[1].start, parts[2].start),
        )

    def window(self, low: npt.ArrayLike, high: npt.ArrayLike) -> tuple[slice, slice, slice] | None:
        """The part of the coarse grid in a box (corners x, y, z); None when none is."""
        parts = []
        for axis, a, b in zip(
            self._axes, np.asarray(low, float)[::-1], np.asarray(high, float)[::-1], strict=True
        ):
            i = max(int(np.searchsorted(axis, a)) - 1, 0)
            j = min(int(np.searchsorted(axis, b)) + 1, len(axis))
            if j - i < 2:
                return None
            parts.append(slice(i, j))
        return (parts[0], parts[1], parts[2])


def in_slabs(count: int, work: Callable[[int, int], None]) -> None:
    """``work(low, high)`` over 0..count, a piece per core; ``work`` releases the GIL."""
    pieces = os.cpu_count() or 1
    edges = [count * p // pieces for p in range(pieces + 1)]
    with ThreadPoolExecutor(pieces) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))


def _coarse(axis: FloatArray, ratio: int) -> FloatArray:
    """Every ratio-th voxel, as far as the last one."""
    step = (axis[1] - axis[0]) * ratio
    return np.asarray(axis[0] + step * np.arange(-(-(len(axis) - 1) // ratio) + 1))


@njit(nogil=True, cache=True, fastmath=True)
def _smooth(noise: Any, which: Any, z: Any, y: Any, x: Any) -> Any:  # pragma: no cover - compiled
    """Periodic lattice noise at a point in cells, trilinear."""
    n = noise.shape[1]
    i, j, k = int(np.floor(z)), int(np.floor(y)), int(np.floor(x))
    c, b, a = z - i, y - j, x - k
    total = np.float32(0.0)
    for d in range(8):
        di, dj, dk = d >> 2, (d >> 1) & 1, d & 1
        w = (c if di else 1 - c) * (b if dj else 1 - b) * (a if dk else 1 - a)
        total += w * noise[which, (i + di) % n, (j + dj) % n, (k + dk) % n]
    return total


@njit(nogil=True, cache=True, fastmath=True)
def _paint(
    hu: Any, label: Any, field: Any, first: Any, low: Any, high: Any, ratio: Any,
    values: Any, origin: Any, spacing: Any, noise: Any,
) -> None:  # fmt: skip  # pragma: no cover - compiled
    """Coarse cells ``low``..``high`` of the field; untouched cells cost eight reads."""
    soft = np.float32(_SOFT_MM)
    rz, ry, rx = ratio[0], ratio[1], ratio[2]
    corner = np.empty(8, np.float32)
    for k in range(low, high):
        for j in range(field.shape[1] - 1):
            for i in range(field.shape[2] - 1):
                least, most = np.float32(1e9), np.float32(-1e9)
                for d in range(8):
                    v = field[k + (d >> 2), j + ((d >> 1) & 1), i + (d & 1)]
                    corner[d] = v
                    least, most = min(least, v), max(most, v)
                if least > 0.5 * soft or most < values[3] - 0.5 * soft:
                    continue
                for fz in range(rz):
                    z = (k + first[0]) * rz + fz
                    c = np.float32(fz) / rz
                    for fy in range(ry):
                        y = (j + first[1]) * ry + fy
                        b = np.float32(fy) / ry
                        if z >= hu.shape[0] or y >= hu.shape[1]:
                            continue
                        for fx in range(rx):
                            x = (i + first[2]) * rx + fx
                            if x >= hu.shape[2]:
                                continue
                            a = np.float32(fx) / rx
                            v = (1 - c) * (
                                (1 - b) * ((1 - a) * corner[0] + a * corner[1])
                                + b * ((1 - a) * corner[2] + a * corner[3])
                            ) + c * (
                                (1 - b) * ((1 - a) * corner[4] + a * corner[5])
                                + b * ((1 - a) * corner[6] + a * corner[7])
                            )
                            cover = min(max(0.5 - v / soft, 0.0), 1.0)
                            cover = min(cover, max(0.5 + (v - values[3]) / soft, 0.0))
                            if cover <= 0:
                                continue
                            px = origin[0] + x * spacing[0]
                            py = origin[1] + y * spacing[1]
                            pz = origin[2] + z * spacing[2]
                            grain = _smooth(
                                noise, 0, pz / _LOBULE_MM, py / _LOBULE_MM, px / _LOBULE_MM
                            ) + _smooth(noise, 1, pz / _GRAIN_MM, py / _GRAIN_MM, px / _GRAIN_MM)
                            here = values[0] + values[1] * grain
                            hu[z, y, x] += cover * (here - hu[z, y, x])
                            if cover > 0.5:
                                label[z, y, x] = np.uint8(values[2])
