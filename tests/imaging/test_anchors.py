"""Needles as a stiff body. LPS mm."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.imaging.anchors import NO_ANCHORS, Anchors

ZONES = np.array([[[0.0, 0.0, 0.0], [0.0, -30.0, 0.0]], [[12.0, 0.0, 2.0], [12.0, -30.0, 2.0]]])
PIVOT = np.array([6.0, -80.0, 1.0])


def swung(points: np.ndarray, degrees: float = 12.0) -> np.ndarray:
    """Turned about the left-right axis through the skin, as by a breath."""
    a = np.radians(degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    return PIVOT + (points - PIVOT) @ turn.T


def still(points: np.ndarray) -> np.ndarray:
    return np.zeros_like(points)


@pytest.mark.parametrize("count", [1, 2])
def test_tissue_beside_the_needles_swings_with_them(count: int) -> None:
    anchors = Anchors(ZONES[:count], swung(ZONES[:count])).held(still, 10.0)
    beside = np.random.default_rng(1).uniform((-10, -35, -10), (20, 5, 10), (50, 3))
    held, moved = anchors.pull(beside, 18.0)
    assert np.abs(beside + moved - swung(beside)).max() < 0.1
    assert held.min() > 1.0


def test_far_tissue_is_not_held() -> None:
    held, _ = Anchors(ZONES, ZONES).pull(np.array([[0.0, 0.0, 80.0]]), 18.0)
    assert held[0] < 1e-3


def test_needles_that_moved_apart_each_take_their_own_surroundings() -> None:
    seen = ZONES + np.array([[[0.0, 0.0, 1.5]], [[0.0, 0.0, -1.5]]])
    _, moved = Anchors(ZONES, seen).pull(np.array([[-12.0, -15.0, 0.0], [24.0, -15.0, 2.0]]), 6.0)
    assert moved[0, 2] == pytest.approx(1.5, abs=0.1)
    assert moved[1, 2] == pytest.approx(-1.5, abs=0.1)


@pytest.mark.requirement("REQ-MOTION")
@pytest.mark.parametrize(("slid_mm", "held"), [(3.0, 2), (9.0, 1), (-9.0, 1)])
def test_a_needle_pulled_along_itself_is_no_anchor(slid_mm: float, held: int) -> None:
    seen = ZONES.copy()
    seen[0, :, 1] -= slid_mm
    assert len(Anchors(ZONES, seen).held(still, 1.5).plan_lps_mm) == held


@pytest.mark.parametrize(("uneven_mm", "held"), [(5.0, 2), (0.8, 0)])
def test_needles_apart_from_the_picture_are_anchors_only_where_organs_slide(
    uneven_mm: float, held: int
) -> None:
    seen = ZONES + np.array([0.0, 2.0, -12.0])
    assert len(Anchors(ZONES, seen).held(still, uneven_mm).plan_lps_mm) == held


def test_without_needles_nothing_is_held() -> None:
    held, moved = NO_ANCHORS.held(still).pull(np.zeros((4, 3)), 18.0)
    assert not held.any()
    assert not moved.any()
