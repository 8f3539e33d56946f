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
# Slices this many thicknesses apart leave tissue out; a little more than 1 is a habit of table speeds.
_APART = 1.5


def stack(slices: Sequence[CtSlice], volume_id: str, completed_by: str) -> CtVolume | Reason:
    """The volume of parallel slices in any order, ascending along their normal. CT fluoroscopy
    makes volumes of two slices; one alone has no extent along its normal."""
    if len(slices) < 2:
        code = "incomplete_at_end" if completed_by == "end" else "single_slice"
        return Reason(code, "A single slice makes no volume.")
    ordered = sorted(slices, key=_height_mm)
    geometry = _geometry(ordered)
    if isinstance(geometry, Reason):
        return geometry
    first = ordered[0]
    acquired_utc_s, reasons = _acquired(slices)
    reasons += gap_reasons(np.array(geometry.slice_offsets_mm)) or apart_reasons(geometry)
    if not first.series_uid:
        reasons.append(Reason("series_uid_missing", "The images name no series."))
    hu = np.stack([s.hu for s in ordered])
    hu.setflags(write=False)
    return CtVolume(
        volume_id=volume_id,
        geometry=geometry,
        hu=hu,
        patient_id=first.patient_id,
        series_uid=first.series_uid,
        frame_of_reference_uid=first.frame_of_reference_uid,
        acquired_utc_s=acquired_utc_s,
        last_received_utc_s=max(s.instance.received_utc_s for s in slices),
        instances=tuple(s.instance for s in ordered),
        completed_by=completed_by,
        status=Status.DEGRADED if reasons else Status.OK,
        reasons=tuple(reasons),
        patient_name=first.patient_name,
        series_description=first.series_description,
    )


def _height_mm(s: CtSlice) -> float:
    """Along the normal, which is row × column direction: the same for all slices of a pass."""
    return float(s.position_lps_mm @ np.cross(s.row_direction, s.column_direction))


def _geometry(ordered: Sequence[CtSlice]) -> SliceGeometry | Reason:
    first = ordered[0]
    positions = np.stack([s.position_lps_mm for s in ordered])
    span = positions[-1] - positions[0]
    axis = span / np.linalg.norm(span)
    offsets = (positions - positions[0]) @ axis
    astray = np.linalg.norm(positions - positions[0] - offsets[:, None] * axis, axis=1).max()
    lowest_rise = np.diff([_height_mm(s) for s in ordered]).min()
    if not astray <= COLLINEAR_MM or not lowest_rise > 0:
        return Reason(
            "slices_not_collinear",
            f"The slices' positions leave a straight line by {astray:.2f} mm.",
        )
    # The thickest, since it bounds the gaps that are honestly filled.
    thicknesses = [s.slice_thickness_mm for s in ordered if s.slice_thickness_mm is not None]
    return SliceGeometry(
        origin_lps_mm=_triple(positions[0]),
        row_direction=_triple(first.row_direction),
        column_direction=_triple(first.column_direction),
        slice_axis=_triple(axis),
        column_spacing_mm=first.pixel_spacing_mm[1],
        row_spacing_mm=first.pixel_spacing_mm[0],
        slice_offsets_mm=tuple(float(o) for o in offsets),
        slice_thickness_mm=max(thicknesses, default=_usual(np.diff(offsets))),
        rows=first.hu.shape[0],
        columns=first.hu.shape[1],
    )


def astray(slices: Sequence[CtSlice]) -> list[CtSlice]:
    """The few, a tenth at most, that lie off the line of all others: without them there may be a volume."""
    heights = np.array([_height_mm(s) for s in slices])
    first, second = np.triu_indices(len(slices), 1)
    rises = heights[second] - heights[first]
    risen = np.abs(rises) > COLLINEAR_MM
    if not risen.any():
        return []
    off = np.zeros(len(slices))
    for axis in (slices[0].row_direction, slices[0].column_direction):
        across = np.array([float(s.position_lps_mm @ axis) for s in slices])
        slopes = (across[second] - across[first])[risen] / rises[risen]
        level = across - np.median(slopes) * heights  # of most pairs, whatever a few say
        off = np.hypot(off, level - np.median(level))
    found = [s for s, d in zip(slices, off, strict=True) if not d <= 2.0 * COLLINEAR_MM]
    return found if len(found) <= max(len(slices) // 10, 1) and len(slices) > 3 else []


def gap_reasons(offsets_mm: FloatArray) -> list[Reason]:
    """Whether the slices are evenly spaced, have holes, or neither."""
    gaps = np.diff(offsets_mm)
    usual = _usual(gaps)
    tolerance = max(0.02, 0.01 * usual)
    if np.all(np.abs(gaps - usual) <= tolerance):
        return []
    multiples = np.rint(gaps / usual)
    whole = np.abs(gaps - multiples * usual) <= tolerance * np.maximum(multiples, 1)
    if whole.all() and multiples.min() >= 1:
        at = ", ".join(str(int(i) + 1) for i in np.flatnonzero(multiples > 1))
        missing = int((multiples - 1).sum())
        return [Reason("missing_slices", f"{missing} slice(s) missing, after slice {at}.")]
    between = f"from {gaps.min():.2f} to {gaps.max():.2f} mm"
    return [Reason("variable_slice_gap", f"The distance between slices varies {between}.")]


def apart_reasons(geometry: SliceGeometry) -> list[Reason]:
    """Whether even slices leave out tissue between them: thin ones, or every second one was lost."""
    spacing, thickness = geometry.slice_spacing_mm, geometry.slice_thickness_mm
    if spacing <= _APART * thickness:
        return []
    text = (
        f"The slices are {spacing:.1f} mm apart and {thickness:.1f} mm thick: not all was imaged."
    )
    return [Reason("slices_apart", text)]


def contiguous(slices: Sequence[CtSlice]) -> bool:
    """Whether no hole shows between the slices so far."""
    gaps = np.diff(np.sort([_height_mm(s) for s in slices]))
    return bool(len(gaps)) and float(gaps.max()) <= 1.5 * _usual(gaps)


def _usual(gaps_mm: FloatArray) -> float:
    """The lower median: half of the gaps or more are as wide, and it is one of them."""
    return float(np.sort(gaps_mm)[(len(gaps_mm) - 1) // 2])


def _acquired(slices: Sequence[CtSlice]) -> tuple[float, list[Reason]]:
    """The middle of the acquisition: half-way from the first to the last slice's stamp. Where no
    image says when it was acquired, the arrival of the first."""
    times = [s.acquired_utc_s for s in slices if s.acquired_utc_s is not None]
    if times:
        return 0.5 * (min(times) + max(times)), []
    arrived = min(s.instance.received_utc_s for s in slices)
    text = "The images do not say when they were acquired; their arrival is used."
    return arrived, [Reason("acquisition_time_missing", text)]


def _triple(v: FloatArray) -> tuple[float, float, float]:
    return (float(v[0]), float(v[1]), float(v[2]))
