"""What each voxel says about ice: how far it darkened, how far it could, and how much to believe it.

HU on the analysis grid (z, y, x), scan and baseline lying on each other. Invariant: a voxel that was
not seen, or that metal, gas or bone falsifies, has no weight.

NumPy or cupy arrays go through alike, as in ``surface``.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpu_kernels.arrays import beside, ndimage_of
from monitor.config import NeedleConfig
from monitor.geometry import Grid
from monitor.imaging.needles import freezing_distance_mm, shaft_distance_mm
from monitor.imaging.surface import Evidence
from monitor.model import Float32Array

BoolArray = npt.NDArray[np.bool_]

# Fewer voxels make no statistics.
_ENOUGH = 500


@dataclass(frozen=True)
class Settings:
    """Every number that turns HU into evidence, with its reason."""

    # CT numbers between which a voxel counts as fat (lower) or water-rich (upper); fat holds 10-20 %
    # of freezable water. Bone hides ice: from trabecular (lower) to solid (upper), and what lies
    # beside it is blurred with it.
    fat_hu: float = -70.0
    soft_hu: float = -10.0
    fat_contrast: float = 0.15
    air_hu: float = -250.0
    bone_hu: tuple[float, float] = (110.0, 200.0)
    solid_hu: float = 150.0
    beside_bone_mm: float = 2.0
    # Lung that fills holds water as its CT number rises from that of air to that of blood. It fills while
    # ice thaws, and is then still partly frozen itself: it falls by this share of the whole.
    air_only_hu: float = -1000.0
    blood_hu: float = 40.0
    filled_share: float = 0.7
    # Metal and its blooming say nothing about ice; solid_hu this near to a shaft is metal, not bone.
    metal_hu: float = 400.0
    metal_reach_mm: float = 2.0
    metal_bloom_mm: float = 5.0
    # Streaks: beside a shaft no tissue is brighter or darker than this, so what is has been falsified
    # by the metal; and where the two scans differ roughly, they say little about ice.
    streak_reach_mm: float = 16.0
    streak_hu: tuple[float, float] = (-190.0, 130.0)
    rough_mm: float = 1.6
    # A streak lies in its slice: what differs by this from the slices beside (Gaussian, along z), near
    # a shaft, is one, and would pass for ice, or in the baseline for tissue that could freeze.
    streak_across_mm: float = 4.0
    streak_step_hu: float = 25.0
    # A streak is wider than this, noise is not.
    streak_width_mm: float = 1.2
    streak_range_hu: tuple[float, float] = (-150.0, 150.0)
    # Tissue never lies exactly where it lay: an edge of the anatomy says so much less.
    misplaced_mm: float = 0.5
    edge_range_hu: tuple[float, float] = (-120.0, 80.0)
    # Ice falls by its contrast, at most by so much more (share, and HU on top); what falls farther by
    # this is another tissue.
    deepest_share: float = 1.25
    deepest_hu: float = 12.0
    impossible_hu: float = 20.0
    # Tissue farther than this from the active zones is not frozen: it shows drift and noise.
    far_mm: float = 26.0
    least_noise_hu: float = 5.0
    usual_noise_hu: float = 15.0


@dataclass(frozen=True)
class Comparison:
    """The evidence, where both scans looked (``known``), the scanner's drift between them in
    water-rich tissue and the noise of their difference, HU."""

    evidence: Evidence
    known: BoolArray
    drift_hu: float
    noise_hu: float


def compare(
    scan_hu: Float32Array,
    base_hu: Float32Array,
    filled: BoolArray,
    grid: Grid,
    needles: Sequence[NeedleConfig],
    expected_drop_hu: float,
    s: Settings = Settings(),
) -> Comparison:
    """Scan against the tissue unfrozen, both on ``grid``, NaN where not seen; ``filled``: lung that
    holds blood in place of air."""
    known = np.isfinite(scan_hu) & np.isfinite(base_hu)
    to_active_mm = beside(scan_hu, freezing_distance_mm(grid, needles))
    to_shaft_mm = beside(scan_hu, shaft_distance_mm(grid, needles))
    usable = known & ~_metal(scan_hu, base_hu, to_shaft_mm, s) & (base_hu > s.air_hu)
    contrast = _contrast(base_hu, to_shaft_mm, expected_drop_hu, grid, s)
    blood = np.clip((base_hu - s.air_only_hu) / (s.blood_hu - s.air_only_hu), 0.0, 1.0)
    contrast = np.where(filled, s.filled_share * expected_drop_hu * blood, contrast)
    contrast = (contrast * usable).astype(np.float32)
    drop = np.where(usable, base_hu - scan_hu, 0.0).astype(np.float32)
    far = usable & (to_active_mm > s.far_mm)
    rich = contrast > 0.5 * expected_drop_hu
    drift_hu, drop = _without_drift(drop, usable, rich, far)
    noise_hu = _noise_hu(drop[far & rich], s)
    streaky = (to_shaft_mm < s.streak_reach_mm) & ~filled  # blood lies as it will, in every slice
    trust = _trust(drop, scan_hu, base_hu, usable, far, streaky, grid, s)
    weight = trust * _possible(drop, contrast, usable, grid, s) / np.float32(noise_hu**2)
    evidence = Evidence(grid.spacing_mm[0], to_active_mm, drop, contrast, weight)
    return Comparison(evidence, known, drift_hu, noise_hu)


def _metal(
    scan_hu: Float32Array, base_hu: Float32Array, to_shaft_mm: Float32Array, s: Settings
) -> BoolArray:
    high = np.nan_to_num(np.maximum(scan_hu, base_hu), nan=0.0)
    low = np.nan_to_num(np.minimum(scan_hu, base_hu), nan=0.0)
    streak = (high > s.streak_hu[1]) | (low < s.streak_hu[0])
    streak &= to_shaft_mm < s.streak_reach_mm
    bright = ndimage_of(high).binary_dilation(high > s.metal_hu, iterations=1)
    return (to_shaft_mm < s.metal_reach_mm) | bright | streak


def _possible(
    drop: Float32Array, contrast: Float32Array, usable: BoolArray, grid: Grid, s: Settings
) -> Float32Array:
    """Weight 0..1 by whether freezing can make tissue so dark: fat that slid to where an organ lay
    would pass for ice."""
    sigma = s.rough_mm / np.array(grid.spacing_mm[::-1])
    over = np.where(usable, drop - np.float32(s.deepest_share) * contrast, np.float32(0.0))
    mean = ndimage_of(over).gaussian_filter(over, sigma, truncate=2.5)
    over = np.maximum(mean - np.float32(s.deepest_hu), np.float32(0.0))
    return (1.0 + (over / np.float32(s.impossible_hu)) ** 2) ** -2


def _unstreaked(hu: Float32Array, grid: Grid, s: Settings) -> Float32Array:
    """Weight 0..1 of each voxel by how much it is like the slices beside it."""
    ndimage, values = ndimage_of(hu), np.nan_to_num(hu)
    there = (values > s.air_hu).astype(np.float32)  # a nodule is not to be held against the lung
    tissue = np.clip(values, *s.streak_range_hu) * there
    sigma = s.streak_across_mm / grid.spacing_mm[2]
    beside = ndimage.gaussian_filter1d(tissue, sigma, axis=0)
    step = tissue - beside / np.maximum(ndimage.gaussian_filter1d(there, sigma, axis=0), 1e-3)
    in_slice = s.streak_width_mm / np.array(grid.spacing_mm[1::-1])
    step = ndimage.gaussian_filter(step * there, (0.0, *in_slice), truncate=2.5)
    return (1.0 + (step / np.float32(s.streak_step_hu)) ** 2) ** -2


def _contrast(
    base_hu: Float32Array, to_shaft_mm: Float32Array, expected_hu: float, grid: Grid, s: Settings
) -> Float32Array:
    """The drop in HU that full freezing would cause in each voxel, from its water content."""
    hu = np.nan_to_num(base_hu)
    water = np.clip((hu - s.fat_hu) / (s.soft_hu - s.fat_hu), s.fat_contrast, 1.0)
    bone = np.clip((hu - s.bone_hu[0]) / (s.bone_hu[1] - s.bone_hu[0]), 0.0, 1.0)
    solid = (hu > s.solid_hu) & (to_shaft_mm > s.metal_bloom_mm)
    blurred = ndimage_of(solid).binary_dilation(
        solid, iterations=max(1, round(s.beside_bone_mm / grid.spacing_mm[0]))
    )
    return (expected_hu * water * (1.0 - bone) * ~blurred).astype(np.float32)


def _without_drift(
    drop: Float32Array, usable: BoolArray, rich: BoolArray, far: BoolArray
) -> tuple[float, Float32Array]:
    """The drop without the scanner's drift between the scans, for fat and for the rest apart: 2 HU
    are nothing in muscle and a fifth of ice in fat."""
    drift_hu = _median(drop[far & rich])
    fat_hu = _median(drop[far & ~rich])
    rest = np.where(usable, drop - np.where(rich, drift_hu, fat_hu), 0.0)
    return drift_hu, rest.astype(np.float32)


def _median(values: Float32Array) -> float:
    return float(np.median(values)) if len(values) > _ENOUGH else 0.0


def _noise_hu(values: Float32Array, s: Settings) -> float:
    """SD of one voxel's difference, robustly."""
    if len(values) < _ENOUGH:
        return s.usual_noise_hu
    return max(1.48 * float(np.median(np.abs(values))), s.least_noise_hu)


