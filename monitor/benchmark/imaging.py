"""Measures rendered scenarios scan by scan and scores each against its truth. LPS mm, ml, seconds.

The monitor sees what it would see in the room (case and images); the truth is read only to score.
Invariant: every scan after the baseline yields one ``Row``; what could not be measured is None.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from monitor.benchmark import scores
from monitor.benchmark.scores import BoolArray
from monitor.benchmark.truth import (
    ScanTruth,
    Scenario,
    frozen_minutes,
    open_scenarios,
    read_truth,
)
from monitor.decision.assessment import assess
from monitor.geometry import FloatArray, Grid, SliceGeometry
from monitor.imaging.distance import sample
from monitor.imaging.mask import extent_lps_mm, level_at
from monitor.imaging.measurement import Measurement, make_reference, measure
from monitor.imaging.registration import Registration
from monitor.imaging.segmentation import Baseline
from monitor.intake.folder import soft_volume, volumes_in
from monitor.model import SDS_90, CtVolume, worst
from monitor.opening import open_case
from monitor.procedure import Procedure

# A scan of the whole region has as many slices as the baseline, fluoroscopy a few.
_WHOLE, _FLUORO_SLICES = 0.9, 8
# Room around the true and the measured ice in which they are compared.
_ROOM_MM = 4.0
# Blurred so, the baseline tells water-rich tissue in spite of its noise (voxels of 1 mm).
_WATER_SIGMA, _WATER_HU = 1.0, 0.0
_ENOUGH_POINTS = 20


@dataclass(frozen=True)
class Row:
    """One scan. Lengths mm; Dice and shares 0..1; errors are measured − true; None: not known, or
    nothing to compare. ``minutes`` and ``frozen_minutes`` since the baseline and of freezing.
    ``margin_delineated_error_mm`` is against the margin of the lesion as its contours have it, which
    a few slices of a delineation enlarge: what is left of the error when that is taken out."""

    scenario: str
    scan: int
    minutes: float
    frozen_minutes: float
    kind: str
    status: str
    reasons: tuple[str, ...]
    dice: float | None
    dice_water: float | None
    surface_mean_mm: float | None
    surface_p95_mm: float | None
    volume_true_ml: float
    volume_ml: float | None
    volume_error_percent: float | None
    margin_true_mm: float | None
    margin_mm: float | None
    margin_error_mm: float | None
    margin_delineated_error_mm: float | None
    coverage_true: float
    coverage: float | None
    coverage_error: float | None
    between_share: float | None
    true_area_mm2: float
    edge_error_mm: float | None
    needles_found: str
    needle_tip_mm: float | None
    needle_angle_deg: float | None
    registration_mm: float | None
    registration_said_mm: float | None
    wall_s: float
    ice_seen: bool


def run(folders: list[Path], say: Callable[[str], None]) -> Iterator[tuple[Scenario, list[Row]]]:
    """Scenario by scenario, so that one's images are gone before the next one's come."""
    for scenario in open_scenarios(folders):
        yield scenario, _rows(scenario, say)


def _rows(scenario: Scenario, say: Callable[[str], None]) -> list[Row]:
    config, procedure = open_case(scenario.case)
    first = soft_volume(
        volumes_in(scenario.scan_folder(0), config.patient_id, config.frame_of_reference_uid)
    )
    reference = make_reference(first, procedure.analysis_grid, config)
    rows: list[Row] = []
    shifts_mm: tuple[FloatArray, ...] = ()
    for entry in scenario.scans[1:]:
        truth = read_truth(scenario, entry)
        folder = scenario.scan_folder(truth.number)
        volume = soft_volume(volumes_in(folder, config.patient_id, first.frame_of_reference_uid))
        began = time.perf_counter()
        found = measure(volume, reference, config, shifts_mm)
        wall_s = time.perf_counter() - began
        shifts_mm = (np.array(found.registration.shift_lps_mm),)  # as in a procedure
        reference = found.reference
        rows.append(score(scenario.name, found, truth, volume, first, procedure, wall_s))
        say(_line(rows[-1]))
    return rows


def _line(row: Row) -> str:
    said = "no ice" if row.dice is None else f"Dice {row.dice:.3f}"
    return f"{row.scenario} scan {row.scan} ({row.kind}): {row.status}, {said}, {row.wall_s:.1f} s"


def score(
    name: str,
    found: Measurement,
    truth: ScanTruth,
    volume: CtVolume,
    first: CtVolume,
    procedure: Procedure,
    wall_s: float,
) -> Row:
    """One measurement against the truth of its scan; ``first`` is the baseline's volume."""
    ice, moved = found.ice, found.registration
    assessment = assess(ice, procedure.plan, None)
    tip_mm, angle_deg = _needles(found, truth)
    return Row(
        scenario=name,
        scan=truth.number,
        minutes=truth.minutes,
        frozen_minutes=frozen_minutes(procedure.config.protocol, truth.minutes),
        kind=_kind(volume, first),
        status=worst(ice.status, moved.status).value,
        reasons=tuple(dict.fromkeys(r.code for r in (*ice.reasons, *moved.reasons))),
        volume_true_ml=truth.ice_volume_ml,
        volume_ml=_known(ice.volume_ml),
        margin_true_mm=truth.min_margin_mm,
        margin_mm=assessment.min_margin_mm,
        margin_error_mm=_difference(assessment.min_margin_mm, truth.min_margin_mm),
        margin_delineated_error_mm=_difference(
            assessment.min_margin_mm, _delineated_margin_mm(truth, procedure)
        ),
        coverage_true=truth.lesion_covered,
        coverage=assessment.lesion_covered,
        coverage_error=_difference(assessment.lesion_covered, truth.lesion_covered),
        edge_error_mm=_known(ice.edge_error_mm),
        needles_found=f"{sum(n.found for n in found.needles)}/{len(truth.needles)}",
        needle_tip_mm=tip_mm,
        needle_angle_deg=angle_deg,
        registration_mm=registration_mm(moved, truth, volume.geometry, procedure),
        registration_said_mm=_known(moved.error_mm),
        wall_s=wall_s,
        **_overlap(found, truth, volume.geometry),
    )


