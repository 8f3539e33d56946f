"""How large text has to be, and how much of the screen there is room for. Pure.

Inches and metres of the monitor as it hangs, pixels of the screen, minutes of arc of a capital
letter. px = 2·D·tan(α/2) / (pitch · 0.729), 0.729 being a capital's share of the font's size
(DejaVu Sans); 16′ is the least that ISO 9241-3 calls legible.
Invariant: a screen laid out for a viewing holds no text that is smaller, unless it says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LEAST_ARCMIN = 16.0
CAPITAL_SHARE = 0.729
MM_PER_INCH, MM_PER_M = 25.4, 1000.0


@dataclass(frozen=True)
class Viewing:
    """A monitor by its diagonal, and who looks at it from how far."""

    diagonal_in: float = 55.0
    distance_m: float = 3.0

    def __post_init__(self) -> None:
        for name, value, most in (("diagonal", self.diagonal_in, 200.0),
                                  ("distance", self.distance_m, 20.0)):  # fmt: skip
            if not 0.1 <= value <= most:
                raise ValueError(
                    f"{name} of the monitor: {value:g} is not between 0.1 and {most:g}"
                )


def font_px(viewing: Viewing, screen_px: tuple[int, int], arcmin: float = LEAST_ARCMIN) -> float:
    """The font size, in pixels of the screen, whose capitals subtend ``arcmin``."""
    pitch_mm = viewing.diagonal_in * MM_PER_INCH / math.hypot(*screen_px)
    capital_mm = 2.0 * viewing.distance_m * MM_PER_M * math.tan(math.radians(arcmin / 60.0) / 2.0)
    return capital_mm / (pitch_mm * CAPITAL_SHARE)


def arcmin_of(viewing: Viewing, screen_px: tuple[int, int], font_size_px: float) -> float:
    """What a font size subtends: the inverse of ``font_px``."""
    pitch_mm = viewing.diagonal_in * MM_PER_INCH / math.hypot(*screen_px)
    half = font_size_px * pitch_mm * CAPITAL_SHARE / (2.0 * viewing.distance_m * MM_PER_M)
    return 60.0 * math.degrees(2.0 * math.atan(half))


# What the full screen is laid out for.
ROOM = Viewing()
