"""What is said at a terminal: plain lines, and no number kinder than it is."""

from __future__ import annotations

import time
from typing import Any

import pytest

from monitor.commands.telling import Counts, Teller
from monitor.console import line, what_if_params
from monitor.demo import summary_row

ASSESSMENT: dict[str, Any] = {
    "volume_id": "v002",
    "status": "OK",
    "reasons": [],
    "lesion_covered": 0.9996,
    "margin_covered": 0.431,
    "margin_goal_mm": 5.0,
    "min_margin_mm": -0.04,
    "margin_error_mm": 0.81,
    "ice_volume_ml": 14.26,
    "time_to_margin_s": None,
}
NEAR = {"name": "bowel", "distance_mm": "4.9", "at_least_mm": "-0.1", "limit_mm": "5.0"}


def words(row: str) -> str:
    return " ".join(row.split())


@pytest.mark.requirement("REQ-COVERAGE")
def test_nearly_covered_is_neither_100_percent_nor_a_margin_of_zero() -> None:
    assert line("assessment", ASSESSMENT) == (
        "v002: lesion covered 99 %, with 5 mm margin 43 %, minimal margin -0.1 ± 0.9 mm"
    )
    row = summary_row(ASSESSMENT, {**ASSESSMENT, "lesion_covered": 1.0, "min_margin_mm": 0.0})
    assert words(row) == "v002 99.9 (100.0) % 43.1 (43.1) % -0.1 (+0.0) mm 14.3 (14.3) ml OK"


@pytest.mark.requirement("REQ-COVERAGE")
def test_of_an_interval_the_worst_bound_is_said_first() -> None:
    """As on the screen: a reader who stops early has read nothing kinder than it is."""
    between = {
        "lesion_covered_interval": (0.4699, 0.7801),
        "margin_covered_interval": (0.431, 0.4312),
    }
    assert line("assessment", {**ASSESSMENT, **between}) == (
        "v002: lesion covered at least 46 % (90 % interval 46–78 %), with 5 mm margin 43 %, "
        "minimal margin -0.1 ± 0.9 mm"
    )


def test_a_summary_without_truth_or_ice_has_dashes() -> None:
    row = summary_row({**ASSESSMENT, "min_margin_mm": None}, None)
    assert words(row) == "v002 99.9 (—) % 43.1 (—) % — (—) mm 14.3 (—) ml OK"


FORECAST: dict[str, Any] = {
    "from_volume_id": "v003",
    "start": "2026-01-05T10:00:00.000Z",
    "next_scan": {
        "at": "2026-01-05T10:03:30.000Z",
        "asked_by": "image_age",
        "decision": "limit",
        "decision_at": "2026-01-05T10:07:10.500Z",
        "structure": "bowel",
    },
    "dose": [{"body": "lesion", "so_far": {"reached_20": [0.719, 0.85], "reached_40": [0.0, 0.2]}}],
}


def test_a_forecast_says_when_to_scan_next_and_why() -> None:
    assert line("forecast", FORECAST) == (
        "v003: next scan due 03:30 after this one (the image is too old by then); at 07:10 after this "
        "one, to see: ice at the limit of bowel?; of the lesion, predicted and not measured: 71–85 % has "
        "been below -20 °C, 0–20 % has been below -40 °C"
    )
    decided = {**FORECAST["next_scan"], "asked_by": "decision", "decision": "covered"}
    said = line("forecast", {**FORECAST, "next_scan": decided, "dose": []})
    assert said == "v003: next scan due 03:30 after this one (to see: margin covered?)"
    nothing = {**decided, "asked_by": "unmeasured", "decision": None, "decision_at": None}
    said = line("forecast", {**FORECAST, "next_scan": nothing, "dose": []})
    assert said == "v003: next scan now (the last one told nothing)"
    unknown = [{"body": "lesion", "so_far": {"reached_20": [None, 0.2], "reached_40": [0.0, 0.1]}}]
    said = line("forecast", {**FORECAST, "dose": unknown})
    assert said is not None
    assert "an unknown share has been below -20 °C" in said


def test_before_any_ice_nothing_is_said_of_the_cold() -> None:
    none = [{"body": "lesion", "so_far": {"reached_20": [0.0, 0.009], "reached_40": [0.0, 0.0]}}]
    due = {**FORECAST["next_scan"], "decision": None, "decision_at": None}
    said = line("forecast", {**FORECAST, "from_volume_id": None, "dose": none, "next_scan": due})
    assert said == "start: next scan due 03:30 after the start (the image is too old by then)"


