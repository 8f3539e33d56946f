"""Launch limits that every CUDA device of compute capability 7.5 to 12.0 has."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

MAX_THREADS_PER_BLOCK = 1024
MAX_BLOCK = (1024, 1024, 64)
MAX_GRID = (2**31 - 1, 65535, 65535)
MAX_STATIC_SHARED_BYTES = 48 << 10


def three(sizes: Sequence[int]) -> tuple[int, int, int]:
    """Sizes along x, y, z, with 1 for what is left out. TypeError unless whole numbers."""
    if not 1 <= len(sizes) <= 3 or any(not isinstance(n, (int, np.integer)) for n in sizes):
        raise TypeError(f"launch sizes must be one to three whole numbers, not {sizes!r}")
    x, y, z = (*(int(n) for n in sizes), 1, 1)[:3]
    return x, y, z


def check_sizes(grid: Sequence[int], block: Sequence[int]) -> None:
    """Raise ValueError where a device would refuse the launch."""
    for what, sizes, largest in (("grid", grid, MAX_GRID), ("block", block, MAX_BLOCK)):
        for axis, size, most in zip("xyz", sizes, largest, strict=True):
            if not 1 <= size <= most:
                raise ValueError(f"{what}.{axis} is {size}, allowed are 1 to {most}")
    if math.prod(block) > MAX_THREADS_PER_BLOCK:
        raise ValueError(f"a block of {math.prod(block)} threads; {MAX_THREADS_PER_BLOCK} allowed")
