"""Every state of the screen, decided without Qt; each rule is shown to fail closed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import view_samples as samples
from view_samples import NOW

from monitor.forecast_values import NextScan
from monitor.model import Alarm, Phase, PhaseKind, Priority, Reason, Status
from monitor.snapshot import ReceivedVolume, Snapshot
from monitor.view.formats import NBSP as N
from monitor.view.translations import LANGUAGES
from monitor.view.viewmodel import Inputs, ScreenModel, State, screen_model

DASH = "—"


@pytest.fixture(scope="module")
def states(normal: Snapshot) -> dict[str, Snapshot | None]:
    return samples.states(normal)


def look(
    snapshot: Snapshot | None,
    now: float = NOW,
    silent_s: float = 0.1,
    language: str = "en",
    **more: Any,
) -> ScreenModel:
    return screen_model(Inputs(snapshot, now, silent_s, language, **more))


def values(model: ScreenModel) -> list[str]:
    return [
        r.value
        for r in (model.lesion, model.margin, model.min_margin, model.time_left, model.structure)
    ]


def with_assessment(snapshot: Snapshot, **changes: Any) -> Snapshot:
    assert snapshot.assessment is not None
    return replace(snapshot, assessment=replace(snapshot.assessment, **changes))


# --------------------------------------------------------------------------- normal


def test_normal_english(normal: Snapshot) -> None:
    m = look(normal)
    assert m.state is State.NORMAL
    assert values(m) == [f"96{N}%", f"74{N}%", f"−1.2 ±{N}0.8{N}mm", f"≈{N}2–5{N}min", f"9.2{N}mm"]
    assert m.structure.label == "colon ↔ ice"
    assert m.phase == "Cycle 1 · FREEZE"
    assert (m.clock, m.clock_of) == ("06:42", "10:00")
    assert m.last_ct.value == "Last CT: 00:48"
    assert m.simulation == f"Predicted: CT{N}+{N}00:48"
    assert m.next_ct.value == "Next CT in 02:42"
    assert m.next_ct.note == f"else the CT is too old · margin{N}covered?{N}in{N}07:11"
    assert m.alarm is None
    assert m.frame is None
    assert m.layers.image
    assert m.layers.ice
    assert m.layers.predicted_at_utc_s == NOW


def test_normal_french(normal: Snapshot) -> None:
    m = look(normal, language="fr")
    assert m.min_margin.value == f"−1,2 ±{N}0,8{N}mm"
    assert m.lesion.label == "Lésion couverte (glace)"
    assert m.phase == "Cycle 1 · CONGÉLATION"
    assert m.last_ct.value == "Dernier CT : 00:48"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_for_a_next_scan_has_words(normal: Snapshot, language: str) -> None:
    for decision in ("covered", "perhaps_covered", "limit", "phase_end"):
        due = NextScan(NOW + 70.0, "decision", decision, NOW + 70.0, "bile duct")
        m = look(replace(normal, next_scan=due), language=language).next_ct
        assert m.value.endswith("01:10")
        assert m.note
        assert ("voie biliaire" in m.note) == (decision == "limit" and language == "fr")
        later = replace(due, asked_by="image_age", decision_utc_s=NOW + 130.0)
        assert look(replace(normal, next_scan=later), language=language).next_ct.note.endswith(
            "02:10"
        )
    for asked_by in ("image_age", "unmeasured", "horizon"):
        due = NextScan(NOW + 70.0, asked_by)
        assert look(replace(normal, next_scan=due), language=language).next_ct.note


@pytest.mark.parametrize("at_utc_s", [NOW, NOW - 20.0, math.nan, -math.inf])
def test_a_next_scan_that_is_due_or_of_no_known_time_is_now(
    normal: Snapshot, at_utc_s: float
) -> None:
    m = look(replace(normal, next_scan=NextScan(at_utc_s, "decision", "covered")))
    assert m.next_ct.value == "Next CT: now"


def test_no_next_scan_is_told_while_none_is_known_or_the_core_is_silent(normal: Snapshot) -> None:
    for m in (
        look(replace(normal, next_scan=None)),
        look(replace(normal, blocked=True)),
        look(normal, silent_s=5.0),
    ):
        assert (m.next_ct.value, m.next_ct.note, m.next_ct.tone) == ("Next CT: —", "", "dim")


def test_time_counts_on_between_messages(normal: Snapshot) -> None:
    m = look(normal, now=NOW + 60)
    assert m.last_ct.value == "Last CT: 01:48"
    assert m.clock == "07:42"
    assert m.time_left.value == f"≈{N}1–4{N}min"
    assert m.layers.predicted_at_utc_s == NOW + 60


def test_99_6_percent_is_99(normal: Snapshot) -> None:
    m = look(with_assessment(normal, lesion_covered=0.996, margin_covered=0.9999))
    assert m.lesion.value == f"99{N}%"
    assert m.margin.value == f"99{N}%"


def test_nearest_structure_is_the_one_with_least_room_and_unknown_comes_first(
    normal: Snapshot,
) -> None:
    far_but_limited = samples.StructureDistance("nerve", 12.0, 10.0, 10.9)
    m = look(
        with_assessment(
            normal, structures=(samples.StructureDistance("colon", 9.2, 5.0, 8.0), far_but_limited)
        )
    )
    assert m.structure.label == "nerve ↔ ice"
    unknown = samples.StructureDistance("skin", None, 5.0)
    m = look(with_assessment(normal, structures=(far_but_limited, unknown)))
    assert (m.structure.label, m.structure.value) == ("skin ↔ ice", DASH)
    assert look(with_assessment(normal, structures=())).structure.value == "none given"


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -0.2, 1.3])
def test_what_is_not_a_fraction_is_a_dash(normal: Snapshot, bad: float | None) -> None:
    m = look(with_assessment(normal, lesion_covered=bad, margin_covered=bad))
    assert m.lesion.value == m.margin.value == DASH


def test_unknown_margin_error_is_said(normal: Snapshot) -> None:
    m = look(with_assessment(normal, margin_error_mm=None))
    assert m.min_margin.value == f"?{N}−1.2 ±{N}?{N}mm"
    assert look(with_assessment(normal, min_margin_mm=math.nan)).min_margin.value == DASH


def test_time_left_reached_overdue_and_unknown(normal: Snapshot) -> None:
    assert look(with_assessment(normal, margin_covered=1.0)).time_left.value == "reached"
    assert (
        look(with_assessment(normal, time_to_margin_s=(10.0, 40.0))).time_left.value
        == "CT to confirm"
    )
    assert look(with_assessment(normal, time_to_margin_s=None)).time_left.value == DASH
    assert (
        look(with_assessment(normal, time_to_margin_s=(math.nan, math.nan))).time_left.value == DASH
    )


# --------------------------------------------------------------------------- stale


@pytest.mark.requirement("REQ-IMAGE-AGE")
def test_stale_greys_numbers_stops_the_time_and_goes_on_simulating(states: Any) -> None:
    m = look(states["stale"])
    assert m.state is State.STALE
    assert m.frame == "alarm_medium"
    assert m.lesion.value == f"96{N}%"
    assert {m.lesion.tone, m.margin.tone, m.min_margin.tone, m.structure.tone} == {"old"}
    assert m.lesion.note == "measured 06:13 ago"
    assert m.time_left.value == DASH
    assert m.last_ct.tone == "alarm_medium"
    assert m.layers.predicted_at_utc_s == NOW
    assert m.alarm is not None
    assert m.alarm.sentence == "OLD CT (06:13) — figures frozen, take a new scan"
    assert (m.alarm.stars, m.alarm.flash_hz) == ("**", 0.6)


@pytest.mark.requirement("REQ-IMAGE-AGE")
def test_a_screen_grows_stale_by_its_own_clock(normal: Snapshot) -> None:
    assert look(normal, now=NOW - 48 + 210.0).state is State.NORMAL
    assert look(normal, now=NOW - 48 + 210.1).state is State.STALE


@pytest.mark.requirement("REQ-IMAGE-AGE")
@pytest.mark.parametrize("as_of", [NOW + 6.0, math.nan, math.inf, -math.inf])
def test_an_impossible_image_time_alarms_and_is_never_fresh(normal: Snapshot, as_of: float) -> None:
    m = look(with_assessment(normal, as_of_utc_s=as_of))
    assert m.state is State.STALE
    assert m.last_ct.value == "Last CT: —"
    assert m.alarm is not None
    assert m.alarm.code == "image_time_wrong"


@pytest.mark.requirement("REQ-ALIVE")
def test_a_hung_worker_is_stale_even_when_the_image_is_young(normal: Snapshot) -> None:
    m = look(replace(normal, alarms=(Alarm("core_silent", Priority.HIGH, NOW),)))
    assert m.state is State.STALE
    assert m.lesion.tone == "old"


@pytest.mark.parametrize("beat", [NOW - 4.5, math.nan])
def test_a_worker_that_does_not_beat_is_stale_without_being_told(
    normal: Snapshot, beat: float
) -> None:
    m = look(replace(normal, heartbeat_utc_s=beat))
    assert m.state is State.STALE
    assert m.alarm is not None
    assert (m.alarm.code, m.alarm.others) == ("core_silent", "")
    fast = look(replace(normal, heartbeat_utc_s=NOW - 4.5), speed=10.0)
    assert fast.state is State.NORMAL


def test_an_old_image_is_not_stale_while_nothing_freezes(states: Any) -> None:
    thaw = replace(states["stale"], phase=Phase(PhaseKind.THAW, 1, NOW - 60, NOW + 240))
    m = look(thaw)
    assert m.state is State.NORMAL
    assert m.time_left.value == DASH
    assert m.phase == "Cycle 1 · THAW"


@pytest.mark.requirement("REQ-IMAGE-AGE")
def test_a_broken_stale_limit_is_stale(normal: Snapshot) -> None:
    assert look(replace(normal, stale_after_s=math.nan)).state is State.STALE


# --------------------------------------------------------------------------- unsure, invalid


@pytest.mark.requirement("REQ-ICE-DOUBT")
def test_degraded_leads_with_the_worst_bound_and_says_why(states: Any) -> None:
    m = look(states["degraded"])
    assert m.state is State.DEGRADED
    assert m.lesion.value == f"≥{N}88{N}%"
    assert m.lesion.note == f"90 % interval: 88–100{N}%"
    assert m.min_margin.value.startswith("?")
    assert m.layers.band
    assert m.message == ("much of the ice edge lies where ice hardly shows",)
    assert m.structure.value == f"≥{N}8.0{N}mm", "from the outer surface: what is sure"
    assert m.time_left.value == f"?{N}≈{N}2–5{N}min"


def test_degraded_without_interval_claims_no_bound(states: Any) -> None:
    m = look(with_assessment(states["degraded"], lesion_covered_interval=None))
    assert m.lesion.value == f"?{N}96{N}%"
    assert m.lesion.note == "uncertain measurement"


@pytest.mark.requirement("REQ-GOOD-NEWS")
def test_degraded_full_coverage_is_not_called_reached(states: Any) -> None:
    m = look(with_assessment(states["degraded"], margin_covered=1.0))
    assert m.time_left.value == DASH


def test_an_unknown_reason_is_shown_in_english(states: Any) -> None:
    m = look(
        with_assessment(states["degraded"], reasons=(Reason("gremlins", "There are gremlins."),)),
        language="fr",
    )
    assert m.message == ("There are gremlins.",)


@pytest.mark.requirement("REQ-ICE-DOUBT")
def test_invalid_shows_no_number_and_the_reason(states: Any) -> None:
    m = look(states["invalid"])
    assert m.state is State.INVALID
    assert values(m) == [DASH] * 5
    assert m.message == ("No measurement", "a needle tip lies outside the scan or the baseline")
    assert not m.layers.ice
    assert m.alarm is not None
    assert m.alarm.sentence.startswith("NO VALID MEASUREMENT")


@pytest.mark.requirement("REQ-ICE-DOUBT")
def test_numbers_of_an_invalid_assessment_are_not_believed(normal: Snapshot) -> None:
    m = look(with_assessment(normal, status=Status.INVALID))
    assert values(m) == [DASH] * 5
    assert m.message[1] == "reason not given"


# --------------------------------------------------------------------------- before and after


def test_waiting_baseline_and_no_core(states: Any) -> None:
    waiting, baseline, none = (look(states[s]) for s in ("waiting", "baseline", "no_core"))
    assert (waiting.state, baseline.state, none.state) == (
        State.WAITING,
        State.BASELINE,
        State.NO_CORE,
    )
    for m in (waiting, baseline, none):
        assert values(m) == [DASH] * 5
        assert m.layers.predicted_at_utc_s is None
    assert waiting.message == ("Waiting for the scanner", "no baseline scan yet")
    assert baseline.message[0] == f"Baseline {states['baseline'].baseline_id} received"
    assert baseline.last_ct.value == "Last CT: 00:48"
    assert none.alarm is None
    assert look(None, silent_s=60.1).alarm is not None


def test_before_the_first_ice_the_screen_says_what_has_come_and_what_is_next(states: Any) -> None:
    bare, n = states["waiting"], states["normal"]
    came = (ReceivedVolume("v002", NOW, 40, "P1", n.volume, n.volume_geometry),)
    assert look(replace(bare, received=came, draft=True)).message == (
        "CT v002 received", "no baseline yet: choose it at the console",
    )  # fmt: skip
    assert look(replace(bare, received=came)).message == (
        "CT v002 received", "no baseline yet: scan the lesion before freezing",
    )  # fmt: skip
    waiting = Phase(PhaseKind.WAITING, 0, None, None)
    taken = replace(
        states["baseline"], received=came, baseline_id="v002", needles=n.needles, phase=waiting
    )
    taken = replace(taken, assessment=replace(taken.assessment, volume_id="v002"))
    for changes, next_ in (
        ({"draft": True}, "no plan yet: nothing is measured"),
        ({"needles": ()}, "no needle is known: ice cannot be measured"),
        ({}, "next: start the freeze (F)"),
        ({"phase": n.phase}, "no ice measured yet"),
    ):
        m = look(replace(taken, **changes))
        assert m.message == ("Baseline v002 received", next_)
        assert values(m) == [DASH] * 5


def test_a_scan_without_ice_is_nought_not_unknown(states: Any) -> None:
    m = look(states["no_ice"])
    assert values(m) == [f"0{N}%", f"0{N}%", DASH, f">{N}7{N}min", "no ice"]


@pytest.mark.requirement("REQ-FORECAST-APART")
def test_a_prediction_from_an_earlier_ct_than_the_one_shown_says_so(normal: Snapshot) -> None:
    """For the seconds that the new scan's own takes, and longer where it fails."""
    new = with_assessment(normal, as_of_utc_s=NOW - 10.0)
    assert look(new).last_ct.value == "Last CT: 00:10"
    assert look(new).simulation == f"Predicted: earlier{N}CT{N}+{N}00:48"
    assert look(new, language="fr").simulation == f"Prédit : CT{N}précédent{N}+{N}00:48"


