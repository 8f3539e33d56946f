"""A procedure's scans: kept, measured, and, when the case or the baseline has changed, measured and learned
from anew, all of them. UTC seconds on the procedure clock; LPS mm.

Invariant: learning anew goes on beside what is shown, in stretches; a new scan never waits for more than
one, and what is shown stays the latest scan.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from gpu_kernels.engine import Engine
from monitor import acts, ahead
from monitor.config import Config
from monitor.decision.assessment import assess
from monitor.decision.safety import last_known
from monitor.imaging.measurement import Measurement, Reference, measure, shows_ice
from monitor.imaging.registration import Registration
from monitor.intake.assembly import Expectation
from monitor.journal_fields import assessment_fields, registration_fields, segmentation_fields
from monitor.model import (
    CtVolume,
    FloatArray,
    IceSegmentation,
    Reason,
    Status,
    scan_of,
    worst,
)
from monitor.procedure import Procedure
from monitor.review import Before, is_rejection, review_of, standing
from monitor.state import Line, Output, Relearning, State

# ------------------------------------------------------------------ kept


def keep(kept: tuple[CtVolume, ...], volume: CtVolume) -> tuple[CtVolume, ...]:
    """With one more, in place of the revision before it; the oldest first."""
    others = (v for v in kept if not _same_scan(v, volume))
    return tuple(sorted((*others, volume), key=lambda v: v.acquired_utc_s))


def _same_scan(a: CtVolume, b: CtVolume) -> bool:
    return scan_of(a.volume_id) == scan_of(b.volume_id)


def of_id(state: State, volume_id: object) -> CtVolume | None:
    return next((v for v in state.kept if v.volume_id == volume_id), None)


def as_received(state: State, volume: CtVolume) -> CtVolume:
    """Without what an earlier case held against it."""
    return of_id(state, volume.volume_id) or volume


def doubted(volume: CtVolume, procedure: Procedure) -> CtVolume:
    """With what this case holds against it."""
    reasons = []
    if procedure.plan_frames - {volume.frame_of_reference_uid}:
        text = "The lesion or a structure was drawn in another frame of reference than the scan's."
        reasons.append(Reason("plan_in_other_frame", text))
    if procedure.config.patient_id == "":
        reasons.append(Reason("patient_unidentified", "The case names no patient."))
    status = worst(volume.status, Status.DEGRADED if reasons else Status.OK)
    return replace(volume, status=status, reasons=(*volume.reasons, *reasons))


def expected(config: Config) -> Expectation:
    """Whose images a case wants, before there is a baseline."""
    return Expectation(config.patient_id, config.frame_of_reference_uid)


def suits(volume: CtVolume, wanted: Expectation) -> bool:
    """Whether a volume is of the patient and the frame of reference, as far as these are known."""
    frame = wanted.frame_of_reference_uid
    return wanted.patient_id in (None, volume.patient_id) and (
        frame in (None, volume.frame_of_reference_uid)
    )


def misfit(volume: CtVolume, wanted: Expectation) -> str:
    """What differs, for people; of a volume that does not suit."""
    if wanted.patient_id not in (None, volume.patient_id):
        return "it is of another patient than the case"
    return "it is of another frame of reference than the case"


# ------------------------------------------------------------------ measured


def with_ice(state: State, volume: CtVolume, procedure: Procedure) -> Measurement | None:
    """A scan from before the first freeze in which there is ice all the same: the freeze was not told."""
    if state.reference is None:
        return None
    found = _measurement(volume, state.reference, state.registration, procedure)
    return found if shows_ice(found) else None


def measured(
    state: State, procedure: Procedure, found: Measurement | None = None
) -> tuple[State, list[Output]]:
    """Segments the latest volume, unless it was (``found``), and assesses it; the forecast follows when
    nothing more urgent waits."""
    assert state.volume is not None
    assert state.reference is not None
    found = found or _measurement(state.volume, state.reference, state.registration, procedure)
    verdict = state.verdicts.get(found.ice.volume_id)
    ice = standing(found.ice, found.registration, verdict)
    before = Before(state.reference, state.estimate, state.structures)
    assessment = assess(ice, procedure.plan, None)
    state = replace(
        _to_learn(state),
        ice=ice,
        reference=before.reference if is_rejection(verdict) else found.reference,
        registration=found.registration,
        review=review_of(found, before, verdict),
        done=acts.still(state.done, "needle"),
        assessment=assessment,
        structures=last_known(state.structures, assessment),
        forecast_wanted=True,
    )
    state, outputs = ahead.skipped(state, "scan")
    return state, [*outputs, *_lines(found, ice), Line("assessment", assessment_fields(assessment))]


def _measurement(
    volume: CtVolume, reference: Reference, before: Registration | None, procedure: Procedure
) -> Measurement:
    """How the patient lay in the scan before is a start for this one."""
    starts_mm: tuple[FloatArray, ...] = () if before is None else (np.array(before.shift_lps_mm),)
    return measure(volume, reference, procedure.config, starts_mm)


def _lines(found: Measurement, ice: IceSegmentation) -> list[Output]:
    return [
        Line("registered", registration_fields(found.registration, ice.volume_id)),
        Line("ice_segmented", segmentation_fields(ice)),
    ]


# ------------------------------------------------------------------ learned anew


def learned_anew(state: State) -> State:
    """All scans of the ice before the latest are to be measured and learned from once more, from the
    baseline that was just taken on."""
    begun = state.progress.started_utc_s
    if not begun or state.volume is None or state.reference is None or state.estimate is None:
        return replace(state, relearning=None)
    latest, baseline = state.volume, state.baseline_volume
    assert baseline is not None
    mine = Expectation(baseline.patient_id, baseline.frame_of_reference_uid)
    earlier = tuple(
        v.volume_id
        for v in state.kept
        if suits(v, mine) and begun[0] <= v.acquired_utc_s < latest.acquired_utc_s
        and not (_same_scan(v, latest) or _same_scan(v, baseline))
    )  # fmt: skip
    anew = Relearning(earlier, state.reference, state.estimate)
    return replace(state, relearning=anew if earlier else None)


def _to_learn(state: State) -> State:
    """A scan that is no longer the latest one joins those that are being learned from anew."""
    anew, ice = state.relearning, state.ice
    assert state.volume is not None
    if anew is None or ice is None or ice.volume_id in (state.volume.volume_id, *anew.left):
        return state
    return replace(state, relearning=replace(anew, left=(*anew.left, ice.volume_id)))


def carried_on(state: State, procedure: Procedure, engine: Engine) -> tuple[State, list[Output]]:
    """A stretch: a scan is measured, or learned from; after the last one the latest scan goes by what
    they have taught."""
    anew = state.relearning
    assert anew is not None
    if anew.ice is not None:
        then = replace(state, reference=anew.reference, ice=anew.ice)
        estimate = ahead.assimilated_estimate(then, anew.estimate, procedure, engine)
        return replace(state, relearning=replace(anew, estimate=estimate, ice=None)), []
    if anew.left:
        return _measured_anew(state, anew, procedure)
    state = replace(
        state,
        relearning=None,
        reference=anew.reference,
        registration=anew.registration,
        estimate=anew.estimate,
    )
    return measured(state, procedure)


def _measured_anew(
    state: State, anew: Relearning, procedure: Procedure
) -> tuple[State, list[Output]]:
    volume = of_id(state, anew.left[0])
    anew = replace(anew, left=anew.left[1:])
    if volume is None:  # a late slice has made a revision of it, which is the latest scan
        return replace(state, relearning=anew), []
    found = _measurement(doubted(volume, procedure), anew.reference, anew.registration, procedure)
    verdict = state.verdicts.get(volume.volume_id)
    ice = standing(found.ice, found.registration, verdict)
    reference = anew.reference if is_rejection(verdict) else found.reference
    anew = replace(anew, reference=reference, registration=found.registration, ice=ice)
    return replace(state, relearning=anew), _lines(found, ice)


def latest_of(volumes: Iterable[CtVolume]) -> CtVolume | None:
    return max(volumes, key=lambda v: v.acquired_utc_s, default=None)
