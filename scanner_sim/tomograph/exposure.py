"""From the tissue in the slices to the images of it. HU, mm, (slice, row, column).

Streaks, beam hardening, photon starvation and noise are not drawn: they come out of projecting
tissue and needles with a spectrum of energies, counting photons, and reconstructing.
Invariant: the same tissue, needles and seed give the same pixels, on any number of threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scanner_sim.tomograph.beam import Beam, measured_water_mm
from scanner_sim.tomograph.metal import Rod, paths_mm
from scanner_sim.tomograph.projector import FloatArray, Projector

# Bone begins to count as a mixture of water and cortical bone here; cortical bone's own number.
_BONE_FROM_HU, _CORTICAL_HU = 130.0, 1650.0
_LOWEST_HU, _HIGHEST_HU = -1024, 3071


@dataclass(frozen=True)
class Exposure:
    """How a stack is exposed, and the needles in each of its slices."""

    beam: Beam
    rods: Sequence[Sequence[Rod]]
    kernels: tuple[str, ...]
    seed: tuple[int, ...]
    noise: bool = True


def expose(
    tissue_hu: FloatArray,
    exposure: Exposure,
    done: Callable[[int], None] = lambda _: None,
) -> dict[str, npt.NDArray[np.int16]]:
    """The images of a stack of square slices by kernel; ``done`` hears of each finished pair."""
    count = len(tissue_hu)
    images = {k: np.empty(tissue_hu.shape, np.int16) for k in exposure.kernels}
    local = threading.local()

    def pair(first: int) -> None:
        if not hasattr(local, "projector"):
            local.projector = Projector(exposure.beam.rays)
        members = [first, min(first + 1, count - 1)]
        lines = [_lines(local.projector, tissue_hu[k], k, exposure) for k in members]
        for kernel in exposure.kernels:
            both = local.projector.reconstruct(lines[0] + 1j * lines[1], kernel)
            for k, water in zip(members, (both.real, both.imag), strict=True):
                hu = 1000.0 * (water - 1.0)
                images[kernel][k] = np.clip(np.rint(hu), _LOWEST_HU, _HIGHEST_HU)
        done(len(set(members)))

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(pair, range(0, count, 2)))
    return images


def _lines(
    projector: Projector, hu: FloatArray, k: int, exposure: Exposure
) -> npt.NDArray[np.float32]:
    """The water that each ray of slice ``k`` seems to have crossed, mm."""
    beam = exposure.beam
    both = projector.project(_materials(hu))
    metal = paths_mm(exposure.rods[k], beam.thickness_mm, beam.rays)
    rng = np.random.default_rng((*exposure.seed, k)) if exposure.noise else None
    return measured_water_mm(beam, both.real, both.imag, metal, rng)


def _materials(hu: FloatArray) -> npt.NDArray[np.complex64]:
    """Density of water (real) and of cortical bone (imaginary) in each voxel."""
    bone = np.clip((hu - _BONE_FROM_HU) / (_CORTICAL_HU - _BONE_FROM_HU), 0.0, 1.2)
    water = np.maximum(1.0 + np.minimum(hu, _BONE_FROM_HU) / 1000.0, 0.0) * (
        1.0 - np.minimum(bone, 1.0)
    )
    return (water + 1j * bone).astype(np.complex64)
