"""A what-if in a running procedure: after what is measured, beside it, and never instead of it. s, mm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_kernels.select import open_engine
from monitor.ahead import next_scan_known
from monitor.console import line
from monitor.decision.safety import Block
from monitor.journal_fields import what_if_fields
from monitor.model import CtSlice
from monitor.opening import open_case
from monitor.pipeline import after_fault, step
from monitor.prediction.ensemble import MOST_LATENT
from monitor.procedure import Procedure
from monitor.state import ForecastDue, Line, OperatorAct, Output, State, initial_state
from tests.intake.intake_helpers import ct_slice
from tests.test_pipeline import CASE, volume

NEEDLE = """
[[needle]]
number = 4
type = "icesphere_1_5"
tip_lps_mm = [0.0, 8.0, 0.0]
entry_lps_mm = [0.0, -70.0, 0.0]
"""
ENGINE = open_engine("cpu", MOST_LATENT)
STOP = {"duty": {"4": 0.0}}
FREEZE_UTC_S = 100.0


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Procedure:
    case = tmp_path_factory.mktemp("case") / "case.toml"
    case.write_text(CASE + NEEDLE, encoding="utf-8")
    return open_case(case)[1]


def waiting(plan: Procedure) -> State:
    """With a baseline, before the first freeze."""
    scan = volume("v001", 0.0)
    state = replace(initial_state(plan), baseline_volume=scan, volume=scan)
    return step(state, OperatorAct("reload", 10.0, plan), plan, ENGINE)[0]


@pytest.fixture(scope="module")
def freezing(plan: Procedure) -> State:
    """The first freeze runs and has been forecast."""
    state, _ = step(waiting(plan), OperatorAct("phase_next", FREEZE_UTC_S), plan, ENGINE)
    return worked_off(state, plan)[0]


def worked_off(
    state: State, plan: Procedure, until: Callable[[State], bool] = lambda _: False
) -> tuple[State, list[Output]]:
    said: list[Output] = []
    while state.work_pending and not until(state):
        state, more = step(state, ForecastDue(0.0), plan, ENGINE)
        said += more
    return state, said


def ask(
    state: State, plan: Procedure, params: dict[str, Any], now_utc_s: float = FREEZE_UTC_S + 60.0
) -> tuple[State, list[Output]]:
    return step(state, OperatorAct("what_if", now_utc_s, params=params), plan, ENGINE)


def of_kind(outputs: list[Output], kind: str) -> list[dict[str, Any]]:
    return [o.fields for o in outputs if isinstance(o, Line) and o.kind == kind]


def refused(state: State, plan: Procedure, params: dict[str, Any]) -> str:
    after, outputs = ask(state, plan, params)
    (said,) = of_kind(outputs, "what_if_refused")
    assert after.refused == f"what_if: {said['reason']}"
    kept = {name: value for name, value in vars(after).items() if name != "refused"}
    assert all(value is getattr(state, name) for name, value in kept.items())
    assert line("what_if_refused", said) == f"Refused: what if: {said['reason']}"
    return str(said["reason"])


# ------------------------------------------------------------------ answered


@pytest.mark.requirement("REQ-WHAT-IF")
def test_first_by_a_few_then_by_all_and_nothing_else_changes(
    plan: Procedure, freezing: State
) -> None:
    before = freezing
    state, outputs = ask(before, plan, STOP)
    assert not outputs
    assert not state.forecast_pending  # the next scan worth taking stays known
    assert next_scan_known(state, plan, 0.0) == next_scan_known(before, plan, 0.0) is not None
    state, outputs = worked_off(state, plan)
    first, every = of_kind(outputs, "what_if")
    assert len(outputs) == 2
    assert (first["refined"], every["refined"]) == (False, True)
    assert first["members"] < every["members"] == 24
    assert every["asked_utc_s"] == FREEZE_UTC_S + 60.0
    assert every["asked"]["lesion_covered"][1] < every["going_on"]["lesion_covered"][0]
    assert [r["code"] for r in every["reasons"]] == ["no_ice_measured"]
    assert state.what_if is not None
    assert what_if_fields(state.what_if) == every
    for f in fields(State):
        if f.name not in ("asked", "what_if"):
            assert getattr(state, f.name) is getattr(before, f.name), f.name
    said = line("what_if", every)
    assert said is not None
    assert said.startswith("What if needle 4 at 0 % (all 24 members; only a calculation; times")


def test_the_same_events_give_the_same_answer(plan: Procedure, freezing: State) -> None:
    def first() -> Any:
        state, _ = ask(freezing, plan, {"remaining_s": 60.0})
        return worked_off(state, plan, lambda s: s.what_if is not None)[0].what_if

    assert first() == first()


def test_the_latest_question_wins(plan: Procedure, freezing: State) -> None:
    state, _ = ask(freezing, plan, STOP)
    state, _ = step(state, ForecastDue(0.0), plan, ENGINE)
    state, outputs = ask(state, plan, {"duty": {"all": 0.5}})
    assert of_kind(outputs, "what_if_over") == [{"by": "question", "answered": False}]
    assert state.what_if_dropped == "question"
    state, outputs = worked_off(state, plan, lambda s: s.what_if is not None)
    assert [f["duty"] for f in of_kind(outputs, "what_if")] == [{"4": 0.5}]
    assert state.what_if_dropped is None
    state, _ = ask(state, plan, STOP)
    assert state.what_if_dropped is None  # that one was answered


# ------------------------------------------------------------------ never in the way


def test_one_that_fails_is_dropped_and_the_rest_stands(plan: Procedure, freezing: State) -> None:
    state, _ = ask(freezing, plan, STOP)
    left = after_fault(state, ForecastDue(0.0))
    assert (left.asked, left.work_pending) == (None, False)
    assert left.forecast is freezing.forecast
    assert after_fault(state, OperatorAct("clear_block", 0.0)) is state


def test_a_forecast_goes_first(plan: Procedure, freezing: State) -> None:
    state = replace(freezing, forecast_wanted=True, forecast=None)
    state, _ = ask(state, plan, STOP)
    state, outputs = worked_off(state, plan, lambda s: s.asked is not None and bool(s.asked.job))
    assert len(of_kind(outputs, "forecast")) == 1
    assert not of_kind(outputs, "what_if")
    assert state.forecast is not None
    assert not state.forecast_wanted


@pytest.mark.requirement("REQ-WHAT-IF")
def test_another_phase_ends_it(plan: Procedure, freezing: State) -> None:
    state, _ = ask(freezing, plan, STOP)
    state, _ = worked_off(state, plan, lambda s: s.what_if is not None)
    state, outputs = step(state, OperatorAct("phase_next", 300.0), plan, ENGINE)
    assert of_kind(outputs, "what_if_over") == [{"by": "phase", "answered": True}]
    assert (state.what_if, state.asked) == (None, None)
    assert line("what_if_over", {"by": "phase", "answered": True}) is not None
    assert refused(state, plan, STOP) == "no freeze is running (thaw)"


def slices(acquired_utc_s: float) -> list[CtSlice]:
    scan = volume("", acquired_utc_s)
    frames = [
        ct_slice(f"u{k}", float(z), series="2", patient="A", frame="2", expected=len(scan.hu),
                 acquired_utc_s=acquired_utc_s, mono_s=acquired_utc_s + 5.0, thickness_mm=3.0)
        for k, z in enumerate(scan.geometry.slice_positions_lps_mm()[:, 2])
    ]  # fmt: skip
    origin = np.array(scan.geometry.origin_lps_mm[:2])
    return [
        replace(s, hu=hu, pixel_spacing_mm=(2.0, 2.0),
                position_lps_mm=np.array([*origin, s.position_lps_mm[2]]))
        for s, hu in zip(frames, scan.hu, strict=True)
    ]  # fmt: skip


@pytest.mark.requirement("REQ-WHAT-IF")
def test_a_new_scan_is_measured_at_once_and_ends_it(plan: Procedure, freezing: State) -> None:
    state, _ = ask(freezing, plan, STOP)
    state, _ = step(state, ForecastDue(0.0), plan, ENGINE)
    outputs: list[Output] = []
    for event in slices(FREEZE_UTC_S + 90.0):
        state, more = step(state, event, plan, ENGINE)
        outputs += more
    assert len(of_kind(outputs, "assessment")) == 1
    assert of_kind(outputs, "what_if_over") == [{"by": "scan", "answered": False}]
    assert state.asked is None
    assert state.forecast_wanted


def test_another_baseline_ends_it(plan: Procedure, freezing: State) -> None:
    state, _ = ask(freezing, plan, STOP)
    state, outputs = step(state, OperatorAct("reload", 200.0, plan), plan, ENGINE)
    assert of_kind(outputs, "what_if_over") == [{"by": "baseline", "answered": False}]
    assert state.asked is None


# ------------------------------------------------------------------ refused


def test_what_cannot_be_asked_says_why_and_leaves_the_question_before(
    plan: Procedure, freezing: State
) -> None:
    state, _ = ask(freezing, plan, STOP)
    assert refused(state, plan, {"duty": {"1": 0.0}}) == ("needle 1: not one of this case (4)")
    assert "time left" in refused(state, plan, {"remaining_s": float("inf")})


def test_nothing_to_ask_about(plan: Procedure, freezing: State, tmp_path: Path) -> None:
    assert refused(initial_state(plan), plan, STOP) == "there is no baseline scan yet"
    assert refused(waiting(plan), plan, STOP) == "no freeze is running (waiting)"
    block = Block("patient_mismatch", "A", "B", 0.0)
    assert "another patient" in refused(replace(freezing, block=block), plan, STOP)
    case = tmp_path / "case.toml"
    case.write_text(CASE, encoding="utf-8")
    bare = open_case(case)[1]
    assert refused(waiting(bare), bare, STOP) == "the case names no needle"
