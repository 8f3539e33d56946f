"""The members' fields at points: trilinear, beyond the grid as at its nearest voxel. LPS mm, (z, y, x).

One compiled pass for all members takes a tenth of ``ndimage.map_coordinates`` for each.
Invariant: at a voxel's centre the value is the voxel's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.compiled import compiled
from monitor.geometry import FloatArray, Grid
from monitor.model import Float32Array


def sampled(field: npt.NDArray[Any], index_zyx: FloatArray) -> Float32Array:
    """(n, member) of a field (member, z, y, x) at an index (n, 3)."""
    shape = np.array(field.shape[1:])
    inside = np.clip(index_zyx, 0, shape - 1)
    low = np.minimum(inside.astype(np.int32), np.maximum(shape - 2, 0)).astype(np.int32)
    part = (inside - low).astype(np.float32)
    out = np.empty((len(field), len(inside)), np.float32)
    _gather(np.ascontiguousarray(field, np.float32), low, part, out)
    return out.T


def sampled_at(field: npt.NDArray[Any], points_lps_mm: FloatArray, grid: Grid) -> Float32Array:
    """The same at points (n, 3)."""
    return sampled(field, grid.to_index_zyx(points_lps_mm))


@compiled
def _gather(  # pragma: no cover - compiled
    field: Any, low: Any, part: Any, out: Any
) -> None:
    members, nz, ny, nx = field.shape
    for m in range(members):
        f = field[m]
        for n in range(low.shape[0]):
            z, y, x = low[n, 0], low[n, 1], low[n, 2]
            pz, py, px = part[n, 0], part[n, 1], part[n, 2]
            z1, y1, x1 = min(z + 1, nz - 1), min(y + 1, ny - 1), min(x + 1, nx - 1)
            a = f[z, y, x] * (1 - px) + f[z, y, x1] * px
            b = f[z, y1, x] * (1 - px) + f[z, y1, x1] * px
            c = f[z1, y, x] * (1 - px) + f[z1, y, x1] * px
            d = f[z1, y1, x] * (1 - px) + f[z1, y1, x1] * px
            out[m, n] = (a * (1 - py) + b * py) * (1 - pz) + (c * (1 - py) + d * py) * pz
