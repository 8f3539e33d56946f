"""Needles placed in a scan: candidates near a lesion, or tip and entry by two clicks. LPS mm.

Invariant: a needle is either on metal that the scan shows (``on_metal``), or where it was clicked; which
of the two is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from monitor.config import NeedleConfig, NeedleType
from monitor.geometry import FloatArray
from monitor.imaging.needle_finding import find_needles, lines_of_metal
from monitor.imaging.needle_lines import Settings
from monitor.model import CtVolume

Point = tuple[float, float, float]

# Candidates' tips lie this near to the lesion's centre.
_REACH_MM = 60.0
# All directions are many: votes in larger steps and bins, of fewer points; the fit is as fine as ever.
_SEARCH = Settings(
    search_mm=45.0, vain_lines=(2, 2), vote_step_deg=6.0, vote_bin=3.0, most_points=1200
)
# What is looked along: cones of the search's half angle that cover all directions but from the feet
# and from behind, where the couch is.
_CONE_DEG = 40.0
_LENGTH_MM = 120.0
# Two candidates are one needle when their tips are nearer.
_SAME_MM = 4.0
_SHORTEST_MM = 30.0


@dataclass(frozen=True)
class Placed:
    """A needle's place."""

    tip_lps_mm: Point
    entry_lps_mm: Point
    on_metal: bool


def candidates(volume: CtVolume, near_lps_mm: Point, kind: NeedleType) -> tuple[Placed, ...]:
    """Needles that the scan shows around a point, the nearest tip first; the tip is the end nearer to it.
    Takes some seconds."""
    centre = np.asarray(near_lps_mm, float)
    likely = [
        NeedleConfig(i + 1, kind, near_lps_mm, _point(centre + _LENGTH_MM * d), 1.0)
        for i, d in enumerate(_directions())
    ]
    found: list[Placed] = []
    for metal in lines_of_metal(volume, likely, _SEARCH):
        ends = metal.tip_lps_mm, metal.tip_lps_mm + metal.seen_mm * metal.direction
        tip, entry = sorted(ends, key=lambda p: float(np.linalg.norm(p - centre)))
        if metal.seen_mm < _SHORTEST_MM or np.linalg.norm(tip - centre) > _REACH_MM:
            continue
        if all(np.linalg.norm(tip - np.asarray(f.tip_lps_mm)) > _SAME_MM for f in found):
            found.append(Placed(_point(tip), _point(entry), True))
    return tuple(
        sorted(found, key=lambda f: float(np.linalg.norm(np.asarray(f.tip_lps_mm) - centre)))
    )


def clicked(volume: CtVolume, tip: Point, entry: Point, kind: NeedleType) -> Placed:
    """The needle of two clicks, moved onto the metal there if the scan shows one."""
    return _refined(volume, Placed(tip, entry, False), kind)


# A click is this exact; metal farther off is another needle's.
_CLICK_MM = 8.0


def _refined(volume: CtVolume, placed: Placed, kind: NeedleType) -> Placed:
    needle = NeedleConfig(1, kind, placed.tip_lps_mm, placed.entry_lps_mm, 1.0)
    (found,) = find_needles(volume, [needle])
    if not found.found or found.moved_mm > _CLICK_MM:
        return placed
    length = np.linalg.norm(np.subtract(placed.entry_lps_mm, placed.tip_lps_mm))
    entry = np.asarray(found.tip_lps_mm) + length * np.asarray(found.direction)
    return Placed(found.tip_lps_mm, _point(entry), True)


def _directions() -> Iterator[FloatArray]:
    """Unit vectors from a tip towards entries: a cone apart, not from below the patient."""
    step = np.radians(_CONE_DEG)
    for tilt in np.arange(-np.pi / 2, np.pi / 2 + 1e-6, step):
        around = max(1, int(np.ceil(2 * np.pi * np.cos(tilt) / step)))
        for turn in 2 * np.pi * np.arange(around) / around:
            d = np.array([np.cos(tilt) * np.sin(turn), -np.cos(tilt) * np.cos(turn), np.sin(tilt)])
            if d[1] < 0.5:
                yield d


def _point(p: FloatArray) -> Point:
    return (float(p[0]), float(p[1]), float(p[2]))
