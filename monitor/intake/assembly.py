"""Slices in, volumes and rejections out: sans I/O, deterministic. Monotonic seconds, LPS mm.

Nothing in DICOM says when a volume is complete. A pass ends on the first of: the count expected
(ImagesInAcquisition, or the same positions as an earlier pass); its association released with
contiguous positions; silence for three times the usual gap; the next pass beginning. A slice that
comes later makes a revision.
Invariant: every slice given ends in exactly one volume (its latest revision) or one rejection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from monitor.intake import passes
from monitor.intake.passes import Pass
from monitor.intake.stacking import astray, stack
from monitor.model import (
    AssociationEnded,
    CtFrames,
    CtSlice,
    CtVolume,
    FloatArray,
    Reason,
    Rejected,
    Status,
)
from monitor.stages import stage

Outcome = CtVolume | Rejected

# Completed passes whose pixels are kept for a late slice.
_REVISABLE = 2
# Completed passes whose positions are remembered, as what to expect of the next.
_REMEMBERED = 20


@dataclass(frozen=True)
class Expectation:
    """Whose images these must be. The patient is None while nobody knows whom it is about: then volumes of
    each are apart. The frame of reference is None until the baseline sets it."""

    patient_id: str | None
    frame_of_reference_uid: str | None


@dataclass(frozen=True)
class AssemblyState:
    """``passes``: the last touched last. ``seen``: the hash of each instance that is in a pass or a
    volume, by SOP Instance UID, in buckets by its last two characters, so that remembering one
    more stays cheap. ``history``: places of completed passes, by number."""

    expectation: Expectation
    passes: tuple[Pass, ...] = ()
    seen: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    history: Mapping[int, FloatArray] = field(default_factory=dict)
    volumes: int = 0

    @property
    def pending(self) -> int:
        """Slices received that are in no volume yet."""
        return sum(len(p.slices) - p.settled for p in self.passes)


def initial(expectation: Expectation) -> AssemblyState:
    return AssemblyState(expectation)


def expecting(state: AssemblyState, expectation: Expectation) -> AssemblyState:
    """From now on; what is pending and of others is rejected when it is complete."""
    return replace(state, expectation=expectation)


# ------------------------------------------------------------------ events


@stage("assembly")
def add_slice(state: AssemblyState, new: CtSlice) -> tuple[AssemblyState, list[Outcome]]:
    """A decoded slice."""
    refusal = _of_others(state, new) or _known(state, new)
    if refusal:
        return state, [refusal]
    state = _remember(state, new)
    home = next((p for p in reversed(state.passes) if passes.belongs(new, p)), None)
    if home is None:
        state, outcomes = _end_before(state, new)
        grown = Pass((new,))
    else:
        outcomes = []
        grown = replace(home, slices=(*home.slices, new))
    state = _put(state, home, grown)
    if passes.expected_count_reached(grown, list(state.history.values())):
        state, more = _complete(state, grown, "expected_count")
        outcomes += more
    return state, outcomes


@stage("assembly")
def add_frames(state: AssemblyState, frames: CtFrames) -> tuple[AssemblyState, list[Outcome]]:
    """All slices of one instance. What rejects several of its frames is told once."""
    outcomes: list[Outcome] = []
    for new in frames.slices:
        state, more = add_slice(state, new)
        outcomes += more
    return state, _once(outcomes)


def _once(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """An instance is rejected once, however many of its frames are."""
    told: dict[object, Outcome] = {}
    for outcome in outcomes:
        multi = isinstance(outcome, Rejected) and outcome.instance.sha256
        told.setdefault(multi or id(outcome), outcome)
    return list(told.values())


@stage("assembly")
def association_ended(
    state: AssemblyState, ended: AssociationEnded
) -> tuple[AssemblyState, list[Outcome]]:
    """A peer has said all it wanted to, unless it was cut off."""
    if ended.aborted:
        return state, []
    whole = [p for p in _open(state) if passes.association_was_whole(p, ended.association_id)]
    return _complete_all(state, whole, "association_end")


def silent(state: AssemblyState, mono_s: float) -> list[Pass]:
    """What silence has completed by now."""
    return [
        p for p in _open(state) if mono_s - passes.last_arrival_mono_s(p) > passes.idle_limit_s(p)
    ]


@stage("assembly")
def tick(state: AssemblyState, mono_s: float) -> tuple[AssemblyState, list[Outcome]]:
    """Time has passed, and nothing waits to be added."""
    return _complete_all(state, silent(state, mono_s), "idle")


@stage("assembly")
def finish(state: AssemblyState) -> tuple[AssemblyState, list[Outcome]]:
    """The procedure ends: what is pending becomes a volume or a rejection now."""
    return _complete_all(state, _open(state), "end")


# ------------------------------------------------------------------ admission


def _of_others(state: AssemblyState, s: CtSlice) -> Rejected | None:
    wanted = state.expectation
    if wanted.patient_id is not None and s.patient_id != wanted.patient_id:
        return _mismatch(s, "patient_mismatch", "patient", wanted.patient_id, s.patient_id)
    frame = wanted.frame_of_reference_uid
    if frame is not None and s.frame_of_reference_uid != frame:
        code, what = "frame_of_reference_mismatch", "frame of reference"
        return _mismatch(s, code, what, frame, s.frame_of_reference_uid)
    return None


def _mismatch(s: CtSlice, code: str, what: str, expected: str, received: str) -> Rejected:
    text = f"Expected {what} {expected!r}, received {received!r}."
    return Rejected(s.instance, Reason(code, text), (expected, received))


def _known(state: AssemblyState, new: CtSlice) -> Rejected | None:
    uid = _name(new)
    known = state.seen.get(uid[-2:], {}).get(uid)
    if known is None:
        return None
    if known == new.instance.sha256:
        reason = Reason("duplicate_instance", "The same instance was received before.")
    else:
        reason = Reason("uid_reused", "Another instance came under the same SOP Instance UID.")
    return Rejected(new.instance, reason)


def _name(s: CtSlice) -> str:
    """Of an image, or of a frame of one."""
    uid = s.instance.sop_instance_uid
    return uid if s.frame is None else f"{uid}#{s.frame}"


def _remember(state: AssemblyState, new: CtSlice) -> AssemblyState:
    uid = _name(new)
    bucket = {**state.seen.get(uid[-2:], {}), uid: new.instance.sha256}
    return replace(state, seen={**state.seen, uid[-2:]: bucket})


def _forget(state: AssemblyState, rejected: Iterable[CtSlice]) -> AssemblyState:
    """What was rejected may be sent again, in better company."""
    seen = dict(state.seen)
    for uid in (_name(s) for s in rejected):
        seen[uid[-2:]] = {u: sha for u, sha in seen[uid[-2:]].items() if u != uid}
    return replace(state, seen=seen)


# ------------------------------------------------------------------ completion


def _open(state: AssemblyState) -> list[Pass]:
    return [p for p in state.passes if not p.complete]


def _put(state: AssemblyState, old: Pass | None, new: Pass) -> AssemblyState:
    kept = tuple(p for p in state.passes if p is not old)
    return replace(state, passes=(*kept, new))


def _end_before(state: AssemblyState, new: CtSlice) -> tuple[AssemblyState, list[Outcome]]:
    """The first slice of a sweep ends those before it in the same group."""
    over = [p for p in _open(state) if passes.alike(p.slices[0], new) and passes.follows(new, p)]
    return _complete_all(state, over, "next_pass")


def _complete_all(
    state: AssemblyState, over: Iterable[Pass], by: str
) -> tuple[AssemblyState, list[Outcome]]:
    outcomes: list[Outcome] = []
    for p in over:
        state, more = _complete(state, p, by)
        outcomes += _once(more)
    return state, outcomes


def _complete(state: AssemblyState, p: Pass, by: str) -> tuple[AssemblyState, list[Outcome]]:
    """The pass as a volume, or each of its new slices rejected."""
    # The baseline may have set the frame of reference since these slices were let in.
    strangers = [r for s in p.slices[p.settled :] if (r := _of_others(state, s))]
    if strangers:
        return _dissolve(state, p), [*strangers]
    number, revision = p.number or state.volumes + 1, p.revision + 1
    name = f"v{number:03d}" if revision == 1 else f"v{number:03d}r{revision}"
    volume = stack(p.slices, name, by)
    if isinstance(volume, Reason) and (strays := astray(p.slices)):
        return _without(state, p, strays, by)
    if isinstance(volume, Reason):
        return _dissolve(state, p), [Rejected(s.instance, volume) for s in p.slices[p.settled :]]
    state = _put(state, p, Pass(p.slices, len(p.slices), number, revision))
    history = {**state.history, number: p.places_lps_mm()}
    recent = dict(sorted(history.items())[-_REMEMBERED:])
    state = replace(state, volumes=max(state.volumes, number), history=recent)
    return _drop_old(state), [volume]


def _without(
    state: AssemblyState, p: Pass, strays: list[CtSlice], by: str
) -> tuple[AssemblyState, list[Outcome]]:
    """The pass without slices that lie elsewhere: one bad position must not cost a scan."""
    out = {id(s) for s in strays}
    if any(id(s) in out for s in p.slices[: p.settled]) or len(strays) == len(p.slices) - p.settled:
        return _dissolve(state, p), [_elsewhere(s) for s in p.slices[p.settled :]]
    rest = replace(p, slices=tuple(s for s in p.slices if id(s) not in out))
    state, outcomes = _complete(_put(_forget(state, strays), p, rest), rest, by)
    return state, [*map(_less, outcomes), *map(_elsewhere, strays)]


def _elsewhere(s: CtSlice) -> Rejected:
    text = "The slice does not lie on the line of the others of its scan."
    return Rejected(s.instance, Reason("slice_astray", text))


def _less(outcome: Outcome) -> Outcome:
    if isinstance(outcome, Rejected):
        return outcome
    reason = Reason("slice_astray", "Slices that lie elsewhere were left out.")
    return replace(outcome, status=Status.DEGRADED, reasons=(*outcome.reasons, reason))


def _dissolve(state: AssemblyState, p: Pass) -> AssemblyState:
    """Takes the new slices out again; what is in a volume already stays as it was."""
    state = _forget(state, p.slices[p.settled :])
    if p.settled:
        return _put(state, p, replace(p, slices=p.slices[: p.settled]))
    return replace(state, passes=tuple(q for q in state.passes if q is not p))


def _drop_old(state: AssemblyState) -> AssemblyState:
    """Drops the pixels of passes too old for a late slice."""
    old = {id(p) for p in [p for p in state.passes if p.complete][:-_REVISABLE]}
    return replace(state, passes=tuple(p for p in state.passes if id(p) not in old))
