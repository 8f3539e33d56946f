"""The whole procedure as one function: ``step(state, event, …) → (state, outputs)``.

No I/O, no clock, no thread: a replay feeds the same events and gets the same outputs. Times are
UTC seconds on the procedure clock; LPS mm. Invariant: every event leaves a state that says what is
known, and an output for each thing that another program must learn.
"""

from __future__ import annotations

from dataclasses import replace

from gpu_kernels.engine import Engine
from monitor import acts, ahead, baselines, scans
from monitor.decision import protocol
from monitor.decision.safety import CLOCK_FAR_OFF_S, CLOCK_OFFSET_LIMIT_S, CLOCK_SLACK_S, Block
from monitor.imaging.measurement import Measurement
from monitor.intake import assembly
from monitor.journal_fields import phase_fields, volume_fields
from monitor.model import (
    AssociationEnded,
    CtFrames,
    CtSlice,
    CtVolume,
    PhaseKind,
    Reason,
    Rejected,
    Status,
    worst,
)
from monitor.prediction.estimate import without_course
from monitor.procedure import Procedure
from monitor.state import (
    Done,
    Event,
    ForecastDue,
    KeepVolume,
    Line,
    OperatorAct,
    Output,
    State,
    Tick,
)

# So long a phase begun by mistake can be taken back. The needles answer within seconds; later the ice
# would have felt it.
UNDO_PHASE_S = 30.0
_LEAST_LEFT_S = 60.0
# A whole scan comes within this: until then one of its images may be broken without a word.
UNUSED_AFTER_S = 20.0
# No part of any volume, there already, of a volume that says so, or blocking the screen.
_TOLD_OTHERWISE = frozenset(
    {
        "localizer", "projection", "secondary_image", "secondary_capture", "not_ct_image",
        "duplicate_instance", "slice_astray", "patient_mismatch", "frame_of_reference_mismatch",
        "incomplete_at_end",
    }
)  # fmt: skip


