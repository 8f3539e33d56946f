"""Ice in a scan: the difference from the pre-freeze baseline, connected to the needles.

Hounsfield units on the analysis grid (z, y, x), mm. The estimate is the local frozen fraction f,
fitted to the CT number drop by weighted least squares; the edge is f = ½.
Invariant: nothing of the forecast enters here. A measurement that leans on the model could not
correct it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from monitor.config import NeedleConfig
from monitor.geometry import Grid
from monitor.imaging.distance import signed_distance_mm, volume_ml
from monitor.imaging.needles import active_zone_distance_mm, shaft_distance_mm
from monitor.imaging.resampling import hu_on_grid
from monitor.model import CtVolume, Float32Array, IceSegmentation, Reason, Status, worst

BoolArray = npt.NDArray[np.bool_]

# Fewer voxels make no statistics.
_ENOUGH = 500


@dataclass(frozen=True)
class Settings:
    """Every number the segmentation depends on, with its reason."""

    # Noise of 10-15 HU against a drop of 50-85 HU (Sandison 1998): this width leaves ~0.05 in f
    # and blurs an edge less than the slice thickness does.
    fine_sigma_mm: float = 0.8
    # Where tissue hardly darkens (fat) the fraction comes from a wider neighbourhood: the two are
    # weighed by their evidence, the wider one trusted to this standard deviation and no better.
    coarse_sigma_mm: float = 2.5
    coarse_model_sd: float = 0.2
    # CT numbers between which a voxel counts as fat (lower) or water-rich (upper).
    fat_hu: float = -70.0
    soft_hu: float = -10.0
    fat_contrast: float = 0.15
    air_hu: float = -250.0
    # Metal and its blooming say nothing about ice.
    metal_hu: float = 400.0
    metal_reach_mm: float = 2.0
    # Streaks: beside a shaft no tissue is brighter or darker than this, so what is has been falsified
    # by the metal; and where the two scans differ roughly, they say little about ice.
    streak_reach_mm: float = 16.0
    streak_hu: tuple[float, float] = (-190.0, 130.0)
    rough_sigma_mm: float = 1.6
    # Tissue never lies exactly where it lay: an edge of the anatomy says so much less.
    misplaced_mm: float = 0.5
    # Ice starts at the active zones; what is not connected to them is noise or bowel.
    seed_reach_mm: float = 4.0
    # A needle freezes at most this far in a procedure (published iceballs reach 50 mm across).
    reach_mm: float = 45.0
    far_mm: float = 26.0
    plateau_percentile: float = 80.0
    plateau_range: tuple[float, float] = (0.75, 1.4)
    closing_mm: float = 4.0
    # Below this a blob cannot be told from noise and motion beside the needle.
    min_volume_ml: float = 0.15
    # Beyond this, away from ice, the scans do not match: the patient moved, or contrast came.
    mismatch_hu: float = 12.0
    mismatch_fraction_sd: float = 0.25
    # Edge position that a half-maximum threshold on a blurred edge leaves uncertain, in mm.
    systematic_edge_error_mm: float = 0.5
    # Where ice hardly shows the edge is carried over from where it does: surface errors of 1-2 mm
    # on the tuning scans.
    hidden_edge_error_mm: float = 2.0
    poor_edge_error_mm: float = 2.5
    hidden_edge_share: float = 0.4
    hidden_reach_mm: float = 8.0


@dataclass(frozen=True)
class Baseline:
    """The pre-freeze scan on the analysis grid; ``hu`` is NaN where it did not look."""

    volume_id: str
    frame_of_reference_uid: str
    grid: Grid
    hu: Float32Array


def make_baseline(volume: CtVolume, grid: Grid) -> Baseline:
    """The baseline of a procedure, from its volume."""
    return Baseline(volume.volume_id, volume.frame_of_reference_uid, grid, hu_on_grid(volume, grid))


def segment_ice(
    volume: CtVolume,
    baseline: Baseline,
    needles: Sequence[NeedleConfig],
    expected_drop_hu: float,
    settings: Settings = Settings(),
) -> IceSegmentation:
    """The ice in ``volume`` on the baseline's grid. Never raises on what a scanner may send:
    what cannot be measured comes back INVALID with the reason."""
    grid = baseline.grid
    scan_hu = hu_on_grid(volume, grid)
    known = np.isfinite(scan_hu) & np.isfinite(baseline.hu)
    refusal = _refusal(known, needles, grid)
    if refusal:
        return _invalid(volume, grid, known, refusal)
    to_active_mm = active_zone_distance_mm(grid, needles)
    metal = _metal(scan_hu, baseline.hu, grid, needles, settings)
    usable = known & ~metal & (baseline.hu > settings.air_hu)
    contrast = _contrast(baseline.hu, expected_drop_hu, settings) * usable
    drop = np.where(usable, baseline.hu - scan_hu, 0.0).astype(np.float32)
    offset_hu, drop = _without_drift(
        drop, usable, contrast, to_active_mm, expected_drop_hu, settings
    )
    trust = _trust(drop, baseline.hu, usable, to_active_mm, grid, settings)
    fraction = _frozen_fraction(drop, contrast, trust, to_active_mm, grid, settings)
    fraction = _rescaled(fraction, contrast, expected_drop_hu, to_active_mm, settings)
    mask = _believable(fraction > 0.5, contrast, expected_drop_hu, to_active_mm, grid, settings)
    ice = _connected(mask, to_active_mm, grid, settings)
    level = np.where(ice, 0.5 - fraction, np.maximum(0.5 - fraction, 0.05)).astype(np.float32)
    level[ice] = np.minimum(level[ice], -1e-3)
    return _measured(
        volume,
        grid,
        known,
        level,
        fraction,
        contrast,
        to_active_mm,
        offset_hu,
        expected_drop_hu,
        settings,
    )


def _refusal(known: BoolArray, needles: Sequence[NeedleConfig], grid: Grid) -> Reason | None:
    if not needles:
        return Reason(
            "needles_unknown", "No needle is known: ice cannot be told from other dark tissue."
        )
    if not known.any():
        return Reason(
            "scan_elsewhere", "The scan and the baseline share no tissue around the lesion."
        )
    for needle in needles:
        index = np.round(grid.to_index_zyx(np.array(needle.tip_lps_mm))).astype(int)
        inside = np.all((index >= 0) & (index < known.shape))
        if not inside or not known[tuple(index)]:
            return Reason(
                "needle_outside_scan",
                f"The tip of needle {needle.number} is outside the scan or the baseline.",
            )
    return None


def _invalid(volume: CtVolume, grid: Grid, known: BoolArray, reason: Reason) -> IceSegmentation:
    return IceSegmentation(
        volume.volume_id,
        volume.acquired_utc_s,
        grid,
        None,
        known,
        float("nan"),
        float("nan"),
        0.0,
        Status.INVALID,
        (*volume.reasons, reason),
    )


def _metal(
    scan_hu: Float32Array,
    base_hu: Float32Array,
    grid: Grid,
    needles: Sequence[NeedleConfig],
    s: Settings,
) -> BoolArray:
    to_shaft_mm = shaft_distance_mm(grid, needles)
    high = np.nan_to_num(np.maximum(scan_hu, base_hu), nan=0.0)
    low = np.nan_to_num(np.minimum(scan_hu, base_hu), nan=0.0)
    streak = (high > s.streak_hu[1]) | (low < s.streak_hu[0])
    streak &= to_shaft_mm < s.streak_reach_mm
    bright = ndimage.binary_dilation(high > s.metal_hu, iterations=1)
    return (to_shaft_mm < s.metal_reach_mm) | bright | streak


def _contrast(base_hu: Float32Array, expected_drop_hu: float, s: Settings) -> Float32Array:
    """The drop in HU that full freezing would cause in each voxel, from its water content."""
    water = np.clip(
        (np.nan_to_num(base_hu) - s.fat_hu) / (s.soft_hu - s.fat_hu), s.fat_contrast, 1.0
    )
    return np.asarray(expected_drop_hu * water, np.float32)


def _without_drift(
    drop: Float32Array,
    usable: BoolArray,
    contrast: Float32Array,
    to_active_mm: Float32Array,
    expected_hu: float,
    s: Settings,
) -> tuple[float, Float32Array]:
    """The drop without the scanner's drift between the scans, taken from tissue too far away to be
    frozen, for fat and for the rest apart: 2 HU are nothing in muscle and a fifth of ice in fat.
    Also the drift in water-rich tissue, HU."""
    far = usable & (to_active_mm > s.far_mm)
    rich = contrast > 0.5 * expected_hu
    drift_hu = _median(drop[far & rich])
    fat_hu = _median(drop[far & ~rich])
    return drift_hu, np.where(usable, drop - np.where(rich, drift_hu, fat_hu), 0.0).astype(
        np.float32
    )


def _median(values: Float32Array) -> float:
    return float(np.median(values)) if len(values) > _ENOUGH else 0.0


def _trust(
    drop: Float32Array,
    base_hu: Float32Array,
    usable: BoolArray,
    to_active_mm: Float32Array,
    grid: Grid,
    s: Settings,
) -> Float32Array:
    """The weight of each voxel's drop, 0..1: what varies from voxel to voxel beside the needles more
    than it does far away is streak, not ice; and an edge of the anatomy may have moved."""
    sigma = s.rough_sigma_mm / np.array(grid.spacing_mm[::-1])
    weight = ndimage.gaussian_filter(usable.astype(np.float32), sigma, truncate=3.0)
    weight = np.maximum(weight, 1e-3)
    mean = ndimage.gaussian_filter(drop, sigma, truncate=3.0) / weight
    rough = ndimage.gaussian_filter(np.where(usable, (drop - mean) ** 2, 0.0), sigma, truncate=3.0)
    rough /= weight
    # The edge of the ice is no streak: a step Δ scatters by Δ²/4 and slopes by Δ/(√2π·σ).
    steps = np.gradient(mean, *grid.spacing_mm[::-1])
    edge = 0.5 * np.pi * s.rough_sigma_mm**2 * sum(g * g for g in steps)
    rough = np.maximum(rough - edge, 0.0)
    far = rough[(to_active_mm > s.far_mm) & usable]
    usual = max(float(np.median(far)), 1.0) if len(far) > _ENOUGH else 100.0
    smooth = ndimage.gaussian_filter(np.clip(np.nan_to_num(base_hu), -120.0, 80.0), sigma)
    slopes = np.gradient(smooth, *grid.spacing_mm[::-1])
    rough = rough + s.misplaced_mm**2 * sum(g * g for g in slopes)
    return np.asarray(usable / np.maximum(rough / usual, 1.0), np.float32)


def _frozen_fraction(
    drop: Float32Array,
    contrast: Float32Array,
    trust: Float32Array,
    to_active_mm: Float32Array,
    grid: Grid,
    s: Settings,
) -> Float32Array:
    """Least squares of drop = f · contrast over a narrow and a wide Gaussian neighbourhood, weighed
    by the squares of their precisions (the narrow one's from the noise far from the ice): the wide
    one's error is a bias at edges, so it must fall silent where the narrow one sees."""
    fine, evidence = _least_squares(drop, contrast, trust, s.fine_sigma_mm, grid)
    coarse, _ = _least_squares(drop, contrast, trust, s.coarse_sigma_mm, grid)
    noise_hu = _scatter_hu(fine * np.sqrt(evidence), to_active_mm, contrast, s)
    narrow = (evidence / noise_hu**2) ** 2
    wide = s.coarse_model_sd**-4
    return np.asarray((narrow * fine + wide * coarse) / (narrow + wide), np.float32)


def _least_squares(
    drop: Float32Array, contrast: Float32Array, trust: Float32Array, sigma_mm: float, grid: Grid
) -> tuple[Float32Array, Float32Array]:
    """The fraction and its evidence, the neighbourhood's mean squared contrast (HU²)."""
    sigma = sigma_mm / np.array(grid.spacing_mm[::-1])
    numerator = ndimage.gaussian_filter(trust * drop * contrast, sigma, truncate=3.0)
    evidence = ndimage.gaussian_filter(trust * contrast * contrast, sigma, truncate=3.0)
    return numerator / np.maximum(evidence, 1.0), evidence


def _scatter_hu(
    smoothed_hu: Float32Array, to_active_mm: Float32Array, contrast: Float32Array, s: Settings
) -> float:
    """The noise left after smoothing, from tissue that cannot be frozen (median absolute deviation)."""
    far = smoothed_hu[(to_active_mm > s.far_mm) & (contrast > 0)]
    if len(far) < _ENOUGH:
        return 5.0
    return max(1.48 * float(np.median(np.abs(far - np.median(far)))), 0.5)


def _rescaled(
    fraction: Float32Array,
    contrast: Float32Array,
    expected_hu: float,
    to_active_mm: Float32Array,
    s: Settings,
) -> Float32Array:
    """The plateau inside the ice is 1 by definition: the true drop differs between patients and
    tube voltages (50-85 HU), and half of the wrong maximum would shift the edge."""
    core = (to_active_mm < s.seed_reach_mm) & (contrast > 0.8 * expected_hu) & (fraction > 0.4)
    if np.count_nonzero(core) < 50:
        return fraction
    # Much of the core is rim, or filled in beside metal: its upper part is the plateau.
    plateau = float(np.clip(np.percentile(fraction[core], s.plateau_percentile), *s.plateau_range))
    return np.asarray(fraction / plateau, np.float32)


def _believable(
    mask: BoolArray,
    contrast: Float32Array,
    expected_hu: float,
    to_active_mm: Float32Array,
    grid: Grid,
    s: Settings,
) -> BoolArray:
    """Where ice hardly shows, a few HU of drift look like it: there it counts only near ice that
    does show, or near a needle."""
    hidden = contrast < 0.5 * expected_hu
    seen = _connected(mask & ~hidden, to_active_mm, grid, s)
    if not seen.any():
        return mask & (~hidden | (to_active_mm < s.hidden_reach_mm))
    to_seen_mm = ndimage.distance_transform_edt(~seen, sampling=grid.spacing_mm[::-1])
    return mask & (~hidden | (np.minimum(to_seen_mm, to_active_mm) < s.hidden_reach_mm))


def _connected(mask: BoolArray, to_active_mm: Float32Array, grid: Grid, s: Settings) -> BoolArray:
    """The parts that reach an active zone, within a needle's reach, without holes."""
    mask = mask & (to_active_mm < s.reach_mm)
    opened = ndimage.binary_opening(mask, ndimage.generate_binary_structure(3, 1))
    labels, _ = ndimage.label(opened)
    seeds = np.unique(labels[to_active_mm < s.seed_reach_mm])
    ice = np.isin(labels, seeds[seeds > 0])
    # Opening shaved the surface; give back what touches it.
    ice = ndimage.binary_dilation(ice, iterations=2) & mask
    ice = _closed(ice, grid, s)
    if np.count_nonzero(ice) * grid.voxel_ml < s.min_volume_ml:
        ice[:] = False
    return ice


def _closed(ice: BoolArray, grid: Grid, s: Settings) -> BoolArray:
    """Without holes and without the notches that streaks cut: ice is nowhere so narrow."""
    outside_mm = ndimage.distance_transform_edt(~ice, sampling=grid.spacing_mm[::-1])
    grown = outside_mm <= s.closing_mm
    inside_mm = ndimage.distance_transform_edt(grown, sampling=grid.spacing_mm[::-1])
    return np.asarray(ndimage.binary_fill_holes(ice | (inside_mm > s.closing_mm)), bool)


def _measured(
    volume: CtVolume,
    grid: Grid,
    known: BoolArray,
    level: Float32Array,
    fraction: Float32Array,
    contrast: Float32Array,
    to_active_mm: Float32Array,
    offset_hu: float,
    expected_hu: float,
    s: Settings,
) -> IceSegmentation:
    """The signed distance with its error and the reasons to doubt it."""
    sdf = signed_distance_mm(level, grid)
    far = (to_active_mm > s.far_mm) & (contrast > 0.8 * expected_hu)
    noise_sd = float(np.std(fraction[far])) if np.count_nonzero(far) > _ENOUGH else 0.15
    edge = np.abs(sdf) < 1.0
    hidden = float(np.mean(contrast[edge] < 0.5 * expected_hu)) if edge.any() else 0.0
    error_mm = float(
        np.hypot(_edge_error_mm(fraction, edge, noise_sd, grid, s), hidden * s.hidden_edge_error_mm)
    )
    reasons = _doubts(known, sdf, hidden, offset_hu, noise_sd, error_mm, s)
    status = worst(volume.status, Status.DEGRADED if reasons else Status.OK)
    quality = float(np.clip(1.0 - error_mm / (2 * s.poor_edge_error_mm), 0.0, 1.0))
    return IceSegmentation(
        volume.volume_id,
        volume.acquired_utc_s,
        grid,
        sdf,
        known,
        volume_ml(sdf, grid),
        error_mm,
        quality,
        status,
        (*volume.reasons, *reasons),
    )


def _edge_error_mm(
    fraction: Float32Array, edge: BoolArray, noise_sd: float, grid: Grid, s: Settings
) -> float:
    """Noise divided by the slope at the edge, with what the method itself leaves uncertain."""
    if not edge.any():
        return s.systematic_edge_error_mm
    slopes = np.gradient(fraction, *grid.spacing_mm[::-1])
    slope = float(np.median(np.sqrt(sum(g * g for g in slopes))[edge]))
    return float(np.hypot(noise_sd / max(slope, 1e-3), s.systematic_edge_error_mm))


def _doubts(
    known: BoolArray,
    sdf: Float32Array,
    hidden: float,
    offset_hu: float,
    noise_sd: float,
    error_mm: float,
    s: Settings,
) -> tuple[Reason, ...]:
    reasons = []
    if abs(offset_hu) > s.mismatch_hu or noise_sd > s.mismatch_fraction_sd:
        reasons.append(
            Reason(
                "baseline_mismatch",
                f"Away from the ice the scan differs from the baseline by {offset_hu:.0f} HU "
                f"(scatter {noise_sd:.2f} of the ice contrast): motion or contrast medium.",
            )
        )
    if np.any((sdf < 1.5) & ~known):
        reasons.append(Reason("ice_leaves_scan", "The ice reaches the end of what was scanned."))
    if hidden > s.hidden_edge_share:
        reasons.append(
            Reason(
                "edge_hidden",
                f"{100 * hidden:.0f} % of the ice edge lies where ice hardly shows (fat, metal, air).",
            )
        )
    if error_mm > s.poor_edge_error_mm:
        reasons.append(Reason("edge_uncertain", f"The ice edge is uncertain by {error_mm:.1f} mm."))
    return tuple(reasons)
