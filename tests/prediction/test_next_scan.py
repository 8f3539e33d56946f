"""When to scan next: by what has to be decided, never later than an image may be old. Seconds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from monitor.forecast_values import Forecast, NextScan, StructureForecast
from monitor.geometry import Grid
from monitor.model import Phase, PhaseKind
from monitor.prediction.next_scan import next_scan

START = 1000.0
TIMES = tuple(START + 100.0 * n for n in range(10))
GRID = Grid((0.0, 0.0, 0.0), (3.0, 3.0, 3.0), (2, 2, 2))
FREEZE = Phase(PhaseKind.FREEZE, 1, START - 60.0, None)
NEVER = (0.0,) * 10
LONG_S = 3000.0


def rising(*values: float) -> tuple[float, ...]:
    return (*values, *(values[-1:] * (10 - len(values))))


def forecast(covered: tuple[float, ...] = NEVER, **structures: tuple[float, ...]) -> Forecast:
    return Forecast(
        "v003", START, GRID, TIMES, np.zeros((10, 2, 2, 2), np.float32), -4.5, None, None, "cpu",
        structures=tuple(
            StructureForecast(name, None, (0.0, 10.0), share) for name, share in structures.items()
        ),
        kind=PhaseKind.FREEZE,
        covered=covered,
    )  # fmt: skip


def asked(
    f: Forecast, stale_after_s: float = LONG_S, phase: Phase = FREEZE, measured: bool = True
) -> NextScan:
    return next_scan(f, measured, phase, stale_after_s)


def test_it_is_when_lesion_and_margin_are_covered_for_sure() -> None:
    due = asked(forecast(rising(0.0, 0.4, 0.8, 1.0)))
    assert (due.asked_by, due.decision, due.decision_utc_s) == ("decision", "covered", due.at_utc_s)
    assert due.at_utc_s == pytest.approx(START + 250.0)


def test_a_structure_asks_as_soon_as_its_limit_may_be_passed() -> None:
    due = asked(forecast(rising(0.0, 0.0, 0.0, 1.0), bowel=rising(0.0, 0.0, 0.5), skin=NEVER))
    assert (due.asked_by, due.decision, due.name) == ("decision", "limit", "bowel")
    assert due.at_utc_s == pytest.approx(START + 120.0)


def test_what_a_scan_has_told_is_not_asked_again_until_it_is_sure() -> None:
    due = asked(forecast(bowel=rising(0.3, 0.5, 0.9)))
    assert (due.decision, due.at_utc_s) == ("limit", START + 200.0)
    assert asked(forecast(rising(1.0), bowel=rising(1.0))).decision == ""


def test_where_waiting_will_not_settle_it_the_scan_is_when_it_gets_unsure() -> None:
    due = asked(forecast(rising(0.0, 0.2, 0.4)))
    assert (due.decision, due.at_utc_s) == ("perhaps_covered", START + 50.0)
    assert asked(forecast(rising(0.0, 0.05))).decision == ""


def test_the_planned_end_of_a_freeze_asks_if_it_is_unsure_then() -> None:
    ending = replace(FREEZE, ends_utc_s=START + 150.0)
    due = asked(forecast(rising(0.0, 0.4, 0.8, 1.0)), phase=ending)
    assert (due.decision, due.at_utc_s) == ("phase_end", START + 150.0)
    sure = asked(forecast(rising(0.0, 0.0, 0.0, 1.0)), phase=ending)
    assert sure.decision == "covered"


@pytest.mark.requirement("REQ-NEXT-SCAN")
def test_while_freezing_no_scan_is_asked_for_later_than_the_image_may_be_old() -> None:
    due = asked(forecast(rising(0.0, 0.4, 0.8, 1.0)), stale_after_s=210.0)
    assert (due.asked_by, due.at_utc_s) == ("image_age", START + 210.0)
    assert (due.decision, due.decision_utc_s) == ("covered", START + 250.0)
    nothing = asked(forecast(), stale_after_s=210.0)
    assert nothing == NextScan(START + 210.0, "image_age")
    assert asked(forecast(rising(0.0, 1.0)), stale_after_s=210.0).asked_by == "decision"


def test_nothing_to_decide_and_no_age_to_keep_is_as_far_as_the_forecast_goes() -> None:
    assert asked(forecast()) == NextScan(TIMES[-1], "horizon")


def test_a_thaw_asks_at_its_end() -> None:
    thaw = Phase(PhaseKind.THAW, 1, START - 60.0, START + 240.0)
    due = asked(forecast(rising(0.0, 1.0)), stale_after_s=210.0, phase=thaw)
    assert (due.decision, due.at_utc_s) == ("phase_end", START + 240.0)
    near = asked(forecast(bowel=rising(0.0, 1.0)), phase=thaw)
    assert (near.decision, near.name) == ("limit", "bowel")


@pytest.mark.requirement("REQ-NEXT-SCAN")
@pytest.mark.parametrize(
    "unknown",
    [
        forecast(rising(0.0, math.nan, 1.0)),
        forecast(bowel=rising(0.0, math.nan)),
        forecast(bowel=()),
        forecast(()),
        replace(forecast(), times_utc_s=()),
        replace(forecast(), times_utc_s=(math.nan, *TIMES[1:])),
    ],
)
def test_what_is_not_known_asks_at_once(unknown: Forecast) -> None:
    assert asked(unknown) == NextScan(START, "unmeasured")


@pytest.mark.requirement("REQ-NEXT-SCAN")
def test_a_scan_that_told_nothing_or_a_limit_that_is_no_number_asks_at_once() -> None:
    assert asked(forecast(), measured=False) == NextScan(START, "unmeasured")
    assert asked(forecast(), stale_after_s=math.nan) == NextScan(START, "unmeasured")