def test_what_cannot_be_trusted_says_why() -> None:
    why = [{"code": "edge_hidden", "text": "Half of the edge is hidden."}]
    doubted = {**ASSESSMENT, "status": "DEGRADED", "reasons": why, "time_to_margin_s": (130.0, 170)}
    said = line("assessment", doubted)
    assert said is not None
    assert said.endswith(
        ", margin covered ≈ 2–3 min after this scan; DEGRADED: Half of the edge is hidden."
    )
    nothing = {**doubted, "status": "INVALID", "lesion_covered": None}
    assert line("assessment", nothing) == "v002: no measurement: Half of the edge is hidden."


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("phase", {"phase": "freeze", "cycle": 2, "started_utc_s": 0.0}, "Phase: freeze, cycle 2"),
        ("phase", {"phase": "ended", "cycle": 2, "started_utc_s": 0.0}, "Phase: ended"),
        (
            "alarm_raised",
            {"code": "structure_near", "priority": "high", "params": NEAR},
            "Alarm: *** ICE NEAR bowel: 4.9 mm, perhaps -0.1 (limit 5.0 mm)",
        ),
        (
            "alarm_cleared",
            {"code": "no_baseline", "priority": "low", "params": {}, "latched": False},
            "Alarm over: * NO BASELINE — scan before freezing",
        ),
        (
            "alarm_cleared",
            {"code": "intake_dead", "priority": "high", "params": {}, "latched": True},
            "Alarm over, not acknowledged: *** IMAGE RECEPTION STOPPED — no scan can arrive",
        ),
        (
            "alarm_acknowledged",
            {"code": "clock_jump", "priority": "medium", "params": {"seconds": "9"}},
            "Alarm acknowledged: ** THE CLOCK HAS JUMPED by 9 s — age of the CT uncertain",
        ),
        (
            "alarm_raised",
            {"code": "image_stale", "priority": "medium", "params": {"age_s": "215"}},
            "Alarm: ** OLD CT (03:35) — figures frozen, take a new scan",
        ),
        (
            "operator",
            {"act": "reload", "refused": "case.toml: 1 problem(s)"},
            "Refused: reload: case.toml: 1 problem(s)",
        ),
        (
            "process_restarted",
            {"process": "view", "exit": -11},
            "Restarted: the view process, which had ended with status -11",
        ),
        ("operator", {"act": "phase_next"}, None),
        ("timing", {"event": "Tick", "took_s": 1.0}, None),
    ],
)
def test_each_thing_is_one_plain_line(kind: str, fields: dict[str, Any], said: str | None) -> None:
    assert line(kind, fields) == said


@pytest.mark.requirement("REQ-PRIVACY")
def test_another_patients_id_stays_off_the_terminal() -> None:
    params = {"expected": "DEMO-1", "received": "SOMEONE-2"}
    said = line("alarm_raised", {"code": "patient_mismatch", "priority": "high", "params": params})
    assert said == "Alarm: *** WRONG PATIENT OR FRAME OF REFERENCE — display blocked"


def test_a_scan_that_is_assessed_anew_without_news_is_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell = Teller()
    alarm = {"code": "intake_dead", "priority": "high", "params": {}}
    for kind, fields in (
        ("assessment", ASSESSMENT),
        ("alarm_raised", alarm),
        ("assessment", ASSESSMENT),
        ("alarm_raised", alarm),
    ):
        tell(kind, fields)
    for state in ({}, {"acknowledged": True}, {"latched": True}):
        tell("alarm_stands", {**alarm, "acknowledged": False, "latched": False, **state})
    said = capsys.readouterr().out.splitlines()
    assert [row.split(":")[0] for row in said] == [
        *("v002", "Alarm", "Alarm"),
        *("Alarm stands", "Alarm stands, acknowledged", "Alarm over, not acknowledged"),
    ]


def test_a_series_that_is_rejected_is_one_line_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    tell = Teller(quiet_s=0.2)
    for k in range(40):
        tell("instance_rejected", {"reason": "patient_mismatch", "path": f"quarantine/{k}.dcm"})
        tell("volume_not_measured", {"volume_id": "v001", "reason": "older_than_latest"})
    tell("instance_rejected", {"reason": "localizer", "path": "quarantine/a.dcm"})
    until = time.monotonic() + 20.0
    said: list[str] = []
    while len(said) < 42 and time.monotonic() < until:
        time.sleep(0.02)
        said += capsys.readouterr().out.splitlines()
    assert [row for row in said if "not measured" not in row] == [
        "Rejected, and kept in quarantine: 40 images, of another patient",
        "Rejected, and kept in quarantine: 1 image, a localizer (scout)",
    ]
    tell("instance_rejected", {"reason": "gremlins", "path": "quarantine/b.dcm"})
    tell.close()
    assert capsys.readouterr().out.endswith("1 image, gremlins\n")


def test_a_count_is_said_when_its_series_is_over_and_now_and_then_if_it_is_not() -> None:
    counts = Counts(quiet_s=2.0)
    for k in range(40):
        counts.took("patient_mismatch", 0.5 * k)
        assert counts.over(0.5 * k + 0.1) == []
    counts.took("localizer", 20.0)
    assert counts.over(21.0) == []
    assert counts.over(21.6) == [("patient_mismatch", 40)]
    assert counts.over(22.0) == [("localizer", 1)]
    assert not counts
    endless = [n for k in range(200) for n in _after(counts, 100.0 + 0.5 * k)]
    assert endless == [("patient_mismatch", 61)] * 3