@pytest.mark.requirement("REQ-FORECAST-APART")
def test_ended_keeps_the_result_and_predicts_nothing(states: Any) -> None:
    m = look(states["ended"])
    assert m.phase == "ENDED"
    assert m.clock == DASH
    assert m.lesion.value == f"100{N}%"
    assert m.layers.predicted_at_utc_s is None
    assert m.simulation == ""
    assert m.alarm is not None
    assert (m.alarm.stars, m.alarm.flash_hz) == ("*", 0.0)


@pytest.mark.requirement("REQ-FORECAST-APART")
def test_no_prediction_beyond_its_horizon(normal: Snapshot) -> None:
    beyond = normal.forecast_times_utc_s[-1] + 1.0
    assert look(normal, now=beyond).layers.predicted_at_utc_s is None


# --------------------------------------------------------------------------- blocked, dead


@pytest.mark.requirement("REQ-PATIENT")
def test_blocked_shows_nothing_but_the_two_ids(states: Any) -> None:
    m = look(states["blocked"])
    assert m.state is State.BLOCKED
    assert values(m) == [DASH] * 5
    assert m.last_ct.value == "Last CT: —"
    assert not any((m.layers.image, m.layers.plan, m.layers.ice, m.layers.band))
    assert m.layers.predicted_at_utc_s is None
    assert m.message[:3] == ("DISPLAY BLOCKED", "plan: 00412-7", "CT: 00981-3")
    assert m.alarm is not None
    assert m.alarm.sentence == "WRONG PATIENT: plan 00412-7 ≠ CT 00981-3 — display blocked"
    assert (m.alarm.stars, m.alarm.flash_hz) == ("***", 2.0)


