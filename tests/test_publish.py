"""What a screen is given of a forecast: only what still may come."""

from __future__ import annotations

import pytest

from monitor.forecast_values import Course
from monitor.model import PhaseKind
from monitor.pipeline import step
from monitor.procedure import Procedure
from monitor.publish import Shared, snapshot
from monitor.snapshot import ArrayRef, Snapshot
from monitor.state import OperatorAct, State
from tests.test_pipeline_what_if import ENGINE, FREEZE_UTC_S, freezing, plan

__all__ = ["freezing", "plan"]  # fixtures

SHARED = Shared(
    forecast_temperature=ArrayRef("t.npy"), forecast_band=ArrayRef("b.npy"), course=Course(())
)


def shown(state: State, plan: Procedure) -> Snapshot:
    return snapshot(1, FREEZE_UTC_S + 5.0, FREEZE_UTC_S + 5.0, state, SHARED, plan, ())


def foreseen(s: Snapshot) -> list[object]:
    return [s.forecast_times_utc_s, s.forecast_grid, s.forecast_temperature, s.forecast_edge_degc,
            s.forecast_band, s.course]  # fmt: skip


@pytest.mark.requirement("REQ-FORECAST-APART")
def test_a_forecast_of_a_phase_that_is_over_is_not_shown(plan: Procedure, freezing: State) -> None:
    assert all(v is not None and v != () for v in foreseen(shown(freezing, plan)))
    state, seen = freezing, []
    for n in range(1, 9):
        act = OperatorAct("phase_next", FREEZE_UTC_S + 60.0 * n)
        state, _ = step(state, act, plan, ENGINE)
        assert state.forecast is freezing.forecast  # none of this phase has been made yet
        s = shown(state, plan)
        seen.append(s.phase.kind)
        if s.phase.kind is not PhaseKind.FREEZE:
            assert not any(v is not None and v != () for v in foreseen(s)), s.phase.kind
        if s.phase.kind is PhaseKind.ENDED:
            break
    assert {PhaseKind.THAW, PhaseKind.ENDED} <= set(seen)