def _trust(
    drop: Float32Array,
    scan_hu: Float32Array,
    base_hu: Float32Array,
    usable: BoolArray,
    far: BoolArray,
    streaky: BoolArray,
    grid: Grid,
    s: Settings,
) -> Float32Array:
    """The weight of each voxel's drop, 0..1: what varies from voxel to voxel beside the needles more
    than it does far away is streak, not ice; an edge of the anatomy may have moved; and where it is
    ``streaky``, the slices beside it have a say."""
    with ThreadPoolExecutor(2) as pool:
        misplaced = pool.submit(_misplaced_hu2, base_hu, grid, s)
        unstreaked = [pool.submit(_unstreaked, hu, grid, s) for hu in (base_hu, scan_hu)]
        rough = _rough_hu2(drop, usable, grid, s)
    enough = np.count_nonzero(far) > _ENOUGH
    usual = np.float32(max(float(np.median(rough[far])), 1.0) if enough else 100.0)
    trust = usable / np.maximum((rough + misplaced.result()) / usual, np.float32(1.0))
    for share in unstreaked:
        trust = trust * np.where(streaky, share.result(), np.float32(1.0))
    return trust.astype(np.float32, copy=False)


def _rough_hu2(drop: Float32Array, usable: BoolArray, grid: Grid, s: Settings) -> Float32Array:
    """How much the drop varies from voxel to voxel, more than an edge of ice makes it."""
    ndimage, steps_mm = ndimage_of(drop), grid.spacing_mm[::-1]
    sigma = s.rough_mm / np.array(steps_mm)
    weight = ndimage.gaussian_filter(usable.astype(np.float32), sigma, truncate=3.0)
    weight = np.maximum(weight, np.float32(1e-3))
    mean = ndimage.gaussian_filter(drop, sigma, truncate=3.0) / weight
    square = np.where(usable, (drop - mean) ** 2, np.float32(0.0))
    rough = ndimage.gaussian_filter(square, sigma, truncate=3.0)
    # The edge of the ice is no streak: a step Δ scatters by Δ²/4 and slopes by Δ/(√2π·σ).
    edge = np.float32(0.5 * np.pi * s.rough_mm**2) * _steepness(mean, grid)
    return np.maximum(rough / weight - edge, np.float32(0.0))


def _misplaced_hu2(base_hu: Float32Array, grid: Grid, s: Settings) -> Float32Array:
    """What tissue that lies a little aside would make of the baseline's slopes."""
    tissue = np.clip(np.nan_to_num(base_hu), *s.edge_range_hu)
    sigma = s.rough_mm / np.array(grid.spacing_mm[::-1])
    smooth = ndimage_of(tissue).gaussian_filter(tissue, sigma)
    return np.float32(s.misplaced_mm**2) * _steepness(smooth, grid)


def _steepness(field: Float32Array, grid: Grid) -> Float32Array:
    """The squared gradient, per mm²."""
    slopes: list[Float32Array] = list(np.gradient(field, *grid.spacing_mm[::-1]))
    z, y, x = slopes
    return z * z + y * y + x * x