def _kind(volume: CtVolume, first: CtVolume) -> str:
    slices = len(volume.hu)
    if slices >= _WHOLE * len(first.hu):
        return "volume"
    return "fluoro" if slices <= _FLUORO_SLICES else "partial"


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _difference(measured: float | None, true: float | None) -> float | None:
    return None if measured is None or true is None else measured - true


# ------------------------------------------------------------------ the ice


def _overlap(found: Measurement, truth: ScanTruth, geometry: SliceGeometry) -> dict[str, Any]:
    """The scores that compare ice with ice, where the scan looked. An INVALID measurement has no
    overlap with ice that is there: its Dice is 0, its distances are unknown."""
    grid, true_ice, true_level = _around_the_ice(found, truth)
    points = grid.points_lps_mm()
    seen = looked(geometry, points)
    level = level_at(found.ice, found.registration, points)
    water = _water(found.reference.baseline, truth.motion.to_plan(points)) & seen
    true, mine = scores.surface(true_level, grid), scores.surface(level, grid)
    true_seen = looked(geometry, true.points_lps_mm)
    error = scores.surface_error(mine, true, looked(geometry, mine.points_lps_mm), true_seen)
    measured = found.ice.sdf_mm is not None
    larger = scores.volume_error_percent(level <= 0, true_ice, seen)
    return {
        "dice": _known(scores.dice(level <= 0, true_ice, seen)),
        "dice_water": _known(scores.dice(level <= 0, true_ice, water)),
        "surface_mean_mm": _known(error.mean_mm),
        "surface_p95_mm": _known(error.p95_mm),
        "volume_error_percent": _known(larger) if measured else None,
        "between_share": _between(found, true.only(true_seen)),
        "true_area_mm2": float(true.areas_mm2[true_seen].sum()),
        "ice_seen": bool((true_ice & seen).any()),
    }