@pytest.mark.requirement("REQ-PATIENT")
def test_blocked_without_its_alarm_still_alarms(normal: Snapshot) -> None:
    m = look(replace(normal, blocked=True))
    assert values(m) == [DASH] * 5
    assert m.alarm is not None
    assert m.alarm.code == "blocked"


def test_long_uids_are_shortened_at_both_ends_shown(normal: Snapshot) -> None:
    ids = {"expected": "1.2.840." + "1" * 40 + ".7", "received": "1.2.840." + "1" * 40 + ".8"}
    m = look(
        replace(
            normal,
            blocked=True,
            alarms=(Alarm("frame_of_reference_mismatch", Priority.HIGH, NOW, ids),),
        )
    )
    assert m.alarm is not None
    assert "…" in m.alarm.sentence
    assert ".7 ≠" in m.alarm.sentence


@pytest.mark.requirement("REQ-ALIVE")
@pytest.mark.parametrize("silent_s", [1.01, math.inf, math.nan])
def test_a_silent_core_is_said_within_a_second(normal: Snapshot, silent_s: float) -> None:
    m = look(normal, silent_s=silent_s)
    assert m.state is State.CORE_SILENT
    assert m.lesion.tone == "old"
    assert m.time_left.value == DASH
    assert m.layers.predicted_at_utc_s is None
    assert m.alarm is not None
    assert m.alarm.code == "core_silent"


