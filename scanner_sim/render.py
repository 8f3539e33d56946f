"""From the patient and his ice to the images of one scan. HU, LPS mm, (slice, row, column).

Invariant: same scenario, scan number and state, same pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from scanner_sim.frame import FloatArray, Frame
from scanner_sim.freezing.ice import State, changed_hu
from scanner_sim.images import Acquisition, Geometry, Image, Technique
from scanner_sim.patient.anatomy import Anatomy
from scanner_sim.patient.canvas import in_slabs
from scanner_sim.patient.couch import Couch
from scanner_sim.patient.motion import Displacement, displacement
from scanner_sim.scenario import Point, Scan, Scenario
from scanner_sim.tomograph.beam import Beam
from scanner_sim.tomograph.exposure import Exposure, expose
from scanner_sim.tomograph.metal import Rod
from scanner_sim.tomograph.projector import Rays

# Slices are the mean of this many planes; fluoroscopy reaches this far and repeats this often.
_PLANES = 2
_FLUORO_COVER_MM, _FLUORO_EVERY_S = (-7.5, 7.5), 0.6
_HANDLE_MM = 45.0


@dataclass(frozen=True)
class _Blank:
    """A stack before its pixels are there."""

    geometry: Geometry
    slices: int
    technique: Technique
    kernels: tuple[str, ...]


class Renderer:
    """Renders the scans of one procedure."""

    def __init__(
        self, scenario: Scenario, anatomy: Anatomy, whole: Frame, noise: bool = True
    ) -> None:
        """``whole`` holds the slices of a whole scan."""
        self._scenario, self._anatomy, self._noise = scenario, anatomy, noise
        self._whole = whole

    def acquire(
        self, number: int, state: State | None, done: Callable[[int], None] = lambda _: None
    ) -> Acquisition:
        """Scan ``number``; ``state`` None: nothing has been frozen yet."""
        volume = self._tissue(state, self._scenario.scans[number].at_s)
        return self._acquisition(
            number, lambda frame, blank: self._pixels(volume, number, frame, blank, done)
        )

    def described(self, number: int) -> Acquisition:
        """Scan ``number`` without its pixels: every image has an empty array."""
        nothing = np.zeros((0, 0, 0), np.int16)
        return self._acquisition(
            number, lambda _frame, blank: dict.fromkeys(blank.kernels, nothing)
        )

    def displacement(self, number: int) -> Displacement:
        scan = self._scenario.scans[number]
        anatomy = self._anatomy
        return displacement(self._scenario, anatomy.needles, scan, number, anatomy.frame)

    def _tissue(self, state: State | None, time_s: float) -> npt.NDArray[np.float32]:
        """CT numbers on the anatomy's frame, in plan coordinates."""
        if state is None:
            return self._anatomy.hu
        hu = self._anatomy.hu.copy()
        window, values = changed_hu(self._scenario, self._anatomy, state, time_s)
        hu[window] = values
        return hu

    def _acquisition(
        self, number: int, pixels: Callable[[int, _Blank], dict[str, npt.NDArray[np.int16]]]
    ) -> Acquisition:
        s, scan = self._scenario.scanner, self._scenario.scans[number]
        fluoro = scan.kind == "fluoro"
        geometry = self._geometry(scan)
        technique = Technique(s.kvp, s.fluoro_mas if fluoro else s.mas, s.rotation_s)
        count = self.slices(number)
        blank = _Blank(geometry, count, technique, ("soft",) if fluoro else s.kernels)
        duration_s = s.rotation_s if fluoro else s.duration_s * count / s.slices
        images = []
        for frame in range(scan.frames):
            found = pixels(frame, blank)
            time_s = scan.at_s + frame * _FLUORO_EVERY_S
            images += [
                Image(hu, geometry, s.thickness_mm, kernel, technique, time_s, duration_s)
                for kernel, hu in found.items()
            ]
        return Acquisition(number, scan.kind, scan.at_s, tuple(images))

    def _pixels(
        self,
        volume: FloatArray,
        number: int,
        frame: int,
        blank: _Blank,
        done: Callable[[int], None],
    ) -> dict[str, npt.NDArray[np.int16]]:
        s, geometry = self._scenario.scanner, blank.geometry
        moved = self.displacement(number)
        shape = (blank.slices, s.matrix, s.matrix)
        tissue = sampled_hu(volume, self._anatomy, moved, geometry, shape)
        if self._anatomy.couch is not None:
            np.maximum(tissue, _couch_hu(self._anatomy.couch, geometry, s.matrix), out=tissue)
        ends = [moved.needle(n) for n in self._anatomy.needles]
        rods = [self._rods(ends, geometry, k) for k in range(blank.slices)]
        beam = Beam(blank.technique, Rays(s.matrix, geometry.spacing_mm[0]), s.thickness_mm)
        seed = (self._scenario.seed, number, frame)
        found = expose(tissue, Exposure(beam, rods, blank.kernels, seed, self._noise), done)
        for hu in found.values():
            hu.setflags(write=False)
        return found

    def slices(self, number: int) -> int:
        """How many slices a frame of scan ``number`` has, whatever the kernels."""
        return len(self._heights_mm(self._scenario.scans[number]))

    def _heights_mm(self, scan: Scan) -> FloatArray:
        """Where its slices lie above the lesion."""
        heights = self._whole.z - self._anatomy.lesion_centre_lps_mm[2]
        cover = scan.cover_mm or (_FLUORO_COVER_MM if scan.kind == "fluoro" else None)
        if cover is None:
            return heights
        return np.asarray(heights[(heights >= cover[0]) & (heights <= cover[1])])

    def _geometry(self, scan: Scan) -> Geometry:
        """Where the slices of a scan lie."""
        s, frame = self._scenario.scanner, self._anatomy.frame
        tilt = np.radians(s.tilt_deg)
        # A patient who lies prone is seen from the feet as he lies: rows run from left to right.
        way = -1.0 if self._scenario.habitus.prone else 1.0
        row = np.array([way, 0.0, 0.0])
        down = np.array([0.0, way * np.cos(tilt), -np.sin(tilt)])
        dx, dy = frame.spacing_mm[:2]
        middle = np.array([0.5 * (frame.x[0] + frame.x[-1]), 0.5 * (frame.y[0] + frame.y[-1]), 0.0])
        middle[2] = self._anatomy.lesion_centre_lps_mm[2] + self._heights_mm(scan)[0]
        half_x, half_y = 0.5 * dx * (s.matrix - 1), 0.5 * dy * (s.matrix - 1)
        origin = middle - half_x * row - half_y * down
        return Geometry(
            _point(origin), _point(row), _point(down), (0.0, 0.0, s.thickness_mm), (dx, dy)
        )

    def _rods(self, seen: list[tuple[Point, Point]], g: Geometry, k: int) -> list[Rod]:
        """The needles, from tip to handle, in coordinates of slice ``k``."""
        row, column = np.array(g.row_direction), np.array(g.column_direction)
        axes = np.stack([row, column, np.cross(row, column)])
        size = self._scenario.scanner.matrix - 1
        middle = np.array(g.origin_lps_mm) + k * np.array(g.step_lps_mm)
        middle = middle + 0.5 * size * (g.spacing_mm[0] * row + g.spacing_mm[1] * column)
        rods = []
        for needle, needle_ends in zip(self._anatomy.needles, seen, strict=True):
            tip, entry = (np.array(p) for p in needle_ends)
            out = entry + (entry - tip) / np.linalg.norm(entry - tip) * _HANDLE_MM
            ends = [_point(axes @ (p - middle)) for p in (tip, out)]
            rods.append(Rod(ends[0], ends[1], needle.made.radius_mm, needle.made.wall_mm))
        return rods


