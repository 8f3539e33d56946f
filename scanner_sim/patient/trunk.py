"""The trunk's shape, wall and skeleton. LPS mm; z is 0 at the navel, up to the head.

Vertebrae every 36 mm, ribs from z = 95 at the sides, pelvis below -40. Invariant: ``depth`` is about
the distance below the skin, negative inside, and knows nothing of the breasts.
"""

from __future__ import annotations

import numpy as np

from scanner_sim.bodies import ellipsoid, inset, rounded, tube
from scanner_sim.frame import FloatArray
from scanner_sim.patient.canvas import Box, Canvas
from scanner_sim.scenario import Habitus

SKIN_MM = 2.0
_Z = (-160.0, -60.0, 0.0, 120.0, 220.0, 330.0)
_HALF_WIDTH = (180.0, 172.0, 160.0, 157.0, 162.0, 165.0)
_HALF_DEPTH = (110.0, 107.0, 106.0, 112.0, 118.0, 112.0)
VERTEBRA_MM, SPINE_Y = 36.0, 52.0
RIB_PERIOD_MM = 27.0


class Trunk:
    """Level functions of one patient's trunk."""

    def __init__(self, habitus: Habitus) -> None:
        self._h = habitus

    def depth(self, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        a = np.interp(z, _Z, _HALF_WIDTH) * self._h.size
        b = np.interp(z, _Z, _HALF_DEPTH) * self._h.size
        power = 2.35  # flatter in front and at the back than an ellipse
        r = (np.abs(x / a) ** power + np.abs(y / b) ** power) ** (1.0 / power)
        slope = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2) / np.maximum(r, 0.2)
        return np.asarray((r - 1.0) / np.maximum(slope, 1.0 / 200.0))

    def surface(self, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        """The skin's outer surface, breasts included."""
        outer = self.depth(x, y, z)
        if self._h.breasts:
            for side in (-1, 1):
                breast = ellipsoid((side * 82.0, -100.0, 236.0), (64.0, 62.0, 58.0))
                outer = np.minimum(outer, breast(x, y, z))
        return outer

    def skin(self, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        return np.abs(self.surface(x, y, z) + 0.5 * SKIN_MM) - 0.5 * SKIN_MM

    def fat_mm(self, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        """Thickness of the fat under the skin: most in front of the belly, little on the chest."""
        chest = np.clip((z - 90.0) / 80.0, 0.0, 1.0)
        back = np.clip((y + 20.0) / 90.0, 0.0, 1.0)
        return np.asarray(self._h.fat_mm * (1.0 - 0.55 * chest) * (1.0 - 0.35 * back) + SKIN_MM)

    def rib_zone(self, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        """Negative above the costal margin, which rises towards the front."""
        front = np.clip(-y / 80.0, 0.0, 1.0)
        middle = np.clip(1.0 - np.abs(x) / 110.0, 0.0, 1.0)
        return np.asarray(92.0 + 95.0 * front * middle**0.8 - z)

    def cavity(self, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        """The inside of the wall: belly and chest."""
        return self.depth(x, y, z) + self.fat_mm(x, y, z) + 17.0


def paint_trunk(canvas: Canvas, trunk: Trunk) -> None:
    """Skin, fat, muscle layers, spine, ribs and pelvis."""
    outer = canvas.field(trunk.surface)
    canvas.paint_field(outer, "fat")
    canvas.paint_field(outer, "skin", above_mm=-SKIN_MM)
    _paint_wall(canvas, trunk)
    _paint_back(canvas, trunk)
    _paint_pelvis(canvas, trunk)
    _paint_spine(canvas)
    _paint_ribs(canvas, trunk)


def _paint_wall(canvas: Canvas, trunk: Trunk) -> None:
    """Rectus in front with its midline; three flat layers at the sides; chest wall above."""
    under = canvas.field(lambda x, y, z: trunk.depth(x, y, z) + trunk.fat_mm(x, y, z))
    ribs = canvas.field(trunk.rib_zone)
    rectus = canvas.field(_rectus)
    belly = np.maximum(under, -12.5 - under)
    canvas.paint_field(np.maximum(rounded(belly, rectus, 9.0), -ribs - 60.0), "muscle")
    aside = 3.0 - rectus
    for top, bottom in ((0.0, -5.5), (-6.6, -11.5), (-12.4, -15.5)):
        layer = rounded(np.maximum(under - top, bottom - under), aside, 7.0)
        canvas.paint_field(np.maximum(layer, -ribs), "muscle", hu_offset=-3.0)
    chest = np.maximum(np.maximum(under, -16.0 - under), ribs)
    canvas.paint_field(chest, "muscle", hu_offset=-4.0)
    pectoral = canvas.field(_pectoral)
    thick = np.maximum(under - 9.0, -under - 2.0)
    canvas.paint_field(rounded(thick, pectoral, 14.0), "muscle")


def _rectus(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
    """Where the straight muscles lie, either side of the white line; they widen upwards."""
    half = 33.0 + 0.03 * np.clip(z + 60.0, 0.0, 160.0)
    return np.asarray(np.maximum(np.abs(np.abs(x) - half - 3.5) - half, y + 40.0))


def _pectoral(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
    """A fan from the breastbone to the armpit, above its slanting lower edge."""
    lower = 196.0 + 0.18 * np.abs(x) - z
    return np.asarray(
        np.maximum(np.abs(np.abs(x) - 72.0) - 62.0, np.maximum(0.6 * lower, y + 30.0))
    )


def _paint_back(canvas: Canvas, trunk: Trunk) -> None:
    under = canvas.field(lambda x, y, z: trunk.depth(x, y, z) + trunk.fat_mm(x, y, z) + 2.0)
    canvas.paint_field(rounded(under, canvas.field(_erector), 8.0), "muscle")
    for side in (-1, 1):
        psoas = tube([(side * 27, 46, 130), (side * 42, 44, 40), (side * 58, 28, -100)], 10.0, 22.0)
        canvas.paint(psoas, "muscle", ((side * 42 - 45, 0, -170), (side * 42 + 45, 85, 140)))
        loin = ellipsoid((side * 78.0, 66.0, 20.0), (19.0, 12.0, 90.0))
        canvas.paint(loin, "muscle", ((side * 78 - 25, 45, -80), (side * 78 + 25, 85, 120)))


def _erector(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
    """Beside the spinous processes: thick there, thin at the sides."""
    u = (np.abs(x) - 33.0) / 33.0
    return np.asarray((np.sqrt(u**2 + ((y - 86.0) / 28.0) ** 2) - 1.0) * 28.0 + 0 * z)


def _paint_spine(canvas: Canvas) -> None:
    box: Box = ((-70, 20, -300), (70, 125, 500))

    def body(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        waist = 1.0 - 0.10 * np.cos(2.0 * np.pi * z / VERTEBRA_MM)
        r = np.sqrt((x / 24.0) ** 2 + ((y - SPINE_Y) / 18.0) ** 2)
        return np.asarray((r - waist) * 20.0)

    def disc(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        half = 0.5 * VERTEBRA_MM
        return np.asarray(half - 4.5 - np.abs(np.mod(z + half, VERTEBRA_MM) - half) + 0 * x)

    def arch(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        ring = np.abs(np.sqrt((x / 17.0) ** 2 + ((y - 79.0) / 15.0) ** 2) - 1.0) * 14.0 - 3.6
        return np.maximum(np.maximum(ring, 66.0 - y), np.abs(_within(z)) - 12.0)

    def processes(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        sides = np.maximum(
            np.abs(np.abs(x) - 30.0) - 17.0, np.abs(y - 75.0 - 0.1 * np.abs(x)) - 4.0
        )
        spinous = np.maximum(np.abs(x) - 3.5, np.abs(y - 101.0) - 13.0)
        tall = np.abs(_within(z) + 2.0)
        return np.minimum(np.maximum(sides, tall - 6.0), np.maximum(spinous, tall - 9.0))

    def whole(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        return np.maximum(body(x, y, z), -disc(x, y, z))

    canvas.paint(lambda x, y, z: np.maximum(body(x, y, z), disc(x, y, z)), "disc", box)
    for level, cortex in ((whole, 1.6), (arch, 1.8), (processes, 1.5)):
        canvas.paint(level, "bone", box, hu_offset=-150.0)
        canvas.paint(inset(level, cortex), "marrow", box)
    cord = ellipsoid((0.0, 79.0, 0.0), (8.5, 8.0, 4000.0))
    canvas.paint(lambda x, y, z: cord(x, y, 0 * z), "nerve", box)


def _within(z: FloatArray) -> FloatArray:
    """Height above the middle of the vertebra."""
    return np.mod(z, VERTEBRA_MM) - 0.5 * VERTEBRA_MM


def _paint_ribs(canvas: Canvas, trunk: Trunk) -> None:
    under = canvas.field(lambda x, y, z: trunk.depth(x, y, z) + trunk.fat_mm(x, y, z) + 9.0)
    zone = canvas.field(trunk.rib_zone)

    def across(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        """Ribs fall from the spine to the front; height above the nearest one."""
        height = z + 0.42 * (np.clip(90.0 - y, 0.0, 200.0)) * (0.35 + 0.65 * (y > -60.0))
        half = 0.5 * RIB_PERIOD_MM
        return np.asarray((np.mod(height + half, RIB_PERIOD_MM) - half) * 0.92 + 0 * x)

    rib = np.sqrt((under / 4.6) ** 2 + (canvas.field(across) / 6.8) ** 2) * 5.2 - 5.2
    rib = np.maximum(rib, zone)
    cartilage = canvas.field(lambda x, y, z: np.maximum(y + 72.0, np.abs(x) - 85.0) + 0 * z)
    bony = np.maximum(rib, -cartilage)
    canvas.paint_field(np.maximum(rib, cartilage), "disc", hu_offset=25.0)
    canvas.paint_field(bony, "bone")
    canvas.paint_field(bony + 1.7, "marrow", hu_offset=20.0)
    sternum = canvas.field(
        lambda x, y, z: np.maximum(np.abs(x) - 17.0, np.maximum(y + 50.0, 198.0 - z))
    )
    plate = np.maximum(np.abs(under - 1.0) - 5.5, sternum)
    canvas.paint_field(plate, "bone", hu_offset=-300.0)
    canvas.paint_field(plate + 1.4, "marrow")


def _paint_pelvis(canvas: Canvas, trunk: Trunk) -> None:
    if canvas.frame.z[0] > -35.0:
        return
    under = canvas.field(lambda x, y, z: trunk.depth(x, y, z) + trunk.fat_mm(x, y, z) + 2.0)
    buttock = canvas.field(
        lambda x, y, z: np.maximum(np.maximum(-38.0 - y, 55.0 - np.abs(x)), z + 42.0 + 0.3 * y)
    )
    inside = canvas.field(_pelvic_bowl)
    canvas.paint_field(np.maximum(np.maximum(under, buttock), -inside), "muscle")
    wing = np.abs(inside) - 5.5
    edge = canvas.field(
        lambda x, y, z: np.maximum(np.maximum(48.0 - np.abs(x), z + 44.0), -52.0 - y)
    )
    bone = np.maximum(wing, edge)
    canvas.paint_field(bone, "bone")
    canvas.paint_field(bone + 1.8, "marrow")
    lining = np.maximum(np.maximum(inside + 5.5, -inside - 17.0), edge)  # iliacus
    canvas.paint_field(lining, "muscle")


def _pelvic_bowl(x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
    """Negative inside the wings of the pelvis, which open upwards."""
    wide = 1.0 + 0.0016 * np.clip(z + 110.0, -60.0, 90.0)
    r = np.sqrt((x / 126.0) ** 2 + ((y - 10.0) / 84.0) ** 2)
    return np.asarray((r - wide) * 95.0)
