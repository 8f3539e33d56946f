"""The whole procedure as one function: ``step(state, event, …) → (state, outputs)``.

No I/O, no clock, no thread: a replay feeds the same events and gets the same outputs. Times are
UTC seconds on the procedure clock; LPS mm. Invariant: every event leaves a state that says what is
known, and an output for each thing that another program must learn.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gpu_kernels.engine import Engine
from monitor import acts, ahead, baselines
from monitor.decision import protocol
from monitor.decision.assessment import assess, unknown
from monitor.decision.safety import CLOCK_OFFSET_LIMIT_S, Block, last_known
from monitor.imaging.measurement import make_reference, measure
from monitor.intake import assembly
from monitor.journal_fields import (
    assessment_fields,
    registration_fields,
    segmentation_fields,
    volume_fields,
)
from monitor.model import (
    AssociationEnded,
    CtSlice,
    CtVolume,
    PhaseKind,
    Reason,
    Rejected,
    Status,
    worst,
)
from monitor.prediction.ensemble import prior_of
from monitor.prediction.estimate import first_estimate
from monitor.prediction.setup import make_problem, tissue_labels
from monitor.procedure import Procedure
from monitor.review import Before, is_rejection, review_of, standing
from monitor.state import (
    Event,
    ForecastDue,
    KeepVolume,
    Line,
    OperatorAct,
    Output,
    State,
    Tick,
)


def step(
    state: State, event: Event, procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    """What follows from one event."""
    if isinstance(event, CtSlice):
        return _take_in(state, *assembly.add_slice(state.assembly, event), procedure, engine)
    if isinstance(event, Rejected):
        return _reject(state, event)
    if isinstance(event, AssociationEnded):
        return _take_in(
            state, *assembly.association_ended(state.assembly, event), procedure, engine
        )
    if isinstance(event, Tick):
        state, outputs = _take_in(
            state, *assembly.tick(state.assembly, event.now_mono_s), procedure, engine
        )
        progress = _progress_at(state, event.now_utc_s, procedure)
        state, more = _moved_on(state, progress, procedure)
        return state, outputs + more
    if isinstance(event, ForecastDue):
        return ahead.carried_on(state, procedure, engine)
    if isinstance(event, OperatorAct):
        return _operator(state, event, procedure, engine)
    return _take_in(state, *assembly.finish(state.assembly), procedure, engine)


def due(state: State, tick: Tick, procedure: Procedure) -> bool:
    """Whether time has brought anything: a tick that is not due gives nothing and changes nothing."""
    progress = _progress_at(state, tick.now_utc_s, procedure)
    return progress != state.progress or bool(assembly.silent(state.assembly, tick.now_mono_s))


def after_fault(state: State, event: Event) -> State:
    """What stands when a step has failed: the state before it, without the forecast or the what-if that
    failed (the next scan, or the operator, will ask again)."""
    if isinstance(event, ForecastDue):
        return replace(state, forecast_wanted=False, job=None, asked=None)
    return state


# --------------------------------------------------------------------------- images


def _take_in(
    state: State,
    assembled: assembly.AssemblyState,
    outcomes: list[CtVolume | Rejected],
    procedure: Procedure,
    engine: Engine,
) -> tuple[State, list[Output]]:
    state = replace(state, assembly=assembled)
    outputs: list[Output] = []
    for outcome in outcomes:
        if isinstance(outcome, Rejected):
            state, more = _reject(state, outcome)
        else:
            state, more = _volume(state, outcome, procedure, engine)
        outputs += more
    return state, outputs


def _reject(state: State, rejected: Rejected) -> tuple[State, list[Output]]:
    """Another patient's or frame's images also block the screen until the operator has acted."""
    if state.block is None and rejected.mismatch is not None:
        block = Block(rejected.reason.code, *rejected.mismatch, rejected.instance.received_utc_s)
        state = replace(state, block=block)
    return state, [rejected]


def _volume(
    state: State, volume: CtVolume, procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    """A complete volume: the baseline, or a scan to measure. On the monitor's clock from here on."""
    offset_s, reason = _clock_offset(state, volume)
    if procedure.plan_frames - {volume.frame_of_reference_uid}:
        text = "The lesion or a structure was drawn in another frame of reference than the scan's."
        reason = (*reason, Reason("plan_in_other_frame", text))
    if not procedure.config.patient_id:
        reason = (*reason, Reason("patient_unidentified", "The case names no patient."))
    volume = replace(
        volume,
        acquired_utc_s=volume.acquired_utc_s + offset_s,
        status=worst(volume.status, Status.DEGRADED if reason else Status.OK),
        reasons=volume.reasons + reason,
    )
    outputs: list[Output] = [KeepVolume(volume), Line("volume_completed", volume_fields(volume))]
    state = baselines.received(replace(state, clock_offset_s=offset_s), volume)
    if state.reference is None or (_replaces_baseline(state, volume) and not state.picked):
        return _take_baseline(state, volume, outputs, procedure, engine)
    if why := _why_not_measured(state, volume):
        fields = {"volume_id": volume.volume_id, "reason": why}
        return state, [*outputs, Line("volume_not_measured", fields)]
    state, more = _measure(replace(state, volume=volume), procedure)
    return state, outputs + more


