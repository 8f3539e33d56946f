"""What an operator does to the course of things: a needle set otherwise, a measurement accepted, rejected or
drawn anew; and the last such act undone. UTC seconds on the procedure clock.

Invariant: an act is done, or refused with a sentence that says why, and then changes nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from monitor import ahead
from monitor.decision import protocol
from monitor.decision.assessment import assess
from monitor.decision.safety import last_known
from monitor.duties import NeedleSet, duty_now
from monitor.journal_fields import assessment_fields, segmentation_fields
from monitor.model import PhaseKind, Status, Structure
from monitor.procedure import Procedure
from monitor.review import (
    ACCEPTED,
    CORRECTED,
    MEASURED,
    REJECTED,
    Review,
    Verdict,
    corrected,
    standing,
)
from monitor.state import Done, Line, OperatorAct, Output, State

_Did = tuple[State, list[Output]]


class Refusal(ValueError):
    """Why an act is not done, for the operator."""


def done(state: State, event: OperatorAct, procedure: Procedure) -> _Did:
    """What follows from one of these acts; nothing from any other."""
    act = _ACTS.get(event.act)
    if act is None:
        return state, []
    try:
        return act(replace(state, refused=None), event, procedure)
    except Refusal as refusal:
        return refused(state, event, str(refusal))


def refused(state: State, event: OperatorAct, reason: str) -> _Did:
    line = Line("act_refused", {"act": event.act, "reason": reason})
    return replace(state, refused=f"{event.act}: {reason}"), [line]


def forecast_anew(state: State, procedure: Procedure, by: str) -> _Did:
    """What was foreseen no longer holds."""
    kind = protocol.phase(state.progress, procedure.config.protocol).kind
    runs = bool(state.progress.started_utc_s) and kind is not PhaseKind.ENDED
    wanted = runs and state.estimate is not None
    return ahead.skipped(replace(state, forecast_wanted=wanted), by)


# ------------------------------------------------------------------ needles


def _needle(state: State, event: OperatorAct, procedure: Procedure) -> _Did:
    number, duty = _number(event.params or {}), _duty(event.params or {})
    needle = next((n for n in procedure.config.needles if n.number == number), None)
    if needle is None:
        known = ", ".join(str(n.number) for n in procedure.config.needles) or "none"
        raise Refusal(f"needle {number} is not one of this case ({known})")
    before = duty_now(needle, state.needle_sets)
    if duty == before:
        raise Refusal(f"needle {number} is at {100.0 * duty:g} % already")
    undoable = Done("needle", str(number), state.needle_sets)
    sets = (*state.needle_sets, NeedleSet(event.now_utc_s, number, duty))
    state = replace(state, needle_sets=sets, done=(*state.done, undoable))
    state, outputs = forecast_anew(state, procedure, "needle")
    line = Line("needle_set", {"number": number, "duty": duty, "before": before})
    return state, [line, *outputs]


def _number(params: Mapping[str, Any]) -> int:
    number = params.get("number")
    if isinstance(number, bool) or not isinstance(number, int):
        raise Refusal(f"expected the number of a needle, got {number!r}")
    return number


def _duty(params: Mapping[str, Any]) -> float:
    duty = params.get("duty")
    if isinstance(duty, bool) or not isinstance(duty, int | float) or not math.isfinite(duty):
        raise Refusal(f"expected a duty of 0 to 100 %, got {duty!r}")
    if not 0.0 <= duty <= 1.0:
        raise Refusal(f"expected a duty of 0 to 100 %, got {100.0 * duty:g} %")
    return float(duty)


# ------------------------------------------------------------------ the measured ice


def _accept(state: State, event: OperatorAct, procedure: Procedure) -> _Did:
    """Nothing but that somebody has looked at it."""
    review = _reviewed_scan(state, event)
    if review.verdict != MEASURED:
        raise Refusal(f"{review.volume_id} has been {review.verdict} already; undo that first")
    if review.measured.status is Status.INVALID:
        raise Refusal(f"there is no measurement of {review.volume_id} to accept")
    state = _undoable(state, event, review)
    state = replace(state, review=replace(review, verdict=ACCEPTED))
    return state, [_verdict_line(review.volume_id, ACCEPTED)]


def _reject(state: State, event: OperatorAct, procedure: Procedure) -> _Did:
    review = _reviewed_scan(state, event)
    if review.verdict == REJECTED:
        raise Refusal(f"{review.volume_id} has been rejected already")
    return reviewed(_undoable(state, event, review), REJECTED, None, procedure)


def _correct(state: State, event: OperatorAct, procedure: Procedure) -> _Did:
    review = _reviewed_scan(state, event)
    if event.drawn is None:
        raise Refusal("no ice was drawn")
    try:
        corrected(review.measured, event.drawn, review.registration)
    except ValueError as error:
        raise Refusal(str(error)) from error
    return reviewed(_undoable(state, event, review), CORRECTED, event.drawn, procedure)


def _reviewed_scan(state: State, event: OperatorAct) -> Review:
    wanted = (event.params or {}).get("volume_id")
    if state.review is None:
        raise Refusal("no scan has been measured yet")
    if state.block is not None:
        raise Refusal("images of another patient or frame of reference came; clear that first")
    if wanted != state.review.volume_id:
        latest = state.review.volume_id
        raise Refusal(f"only the scan measured last can be reviewed, {latest}, not {wanted}")
    return state.review


def _undoable(state: State, event: OperatorAct, review: Review) -> State:
    return replace(state, done=(*state.done, Done(event.act, review.volume_id, review)))


def reviewed(state: State, verdict: str, drawn: Structure | None, procedure: Procedure) -> _Did:
    """The scan measured last with that verdict: assessed anew, and learned from anew by what was known when
    it came."""
    assert state.review is not None
    review, before = replace(state.review, verdict=verdict, drawn=drawn), state.review.before
    kept = Verdict(verdict, drawn) if verdict in (REJECTED, CORRECTED) else None
    others = {name: v for name, v in state.verdicts.items() if name != review.volume_id}
    ice = standing(review.measured, review.registration, kept)
    assessment = assess(ice, procedure.plan, None)
    state = replace(
        state,
        review=review,
        verdicts=others if kept is None else {**others, review.volume_id: kept},
        ice=ice,
        reference=before.reference if verdict == REJECTED else review.reference,
        estimate=before.estimate,
        assessment=assessment,
        structures=last_known(before.structures, assessment),
    )
    state, outputs = forecast_anew(state, procedure, "review")
    if not state.forecast_wanted:  # none will take the place of what went by this measurement
        state = replace(state, forecast=None)
    return state, [
        _verdict_line(review.volume_id, verdict),
        Line("ice_segmented", segmentation_fields(ice)),
        Line("assessment", assessment_fields(assessment)),
        *outputs,
    ]


def _verdict_line(volume_id: str, verdict: str) -> Line:
    return Line("ice_reviewed", {"volume_id": volume_id, "verdict": verdict})


# ------------------------------------------------------------------ undo


def still(done: tuple[Done, ...], *acts: str) -> tuple[Done, ...]:
    """What can still be undone when only these acts can."""
    return tuple(d for d in done if d.act in acts)


def last_done(state: State, now_utc_s: float) -> Done | None:
    """The act that an undo would take back: the last one for which it is not too late."""
    return next((d for d in reversed(state.done) if now_utc_s <= d.until_utc_s), None)


def undoes(state: State, event: OperatorAct, act: str) -> bool:
    last = last_done(state, event.now_utc_s)
    return event.act == "undo" and last is not None and last is state.done[-1] and last.act == act


def _undo(state: State, event: OperatorAct, procedure: Procedure) -> _Did:
    """As if the last act had not been."""
    last = last_done(state, event.now_utc_s)
    if last is None:
        raise Refusal("there is nothing to undo")
    state = replace(state, done=state.done[: [d is last for d in state.done].index(True)])
    said: list[Output] = [Line("undone", {"act": last.act, "of": last.of})]
    if isinstance(last.before, Review):
        verdict, drawn = last.before.verdict, last.before.drawn
        if last.act == "accept_ice":
            return replace(state, review=last.before), said
        state, outputs = reviewed(state, verdict, drawn, procedure)
    elif isinstance(last.before, tuple):
        state = replace(state, needle_sets=last.before)
        state, outputs = forecast_anew(state, procedure, "undo")
    return state, said + outputs


_ACTS: Mapping[str, Callable[[State, OperatorAct, Procedure], _Did]] = {
    "needle": _needle,
    "accept_ice": _accept,
    "reject_ice": _reject,
    "correct_ice": _correct,
    "undo": _undo,
}
