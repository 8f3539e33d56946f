"""The whole procedure as one function: ``step(state, event, …) → (state, outputs)``.

No I/O, no clock, no thread: a replay feeds the same events and gets the same outputs. Times are
UTC seconds on the procedure clock; LPS mm. Invariant: every event leaves a state that says what is
known, and an output for each thing that another program must learn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_kernels.engine import Engine, Members, Problem
from monitor.decision import protocol
from monitor.decision.assessment import assess, unknown
from monitor.decision.safety import CLOCK_OFFSET_LIMIT_S, Block, last_known
from monitor.imaging.measurement import Reference, make_reference, measure
from monitor.imaging.registration import Registration
from monitor.intake import assembly
from monitor.journal_fields import (
    assessment_fields,
    forecast_fields,
    registration_fields,
    segmentation_fields,
    volume_fields,
    what_if_fields,
)
from monitor.model import (
    Assessment,
    AssociationEnded,
    CtSlice,
    CtVolume,
    FloatArray,
    Forecast,
    IceSegmentation,
    NextScan,
    PhaseKind,
    Reason,
    Rejected,
    Status,
    StructureDistance,
    WhatIf,
    WhatIfAnswer,
    worst,
)
from monitor.prediction.ensemble import prior_of
from monitor.prediction.estimate import Estimate, assimilated, first_estimate
from monitor.prediction.forecast import (
    HORIZON_S,
    Job,
    advance_forecast,
    begin_forecast,
    finish_forecast,
)
from monitor.prediction.next_scan import next_scan
from monitor.prediction.setup import driven, make_problem, tissue_labels
from monitor.prediction.what_if import (
    Base,
    WhatIfJob,
    advance_what_if,
    begin_what_if,
    finish_what_if,
    question,
)
from monitor.procedure import Procedure

# Forecast times computed before the queue is looked at again.
_OUTPUTS_AT_ONCE = 4
# Two times this close are the same one, reckoned differently.
_SAME_S = 0.01

# --------------------------------------------------------------------------- events


@dataclass(frozen=True)
class Tick:
    """Time has passed. Sent when it is ``due``."""

    now_utc_s: float
    now_mono_s: float


@dataclass(frozen=True)
class OperatorAct:
    """ "phase_next", "clear_block", "acknowledge", "reload" (with the new ``procedure``, whose case
    the record keeps in ``kept_case``) or "what_if" (its ``params`` as ``prediction.what_if.question``
    takes them). Every field but ``procedure`` is journalled as it stands."""

    act: str
    now_utc_s: float
    procedure: Procedure | None = None
    kept_case: Mapping[str, Any] | None = None
    params: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ForecastDue:
    """Carry the forecast on, then the answer to a what-if. The runtime sends it while
    ``State.work_pending`` and nothing more urgent waits."""

    now_utc_s: float


@dataclass(frozen=True)
class Ending:
    now_utc_s: float


Event = CtSlice | Rejected | AssociationEnded | Tick | OperatorAct | ForecastDue | Ending

# --------------------------------------------------------------------------- outputs


@dataclass(frozen=True)
class Line:
    """A line for the journal."""

    kind: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class KeepVolume:
    volume: CtVolume


Output = Line | KeepVolume | Rejected

# --------------------------------------------------------------------------- state


@dataclass(frozen=True)
class Asked:
    """A what-if that is being answered: by a few members, then (``refined``) by all. ``job`` begins when
    no forecast waits."""

    question: WhatIf
    now_utc_s: float
    refined: bool = False
    job: WhatIfJob | None = None


@dataclass(frozen=True)
class State:
    assembly: assembly.AssemblyState
    progress: protocol.Progress = field(default_factory=protocol.Progress)
    baseline_volume: CtVolume | None = None
    reference: Reference | None = None
    label_zyx: npt.NDArray[np.uint8] | None = None
    clock_offset_s: float | None = None
    volume: CtVolume | None = None
    ice: IceSegmentation | None = None
    registration: Registration | None = None
    assessment: Assessment | None = None
    structures: tuple[StructureDistance, ...] = ()
    estimate: Estimate | None = None
    forecast: Forecast | None = None
    forecast_wanted: bool = False
    job: Job | None = None
    asked: Asked | None = None
    what_if: WhatIfAnswer | None = None
    block: Block | None = None

    @property
    def shifts_mm(self) -> tuple[FloatArray, ...]:
        """How the patient lay in the scan before: a start for the next."""
        return () if self.registration is None else (np.array(self.registration.shift_lps_mm),)

    @property
    def forecast_pending(self) -> bool:
        return self.forecast_wanted or self.job is not None

    @property
    def work_pending(self) -> bool:
        """A forecast, or the answer to a what-if."""
        return self.forecast_pending or self.asked is not None


def initial_state(procedure: Procedure) -> State:
    config = procedure.config
    expectation = assembly.Expectation(config.patient_id, config.frame_of_reference_uid)
    return State(assembly=assembly.initial(expectation))


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
        return _forecast(state, procedure, engine)
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
    state = replace(state, clock_offset_s=offset_s)
    if state.reference is None or _replaces_baseline(state, volume):
        return _take_baseline(state, volume, outputs, procedure, engine)
    if state.volume is not None and volume.acquired_utc_s < state.volume.acquired_utc_s:
        outputs.append(
            Line(
                "volume_not_measured",
                {"volume_id": volume.volume_id, "reason": "older_than_latest"},
            )
        )
        return state, outputs
    state, more = _measure(replace(state, volume=volume), procedure)
    return state, outputs + more


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
    state, dropped = _outdated(state, "baseline")
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
        assessment=assessment,
        estimate=first_estimate(
            prior_of(config), lambda m: make_problem(config, grid, label, (), m), engine
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
    ice = measured.ice
    assessment = assess(ice, procedure.plan, None)
    state = replace(
        state,
        ice=ice,
        reference=measured.reference,
        registration=measured.registration,
        assessment=assessment,
        structures=last_known(state.structures, assessment),
        forecast_wanted=True,
    )
    state, outputs = _skipped(state, "scan")
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
    state, outputs = _skipped(replace(state, progress=progress, forecast_wanted=wanted), "phase")
    return state, [*outputs, Line("phase", fields)]


def _operator(
    state: State, event: OperatorAct, procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    if event.act == "what_if":
        return _ask(state, event, procedure)
    if event.act == "clear_block":
        return replace(state, block=None), []
    if event.act == "phase_next":
        progress = protocol.next_phase(state.progress, procedure.config.protocol, event.now_utc_s)
        return _moved_on(state, progress, procedure)
    if event.act == "reload":
        return _reloaded(state, procedure, engine)
    return state, []


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


# --------------------------------------------------------------------------- forecast


def _forecast(state: State, procedure: Procedure, engine: Engine) -> tuple[State, list[Output]]:
    """A stretch of the forecast: it is begun anew when one is wanted, else carried on."""
    if state.forecast_wanted:
        return _begin_forecast(state, procedure, engine), []
    if state.job is None:
        return _answer(state, procedure, engine)
    job = advance_forecast(state.job, engine, _OUTPUTS_AT_ONCE)
    if not job.done:
        return replace(state, job=job), []
    begun = state.progress.started_utc_s
    forecast = finish_forecast(job, procedure.config, begun[0], engine)
    forecast = replace(forecast, next_scan=_next_scan(state, forecast, procedure))
    state = replace(state, job=None, forecast=forecast)
    outputs: list[Output] = [Line("forecast", forecast_fields(forecast))]
    if state.ice is not None and forecast.from_volume_id == state.ice.volume_id:
        assessment = assess(state.ice, procedure.plan, forecast)
        state = replace(state, assessment=assessment)
        outputs.append(Line("assessment", assessment_fields(assessment)))
    return state, outputs


def _next_scan(state: State, forecast: Forecast, procedure: Procedure) -> NextScan:
    config, a = procedure.config, state.assessment
    measured = state.ice is None or (a is not None and a.status is not Status.INVALID)
    phase = protocol.phase(state.progress, config.protocol)
    return next_scan(forecast, measured, phase, config.stale_after_s)


def next_scan_known(state: State, procedure: Procedure, now_utc_s: float) -> NextScan | None:
    """The next scan worth taking as it stands now: None while nothing runs or the forecast is being
    made, at once where there is none of the latest scan in the phase that runs."""
    kind = protocol.phase(state.progress, procedure.config.protocol).kind
    if kind not in (PhaseKind.FREEZE, PhaseKind.THAW) or state.forecast_pending:
        return None
    f = state.forecast
    newest_utc_s = max(
        state.progress.started_utc_s[0], state.volume.acquired_utc_s if state.volume else 0.0
    )
    if f is None or f.kind is not kind or not f.start_utc_s >= newest_utc_s - _SAME_S:
        return NextScan(now_utc_s, "unmeasured")
    return f.next_scan


def _begin_forecast(state: State, procedure: Procedure, engine: Engine) -> State:
    state = replace(state, forecast_wanted=False, job=None)
    if state.estimate is None or not state.progress.started_utc_s:
        return state
    estimate = _assimilated(state, state.estimate, procedure, engine)
    problem = estimate.problem(lambda m: _problem(state, procedure, m))
    kind = protocol.phase(state.progress, procedure.config.protocol).kind
    begun = state.progress.started_utc_s
    grid, target, began_s = procedure.prediction_grid, procedure.target, begun[-1] - begun[0]
    job = begin_forecast(problem, estimate, grid, target, kind, began_s)
    return replace(state, estimate=estimate, job=job)


def _problem(state: State, procedure: Procedure, members: Members) -> Problem:
    """The case's, with the needles where the baseline shows them."""
    assert state.reference is not None
    assert state.label_zyx is not None
    config = replace(procedure.config, needles=state.reference.needles)
    intervals = protocol.intervals(state.progress, config.protocol, HORIZON_S)
    return make_problem(config, procedure.prediction_grid, state.label_zyx, intervals, members)


