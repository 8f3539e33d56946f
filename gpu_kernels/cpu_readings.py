"""The compiled readings of the CPU engine: temperature and frozen fraction of a field. °C, J/m³, flat
float32 arrays of one member (z·y·x), and its ``curves`` (tissue, 5): see ``CURVE``.

Invariant: the same as ``fields.temperature_of`` and ``fraction_of`` to rounding.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from gpu_kernels import law
from gpu_kernels.cpu_kernels import COMPILED

CURVE = ("solidus", "width", "latent", "per_cf", "per_cu")

_temperature = njit(inline="always", error_model="numpy")(law.temperature_degc)
_fraction = njit(inline="always", error_model="numpy")(law.frozen_fraction)


@njit(cache=True, **COMPILED)
def temperatures(h: Any, label: Any, curves: Any, out: Any) -> None:  # pragma: no cover - compiled
    """°C of every voxel into ``out``."""
    for i in range(h.size):
        t = label[i]
        out[i] = _temperature(
            h[i], curves[t, 0], curves[t, 1], curves[t, 2], curves[t, 3], curves[t, 4]
        )


@njit(cache=True, **COMPILED)
def fractions(h: Any, label: Any, curves: Any, out: Any) -> None:  # pragma: no cover - compiled
    """Frozen fraction of every voxel into ``out``."""
    for i in range(h.size):
        out[i] = _fraction(h[i], curves[label[i], 2])
