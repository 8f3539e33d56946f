"""Each alarm is shown to sound, and to be silent only when things are proved fine."""

from dataclasses import replace

import numpy as np
import pytest

from monitor.decision.safety import Block, Facts, alarm_key, last_known, standing_alarms
from monitor.geometry import Grid
from monitor.model import (
    Assessment,
    Forecast,
    Phase,
    PhaseKind,
    Priority,
    Reason,
    Status,
    StructureDistance,
    StructureForecast,
)

NAN = float("nan")
GOOD = Assessment(
    volume_id="v002",
    as_of_utc_s=1000.0,
    status=Status.OK,
    reasons=(),
    lesion_covered=0.9,
    margin_covered=0.5,
    margin_goal_mm=5.0,
    min_margin_mm=-1.0,
    min_margin_at_lps_mm=(0, 0, 0),
    margin_error_mm=0.6,
    ice_volume_ml=5.0,
    structures=(StructureDistance("bowel", 12.0, 5.0, 10.5),),
    time_to_margin_s=(60.0, 120.0),
)
FINE = Facts(
    phase=Phase(PhaseKind.FREEZE, 1, 900.0, 1500.0),
    baseline_id="v001",
    needles_known=True,
    assessment=GOOD,
    structures=GOOD.structures,
    block=None,
    stale_after_s=210.0,
    heartbeat_age_s=0.1,
    intake_alive=True,
    record_ok=True,
    clock_offset_s=0.0,
)

LONG_FREEZE = Phase(PhaseKind.FREEZE, 1, 900.0, 5000.0)


def codes(facts: Facts, now: float = 1010.0) -> set[str]:
    return {a.code for a in standing_alarms(facts, now)}


def test_silent_when_all_is_fine() -> None:
    assert codes(FINE) == set()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"heartbeat_age_s": 4.0}, "core_silent"),
        ({"heartbeat_age_s": NAN}, "core_silent"),
        ({"intake_alive": False}, "intake_dead"),
        ({"record_ok": False}, "record_failing"),
        ({"fault": "ValueError"}, "core_fault"),
        ({"baseline_id": None}, "no_baseline"),
        ({"needles_known": False}, "needles_unknown"),
        ({"clock_offset_s": -40.0}, "clock_offset"),
        ({"clock_offset_s": NAN}, "clock_offset"),
        ({"block": Block("patient_mismatch", "A", "B", 1.0)}, "patient_mismatch"),
        (
            {
                "assessment": replace(GOOD, as_of_utc_s=700.0),
                "phase": Phase(PhaseKind.FREEZE, 1, 600.0, None),
            },
            "image_stale",
        ),
        ({"assessment": replace(GOOD, as_of_utc_s=NAN)}, "image_stale"),
        ({"assessment": replace(GOOD, as_of_utc_s=1100.0)}, "image_stale"),
        ({"assessment": None, "phase": Phase(PhaseKind.FREEZE, 1, 700.0, None)}, "image_stale"),
        (
            {
                "assessment": replace(
                    GOOD, status=Status.DEGRADED, reasons=(Reason("edge_hidden", ""),)
                )
            },
            "segmentation_poor",
        ),
        ({"structures": (StructureDistance("bowel", 6.0, 5.0, 4.9),)}, "structure_near"),
        ({"structures": (StructureDistance("bowel", 6.0, 5.0, NAN),)}, "structure_near"),
        ({"structures": (StructureDistance("bowel", None, 5.0),)}, "structure_near"),
        ({"assessment": replace(GOOD, margin_covered=1.0)}, "margin_reached"),
    ],
)
def test_each_cause_sounds_its_alarm(change: dict, code: str) -> None:
    assert code in codes(replace(FINE, **change))


@pytest.mark.parametrize("covered", [0.9999999, NAN, None])
def test_margin_is_not_reached_by_rounding_or_by_not_knowing(covered: float | None) -> None:
    assert "margin_reached" not in codes(
        replace(FINE, assessment=replace(GOOD, margin_covered=covered))
    )


def test_margin_is_not_reached_on_doubtful_ice() -> None:
    doubtful = replace(GOOD, margin_covered=1.0, status=Status.DEGRADED, reasons=(Reason("x", ""),))
    assert "margin_reached" not in codes(replace(FINE, assessment=doubtful))


def test_worst_first_and_keeps_its_start() -> None:
    facts = replace(FINE, heartbeat_age_s=9.0, clock_offset_s=99.0)
    first = standing_alarms(facts, 1010.0)
    again = standing_alarms(facts, 1020.0, first)
    assert [a.priority for a in again] == [Priority.HIGH, Priority.LOW]
    assert {a.since_utc_s for a in again} == {1010.0}


def test_two_structures_are_two_alarms() -> None:
    near = tuple(StructureDistance(n, 1.0, 5.0, 0.5) for n in ("bowel", "skin"))
    alarms = standing_alarms(replace(FINE, structures=near), 1010.0)
    assert len({alarm_key(a) for a in alarms}) == 2


def test_a_structure_is_far_enough_only_if_the_outer_bound_of_the_ice_is() -> None:
    at_the_limit = StructureDistance("bowel", 5.6, 5.0, 5.0)
    assert codes(replace(FINE, structures=(at_the_limit,))) == set()
    nearer = replace(at_the_limit, at_least_mm=4.999)
    assert codes(replace(FINE, structures=(nearer,))) == {"structure_near"}


