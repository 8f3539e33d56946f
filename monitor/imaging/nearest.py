"""Which of a surface's foot points is nearest to each voxel: a compiled search. mm, arrays (z, y, x).

Every border voxel has a foot. From a foot that is near the search steps to nearer ones around it
until there is none, as one walks downhill; neighbours that are done say where to begin.
Invariant: what is found is never farther than the foot that the search began with.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from monitor.compiled import compiled
from monitor.model import Float32Array

Int32Array = npt.NDArray[np.int32]

# The search begins with the foot of a block, of so many voxels where they are smallest.
_BLOCK = 2
# Planes that are searched side by side: whatever the machine, so that results are the same on all.
_SLABS = 2


def nearest_feet(
    border: npt.NDArray[np.bool_], feet_mm: Float32Array, spacing_zyx: Float32Array
) -> tuple[Int32Array, Float32Array]:
    """For each voxel the number of the foot that is nearest to it, and how far it is. ``feet_mm``
    (n, 3) are z, y, x from voxel 0, one for each voxel of ``border`` in the order of the array."""
    homes = np.argwhere(border).astype(np.int32)
    number = np.full(border.shape, -1, np.int32)
    number[border] = np.arange(len(homes))
    found = _begun(homes, border.shape, spacing_zyx)
    distance_mm = np.empty(border.shape, np.float32)

    def search(planes: npt.NDArray[np.intp]) -> None:
        if len(planes):
            slab = slice(planes[0], planes[-1] + 1)
            _forth(found[slab], number, homes, feet_mm, spacing_zyx, slab.start)
            _back(found[slab], distance_mm[slab], number, homes, feet_mm, spacing_zyx, slab.start)

    with ThreadPoolExecutor(_SLABS) as pool:
        list(pool.map(search, np.array_split(np.arange(len(border)), _SLABS)))
    return found, distance_mm


def _begun(homes: Int32Array, shape: tuple[int, ...], spacing_zyx: Float32Array) -> Int32Array:
    """For each voxel the foot of a border voxel (``homes``) in the nearest block that has one."""
    block = np.maximum(np.rint(_BLOCK * spacing_zyx.min() / spacing_zyx), 1).astype(int)
    blocks = np.full(-(-np.array(shape) // block), -1, np.int32)
    blocks[tuple((homes // block).T)] = np.arange(len(homes))
    nearest = ndimage.distance_transform_edt(
        blocks < 0, sampling=block * spacing_zyx, return_distances=False, return_indices=True
    )
    foot = blocks[tuple(nearest)]
    for axis in range(3):
        foot = np.repeat(foot, block[axis], axis)
    return np.ascontiguousarray(foot[tuple(slice(n) for n in shape)])


@compiled
def _forth(found: Any, number: Any, homes: Any, feet_mm: Any, spacing_zyx: Any, first: int) -> None:
    """Through a slab, whose first plane is ``first`` of all, with rising indices: ``found`` says
    where to begin, or one of the neighbours before does."""
    for k in range(found.shape[0]):
        z = (first + k) * spacing_zyx[0]
        for j in range(found.shape[1]):
            y = j * spacing_zyx[1]
            for i in range(found.shape[2]):
                x = i * spacing_zyx[2]
                foot = found[k, j, i]
                if i > 0:
                    foot = _nearer(feet_mm, z, y, x, foot, found[k, j, i - 1])
                if j > 0:
                    foot = _nearer(feet_mm, z, y, x, foot, found[k, j - 1, i])
                if k > 0:
                    foot = _nearer(feet_mm, z, y, x, foot, found[k - 1, j, i])
                found[k, j, i] = _downhill(number, homes, feet_mm, z, y, x, foot)


@compiled
def _back(
    found: Any,
    distance_mm: Any,
    number: Any,
    homes: Any,
    feet_mm: Any,
    spacing_zyx: Any,
    first: int,
) -> None:
    """The same with falling indices: the neighbours behind may have a foot that no way downhill
    leads to, as between two bodies."""
    planes, rows, columns = found.shape
    for k in range(planes - 1, -1, -1):
        z = (first + k) * spacing_zyx[0]
        for j in range(rows - 1, -1, -1):
            y = j * spacing_zyx[1]
            for i in range(columns - 1, -1, -1):
                x = i * spacing_zyx[2]
                foot = found[k, j, i]
                if i + 1 < columns:
                    foot = _nearer(feet_mm, z, y, x, foot, found[k, j, i + 1])
                if j + 1 < rows:
                    foot = _nearer(feet_mm, z, y, x, foot, found[k, j + 1, i])
                if k + 1 < planes:
                    foot = _nearer(feet_mm, z, y, x, foot, found[k + 1, j, i])
                if foot != found[k, j, i]:
                    foot = _downhill(number, homes, feet_mm, z, y, x, foot)
                    found[k, j, i] = foot
                distance_mm[k, j, i] = np.sqrt(_squared(feet_mm, z, y, x, foot))


@compiled
def _downhill(
    number: Any, homes: Any, feet_mm: Any, z: float, y: float, x: float, foot: int
) -> int:
    """From a foot to the nearest one that nearer and nearer neighbours lead to."""
    planes, rows, columns = number.shape
    least = _squared(feet_mm, z, y, x, foot)
    while True:
        here = foot
        k, j, i = homes[here, 0], homes[here, 1], homes[here, 2]
        for kk in range(max(k - 1, 0), min(k + 2, planes)):
            for jj in range(max(j - 1, 0), min(j + 2, rows)):
                for ii in range(max(i - 1, 0), min(i + 2, columns)):
                    other = number[kk, jj, ii]
                    if other >= 0:
                        squared = _squared(feet_mm, z, y, x, other)
                        if squared < least:
                            least, foot = squared, other
        if foot == here:
            return foot


@compiled
def _nearer(feet_mm: Any, z: float, y: float, x: float, one: int, other: int) -> int:
    if _squared(feet_mm, z, y, x, other) < _squared(feet_mm, z, y, x, one):
        return other
    return one


@compiled
def _squared(feet_mm: Any, z: float, y: float, x: float, foot: int) -> float:
    dz, dy, dx = z - feet_mm[foot, 0], y - feet_mm[foot, 1], x - feet_mm[foot, 2]
    return dz * dz + dy * dy + dx * dx
