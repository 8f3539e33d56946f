"""A measured value beside what had been forecast for it, as figures. Pure.

Invariant: a value that lies inside is never written outside, nor said to be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Compared:
    """A measured value beside what was forecast, as they are written; ``inside`` None: it is not known."""

    range: str
    value: str
    inside: bool | None


def compared(
    value: float | None, ends: tuple[float, float], writes: Sequence[Callable[[float | None], str]]
) -> Compared:
    """As coarsely as shows on which side it lies; where no figures show it, it is not said to be outside.
    None of ``writes`` changes the order of numbers, so that what lies inside is written so."""
    low, high = min(ends), max(ends)
    inside = value is None or low <= value <= high
    end = low if value is None or value < low else high
    shown = next((w for w in writes if inside or w(value) != w(end)), None)
    write = shown or writes[0]
    held = None if value is None else inside or shown is None
    return Compared(f"{write(low)} – {write(high)}", write(value), held)
