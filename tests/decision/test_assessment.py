"""Coverage, margin and distances on shapes whose answer is known; what is not known is None."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from monitor.decision.assessment import assess
from monitor.decision.bodies import Body
from monitor.forecast_values import Forecast
from monitor.model import Reason, Status, StructureDistance
from tests.decision.facts import FAR
from tests.decision.shapes import GRID, PLAN, ball, ice, pinned


@pytest.mark.requirement("REQ-COVERAGE")
def test_concentric_balls() -> None:
    a = assess(ice((0, 0, 0), 9.0), PLAN, None)
    assert a.lesion_covered == 1.0
    assert a.min_margin_mm == pytest.approx(3.0, abs=0.1)
    assert a.margin_covered == pytest.approx((9 / 11) ** 3, abs=0.02)
    assert [s.distance_mm for s in a.structures] == pytest.approx([7.0, 35.0], abs=0.6)


@pytest.mark.requirement("REQ-COVERAGE")
def test_uncovered_side_is_found() -> None:
    a = assess(ice((-4, 0, 0), 7.0), PLAN, None)
    assert a.min_margin_mm == pytest.approx(-3.0, abs=0.1)
    assert a.min_margin_at_lps_mm == pytest.approx((6.0, 0.0, 0.0), abs=1.0)
    assert 0.5 < a.lesion_covered < 1.0


def test_where_the_margin_is_smallest() -> None:
    a = assess(ice((-2, -3, 1), 6.0), PLAN, None)
    farthest = np.array([2.0, 3.0, -1.0]) * 6.0 / np.sqrt(14.0)
    assert a.min_margin_at_lps_mm == pytest.approx(tuple(farthest), abs=0.5)


def test_a_point_on_the_edge_is_inside_and_a_point_of_no_weight_outside_counts() -> None:
    on_the_edge = pinned("lesion", (0.0, 0.0, 0.0), (9.0, 0.0, 0.0))
    a = assess(ice((0, 0, 0), 9.0), replace(PLAN, lesion=on_the_edge), None)
    assert (a.lesion_covered, a.min_margin_mm) == (1.0, 0.0)
    nearly = Body("lesion", np.array([[0.0, 0.0, 0.0], [10.0, 0.0, 0.0]]), np.array([1.0, 1e-20]))
    b = assess(ice((0, 0, 0), 9.0), replace(PLAN, lesion=nearly), None)
    assert 0.999 < b.lesion_covered < 1.0
    # As it is in the journal, and in all that is made of it.
    assert round(b.lesion_covered, 6) < 1.0


def test_an_edge_without_error_is_one_too() -> None:
    for error_mm in (0.0, 0.0005):
        assert assess(ice((0, 0, 0), 9.0, edge_error_mm=error_mm), PLAN, None).status is Status.OK


@pytest.mark.requirement("REQ-STRUCTURES")
def test_ice_inside_a_structure_is_negative() -> None:
    a = assess(ice((10, 0, 0), 9.0), PLAN, None)
    assert a.structures[0].distance_mm == pytest.approx(-3.0, abs=0.6)


BALLS = st.lists(
    st.tuples(st.tuples(*[st.floats(-9, 9)] * 3), st.floats(2.0, 16.0)), min_size=1, max_size=3
)


def lumps(balls: list) -> np.ndarray:
    """A level below which ice lies: some balls, grown into each other."""
    return np.min([ball(GRID, centre, radius) for centre, radius in balls], axis=0)


@pytest.mark.requirement("REQ-COVERAGE")
@settings(max_examples=max(settings().max_examples // 3, 8))
@given(BALLS, st.floats(0.0, 3.0), st.floats(0.0, 3.0), st.floats(0.0, 3.0))
def test_invariants(balls: list, less_mm: float, inner_mm: float, outer_mm: float) -> None:
    level = lumps(balls)
    assume(
        (level + np.float32(less_mm)).min() < 0.0
    )  # a surface that is nowhere says nothing of distances
    bounds = {
        "inner_sdf_mm": level + np.float32(inner_mm),
        "outer_sdf_mm": level - np.float32(outer_mm),
    }
    a = assess(ice((0, 0, 0), 5.0, sdf_mm=level, **bounds), PLAN, None)
    smaller = assess(ice((0, 0, 0), 5.0, sdf_mm=level + np.float32(less_mm)), PLAN, None)
    assert (a.lesion_covered < 1.0) == (a.min_margin_mm < 0.0)
    assert a.margin_covered <= a.lesion_covered
    assert smaller.lesion_covered <= a.lesion_covered
    assert smaller.margin_covered <= a.margin_covered
    assert smaller.min_margin_mm <= a.min_margin_mm
    for less, more in zip(a.structures, smaller.structures, strict=True):
        assert less.at_least_mm <= less.distance_mm <= more.distance_mm
    low, high = a.lesion_covered_interval
    assert 0.0 <= low <= a.lesion_covered <= high <= 1.0
    low, high = a.margin_covered_interval
    assert 0.0 <= low <= a.margin_covered <= high <= 1.0
    assert a.margin_covered_interval <= a.lesion_covered_interval


def test_no_ice_covers_nothing_and_has_no_margin() -> None:
    none = ice((0, 0, 0), 5.0, sdf_mm=np.full(GRID.shape_zyx, np.inf, np.float32), volume_ml=0.0)
    a = assess(none, PLAN, None)
    assert (a.lesion_covered, a.margin_covered, a.min_margin_mm) == (0.0, 0.0, None)
    assert a.structures[0].distance_mm == np.inf


def holed(name: str) -> np.ndarray:
    known = np.ones(GRID.shape_zyx, bool)
    known[{"lesion": 30, "margin": 39}[name]] = False
    return known


def dented(by_mm: float) -> np.ndarray:
    """A bound that is the edge itself but for one voxel."""
    bound = ball(GRID, (0, 0, 0), 15.0)
    bound[30, 30, 40] += by_mm
    return bound


NOTHING = np.full(GRID.shape_zyx, np.inf, np.float32)
WHOLE = ball(GRID, (0, 0, 0), 15.0)
REFUSED: dict[str, tuple[dict, str]] = {
    "refused": ({"status": Status.INVALID, "reasons": (Reason("why", ""),), "sdf_mm": None}, "why"),
    "invalid": ({"status": Status.INVALID, "reasons": (Reason("why", ""),)}, "why"),
    "no surface": ({"sdf_mm": None}, "not_proved"),
    "volume": ({"volume_ml": np.inf}, "not_proved"),
    "error": ({"edge_error_mm": np.inf}, "not_proved"),
    "negative error": ({"edge_error_mm": -0.001}, "not_proved"),
    "quality": ({"quality": np.inf}, "not_proved"),
    "time": ({"acquired_utc_s": -np.inf}, "not_proved"),
    "ice everywhere": ({"sdf_mm": -NOTHING}, "not_proved"),
    "half a surface": ({"sdf_mm": np.where(WHOLE < 20, WHOLE, np.inf)}, "not_proved"),
    "half an inner bound": ({"inner_sdf_mm": np.where(WHOLE < 20, WHOLE, np.inf)}, "not_proved"),
    "half an outer bound": ({"outer_sdf_mm": np.where(WHOLE < 20, WHOLE, np.inf)}, "not_proved"),
    "no outer bound": ({"outer_sdf_mm": NOTHING}, "not_proved"),
    "swapped bounds": (
        {"inner_sdf_mm": ball(GRID, (0, 0, 0), 18.0), "outer_sdf_mm": ball(GRID, (0, 0, 0), 13.0)},
        "not_proved",
    ),
    "ice smaller than its inner bound": (
        {"inner_sdf_mm": ball(GRID, (0, 0, 0), 15.001)},
        "not_proved",
    ),
    "ice larger than its outer bound": (
        {"outer_sdf_mm": ball(GRID, (0, 0, 0), 14.999)},
        "not_proved",
    ),
    "a bound beyond the edge at one voxel": ({"inner_sdf_mm": dented(-0.001)}, "not_proved"),
    "an edge beyond its bound at one voxel": ({"outer_sdf_mm": dented(0.001)}, "not_proved"),
    "no ice of some volume": ({"sdf_mm": NOTHING, "volume_ml": 0.001}, "not_proved"),
    "no ice with a bound": (
        {"sdf_mm": NOTHING, "volume_ml": 0.0, "outer_sdf_mm": WHOLE},
        "not_proved",
    ),
    "no ice with half a bound": (
        {"sdf_mm": NOTHING, "volume_ml": 0.0, "outer_sdf_mm": np.where(WHOLE < 20, WHOLE, np.inf)},
        "not_proved",
    ),
    "unseen lesion": ({"known": holed("lesion")}, "lesion_outside_scan"),
}


@pytest.mark.requirement("REQ-COVERAGE")
@pytest.mark.parametrize(("change", "code"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_proved_is_not_shown(change: dict, code: str) -> None:
    a = assess(ice((0, 0, 0), 15.0, **change), PLAN, None)
    assert (a.volume_id, a.status, a.margin_goal_mm) == ("v002", Status.INVALID, 5.0)
    assert [r.code for r in a.reasons] == [code]
    values = (
        a.lesion_covered, a.margin_covered, a.min_margin_mm, a.min_margin_at_lps_mm, a.margin_error_mm,
        a.ice_volume_ml, a.time_to_margin_s, a.lesion_covered_interval, a.margin_covered_interval,
    )  # fmt: skip
    assert values == (None,) * 9
    assert a.structures == (
        StructureDistance("bowel", None, 5.0), StructureDistance("nerve", None, 5.0),
    )  # fmt: skip


def test_why_it_is_not_proved_is_said() -> None:
    (reason,) = assess(ice((0, 0, 0), 15.0, sdf_mm=None), PLAN, None).reasons
    assert reason.text == "The measurement contradicts itself or holds what is no number."
    unseen = ice((0, 0, 0), 15.0, known=holed("lesion"), reasons=(Reason("edge_hidden", ""),))
    a = assess(unseen, PLAN, None)
    assert [r.code for r in a.reasons] == ["edge_hidden", "lesion_outside_scan"]
    assert a.reasons[1].text == "Part of the lesion was not scanned."
    assert a.as_of_utc_s == 100.0


def test_an_unscanned_part_of_the_margin_is_said() -> None:
    a = assess(ice((0, 0, 0), 15.0, known=holed("margin")), PLAN, None)
    assert a.status is Status.DEGRADED
    assert a.reasons == (
        Reason("margin_outside_scan", "Part of the margin around the lesion was not scanned."),
    )


@pytest.mark.requirement("REQ-STRUCTURES")
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


def test_good_news_and_its_bounds_by_hand() -> None:
    """Ice of 9 mm around a lesion of 6, with 1 mm of error on either side, and a margin of 5."""
    a = assess(ice((0, 0, 0), 9.0, edge_error_mm=1.0 / 1.645), PLAN, None)
    assert (a.volume_id, a.as_of_utc_s, a.status, a.reasons) == ("v002", 100.0, Status.OK, ())
    assert (a.margin_goal_mm, a.ice_volume_ml) == (5.0, pytest.approx(3.054, abs=1e-3))
    assert a.lesion_covered_interval == (1.0, 1.0)
    assert a.margin_covered_interval == pytest.approx(((8 / 11) ** 3, (10 / 11) ** 3), abs=0.02)
    assert a.margin_error_mm == pytest.approx(1.0 / 1.645)
    assert a.structures[0].limit_mm == 5.0
    assert a.structures[0].name == "bowel"
    less = assess(ice((0, 0, 0), 5.5, edge_error_mm=1.0 / 1.645), PLAN, None)
    low, high = less.lesion_covered_interval
    assert (low, high) == (pytest.approx((4.5 / 6) ** 3, abs=0.02), 1.0)
    assert less.margin_covered_interval[0] == pytest.approx((4.5 / 11) ** 3, abs=0.02)
    assert less.margin_covered_interval[1] == pytest.approx((6.5 / 11) ** 3, abs=0.02)


def test_bounds_that_the_measurement_has_come_before_its_error() -> None:
    inner, outer = ball(GRID, (0, 0, 0), 5.0), ball(GRID, (0, 0, 0), 8.29)
    a = assess(ice((0, 0, 0), 6.5, inner_sdf_mm=inner, outer_sdf_mm=outer), PLAN, None)
    assert a.lesion_covered_interval == (pytest.approx((5 / 6) ** 3, abs=0.02), 1.0)
    assert a.margin_covered_interval[1] == pytest.approx((8.29 / 11) ** 3, abs=0.02)
    assert a.margin_error_mm == pytest.approx(3.29 / 3.29, abs=1e-4)
    for half in ({"inner_sdf_mm": inner}, {"outer_sdf_mm": outer}):
        assert assess(ice((0, 0, 0), 6.5, **half), PLAN, None).margin_error_mm == 0.5


def test_bounds_on_the_edge_itself_are_bounds() -> None:
    edge = ball(GRID, (0, 0, 0), 9.0)
    a = assess(ice((0, 0, 0), 9.0, inner_sdf_mm=edge, outer_sdf_mm=edge.copy()), PLAN, None)
    assert (a.status, a.lesion_covered_interval) == (Status.OK, (1.0, 1.0))


@settings(max_examples=max(settings().max_examples // 3, 8))
@given(st.floats(-3.0, 3.0), st.floats(-3.0, 3.0))
def test_nothing_is_told_of_bounds_that_do_not_hold_the_edge(inner: float, outer: float) -> None:
    edge = ball(GRID, (0, 0, 0), 9.0)
    bounds = {
        "inner_sdf_mm": edge + np.float32(inner),
        "outer_sdf_mm": edge - np.float32(outer),
    }
    a = assess(ice((0, 0, 0), 9.0, **bounds), PLAN, None)
    hold = bool((bounds["outer_sdf_mm"] <= edge).all() and (edge <= bounds["inner_sdf_mm"]).all())
    assert (a.status is Status.INVALID) == (a.lesion_covered is None) == (not hold)


def test_a_margin_inside_a_lesion_that_is_not_covered_counts_for_nothing() -> None:
    """The lesion's part inside the ice is smaller than that of lesion and margin together."""
    inner, hollow, outer = (
        np.maximum(ball(GRID, (0, 0, 0), 14.0), -ball(GRID, (0, 0, 0), hole_mm))
        for hole_mm in (5.7, 5.5, 5.0)
    )
    made = ice((0, 0, 0), 9.0, sdf_mm=hollow, inner_sdf_mm=inner, outer_sdf_mm=outer)
    a = assess(made, PLAN, None)
    assert a.margin_covered == a.lesion_covered < 0.5
    low, high = a.lesion_covered_interval
    assert low < a.lesion_covered < high < 0.5
    assert a.margin_covered_interval == (low, high)