@pytest.mark.requirement("REQ-ALIVE")
def test_a_display_error_shows_no_numbers(normal: Snapshot) -> None:
    m = look(normal, error="ValueError")
    assert m.state is State.VIEW_ERROR
    assert values(m) == [DASH] * 5
    assert m.alarm is not None
    assert "ValueError" in m.alarm.sentence


# --------------------------------------------------------------------------- alarms


@pytest.mark.requirement("REQ-ALARM-SEEN")
def test_the_highest_alarm_leads_and_the_others_are_counted(states: Any) -> None:
    m = look(states["alarm"], language="fr")
    assert m.alarm is not None
    assert m.alarm.sentence == "GLACE PROCHE — côlon : 3,4 mm, peut-être 2,1 (limite 5,0 mm)"
    assert m.alarm.others == "+1"
    order = look(replace(states["alarm"], alarms=states["alarm"].alarms[::-1]))
    assert order.alarm is not None
    assert order.alarm.code == "structure_near"


def test_an_acknowledged_alarm_stays_but_is_steady(states: Any) -> None:
    near, poor = states["alarm"].alarms
    seen = replace(near, acknowledged=True)
    m = look(replace(states["alarm"], alarms=(seen, poor)))
    assert m.alarm is not None
    assert m.alarm.code == "structure_near"
    assert m.alarm.flash_hz == 0.0


