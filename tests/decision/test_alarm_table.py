"""Every alarm by every way in which it can come: its cause, NaN, None, the limit, the phase.

The table is complete by construction: an alarm or a fact without a case fails the first tests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pytest

from monitor.decision.alarm_states import Cause
from monitor.decision.safety import ALARMS, Block, Facts, causes, latches
from monitor.forecast_values import StructureForecast
from monitor.model import PhaseKind, Priority, Reason, Status, StructureDistance
from tests.decision.facts import FINE, GOOD, INF, NAN, NOW, PHASES, forecast

HIGH, MEDIUM, LOW = Priority.HIGH, Priority.MEDIUM, Priority.LOW
WAITING, FREEZE, THAW, ENDED = PhaseKind
ALWAYS, FREEZING = tuple(PhaseKind), (FREEZE,)
LONG_AGO = replace(PHASES[FREEZE], started_utc_s=90.0)


@dataclass(frozen=True)
class Case:
    """Facts as ``FINE`` but for ``changes``; what is then expected, by default the row's own alarm."""

    changes: dict[str, Any]
    now: float = NOW
    instead: str = ""


def case(now: float = NOW, instead: str = "", **changes: Any) -> Case:
    return Case(changes, now, instead)


@dataclass(frozen=True)
class Row:
    """One alarm. A string says why there is nothing of the kind. ``edges``: (last that is silent, first
    that sounds). ``priority``: in each phase, the cause standing; silent in the others."""

    cause: Case
    nan: Case | str
    none: Case | str
    edges: list[tuple[Case, Case]] | str
    priority: dict[PhaseKind, Priority]
    params: dict[str, str] = field(default_factory=dict)


def always(priority: Priority, phases: tuple[PhaseKind, ...] = ALWAYS) -> dict[PhaseKind, Priority]:
    return dict.fromkeys(phases, priority)


def graver_while_active() -> dict[PhaseKind, Priority]:
    return {WAITING: LOW, FREEZE: MEDIUM, THAW: MEDIUM, ENDED: LOW}


def block(code: str, since: float = 1.0) -> Case:
    return case(block=Block(code, "A", "B", since))


def imaged(as_of: float | None, now: float = NOW, instead: str = "", **more: Any) -> Case:
    return case(now, instead, assessment=replace(GOOD, as_of_utc_s=as_of), **more)


def measured(status: Any, *codes: str) -> Case:
    reasons = tuple(Reason(code, "") for code in codes)
    return case(assessment=replace(GOOD, status=status, reasons=reasons))


def shut_out(reason: str) -> Case:
    return case(shut_out=(("CT1@10.0.0.5", reason),))


def not_kept(reason: str) -> Case:
    return case(not_kept=(("CT1@10.0.0.5", reason),))


def frozen_ml(volume: float) -> Case:
    return case(assessment=replace(GOOD, ice_volume_ml=volume))


def frozen_before(volume_ml: float | None, **changes: Any) -> Case:
    found = replace(GOOD, ice_volume_ml=volume_ml)
    return case(phase=PHASES[WAITING], forecast=None, assessment=found, **changes)


def near(at_least: float | None, limit: float | None = 5.0) -> Case:
    return case(structures=(StructureDistance("bowel", 6.0, limit, at_least),))


def ahead(contact_s: Any, start: float = 1000.0, infringed: tuple[float, float] = (0.0, 0.0),
          last: float = 1900.0) -> Case:  # fmt: skip
    bowel = StructureForecast("bowel", contact_s, (-20.0, 5.0), infringed)
    times = (1000.0, last)
    return case(forecast=forecast(structures=(bowel,), start_utc_s=start, times_utc_s=times))


def foreseen(phase_started: float | None, since: float = 900.0) -> Case:
    phase = replace(PHASES[FREEZE], started_utc_s=since)
    return case(phase=phase, forecast=forecast(phase_started_utc_s=phase_started))


def long_ago(now: float) -> Case:
    """A freeze, and a scan, whose forecast would be there by now."""
    made = forecast(phase_started_utc_s=90.0)
    return case(now, received_utc_s=900.0, phase=LONG_AGO, forecast=made)


def told(*codes: str) -> Case:
    return case(forecast=forecast(reasons=tuple(Reason(code, "") for code in codes)))


