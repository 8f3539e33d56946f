"""Coverage, margin and distances on shapes whose answer is known; what is not known is None."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.decision.assessment import Plan, assess
from monitor.decision.bodies import body
from monitor.geometry import Grid
from monitor.model import IceSegmentation, Reason, Role, Status, Structure

GRID = Grid((-30.0, -30.0, -30.0), (1.0, 1.0, 1.0), (61, 61, 61))
FINE = Grid((-12.0, -12.0, -12.0), (0.5, 0.5, 0.5), (49, 49, 49))


def ball(grid: Grid, centre: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    distance = np.linalg.norm(grid.points_lps_mm() - np.array(centre), axis=-1) - radius_mm
    return distance.astype(np.float32)


def plan(margin_mm: float = 5.0, lesion_mm: float = 6.0) -> Plan:
    lesion = Structure("lesion", Role.LESION, FINE, ball(FINE, (0, 0, 0), lesion_mm))
    around = Structure("margin", Role.LESION, GRID, ball(GRID, (0, 0, 0), lesion_mm))
    near = Grid((12.0, -8.0, -8.0), (0.5, 0.5, 0.5), (33, 33, 33))
    far = Grid((40.0, -8.0, -8.0), (0.5, 0.5, 0.5), (33, 33, 33))
    bowel = Structure("bowel", Role.CRITICAL, near, ball(near, (20, 0, 0), 4.0), 5.0)
    nerve = Structure("nerve", Role.CRITICAL, far, ball(far, (48, 0, 0), 4.0), 5.0)
    return Plan(
        body(lesion), body(around, grow_mm=margin_mm), (body(bowel), body(nerve)), margin_mm
    )


PLAN = plan()


def ice(centre: tuple[float, float, float], radius_mm: float, **changes: object) -> IceSegmentation:
    made = IceSegmentation(
        "v002",
        100.0,
        GRID,
        ball(GRID, centre, radius_mm),
        np.ones(GRID.shape_zyx, bool),
        4 / 3 * np.pi * radius_mm**3 / 1000,
        0.5,
        0.9,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_concentric_balls() -> None:
    a = assess(ice((0, 0, 0), 9.0), PLAN, None)
    assert a.lesion_covered == 1.0
    assert a.min_margin_mm == pytest.approx(3.0, abs=0.1)
    assert a.margin_covered == pytest.approx((9 / 11) ** 3, abs=0.02)
    assert [s.distance_mm for s in a.structures] == pytest.approx([7.0, 35.0], abs=0.6)


def test_uncovered_side_is_found() -> None:
    a = assess(ice((-4, 0, 0), 7.0), PLAN, None)
    assert a.min_margin_mm == pytest.approx(-3.0, abs=0.1)
    assert a.min_margin_at_lps_mm == pytest.approx((6.0, 0.0, 0.0), abs=1.0)
    assert 0.5 < a.lesion_covered < 1.0


def test_ice_inside_a_structure_is_negative() -> None:
    a = assess(ice((10, 0, 0), 9.0), PLAN, None)
    assert a.structures[0].distance_mm == pytest.approx(-3.0, abs=0.6)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.floats(-8, 8)] * 3),
    st.floats(3.0, 20.0),
    st.floats(0.0, 3.0),
)
def test_invariants(centre: tuple[float, float, float], radius_mm: float, less_mm: float) -> None:
    a = assess(ice(centre, radius_mm), PLAN, None)
    smaller = assess(ice(centre, max(radius_mm - less_mm, 1.0)), PLAN, None)
    assert (a.lesion_covered < 1.0) == (a.min_margin_mm < 0.0)
    assert a.margin_covered <= a.lesion_covered
    assert smaller.lesion_covered <= a.lesion_covered
    assert smaller.margin_covered <= a.margin_covered
    low, high = a.lesion_covered_interval
    assert low <= a.lesion_covered <= high
    assert a.margin_covered_interval[0] <= a.lesion_covered_interval[0]


def test_no_ice_covers_nothing_and_has_no_margin() -> None:
    none = ice((0, 0, 0), 5.0, sdf_mm=np.full(GRID.shape_zyx, np.inf, np.float32), volume_ml=0.0)
    a = assess(none, PLAN, None)
    assert (a.lesion_covered, a.margin_covered, a.min_margin_mm) == (0.0, 0.0, None)
    assert a.structures[0].distance_mm == np.inf


def holed(name: str) -> np.ndarray:
    known = np.ones(GRID.shape_zyx, bool)
    known[{"lesion": 30, "margin": 39}[name]] = False
    return known


@pytest.mark.parametrize(
    "change",
    [
        {"status": Status.INVALID, "reasons": (Reason("needles_unknown", ""),), "sdf_mm": None},
        {"status": Status.INVALID, "reasons": (Reason("x", ""),)},
        {"volume_ml": float("nan")},
        {"edge_error_mm": float("nan")},
        {"acquired_utc_s": float("nan")},
        {
            "sdf_mm": np.where(np.arange(61) == 20, np.nan, ball(GRID, (0, 0, 0), 9.0)).astype(
                np.float32
            )
        },
        {"known": holed("lesion")},
    ],
    ids=["refused", "invalid", "volume", "error", "time", "sdf", "unseen lesion"],
)
def test_what_is_not_proved_is_not_shown(change: dict) -> None:
    a = assess(ice((0, 0, 0), 15.0, **change), PLAN, None)
    assert a.status is Status.INVALID
    values = (
        a.lesion_covered,
        a.margin_covered,
        a.min_margin_mm,
        a.ice_volume_ml,
        a.time_to_margin_s,
    )
    assert values == (None,) * 5
    assert all(s.distance_mm is None for s in a.structures)


def test_an_unscanned_part_of_the_margin_is_said() -> None:
    a = assess(ice((0, 0, 0), 15.0, known=holed("margin")), PLAN, None)
    assert a.status is Status.DEGRADED
    assert [r.code for r in a.reasons] == ["margin_outside_scan"]


def test_a_structure_is_surely_no_nearer_than_the_outer_bound_of_the_ice() -> None:
    by_error = assess(ice((0, 0, 0), 9.0, edge_error_mm=1.0), PLAN, None).structures[0]
    assert by_error.at_least_mm == pytest.approx(by_error.distance_mm - 1.645, abs=1e-3)
    outer = ball(GRID, (0, 0, 0), 13.0)
    bounded = assess(ice((0, 0, 0), 9.0, outer_sdf_mm=outer), PLAN, None).structures[0]
    assert bounded.at_least_mm == pytest.approx(by_error.distance_mm - 4.0, abs=0.1)


def test_without_ice_nothing_is_near() -> None:
    none = np.full(GRID.shape_zyx, np.inf, np.float32)
    a = assess(ice((0, 0, 0), 9.0, sdf_mm=none, volume_ml=0.0, outer_sdf_mm=none), PLAN, None)
    assert a.structures[0].at_least_mm == np.inf
