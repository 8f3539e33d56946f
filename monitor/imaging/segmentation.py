"""Ice in a scan: what has darkened since the baseline around the needles, as a surface with bounds.

HU, mm, fields on the analysis grid (z, y, x) in the plan's frame. The edge is where half of the water
is frozen. Invariant: nothing of the forecast enters here. A measurement that leans on the model
could not correct it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from monitor.config import NeedleConfig
from monitor.geometry import Grid
from monitor.imaging import evidence, surface
from monitor.imaging.distance import signed_distance_mm, volume_ml
from monitor.imaging.evidence import Comparison
from monitor.imaging.needles import active_zone_distance_mm
from monitor.imaging.registration import Registration
from monitor.imaging.resampling import hu_on_grid
from monitor.imaging.surface import Edge
from monitor.model import CtVolume, Float32Array, IceSegmentation, Reason, Status, worst
from monitor.stages import stage

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Settings:
    """When a result is ice at all, and when to doubt it; each number with its reason."""

    evidence: evidence.Settings = field(default_factory=evidence.Settings)
    surface: surface.Settings = field(default_factory=surface.Settings)
    # Ice in clear tissue has a gain of some 1800 per ml; with one in a hundred of that the streaks may
    # be stronger than the ice.
    least_gain_per_ml: float = 18.0
    # Below this a blob cannot be told from noise and motion beside the needle.
    min_volume_ml: float = 0.15
    # So much better (log-likelihood) must ice explain the scan than none (no ice at all: 0 to 4).
    min_gain: float = 12.0
    # The bounds: 90 % of the true surface lies within so many of the fit's deviations (tuning scans;
    # the fit does not know of streaks and of registration).
    bound_sds: float = 1.9
    # Slices above this, by so much of the excess: a surface between two of them is guessed (tuning scans
    # with every two slices averaged, or every second one taken away).
    usual_slice_mm: float = 2.5
    coarse_share: float = 0.35
    # The edge counts as hidden where its deviation is more than this; on so much of it the result
    # is doubtful.
    hidden_sd_mm: float = 1.2
    hidden_share: float = 0.25
    # With so much of it hidden nothing but the needles says where the ice is: that is no measurement.
    unseen_share: float = 0.8
    poor_edge_error_mm: float = 1.5
    # Ice begins this near to an active zone; if it would not explain so much there, none found says
    # nothing (lung: 30 to 40; elsewhere 150 and more).
    first_ice_mm: float = 6.0
    min_would_show: float = 100.0
    # Beyond this, away from ice, the scans do not match: contrast came, or another exposure.
    mismatch_hu: float = 12.0
    mismatch_noise_hu: float = 45.0
    # Lung brightens by blood more than by noise.
    filled_step_hu: float = 25.0
    # What filled this near to an active zone may have been frozen then, seen or not.
    core_mm: float = 7.0
    # A needle is in the picture when so much of its surroundings is.
    needle_reach_mm: float = 5.0
    needle_seen: float = 0.3


@dataclass(frozen=True)
class Baseline:
    """The pre-freeze scan on the analysis grid; ``hu`` is NaN where it did not look. ``filled_hu``: what
    lung has filled with since (blood, after a thaw), NaN elsewhere and where it did so within ice."""

    volume_id: str
    frame_of_reference_uid: str
    grid: Grid
    hu: Float32Array
    filled_hu: Float32Array | None = None

    @property
    def filled(self) -> BoolArray:
        """Where lung has filled."""
        if self.filled_hu is None:
            return np.zeros(self.hu.shape, bool)
        return np.isfinite(self.filled_hu)

    @property
    def unfrozen_hu(self) -> Float32Array:
        """The tissue without ice, as it was last seen."""
        return self.hu if self.filled_hu is None else np.where(self.filled, self.filled_hu, self.hu)


def make_baseline(volume: CtVolume, grid: Grid) -> Baseline:
    """The baseline of a procedure, from its volume."""
    return Baseline(volume.volume_id, volume.frame_of_reference_uid, grid, hu_on_grid(volume, grid))


@stage("segmentation")
def segment_ice(
    volume: CtVolume,
    baseline: Baseline,
    needles: Sequence[NeedleConfig],
    expected_drop_hu: float,
    registration: Registration | None = None,
    s: Settings = Settings(),
) -> tuple[IceSegmentation, Baseline]:
    """The ice in ``volume`` on the baseline's grid, where the tissue lay then, and the baseline for the
    next scan. Never raises on what a scanner may send: what cannot be measured comes back INVALID
    with the reason."""
    grid = baseline.grid
    moved_mm = None if registration is None else registration.displacement_on(grid)
    scan_hu = hu_on_grid(volume, grid, moved_mm)
    known = np.isfinite(scan_hu) & np.isfinite(baseline.hu)
    matched = () if registration is None else registration.reasons
    if registration is not None and registration.status is Status.INVALID:
        return invalid(volume, grid, known, (*volume.reasons, *matched)), baseline
    refusal = _refusal(known, needles, grid, s)
    if refusal:
        return invalid(volume, grid, known, (*volume.reasons, *matched, refusal)), baseline
    compared = evidence.compare(
        scan_hu, baseline.unfrozen_hu, baseline.filled, grid, needles, expected_drop_hu, s.evidence
    )
    edge = surface.fit_edge(compared.evidence, s.surface)
    edge = replace(edge, sd_mm=np.hypot(edge.sd_mm, _coarse_mm(volume, s)))
    uncertain_mm = 0.0 if registration is None else registration.error_mm
    ice = _measured(volume, grid, compared, edge, uncertain_mm, s)
    ice = replace(
        ice,
        reasons=(*volume.reasons, *matched, *ice.reasons),
        status=worst(volume.status, ice.status, Status.DEGRADED if matched else Status.OK),
    )
    distance_mm = compared.evidence.distance_mm
    core_mm = 0.0 if ice.sdf_mm is None else edge.radius_mm + np.float32(s.bound_sds) * edge.sd_mm
    return ice, _filled(baseline, scan_hu, distance_mm > np.maximum(core_mm, s.core_mm), s)


def _filled(baseline: Baseline, scan_hu: Float32Array, outside: BoolArray, s: Settings) -> Baseline:
    """With what aerated lung has filled with since: in the next freeze it darkens like other tissue.
    What filled within the ice never showed itself unfrozen."""
    before = baseline.unfrozen_hu
    came = outside & (baseline.hu < s.evidence.air_hu)
    came &= (scan_hu > s.evidence.air_hu) & (scan_hu > before + s.filled_step_hu)
    if not came.any():
        return baseline
    kept = np.nan if baseline.filled_hu is None else baseline.filled_hu
    return replace(baseline, filled_hu=np.where(came, scan_hu, kept).astype(np.float32))


def _coarse_mm(volume: CtVolume, s: Settings) -> np.float32:
    """What slices thicker or farther apart than those the fit was made for add to the deviation."""
    g = volume.geometry
    excess_mm = max(g.slice_thickness_mm, g.slice_spacing_mm) - s.usual_slice_mm
    return np.float32(s.coarse_share * max(excess_mm, 0.0))


def _refusal(
    known: BoolArray, needles: Sequence[NeedleConfig], grid: Grid, s: Settings
) -> Reason | None:
    if not needles:
        return Reason(
            "needles_unknown", "No needle is known: ice cannot be told from other dark tissue."
        )
    if not known.any():
        return Reason(
            "scan_elsewhere", "The scan and the baseline share no tissue around the lesion."
        )
    near = active_zone_distance_mm(grid, needles) < s.needle_reach_mm
    if not near.any() or known[near].mean() < s.needle_seen:
        return Reason("needle_outside_scan", "The needles are outside the scan or the baseline.")
    return None


def invalid(
    volume: CtVolume, grid: Grid, known: BoolArray, reasons: tuple[Reason, ...]
) -> IceSegmentation:
    """No measurement of ``volume``, and why."""
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
        reasons,
    )


def _measured(
    volume: CtVolume,
    grid: Grid,
    compared: Comparison,
    edge: Edge,
    uncertain_mm: float,
    s: Settings,
) -> IceSegmentation:
    """The surface with its bounds and the reasons to doubt it."""
    level = np.clip(compared.evidence.distance_mm - edge.radius_mm, -30.0, 30.0).astype(np.float32)
    if edge.gain < s.min_gain or np.count_nonzero(level < 0) * grid.voxel_ml < s.min_volume_ml:
        level = np.full_like(level, np.inf)
    sdf = signed_distance_mm(level, grid)
    band_mm = s.bound_sds * np.hypot(edge.sd_mm, np.float32(0.5 * uncertain_mm))
    near = np.abs(sdf) < grid.spacing_mm[0]
    error_mm, hidden = _edge_quality(edge, near, uncertain_mm, s)
    thin = bool(near.any()) and edge.gain < s.least_gain_per_ml * volume_ml(sdf, grid)
    reasons = _doubts(compared, sdf, error_mm, hidden, thin, s)
    if hidden > s.unseen_share:
        return invalid(volume, grid, compared.known, reasons)
    if not near.any() and _would_show(compared, s) < s.min_would_show:
        text = (
            "No ice is seen, but around the needles it would hardly show (air, metal, fat, bone)."
        )
        reasons = (*reasons, Reason("ice_would_not_show", text))
        return invalid(volume, grid, compared.known, reasons)
    return IceSegmentation(
        volume.volume_id,
        volume.acquired_utc_s,
        grid,
        sdf,
        compared.known,
        volume_ml(sdf, grid),
        error_mm,
        float(np.clip(1.0 - 0.5 * error_mm / s.poor_edge_error_mm, 0.0, 1.0)),
        Status.DEGRADED if reasons else Status.OK,
        reasons,
        (sdf + band_mm).astype(np.float32),
        (sdf - band_mm).astype(np.float32),
    )


def _edge_quality(
    edge: Edge, near: BoolArray, uncertain_mm: float, s: Settings
) -> tuple[float, float]:
    """(one-sigma error of the edge's position in mm, share of the edge that hardly shows)."""
    if not near.any():
        return float(np.hypot(s.surface.least_sd_mm, uncertain_mm)), 0.0
    sd_mm = edge.sd_mm[near]
    error_mm = float(np.sqrt(np.mean(sd_mm**2) + uncertain_mm**2))
    return error_mm, float(np.mean(sd_mm > s.hidden_sd_mm))


def _would_show(compared: Comparison, s: Settings) -> float:
    """The gain that ice around the active zones would have."""
    e = compared.evidence
    first = e.distance_mm < s.first_ice_mm
    whole = float((0.5 * e.weight * e.contrast_hu**2)[first].sum())
    return whole * e.spacing_mm**3 / 1000.0 / s.surface.correlated_ml


def _doubts(
    compared: Comparison, sdf: Float32Array, error_mm: float, hidden: float, thin: bool, s: Settings
) -> tuple[Reason, ...]:
    """``hidden`` is the share of the edge that hardly shows; ``thin``: so does all of the ice."""
    reasons = []
    if abs(compared.drift_hu) > s.mismatch_hu or compared.noise_hu > s.mismatch_noise_hu:
        text = (
            f"Away from the ice the scan differs from the baseline by {compared.drift_hu:.0f} HU "
            f"(scatter {compared.noise_hu:.0f} HU): motion or contrast medium."
        )
        reasons.append(Reason("baseline_mismatch", text))
    if np.any((sdf < 1.5) & ~compared.known):
        reasons.append(Reason("ice_leaves_scan", "The ice reaches the end of what was scanned."))
    if hidden > s.hidden_share:
        text = f"{100 * hidden:.0f} % of the ice edge lies where ice hardly shows (fat, bone, metal, air)."
        reasons.append(Reason("edge_hidden", text))
    elif thin:
        reasons.append(Reason("edge_hidden", "Metal or its streaks hide most of the ice."))
    elif error_mm > s.poor_edge_error_mm:
        reasons.append(Reason("edge_uncertain", f"The ice edge is uncertain by {error_mm:.1f} mm."))
    return tuple(reasons)