def step(
    state: State, event: Event, procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    """What follows from one event."""
    if isinstance(event, CtSlice):
        return _take_in(state, *assembly.add_slice(state.assembly, event), procedure, engine)
    if isinstance(event, CtFrames):
        return _take_in(state, *assembly.add_frames(state.assembly, event), procedure, engine)
    if isinstance(event, Rejected):
        return _reject(state, event, UNUSED_AFTER_S)
    if isinstance(event, AssociationEnded):
        return _take_in(
            state, *assembly.association_ended(state.assembly, event), procedure, engine
        )
    if isinstance(event, Tick):
        state, outputs = _take_in(
            state, *assembly.tick(state.assembly, event.now_mono_s), procedure, engine
        )
        progress = progress_at(state, event.now_utc_s, procedure)
        state, more = _moved_on(state, progress, procedure, event.now_utc_s)
        return state, outputs + more
    if isinstance(event, ForecastDue):
        carried_on = ahead.carried_on if state.relearning is None else scans.carried_on
        return carried_on(state, procedure, engine)
    if isinstance(event, OperatorAct):
        return _operator(state, event, procedure, engine)
    return _take_in(state, *assembly.finish(state.assembly), procedure, engine)


def due(state: State, tick: Tick, procedure: Procedure) -> bool:
    """Whether time has brought anything: a tick that is not due gives nothing and changes nothing."""
    progress = progress_at(state, tick.now_utc_s, procedure)
    return progress != state.progress or bool(assembly.silent(state.assembly, tick.now_mono_s))


def after_fault(state: State, event: Event) -> State:
    """What stands when a step has failed: the state before it, without the forecast, the what-if or the
    learning that failed (the next scan, or the operator, will ask again)."""
    if isinstance(event, ForecastDue):
        known = None if state.estimate is None else without_course(state.estimate)
        state = replace(state, forecast_wanted=False, job=None, asked=None, relearning=None)
        return replace(state, estimate=known)
    return state


def in_force(state: State, event: Event, procedure: Procedure) -> Procedure:
    """The procedure that ``step`` works with from this event on: that of a case which was reloaded, unless
    it does not suit what has been done."""
    if not isinstance(event, OperatorAct) or event.procedure is None:
        return procedure
    return procedure if baselines.unsuited(state, event.procedure) else event.procedure


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
            state, more = _reject(state, outcome, 0.0)
        else:
            state, more = _volume(state, outcome, procedure, engine)
        outputs += more
    return state, outputs


def _reject(state: State, rejected: Rejected, patience_s: float) -> tuple[State, list[Output]]:
    """Another patient's or frame's images also block the screen until the operator has acted. ``patience_s``:
    so long the others of its scan may take to become a volume without it."""
    code, received_utc_s = rejected.reason.code, rejected.instance.received_utc_s
    if code not in _TOLD_OTHERWISE:
        told_utc_s = received_utc_s + patience_s
        before = state.unused
        if before is None or told_utc_s < before[1]:
            state = replace(state, unused=(code, told_utc_s))
    if state.block is None and rejected.mismatch is not None:
        block = Block(code, *rejected.mismatch, received_utc_s)
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
    kept = scans.keep(state.kept, volume)
    state = replace(state, clock_offset_s=offset_s, kept=kept, unused=None)
    state = _without_the_future(state, volume)
    volume = scans.doubted(volume, procedure)
    outputs: list[Output] = [KeepVolume(volume), Line("volume_completed", volume_fields(volume))]
    if found := _ice_before_freeze(state, volume, procedure):
        before = state.volume or volume
        state = baselines.unannounced(replace(state, volume=volume), before, volume)
        state, more = scans.measured(state, procedure, found)
        return state, outputs + more
    if not procedure.draft and (state.reference is None or _replaces_baseline(state, volume)):
        if not baselines.shows_lesion(volume, procedure):
            fields = {"volume_id": volume.volume_id, "reason": "lesion_not_shown"}
            return state, [*outputs, Line("volume_not_measured", fields)]
        return baselines.taken(state, volume, outputs, procedure, engine)
    if why := _why_not_measured(state, volume):
        fields = {"volume_id": volume.volume_id, "reason": why}
        return state, [*outputs, Line("volume_not_measured", fields)]
    state, more = baselines.shown(replace(state, volume=volume), procedure)
    return state, outputs + more


def _ice_before_freeze(state: State, volume: CtVolume, procedure: Procedure) -> Measurement | None:
    """Ice where no freeze was begun. Such a scan is no baseline: what it shows frozen would never count."""
    if procedure.draft or _late(state, volume) or not baselines.before_freeze(state, volume):
        return None
    return scans.with_ice(state, volume, procedure)


def _why_not_measured(state: State, volume: CtVolume) -> str | None:
    if state.picked and baselines.before_freeze(state, volume):
        return "baseline_picked"
    return "older_than_latest" if _late(state, volume) else None


def _late(state: State, volume: CtVolume) -> bool:
    """Whether a scan acquired after this one stands."""
    latest = state.volume
    older = latest is not None and volume.acquired_utc_s < latest.acquired_utc_s
    return older and not _from_the_future(latest, volume)


def _from_the_future(latest: CtVolume | None, volume: CtVolume) -> bool:
    """Whether the latest scan's stamp has not come by when this one was received: the scanner's clock was
    wrong for it, and no later scan is to wait until that time."""
    limit_utc_s = volume.last_received_utc_s + CLOCK_OFFSET_LIMIT_S
    return latest is not None and latest.acquired_utc_s > limit_utc_s


def _without_the_future(state: State, volume: CtVolume) -> State:
    """What a scan of an impossible time has taught the forecast is forgotten when the next one comes."""
    latest, review = state.volume, state.review
    if not _from_the_future(latest, volume) or latest is None or review is None:
        return state
    if review.volume_id != latest.volume_id or volume.acquired_utc_s >= latest.acquired_utc_s:
        return state
    return replace(state, reference=review.before.reference, estimate=review.before.estimate)


def _clock_offset(state: State, volume: CtVolume) -> tuple[float, tuple[Reason, ...]]:
    """What to add to the scanner's stamps. Known from the first volume on: a scan cannot arrive (by more
    than what clocks may differ by unsaid) before it is acquired, nor, in the room, long after. Disproved by
    another that is stamped right and would have arrived before it was acquired: the first was an old one."""
    late_s = volume.last_received_utc_s - volume.acquired_utc_s
    right, known_s = -CLOCK_SLACK_S <= late_s <= CLOCK_OFFSET_LIMIT_S, state.clock_offset_s
    if known_s is not None:
        disproved = late_s < known_s - CLOCK_SLACK_S or known_s < -CLOCK_FAR_OFF_S
        if not (right and disproved):
            return known_s, ()
    if right:
        return 0.0, ()
    return late_s, (Reason("clock_offset", f"The scanner's clock differs by {late_s:.0f} s."),)


def _replaces_baseline(state: State, volume: CtVolume) -> bool:
    """Before the first freeze, a newer scan is a better baseline: the needles are in by then. Unless the
    operator has picked one, or a later scan was measured: what comes late must not undo what it taught."""
    return not state.picked and state.ice is None and baselines.before_freeze(state, volume)


# --------------------------------------------------------------------------- time and operator


def progress_at(state: State, now_utc_s: float, procedure: Procedure) -> protocol.Progress:
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
    state: State, progress: protocol.Progress, procedure: Procedure, now_utc_s: float
) -> tuple[State, list[Output]]:
    """On to where the protocol stands, step by step: of a machine that slept no phase is left out."""
    if progress == state.progress:
        return state, []
    lines = [
        _phase_line(reached, procedure, now_utc_s)
        for reached in protocol.steps(state.progress, progress)
    ]
    phase = protocol.phase(progress, procedure.config.protocol)
    wanted = state.estimate is not None and phase.kind is not PhaseKind.ENDED
    acts_left = acts.still(
        state.done, *({d.act for d in state.done} - {"pick_baseline", "phase_next"})
    )
    state = replace(state, progress=progress, forecast_wanted=wanted, done=acts_left)
    state, outputs = ahead.skipped(state, "phase")
    return state, [*outputs, *lines]


