"""The patient before freezing: CT numbers, tissue labels and bodies. LPS mm, HU, arrays (z, y, x).

``Anatomy`` is all that the rest of the simulator knows, wherever it came from: drawn here, or a
real series (``real_ct``). Invariant: the same seed draws the same patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from scanner_sim.bodies import FloatArray, Level, ellipsoid, patch, tube
from scanner_sim.scenario import Needle, Scenario

TISSUES = ("air", "fat", "muscle", "bone", "bowel", "lesion")
_AIR, _FAT, _MUSCLE, _BONE, _BOWEL, _LESION = range(6)

_BODY = (168.0, 116.0)  # semi-axes of the trunk, x and y
_SKIN_MM, _SUBCUTANEOUS_MM, _WALL_MM = 2.0, 18.0, 13.0


@dataclass(frozen=True)
class Frame:
    """Voxel centres of a scan along the patient axes: x, y, z ascending."""

    x: FloatArray
    y: FloatArray
    z: FloatArray

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        return (
            float(self.x[1] - self.x[0]),
            float(self.y[1] - self.y[0]),
            float(self.z[1] - self.z[0]),
        )

    def grid(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Broadcastable x, y, z."""
        return self.x[None, None, :], self.y[None, :, None], self.z[:, None, None]


@dataclass(frozen=True)
class Anatomy:
    """``hu`` float32 and ``label`` uint8 (into ``TISSUES``) on ``frame``; ``needles`` as placed."""

    frame: Frame
    hu: npt.NDArray[np.float32]
    label: npt.NDArray[np.uint8]
    lesion: Level
    lesion_centre_lps_mm: tuple[float, float, float]
    structures: Mapping[str, Level]
    needles: tuple[Needle, ...]


def scan_frame(scenario: Scenario) -> Frame:
    """The scan's voxel centres, around the patient's axis and the lesion's level."""
    s = scenario.scan
    step = s.fov_mm / s.matrix
    plane = (np.arange(s.matrix) - (s.matrix - 1) / 2) * step
    z = scenario.lesion_centre_lps_mm[2] + (np.arange(s.slices) - (s.slices - 1) / 2) * s.spacing_mm
    return Frame(plane, plane, z)


def draw(scenario: Scenario) -> Anatomy:
    """A trunk at the level of the umbilicus with the scenario's lesion in its wall."""
    frame = scan_frame(scenario)
    rng = np.random.default_rng(scenario.seed)
    canvas = _Canvas(frame, rng)
    depth = _depth(*frame.grid())
    canvas.paint(depth < 0, _FAT, -100.0, 9.0)
    canvas.paint((depth < 0) & (depth > -_SKIN_MM), _MUSCLE, 20.0, 6.0)
    _paint_wall(canvas, depth)
    _paint_inside(canvas, depth)
    bowel = _paint_bowel(canvas, scenario)
    lesion = ellipsoid(scenario.lesion_centre_lps_mm, scenario.lesion_semi_axes_mm)
    canvas.paint(_rough(lesion, canvas) < 0, _LESION, 62.0, 7.0)
    canvas.paint(_table(*frame.grid()) < 0, _AIR, -120.0, 5.0)
    skin = patch(_skin_level, scenario.lesion_centre_lps_mm, 60.0)
    return Anatomy(
        frame,
        canvas.hu,
        canvas.label,
        lesion,
        scenario.lesion_centre_lps_mm,
        {"skin": skin, "bowel": bowel},
        scenario.needles,
    )


class _Canvas:
    """HU and label volumes, and the textures they are painted with."""

    def __init__(self, frame: Frame, rng: np.random.Generator) -> None:
        self.frame = frame
        shape = (len(frame.z), len(frame.y), len(frame.x))
        self.hu = np.full(shape, -1000.0, np.float32)
        self.label = np.zeros(shape, np.uint8)
        self.texture = texture(shape, frame.spacing_mm, rng)

    def paint(self, where: npt.NDArray[np.bool_], label: int, hu: float, grain_hu: float) -> None:
        where = np.broadcast_to(where, self.hu.shape)
        self.hu[where] = hu + grain_hu * self.texture[where]
        self.label[where] = label


def texture(
    shape: tuple[int, ...], spacing_mm: tuple[float, float, float], rng: np.random.Generator
) -> Any:
    """A smooth random field of unit variance: lobules of 12 mm and grain of 3 mm."""
    total = np.zeros(shape, np.float32)
    for size_mm, weight in ((12.0, 0.7), (3.0, 0.7)):
        coarse = tuple(
            max(2, round(n * d / size_mm * 2)) for n, d in zip(shape, spacing_mm[::-1], strict=True)
        )
        noise = ndimage.gaussian_filter(rng.standard_normal(coarse).astype(np.float32), 0.8)
        noise /= noise.std()
        total += weight * ndimage.zoom(
            noise, [n / c for n, c in zip(shape, coarse, strict=True)], order=1
        )
    return total


def _depth(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
    """Roughly the signed distance from the skin's outer surface: negative inside."""
    a, b = _BODY
    r = np.sqrt((x / a) ** 2 + (y / b) ** 2)
    slope = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2) / np.maximum(r, 1e-6)
    return np.asarray((r - 1.0) / np.maximum(slope, 1e-4) + 0.0 * z)


