"""The life of an alarm: every state by every event, and that nothing grave is missed on any way."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.decision.alarm_states import (
    TRANSITIONS,
    AlarmEvent,
    Alarms,
    AlarmState,
    Cause,
    acknowledged,
    checked,
)
from monitor.model import Priority

INACTIVE, UNACKNOWLEDGED, ACKNOWLEDGED, LATCHED = AlarmState
STANDS, WORSENS, ENDS, ACKNOWLEDGE = AlarmEvent
HIGH, MEDIUM, LOW = Priority.HIGH, Priority.MEDIUM, Priority.LOW
INF = float("inf")

# What an alarm that latches becomes, and what the journal says; written down a second time, by hand.
EXPECTED = {
    (INACTIVE, STANDS): (UNACKNOWLEDGED, "alarm_raised"),
    (INACTIVE, WORSENS): (UNACKNOWLEDGED, "alarm_raised"),
    (INACTIVE, ENDS): (INACTIVE, None),
    (INACTIVE, ACKNOWLEDGE): (INACTIVE, None),
    (UNACKNOWLEDGED, STANDS): (UNACKNOWLEDGED, None),
    (UNACKNOWLEDGED, WORSENS): (UNACKNOWLEDGED, "alarm_raised"),
    (UNACKNOWLEDGED, ENDS): (LATCHED, "alarm_cleared"),
    (UNACKNOWLEDGED, ACKNOWLEDGE): (ACKNOWLEDGED, "alarm_acknowledged"),
    (ACKNOWLEDGED, STANDS): (ACKNOWLEDGED, None),
    (ACKNOWLEDGED, WORSENS): (UNACKNOWLEDGED, "alarm_raised"),
    (ACKNOWLEDGED, ENDS): (INACTIVE, "alarm_cleared"),
    (ACKNOWLEDGED, ACKNOWLEDGE): (ACKNOWLEDGED, None),
    (LATCHED, STANDS): (UNACKNOWLEDGED, "alarm_raised"),
    (LATCHED, WORSENS): (UNACKNOWLEDGED, "alarm_raised"),
    (LATCHED, ENDS): (LATCHED, None),
    (LATCHED, ACKNOWLEDGE): (INACTIVE, "alarm_acknowledged"),
}
NEAR = Cause("structure_near", HIGH, {"name": "bowel"}, "bowel", 1.0, latching=True)
STALE = Cause("image_stale", MEDIUM)


def worse(cause: Cause) -> Cause:
    return replace(cause, level=cause.level + 1.0)


def brought_to(state: AlarmState, cause: Cause) -> Alarms:
    alarms: Alarms = ()
    if state is not INACTIVE:
        alarms, _ = checked((), [cause], 100.0)
    if state is ACKNOWLEDGED:
        alarms, _ = acknowledged(alarms, cause.key)
    if state is LATCHED:
        alarms, _ = checked(alarms, [], 101.0)
    assert [s.state for s in alarms] == ([] if state is INACTIVE else [state])
    return alarms


def test_the_table_is_total_and_as_written_down() -> None:
    assert set(TRANSITIONS) == set(itertools.product(AlarmState, AlarmEvent))
    assert TRANSITIONS == EXPECTED


@pytest.mark.requirement("REQ-ALARM-LIFE")
@pytest.mark.parametrize("latching", [True, False])
@pytest.mark.parametrize("state", AlarmState)
@pytest.mark.parametrize("event", AlarmEvent)
def test_every_state_by_every_event(state: AlarmState, event: AlarmEvent, latching: bool) -> None:
    if state is LATCHED and not latching:
        return  # that there is no such state is what the end of an unacknowledged one shows
    cause = replace(NEAR, latching=latching)
    before = brought_to(state, cause)
    if event is ACKNOWLEDGE:
        after, changes = acknowledged(before, cause.key)
    else:
        told = {STANDS: [cause], WORSENS: [worse(cause)], ENDS: []}[event]
        after, changes = checked(before, told, 200.0)
    expected, said = EXPECTED[state, event]
    if expected is LATCHED and not latching:
        expected = INACTIVE
    assert [s.state for s in after] == ([] if expected is INACTIVE else [expected])
    assert [kind for kind, _ in changes] == ([] if said is None else [said])
    for s in after:
        assert s.since_utc_s == (200.0 if state is INACTIVE else 100.0)
        assert s.alarm.latched == (expected is LATCHED)
        assert s.alarm.acknowledged == (expected is ACKNOWLEDGED)
    for _, alarm in changes:
        assert (alarm.code, alarm.about, alarm.params) == ("structure_near", "bowel", cause.params)
        assert alarm.latched == (expected is LATCHED)


def test_a_higher_priority_sounds_again_and_a_lower_one_does_not() -> None:
    alarms = brought_to(ACKNOWLEDGED, STALE)
    lower, changes = checked(alarms, [replace(STALE, priority=LOW)], 200.0)
    assert (lower[0].state, lower[0].alarm.priority, changes) == (ACKNOWLEDGED, LOW, ())
    (again,), _ = checked(lower, [STALE], 201.0)
    assert again.state is UNACKNOWLEDGED


@pytest.mark.parametrize(
    ("levels", "sounds"),
    [
        ([1.0, 1.999], False),
        ([1.0, 2.0], True),
        ([1.0, 0.0, 0.999], False),
        ([1.0, 0.0, 1.0], True),  # nearer than it has been since: a second freeze
        ([1.0, INF], True),
        ([INF, INF], False),
        ([INF, 0.5, 1.4], False),
        ([INF, 0.5, 1.5], True),
    ],
)
def test_worse_is_a_step_from_the_mildest_since_it_was_acknowledged(
    levels: list[float], sounds: bool
) -> None:
    first, *then = (replace(NEAR, level=level) for level in levels)
    alarms = brought_to(ACKNOWLEDGED, first)
    for cause in then[:-1]:
        alarms, changes = checked(alarms, [cause], 200.0)
        assert changes == ()
    alarms, _ = checked(alarms, [then[-1]], 201.0)
    assert (alarms[0].state is UNACKNOWLEDGED) == sounds


def test_an_acknowledgement_is_for_how_bad_it_was_then() -> None:
    alarms, _ = checked((), [replace(NEAR, level=1.0)], 100.0)
    alarms, _ = checked(alarms, [replace(NEAR, level=1.5)], 101.0)
    alarms, _ = acknowledged(alarms, None)
    for level, state in ((2.25, ACKNOWLEDGED), (2.5, UNACKNOWLEDGED), (3.25, UNACKNOWLEDGED)):
        alarms, _ = checked(alarms, [replace(NEAR, level=level)], 102.0)
        assert alarms[0].state is state
    alarms, changes = checked(alarms, [replace(NEAR, level=3.5)], 103.0)
    assert [kind for kind, _ in changes] == ["alarm_raised"]


def test_a_grave_alarm_that_became_mild_unseen_still_latches() -> None:
    mild = replace(NEAR, priority=LOW, latching=False)
    alarms, _ = checked(brought_to(UNACKNOWLEDGED, NEAR), [mild], 101.0)
    latched, _ = checked(alarms, [], 102.0)
    assert [s.state for s in latched] == [LATCHED]
    back, _ = checked(latched, [mild], 103.0)
    assert [s.state for s in checked(back, [], 104.0)[0]] == [LATCHED]
    seen, _ = acknowledged(alarms, None)
    mild_again, _ = checked(seen, [replace(mild, level=9.0)], 103.0)
    assert checked(mild_again, [], 104.0)[0] == ()


def test_an_alarm_that_does_not_latch_never_does_however_long_it_stands() -> None:
    alarms = brought_to(UNACKNOWLEDGED, STALE)
    for _ in range(3):
        alarms, _ = checked(alarms, [STALE], 101.0)
    assert checked(alarms, [], 102.0)[0] == ()
    assert (STALE.latching, STALE.level, STALE.about) == (False, 0.0, "")


@pytest.mark.requirement("REQ-ALARM-LIFE")
def test_one_is_acknowledged_and_no_other() -> None:
    skin = replace(NEAR, about="skin")
    alarms, _ = checked((), [NEAR, skin, STALE], 100.0)
    alarms, changes = acknowledged(alarms, skin.key)
    assert [(s.cause.about, s.state is ACKNOWLEDGED) for s in alarms] == [
        ("bowel", False), ("skin", True), ("", False),
    ]  # fmt: skip
    assert [(kind, a.about) for kind, a in changes] == [("alarm_acknowledged", "skin")]
    alarms, changes = acknowledged(alarms, None)
    assert {s.state for s in alarms} == {ACKNOWLEDGED}
    assert len(changes) == 2
    assert acknowledged(alarms, ("no", "such")) == (alarms, ())


def test_worst_first_and_of_two_the_worse() -> None:
    mild, bad = replace(NEAR, level=0.1), replace(NEAR, level=0.2)
    for order in itertools.permutations([STALE, Cause("a", LOW), mild, bad]):
        alarms, changes = checked((), order, 100.0)
        assert [s.alarm.priority for s in alarms] == [HIGH, MEDIUM, LOW]
        assert alarms[0].cause == bad
        assert len(changes) == 3
    (one,), _ = checked((), [replace(NEAR, priority=LOW, level=9.0), mild], 100.0)
    assert one.cause == mild


CAUSES = st.builds(
    Cause,
    st.sampled_from(["a", "b"]),
    st.sampled_from(Priority),
    st.just({}),
    st.sampled_from(["", "x"]),
    st.sampled_from([0.0, 0.6, 1.2, INF]),
    st.booleans(),
)
CHECKS = st.lists(CAUSES, max_size=3, unique_by=lambda c: c.key)
STEPS = st.lists(CHECKS | st.sampled_from([("a", ""), ("b", "x"), None]))


@pytest.mark.requirement("REQ-ALARM-LIFE")
@given(STEPS)
def test_on_no_way_is_a_latching_alarm_lost_unseen(steps: list) -> None:
    """Also: the journal's lines, played back, tell which alarms stand and which are acknowledged."""
    alarms: Alarms = ()
    told: dict[tuple[str, str], str] = {}
    unseen: set[tuple[str, str]] = set()
    for step in steps:
        if isinstance(step, list):
            alarms, changes = checked(alarms, step, 1.0)
            causes = {c.key for c in step}
            unseen |= {c.key for c in step if c.latching} - {
                s.cause.key for s in alarms if s.state is ACKNOWLEDGED
            }
        else:
            alarms, changes = acknowledged(alarms, step)
            causes = {s.cause.key for s in alarms if s.state in (UNACKNOWLEDGED, ACKNOWLEDGED)}
            unseen -= {step} if step else unseen
        for kind, alarm in changes:
            told[alarm.code, alarm.about] = kind + ("_latched" if alarm.latched else "")
        standing = {s.cause.key: s.state for s in alarms}
        assert causes <= standing.keys()
        assert {k for k in unseen if standing.get(k) not in (UNACKNOWLEDGED, LATCHED)} == set()
        expected = {
            UNACKNOWLEDGED: "alarm_raised",
            ACKNOWLEDGED: "alarm_acknowledged",
            LATCHED: "alarm_cleared_latched",
        }
        assert {k: told[k] for k in standing} == {k: expected[s] for k, s in standing.items()}
