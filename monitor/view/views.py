"""Which way the planes are shown: window, subtraction, slab, and what stands in the third place. Pure.

HU, mm. Invariant: a slab is an average; no view shows a maximum, which would hide dark ice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

_T = TypeVar("_T")
# (level, width): the edge of ice lies where tissue of 30 to 60 HU has lost 50 to 85.
ICE_WINDOW_HU = (15.0, 175.0)
# No change is a light grey, what has darkened as ice does is dark, noise in between.
SUBTRACTION_WINDOW_HU = (-30.0, 180.0)
SLABS_MM = (3.0, 5.0, 10.0, 1.0)
THIRD = ("sagittal", "map", "solid", "dose")


@dataclass(frozen=True)
class Views:
    """``slab_mm`` is asked for; a pane says how thick the slices made it. ``third``: of ``THIRD``."""

    ice_window: bool = False
    subtraction: bool = False
    slab_mm: float = SLABS_MM[0]
    third: str = THIRD[0]

    def other_window(self) -> Views:
        return replace(self, ice_window=not self.ice_window)

    def other_subtraction(self) -> Views:
        return replace(self, subtraction=not self.subtraction)

    def next_slab(self) -> Views:
        return replace(self, slab_mm=_after(SLABS_MM, self.slab_mm))

    def next_third(self) -> Views:
        return replace(self, third=_after(THIRD, self.third))

    def window_hu(self, of_organ: tuple[float, float], subtracted: bool) -> tuple[float, float]:
        """(level, width) of what is really shown."""
        if subtracted:
            return SUBTRACTION_WINDOW_HU
        return ICE_WINDOW_HU if self.ice_window else of_organ


def _after(options: tuple[_T, ...], now: _T) -> _T:
    return options[(options.index(now) + 1) % len(options)]
