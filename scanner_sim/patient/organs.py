"""What lies inside the trunk's wall: belly and chest. LPS mm; z is 0 at the navel.

Places and sizes are a usual adult's; winding (bowel, vessels) is random, from the scenario's seed.
Invariant: bowel, vessels and organs stay inside the cavity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scanner_sim.bodies import Level, ellipsoid, inset, tube
from scanner_sim.frame import FloatArray
from scanner_sim.patient.canvas import Box, Canvas
from scanner_sim.patient.trunk import Trunk
from scanner_sim.scenario import Point


def dome(x: FloatArray, y: FloatArray) -> FloatArray:
    """Height of the diaphragm above each point, LPS mm."""
    right = 212.0 - 62.0 * (((x + 72.0) / 88.0) ** 2 + ((y - 2.0) / 92.0) ** 2)
    left = 198.0 - 62.0 * (((x - 74.0) / 86.0) ** 2 + ((y - 4.0) / 92.0) ** 2)
    return np.asarray(np.maximum(np.maximum(right, left), 95.0))


class Organs:
    """Level functions of the large organs, unbent."""

    def __init__(self, trunk: Trunk) -> None:
        self._trunk = trunk

    def lungs(self, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        inside = self._trunk.cavity(x, y, z) + 3.0
        middle = 44.0 - np.sqrt((x - 10.0) ** 2 + (0.35 * (y + 10.0)) ** 2)
        spine = 30.0 - np.sqrt(x**2 + (y - 52.0) ** 2)
        behind = np.minimum(20.0 - np.abs(x), y - 52.0)
        return np.maximum(
            np.maximum(inside, 0.8 * (dome(x, y) - z)),
            np.maximum(np.maximum(np.minimum(middle, 55.0 - y), spine), behind),
        )

    def liver(self, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        inside = self._trunk.cavity(x, y, z) + 4.0
        top = 0.8 * (z - dome(x, y) + 5.0)
        bottom = 0.75 * (78.0 + 0.62 * np.clip(x + 95.0, 0.0, 200.0) + 0.18 * (y + 20.0) - z)
        left = 0.6 * (x - 48.0 + 0.5 * (y + 40.0))
        spine = 40.0 - np.sqrt((x - 8.0) ** 2 + (y - 50.0) ** 2)
        return np.maximum(np.maximum(inside, top), np.maximum(np.maximum(bottom, left), spine))

    def within(self, level: Level, room_mm: float = 3.0) -> Level:
        """A body as far as the cavity lets it reach."""
        return lambda x, y, z: np.maximum(level(x, y, z), self._trunk.cavity(x, y, z) + room_mm)

    def pleura(self, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        """The lung's surface as a sheet 2 mm thick."""
        return np.abs(self.lungs(x, y, z)) - 1.0

    def diaphragm(self, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        sheet = np.abs(0.8 * (z - dome(x, y) + 2.5)) - 2.0
        spine = 34.0 - np.sqrt(x**2 + (0.8 * (y - 62.0)) ** 2)
        return np.maximum(np.maximum(sheet, spine), self._trunk.cavity(x, y, z) + 3.0)


@dataclass(frozen=True)
class Spared:
    """Around the lesion, what the scenario draws itself the atlas leaves out: structures to spare
    are those that are named, and no other of their kind is nearer."""

    centre_lps_mm: Point
    reach_mm: float
    names: frozenset[str]

    def near(self, name: str, points_lps_mm: npt.ArrayLike, radius_mm: float) -> bool:
        """Whether a tube of the atlas would come near the lesion where its kind is spared."""
        if name not in self.names:
            return False
        distance = tube(points_lps_mm, radius_mm)(*(np.array([c]) for c in self.centre_lps_mm))
        return bool(distance[0] < self.reach_mm)


def paint_organs(
    canvas: Canvas, trunk: Trunk, rng: np.random.Generator, up: float, spared: Spared
) -> None:
    """What is painted later lies over what was before. Gas rises along y by the sign of ``up``."""
    organs = Organs(trunk)
    z0, z1 = canvas.frame.z[0], canvas.frame.z[-1]
    if z1 > 60.0:
        _paint_upper_belly(canvas, organs, rng, up, spared)
    _paint_large_vessels(canvas)
    if z1 > 20.0:
        for side in (-1, 1):
            _paint_kidney(canvas, side, spared)
    if z0 < 130.0:
        _paint_colon(canvas, organs, rng, up, spared)
        _paint_small_bowel(canvas, organs, rng, up, spared)
    if z1 > 90.0:
        _paint_chest(canvas, organs, rng)
    if z0 < -90.0:
        bladder = ellipsoid((0.0, -48.0, -140.0), (38.0, 30.0, 34.0))
        canvas.paint(bladder, "bowel", ((-45, -85, -180), (45, -10, -100)))
        canvas.paint(inset(bladder, 2.5), "fluid", ((-45, -85, -180), (45, -10, -100)))


def _paint_upper_belly(
    canvas: Canvas, organs: Organs, rng: np.random.Generator, up: float, spared: Spared
) -> None:
    canvas.paint_field(canvas.field(organs.diaphragm), "muscle", hu_offset=-6.0)
    canvas.paint_field(canvas.field(organs.liver), "liver")
    trees: tuple[tuple[list[tuple[float, ...]], float], ...] = (
        ([(-18, -2, 118), (-40, -8, 135), (-70, -2, 148), (-100, 8, 152)], 6.5),
        ([(-40, -8, 135), (-62, -38, 150), (-80, -60, 155)], 5.0),
        ([(-18, 18, 200), (-50, 2, 186), (-85, 12, 168), (-110, 20, 150)], 5.5),
        ([(-18, 18, 200), (-30, -30, 185), (-35, -65, 165)], 5.0),
        ([(-18, 18, 200), (10, -30, 185), (20, -60, 170)], 4.5),
    )
    liver = canvas.field(organs.liver)
    vessels = np.full(liver.shape, 99.0, np.float32)
    for points, radius in trees:
        vessels = np.minimum(vessels, canvas.field(tube(points, radius, 1.5)))
        for start in points[1:]:
            branch = np.array([start, np.add(start, rng.normal(0.0, 26.0, 3))])
            vessels = np.minimum(vessels, canvas.field(tube(branch, 0.45 * radius, 1.0)))
    canvas.paint_field(np.maximum(vessels, liver + 3.0), "blood")
    bladder = ellipsoid((-52.0, -48.0, 98.0), (17.0, 16.0, 30.0))
    if "gallbladder" not in spared.names:
        _hollow(canvas, bladder, 2.0, "fluid", ((-80, -75, 55), (-25, -20, 140)))
    spleen = ellipsoid((112.0, 44.0, 150.0), (30.0, 42.0, 46.0))
    hollow = ellipsoid((78.0, 34.0, 150.0), (26.0, 40.0, 60.0))
    canvas.paint(
        organs.within(lambda x, y, z: np.maximum(spleen(x, y, z), -hollow(x, y, z))),
        "spleen",
        ((70, -10, 95), (155, 100, 205)),
    )
    stomach = ellipsoid((58.0, -34.0, 152.0), (46.0, 36.0, 44.0))
    box: Box = ((5, -80, 98), (115, 12, 206))
    _hollow(canvas, stomach, 4.5, "content", box)
    gas = lambda x, y, z: np.maximum(stomach(x, y, z) + 5.5, 12.0 - up * (y + 34.0))  # noqa: E731
    canvas.paint(gas, "air", box, hu_offset=30.0)
    pancreas = tube(
        [(-32, 4, 92), (-6, -4, 104), (30, 2, 112), (60, 16, 122), (92, 28, 134)], 13, 9
    )
    if "pancreas" not in spared.names:
        canvas.paint(pancreas, "pancreas", ((-50, -25, 75), (108, 50, 150)))
    for side, limbs in (
        (-1, [[(-30, 40, 128), (-34, 52, 136)], [(-30, 40, 128), (-27, 54, 134)]]),
        (1, [[(36, 32, 126), (42, 46, 134)], [(36, 32, 126), (31, 46, 132)]]),
    ):
        for limb in limbs:
            foot = np.add(limb[-1], (side * 1.0, 3.0, -16.0))
            stretched = tube(np.vstack([limb, foot]), 3.4, 2.6)
            canvas.paint(
                stretched, "adrenal", ((side * 35 - 20, 25, 105), (side * 35 + 20, 65, 145))
            )


def _hollow(canvas: Canvas, level: Level, wall_mm: float, content: str, box: Box) -> None:
    canvas.paint(level, "bowel", box)
    canvas.paint(inset(level, wall_mm), content, box)


def _paint_large_vessels(canvas: Canvas) -> None:
    low, high = -200.0, 420.0
    aorta = tube(
        [(2, 20, low), (12, 22, -10), (14, 22, 120), (20, 36, 240), (24, 42, high)], 9.5, 12.5
    )
    cava = tube([(-6, 24, low), (-18, 22, -10), (-20, 16, 150), (-16, 14, 222)], 10.5, 12.0)
    canvas.paint(aorta, "blood", ((-20, 0, low), (50, 70, high)))
    calcified = lambda x, y, z: np.maximum(np.abs(aorta(x, y, z) + 0.8) - 0.8, 12.0 - np.abs(  # noqa: E731
        np.mod(z + 3.0 * x, 31.0) - 15.0))  # fmt: skip
    canvas.paint(calcified, "bone", ((-20, 0, low), (50, 70, high)), hu_offset=-350.0)
    canvas.paint(cava, "blood", ((-45, -5, low), (15, 50, 230)))
    for side, z in ((-1, 66.0), (1, 80.0)):
        renal = tube([(0, 20, z + 8), (side * 28, 30, z + 4), (side * 46, 38, z)], 4.5, 3.5)
        canvas.paint(renal, "blood", ((-60, 5, z - 15), (60, 55, z + 25)))


def _paint_kidney(canvas: Canvas, side: int, spared: Spared) -> None:
    cx, cy, cz = side * 66.0, 44.0, 68.0 + 12.0 * (side > 0)

    def turned(x: FloatArray, y: FloatArray, z: FloatArray) -> tuple[FloatArray, ...]:
        u = x - cx + side * 0.22 * (z - cz)
        v = y - cy - 0.12 * (z - cz)
        return u, v, z - cz

    def shape(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        u, v, w = turned(x, y, z)
        r = np.sqrt((u / 27.0) ** 2 + (v / 25.0) ** 2 + (w / 55.0) ** 2)
        hilum = 15.0 - np.sqrt((u + side * 29.0) ** 2 + (v + 4.0) ** 2 + (0.45 * w) ** 2)
        return np.maximum((r - 1.0) * 25.0, hilum)

    def pyramids(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        u, v, w = turned(x, y, z)
        pattern = np.sin(w / 7.0 + 2.0 * np.sin(np.arctan2(v, u)))
        return np.maximum(shape(x, y, z) + 8.0, -3.0 * pattern - 0.5)

    def sinus(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        u, v, w = turned(x, y, z)
        r = np.sqrt(((u + side * 11.0) / 14.0) ** 2 + (v / 9.0) ** 2 + (w / 30.0) ** 2)
        return np.asarray((r - 1.0) * 9.0)

    box: Box = ((cx - 50, 5, cz - 65), (cx + 50, 85, cz + 65))
    canvas.paint(shape, "kidney", box)
    canvas.paint(pyramids, "medulla", box)
    canvas.paint(sinus, "fat", box, hu_offset=15.0)
    pelvis = tube([(cx - side * 8, cy, cz + 4), (cx - side * 22, cy + 2, cz - 10)], 5.5, 4.0)
    canvas.paint(pelvis, "fluid", box)
    course = [(cx - side * 22, cy + 2, cz - 10), (side * 38, 36, 10), (side * 40, 26, -60),
              (side * 34, 16, -140)]  # fmt: skip
    if not spared.near("ureter", course, 2.6):
        low, high = (side * 45 - 25, 0, -150), (side * 45 + 25, 60, cz)
        canvas.paint(tube(course, 2.6), "fluid", (low, high), hu_offset=14.0)


def _paint_colon(
    canvas: Canvas, organs: Organs, rng: np.random.Generator, up: float, spared: Spared
) -> None:
    courses = (
        ([(-104, 14, -80), (-112, 22, -10), (-108, 20, 62)], 23.0),
        ([(-108, 20, 62), (-86, -22, 66), (-48, -50, 50), (0, -58, 42), (52, -52, 56), (92, -12, 92),
          (112, 28, 112)], 18.0),
        ([(112, 28, 112), (116, 34, 40), (104, 26, -30), (72, 10, -95)], 15.0),
    )  # fmt: skip
    for points, radius in courses:
        level = rng.uniform(-6.0, 4.0)
        course = tube(points, radius)
        rippled = lambda x, y, z, f=course: f(x, y, z) + 3.0 * np.sin(  # noqa: E731
            (x + 0.7 * y + z) / 6.5) ** 2  # fmt: skip
        haustra = organs.within(_elsewhere(rippled, spared))
        low = np.min(points, 0) - radius - 6.0
        high = np.max(points, 0) + radius + 6.0
        canvas.paint(haustra, "bowel", (low, high))
        canvas.paint(inset(haustra, 2.4), "content", (low, high), hu_offset=14.0)
        _paint_gas(canvas, haustra, np.array(points, float), level, (low, high), up)


def _elsewhere(level: Level, spared: Spared) -> Level:
    """The colon passes the lesion at a distance where the scenario draws its own bowel."""
    if "bowel" not in spared.names:
        return level
    kept_mm = spared.reach_mm + 15.0
    around = ellipsoid(spared.centre_lps_mm, (kept_mm, kept_mm, kept_mm))
    return lambda x, y, z: np.maximum(level(x, y, z), -around(x, y, z))


def _paint_gas(
    canvas: Canvas, level: Level, points: FloatArray, height_mm: float, box: Box, up: float
) -> None:
    """Gas fills the upper part of a loop, down to a level below the loop's own middle line."""
    line = points[np.argsort(points[:, 2])]

    def gas(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        middle = np.interp(z, line[:, 2], line[:, 1])
        return np.maximum(level(x, y, z) + 3.2, -up * (y - middle) - height_mm)

    canvas.paint(gas, "air", box, hu_offset=40.0)


def _paint_small_bowel(
    canvas: Canvas, organs: Organs, rng: np.random.Generator, up: float, spared: Spared
) -> None:
    """Loops that wind through the middle of the belly, a third of them with gas, and the vessels of
    the fat between them."""
    for _ in range(70):
        start = rng.uniform((-70, -60, -160), (70, 15, 60))
        end = start + rng.normal(0.0, 1.0, 3) * (22.0, 14.0, 22.0)
        low, high = np.minimum(start, end) - 6.0, np.maximum(start, end) + 6.0
        canvas.paint(tube([start, end], rng.uniform(1.2, 2.2), 0.8), "blood", (low, high))
    for number in range(40):
        start = rng.uniform((-82, -62, -150), (82, 12, 48))
        points = [start]
        for _ in range(4):
            step = rng.normal(0.0, 1.0, 3) * (24.0, 10.0, 16.0)
            nxt = np.clip(points[-1] + step, (-88, -66, -165), (88, 14, 56))
            points.append(nxt)
        radius = rng.uniform(10.0, 14.0)
        shade, height = rng.uniform(-12.0, 16.0), rng.uniform(-6.0, 2.0)
        if spared.near("bowel", points, radius):
            continue
        loop = organs.within(tube(points, radius))
        low, high = np.min(points, 0) - radius - 4.0, np.max(points, 0) + radius + 4.0
        canvas.paint(loop, "bowel", (low, high))
        canvas.paint(inset(loop, 2.2), "content", (low, high), hu_offset=shade)
        if number % 3 == 0:
            _paint_gas(canvas, loop, np.array(points), height, (low, high), up)


def _paint_chest(canvas: Canvas, organs: Organs, rng: np.random.Generator) -> None:
    lungs = canvas.field(organs.lungs)
    canvas.paint_field(lungs, "lung")
    tree = np.full(lungs.shape, 99.0, np.float32)
    for side in (-1, 1):
        for _ in range(46):
            hilum = np.array([side * 40.0, 10.0, 255.0]) + rng.normal(0.0, 9.0, 3)
            end = np.array([side * 90.0, 0.0, 230.0]) + rng.normal(0.0, 1.0, 3) * (38.0, 62.0, 62.0)
            bend = 0.5 * (hilum + end) + rng.normal(0.0, 12.0, 3)
            radius = rng.uniform(1.8, 4.2)
            low = np.min([hilum, bend, end], 0) - 8.0
            high = np.max([hilum, bend, end], 0) + 8.0
            _lower(canvas, tree, tube([hilum, bend, end], radius, 0.9), low, high)
    canvas.paint_field(np.maximum(tree, lungs + 1.0), "blood")
    _paint_airways(canvas)
    heart = ellipsoid((24.0, -30.0, 246.0), (58.0, 46.0, 46.0))
    canvas.paint(heart, "muscle", ((-45, -85, 190), (92, 25, 300)), hu_offset=-10.0)
    canvas.paint(inset(heart, 11.0), "blood", ((-45, -85, 190), (92, 25, 300)))


def _paint_airways(canvas: Canvas) -> None:
    """Windpipe, main and lobar bronchi: air in a wall of a millimetre and more."""
    tubes: list[tuple[list[tuple[float, float, float]], float, float]] = [
        ([(0.0, 6.0, 420.0), (0.0, 12.0, 284.0)], 9.0, 9.0)
    ]
    for side in (-1.0, 1.0):
        hilum = (side * 38.0, 12.0, 262.0)
        tubes.append(([(0.0, 12.0, 286.0), hilum], 7.0, 5.5))
        for end in ((58.0, 34.0, 214.0), (66.0, -24.0, 232.0), (62.0, 6.0, 306.0)):
            tubes.append(([hilum, (side * end[0], end[1], end[2])], 4.6, 2.2))
    for points, radius, last in tubes:
        box = (np.min(points, 0) - 14.0, np.max(points, 0) + 14.0)
        canvas.paint(tube(points, radius + 1.4, last + 1.0), "bowel", box)
        canvas.paint(tube(points, radius, last), "air", box, hu_offset=5.0)


def _lower(
    canvas: Canvas, field: FloatArray, level: Level, low: FloatArray, high: FloatArray
) -> None:
    """field = min(field, level) within a box of the coarse grid."""
    where = canvas.window(low, high)
    if where is not None:
        points = [p[where] for p in canvas.bent]
        field[where] = np.minimum(field[where], level(*points))