def covered(lesion: float | None, margin: float | None, **changes: Any) -> Case:
    """By the inner bound; nobody having computed it is None."""
    lows = {"lesion_covered_interval": lesion, "margin_covered_interval": margin}
    intervals = {name: None if low is None else (low, 1.0) for name, low in lows.items()}
    return case(
        assessment=replace(GOOD, lesion_covered=1.0, margin_covered=1.0, **intervals, **changes)
    )


def covered_but(**changes: Any) -> Case:
    return Case({**covered(1.0, 1.0).changes, **changes})


ONE_WAY = "it is there or it is not"
FLAG = "true or not"

ROWS: dict[str, Row] = {
    "patient_mismatch": Row(
        block("patient_mismatch"), block("patient_mismatch", NAN), "no block is the good case",
        ONE_WAY, always(HIGH), {"expected": "A", "received": "B"},
    ),
    "frame_of_reference_mismatch": Row(
        block("frame_of_reference_mismatch"), block("frame_of_reference_mismatch", NAN),
        "no block is the good case", ONE_WAY, always(HIGH), {"expected": "A", "received": "B"},
    ),
    "core_silent": Row(
        case(heartbeat_age_s=4.0), case(heartbeat_age_s=NAN),
        case(heartbeat_age_s=None, instead="core_fault"),
        [
            (case(heartbeat_age_s=3.0), case(heartbeat_age_s=3.001)),
            (case(heartbeat_age_s=-60.0), case(heartbeat_age_s=-60.001)),
        ],
        always(HIGH),
    ),
    "core_fault": Row(
        case(fault="ValueError while handling Tick"), "a text", "no fault is the good case",
        [(case(), case(fault=""))], always(HIGH), {"error": "ValueError while handling Tick"},
    ),
    "not_a_number": Row(
        frozen_ml(NAN), case(now=NAN),
        case(assessment=None, phase=PHASES[WAITING], instead="silence"),
        [(frozen_ml(INF), frozen_ml(NAN))],
        always(HIGH), {"where": "facts.assessment.ice_volume_ml"},
    ),
    "intake_dead": Row(
        case(intake_alive=False), FLAG, case(intake_alive=None), ONE_WAY, always(HIGH)
    ),
    "restarted": Row(
        case(down_s=3.6), case(down_s=NAN), case(down_s=None, instead="core_fault"),
        [(case(down_s=0.0), case(down_s=0.001))], always(HIGH), {"seconds": "4"},
    ),
    "record_damaged": Row(
        case(record_damage=2), "a count", case(record_damage=None),
        [(case(record_damage=0), case(record_damage=1))], always(MEDIUM), {"count": "2"},
    ),
    "record_failing": Row(
        case(record_ok=False), FLAG, case(record_ok=None), ONE_WAY, always(MEDIUM)
    ),
    "scanner_refused": Row(
        shut_out("peer_tls"), "a word", case(shut_out=None, instead="core_fault"),
        [(case(shut_out=()), shut_out("peer_tls"))],
        always(MEDIUM), {"peer": "CT1@10.0.0.5", "reason": "peer_tls"},
    ),
    "images_refused": Row(
        not_kept("image_disk_full"), "a word", case(not_kept=None, instead="core_fault"),
        [(case(not_kept=()), not_kept("image_disk_full"))],
        always(MEDIUM), {"peer": "CT1@10.0.0.5", "reason": "image_disk_full"},
    ),
    "scan_unusable": Row(
        case(unused=("single_slice", NOW)), case(unused=("single_slice", NAN)), "no cause",
        [
            (case(unused=("single_slice", NOW + 0.001)), case(unused=("single_slice", NOW))),
            (case(unused=None), case(unused=("single_slice", -INF))),
        ],
        always(MEDIUM), {"reason": "single_slice"},
    ),
    "no_baseline": Row(
        case(baseline_id=None), "an id", case(baseline_id=None), ONE_WAY, graver_while_active()
    ),
    "no_plan": Row(
        case(planned=False), FLAG, case(planned=None), ONE_WAY, graver_while_active()
    ),
    "baseline_frozen": Row(
        measured(Status.DEGRADED, "baseline_frozen"), "a word", "nothing was measured yet",
        [(measured(Status.DEGRADED, "baseline"), measured(Status.DEGRADED, "baseline", "baseline_frozen"))],
        always(MEDIUM),
    ),
    "ice_unannounced": Row(
        case(), frozen_before(NAN), frozen_before(None),
        [
            (frozen_before(0.0), frozen_before(0.01)),
            (frozen_before(5.0, planned=False), frozen_before(5.0)),  # a draft: nothing is measured
        ],
        always(MEDIUM, (WAITING,)),
    ),
    "needles_unknown": Row(
        case(needles_known=False), FLAG, case(needles_known=None), ONE_WAY, graver_while_active()
    ),
    "clock_offset": Row(
        case(clock_offset_s=-40.4), case(clock_offset_s=NAN), case(clock_offset_s=None),
        [
            (case(clock_offset_s=30.0), case(clock_offset_s=30.001)),
            (case(clock_offset_s=-30.0), case(clock_offset_s=-30.001)),
            (case(clock_offset_s=None, baseline_id=None), case(clock_offset_s=None)),
            (case(clock_offset_s=30.0, baseline_id=None), case(clock_offset_s=31.0, baseline_id=None)),
        ],
        always(LOW), {"seconds": "-40"},
    ),
    "clock_jump": Row(
        case(clock_jump_s=-7.6), case(clock_jump_s=NAN), case(clock_jump_s=None, instead="core_fault"),
        [
            (case(clock_jump_s=5.0), case(clock_jump_s=5.001)),
            (case(clock_jump_s=-5.0), case(clock_jump_s=-5.001)),
        ],
        always(MEDIUM), {"seconds": "-8"},
    ),
    "image_time_wrong": Row(
        imaged(1100.0), imaged(NAN), imaged(None),
        [(imaged(1015.0), imaged(1015.001)), (imaged(-1e9, instead="image_stale"), imaged(-INF))],
        always(MEDIUM),
    ),
    "image_stale": Row(
        imaged(700.4), case(stale_after_s=NAN),
        case(assessment=None, phase=replace(PHASES[FREEZE], started_utc_s=None)),
        [
            (imaged(800.0), imaged(799.999)),
            (imaged(800.0, now=1009.0), imaged(800.0, now=1011.0)),
            (case(now=1110.0, assessment=None), case(now=1110.001, assessment=None)),
            (case(now=895.0, assessment=None), case(now=894.999, assessment=None)),
            (imaged(900.0), imaged(900.0, stale_after_s=109.0)),
        ],
        always(MEDIUM, FREEZING), {"age_s": "310"},
    ),
    "registration_poor": Row(
        measured(Status.DEGRADED, "registration_doubtful"), "codes", measured(None, "registration_doubtful"),
        [
            (measured(Status.OK, "registration_doubtful"), measured(Status.INVALID, "registration_failed")),
            (
                measured(Status.DEGRADED, "edge_hidden"),
                measured(Status.DEGRADED, "scan_elsewhere", "edge_hidden"),
            ),
            (measured(Status.DEGRADED), measured(Status.DEGRADED, "baseline_mismatch")),
        ],
        always(LOW), {"reason": "registration_doubtful"},
    ),
    "segmentation_poor": Row(
        measured(Status.DEGRADED, "edge_hidden", "edge_uncertain"), "codes", measured(None),
        [
            (measured(Status.OK, "edge_hidden"), measured(Status.INVALID, "edge_hidden")),
            (measured(Status.DEGRADED, "registration_doubtful"), measured(Status.DEGRADED)),
            (
                case(baseline_id="v002", assessment=replace(GOOD, status=Status.INVALID)),
                case(assessment=replace(GOOD, status=Status.INVALID)),
            ),
            (
                case(needles_known=False, assessment=replace(GOOD, status=Status.INVALID)),
                case(needles_known=True, assessment=replace(GOOD, status=Status.INVALID)),
            ),
            (
                case(planned=False, assessment=replace(GOOD, status=Status.INVALID)),
                case(planned=True, assessment=replace(GOOD, status=Status.INVALID)),
            ),
        ],
        always(LOW), {"reason": "edge_uncertain"},
    ),
    "structure_near": Row(
        near(4.78), near(NAN), near(None),
        [
            (near(5.0), near(4.999)),
            (near(INF), near(-INF)),
            (near(0.0, limit=None), near(-0.001, limit=None)),
            (near(INF), near(10.0, limit=NAN)),
            (near(0.0, limit=0.0), near(-0.001, limit=0.0)),
        ],
        always(HIGH), {"name": "bowel", "distance_mm": "6.0", "at_least_mm": "4.7", "limit_mm": "5.0"},
    ),
    "structure_ahead": Row(
        ahead((281.0, 500.0)), ahead((NAN, 500.0)), "never within the horizon is the good case",
        [
            (ahead((310.001, 500.0)), ahead((310.0, 500.0))),
            (ahead((400.0, 500.0)), ahead((400.0, 500.0), start=NAN)),
            (ahead(None), ahead((-5.0, 1.0))),
            (case(forecast=None), ahead((10.0, 20.0))),
            (ahead(None, infringed=(0.0999, 0.0)), ahead(None, infringed=(0.1, 0.0))),
            (ahead(None, infringed=(0.0999, 0.1)), ahead(None, infringed=(0.1, 0.1))),
            (ahead(None, infringed=(0.0, 1.0)), ahead(None, infringed=(0.0, NAN), last=1310.0)),
            (
                ahead((400.0, 500.0), infringed=(0.0, 0.1), last=1310.001),
                ahead((400.0, 500.0), infringed=(0.0, 0.1), last=1310.0),
            ),
        ],
        always(MEDIUM, FREEZING), {"name": "bowel", "minutes": "4"},
    ),
    "forecast_missing": Row(
        case(forecast=None), case(forecast=forecast(start_utc_s=NAN)), case(forecast=None),
        [
            # A forecast that is being made is not missing yet.
            (case(forecast=None, received_utc_s=950.0), case(forecast=None, received_utc_s=949.999)),
            (case(forecast=None, received_utc_s=1015.0), case(forecast=None, received_utc_s=1015.001)),
            (case(forecast=None, received_utc_s=None, now=960.0), case(forecast=None, received_utc_s=None)),
            (case(forecast=None, now=960.0), case(forecast=None, now=1000.001)),
            # Of another kind of phase, or of an earlier one.
            (case(), case(forecast=forecast(kind=THAW))),
            (case(), case(forecast=forecast(kind=None))),
            (foreseen(900.009), foreseen(900.011)),
            (foreseen(899.991), foreseen(899.989)),
            (foreseen(0.01, since=0.0), foreseen(0.0101, since=0.0)),
            (foreseen(900.0), foreseen(None)),
            (foreseen(900.0), foreseen(NAN)),
            (case(), case(phase=replace(PHASES[FREEZE], started_utc_s=None))),
            (case(), case(phase=replace(PHASES[FREEZE], started_utc_s=NAN))),
            # Of another scan; of none that was measured there is no earlier one.
            (imaged(1000.009), imaged(1000.011)),
            (imaged(1000.01), imaged(1000.0101)),
            (case(assessment=None), imaged(NAN)),
            (case(), imaged(INF)),
            # It reaches from its start to its end.
            (case(now=1900.0), case(now=1900.001)),
            (case(now=1900.0), case(now=1900.0, forecast=forecast(times_utc_s=(1000.0, 1899.0)))),
            (case(now=1900.0), case(now=1900.0, forecast=forecast(times_utc_s=(1000.0, NAN)))),
            (long_ago(995.0), long_ago(994.999)),
            (long_ago(1000.0), case(now=NAN)),
            (case(now=1800.0, forecast=forecast(times_utc_s=(1000.0, 1100.0, 1900.0))),
             case(now=1200.0, forecast=forecast(times_utc_s=(1000.0, 1900.0, 1100.0)))),
            # What cannot be forecast is said elsewhere.
            (case(forecast=None, baseline_id=None, instead="no_baseline"), case(forecast=None)),
            (case(forecast=None, planned=False, instead="no_plan"), case(forecast=None)),
        ],
        always(MEDIUM, FREEZING),
    ),
    "needle_failing": Row(
        told("needle_failing"), "codes", "no reason is the good case",
        [(told("x"), told("x", "needle_failing"))], always(HIGH, FREEZING),
    ),
    "will_not_be_covered": Row(
        told("will_not_be_covered"), "codes", "no reason is the good case",
        [(told("x"), told("x", "will_not_be_covered"))], always(MEDIUM, FREEZING),
    ),
    "forecast_disagrees": Row(
        told("forecast_disagrees"), "codes", "no reason is the good case",
        [(told("x"), told("x", "forecast_disagrees"))], always(LOW, FREEZING),
    ),
    "phase_ending": Row(
        case(now=4980.4), case(phase=replace(PHASES[FREEZE], ends_utc_s=NAN)),
        case(phase=replace(PHASES[FREEZE], ends_utc_s=None)),
        [(case(now=4969.999), case(now=4970.0)), (case(now=4969.0), case(now=6000.0))],
        always(LOW, (FREEZE, THAW)), {"seconds": "20"},
    ),
    "adrenal_thaw": Row(
        case(organ="adrenal"), "a text", case(organ=None, instead="silence"),
        ONE_WAY, always(MEDIUM, (THAW, ENDED)),
    ),
    "margin_reached": Row(
        covered(1.0, 1.0), replace(covered(NAN, 1.0), instead="not_a_number"),
        case(assessment=None, instead="silence"),
        [
            (covered(1.0, 0.9999999), covered(1.0, 1.0)),
            (covered(0.9999999, 1.0), covered(1.0, 1.0)),
            (covered(1.0, None), covered(1.0, 1.0)),
            (covered(1.0, 1.0, status=Status.DEGRADED), covered(1.0, 1.0)),
            (covered(1.0, 1.0, as_of_utc_s=799.0), covered(1.0, 1.0, as_of_utc_s=801.0)),
            (covered(1.0, 1.0, volume_id="v001"), covered(1.0, 1.0)),
            *(
                (covered_but(**bad), covered(1.0, 1.0))
                for bad in (
                    block("patient_mismatch").changes,
                    {"heartbeat_age_s": 4.0},
                    {"intake_alive": False},
                    {"record_ok": False},
                    {"record_damage": 1},
                    {"down_s": 1.0},
                    {"clock_jump_s": 6.0},
                    {"needles_known": False},
                    {"planned": False},
                )
            ),
            (covered_but(clock_jump_s=NAN), covered_but(clock_offset_s=31.0)),  # told, and corrected
            (covered_but(clock_offset_s=50400.1), covered_but(clock_offset_s=-50400.0)),
        ],
        always(LOW, (FREEZE, THAW, ENDED)), {"margin_mm": "5"},
    ),
}  # fmt: skip


