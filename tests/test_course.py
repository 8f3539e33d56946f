"""What a forecast's band comes to: balls of known size. ml, 0..1, mm."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.course import course
from monitor.decision.assessment import Plan
from monitor.decision.bodies import body
from monitor.forecast_values import Forecast
from monitor.geometry import Grid
from monitor.model import Role, Structure

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