def test_the_distance_that_an_alarm_names_is_never_rounded_to_farther() -> None:
    near = StructureDistance("bowel", 4.99, 5.0, -0.04)
    (alarm,) = standing_alarms(replace(FINE, structures=(near,)), 1010.0)
    assert (alarm.params["distance_mm"], alarm.params["at_least_mm"]) == ("4.9", "-0.1")


@pytest.mark.parametrize("kind", [PhaseKind.THAW, PhaseKind.ENDED])
def test_a_structure_stays_near_when_the_freeze_is_over(kind: PhaseKind) -> None:
    near = (StructureDistance("bowel", 3.0, 5.0, 2.0),)
    over = replace(FINE, phase=Phase(kind, 2, 1500.0, None), structures=near)
    assert codes(over, now=9000.0) == {"structure_near"}


def test_a_scan_that_measured_nothing_leaves_the_last_known_distances() -> None:
    near, gone = StructureDistance("bowel", 3.0, 5.0, 2.0), StructureDistance("skin", 1.0, 5.0, 0.5)
    nothing = replace(
        GOOD,
        status=Status.INVALID,
        structures=(StructureDistance("bowel", None, 4.0), StructureDistance("new", None, 5.0)),
    )
    assert last_known((near, gone), nothing) == (replace(near, limit_mm=4.0),)
    assert last_known((near, gone), GOOD) == GOOD.structures


def test_baseline_alone_raises_no_structure_alarm() -> None:
    nothing = replace(
        GOOD,
        volume_id="v001",
        status=Status.INVALID,
        reasons=(Reason("baseline", ""),),
        structures=(StructureDistance("bowel", None, 5.0),),
    )
    assert last_known((), nothing) == ()
    assert codes(replace(FINE, assessment=nothing, structures=())) == set()


def forecast(**changes: object) -> Forecast:
    """Begun at 1000 s; the ice reaches the bowel after 400 to 500 s."""
    grid = Grid((0.0, 0.0, 0.0), (3.0, 3.0, 3.0), (1, 1, 1))
    field = np.zeros((1, 1, 1, 1), np.float32)
    bowel = StructureForecast("bowel", (400.0, 500.0), (-20.0, 5.0))
    plain = Forecast(
        "v002", 1000.0, grid, (1000.0,), field, -4.5, None, (60.0, 120.0), "cpu",
        structures=(bowel,), kind=PhaseKind.FREEZE,
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "sounds", "minutes"),
    [(1050.0, False, ""), (1101.0, True, "4"), (1390.0, True, "0"), (1500.0, True, "0")],
)
def test_a_structure_that_the_ice_will_reach(now: float, sounds: bool, minutes: str) -> None:
    alarms = standing_alarms(replace(FINE, forecast=forecast(), phase=LONG_FREEZE), now)
    ahead = [a.params for a in alarms if a.code == "structure_ahead"]
    assert ahead == ([{"name": "bowel", "minutes": minutes}] if sounds else [])


def test_what_is_never_reached_and_what_is_not_known() -> None:
    never = StructureForecast("bowel", None, (10.0, 20.0))
    assert codes(replace(FINE, forecast=forecast(structures=(never,)))) == set()
    unknown = StructureForecast("bowel", (NAN, NAN), (NAN, NAN))
    found = codes(replace(FINE, forecast=forecast(structures=(unknown,))))
    assert found == {"structure_ahead"}


@pytest.mark.parametrize("code", ["needle_failing", "will_not_be_covered", "forecast_disagrees"])
def test_what_the_forecast_says(code: str) -> None:
    told = forecast(structures=(), reasons=(Reason(code, "why"),))
    assert codes(replace(FINE, forecast=told)) == {code}
    thaw = Phase(PhaseKind.THAW, 1, 900.0, 1500.0)
    assert codes(replace(FINE, forecast=told, phase=thaw)) == set()
    of_the_thaw = replace(
        told, kind=PhaseKind.THAW
    )  # a freeze has begun, its forecast is not there yet
    assert codes(replace(FINE, forecast=of_the_thaw)) == set()


@pytest.mark.parametrize(
    ("ends", "sounds"), [(1100.0, False), (1035.0, True), (1005.0, True), (NAN, True)]
)
def test_a_phase_that_is_about_to_end(ends: float, sounds: bool) -> None:
    phase = Phase(PhaseKind.FREEZE, 1, 900.0, ends)
    assert ("phase_ending" in codes(replace(FINE, phase=phase))) == sounds
    assert "phase_ending" not in codes(replace(FINE, phase=Phase(PhaseKind.ENDED, 1, 900.0, None)))


@pytest.mark.parametrize(
    ("organ", "kind", "sounds"),
    [
        ("adrenal", PhaseKind.THAW, True),
        ("adrenal", PhaseKind.FREEZE, False),
        ("liver", PhaseKind.THAW, False),
    ],
)
def test_an_adrenal_that_thaws(organ: str, kind: PhaseKind, sounds: bool) -> None:
    phase = Phase(kind, 1, 900.0, 1500.0)
    assert ("adrenal_thaw" in codes(replace(FINE, organ=organ, phase=phase))) == sounds
