"""Ice, lesion and structures at the edge of the analysis grid and beyond it. LPS mm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monitor.decision.assessment import Plan, assess
from monitor.decision.bodies import Body, body
from monitor.geometry import Grid
from monitor.model import Role, Status, Structure, StructureDistance
from tests.decision.shapes import GRID, PLAN, ball, ice, pinned


def beside(structure: Body) -> Plan:
    return replace(PLAN, structures=(structure,))


def test_beyond_the_grid_the_distance_is_to_the_surface_in_it() -> None:
    a = assess(
        ice((0, 0, 0), 9.0), beside(pinned("aorta", (40.0, 0.0, 0.0), (0.0, 0.0, 45.0))), None
    )
    assert a.structures[0].distance_mm == pytest.approx(31.0, abs=0.51)
    assert a.structures[0].at_least_mm == pytest.approx(31.0 - 0.5 * 1.645, abs=0.51)


@pytest.mark.parametrize(
    ("inside", "outside", "nearest_mm"),
    [
        ((20.0, 0.0, 0.0), (0.0, 0.0, 35.0), 11.0),
        ((0.0, 0.0, -29.0), (31.0, 0.0, 0.0), 20.0),
        ((0.0, -29.0, 0.0), (30.5, 0.0, 0.0), 20.0),
        ((0.0, 0.0, 0.0), (31.0, 0.0, 0.0), -9.0),
        ((29.0, 20.0, 0.0), (31.0, 0.0, 0.0), 22.0),
    ],
)
def test_of_a_structure_on_the_grid_and_beyond_it_the_nearest_point_counts(
    inside: tuple[float, float, float], outside: tuple[float, float, float], nearest_mm: float
) -> None:
    there = beside(pinned("bowel", outside, inside))
    (found,) = assess(ice((0, 0, 0), 9.0), there, None).structures
    assert found.distance_mm == pytest.approx(nearest_mm, abs=0.51)
    assert found.at_least_mm == pytest.approx(nearest_mm - 0.5 * 1.645, abs=0.51)


@pytest.mark.parametrize(
    "point", [(31.0, 0.0, 0.0), (-31.0, 0.0, 0.0), (0.0, 0.0, 31.0), (0.0, -31.0, 0.0)]
)
def test_ice_that_leaves_the_grid_towards_a_structure_is_at_an_unknown_distance(
    point: tuple[float, float, float],
) -> None:
    there = pinned("aorta", point)
    leaving = ball(GRID, (0, 0, 0), 30.5)
    (found,) = assess(ice((0, 0, 0), 9.0, sdf_mm=leaving), beside(there), None).structures
    assert found == StructureDistance("aorta", None, 5.0)
    assert found.room_mm == -np.inf
    near_it = ball(GRID, (0, 0, 0), 29.5)
    (known,) = assess(ice((0, 0, 0), 9.0, sdf_mm=near_it), beside(there), None).structures
    assert known.distance_mm == pytest.approx(1.5, abs=0.51)
    bounded = ice((0, 0, 0), 9.0, outer_sdf_mm=leaving)
    assert assess(bounded, beside(there), None).structures == (
        StructureDistance("aorta", None, 5.0),
    )


def test_ice_on_the_rim_of_the_grid_may_go_on() -> None:
    there = pinned("aorta", (31.0, 0.0, 0.0))
    touching = ball(GRID, (0, 0, 0), 30.0)
    assert touching[30, 30, 60] == 0.0
    (found,) = assess(ice((0, 0, 0), 9.0, sdf_mm=touching), beside(there), None).structures
    assert found.distance_mm is None


@pytest.mark.parametrize(("above_mm", "surface_mm"), [(1.49, 1.49), (1.5, 1.5), (1.51, -1.49)])
def test_the_surface_is_where_voxels_are_within_half_the_longest_spacing(
    above_mm: float, surface_mm: float
) -> None:
    """A flat sheet of ice in thick slices; its top lies below one slice by ``above_mm``."""
    thick = Grid((-10.0, -10.0, -30.0), (1.0, 1.0, 3.0), (21, 21, 21))
    top_mm = 3.0 - above_mm
    sdf = (thick.points_lps_mm()[..., 2] - top_mm).astype(np.float32)
    known = np.ones(thick.shape_zyx, bool)
    made = ice((0, 0, 0), 9.0, grid=thick, sdf_mm=sdf, known=known)
    (found,) = assess(made, beside(pinned("aorta", (0.0, 0.0, 40.0))), None).structures
    assert found.distance_mm == pytest.approx(40.0 - top_mm - surface_mm, abs=1e-3)


def test_a_lesion_at_the_rim_where_the_ice_goes_on_is_not_known_to_be_covered() -> None:
    rim = pinned("lesion", (0.0, 0.0, 0.0), (30.4, 0.0, 0.0))
    leaving = ice((0, 0, 0), 9.0, sdf_mm=ball(GRID, (0, 0, 0), 30.5))
    a = assess(leaving, replace(PLAN, lesion=rim), None)
    assert a.lesion_covered < 1.0
    assert a.min_margin_mm is None


@pytest.mark.parametrize(
    ("of", "level"), [("outer_sdf_mm", -20.0), ("outer_sdf_mm", 20.0), ("sdf_mm", 20.0)]
)
def test_without_a_surface_in_the_grid_what_lies_beyond_it_is_at_an_unknown_distance(
    of: str, level: float
) -> None:
    flat = np.full(GRID.shape_zyx, level, np.float32)
    measured = ice((0, 0, 0), 9.0, **{of: flat})
    (found,) = assess(measured, beside(pinned("aorta", (40.0, 0.0, 0.0))), None).structures
    assert found.distance_mm is None


def test_a_structure_without_points_is_at_an_unknown_distance() -> None:
    (found,) = assess(ice((0, 0, 0), 9.0), beside(pinned("aorta")), None).structures
    assert found == StructureDistance("aorta", None, 5.0)


def test_of_a_structure_the_nearest_point_counts() -> None:
    (found,) = assess(
        ice((0, 0, 0), 9.0), beside(pinned("aorta", (25.0, 0.0, 0.0), (0.0, 14.0, 0.0))), None
    ).structures
    assert found.distance_mm == pytest.approx(5.0, abs=1e-3)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("at_mm", [-30.6, 30.6])
def test_a_lesion_that_reaches_beyond_the_grid_was_not_scanned_whole(
    axis: int, at_mm: float
) -> None:
    point = np.zeros(3)
    point[axis] = at_mm
    inside = pinned("lesion", (0.0, 0.0, 0.0), tuple(point / 1.01))
    beyond = pinned("lesion", (0.0, 0.0, 0.0), tuple(point))
    assert assess(ice((0, 0, 0), 9.0), replace(PLAN, lesion=inside), None).status is Status.OK
    a = assess(ice((0, 0, 0), 9.0), replace(PLAN, lesion=beyond), None)
    assert [r.code for r in a.reasons] == ["lesion_outside_scan"]
    around = assess(ice((0, 0, 0), 9.0), replace(PLAN, lesion_and_margin=beyond), None)
    assert [r.code for r in around.reasons] == ["margin_outside_scan"]
    assert around.margin_covered == pytest.approx(0.0)


def test_where_the_bounds_cannot_be_read_the_measurements_own_error_is_said() -> None:
    """A lesion point half a voxel beyond the outermost centres was scanned but has no bounds."""
    sdf = ball(GRID, (0, 0, 0), 9.0)
    made = ice((0, 0, 0), 9.0, inner_sdf_mm=sdf + 1, outer_sdf_mm=sdf - 1, edge_error_mm=0.7)
    rim = pinned("lesion", (0.0, 0.0, 0.0), (30.4, 0.0, 0.0))
    a = assess(made, replace(PLAN, lesion=rim), None)
    assert a.margin_error_mm == 0.7
    assert a.min_margin_mm == pytest.approx(-21.4, abs=0.6)


def test_a_structure_far_from_the_grid_is_known_to_be_far() -> None:
    away = Grid((150.0, -8.0, -8.0), (0.5, 0.5, 0.5), (33, 33, 33))
    cord = Structure("cord", Role.CRITICAL, away, ball(away, (158.0, 0, 0), 4.0), 5.0)
    (found,) = assess(ice((0, 0, 0), 9.0), beside(body(cord, within=GRID)), None).structures
    assert found.distance_mm == pytest.approx(145.0, abs=0.6)
