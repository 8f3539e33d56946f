"""Everything that one scan says: how the patient moved, where the needles are, where the ice is.

LPS mm, HU; fields on the analysis grid, which is fixed to the plan's tissue. Invariant: scan,
baseline and plan go in, never the forecast: a measurement that leaned on it could not correct it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from monitor.config import Config, NeedleConfig
from monitor.geometry import FloatArray, Grid
from monitor.imaging import motion
from monitor.imaging.anchors import NO_ANCHORS, Anchors
from monitor.imaging.motion import Template
from monitor.imaging.needle_finding import FoundNeedle, at_found_place, find_needles
from monitor.imaging.needles import (
    active_zone_distance_mm,
    freezing_distance_mm,
    needle_direction,
    shaft_distance_mm,
)
from monitor.imaging.registration import Registration
from monitor.imaging.segmentation import Baseline, Settings, invalid, make_baseline, segment_ice
from monitor.model import CtVolume, IceSegmentation, Reason, Status, worst
from monitor.stages import stage

_SETTINGS = Settings()

# A needle that lies this far from where the tissue has carried it was moved by hand: farther than
# the registration's error (1.5 mm) and the needle's own (1 mm) together explain.
_MOVED_MM = 3.0
# A scan has looked at a needle when it knows so much of what lies so near to its active zone.
_LOOKED_SHARE, _BESIDE_MM = 0.6, 6.0
# Ice within reach of the needles, beside their metal, makes soft tissue this dark, and this much darker
# than what lies around. 25 baselines without ice (tuning seeds): none is; of 188 scans with ice 106 are.
_NEAR_MM, _AROUND_MM, _CLEAR_OF_METAL_MM = 7.0, (14.0, 24.0), 3.0
_ICE_HU, _DARKER_HU = 25.0, 37.0
_FAT_HU, _BONE_HU, _ENOUGH = -75.0, 150.0, 300
# Where nothing was frozen, none is found (scripts/no_ice.py: 0.00 ml; wanted: below 0.3).
_SEEN_ML = 0.5


@dataclass(frozen=True)
class Reference:
    """The pre-freeze scan, prepared for everything that later scans are compared with.
    ``needles`` lie where it shows them (those numbered in ``shown``), or else as planned; ``placed``: the
    same, but where a later scan has shown that a hand has moved them; ``reasons`` to doubt that nothing
    was frozen yet."""

    baseline: Baseline
    template: Template
    needles: tuple[NeedleConfig, ...]
    shown: frozenset[int]
    placed: tuple[NeedleConfig, ...]
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class Measurement:
    """``ice`` lives on the analysis grid, in the plan's frame; ``needles`` are in the scan's.
    ``reference`` is what the next scan is compared with."""

    ice: IceSegmentation
    registration: Registration
    needles: tuple[FoundNeedle, ...]
    reference: Reference


@stage("baseline")
def make_reference(volume: CtVolume, grid: Grid, config: Config) -> Reference:
    """Prepares the baseline; ``grid`` is the analysis grid."""
    found = find_needles(volume, config.needles)
    needles = tuple(
        at_found_place(planned, f) if f.found else planned
        for planned, f in zip(config.needles, found, strict=True)
    )
    template = motion.make_template(volume, grid, needles)
    shown = frozenset(f.number for f in found if f.found)
    baseline = make_baseline(volume, grid)
    return Reference(
        baseline, template, needles, shown, needles, _frozen_already(baseline, needles)
    )


def measure(
    volume: CtVolume,
    reference: Reference,
    config: Config,
    starts_mm: Sequence[FloatArray] = (),
    s: Settings = _SETTINGS,
) -> Measurement:
    """Measures a scan. Never raises on what a scanner may send: what cannot be measured comes back
    INVALID with the reason. ``starts_mm``: shifts worth trying first (that of the scan before)."""
    needles = find_needles(volume, reference.needles)
    starts_mm = [*starts_mm, *_mean_shift(needles, reference.needles)]
    anchors = _anchors(needles, reference.needles)
    registration = motion.register(volume, reference.template, starts_mm, anchors)
    if not all(n.found for n in needles):  # the tissue's way may show where to look
        needles = find_needles(volume, reference.needles, registration.shift_lps_mm)
    placed = _in_plan(needles, reference, registration)
    ice, baseline = segment_ice(
        volume,
        reference.baseline,
        placed,
        config.organ.expected_ice_drop_hu,
        registration,
        s,
    )
    reference = replace(reference, baseline=baseline)
    if ice.status is not Status.INVALID:
        reference = replace(reference, placed=placed)
    ice = _told(ice, needles, reference)
    gone = _gone(ice, needles, reference)
    if gone and ice.status is not Status.INVALID:
        ice = invalid(volume, ice.grid, ice.known, (*ice.reasons, gone))
    return Measurement(ice, registration, needles, reference)


def shows_ice(found: Measurement) -> bool:
    """Whether there is surely ice in the scan that its baseline did not have: what needles it shows the
    baseline shows at the same places, so that what has darkened is no streak of metal from in between."""
    r, ice = found.reference, found.ice
    same = r.placed == r.needles and {n.number for n in found.needles if n.found} <= r.shown
    return same and ice.status is not Status.INVALID and ice.volume_ml >= _SEEN_ML


def _frozen_already(baseline: Baseline, needles: tuple[NeedleConfig, ...]) -> tuple[Reason, ...]:
    """A baseline that looks as ice does: what froze before it cannot be seen by comparing with it."""
    if not needles:
        return ()
    hu, near_mm = baseline.hu, freezing_distance_mm(baseline.grid, needles)
    clear = np.isfinite(hu) & (shaft_distance_mm(baseline.grid, needles) > _CLEAR_OF_METAL_MM)
    here = hu[clear & (near_mm < _NEAR_MM) & (hu > _FAT_HU) & (hu < _BONE_HU)]
    around = hu[clear & (near_mm > _AROUND_MM[0]) & (near_mm < _AROUND_MM[1])
                & (hu > 0.0) & (hu < _BONE_HU)]  # fmt: skip
    if min(len(here), len(around)) < _ENOUGH:
        return ()
    near_hu, around_hu = float(np.median(here)), float(np.median(around))
    if near_hu > min(_ICE_HU, around_hu - _DARKER_HU):
        return ()
    text = (
        f"In the baseline the tissue at the needles has {near_hu:.0f} HU, around them {around_hu:.0f}: "
        "if that is ice, it is not counted."
    )
    return (Reason("baseline_frozen", text),)


def _mean_shift(found: Sequence[FoundNeedle], before: Sequence[NeedleConfig]) -> list[FloatArray]:
    """How the found needles have moved together; empty when none was found."""
    shifts = [
        np.subtract(f.tip_lps_mm, n.tip_lps_mm)
        for f, n in zip(found, before, strict=True)
        if f.found
    ]
    return [np.mean(shifts, axis=0)] if shifts else []


def _anchors(found: Sequence[FoundNeedle], before: Sequence[NeedleConfig]) -> Anchors:
    """The active zone of each found needle, then and now."""
    plan, scan = [], []
    for f, n in zip(found, before, strict=True):
        if f.found:
            length = n.type.active_length_mm
            plan.append(np.array(n.tip_lps_mm) + np.outer((0.0, length), needle_direction(n)))
            scan.append(np.array(f.tip_lps_mm) + np.outer((0.0, length), f.direction))
    return Anchors(np.array(plan), np.array(scan)) if plan else NO_ANCHORS


def _in_plan(
    found: Sequence[FoundNeedle], reference: Reference, registration: Registration
) -> tuple[NeedleConfig, ...]:
    """Each needle where it is now, in the plan's frame: one moved by hand freezes elsewhere. Less than
    that is the error of finding it."""

    def place(f: FoundNeedle, before: NeedleConfig, placed: NeedleConfig) -> NeedleConfig:
        if not f.found:
            return placed
        known = (n for n in (before, placed) if not _moved(f, n, registration))
        return next(known, None) or _carried_back(at_found_place(before, f), registration)

    return tuple(map(place, found, reference.needles, reference.placed))


def _carried_back(needle: NeedleConfig, registration: Registration) -> NeedleConfig:
    ends = registration.to_plan(np.array([needle.tip_lps_mm, needle.entry_lps_mm]))
    tip, entry = ((float(p[0]), float(p[1]), float(p[2])) for p in ends)
    return replace(needle, tip_lps_mm=tip, entry_lps_mm=entry)


def _moved(found: FoundNeedle, before: NeedleConfig, registration: Registration) -> bool:
    """Whether the needle has moved against the tissue."""
    expected = registration.to_scan(np.array([before.tip_lps_mm]))[0]
    return float(np.linalg.norm(np.subtract(found.tip_lps_mm, expected))) > _MOVED_MM


def _told(
    ice: IceSegmentation, found: Sequence[FoundNeedle], reference: Reference
) -> IceSegmentation:
    """With a word on the baseline, and on needles that were moved, or that the scan should show and
    does not."""
    if ice.status is Status.INVALID:
        return ice
    pairs = zip(reference.needles, reference.placed, strict=True)
    moved = [before.number for before, now in pairs if now != before]
    lost = [f.number for f in found if not f.found]
    reasons = [*reference.reasons]
    if moved:
        text = f"Needle {_listed(moved)} has moved against the tissue since the baseline."
        reasons.append(Reason("needle_moved", text))
    if lost:
        text = f"Needle {_listed(lost)} was not found in the scan; where it was planned is taken for it."
        reasons.append(Reason("needle_not_found", text))
    if not reasons:
        return ice
    return replace(ice, status=worst(ice.status, Status.DEGRADED), reasons=(*ice.reasons, *reasons))


def _gone(
    ice: IceSegmentation, found: Sequence[FoundNeedle], reference: Reference
) -> Reason | None:
    """Why there is no measurement where the baseline shows a needle and the scan, which looked there,
    does not: the missing metal and its streaks would pass for ice."""
    gone = [
        n.number
        for n, f in zip(reference.needles, found, strict=True)
        if not f.found and n.number in reference.shown and _looked_at(ice, n)
    ]
    if not gone:
        return None
    text = f"Needle {_listed(gone)} is in the baseline and not in the scan: their difference is no ice."
    return Reason("needle_gone", text)


def _looked_at(ice: IceSegmentation, needle: NeedleConfig) -> bool:
    beside = active_zone_distance_mm(ice.grid, [needle]) < _BESIDE_MM
    return bool(beside.any() and ice.known[beside].mean() > _LOOKED_SHARE)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