def _point(v: FloatArray) -> Point:
    return (float(v[0]), float(v[1]), float(v[2]))


def _couch_hu(couch: Couch, g: Geometry, matrix: int) -> npt.NDArray[np.float32]:
    """The couch in any slice of a scan, (row, column): slices follow each other along z."""
    steps = np.arange(matrix)
    x = g.origin_lps_mm[0] + g.row_direction[0] * g.spacing_mm[0] * steps
    y = g.origin_lps_mm[1] + g.column_direction[1] * g.spacing_mm[1] * steps
    return np.asarray(couch.hu(x[None, :], y[:, None]), np.float32)


def sampled_hu(
    volume: FloatArray,
    anatomy: Anatomy,
    moved: Displacement,
    g: Geometry,
    shape: tuple[int, int, int],
) -> npt.NDArray[np.float32]:
    """The tissue seen in each voxel of a scan, mean over the slice's thickness."""
    out = np.zeros(shape, np.float32)
    step = np.array(g.step_lps_mm)
    frames = [
        np.array([f.origin_lps_mm, f.spacing_mm], np.float32) for f in (anatomy.frame, moved.frame)
    ]
    vectors = np.array(
        [
            np.array(g.origin_lps_mm),
            step,
            np.array(g.column_direction) * g.spacing_mm[1],
            np.array(g.row_direction) * g.spacing_mm[0],
        ],
        np.float32,
    )

    def slab(low: int, high: int) -> None:
        fx, fy, fz = moved.field_mm
        _sample(volume, frames[0], fx, fy, fz, frames[1], vectors, low, high, out)

    in_slabs(shape[0], slab)
    return out