def causes_of(c: Case, phase: PhaseKind | None = None) -> tuple[Cause, ...]:
    facts = replace(FINE, **c.changes)
    return causes(facts if phase is None else replace(facts, phase=PHASES[phase]), c.now)


def codes(c: Case, phase: PhaseKind | None = None) -> set[str]:
    return {cause.code for cause in causes_of(c, phase)}


@pytest.mark.requirement("REQ-ALARM-RULES")
def test_every_alarm_has_a_row_and_every_fact_a_case() -> None:
    assert ROWS.keys() == ALARMS.keys()
    cases = [
        c for row in ROWS.values() for c in (row.cause, row.nan, row.none) if isinstance(c, Case)
    ]
    edges = [
        c for row in ROWS.values() for edge in row.edges if isinstance(edge, tuple) for c in edge
    ]
    tried = {name for c in cases + edges for name in c.changes}
    assert tried == {f.name for f in fields(Facts)}


@pytest.mark.parametrize("phase", PhaseKind)
def test_silent_when_all_is_fine(phase: PhaseKind) -> None:
    fine = replace(FINE, phase=PHASES[phase])
    if phase is WAITING:  # then ice is no good news
        fine = replace(fine, assessment=replace(GOOD, ice_volume_ml=0.0))
    assert causes(fine, NOW) == ()


