"""The whole procedure as one function: ``step(state, event, …) → (state, outputs)``.

No I/O, no clock, no thread: a replay feeds the same events and gets the same outputs. Times are
UTC seconds on the procedure clock; LPS mm. Invariant: every event leaves a state that says what is
known, and an output for each thing that another program must learn.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gpu_kernels.engine import Engine
from monitor import acts, ahead, scans
from monitor.decision import protocol
from monitor.decision.assessment import unknown, unplanned
from monitor.decision.safety import CLOCK_OFFSET_LIMIT_S, Block
from monitor.imaging.measurement import make_reference
from monitor.intake import assembly
from monitor.journal_fields import assessment_fields, volume_fields
from monitor.model import (
    Assessment,
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
from monitor.state import (
    Done,
    Event,
    ForecastDue,
    KeepVolume,
    Line,
    OperatorAct,
    Output,
    Picked,
    State,
    Tick,
)

# Of the lesion's points, in a baseline.
_LEAST_SHOWN = 0.9


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
        carried_on = ahead.carried_on if state.relearning is None else scans.carried_on
        return carried_on(state, procedure, engine)
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
        return replace(state, forecast_wanted=False, job=None, asked=None, relearning=None)
    return state


def in_force(state: State, event: Event, procedure: Procedure) -> Procedure:
    """The procedure that ``step`` works with from this event on: that of a case which was reloaded, unless
    it does not suit what has been done."""
    if not isinstance(event, OperatorAct) or event.procedure is None:
        return procedure
    return procedure if _unsuited(state, event.procedure) else event.procedure


def _unsuited(state: State, new: Procedure) -> str:
    """Why a case cannot take the place of the one before, "" when it can."""
    baseline, wanted = state.baseline_volume, scans.expected(new.config)
    if baseline is None or scans.suits(baseline, wanted):
        return ""
    return f"the baseline {baseline.volume_id} stands against it: {scans.misfit(baseline, wanted)}"


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
    volume = replace(
        volume,
        acquired_utc_s=volume.acquired_utc_s + offset_s,
        status=worst(volume.status, Status.DEGRADED if reason else Status.OK),
        reasons=volume.reasons + reason,
    )
    state = replace(state, clock_offset_s=offset_s, kept=scans.keep(state.kept, volume))
    volume = scans.doubted(volume, procedure)
    outputs: list[Output] = [KeepVolume(volume), Line("volume_completed", volume_fields(volume))]
    if not procedure.draft and (state.reference is None or _replaces_baseline(state, volume)):
        if not _shows_lesion(volume, procedure):
            fields = {"volume_id": volume.volume_id, "reason": "lesion_not_shown"}
            return state, [*outputs, Line("volume_not_measured", fields)]
        return _take_baseline(state, volume, outputs, procedure, engine)
    if why := _why_not_measured(state, volume):
        fields = {"volume_id": volume.volume_id, "reason": why}
        return state, [*outputs, Line("volume_not_measured", fields)]
    state, more = _shown(replace(state, volume=volume), procedure)
    return state, outputs + more


def _shows_lesion(volume: CtVolume, procedure: Procedure) -> bool:
    """A few slices that came first, or a scan of elsewhere, are nothing to compare with."""
    index = volume.geometry.to_index_zyx(procedure.plan.lesion.points_lps_mm)
    last = np.array(volume.hu.shape) - 1
    inside = ((index >= -0.5) & (index <= last + 0.5)).all(axis=-1)
    return bool(inside.mean() >= _LEAST_SHOWN)


def _why_not_measured(state: State, volume: CtVolume) -> str | None:
    if state.picked and _before_freeze(state, volume):
        return "baseline_picked"
    if state.volume is not None and volume.acquired_utc_s < state.volume.acquired_utc_s:
        return "older_than_latest"
    return None


def _shown(state: State, procedure: Procedure) -> tuple[State, list[Output]]:
    """The latest volume, measured; in a draft there is nothing to measure it against."""
    if not procedure.draft:
        return scans.measured(state, procedure)
    assert state.volume is not None
    assessment = _without_plan(state.volume, procedure, ())
    return replace(state, assessment=assessment), [
        Line("assessment", assessment_fields(assessment))
    ]


def _without_plan(
    volume: CtVolume, procedure: Procedure, reasons: tuple[Reason, ...]
) -> Assessment:
    no_plan = Reason("no_plan", "No lesion is drawn yet: nothing is measured.")
    return unplanned(
        procedure.config.margin_goal_mm,
        volume.volume_id,
        volume.acquired_utc_s,
        (*volume.reasons, *reasons, no_plan),
    )


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
    """Before the first freeze, a newer scan is a better baseline: the needles are in by then. Unless the
    operator has picked one, or a later scan was measured: what comes late must not undo what it taught."""
    return not state.picked and state.ice is None and _before_freeze(state, volume)


def _before_freeze(state: State, volume: CtVolume) -> bool:
    begun = state.progress.started_utc_s
    return not begun or volume.acquired_utc_s < begun[0]


def _take_baseline(
    state: State, volume: CtVolume, outputs: list[Output], procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    """From now on only this patient and frame of reference."""
    state, dropped = ahead.outdated(state, "baseline")
    mine = assembly.Expectation(volume.patient_id, volume.frame_of_reference_uid)
    state = replace(
        state,
        assembly=assembly.expecting(state.assembly, mine),
        baseline_volume=volume,
        volume=volume,
        ice=None,
        registration=None,
        review=None,
        done=acts.still(state.done, "needle", "pick_baseline"),
        relearning=None,
    )
    if procedure.draft:
        state, lines = _unprepared(state, volume, procedure)
    else:
        state, lines = _prepared(state, volume, procedure, engine)
    return state, [*outputs, *dropped, *lines]


_BASELINE = Reason("baseline", "This scan is the baseline: there is no ice to measure yet.")


def _unprepared(state: State, volume: CtVolume, procedure: Procedure) -> tuple[State, list[Output]]:
    """In a draft nothing says which part of the baseline matters."""
    assessment = _without_plan(volume, procedure, (_BASELINE,))
    state = replace(
        state, reference=None, label_zyx=None, estimate=None, forecast=None, assessment=assessment
    )
    return state, [
        Line("baseline_set", {"volume_id": volume.volume_id, "seen_fraction": None}),
        Line("assessment", assessment_fields(assessment)),
    ]


def _prepared(
    state: State, volume: CtVolume, procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    reference = make_reference(volume, procedure.analysis_grid, procedure.config)
    base_hu = reference.baseline.hu
    grid = procedure.prediction_grid
    label = tissue_labels(base_hu, procedure.analysis_grid, grid)
    config = replace(procedure.config, needles=reference.needles)
    reasons = (*volume.reasons, *reference.reasons, _BASELINE)
    assessment = unknown(procedure.plan, volume.volume_id, volume.acquired_utc_s, reasons)
    state = replace(
        state,
        reference=reference,
        label_zyx=label,
        assessment=assessment,
        estimate=first_estimate(
            prior_of(config),
            lambda m: make_problem(config, grid, label, (), m),
            engine,
            config.needles,
        ),
    )
    seen = float(np.isfinite(base_hu).mean())
    return state, [
        Line("baseline_set", {"volume_id": volume.volume_id, "seen_fraction": seen}),
        Line("assessment", assessment_fields(assessment)),
    ]


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
    acts_left = acts.still(state.done, *({d.act for d in state.done} - {"pick_baseline"}))
    state = replace(state, progress=progress, forecast_wanted=wanted, done=acts_left)
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
        return _reload(state, event, procedure, engine)
    if event.act == "pick_baseline":
        return _pick(state, event, procedure, engine)
    if acts.undoes(state, event, "pick_baseline"):
        return _unpick(state, procedure, engine)
    return acts.done(state, event, procedure)


# --------------------------------------------------------------------------- another case, another baseline


def _reload(
    state: State, event: OperatorAct, procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    """The case changed (a lesion was drawn, needles became known): what was received is measured, and
    learned from, again."""
    if event.procedure is not None and (reason := _unsuited(state, event.procedure)):
        return acts.refused(state, event, reason)
    state = replace(state, refused=None)
    if state.baseline_volume is not None:
        baseline = scans.as_received(state, state.baseline_volume)
        return _based_on(state, baseline, state.volume, procedure, engine)
    return _unpicked(state, procedure, engine)


def _unpicked(state: State, procedure: Procedure, engine: Engine) -> tuple[State, list[Output]]:
    """Nobody has picked a baseline: the case says whose volumes may be one, and, when it is whole, the
    newest of them from before the freeze is."""
    wanted = scans.expected(procedure.config)
    state = replace(state, assembly=assembly.expecting(state.assembly, wanted))
    mine = [v for v in state.kept if scans.suits(v, wanted)]
    baseline = scans.latest_of(v for v in mine if _before_freeze(state, v))
    latest = scans.latest_of(mine)
    if latest is None:
        return replace(state, volume=None, assessment=None), []
    if procedure.draft:
        return _shown(replace(state, volume=scans.doubted(latest, procedure)), procedure)
    if baseline is None:
        return replace(state, volume=scans.doubted(latest, procedure), assessment=None), []
    return _based_on(state, baseline, latest, procedure, engine)


def _based_on(
    state: State,
    baseline: CtVolume,
    latest: CtVolume | None,
    procedure: Procedure,
    engine: Engine,
) -> tuple[State, list[Output]]:
    """On that baseline the latest volume is measured at once, the scans before it little by little."""
    doubted = scans.doubted(baseline, procedure)
    state, outputs = _take_baseline(state, doubted, [], procedure, engine)
    if latest is None or latest.volume_id == baseline.volume_id:
        return state, outputs
    latest = scans.doubted(scans.as_received(state, latest), procedure)
    state, more = _shown(replace(state, volume=latest), procedure)
    return scans.learned_anew(state), outputs + more


def _pick(
    state: State, event: OperatorAct, procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    """That volume is the baseline, and no newer one replaces it. Until a freeze begins it is also what is
    shown."""
    volume_id = (event.params or {}).get("volume_id")
    volume = scans.of_id(state, volume_id)
    if volume is None or (reason := _unpickable(state, volume, procedure)):
        known = ", ".join(v.volume_id for v in state.kept)
        unknown_id = f"{volume_id} has not been received ({known})"
        missing = unknown_id if known else "no volume has been received yet"
        return acts.refused(state, event, missing if volume is None else reason)
    before = None if state.baseline_volume is None else state.baseline_volume.volume_id
    done = Done(event.act, volume.volume_id, Picked(before, state.picked))
    latest = None
    if state.progress.started_utc_s:
        latest = scans.latest_of(v for v in state.kept if _alike(v, volume))
    state = replace(state, picked=True, done=(*state.done, done), refused=None)
    return _based_on(state, volume, latest, procedure, engine)


def _unpickable(state: State, volume: CtVolume, procedure: Procedure) -> str:
    """Why a volume cannot become the baseline, "" when it can."""
    wanted, now = scans.expected(procedure.config), state.baseline_volume
    if state.block is not None:
        return "images of another patient or frame of reference came; clear that first"
    if not scans.suits(volume, wanted):
        return f"{volume.volume_id}: {scans.misfit(volume, wanted)}"
    if state.progress.started_utc_s and now is not None:
        return "the first freeze has begun: the baseline stays"
    if not _before_freeze(state, volume):
        return f"{volume.volume_id} was acquired after the first freeze began"
    if state.picked and now is not None and now.volume_id == volume.volume_id:
        return f"{volume.volume_id} has been picked already"
    return ""


def _unpick(state: State, procedure: Procedure, engine: Engine) -> tuple[State, list[Output]]:
    """The baseline that was there before; where none was, any may be chosen again."""
    last, state = state.done[-1], replace(state, done=state.done[:-1], refused=None)
    assert isinstance(last.before, Picked)
    state = replace(state, picked=last.before.picked)
    said: list[Output] = [Line("undone", {"act": last.act, "of": last.of})]
    volume = scans.of_id(state, last.before.volume_id)
    if volume is not None:
        state, outputs = _based_on(state, volume, None, procedure, engine)
    else:
        state = replace(state, baseline_volume=None, reference=None, label_zyx=None, estimate=None)
        state = replace(state, ice=None, registration=None, review=None)
        state, outputs = _unpicked(state, procedure, engine)
    return state, said + outputs


def _alike(a: CtVolume, b: CtVolume) -> bool:
    """Of one patient and frame of reference."""
    return scans.suits(a, assembly.Expectation(b.patient_id, b.frame_of_reference_uid))
