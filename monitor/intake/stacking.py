"""From the slices of one pass to a ``CtVolume``, or the reason why they are none. LPS mm.

Invariant: the geometry of a volume reproduces every slice's ImagePositionPatient to 0.05 mm, or
there is no volume.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monitor.geometry import SliceGeometry
from monitor.model import CtSlice, CtVolume, FloatArray, Reason, Status

COLLINEAR_MM = 0.05


def stack(slices: Sequence[CtSlice], volume_id: str, completed_by: str) -> CtVolume | Reason:
    """The volume of parallel slices in any order, ascending along their normal."""
    if len(slices) < 2:
        return Reason("single_slice", "A single slice makes no volume.")
    first = slices[0]
    normal = np.cross(first.row_direction, first.column_direction)
    ordered = sorted(slices, key=lambda s: float(s.position_lps_mm @ normal))
    positions = np.stack([s.position_lps_mm for s in ordered])
    span = positions[-1] - positions[0]
    axis = span / np.linalg.norm(span)
    offsets = (positions - positions[0]) @ axis
    astray = np.linalg.norm(positions - positions[0] - offsets[:, None] * axis, axis=1)
    if astray.max() > COLLINEAR_MM:
        return Reason(
            "slices_not_collinear",
            f"The slices' positions leave a straight line by {astray.max():.2f} mm.",
        )
    thickness = first.slice_thickness_mm or float(np.median(np.diff(offsets)))
    geometry = SliceGeometry(
        _triple(positions[0]),
        _triple(first.row_direction),
        _triple(first.column_direction),
        _triple(axis),
        first.pixel_spacing_mm[1],
        first.pixel_spacing_mm[0],
        tuple(float(o) for o in offsets),
        thickness,
        *first.hu.shape,
    )
    acquired_utc_s, reasons = _acquired(ordered)
    reasons += gap_reasons(offsets)
    if not first.series_uid:
        reasons.append(Reason("series_uid_missing", "The images name no series."))
    hu = np.stack([s.hu for s in ordered])
    hu.setflags(write=False)
    return CtVolume(
        volume_id,
        geometry,
        hu,
        first.patient_id,
        first.series_uid,
        first.frame_of_reference_uid,
        acquired_utc_s,
        max(s.instance.received_utc_s for s in slices),
        tuple(s.instance for s in ordered),
        completed_by,
        Status.DEGRADED if reasons else Status.OK,
        tuple(reasons),
    )


def gap_reasons(offsets_mm: FloatArray) -> list[Reason]:
    """Whether the slices are evenly spaced, have holes, or neither."""
    gaps = np.diff(offsets_mm)
    usual = float(np.median(gaps))
    tolerance = max(0.02, 0.01 * usual)
    if np.all(np.abs(gaps - usual) <= tolerance):
        return []
    multiples = np.rint(gaps / usual)
    if (
        np.all(np.abs(gaps - multiples * usual) <= tolerance * np.maximum(multiples, 1))
        and multiples.min() >= 1
    ):
        at = ", ".join(str(int(i) + 1) for i in np.flatnonzero(multiples > 1))
        missing = int((multiples - 1).sum())
        return [Reason("missing_slices", f"{missing} slice(s) missing, after slice {at}.")]
    return [
        Reason(
            "variable_slice_gap",
            f"The distance between slices varies from {gaps.min():.2f} to {gaps.max():.2f} mm.",
        )
    ]


def contiguous(slices: Sequence[CtSlice]) -> bool:
    """Whether no hole shows between the slices so far."""
    normal = np.cross(slices[0].row_direction, slices[0].column_direction)
    gaps = np.diff(np.sort([float(s.position_lps_mm @ normal) for s in slices]))
    return bool(len(gaps)) and float(gaps.max()) <= 1.5 * float(np.median(gaps))


def _acquired(slices: Sequence[CtSlice]) -> tuple[float, list[Reason]]:
    """The middle of the acquisition; the first arrival when the images do not say."""
    times = [s.acquired_utc_s for s in slices if s.acquired_utc_s is not None]
    if times:
        return 0.5 * (min(times) + max(times)), []
    arrived = min(s.instance.received_utc_s for s in slices)
    return arrived, [
        Reason(
            "acquisition_time_missing",
            "The images do not say when they were acquired; their arrival is used.",
        )
    ]


def _triple(v: FloatArray) -> tuple[float, float, float]:
    return (float(v[0]), float(v[1]), float(v[2]))
