"""What an operator does to the course of things: a needle set otherwise; and the last such act undone.
UTC seconds on the procedure clock.

Invariant: an act is done, or refused with a sentence that says why, and then changes nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from monitor import ahead
from monitor.decision import protocol
from monitor.duties import NeedleSet, duty_now
from monitor.model import PhaseKind
from monitor.procedure import Procedure
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


# ------------------------------------------------------------------ undo


def _undo(state: State, event: OperatorAct, procedure: Procedure) -> _Did:
    """As if the last act had not been: a needle goes on as it was set before."""
    if not state.done:
        raise Refusal("there is nothing to undo")
    last = state.done[-1]
    state = replace(state, done=state.done[:-1], needle_sets=last.before)
    state, outputs = forecast_anew(state, procedure, "undo")
    return state, [Line("undone", {"act": last.act, "of": last.of}), *outputs]


_ACTS: Mapping[str, Callable[[State, OperatorAct, Procedure], _Did]] = {
    "needle": _needle,
    "undo": _undo,
}