@pytest.mark.requirement("REQ-ALARM-RULES")
@pytest.mark.parametrize("code", ROWS)
def test_the_cause_sounds_the_alarm_in_its_phases_at_its_priority(code: str) -> None:
    row = ROWS[code]
    for phase in PhaseKind:
        if "phase" in row.cause.changes and phase is not row.cause.changes["phase"].kind:
            continue
        found = {c.code: c.priority for c in causes_of(row.cause, phase)}
        assert found.get(code) == row.priority.get(phase), phase


@pytest.mark.parametrize("code", ROWS)
def test_the_alarm_says_what_it_knows(code: str) -> None:
    row = ROWS[code]
    phase = next(iter(row.priority))
    (found,) = (c for c in causes_of(row.cause, phase) if c.code == code)
    assert found.params == row.params
    assert found.latching == latches(code)


@pytest.mark.requirement("REQ-ALARM-RULES")
@pytest.mark.parametrize("code", ROWS)
@pytest.mark.parametrize("column", ["nan", "none"])
def test_what_is_no_number_or_missing(code: str, column: str) -> None:
    c = getattr(ROWS[code], column)
    if isinstance(c, str):
        return
    found = codes(c)
    if c.instead == "silence":
        assert found == set()
    else:
        assert (c.instead or code) in found
        assert not c.instead or code not in found