@pytest.mark.requirement("REQ-ALARM-SEEN")
def test_an_alarm_that_nobody_has_seen_comes_before_one_that_was(states: Any) -> None:
    near = replace(states["alarm"].alarms[0], acknowledged=True)
    old, skin = Alarm("image_stale", Priority.MEDIUM, NOW), replace(near, about="skin")
    poor = states["alarm"].alarms[1]
    rows = [
        ((near, old), "image_stale"),
        ((near, replace(skin, acknowledged=False)), "structure_near"),
        ((replace(near, acknowledged=False), old), "structure_near"),
        ((near, replace(old, acknowledged=True), poor), "structure_near"),
    ]
    for alarms, first in rows:
        m = look(replace(states["alarm"], alarms=alarms))
        assert m.alarm is not None
        assert m.alarm.code == first
    assert look(replace(states["alarm"], alarms=rows[1][0])).alarm.key == ("structure_near", "skin")


@pytest.mark.requirement("REQ-ALARM-SEEN")
def test_an_alarm_that_is_over_unseen_flashes_and_says_so(states: Any) -> None:
    hung = Alarm("core_silent", Priority.HIGH, NOW, latched=True)
    m = look(replace(states["normal"], alarms=(hung,)))
    assert m.alarm is not None
    assert m.alarm.sentence.startswith("OVER, not acknowledged: MONITOR NOT RESPONDING")
    assert m.alarm.flash_hz == 2.0
    assert m.state is State.NORMAL
    again = look(replace(states["normal"], alarms=(hung,)), silent_s=5.0)
    assert again.alarm is not None
    assert again.alarm.others == "+1"


@pytest.mark.requirement("REQ-GOOD-NEWS")
def test_nothing_on_any_screen_is_green(states: Any) -> None:
    tones = set()
    for snapshot in states.values():
        m = look(snapshot)
        tones |= {r.tone for r in (m.lesion, m.margin, m.min_margin, m.time_left, m.structure)}
    assert tones <= {"text", "old", "dim"}


@pytest.mark.requirement("REQ-GOOD-NEWS")
def test_an_uncertain_100_percent_is_not_led_by_a_bound(states: Any) -> None:
    m = look(
        with_assessment(states["degraded"], lesion_covered=1.0, lesion_covered_interval=(1.0, 1.0))
    )
    assert m.lesion.value == f"?{N}100{N}%"
