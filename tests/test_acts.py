"""What an operator does to the course of things, at the level of ``pipeline.step``. s, mm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from monitor.acts import last_done, still
from monitor.console import line, needle_params
from monitor.duties import NeedleSet, duties_over, duty_now
from monitor.pipeline import UNDO_PHASE_S, step
from monitor.procedure import Procedure
from monitor.state import OperatorAct, Output, State
from tests.test_pipeline_what_if import (
    ENGINE,
    FREEZE_UTC_S,
    freezing,
    of_kind,
    plan,
    waiting,
    worked_off,
)

__all__ = ["freezing", "plan"]  # fixtures

NOW_UTC_S = FREEZE_UTC_S + 60.0


def act(
    state: State,
    plan: Procedure,
    name: str,
    now_utc_s: float = NOW_UTC_S,
    **params: Any,
) -> tuple[State, list[Output]]:
    return step(state, OperatorAct(name, now_utc_s, params=params), plan, ENGINE)


def refused(state: State, plan: Procedure, name: str, **params: Any) -> str:
    """The reason; nothing but that is left of the act."""
    after, outputs = act(state, plan, name, **params)
    (said,) = of_kind(outputs, "act_refused")
    assert len(outputs) == 1
    assert after.refused == f"{name}: {said['reason']}"
    assert vars(replace(after, refused=state.refused)) == vars(state)
    assert line("act_refused", said) == f"Refused: {name}: {said['reason']}"
    return str(said["reason"])


# ------------------------------------------------------------------ needles


def lesion_frozen(state: State) -> float:
    """The share of the forecast's members that have frozen lesion and margin, at its last time."""
    assert state.forecast is not None
    return state.forecast.covered[-1]


LATE_S = 540.0  # the freeze still runs


def coldest_degc(state: State) -> float:
    """Nine minutes into the freeze."""
    assert state.forecast is not None
    at = int(np.searchsorted(state.forecast.times_utc_s, FREEZE_UTC_S + LATE_S))
    return float(state.forecast.temperature_degc[at].min())


@pytest.mark.requirement("REQ-NEEDLE-STOPPED")
def test_a_needle_that_is_stopped_freezes_no_more(plan: Procedure, freezing: State) -> None:
    state, outputs = act(freezing, plan, "needle", number=4, duty=0.0)
    (said,) = of_kind(outputs, "needle_set")
    assert said == {"number": 4, "duty": 0.0, "before": 1.0}
    assert line("needle_set", said) == "Needle 4: 0 % from now on (was 100 %)"
    assert state.forecast_wanted
    state, outputs = worked_off(state, plan)
    assert len(of_kind(outputs, "forecast")) == 1
    assert state.forecast is not None
    assert "needle_failing" not in [r.code for r in state.forecast.reasons]
    # Stopped a minute after it began, its ice has thawed eight minutes later; going on it has not.
    assert coldest_degc(freezing) < -60.0
    assert coldest_degc(state) > 0.0
    assert lesion_frozen(state) < lesion_frozen(freezing)


def test_what_it_froze_before_it_was_stopped_is_not_lost(plan: Procedure, freezing: State) -> None:
    state, _ = act(freezing, plan, "needle", FREEZE_UTC_S + 300.0, number=4, duty=0.0)
    state, _ = worked_off(state, plan)
    before, after = freezing.forecast, state.forecast
    assert before is not None
    assert after is not None
    assert before.times_utc_s == after.times_utc_s
    until = int(np.searchsorted(after.times_utc_s, FREEZE_UTC_S + 300.0))
    np.testing.assert_allclose(
        after.temperature_degc[:until], before.temperature_degc[:until], atol=1e-3
    )
    assert coldest_degc(state) > coldest_degc(freezing) + 40.0


def test_a_needle_that_goes_on_is_asked_about_from_where_it_is(
    plan: Procedure, freezing: State
) -> None:
    state, _ = worked_off(act(freezing, plan, "needle", number=4, duty=0.5)[0], plan)
    state, outputs = act(state, plan, "what_if", NOW_UTC_S + 10.0, duty={"4": 0.5})
    assert not outputs
    state, outputs = worked_off(state, plan)
    answer = of_kind(outputs, "what_if")[-1]
    assert answer["asked"] == answer["going_on"]
    state, outputs = act(state, plan, "needle", NOW_UTC_S + 20.0, number=4, duty=1.0)
    assert of_kind(outputs, "what_if_over") == [{"by": "needle", "answered": True}]


