"""The sample stencil, launched and in NumPy: what the tools of this folder are tried on."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import shim
from .sample_kernels import STENCIL

DTYPES: dict[str, Any] = {"float": np.float32, "double": np.float64}
SHAPE = (3, 21, 37)
CONDUCTANCE = 0.1


def stencil_launch(real: str = "float") -> tuple[tuple[int, ...], tuple[int, ...], list[Any]]:
    """Grid, block and arguments for the stencil on random values; the output holds NaN."""
    dtype = DTYPES[real]
    nz, ny, nx = SHAPE
    values = np.random.default_rng(0).normal(size=SHAPE).astype(dtype)
    args = [values, np.full_like(values, np.nan), *map(np.int32, (nx, ny, nz)), dtype(CONDUCTANCE)]
    return (-(-nx // 16), -(-ny // 4)), (16, 4), args


def stencil_reference(values: np.ndarray) -> np.ndarray:
    """The stencil in NumPy, in the kernel's order of operations."""
    padded, c = np.pad(values, 1, "edge"), values.dtype.type(CONDUCTANCE)

    def flux(z: int, y: int, x: int) -> np.ndarray:
        nz, ny, nx = values.shape
        return c * (padded[1 + z : 1 + z + nz, 1 + y : 1 + y + ny, 1 + x : 1 + x + nx] - values)

    total = flux(0, 0, -1) + flux(0, 0, 1)
    total += flux(0, -1, 0) + flux(0, 1, 0)
    total = (total + flux(-1, 0, 0)) + flux(1, 0, 0)
    return values + values.dtype.type(0.5) * total


def run_stencil(defines: dict[str, str], order: int = 0, sanitize: bool = False) -> np.ndarray:
    grid, block, args = stencil_launch(defines.get("REAL", "float"))
    shim.build(STENCIL, defines, sanitize).launch("stencil", grid, block, args, order)
    return args[1]