def _after(counts: Counts, now_s: float) -> list[tuple[str, int]]:
    counts.took("patient_mismatch", now_s)
    return counts.over(now_s)


# ------------------------------------------------------------------ what if

GOING_ON: dict[str, Any] = {
    "freeze_ends_s": 240.0,
    "time_to_lesion_s": [70.0, 100.0],
    "time_to_margin_s": [400.0, None],
    "lesion_covered": (1.0, 1.0),
    "margin_covered": (0.9, 0.9996),
    "min_margin_mm": [0.39, 1.2],
    "structures": [
        {
            "name": "bowel",
            "time_to_contact_s": None,
            "distance_mm": [3.19, 4.0],
            "coldest_degc": [1.2, 8.0],
        }
    ],
}
STOPPED = {
    **GOING_ON,
    "time_to_lesion_s": None,
    "time_to_margin_s": None,
    "lesion_covered": (0.71, 0.8),
    "margin_covered": (0.5, 0.61),
    "min_margin_mm": [-2.04, -1.0],
    "structures": [
        {
            "name": "bowel",
            "time_to_contact_s": None,
            "distance_mm": [5.09, None],
            "coldest_degc": None,
        }
    ],
}
WHAT_IF: dict[str, Any] = {
    "refined": False,
    "members": 4,
    "duty": {"2": 0.0},
    "remaining_s": 90.0,
    "asked": {**STOPPED, "freeze_ends_s": 90.0},
    "going_on": GOING_ON,
    "change": {
        "lesion_later_s": [None, None],
        "margin_later_s": None,
        "min_margin_mm": [-3.21, -2.5],
        "distance_mm": {"bowel": [1.94, None]},
    },
    "status": "DEGRADED",
    "reasons": [{"code": "scan_old", "text": "It is old."}],
}


def test_a_what_if_in_plain_words_beside_going_on() -> None:
    said = line("what_if", WHAT_IF)
    assert said is not None
    assert said.splitlines() == [
        "What if needle 2 at 0 %, the freeze ends in 1.5 min (4 members, first answer; only a "
        "calculation; times also past the end of the freeze); DEGRADED: It is old.",
        "  lesion covered in > 15 min or never, going on ≈ 1–2 min",
        "  with margin covered in > 15 min or never, going on > 6 min",
        "  when the freeze ends, in 1.5 min: lesion 71–80 %, with margin 50–61 %, minimal margin "
        "-2.1 to -1.0 mm; going on, in 4.0 min: lesion 100 %, with margin 90–99 %, minimal "
        "margin +0.3 to +1.2 mm; difference -3.3 to -2.5 mm",
        "  bowel: ice no nearer than 5.0 mm, going on 3.1 mm, difference +1.9 to — mm; contact > "
        "15 min or never; coldest —, going on 1 °C",
    ]


def test_a_difference_in_time_is_said_where_both_get_there() -> None:
    change = {**WHAT_IF["change"], "margin_later_s": [-30.0, 90.0]}
    said = line("what_if", {**WHAT_IF, "change": change, "refined": True, "duty": {}})
    assert said is not None
    assert "What if the freeze ends in 1.5 min (all 4 members;" in said
    assert ", difference -0.5 to +1.5 min\n" in said
    open_ended = {**GOING_ON, "time_to_margin_s": [20.0, None]}
    plainly = line("what_if", {**WHAT_IF, "duty": {}, "remaining_s": None, "going_on": open_ended})
    assert plainly is not None
    assert plainly.startswith("What if it goes on as now (")
    assert "going on < 1 to > 12 min\n" in plainly


@pytest.mark.parametrize(
    ("typed", "params"),
    [
        ("what if", {"duty": {}}),
        ("What if 2=0", {"duty": {"2": 0.0}}),
        ("what if 2=0% 3=50", {"duty": {"2": 0.0, "3": 0.5}}),
        ("what if all=50 for 5", {"duty": {"all": 0.5}, "remaining_s": 300.0}),
        ("what if all=50, for 2.5 min", {"duty": {"all": 0.5}, "remaining_s": 150.0}),
        ("what if for 0", {"duty": {}, "remaining_s": 0.0}),
    ],
)
def test_typed_questions(typed: str, params: dict[str, Any]) -> None:
    assert what_if_params(typed) == params


@pytest.mark.parametrize(
    "typed",
    ["what if 2", "what if 2=", "what if 2=x", "what if 2=nan", "what if 2=0 2=50",
     "what if for", "what if for x", "what if for inf", "what if 2:0", "what if stop"],
)  # fmt: skip
def test_typed_nonsense_says_what_was_expected(typed: str) -> None:
    with pytest.raises(ValueError, match="what if NEEDLE=PERCENT"):
        what_if_params(typed)


def test_an_answer_that_no_longer_holds_is_said() -> None:
    assert line("what_if_over", {"by": "question", "answered": True}) is None
    dropped = line("what_if_over", {"by": "question", "answered": False})
    assert dropped == "The what-if before is dropped unanswered (newer question)."
    said = line("what_if_over", {"by": "scan", "answered": True})
    assert said == "The what-if no longer holds (newer scan); ask again."
