"""What the alarm table cannot show: levels, last known distances, and rules that fail."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.decision.safety import ALARMS, Block, Facts, causes, last_known, latches
from monitor.forecast_values import StructureForecast
from monitor.model import Phase, PhaseKind, Priority, Reason, Status, StructureDistance
from tests.decision.facts import FINE, GOOD, INF, NAN, NOW, PHASES, forecast

NUMBERS = st.floats() | st.none()


def level(code: str, now: float = NOW, **changes: Any) -> float:
    (found,) = (c for c in causes(replace(FINE, **changes), now) if c.code == code)
    return found.level


def near(name: str, at_least: float | None, distance: float | None = 6.0) -> StructureDistance:
    return StructureDistance(name, distance, 5.0, at_least)


@pytest.mark.requirement("REQ-STRUCTURES")
def test_two_structures_are_two_alarms() -> None:
    facts = replace(FINE, structures=(near("bowel", 0.5), near("skin", 0.5)))
    assert [c.key for c in causes(facts, NOW)] == [
        ("structure_near", "bowel"), ("structure_near", "skin"),
    ]  # fmt: skip


def test_another_reason_another_error_and_another_block_are_other_alarms() -> None:
    def keys(**changes: Any) -> list[tuple[str, str]]:
        return [c.key for c in causes(replace(FINE, **changes), NOW)]

    assert keys(fault="x") != keys(fault="y")
    block = Block("patient_mismatch", "A", "B", 1.0)
    assert keys(block=block) == keys(block=replace(block, received="C"))
    assert keys(block=block) != keys(block=replace(block, since_utc_s=2.0))
    poor = replace(GOOD, status=Status.DEGRADED)
    said = [
        keys(assessment=replace(poor, reasons=(Reason(code, ""),)))
        for code in ("edge_hidden", "edge_uncertain", "scan_elsewhere", "baseline_mismatch")
    ]
    assert len({tuple(k) for k in said}) == 4
    two = tuple(StructureForecast(name, (1.0, 2.0), (0.0, 0.0)) for name in "ab")
    assert keys(forecast=forecast(structures=two)) == [
        ("structure_ahead", "a"), ("structure_ahead", "b"),
    ]  # fmt: skip


@pytest.mark.requirement("REQ-MOTION")
def test_the_match_and_the_rest_are_told_apart() -> None:
    both = (Reason("registration_doubtful", ""), Reason("edge_hidden", ""))
    found = causes(
        replace(FINE, assessment=replace(GOOD, status=Status.DEGRADED, reasons=both)), NOW
    )
    assert [c.key for c in found] == [
        ("registration_poor", "registration_doubtful"), ("segmentation_poor", "edge_hidden"),
    ]  # fmt: skip


def test_the_last_reason_is_what_it_is_about_and_none_is_unknown() -> None:
    poor = replace(GOOD, status=Status.DEGRADED)
    for codes, about in ((("edge_hidden", "edge_uncertain"), "edge_uncertain"), ((), "unknown")):
        a = replace(poor, reasons=tuple(Reason(code, "") for code in codes))
        (found,) = causes(replace(FINE, assessment=a), NOW)
        assert (found.about, found.params) == (about, {"reason": about})


@pytest.mark.requirement("REQ-CLOCKS")
def test_a_clock_that_shows_no_number_is_named() -> None:
    (found,) = (c for c in causes(FINE, NAN) if c.code == "not_a_number")
    assert found.params == {"where": "now"}


def test_how_bad_it_is() -> None:
    assert level("structure_near", structures=(near("bowel", 4.5),)) == 0.5
    assert level("structure_near", structures=(near("bowel", None),)) == INF
    assert level("structure_near", structures=(near("bowel", NAN),)) == INF
    old = replace(GOOD, as_of_utc_s=NOW - 360.0)
    assert level("image_stale", assessment=old) == 3.0
    assert level("clock_jump", clock_jump_s=-15.0) == 3.0
    assert level("intake_dead", intake_alive=False) == 0.0
    assert level("clock_jump", clock_jump_s=NAN) == INF
    assert (
        level("image_stale", assessment=None, phase=replace(FINE.phase, started_utc_s=NAN)) == INF
    )


@pytest.mark.requirement("REQ-STRUCTURES")
@pytest.mark.parametrize(
    ("now", "minutes", "bad"),
    [
        (1101.0, "4", 0.0),
        (1159.0, "4", 0.0),
        (1399.9995, "0", 0.0),
        (1400.0, "0", 1.0),
        (1500.0, "0", 1.0),
    ],
)
def test_ice_that_was_to_come_and_should_be_there(now: float, minutes: str, bad: float) -> None:
    (found,) = (c for c in causes(FINE, now) if c.code == "structure_ahead")
    assert (found.params["minutes"], found.level) == (minutes, bad)


@pytest.mark.requirement("REQ-COVERAGE")
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (4.99, "4.9"), (4.89995, "4.8"), (-0.04, "-0.1"), (0.3, "0.3"), (5.0, "5.0"),
        (None, "?"), (INF, "?"), (NAN, "?"),
    ],
)  # fmt: skip
def test_a_distance_is_never_rounded_to_farther(value: float | None, shown: str) -> None:
    (found, *_) = (
        c
        for c in causes(replace(FINE, structures=(near("b", -1.0, value),)), NOW)
        if c.about == "b"
    )
    assert found.params["distance_mm"] == shown


@pytest.mark.requirement("REQ-PROTOCOL")
@pytest.mark.parametrize(("left", "shown"), [(29.6, "30"), (0.0, "0"), (-50.0, "0"), (NAN, "?")])
def test_seconds_to_the_next_phase(left: float, shown: str) -> None:
    phase = Phase(PhaseKind.THAW, 1, 900.0, NOW + left)
    (found,) = (c for c in causes(replace(FINE, phase=phase), NOW) if c.code == "phase_ending")
    assert found.params["seconds"] == shown


@pytest.mark.parametrize("contact", [NAN, INF])
def test_minutes_that_nobody_knows(contact: float) -> None:
    bowel = StructureForecast("bowel", (contact, contact), (0.0, 0.0))
    found = [
        c for c in causes(replace(FINE, forecast=forecast(structures=(bowel,))), NOW) if c.about
    ]
    assert [c.params["minutes"] for c in found] == (["?"] if math.isnan(contact) else [])


def test_a_forecast_speaks_for_the_phase_it_is_of() -> None:
    told = forecast(reasons=(Reason("needle_failing", ""),))
    assert len(causes(replace(FINE, forecast=told), NOW)) == 1
    thawing = Phase(PhaseKind.THAW, 1, 900.0, 5000.0)
    of_the_thaw = causes(replace(FINE, forecast=replace(told, kind=PhaseKind.THAW)), NOW)
    assert [c.code for c in of_the_thaw] == ["forecast_missing"]
    assert (
        causes(replace(FINE, forecast=replace(told, kind=PhaseKind.THAW), phase=thawing), NOW) == ()
    )
    of_none = causes(replace(FINE, forecast=replace(told, kind=None)), NOW)
    assert [c.code for c in of_none] == ["forecast_missing"]


def test_a_structure_that_is_never_reached_hides_no_other() -> None:
    never, soon = (
        StructureForecast("a", None, (0.0, 0.0)),
        StructureForecast("b", (9.0, 9.0), (0.0, 0.0)),
    )
    found = causes(replace(FINE, forecast=forecast(structures=(never, soon))), NOW)
    assert [c.about for c in found] == ["b"]


@pytest.mark.requirement("REQ-STRUCTURES")
def test_a_scan_that_measured_nothing_leaves_the_last_known_distances() -> None:
    bowel, gone = (
        StructureDistance("bowel", 3.0, 5.0, 2.0),
        StructureDistance("skin", 1.0, 5.0, 0.5),
    )
    nothing = replace(
        GOOD,
        status=Status.INVALID,
        structures=(StructureDistance("bowel", None, 4.0), StructureDistance("new", None, 5.0)),
    )
    new = StructureDistance("new", None, 5.0)  # never measured: not far
    assert last_known((bowel, gone), nothing) == (replace(bowel, limit_mm=4.0), new)
    found = causes(replace(FINE, structures=last_known((), nothing)), NOW)
    assert [c.about for c in found if c.code == "structure_near"] == ["bowel", "new"]
    assert last_known((bowel, gone), GOOD) == GOOD.structures
    assert last_known((bowel,), replace(GOOD, status=Status.DEGRADED)) == GOOD.structures


def test_baseline_alone_raises_no_alarm_of_a_structure_or_a_measurement() -> None:
    nothing = replace(
        GOOD,
        volume_id="v001",
        status=Status.INVALID,
        reasons=(Reason("baseline", ""),),
        structures=(StructureDistance("bowel", None, 5.0),),
    )
    assert causes(replace(FINE, assessment=nothing, structures=()), NOW) == ()


@pytest.mark.requirement("REQ-GATE")
def test_a_rule_that_fails_says_so_and_silences_no_other() -> None:
    found = causes(replace(FINE, structures=None, intake_alive=False, organ="adrenal"), NOW)
    assert [c.code for c in found] == ["intake_dead", "core_fault"]
    assert found[1].params == {"error": "TypeError in the check _structures"}
    assert found[1].about == found[1].params["error"]
    two = causes(replace(FINE, structures=None, phase=None), NOW)
    assert len({c.key for c in two if c.code == "core_fault"}) >= 3


def test_a_rule_that_fails_half_way_keeps_what_it_found() -> None:
    facts = replace(FINE, structures=(near("bowel", 0.0), None))
    assert [c.code for c in causes(facts, NOW)] == ["structure_near", "core_fault"]


def test_high_alarms_latch_but_for_what_an_operator_ends() -> None:
    high = {code for code, priorities in ALARMS.items() if Priority.HIGH in priorities}
    cleared = {"patient_mismatch", "frame_of_reference_mismatch"}
    assert {code for code in ALARMS if latches(code)} == high - cleared


PHASE = st.builds(Phase, st.sampled_from(PhaseKind), st.integers(0, 3), NUMBERS, NUMBERS)
DISTANCE = st.builds(StructureDistance, st.sampled_from("ab"), NUMBERS, NUMBERS, NUMBERS)
TIMES = st.none() | st.tuples(st.floats(), st.floats())
REASONS = st.lists(st.builds(Reason, st.sampled_from([*ALARMS, "x"]), st.just("")), max_size=2).map(
    tuple
)
MEASUREMENT = st.builds(
    replace, st.just(GOOD), volume_id=st.sampled_from(["v001", "v002", None]), as_of_utc_s=NUMBERS,
    status=st.sampled_from(Status), reasons=REASONS, lesion_covered=NUMBERS | st.just(1.0),
    margin_covered=NUMBERS | st.just(1.0), margin_goal_mm=NUMBERS,
)  # fmt: skip
REACHED = st.builds(StructureForecast, st.sampled_from("ab"), TIMES, st.just((0.0, 0.0)))
FORECAST = st.builds(
    forecast, start_utc_s=NUMBERS, reasons=REASONS, kind=st.none() | st.sampled_from(PhaseKind),
    structures=st.lists(REACHED, max_size=2).map(tuple),
)  # fmt: skip
BLOCKED = st.builds(
    Block, st.sampled_from(["patient_mismatch", "x"]), st.text(), st.text(), NUMBERS
)
ANY_FACTS = st.builds(
    Facts,
    phase=PHASE, baseline_id=st.sampled_from([None, "v001"]), planned=st.booleans(),
    needles_known=st.booleans(),
    assessment=st.none() | MEASUREMENT, received_utc_s=NUMBERS,
    structures=st.lists(DISTANCE, max_size=2).map(tuple),
    block=st.none() | BLOCKED,
    stale_after_s=NUMBERS, heartbeat_age_s=NUMBERS, intake_alive=st.booleans(), record_ok=st.booleans(),
    clock_offset_s=NUMBERS, clock_jump_s=NUMBERS, fault=st.none() | st.text(),
    forecast=st.none() | FORECAST, organ=st.sampled_from(["adrenal", "liver"]),
    down_s=NUMBERS, record_damage=st.integers(0, 3),
)  # fmt: skip


@pytest.mark.requirement("REQ-GOOD-NEWS")
@given(ANY_FACTS, st.floats())
def test_whatever_the_facts_are_there_is_an_answer(facts: Facts, now: float) -> None:
    """Never an exception; only alarms of the table; never good news beside bad."""
    found = causes(facts, now)
    assert found == causes(facts, now)
    for c in found:
        assert c.priority in ALARMS[c.code]
        assert not math.isnan(c.level)
    codes = {c.code for c in found}
    if "margin_reached" in codes:
        # What it may stand beside: ice elsewhere, and what is to come.
        beside = {"structure_near", "structure_ahead", "needle_failing", "will_not_be_covered"}
        graver = {c.code for c in found if c.priority is not Priority.LOW}
        assert graver <= beside | {"adrenal_thaw"}
        a = facts.assessment
        assert a is not None
        assert a.lesion_covered_interval is not None
        assert a.margin_covered_interval is not None
        assert a.lesion_covered_interval[0] == a.margin_covered_interval[0] == 1.0


@pytest.mark.parametrize("shares", [(1.0,), (0.0, 0.0, 0.0)])
def test_a_forecast_whose_times_and_shares_do_not_match_is_a_fault(
    shares: tuple[float, ...],
) -> None:
    bowel = StructureForecast("bowel", None, (-20.0, 5.0), shares)
    found = causes(
        replace(FINE, forecast=forecast(structures=(bowel,), times_utc_s=(1900.0, 1950.0))), NOW
    )
    assert [c.code for c in found] == ["core_fault"]


@pytest.mark.requirement("REQ-GOOD-NEWS")
@pytest.mark.parametrize("kind", PhaseKind)
def test_good_news_grows_old_in_every_phase(kind: PhaseKind) -> None:
    sure = replace(GOOD, lesion_covered_interval=(1.0, 1.0), margin_covered_interval=(1.0, 1.0))
    facts = replace(FINE, phase=PHASES[kind], assessment=sure)
    for age_s, said in ((210.0, True), (210.1, False), (3600.0, False)):
        codes = {c.code for c in causes(facts, GOOD.as_of_utc_s + age_s)}
        # Of ice that was there before the freeze was told there is no good news.
        assert ("margin_reached" in codes) == (said and kind is not PhaseKind.WAITING)