def _phase_line(progress: protocol.Progress, procedure: Procedure, now_utc_s: float) -> Line:
    return Line(
        "phase", phase_fields(protocol.phase(progress, procedure.config.protocol), now_utc_s)
    )


def _operator(
    state: State, event: OperatorAct, procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    if event.act == "what_if":
        return ahead.ask(state, event, procedure)
    if event.act == "clear_block":
        if state.block is None:
            return acts.refused(state, event, "nothing is blocked")
        return _cleared(state, procedure), []
    if event.act == "phase_next":
        return _next_phase(state, event.now_utc_s, procedure)
    if acts.undoes(state, event, "phase_next"):
        return _not_next_phase(state, procedure, event.now_utc_s)
    if event.act == "reload":
        return baselines.reloaded(state, event, procedure, engine)
    if event.act == "pick_baseline":
        return baselines.picked(state, event, procedure, engine)
    if acts.undoes(state, event, "pick_baseline"):
        return baselines.unpicked_again(state, procedure, engine)
    return acts.done(state, event, procedure)


def _cleared(state: State, procedure: Procedure) -> State:
    """The operator has looked. Before anything was frozen, and unless somebody picked the baseline, a frame
    of reference that only a scan has set no longer stands against the next one: that scan may have been an
    old one, of another study."""
    block = state.block
    unused = not (state.progress.started_utc_s or state.picked or state.ice)
    if unused and block is not None and block.code == "frame_of_reference_mismatch":
        wanted = scans.expected(procedure.config)
        state = replace(state, assembly=assembly.expecting(state.assembly, wanted))
    return replace(state, block=None)


def _next_phase(state: State, now_utc_s: float, procedure: Procedure) -> tuple[State, list[Output]]:
    before, was = state.progress, protocol.phase(state.progress, procedure.config.protocol).kind
    began_utc_s = now_utc_s if before.started_utc_s else _began_utc_s(state, procedure, now_utc_s)
    progress = protocol.next_phase(before, procedure.config.protocol, began_utc_s)
    state, outputs = _moved_on(replace(state, refused=None), progress, procedure, now_utc_s)
    if progress == before:
        return state, outputs
    if began_utc_s < now_utc_s:
        state = scans.learned_anew(state)
    done = Done("phase_next", was.value, before, now_utc_s + UNDO_PHASE_S)
    return replace(state, done=(*state.done, done)), outputs


def _began_utc_s(state: State, procedure: Procedure, now_utc_s: float) -> float:
    """Of the first freeze: now, unless scans have shown ice before. Of its planned length a minute is
    left at least: a phase that is over at once helps nobody."""
    if state.unannounced_utc_s is None:
        return now_utc_s
    planned_s = procedure.config.protocol.phases[0].duration_s
    longest_s = max(planned_s - _LEAST_LEFT_S, 0.0)
    return min(max(state.unannounced_utc_s, now_utc_s - longest_s), now_utc_s)


def _not_next_phase(
    state: State, procedure: Procedure, now_utc_s: float
) -> tuple[State, list[Output]]:
    """A phase begun by mistake was not: the needles had not been switched yet. What time alone brings is
    brought by the next tick."""
    last, state = state.done[-1], replace(state, done=state.done[:-1], refused=None)
    assert isinstance(last.before, protocol.Progress)
    state, outputs = acts.forecast_anew(replace(state, progress=last.before), procedure, "undo")
    if not state.forecast_wanted:
        state = replace(state, forecast=None)
    said = Line("undone", {"act": last.act, "of": last.of})
    return state, [said, _phase_line(last.before, procedure, now_utc_s), *outputs]