def test_a_forecast_that_runs_is_dropped_for_the_needle(plan: Procedure) -> None:
    state, _ = step(waiting(plan), OperatorAct("phase_next", FREEZE_UTC_S), plan, ENGINE)
    state, _ = worked_off(state, plan, lambda s: s.job is not None)
    state, outputs = act(state, plan, "needle", number=4, duty=0.0)
    assert of_kind(outputs, "forecast_skipped") == [{"from_volume_id": None}]
    assert state.job is None
    assert state.forecast_wanted


def test_before_the_freeze_nothing_is_forecast_and_the_needle_starts_as_set(
    plan: Procedure,
) -> None:
    state, outputs = act(waiting(plan), plan, "needle", 50.0, number=4, duty=0.0)
    assert len(outputs) == 1
    assert not state.forecast_wanted
    state, _ = step(state, OperatorAct("phase_next", FREEZE_UTC_S), plan, ENGINE)
    state, _ = worked_off(state, plan)
    assert coldest_degc(state) > 30.0


def test_a_needle_that_is_off_in_the_case_may_be_started(plan: Procedure) -> None:
    (needle,) = plan.config.needles
    off = replace(plan, config=replace(plan.config, needles=(replace(needle, duty=0.0),)))
    state, _ = step(waiting(off), OperatorAct("phase_next", FREEZE_UTC_S), off, ENGINE)
    state, _ = worked_off(state, off)
    assert coldest_degc(state) > 30.0
    state, _ = worked_off(act(state, off, "needle", number=4, duty=1.0)[0], off)
    assert coldest_degc(state) < -60.0


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"number": 1, "duty": 0.0}, "needle 1 is not one of this case (4)"),
        ({"number": 4, "duty": 1.0}, "needle 4 is at 100 % already"),
        ({"number": 4, "duty": 1.5}, "expected a duty of 0 to 100 %, got 150 %"),
        ({"number": 4, "duty": None}, "expected a duty of 0 to 100 %, got None"),
        ({"number": 4, "duty": True}, "expected a duty of 0 to 100 %, got True"),
        ({"number": "4", "duty": 0.0}, "expected the number of a needle, got '4'"),
        ({}, "expected the number of a needle, got None"),
    ],
)
def test_what_no_needle_can_be_set_to(
    plan: Procedure, freezing: State, params: dict[str, Any], reason: str
) -> None:
    assert refused(freezing, plan, "needle", **params) == reason


def test_a_needle_that_failed_and_was_stopped_is_no_longer_said_to_fail(
    plan: Procedure, freezing: State
) -> None:
    assert freezing.estimate is not None
    failed = replace(freezing.estimate, stopped=(30.0,))
    state = replace(freezing, estimate=failed, forecast_wanted=True)

    def reasons(state: State) -> list[str]:
        assert state.forecast is not None
        return [r.code for r in state.forecast.reasons]

    state, _ = worked_off(state, plan)
    assert "needle_failing" in reasons(state)
    state, _ = worked_off(act(state, plan, "needle", number=4, duty=0.0)[0], plan)
    assert "needle_failing" not in reasons(state)


def test_the_next_act_forgets_a_refusal(plan: Procedure, freezing: State) -> None:
    state, _ = act(freezing, plan, "undo")
    assert state.refused == "undo: there is nothing to undo"
    assert act(state, plan, "needle", number=4, duty=0.0)[0].refused is None
    assert act(state, plan, "acknowledge")[0].refused == state.refused
    assert act(state, plan, "phase_next")[0].refused is None


@pytest.mark.requirement("REQ-ACTS")
def test_a_phase_begun_by_mistake_was_not(plan: Procedure, freezing: State) -> None:
    pressed, outputs = act(freezing, plan, "phase_next")
    assert [x["phase"] for x in of_kind(outputs, "phase")] == ["thaw"]
    pressed, _ = worked_off(pressed, plan, lambda s: s.job is not None)
    state, outputs = act(pressed, plan, "undo", NOW_UTC_S + 5.0)
    assert of_kind(outputs, "undone") == [{"act": "phase_next", "of": "freeze"}]
    (said,) = of_kind(outputs, "phase")
    assert (said["phase"], said["started_utc_s"]) == ("freeze", FREEZE_UTC_S)
    assert state.progress == freezing.progress
    state, _ = worked_off(state, plan)
    assert state.forecast is not None
    assert freezing.forecast is not None
    np.testing.assert_array_equal(
        state.forecast.temperature_degc, freezing.forecast.temperature_degc
    )