def _skin_level(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
    return np.abs(_depth(x, y, z) + 0.5 * _SKIN_MM) - 0.5 * _SKIN_MM


def _paint_wall(canvas: _Canvas, depth: FloatArray) -> None:
    """Rectus in front with its midline, three flat layers at the sides, muscles of the back."""
    x, y, z = canvas.frame.grid()
    outer = -_SUBCUTANEOUS_MM - _SKIN_MM + 1.5 * np.sin(x / 17.0 + z / 29.0)
    wall = (depth < outer) & (depth > outer - _WALL_MM)
    front = (y < -40) & (np.abs(x) < 78)
    rectus = wall & front & (np.abs(x) > 3.0)
    canvas.paint(rectus, _MUSCLE, 56.0, 6.0)
    side = wall & ~front
    layer = np.mod((outer - depth) / _WALL_MM * 3.0, 1.0)
    canvas.paint(side & (layer > 0.12), _MUSCLE, 54.0, 6.0)
    back = (depth < -8.0) & (depth > -52.0) & (y > 45) & (np.abs(x) < 75) & (np.abs(x) > 4)
    canvas.paint(back, _MUSCLE, 54.0, 7.0)


def _paint_inside(canvas: _Canvas, depth: FloatArray) -> None:
    x, y, z = canvas.frame.grid()
    for side in (-1, 1):
        psoas = ((x - side * 43.0) / 19.0) ** 2 + ((y - 48.0) / 21.0) ** 2 + 0 * z < 1
        canvas.paint(psoas, _MUSCLE, 56.0, 6.0)
    vertebra = (x / 25.0) ** 2 + ((y - 50.0) / 19.0) ** 2 + 0 * z
    disc = np.abs(np.mod(z + 18.0, 36.0) - 18.0) < 4.0
    canvas.paint(vertebra < 1, _BONE, 190.0, 40.0)
    canvas.paint((vertebra < 1) & (vertebra > 0.86), _BONE, 520.0, 60.0)
    canvas.paint((vertebra < 0.95) & disc, _MUSCLE, 80.0, 8.0)
    canvas.paint((x / 9.0) ** 2 + ((y - 78.0) / 8.0) ** 2 + 0 * z < 1, _MUSCLE, 25.0, 4.0)
    arch = (np.abs((x / 17.0) ** 2 + ((y - 77.0) / 14.0) ** 2 - 1.0) < 0.22) & (y > 70) & ~disc
    canvas.paint(arch, _BONE, 430.0, 60.0)
    canvas.paint(
        tube(np.array([[12.0, 22.0, -200.0], [10.0, 22.0, 200.0]]), 9.0)(x, y, z) < 0,
        _MUSCLE,
        42.0,
        3.0,
    )
    canvas.paint(
        tube(np.array([[-16.0, 24.0, -200.0], [-15.0, 24.0, 200.0]]), 10.5)(x, y, z) < 0,
        _MUSCLE,
        40.0,
        3.0,
    )


def _paint_bowel(canvas: _Canvas, scenario: Scenario) -> Level:
    """Loops of small bowel; the one behind the lesion is the structure to spare."""
    x, y, z = canvas.frame.grid()
    cx, cy, cz = scenario.lesion_centre_lps_mm
    near = tube(
        np.array(
            [
                [cx - 45.0, cy + 42.0, cz - 60.0],
                [cx - 14.0, cy + 39.0, cz - 22.0],
                [cx - 2.0, cy + 37.0, cz + 4.0],
                [cx + 16.0, cy + 40.0, cz + 26.0],
                [cx + 44.0, cy + 46.0, cz + 60.0],
            ]
        ),
        12.5,
    )
    others = [
        tube(np.array([[-70.0, -30.0, -70.0], [-58.0, -42.0, -10.0], [-66.0, -34.0, 70.0]]), 15.0),
        tube(np.array([[-30.0, -52.0, -70.0], [-24.0, -38.0, 0.0], [-36.0, -50.0, 70.0]]), 13.0),
        tube(np.array([[-95.0, 5.0, -70.0], [-104.0, 10.0, 70.0]]), 19.0),
        tube(np.array([[100.0, 12.0, -70.0], [106.0, 8.0, 70.0]]), 18.0),
        tube(np.array([[66.0, -14.0, -70.0], [60.0, -8.0, 0.0], [70.0, -18.0, 70.0]]), 14.0),
        tube(np.array([[-40.0, 2.0, -70.0], [-48.0, -4.0, 0.0], [-36.0, 4.0, 70.0]]), 14.0),
        tube(np.array([[18.0, -12.0, -70.0], [24.0, -16.0, 70.0]]), 13.0),
    ]
    for number, loop in enumerate([near, *others]):
        level = loop(x, y, z)
        canvas.paint(level < 0, _BOWEL, 46.0, 6.0)
        canvas.paint(level < -2.5, _BOWEL, 22.0, 12.0)
        if number in (2, 3, 4, 6):
            gas = (level < -3.0) & (y < loop_top(level, canvas.frame.y) + 9.0)
            canvas.paint(gas, _AIR, -930.0, 8.0)
    return near


def loop_top(level: FloatArray, y: FloatArray) -> FloatArray:
    """The front end of a loop in each column: gas rises to it. (z, 1, x)"""
    inside = level < -3.0
    top = np.where(inside.any(1, keepdims=True), y[np.argmax(inside, axis=1)][:, None, :], np.inf)
    return np.asarray(top)


def _rough(level: Level, canvas: _Canvas) -> FloatArray:
    """A lesion's visible edge is not an ellipsoid's; the plan's contour is."""
    return level(*canvas.frame.grid()) + 0.5 * canvas.texture


def _table(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
    bow = 122.0 + (x / 60.0) ** 2 * -4.0
    return np.maximum(np.abs(y - bow - 6.0) - 3.0, np.abs(x) - 190.0) + 0.0 * z
