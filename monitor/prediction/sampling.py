"""The members' fields at points: trilinear, beyond the grid as at its nearest voxel. LPS mm, (z, y, x).

``weights @ by_voxel(field)`` is (n, member): a sparse product for all members costs a sixth of
``ndimage.map_coordinates`` for each. Invariant: at a voxel's centre the value is the voxel's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from monitor.geometry import FloatArray, Grid
from monitor.model import Float32Array


def weights(index_zyx: FloatArray, grid: Grid) -> Any:
    """Of points at an index (n, 3), a sparse matrix (n, voxel)."""
    shape = np.array(grid.shape_zyx)
    inside = np.clip(index_zyx, 0, shape - 1)
    low = np.minimum(inside.astype(np.intp), np.maximum(shape - 2, 0))
    part = inside - low
    columns, values = [], []
    for corner in np.ndindex(2, 2, 2):
        at = np.minimum(low + corner, shape - 1)
        columns.append(np.ravel_multi_index(tuple(at.T), grid.shape_zyx))
        values.append(np.where(corner, part, 1.0 - part).prod(axis=1))
    count = len(index_zyx)
    rows = np.arange(0, 8 * count + 1, 8)
    data = np.stack(values, 1).astype(np.float32).ravel()
    size = int(np.prod(shape))
    return sparse.csr_matrix((data, np.stack(columns, 1).ravel(), rows), shape=(count, size))


def weights_at(points_lps_mm: FloatArray, grid: Grid) -> Any:
    """Of points (n, 3)."""
    return weights(grid.to_index_zyx(points_lps_mm), grid)


def by_voxel(field: npt.NDArray[Any]) -> Float32Array:
    """(voxel, member) of a field (member, z, y, x)."""
    return np.ascontiguousarray(field.reshape(len(field), -1).T, np.float32)
