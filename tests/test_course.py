"""What a forecast's band comes to: balls of known size. ml, 0..1, mm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monitor.course import course, dose_by
from monitor.decision.assessment import Plan
from monitor.decision.bodies import body
from monitor.forecast_values import BodyDose, Forecast
from monitor.geometry import Grid
from monitor.model import Role, Status, Structure

GRID = Grid((-30.0, -30.0, -30.0), (1.5, 1.5, 1.5), (41, 41, 41))
EDGE_DEGC = -2.0


def ball(radius_mm: float, grid: Grid = GRID) -> np.ndarray:
    return (np.linalg.norm(grid.points_lps_mm(), axis=-1) - radius_mm).astype(np.float32)


@pytest.fixture(scope="module")
def plan() -> Plan:
    lesion = Structure("lesion", Role.LESION, GRID, ball(9.0))
    return Plan(body(lesion), body(lesion, grow_mm=3.0), (), 3.0)


def forecast(radii: list[float], spread_mm: float, step_s: float = 30.0) -> Forecast:
    degc = np.stack([ball(r) + EDGE_DEGC for r in radii]).astype(np.float32)
    return Forecast(
        "v002", 100.0, GRID, tuple(100.0 + step_s * i for i in range(len(radii))), degc, EDGE_DEGC,
        None, None, "test", colder_degc=(degc - spread_mm).astype(np.float16),
        warmer_degc=(degc + spread_mm).astype(np.float16),
    )  # fmt: skip


def test_balls_have_their_volume_coverage_and_margin(plan: Plan) -> None:
    points = course(forecast([6.0, 7.0, 11.0, 12.0, 14.0], 1.0), plan).points  # type: ignore[union-attr]
    assert [p.at_utc_s for p in points] == [100.0, 160.0, 220.0], "a minute apart"
    for p, radius in zip(points, (6.0, 11.0, 14.0), strict=True):
        for value, end in zip(p.ice_volume_ml, (radius - 1.0, radius + 1.0), strict=True):
            assert value == pytest.approx(4 / 3 * np.pi * end**3 / 1000, rel=0.04)
        assert p.min_margin_mm == pytest.approx((radius - 10.0, radius - 8.0), abs=0.3)
        for covered, mm in zip(p.lesion_covered, p.min_margin_mm, strict=True):
            assert (covered == 1.0) == (mm >= 0.0)
        assert all(m <= c for m, c in zip(p.margin_covered, p.lesion_covered, strict=True))
    assert points[2].margin_covered == (1.0, 1.0)


def test_without_ice_nothing_is_covered_and_without_a_band_nothing_is_said(plan: Plan) -> None:
    none = course(forecast([-9.0], 0.5), plan)
    assert none is not None
    assert none.points[0].lesion_covered == (0.0, 0.0)
    assert none.points[0].min_margin_mm == (-np.inf, -np.inf)
    bare = forecast([9.0], 0.5)
    bare = Forecast(**{**bare.__dict__, "colder_degc": None})
    assert course(bare, plan) is None


def test_the_cold_by_now_is_never_of_later_and_of_nothing_that_is_not_foreseen() -> None:
    rows = [[float(10 * i + n), 10.0 * i + n + 0.5] for i in range(3) for n in range(6)]
    each = np.array(rows).reshape(3, 6, 2)
    lesion = BodyDose("lesion", *(each[:, n] for n in range(6)))
    f = replace(forecast([9.0, 9.5, 10.0], 0.5), bodies=(lesion,))  # at 100, 130 and 160 s
    for now_utc_s, at_utc_s, i in ((100.0, 100.0, 0), (129.9, 100.0, 0), (130.0, 130.0, 1),
                                   (159.0, 130.0, 1), (160.0, 160.0, 2)):  # fmt: skip
        (d,) = dose_by(f, now_utc_s)
        assert (d.name, d.at_utc_s) == ("lesion", at_utc_s)
        assert d.at_utc_s <= now_utc_s
        assert d.reached_20 == (10.0 * i, 10.0 * i + 0.5)
        assert d.cycles == (10.0 * i + 5, 10.0 * i + 5.5)
    for now_utc_s in (99.9, 160.1, np.nan, np.inf):
        assert dose_by(f, now_utc_s) == (), now_utc_s
    assert dose_by(replace(f, status=Status.DEGRADED), 140.0) == dose_by(f, 140.0)
    assert dose_by(replace(f, status=Status.INVALID), 140.0) == ()
