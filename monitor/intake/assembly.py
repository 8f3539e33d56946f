"""Slices in, volumes and rejections out: sans I/O, deterministic. Monotonic seconds, LPS mm.

Nothing in DICOM says when a volume is complete. A pass ends on the first of: the count expected
(ImagesInAcquisition, or the same positions as an earlier pass); its association released with
contiguous positions; silence for three times the usual gap; the next pass beginning. A slice that
comes later makes a revision.
Invariant: every slice given ends in exactly one volume (its latest revision) or one rejection.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from monitor.intake.stacking import contiguous, stack
from monitor.model import AssociationEnded, CtSlice, CtVolume, Reason, Rejected

Outcome = CtVolume | Rejected

_IDLE_FLOOR_S, _IDLE_CEILING_S = 0.5, 10.0
# One slice may be the first of a pass sent image by image.
_LONELY_IDLE_S = 5.0
# An association that carried fewer slices of a pass is one of many.
_SERIES_AT_LEAST = 4
# Slices of one pass are acquired within this; scans are minutes apart.
_PASS_SPAN_S = 60.0
# Completed passes whose pixels are kept for a late slice.
_REVISABLE = 2


@dataclass(frozen=True)
class Expectation:
    """Whose images these must be; the frame of reference is None until the baseline sets it."""

    patient_id: str
    frame_of_reference_uid: str | None


@dataclass(frozen=True)
class Pass:
    """The slices of one sweep so far. ``number`` is given at its first completion."""

    group: Hashable
    slices: tuple[CtSlice, ...]
    complete: bool = False
    number: int | None = None
    revision: int = 0


@dataclass(frozen=True)
class AssemblyState:
    expectation: Expectation
    passes: tuple[Pass, ...] = ()
    seen: Mapping[str, str] = field(default_factory=dict)
    history: frozenset[frozenset[Hashable]] = frozenset()
    volumes: int = 0

    @property
    def pending(self) -> int:
        """Slices received that are in no volume yet."""
        return sum(len(p.slices) for p in self.passes if not p.complete)


def initial(expectation: Expectation) -> AssemblyState:
    return AssemblyState(expectation)


def with_frame(state: AssemblyState, frame_of_reference_uid: str) -> AssemblyState:
    """From the baseline on, only its frame of reference is accepted."""
    return replace(
        state, expectation=replace(state.expectation, frame_of_reference_uid=frame_of_reference_uid)
    )


# ------------------------------------------------------------------ events


def add_slice(state: AssemblyState, new: CtSlice) -> tuple[AssemblyState, list[Outcome]]:
    """A decoded slice."""
    refusal = _refusal(state, new)
    if refusal:
        return state, [refusal]
    state = replace(state, seen={**state.seen, new.instance.sop_instance_uid: new.instance.sha256})
    outcomes: list[Outcome] = []
    current = _current(state, new)
    if current is not None and _begins_next(current, new):
        if not current.complete:
            state, outcomes = _complete(state, current, "next_pass")
        current = None
    grown = (
        Pass(_group(new), (new,))
        if current is None
        else replace(current, slices=(*current.slices, new), complete=False)
    )
    state = _put(state, current, grown)
    if _expected_count_reached(state, grown):
        state, more = _complete(state, grown, "expected_count")
        outcomes += more
    return state, outcomes


def association_ended(
    state: AssemblyState, ended: AssociationEnded
) -> tuple[AssemblyState, list[Outcome]]:
    """A peer has said all it wanted to, unless it was cut off."""
    outcomes: list[Outcome] = []
    for p in _open(state):
        carried = sum(s.instance.association_id == ended.association_id for s in p.slices)
        whole = carried >= _SERIES_AT_LEAST or (p.revision > 0 and carried > 0)
        if whole and not ended.aborted and contiguous(p.slices):
            state, more = _complete(state, p, "association_end")
            outcomes += more
    return state, outcomes


def tick(state: AssemblyState, mono_s: float) -> tuple[AssemblyState, list[Outcome]]:
    """Time has passed, and nothing waits to be added."""
    outcomes: list[Outcome] = []
    for p in _open(state):
        if mono_s - max(s.instance.received_mono_s for s in p.slices) > idle_limit_s(p):
            state, more = _complete(state, p, "idle")
            outcomes += more
    return state, outcomes


def finish(state: AssemblyState) -> tuple[AssemblyState, list[Outcome]]:
    """The procedure ends: what is pending becomes a volume or a rejection now."""
    outcomes: list[Outcome] = []
    for p in _open(state):
        state, more = _complete(state, p, "end")
        outcomes += more
    return state, outcomes


# ------------------------------------------------------------------ rules


def _refusal(state: AssemblyState, new: CtSlice) -> Rejected | None:
    wanted = state.expectation
    if new.patient_id != wanted.patient_id:
        return _mismatch(new, "patient_mismatch", "patient", wanted.patient_id, new.patient_id)
    frame = wanted.frame_of_reference_uid
    if frame is not None and new.frame_of_reference_uid != frame:
        return _mismatch(
            new,
            "frame_of_reference_mismatch",
            "frame of reference",
            frame,
            new.frame_of_reference_uid,
        )
    known = state.seen.get(new.instance.sop_instance_uid)
    if known == new.instance.sha256:
        return Rejected(
            new.instance, Reason("duplicate_instance", "The same instance was received before.")
        )
    if known is not None:
        return Rejected(
            new.instance,
            Reason("uid_reused", "Another instance came under the same SOP Instance UID."),
        )
    return None


def _mismatch(new: CtSlice, code: str, what: str, expected: str, received: str) -> Rejected:
    text = f"Expected {what} {expected!r}, received {received!r}."
    return Rejected(new.instance, Reason(code, text), (expected, received))


def _group(s: CtSlice) -> Hashable:
    """What all slices of a pass share. AcquisitionNumber does not: it varies per slice on GE."""
    directions = tuple(np.round([*s.row_direction, *s.column_direction], 4).tolist())
    return (
        s.series_uid,
        s.frame_of_reference_uid,
        directions,
        s.hu.shape,
        s.pixel_spacing_mm,
        s.kernel,
        s.image_type,
    )


def _place(s: CtSlice) -> Hashable:
    return tuple(np.round(s.position_lps_mm, 2).tolist())


def _places(p: Pass) -> frozenset[Hashable]:
    return frozenset(_place(s) for s in p.slices)


def _current(state: AssemblyState, new: CtSlice) -> Pass | None:
    group = _group(new)
    return next((p for p in reversed(state.passes) if p.group == group), None)


def _begins_next(current: Pass, new: CtSlice) -> bool:
    """A position that recurs, or an acquisition minutes later, is another sweep."""
    if _place(new) in _places(current):
        return True
    stamps = [s.acquired_utc_s for s in current.slices if s.acquired_utc_s is not None]
    return (
        bool(stamps)
        and new.acquired_utc_s is not None
        and not (min(stamps) - _PASS_SPAN_S <= new.acquired_utc_s <= max(stamps) + _PASS_SPAN_S)
    )


def _expected_count_reached(state: AssemblyState, p: Pass) -> bool:
    if len(p.slices) == p.slices[-1].images_in_acquisition:
        return True
    return p.revision == 0 and len(p.slices) >= _SERIES_AT_LEAST and _places(p) in state.history


def idle_limit_s(p: Pass) -> float:
    """Silence after which a pass is over: three times the 95th percentile of its arrival gaps."""
    if len(p.slices) < 2:
        return _LONELY_IDLE_S
    gaps = np.diff(np.sort([s.instance.received_mono_s for s in p.slices]))
    return float(np.clip(3.0 * np.percentile(gaps, 95), _IDLE_FLOOR_S, _IDLE_CEILING_S))


# ------------------------------------------------------------------ state


def _open(state: AssemblyState) -> list[Pass]:
    return [p for p in state.passes if not p.complete]


def _put(state: AssemblyState, old: Pass | None, new: Pass) -> AssemblyState:
    kept = tuple(p for p in state.passes if p is not old)
    return replace(state, passes=(*kept, new))


def _complete(state: AssemblyState, p: Pass, by: str) -> tuple[AssemblyState, list[Outcome]]:
    """The pass as a volume, or each of its slices rejected."""
    number = p.number or state.volumes + 1
    revision = p.revision + 1
    name = f"v{number:03d}" if revision == 1 else f"v{number:03d}r{revision}"
    volume = stack(p.slices, name, by)
    if isinstance(volume, Reason):
        kept = tuple(q for q in state.passes if q is not p)
        return replace(state, passes=kept), [Rejected(s.instance, volume) for s in p.slices]
    done = replace(p, complete=True, number=number, revision=revision)
    state = _put(state, p, done)
    state = replace(state, volumes=max(state.volumes, number), history=state.history | {_places(p)})
    return _forget(state), [volume]


def _forget(state: AssemblyState) -> AssemblyState:
    """Drops the pixels of passes too old for a late slice."""
    done = [p for p in state.passes if p.complete]
    old = {id(p) for p in done[:-_REVISABLE]}
    return replace(state, passes=tuple(p for p in state.passes if id(p) not in old))