@pytest.mark.parametrize(("error_mm", "doubted"), [(1.5, False), (1.5001, True), (2.0, True)])
def test_an_edge_too_uncertain_to_tell_margins_apart_is_said(
    error_mm: float, doubted: bool
) -> None:
    a = assess(ice((0, 0, 0), 9.0, edge_error_mm=error_mm), PLAN, None)
    assert a.status is (Status.DEGRADED if doubted else Status.OK)
    text = f"Where the margin is smallest the ice edge is uncertain by {error_mm:.1f} mm."
    assert a.reasons == ((Reason("margin_uncertain", text),) if doubted else ())


def test_the_error_is_that_of_where_the_margin_is_smallest() -> None:
    """Bounds 1 mm apart on the right and 5 on the left; ice shifted to the right, and to the left."""
    x = GRID.points_lps_mm()[..., 0]
    half_mm = np.where(x > 0, 0.5, 2.5).astype(np.float32)
    for shift, apart_mm in ((-4.0, 1.0), (4.0, 5.0)):
        sdf = ball(GRID, (shift, 0, 0), 9.0)
        made = ice(
            (0, 0, 0), 9.0, sdf_mm=sdf, inner_sdf_mm=sdf + half_mm, outer_sdf_mm=sdf - half_mm
        )
        assert assess(made, PLAN, None).margin_error_mm == pytest.approx(apart_mm / 3.29, abs=1e-3)