@pytest.mark.requirement("REQ-ALARM-RULES")
@pytest.mark.parametrize("code", ROWS)
def test_the_limit_is_where_it_is_said_to_be(code: str) -> None:
    edges = ROWS[code].edges
    for silent, sounds in [] if isinstance(edges, str) else edges:
        assert not {code, "core_fault"} & codes(silent), silent
        assert code in codes(sounds), sounds
        if silent.instead:
            assert silent.instead in codes(silent)


def test_a_graver_measurement_has_the_graver_priority() -> None:
    for code, reason in (
        ("segmentation_poor", "edge_hidden"),
        ("registration_poor", "scan_elsewhere"),
    ):
        for status, priority in ((Status.DEGRADED, LOW), (Status.INVALID, MEDIUM), (None, MEDIUM)):
            (found,) = causes_of(measured(status, reason))
            assert (found.code, found.priority) == (code, priority)


@pytest.mark.requirement("REQ-CLOCKS")
def test_a_first_scan_of_another_day_has_the_graver_priority() -> None:
    hours_s = 14 * 3600.0
    for offset_s in (-hours_s, hours_s):
        assert [c.priority for c in causes_of(case(clock_offset_s=offset_s))] == [LOW]
        assert [c.priority for c in causes_of(case(clock_offset_s=1.001 * offset_s))] == [MEDIUM]
    found = [c.priority for c in causes_of(case(clock_offset_s=NAN)) if c.code == "clock_offset"]
    assert found == [MEDIUM]


