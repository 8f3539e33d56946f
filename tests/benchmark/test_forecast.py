"""Scores of forecasts on shapes whose answer is known, and verdicts that cannot pass on nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from monitor.benchmark import forecast as bench
from monitor.benchmark import forecast_report as report
from monitor.benchmark.forecast_case import Case, Known, ellipsoid_level
from monitor.benchmark.forecast_rows import (
    Agreement,
    EventRow,
    ForecastRow,
    Scored,
    WallRow,
)
from monitor.benchmark.plots import save_forecast_plots
from monitor.case import load_case
from monitor.config import Config
from monitor.decision import protocol
from monitor.geometry import Grid
from monitor.model import PhaseKind

GRID = Grid((-24.0, -24.0, -24.0), (1.0, 1.0, 1.0), (49, 49, 49))


def ball(radius_mm: float) -> np.ndarray:
    return np.linalg.norm(GRID.points_lps_mm(), axis=-1) - radius_mm


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "case.toml"
    path.write_text("""
patient = { id = "P" }
organ = { preset = "abdominal_wall" }
lesion = { centre_lps_mm = [0, 0, 0], radius_mm = 6 }
needle = [{ number = 1, type = "iceseed_1_5", tip_lps_mm = [0, 7, 0], entry_lps_mm = [0, -80, 0] }]
""")
    return load_case(path)


def test_agreement_of_spheres() -> None:
    found = bench.agreement(ball(12.0), ball(10.0), GRID)
    assert found.mean_mm == pytest.approx(2.0, abs=0.05)
    assert found.largest_mm == pytest.approx(2.0, abs=0.15)
    assert found.dice == pytest.approx(2 * 10**3 / (10**3 + 12**3), abs=0.01)
    nothing = bench.agreement(np.full(GRID.shape_zyx, 0.5), ball(10.0), GRID)
    assert (nothing.mean_mm, nothing.largest_mm, nothing.dice) == (None, None, 0.0)


@pytest.mark.parametrize(("true_mm", "share"), [(12.0, 1.0), (15.5, 0.0), (8.5, 0.0)])
def test_the_band_of_the_members(true_mm: float, share: float) -> None:
    members = [ball(r) < 0 for r in np.linspace(9.0, 15.0, 25)]
    assert bench._within_band(members, ball(true_mm), GRID) == pytest.approx(share, abs=0.02)
    assert bench._within_band(members, np.ones(GRID.shape_zyx), GRID) is None


def test_the_makers_ellipsoid_has_their_size(config: Config) -> None:
    inside = np.argwhere(ellipsoid_level(config.needles, GRID) < 0)
    size_zyx = inside.max(0) - inside.min(0) + 1
    assert tuple(size_zyx) == pytest.approx((20, 25, 20), abs=1.5)
    centre = GRID.to_lps_mm(inside).mean(0)
    np.testing.assert_allclose(centre, 0.0, atol=0.6)  # half the active 14 mm back from the tip


def case(config: Config) -> Case:
    return Case(config, SimpleNamespace(), np.zeros((1, 1, 1), np.uint8))  # type: ignore[arg-type]


def test_a_procedure_keeps_to_its_protocol(config: Config) -> None:
    of = case(config)
    assert [of.kind_at(t) for t in (10.0, 599.0, 700.0, 950.0)] == [
        PhaseKind.FREEZE, PhaseKind.FREEZE, PhaseKind.THAW, PhaseKind.FREEZE,
    ]  # fmt: skip
    whole = protocol.intervals(of.progress(math.inf), config.protocol, 0.0)
    assert [(s, e) for _, s, e in whole] == [(0.0, 600.0), (600.0, 900.0), (900.0, 1260.0)]


def scan(number: int, at_s: float, margin_mm: float) -> Known:
    depth_mm = {"lesion": margin_mm, "margin": margin_mm - 5.0}
    return Known(SimpleNamespace(number=number), at_s, np.zeros(1), depth_mm)  # type: ignore[arg-type]


def event(number: int, what: str) -> EventRow:
    return EventRow("s", number, what, 2, math.nan, math.inf, math.inf, math.inf)


def test_events_come_true_between_scans_of_the_same_freeze(config: Config) -> None:
    known = [scan(1, 120.0, -3.0), scan(2, 300.0, 1.0), scan(3, 540.0, 4.0), scan(4, 1000.0, 6.0)]
    asked = [event(n, what) for n in (1, 2, 3) for what in ("lesion", "margin")]
    found = bench._with_truth(asked, known, case(config))
    # The margin of 5 mm is first reached after the thaw, which no forecast of the first freeze means;
    # a forecast that said "never" is kept, and will count as wrong.
    assert [(e.scan, e.what, e.true_s) for e in found] == [(1, "lesion", pytest.approx(135.0))]


def test_whether_it_was_rightly_said_that_the_margin_will_not_be_covered(config: Config) -> None:
    known = [scan(1, 120.0, -3.0), scan(2, 300.0, 1.0), scan(3, 540.0, 6.0), scan(4, 1000.0, 2.0)]
    found = list(bench._never("s", [2, 4], known, case(config)))
    # The third scan's margin is covered; the fourth freezes again and never covers it.
    assert [(n.scan, n.said, n.covered) for n in found] == [
        (1, False, True), (2, True, True), (4, True, False),
    ]  # fmt: skip
    assert [round(n.share, 2) for n in found] == [0.2, 0.5, 0.28]
    text = report.as_markdown(Scored((ROW,), (), tuple(found)))
    assert "| will not be covered | 2 | 1 | 1 |" in text
    assert "| nothing | 1 | 1 | 0 |" in text


ROW = ForecastRow(
    "a", "liver", 3, 9.0, 180.0, 2, 20.0,
    {
        "forecast": Agreement(0.5, 2.0, 0.95),
        "persistence": Agreement(1.5, 4.0, 0.8),
        "ellipsoid": Agreement(2.5, 6.0, 0.7),
        "uncalibrated": Agreement(None, None, 0.0),
    },
    0.8, 3.0,
)  # fmt: skip
EVENT = EventRow("a", 2, "lesion", 2, 100.0, 80.0, 110.0, 130.0)


LUNG = replace(ROW, organ="lung")


def failing(rows: list[ForecastRow], events: list[EventRow]) -> set[str]:
    return {v.what for v in report.verdicts(rows, events) if not v.passed}


def with_forecast(**changes: object) -> ForecastRow:
    mine = replace(ROW.methods["forecast"], **changes)  # type: ignore[arg-type]
    return replace(ROW, methods={**ROW.methods, "forecast": mine})


def test_good_forecasts_pass_and_nothing_does_not() -> None:
    assert failing([ROW, LUNG], [EVENT]) == set()
    assert len(failing([], [])) == 9


@pytest.mark.parametrize(
    ("row", "fails"),
    [
        (with_forecast(mean_mm=1.2), "mean surface error, soft"),
        (with_forecast(mean_mm=None), "mean surface error, soft"),
        (replace(with_forecast(mean_mm=1.6), organ="lung"), "mean surface error, lung"),
        (with_forecast(largest_mm=5.1), "largest surface error"),
        (with_forecast(dice=0.89), "Dice"),
        (with_forecast(mean_mm=1.5), "better than every baseline"),
        (replace(ROW, within_band=0.7), "true surface within the 80 % band"),
        (replace(ROW, within_band=0.95), "true surface within the 80 % band"),
        (replace(ROW, wall_s=5.1), "scan to refreshed forecast"),
    ],
)
def test_what_is_wrong_fails(row: ForecastRow, fails: str) -> None:
    found = failing([*[row] * 5, LUNG] if row.organ == "liver" else [row, ROW], [EVENT])
    assert any(what.startswith(fails) for what in found)


@pytest.mark.parametrize(
    "change", [{"true_s": 79.0}, {"true_s": 131.0}, {"low_s": math.inf, "high_s": math.inf}]
)
def test_times_outside_their_interval_fail(change: dict[str, float]) -> None:
    late = replace(EVENT, **change)
    assert any("within its interval" in what for what in failing([ROW, LUNG], [late]))
    early = replace(late, seen=1)  # before the second scan nothing is asked
    assert report.verdicts([ROW], [early, EVENT])[6].scans == 1


def test_structures_have_rows_of_their_own_and_no_target() -> None:
    held = replace(EVENT, what="contact bowel")
    missed = replace(held, true_s=200.0)
    late = replace(EVENT, what="limit bowel", median_s=160.0)
    early = replace(missed, seen=1)
    events = (EVENT, held, missed, late, early)
    assert failing([ROW, LUNG], list(events)) == set()
    assert report.verdicts([ROW], list(events))[6].scans == 1
    text = report.as_markdown(Scored((ROW,), events))
    assert "| contact | 2 | 0.50 | 50 |" in text
    assert "| limit passed | 1 | 1.00 | 60 |" in text
    assert "| contact | 0 | - | - |" in report.as_markdown(Scored((ROW,), (EVENT,)))


def test_the_last_scans_seconds_count() -> None:
    walls = [WallRow("a", 3, 3.0), WallRow("a", 4, 5.1)]
    verdict = report.verdicts([ROW], [EVENT], walls)[-1]
    assert (verdict.passed, verdict.scans, verdict.found) == (False, 2, 5.1)
    assert report.as_json(Scored((ROW,), (), (), tuple(walls)))["walls"][1]["wall_s"] == 5.1


def test_when_a_structure_and_its_limit_are_reached_in_truth(config: Config) -> None:
    """A ball of ice of 10 mm; a point 8 mm from its middle and one 14 mm; a limit's point 11 mm from it."""
    points = {r: np.array([[float(r), 0.0, 0.0]]) for r in (8, 11, 14)}
    target = SimpleNamespace(
        lesion_lps_mm=points[8], margin_lps_mm=points[14],
        structures_lps_mm=(("bowel", points[8]), ("nerve", points[14])),
        limits_lps_mm=(points[11], points[11]),
    )  # fmt: skip
    of = Case(config, SimpleNamespace(analysis_grid=GRID, target=target), np.zeros(1))  # type: ignore[arg-type]
    found = of._depth_mm(ball(10.0))
    expected = {
        "lesion": 2.0, "margin": -4.0, "contact bowel": 2.0, "limit bowel": 2.0,
        "contact nerve": -4.0, "limit nerve": -1.0,
    }  # fmt: skip
    assert found == pytest.approx(expected, abs=0.15)


def test_the_report_is_json_and_markdown() -> None:
    never = replace(EVENT, low_s=math.inf, median_s=math.inf, high_s=math.inf)
    text = json.dumps(report.as_json(Scored((ROW,), (EVENT, never))), allow_nan=False)
    assert json.loads(text)["events"][1]["median_s"] is None
    assert "| a | 3 | 9.0 | 180 | 2 | 20.0 | 0.50 | 1.50 | 2.50 | - | 2.0 | 0.950 | 0.80 |" in (
        report.as_markdown(Scored((ROW,), (EVENT,)))
    )


def test_each_scenario_has_its_picture(tmp_path: Path) -> None:
    save_forecast_plots(
        tmp_path, [ROW, replace(ROW, scan=4, minutes=12.0), replace(LUNG, scenario="b")]
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]
    assert all(p.stat().st_size > 10_000 for p in tmp_path.iterdir())