def _why_not_measured(state: State, volume: CtVolume) -> str | None:
    if _replaces_baseline(state, volume):
        return "baseline_picked"
    if state.volume is not None and volume.acquired_utc_s < state.volume.acquired_utc_s:
        return "older_than_latest"
    return None


def _clock_offset(state: State, volume: CtVolume) -> tuple[float, tuple[Reason, ...]]:
    """What to add to the scanner's stamps. Known from the first volume on: a scan cannot arrive
    before it is acquired, nor, in the room, long after."""
    if state.clock_offset_s is not None:
        return state.clock_offset_s, ()
    late_s = volume.last_received_utc_s - volume.acquired_utc_s
    if 0.0 <= late_s <= CLOCK_OFFSET_LIMIT_S:
        return 0.0, ()
    return late_s, (Reason("clock_offset", f"The scanner's clock differs by {late_s:.0f} s."),)


def _replaces_baseline(state: State, volume: CtVolume) -> bool:
    """Before the first freeze, a newer scan is a better baseline: the needles are in by then."""
    return (
        not state.progress.started_utc_s or volume.acquired_utc_s < state.progress.started_utc_s[0]
    )


def _take_baseline(
    state: State, volume: CtVolume, outputs: list[Output], procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    reference = make_reference(volume, procedure.analysis_grid, procedure.config)
    base_hu = reference.baseline.hu
    grid = procedure.prediction_grid
    label = tissue_labels(base_hu, procedure.analysis_grid, grid)
    config = replace(procedure.config, needles=reference.needles)
    state, dropped = ahead.outdated(state, "baseline")
    expected = assembly.with_frame(state.assembly, volume.frame_of_reference_uid)
    reasons = (
        *volume.reasons,
        *reference.reasons,
        Reason("baseline", "This scan is the baseline: there is no ice to measure yet."),
    )
    assessment = unknown(procedure.plan, volume.volume_id, volume.acquired_utc_s, reasons)
    state = replace(
        state,
        assembly=expected,
        baseline_volume=volume,
        reference=reference,
        label_zyx=label,
        volume=volume,
        ice=None,
        registration=None,
        review=None,
        done=acts.still(state.done, "needle", "pick_baseline"),
        assessment=assessment,
        estimate=first_estimate(
            prior_of(config),
            lambda m: make_problem(config, grid, label, (), m),
            engine,
            config.needles,
        ),
    )
    seen = float(np.isfinite(base_hu).mean())
    outputs += dropped
    outputs.append(Line("baseline_set", {"volume_id": volume.volume_id, "seen_fraction": seen}))
    outputs.append(Line("assessment", assessment_fields(assessment)))
    return state, outputs


def _measure(state: State, procedure: Procedure) -> tuple[State, list[Output]]:
    """Segment the latest volume and assess it; the forecast follows when nothing more urgent waits."""
    assert state.volume is not None
    assert state.reference is not None
    measured = measure(state.volume, state.reference, procedure.config, state.shifts_mm)
    verdict = state.verdicts.get(measured.ice.volume_id)
    ice = standing(measured.ice, measured.registration, verdict)
    before = Before(state.reference, state.estimate, state.structures)
    assessment = assess(ice, procedure.plan, None)
    state = replace(
        state,
        ice=ice,
        reference=before.reference if is_rejection(verdict) else measured.reference,
        registration=measured.registration,
        review=review_of(measured, before, verdict),
        done=acts.still(state.done, "needle"),
        assessment=assessment,
        structures=last_known(state.structures, assessment),
        forecast_wanted=True,
    )
    state, outputs = ahead.skipped(state, "scan")
    outputs.append(Line("registered", registration_fields(measured.registration, ice.volume_id)))
    outputs.append(Line("ice_segmented", segmentation_fields(ice)))
    outputs.append(Line("assessment", assessment_fields(assessment)))
    return state, outputs


# --------------------------------------------------------------------------- time and operator


def _progress_at(state: State, now_utc_s: float, procedure: Procedure) -> protocol.Progress:
    """The protocol moves on; the first freeze begins by itself only if the case says when."""
    rules = procedure.config.protocol
    progress = state.progress
    delay_s = rules.start_after_baseline_s
    if not progress.started_utc_s and delay_s is not None and state.baseline_volume is not None:
        due_utc_s = state.baseline_volume.acquired_utc_s + delay_s
        if now_utc_s >= due_utc_s:
            progress = protocol.next_phase(progress, rules, due_utc_s)
    return protocol.advanced(progress, rules, now_utc_s)


def _moved_on(
    state: State, progress: protocol.Progress, procedure: Procedure
) -> tuple[State, list[Output]]:
    if progress == state.progress:
        return state, []
    phase = protocol.phase(progress, procedure.config.protocol)
    fields = {"phase": phase.kind.value, "cycle": phase.cycle, "started_utc_s": phase.started_utc_s}
    wanted = state.estimate is not None and phase.kind is not PhaseKind.ENDED
    state = baselines.settled(replace(state, progress=progress, forecast_wanted=wanted))
    state, outputs = ahead.skipped(state, "phase")
    return state, [*outputs, Line("phase", fields)]


def _operator(
    state: State, event: OperatorAct, procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    if event.act == "what_if":
        return ahead.ask(state, event, procedure)
    if event.act == "clear_block":
        return replace(state, block=None), []
    if event.act == "phase_next":
        progress = protocol.next_phase(state.progress, procedure.config.protocol, event.now_utc_s)
        return _moved_on(replace(state, refused=None), progress, procedure)
    if event.act == "reload":
        return _reloaded(replace(state, refused=None), procedure, engine)
    if event.act == "pick_baseline" or acts.undoes(state, event, "pick_baseline"):
        return _rebased(state, event, procedure, engine)
    return acts.done(state, event, procedure)


def _rebased(
    state: State, event: OperatorAct, procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    """Another baseline, or the one before again."""
    try:
        state, volume, said = baselines.chosen(replace(state, refused=None), event)
    except acts.Refusal as refusal:
        return acts.refused(state, event, str(refusal))
    return _take_baseline(state, volume, said, procedure, engine)


def _reloaded(state: State, procedure: Procedure, engine: Engine) -> tuple[State, list[Output]]:
    """The case changed (needles became known, say): what was received is measured again."""
    if state.baseline_volume is None or state.volume is None:
        return state, []
    latest = state.volume
    state, outputs = _take_baseline(state, state.baseline_volume, [], procedure, engine)
    if latest.volume_id == state.baseline_volume.volume_id:  # type: ignore[union-attr]
        return state, outputs
    state, more = _measure(replace(state, volume=latest), procedure)
    return state, outputs + more