@pytest.mark.parametrize(
    ("code", "fact"), [("scanner_refused", "shut_out"), ("images_refused", "not_kept")]
)
def test_each_peer_and_reason_is_an_alarm_of_its_own(code: str, fact: str) -> None:
    peers = (
        ("CT1@10.0.0.5", "peer_tls"),
        ("CT1@10.0.0.5", "image_disk"),
        ("A@10.0.0.6", "peer_tls"),
    )
    found = [(c.code, c.about) for c in causes_of(case(**{fact: peers}))]
    assert found == [
        (code, "CT1@10.0.0.5 peer_tls"),
        (code, "CT1@10.0.0.5 image_disk"),
        (code, "A@10.0.0.6 peer_tls"),
    ]


def test_why_a_scan_cannot_be_used_is_what_its_alarm_is_about() -> None:
    """For another reason it is another alarm, which sounds again."""
    for reason in ("single_slice", "slice_astray"):
        found = [c for c in causes_of(case(unused=(reason, NOW))) if c.code == "scan_unusable"]
        assert [c.about for c in found] == [reason]


def test_a_baseline_that_looks_frozen_has_one_alarm() -> None:
    assert codes(measured(Status.DEGRADED, "baseline_frozen")) == {"baseline_frozen"}


def test_the_page_on_alarms_says_what_the_code_does() -> None:
    page = (Path(__file__).parents[2] / "docs" / "decision.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([a-z, ]+) \| (yes|no|until cleared) \|", page, re.M)
    said = {code: (priority, latching) for code, priority, latching in rows}
    assert len(said) == len(rows)
    cleared = ("patient_mismatch", "frame_of_reference_mismatch")
    assert said == {
        code: (
            ", ".join(p.value for p in priorities),
            "until cleared" if code in cleared else "yes" if latches(code) else "no",
        )
        for code, priorities in ALARMS.items()
    }