def test_doubts_add_to_what_the_measurement_says_and_never_better_it() -> None:
    doubted = {"status": Status.DEGRADED, "reasons": (Reason("edge_hidden", ""),)}
    a = assess(ice((0, 0, 0), 9.0, **doubted), PLAN, None)
    assert (a.status, [r.code for r in a.reasons]) == (Status.DEGRADED, ["edge_hidden"])
    more = assess(
        ice((0, 0, 0), 9.0, edge_error_mm=2.0, known=holed("margin"), **doubted), PLAN, None
    )
    assert [r.code for r in more.reasons] == [
        "edge_hidden",
        "margin_outside_scan",
        "margin_uncertain",
    ]


def test_without_ice_the_error_and_the_intervals() -> None:
    a = assess(ice((0, 0, 0), 9.0, sdf_mm=NOTHING, volume_ml=0.0, edge_error_mm=2.0), PLAN, None)
    assert (a.status, a.margin_error_mm, a.min_margin_at_lps_mm) == (Status.OK, 2.0, None)
    assert a.lesion_covered_interval == a.margin_covered_interval == (0.0, 0.0)
    assert a.ice_volume_ml == 0.0


# --------------------------------------------------------------------------- what a forecast lends


@pytest.mark.parametrize(
    ("forecast", "lent"),
    [(FAR, (60.0, 120.0)), (replace(FAR, from_volume_id="v001"), None), (None, None)],
)
def test_only_a_forecast_from_this_scan_lends_its_times(
    forecast: Forecast | None, lent: object
) -> None:
    assert assess(ice((0, 0, 0), 9.0), PLAN, forecast).time_to_margin_s == lent


def test_the_plan_itself_is_looked_at() -> None:
    nowhere = replace(PLAN, margin_goal_mm=np.nan)
    assert assess(ice((0, 0, 0), 9.0), nowhere, None).reasons[0].code == "not_proved"