def _around_the_ice(found: Measurement, truth: ScanTruth) -> tuple[Grid, BoolArray, FloatArray]:
    """The truth (mask and level) on its own voxels, cut or padded to hold all ice, true or measured:
    what was measured where the truth's field ends is wrong too."""
    whole = truth.ice if truth.ice.any() else np.ones_like(truth.ice)
    corners = truth.grid.to_lps_mm(np.argwhere(whole))
    ends = np.vstack([corners, *(extent_lps_mm(found.ice, found.registration) or ())])
    box = np.stack([ends.min(0) - _ROOM_MM, ends.max(0) + _ROOM_MM])
    index = truth.grid.to_index_zyx(box)
    low, high = np.floor(index[0]).astype(int), np.ceil(index[1]).astype(int) + 1
    shape = np.array(truth.grid.shape_zyx)
    inner = tuple(slice(max(a, 0), b) for a, b in zip(low, high, strict=True))
    pad = [(max(-a, 0), max(b - n, 0)) for a, b, n in zip(low, high, shape, strict=True)]
    ice = np.pad(truth.ice[inner], pad)
    level = np.pad(truth.level[inner], pad, constant_values=0.5)
    x, y, z = (float(v) for v in truth.grid.to_lps_mm(low))
    return Grid((x, y, z), truth.grid.spacing_mm, ice.shape), ice, level


def looked(geometry: SliceGeometry, points_lps_mm: FloatArray) -> BoolArray:
    """Whether points (..., 3) lie within the slices, each half its thickness to both sides."""
    k, j, i = np.moveaxis(geometry.to_index_zyx(points_lps_mm), -1, 0)
    half = 0.5 * geometry.slice_thickness_mm / geometry.slice_spacing_mm
    inside = (k >= -half) & (k <= len(geometry.slice_offsets_mm) - 1 + half)
    inside &= (j >= -0.5) & (j <= geometry.rows - 0.5)
    return np.asarray(inside & (i >= -0.5) & (i <= geometry.columns - 0.5))


def _water(baseline: Baseline, plan_points: FloatArray) -> BoolArray:
    """Where tissue holds enough water to darken when it freezes, by the baseline's CT number."""
    hu = ndimage.gaussian_filter(np.nan_to_num(baseline.hu, nan=-1000.0), _WATER_SIGMA)
    return np.asarray(sample(hu, baseline.grid, plan_points, outside=-1000.0) > _WATER_HU)


def _between(found: Measurement, true: scores.Surface) -> float | None:
    """The share of the true surface within the measured one's 90 % bounds."""
    ice, moved = found.ice, found.registration
    if ice.sdf_mm is None:
        return None
    points = true.points_lps_mm
    if ice.inner_sdf_mm is None or ice.outer_sdf_mm is None:
        edge = level_at(ice, moved, points)
        spread_mm = SDS_90 * ice.edge_error_mm
        inner, outer = edge + spread_mm, edge - spread_mm
    else:
        inner, outer = (
            level_at(ice, moved, points, f) for f in (ice.inner_sdf_mm, ice.outer_sdf_mm)
        )
    return _known(scores.between_share(inner, outer, true.areas_mm2))


def _delineated_margin_mm(truth: ScanTruth, procedure: Procedure) -> float | None:
    """The smallest depth of the delineated lesion in the true ice, where its tissue truly was."""
    if truth.min_margin_mm is None:
        return None
    lesion = truth.motion.to_scan(procedure.plan.lesion.points_lps_mm)
    apart = scores.distance_mm(lesion, scores.surface(truth.level, truth.grid))
    outside = sample(truth.level, truth.grid, lesion, outside=0.5) > 0
    return _known(float(np.where(outside, -apart, apart).min()))


# ------------------------------------------------------------------ needles and motion


def _needles(found: Measurement, truth: ScanTruth) -> tuple[float | None, float | None]:
    """The worst tip and the worst angle among the needles that were found; None when none was."""
    mine = {n.number: n for n in found.needles if n.found}
    errors = [
        scores.needle_error(
            np.array(mine[true.number].tip_lps_mm),
            np.array(mine[true.number].direction),
            np.array(true.tip_lps_mm),
            np.subtract(true.entry_lps_mm, true.tip_lps_mm),
        )
        for true in truth.needles
        if true.number in mine
    ]
    if not errors:
        return None, None
    return max(e[0] for e in errors), max(e[1] for e in errors)


def registration_mm(
    registration: Registration, truth: ScanTruth, geometry: SliceGeometry, procedure: Procedure
) -> float | None:
    """The median error of the registration over the lesion's border, where the scan looked."""
    border = scores.surface(procedure.lesion_sdf, procedure.analysis_grid).points_lps_mm
    true = truth.motion.to_scan(border)
    seen = looked(geometry, true)
    if np.count_nonzero(seen) < _ENOUGH_POINTS:
        return None
    mine = registration.to_scan(border[seen])
    return float(np.median(np.linalg.norm(mine - true[seen], axis=1)))