@njit(nogil=True, cache=True, fastmath=True)
def _sample(
    volume: Any, own: Any, fx: Any, fy: Any, fz: Any, lattice: Any, vectors: Any, low: Any,
    high: Any, out: Any,
) -> None:  # fmt: skip  # pragma: no cover - compiled
    ny, nx = volume.shape[1:]
    for k in range(low, high):
        for plane in range(_PLANES):
            share = k + (plane + np.float32(0.5)) / _PLANES - np.float32(0.5)
            for j in range(out.shape[1]):
                px = vectors[0, 0] + share * vectors[1, 0] + j * vectors[2, 0]
                py = vectors[0, 1] + share * vectors[1, 1] + j * vectors[2, 1]
                pz = vectors[0, 2] + share * vectors[1, 2] + j * vectors[2, 2]
                for i in range(out.shape[2]):
                    x, y, z = px + i * vectors[3, 0], py + i * vectors[3, 1], pz + i * vectors[3, 2]
                    u = (x - lattice[0, 0]) / lattice[1, 0]
                    v = (y - lattice[0, 1]) / lattice[1, 1]
                    w = (z - lattice[0, 2]) / lattice[1, 2]
                    x += _at(fx, w, v, u)
                    y += _at(fy, w, v, u)
                    z += _at(fz, w, v, u)
                    u = (x - own[0, 0]) / own[1, 0]
                    v = (y - own[0, 1]) / own[1, 1]
                    w = (z - own[0, 2]) / own[1, 2]
                    if u < 0 or v < 0 or u > nx - 1 or v > ny - 1:
                        out[k, j, i] += np.float32(-1000.0) / _PLANES
                    else:
                        out[k, j, i] += _at(volume, w, v, u) / _PLANES


@njit(nogil=True, cache=True, fastmath=True, inline="always")
def _at(a: Any, w: Any, v: Any, u: Any) -> Any:  # pragma: no cover - compiled
    """Trilinear at fractional indices, the edge's value beyond."""
    w = min(max(w, np.float32(0.0)), np.float32(a.shape[0] - 1.001))
    v = min(max(v, np.float32(0.0)), np.float32(a.shape[1] - 1.001))
    u = min(max(u, np.float32(0.0)), np.float32(a.shape[2] - 1.001))
    k, j, i = int(w), int(v), int(u)
    c, b, d = w - k, v - j, u - i
    one = np.float32(1.0)
    return (one - c) * (
        (one - b) * ((one - d) * a[k, j, i] + d * a[k, j, i + 1])
        + b * ((one - d) * a[k, j + 1, i] + d * a[k, j + 1, i + 1])
    ) + c * (
        (one - b) * ((one - d) * a[k + 1, j, i] + d * a[k + 1, j, i + 1])
        + b * ((one - d) * a[k + 1, j + 1, i] + d * a[k + 1, j + 1, i + 1])
    )