def _skipped(state: State, by: str) -> tuple[State, list[Output]]:
    """What a newer scan or phase overtakes is dropped, and that is said: a forecast that is not done,
    and any what-if, whose course began before."""
    state, outputs = _outdated(state, by)
    if state.job is None:
        return state, outputs
    fields = {"from_volume_id": state.job.estimate.volume_id}
    return replace(state, job=None), [Line("forecast_skipped", fields), *outputs]


def _assimilated(
    state: State, estimate: Estimate, procedure: Procedure, engine: Engine
) -> Estimate:
    """The estimate at the latest measured scan; the one before when that scan is not newer."""
    ice = state.ice
    if ice is None or ice.volume_id == estimate.volume_id:
        return estimate
    at_s = ice.acquired_utc_s - state.progress.started_utc_s[0]
    if at_s < estimate.state.time_s:
        return estimate

    def make(members: Members) -> Problem:
        return _problem(state, procedure, members)

    kind = protocol.kind_at(state.progress, procedure.config.protocol, ice.acquired_utc_s)
    return assimilated(estimate, ice, at_s, kind, make, procedure.prediction_grid, engine)


# --------------------------------------------------------------------------- what if


def _ask(state: State, event: OperatorAct, procedure: Procedure) -> tuple[State, list[Output]]:
    """The latest question wins; one that cannot be answered leaves the one before."""
    try:
        _answerable(state, procedure)
        asked = question(event.params or {}, _numbers(state))
    except ValueError as error:
        return state, [Line("what_if_refused", {"reason": str(error)})]
    state, outputs = _outdated(state, "question")
    return replace(state, asked=Asked(asked, event.now_utc_s)), outputs


