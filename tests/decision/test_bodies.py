"""Bodies as points: few enough, of whole weight, and where the body is."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from monitor.decision.bodies import Body, around, body, sdf_on
from monitor.geometry import Grid
from monitor.model import Role, Structure
from tests.decision.shapes import GRID, ball


def structure(radius_mm: float, grid: Grid = GRID) -> Structure:
    return Structure("bowel", Role.CRITICAL, grid, ball(grid, (0, 0, 0), radius_mm), 5.0)


def test_a_large_body_is_thinned_and_keeps_its_extent_and_weight() -> None:
    fine = Grid((-30.0, -30.0, -30.0), (0.5, 0.5, 0.5), (121, 121, 121))
    made = body(structure(25.0, fine))
    assert 60_000 <= len(made.points_lps_mm) < 120_000
    assert made.weights.sum() == pytest.approx(1.0)
    assert np.linalg.norm(made.points_lps_mm, axis=1).max() == pytest.approx(25.0, abs=0.1)
    assert made.limit_mm == 5.0


def test_of_a_body_only_what_is_near_the_grid_counts() -> None:
    shifted = Grid((80.0, -5.0, -5.0), (1.0, 1.0, 1.0), (11, 11, 11))
    near = body(structure(25.0), within=shifted)
    assert near.points_lps_mm[:, 0].min() >= 20.0
    assert len(near.points_lps_mm) < len(body(structure(25.0)).points_lps_mm)


def test_on_another_grid_the_distance_is_the_same() -> None:
    other = Grid((-40.0, -40.0, -40.0), (2.0, 2.0, 2.0), (41, 41, 41))
    found = sdf_on(structure(10.0), other)
    assert np.abs(found - ball(other, (0, 0, 0), 10.0)).max() < 0.35


def test_volume_and_surface_are_apart() -> None:
    made = body(structure(10.0))
    assert len(made.volume_lps_mm) + len(made.surface_lps_mm) == len(made.points_lps_mm)
    assert np.abs(np.linalg.norm(made.surface_lps_mm, axis=1) - 10.0).max() < 0.1
    assert len(made.volume_lps_mm) == pytest.approx(4.0 / 3.0 * np.pi * 10.0**3, rel=0.02)


def test_where_all_points_are_alike_all_are_of_the_surface() -> None:
    alike = Body("bowel", np.eye(3), np.full(3, 1.0 / 3.0))
    np.testing.assert_array_equal(alike.surface_lps_mm, alike.points_lps_mm)


def test_a_structure_that_does_not_come_near_has_no_surface_there() -> None:
    box = Grid((200.0, 200.0, 200.0), (1.0, 1.0, 1.0), (5, 5, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert around(structure(10.0), box, 5.0).shape == (0, 3)


def test_the_surface_at_a_limit_lies_that_far_around_and_in_the_box() -> None:
    box = Grid((0.0, -30.0, -30.0), (1.0, 1.0, 1.0), (31, 61, 61))
    points = around(structure(10.0), box, 5.0)
    assert len(points) > 50
    assert np.abs(np.linalg.norm(points, axis=1) - 15.0).max() < 0.4
    assert points[:, 0].min() >= 0.0
