"""Where each part of the screen lies, and at which scale it writes. Pure; pixels of the window.

Design units (du) are 1 px at 1920 × 1080. The full screen has three planes, the numbers and the time
strip; the simple one, for a monitor too small or too far for that, the axial plane and three numbers,
all written larger. Invariant: the parts of a layout cover the window without overlapping.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitor.view.legibility import Viewing, font_px

DESIGN = (1920, 1080)
HEADER_DU, ALARM_DU, FOOTER_DU, READOUTS_DU, STRIP_DU, GAP_DU = 64, 76, 96, 560, 176, 4
# The smallest text of the full screen, and of the simple one before it is enlarged.
SMALL_DU = 31
# Enlarged further than this nothing fits any more.
MOST_ENLARGED = 2.3
_SIMPLE_FOOTER_DU, _SIMPLE_ALARM_DU, _SIMPLE_READOUTS_DU = 78, 90, 500

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Layout:
    """(x, y, width, height) of the parts that are shown. ``legible`` is False where even the simple
    screen cannot be read from the distance it is looked at."""

    simple: bool
    scale: float
    boxes: dict[str, Box]
    legible: bool = True


def layout(
    size_px: tuple[int, int], screen_px: tuple[int, int], viewing: Viewing, simple: bool | None
) -> Layout:
    """The full screen where its smallest text can be read, else the simple one; ``simple`` decides it."""
    scale = min(size_px[0] / DESIGN[0], size_px[1] / DESIGN[1])
    enlarged = font_px(viewing, screen_px) / max(SMALL_DU * scale, 1e-6)
    if simple is None:
        simple = enlarged > 1.0
    if not simple:
        return Layout(False, scale, _full(size_px, scale), enlarged <= 1.0)
    larger = min(max(enlarged, 1.0), MOST_ENLARGED)
    return Layout(True, scale * larger, _simple(size_px, scale * larger), enlarged <= MOST_ENLARGED)


def _full(size_px: tuple[int, int], k: float) -> dict[str, Box]:
    """Fixed heights and readouts; the planes take the rest, axial two thirds of it."""
    w, h = size_px
    header, alarm, footer, side, strip, gap = (
        round(v * k) for v in (HEADER_DU, ALARM_DU, FOOTER_DU, READOUTS_DU, STRIP_DU, GAP_DU)
    )
    top, bottom = header + gap // 2, h - alarm - footer
    planes_bottom = bottom - strip - gap
    axial_w = round((w - side - 2 * gap) * 2 / 3)
    small_x, small_w = axial_w + gap, w - side - axial_w - 2 * gap
    small_h = (planes_bottom - top - gap) // 2
    return {
        "header": (0, 0, w, header),
        "axial": (0, top, axial_w, planes_bottom - top),
        "coronal": (small_x, top, small_w, small_h),
        "sagittal": (small_x, top + small_h + gap, small_w, planes_bottom - top - small_h - gap),
        "strip": (0, bottom - strip, w - side - gap, strip),
        "readouts": (w - side, top, side, bottom - top),
        "alarm": (0, bottom, w, alarm),
        "footer": (0, h - footer, w, footer),
    }


def _simple(size_px: tuple[int, int], k: float) -> dict[str, Box]:
    w, h = size_px
    header, alarm, footer = (round(v * k) for v in (HEADER_DU, _SIMPLE_ALARM_DU, _SIMPLE_FOOTER_DU))
    gap = max(1, round(GAP_DU * k / 2))
    side = min(round(_SIMPLE_READOUTS_DU * k), round(0.55 * w))
    top, bottom = header + gap, h - alarm - footer
    return {
        "header": (0, 0, w, header),
        "axial": (0, top, w - side - gap, bottom - top),
        "readouts": (w - side, top, side, bottom - top),
        "alarm": (0, bottom, w, alarm),
        "footer": (0, h - footer, w, footer),
    }
