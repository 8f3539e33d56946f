"""Small problems shared by the engine tests. SI units, mm, °C."""

from __future__ import annotations

import numpy as np

from gpu_kernels.engine import Needle, Problem, Tissue

SOFT = Tissue("soft", 1050.0, 3600.0, 1900.0, 0.5, 2.0, 250e3, -8.0, -1.0, 5e-4, 0.0)
FAT = Tissue("fat", 911.0, 2348.0, 1800.0, 0.211, 0.32, 50e3, -8.0, -1.0, 5e-4, 400.0)


def cube(
    size_mm: float,
    spacing_mm: float,
    needles: tuple[Needle, ...] = (),
    tissues: tuple[Tissue, ...] = (SOFT,),
    boundary: str = "fixed",
) -> Problem:
    """A cube centred on the origin, all of the first tissue."""
    n = round(size_mm / spacing_mm) + 1
    label = np.zeros((n, n, n), np.uint8)
    return Problem(
        label, tissues, (-size_mm / 2,) * 3, (spacing_mm,) * 3, needles, boundary=boundary
    )


def needle(
    direction: tuple[float, float, float] = (0.0, 0.0, 1.0), length_mm: float = 22.0
) -> Needle:
    """A 1.5 mm needle whose active zone is centred near the origin, freezing for 10 minutes."""
    d = np.array(direction) / np.linalg.norm(direction)
    tip = np.array([0.13, 0.21, 0.3]) - 0.5 * length_mm * d
    table = ((0.0, 37.0), (60.0, -140.0), (600.0, -140.0))
    return Needle(tuple(tip), tuple(d), 1.5, length_mm, table)