def _answerable(state: State, procedure: Procedure) -> None:
    """Raises ``ValueError`` with the reason why there is nothing to ask about."""
    kind = protocol.phase(state.progress, procedure.config.protocol).kind
    if state.block is not None:
        raise ValueError("images of another patient or frame of reference came; clear that first")
    if state.estimate is None:
        raise ValueError("there is no baseline scan yet")
    if not _numbers(state):
        raise ValueError("the case names no needle that freezes")
    if kind is not PhaseKind.FREEZE:
        raise ValueError(f"no freeze is running ({kind.value})")


def _numbers(state: State) -> tuple[int, ...]:
    """The needles that freeze, in the order of the problem's."""
    return (
        () if state.reference is None else tuple(n.number for n in driven(state.reference.needles))
    )


def _answer(state: State, procedure: Procedure, engine: Engine) -> tuple[State, list[Output]]:
    """A stretch of the answer: a few members' first, then all members' in its place."""
    if state.asked is None:
        return state, []
    asked, job = state.asked, state.asked.job
    if job is None:
        base = _base(state, asked, procedure)
        job = begin_what_if(asked.question, base, engine, asked.refined)
        return replace(state, asked=replace(asked, job=job)), []
    job = advance_what_if(job, engine, _OUTPUTS_AT_ONCE)
    if not job.done:
        return replace(state, asked=replace(asked, job=job)), []
    answer = finish_what_if(job, procedure.config, state.progress.started_utc_s[0], engine)
    following = None if asked.refined else Asked(asked.question, asked.now_utc_s, refined=True)
    state = replace(state, what_if=answer, asked=following)
    return state, [Line("what_if", what_if_fields(answer))]


def _base(state: State, asked: Asked, procedure: Procedure) -> Base:
    """The case at the moment of the question, going on as now."""
    estimate, begun = state.estimate, state.progress.started_utc_s[0]
    assert estimate is not None
    ends_utc_s = protocol.phase(state.progress, procedure.config.protocol).ends_utc_s
    return Base(
        estimate=estimate,
        problem=estimate.problem(lambda m: _problem(state, procedure, m)),
        numbers=_numbers(state),
        grid=procedure.prediction_grid,
        target=procedure.target,
        drift=estimate.drifts.get(PhaseKind.FREEZE),
        now_s=asked.now_utc_s - begun,
        planned_end_s=math.inf if ends_utc_s is None else ends_utc_s - begun,
    )


def _outdated(state: State, by: str) -> tuple[State, list[Output]]:
    """A what-if that is being answered is dropped; an answer no longer holds. Either is said."""
    if state.asked is None and state.what_if is None:
        return state, []
    fields = {"by": by, "answered": state.what_if is not None}
    return replace(state, asked=None, what_if=None), [Line("what_if_over", fields)]
