"""What belongs to one sweep of the scanner, and when the sweep looks whole. Seconds, LPS mm.

Pure rules on immutable passes; ``assembly`` applies them. Invariant: no two slices of a pass lie at
the same place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.intake.stacking import contiguous
from monitor.model import CtSlice, FloatArray

IDLE_FLOOR_S, IDLE_CEILING_S = 0.5, 10.0
# One slice may be the first of a pass sent image by image.
LONELY_IDLE_S = 5.0
# An association that carried fewer slices of a pass is one of many.
SERIES_AT_LEAST = 4
# Slices of one pass are acquired within this of each other; scans are minutes apart.
_PASS_SPAN_S = 60.0
# Closer than any two slices of a sweep, wider than what rounding does to a position.
_SAME_PLACE_MM = 0.2


@dataclass(frozen=True)
class Pass:
    """The slices of one sweep so far, as they came. The first ``settled`` of them are in its last
    volume, whose ``number`` it keeps through its revisions."""

    slices: tuple[CtSlice, ...]
    settled: int = 0
    number: int | None = None
    revision: int = 0

    @property
    def complete(self) -> bool:
        return self.settled == len(self.slices)

    def places_lps_mm(self) -> FloatArray:
        return np.array([s.position_lps_mm for s in self.slices])


# ------------------------------------------------------------------ belonging


def alike(a: CtSlice, b: CtSlice) -> bool:
    """Whether two slices can be of one sweep. AcquisitionNumber does not tell: it varies per slice
    on GE."""
    return (
        a.patient_id == b.patient_id
        and a.series_uid == b.series_uid
        and a.frame_of_reference_uid == b.frame_of_reference_uid
        and a.hu.shape == b.hu.shape
        and a.kernel == b.kernel
        and a.image_type == b.image_type
        and a.stack == b.stack
        and bool(np.allclose(a.pixel_spacing_mm, b.pixel_spacing_mm, rtol=0.0, atol=1e-4))
        and bool(np.allclose(a.row_direction, b.row_direction, rtol=0.0, atol=1e-3))
        and bool(np.allclose(a.column_direction, b.column_direction, rtol=0.0, atol=1e-3))
    )


def belongs(new: CtSlice, p: Pass) -> bool:
    """A position that recurs, or an acquisition minutes away, is of another sweep."""
    return alike(p.slices[0], new) and not _taken(p, new) and _of_its_time(new, p)


def _taken(p: Pass, new: CtSlice) -> bool:
    return bool(_apart_mm(p.places_lps_mm(), new.position_lps_mm).min() < _SAME_PLACE_MM)


def _of_its_time(new: CtSlice, p: Pass) -> bool:
    """By the time of acquisition; by that of arrival when the images do not say."""
    stamps = [s.acquired_utc_s for s in p.slices if s.acquired_utc_s is not None]
    at = new.acquired_utc_s
    if not stamps or at is None:
        stamps = [s.instance.received_mono_s for s in p.slices]
        at = new.instance.received_mono_s
    return min(stamps) - _PASS_SPAN_S <= at <= max(stamps) + _PASS_SPAN_S


def follows(new: CtSlice, p: Pass) -> bool:
    """Whether a slice of another sweep was acquired after this one, as far as is known."""
    stamps = [s.acquired_utc_s for s in p.slices if s.acquired_utc_s is not None]
    return not stamps or new.acquired_utc_s is None or new.acquired_utc_s >= min(stamps)


# ------------------------------------------------------------------ completeness


def expected_count_reached(p: Pass, earlier: Sequence[FloatArray]) -> bool:
    """As many as ImagesInAcquisition says, or where an earlier sweep ended too (``earlier``: the
    places of completed sweeps)."""
    count = len(p.slices)
    if count < 2:
        return False
    if count == p.slices[-1].images_in_acquisition and contiguous(p.slices):
        return True
    return p.number is None and _ends_like(p.places_lps_mm(), earlier)


def _ends_like(places: FloatArray, earlier: Sequence[FloatArray]) -> bool:
    """Some earlier sweep had just these places, and none went on from here."""
    if not any(len(e) == len(places) for e in earlier):
        return False
    covering = [e for e in earlier if len(e) >= len(places) and _contains(e, places)]
    return bool(covering) and all(len(e) == len(places) for e in covering)


def _contains(whole: FloatArray, part: FloatArray) -> bool:
    return bool((_apart_mm(whole[:, None], part[None]).min(axis=0) < _SAME_PLACE_MM).all())


def _apart_mm(a: FloatArray, b: FloatArray) -> npt.NDArray[np.float64]:
    return np.asarray(np.linalg.norm(a - b, axis=-1))


def association_was_whole(p: Pass, association_id: int) -> bool:
    """Whether an association that ended well had brought this pass, without holes so far."""
    carried = sum(s.instance.association_id == association_id for s in p.slices)
    enough = carried >= SERIES_AT_LEAST or (p.revision > 0 and carried > 0)
    return enough and contiguous(p.slices)


def idle_limit_s(p: Pass) -> float:
    """Silence after which a pass is over: three times the 95th percentile of its arrival gaps."""
    if len(p.slices) < 2:
        return LONELY_IDLE_S
    gaps = np.diff(np.sort([s.instance.received_mono_s for s in p.slices]))
    return float(np.clip(3.0 * np.percentile(gaps, 95), IDLE_FLOOR_S, IDLE_CEILING_S))


def last_arrival_mono_s(p: Pass) -> float:
    return max(s.instance.received_mono_s for s in p.slices)