def test_the_first_freeze_that_was_not_leaves_no_forecast(plan: Procedure) -> None:
    state, _ = step(waiting(plan), OperatorAct("phase_next", FREEZE_UTC_S), plan, ENGINE)
    state, _ = worked_off(state, plan)
    assert state.forecast is not None
    state, outputs = act(state, plan, "undo", FREEZE_UTC_S + 29.0)
    assert [x["phase"] for x in of_kind(outputs, "phase")] == ["waiting"]
    assert (state.progress.started_utc_s, state.forecast, state.work_pending) == ((), None, False)


def test_a_phase_is_not_taken_back_late_nor_by_way_of_another(
    plan: Procedure, freezing: State
) -> None:
    pressed, _ = act(freezing, plan, "phase_next")
    late = NOW_UTC_S + UNDO_PHASE_S + 1.0
    assert last_done(pressed, late) is None
    state, _ = act(pressed, plan, "undo", late)
    assert state.refused == "undo: there is nothing to undo"
    assert state.progress == pressed.progress
    # What came after it is taken back first; a later phase forgets that there was one.
    state, _ = act(pressed, plan, "needle", NOW_UTC_S + 1.0, number=4, duty=0.0)
    state, outputs = act(state, plan, "undo", NOW_UTC_S + 2.0)
    assert of_kind(outputs, "undone") == [{"act": "needle", "of": "4"}]
    state, _ = act(state, plan, "phase_next", NOW_UTC_S + 3.0)
    assert [d.of for d in state.done] == ["thaw"]
    # A scan has been measured in the phase since: it stays.
    assert still(pressed.done, "needle") == ()


@pytest.mark.requirement("REQ-ACTS")
def test_undone_is_as_if_it_had_not_been(plan: Procedure, freezing: State) -> None:
    state, _ = worked_off(act(freezing, plan, "needle", number=4, duty=0.0)[0], plan)
    state, _ = act(state, plan, "needle", NOW_UTC_S + 5.0, number=4, duty=0.5)
    state, outputs = act(state, plan, "undo", NOW_UTC_S + 10.0)
    assert of_kind(outputs, "undone") == [{"act": "needle", "of": "4"}]
    assert [s.duty for s in state.needle_sets] == [0.0]
    state, _ = act(state, plan, "undo", NOW_UTC_S + 15.0)
    assert state.needle_sets == ()
    state, _ = worked_off(state, plan)
    assert state.forecast is not None
    assert freezing.forecast is not None
    np.testing.assert_array_equal(
        state.forecast.temperature_degc, freezing.forecast.temperature_degc
    )
    assert refused(state, plan, "undo") == "there is nothing to undo"


def test_the_course_of_a_duty(plan: Procedure) -> None:
    needles = plan.config.needles
    sets = (
        NeedleSet(90.0, 4, 0.25),
        NeedleSet(130.0, 4, 0.0),
        NeedleSet(140.0, 9, 0.0),
        NeedleSet(160.0, 4, 0.5),
        NeedleSet(160.0, 4, 1.0),
    )
    assert duties_over(needles, sets, 100.0) == {
        4: ((30.0, 0.25), (30.0, 0.0), (60.0, 0.0), (60.0, 1.0))
    }
    assert duties_over(needles, (), 100.0) == {4: 1.0}
    assert duties_over(needles, sets[:1], 100.0) == {4: 0.25}
    assert [duty_now(needles[0], sets[:n]) for n in range(6)] == [1.0, 0.25, 0.0, 0.0, 0.5, 1.0]


# ------------------------------------------------------------------ typed


@pytest.mark.parametrize(
    ("typed", "params"),
    [
        ("needle 2=0", {"number": 2, "duty": 0.0}),
        ("Needle 12=50%", {"number": 12, "duty": 0.5}),
    ],
)
def test_typed_needles(typed: str, params: dict[str, Any]) -> None:
    assert needle_params(typed) == params


@pytest.mark.parametrize(
    "typed", ["needle", "needle 2", "needle all=0", "needle 2=x", "needle 2=nan"]
)
def test_typed_nonsense_says_what_was_expected(typed: str) -> None:
    with pytest.raises(ValueError, match="needle NUMBER=PERCENT"):
        needle_params(typed)
