"""The forecast and the what-if of a procedure, stretch by stretch: what ``pipeline.step`` does when
nothing more urgent waits. Times are UTC seconds on the procedure clock; LPS mm.

Invariant: a measured scan never waits for anything here, and nothing here changes what was measured.
"""

from __future__ import annotations

import math
from dataclasses import replace

from gpu_kernels.engine import Engine, Members, Problem
from monitor.decision import protocol
from monitor.decision.assessment import assess
from monitor.duties import duties_over
from monitor.forecast_values import Forecast, NextScan
from monitor.journal_fields import assessment_fields, forecast_fields, what_if_fields
from monitor.model import PhaseKind, Status
from monitor.prediction.assimilation import assimilated
from monitor.prediction.estimate import Estimate, replaced
from monitor.prediction.forecast import (
    HORIZON_S,
    advance_forecast,
    begin_forecast,
    finish_forecast,
)
from monitor.prediction.learning import caught_up
from monitor.prediction.next_scan import next_scan
from monitor.prediction.setup import make_problem
from monitor.prediction.what_if import (
    Base,
    advance_what_if,
    begin_what_if,
    finish_what_if,
    question,
)
from monitor.procedure import Procedure
from monitor.state import Asked, Line, OperatorAct, Output, State

# Forecast times computed before the queue is looked at again.
_OUTPUTS_AT_ONCE = 4
# Two times this close are the same one, reckoned differently.
_SAME_S = 0.01

# ------------------------------------------------------------------ forecast


def carried_on(state: State, procedure: Procedure, engine: Engine) -> tuple[State, list[Output]]:
    """A stretch of the forecast: it is begun anew when one is wanted, else carried on. When it is done, of a
    what-if, then of learning."""
    if state.forecast_wanted:
        return _begin_forecast(state, procedure, engine), []
    if state.job is None and state.asked is not None:
        return _answer(state, state.asked, procedure, engine)
    if state.job is None:
        return _caught_up(state, procedure, engine), []
    job = advance_forecast(state.job, engine, _OUTPUTS_AT_ONCE)
    if not job.done:
        return replace(state, job=job), []
    begun = state.progress.started_utc_s
    forecast = finish_forecast(job, procedure.config, begun[0], engine)
    next_one = _next_scan(state, forecast, procedure)
    forecast = replace(forecast, next_scan=next_one, phase_started_utc_s=begun[-1])
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
    estimate = assimilated_estimate(state, state.estimate, procedure, engine)
    problem = estimate.problem(lambda m: _problem(state, procedure, m))
    kind = protocol.phase(state.progress, procedure.config.protocol).kind
    begun = state.progress.started_utc_s
    grid, target, began_s = procedure.prediction_grid, procedure.target, begun[-1] - begun[0]
    job = begin_forecast(problem, estimate, grid, target, kind, began_s)
    return replace(state, estimate=estimate, job=job)


def _caught_up(state: State, procedure: Procedure, engine: Engine) -> State:
    """Nobody waits for anything: the next scan need not wait for this."""
    if state.estimate is None:
        return state
    grid = procedure.prediction_grid
    caught = caught_up(state.estimate, lambda m: _problem(state, procedure, m), grid, engine)
    return replace(state, estimate=caught)


def _problem(state: State, procedure: Procedure, members: Members) -> Problem:
    """The case's, with the needles where they were last seen, as they were set."""
    assert state.reference is not None
    assert state.label_zyx is not None
    config = replace(procedure.config, needles=state.reference.placed)
    intervals = protocol.intervals(state.progress, config.protocol, HORIZON_S)
    duties = duties_over(config.needles, state.needle_sets, state.progress.started_utc_s[0])
    grid = procedure.prediction_grid
    return make_problem(config, grid, state.label_zyx, intervals, members, duties)


def skipped(state: State, by: str) -> tuple[State, list[Output]]:
    """What a newer scan or phase overtakes is dropped, and that is said: a forecast that is not done,
    and any what-if, whose course began before."""
    state, outputs = outdated(state, by)
    if state.job is None:
        return state, outputs
    fields = {"from_volume_id": state.job.estimate.volume_id}
    return replace(state, job=None), [Line("forecast_skipped", fields), *outputs]


def assimilated_estimate(
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

    assert state.reference is not None
    kind = protocol.kind_at(state.progress, procedure.config.protocol, ice.acquired_utc_s)
    estimate = replaced(estimate, state.reference.placed, make, engine)
    return assimilated(estimate, ice, at_s, kind, make, procedure.prediction_grid, engine)


# ------------------------------------------------------------------ what if


def ask(state: State, event: OperatorAct, procedure: Procedure) -> tuple[State, list[Output]]:
    """The latest question wins; one that cannot be answered leaves the one before."""
    try:
        _answerable(state, procedure)
        asked = question(event.params or {}, _numbers(state))
    except ValueError as error:
        said = replace(state, refused=f"{event.act}: {error}")
        return said, [Line("what_if_refused", {"reason": str(error)})]
    state, outputs = outdated(state, "question")
    return replace(state, asked=Asked(asked, event.now_utc_s), refused=None), outputs


def _answerable(state: State, procedure: Procedure) -> None:
    """Raises ``ValueError`` with the reason why there is nothing to ask about."""
    kind = protocol.phase(state.progress, procedure.config.protocol).kind
    if state.block is not None:
        raise ValueError("images of another patient or frame of reference came; clear that first")
    if state.estimate is None:
        raise ValueError("there is no baseline scan yet")
    if not _numbers(state):
        raise ValueError("the case names no needle")
    if kind is not PhaseKind.FREEZE:
        raise ValueError(f"no freeze is running ({kind.value})")


def _numbers(state: State) -> tuple[int, ...]:
    """The needles, in the order of the problem's."""
    return () if state.reference is None else tuple(n.number for n in state.reference.needles)


def _answer(
    state: State, asked: Asked, procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    """A stretch of the answer: a few members' first, then all members' in its place."""
    job = asked.job
    if job is None:
        base = _base(state, asked, procedure)
        job = begin_what_if(asked.question, base, engine, asked.refined)
        return replace(state, asked=replace(asked, job=job)), []
    job = advance_what_if(job, engine, _OUTPUTS_AT_ONCE)
    if not job.done:
        return replace(state, asked=replace(asked, job=job)), []
    answer = finish_what_if(job, procedure.config, state.progress.started_utc_s[0], engine)
    following = None if asked.refined else Asked(asked.question, asked.now_utc_s, refined=True)
    state = replace(state, what_if=answer, asked=following, what_if_dropped=None)
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


def outdated(state: State, by: str) -> tuple[State, list[Output]]:
    """A what-if that is being answered is dropped; an answer no longer holds. Either is said."""
    if state.asked is None and state.what_if is None:
        return state, []
    answered = state.what_if is not None
    dropped = None if answered else by
    state = replace(state, asked=None, what_if=None, what_if_dropped=dropped)
    return state, [Line("what_if_over", {"by": by, "answered": answered})]
