"""The protocol's clockwork."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.config import PhaseConfig, ProtocolConfig
from monitor.decision import protocol
from monitor.decision.protocol import Progress
from monitor.model import Phase, PhaseKind

RULES = ProtocolConfig(
    (
        PhaseConfig(PhaseKind.FREEZE, 600.0),
        PhaseConfig(PhaseKind.THAW, 300.0),
        PhaseConfig(PhaseKind.FREEZE, 360.0),
    ),
    None,
)


@pytest.mark.requirement("REQ-PROTOCOL")
def test_nothing_begins_by_itself() -> None:
    assert protocol.advanced(Progress(), RULES, 1e9) == Progress()
    assert protocol.phase(Progress(), RULES) == Phase(PhaseKind.WAITING, 0, None, None)
    assert protocol.intervals(Progress(), RULES, 900.0) == ()


@pytest.mark.requirement("REQ-PROTOCOL")
def test_phases_follow_on_time() -> None:
    begun = protocol.next_phase(Progress(), RULES, 1000.0)
    assert protocol.phase(protocol.advanced(begun, RULES, 1599.0), RULES).kind is PhaseKind.FREEZE
    thaw = protocol.advanced(begun, RULES, 1600.0)
    assert thaw.started_utc_s == (1000.0, 1600.0)
    assert protocol.phase(thaw, RULES).kind is PhaseKind.THAW
    second = protocol.phase(protocol.advanced(begun, RULES, 1950.0), RULES)
    assert (second.kind, second.cycle, second.started_utc_s) == (PhaseKind.FREEZE, 2, 1900.0)
    over = protocol.advanced(begun, RULES, 5000.0)
    assert over.ended_utc_s == 2260.0
    assert protocol.next_phase(over, RULES, 6000.0) == over
    assert protocol.advanced(over, RULES, 9000.0) == over
    assert protocol.phase(over, RULES) == Phase(PhaseKind.ENDED, 2, 2260.0, None)
    assert protocol.phase(begun, RULES) == Phase(PhaseKind.FREEZE, 1, 1000.0, 1600.0)
    assert protocol.phase(thaw, RULES) == Phase(PhaseKind.THAW, 1, 1600.0, 1900.0)
    assert protocol.intervals(over, RULES, 900.0) == (
        (PhaseKind.FREEZE, 0.0, 600.0),
        (PhaseKind.THAW, 600.0, 900.0),
        (PhaseKind.FREEZE, 900.0, 1260.0),
    )


def test_every_step_to_where_it_stands() -> None:
    begun, over = Progress((1000.0,)), Progress((1000.0, 1600.0, 1900.0), 2260.0)
    assert protocol.steps(begun, begun) == ()
    assert protocol.steps(Progress(), begun) == (begun,)
    second = Progress((1000.0, 1600.0, 1900.0))
    assert protocol.steps(begun, second) == (Progress((1000.0, 1600.0)), second)
    assert protocol.steps(begun, over) == (Progress((1000.0, 1600.0)), second, over)
    assert protocol.steps(second, over) == (over,)


def test_the_operator_ends_the_last_phase_too() -> None:
    progress = Progress()
    for at_s in (1000.0, 1100.0, 1200.0):
        progress = protocol.next_phase(progress, RULES, at_s)
        assert progress == Progress((*progress.started_utc_s[:-1], at_s))
    assert protocol.next_phase(progress, RULES, 1300.0) == Progress(
        (1000.0, 1100.0, 1200.0), 1300.0
    )


def test_what_ran_at_a_time() -> None:
    over = protocol.advanced(Progress((1000.0,)), RULES, 5000.0)
    ran = {999.0: PhaseKind.WAITING, 1000.0: PhaseKind.FREEZE, 1599.0: PhaseKind.FREEZE,
           1600.0: PhaseKind.THAW, 1899.0: PhaseKind.THAW, 1900.0: PhaseKind.FREEZE}  # fmt: skip
    assert {at_s: protocol.kind_at(over, RULES, at_s) for at_s in ran} == ran
    assert protocol.kind_at(Progress(), RULES, 0.0) is PhaseKind.WAITING


def test_operator_ends_a_freeze_early_and_the_needles_know() -> None:
    progress = protocol.next_phase(protocol.next_phase(Progress(), RULES, 1000.0), RULES, 1400.0)
    assert protocol.intervals(progress, RULES, 900.0) == (
        (PhaseKind.FREEZE, 0.0, 400.0),
        (PhaseKind.THAW, 400.0, 400.0 + 300.0 + 900.0),
    )


@given(st.lists(st.floats(0.0, 400.0), min_size=1, max_size=30))
def test_intervals_are_ordered_and_touch(steps: list[float]) -> None:
    now, progress = 0.0, protocol.next_phase(Progress(), RULES, 0.0)
    for step in steps:
        now += step
        progress = protocol.advanced(progress, RULES, now)
    found = protocol.intervals(progress, RULES, 900.0)
    assert found[0][1] == 0.0
    assert all(a[2] == b[1] for a, b in itertools.pairwise(found))
    assert all(math.isfinite(end) and end > start for _, start, end in found)
