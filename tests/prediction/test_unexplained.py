"""Members whose edges move apart with time, evenly to both sides. mm, s."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.geometry import Grid
from monitor.prediction.unexplained import spread

GRID = Grid((-30.0, -30.0, -30.0), (3.0, 3.0, 3.0), (21, 21, 21))
BALL = (np.linalg.norm(GRID.points_lps_mm(), axis=-1) - 15.0).astype(np.float32)
DEGC = 4.0 * BALL - 4.5


def members(radii_mm: np.ndarray) -> np.ndarray:
    """Balls with an edge 6 mm wide."""
    return np.stack([np.clip(0.5 - (BALL + 15.0 - r) / 6.0, 0.0, 1.0) for r in radii_mm]).astype(
        np.float32
    )


def radii_mm(fraction: np.ndarray) -> np.ndarray:
    """Along x."""
    line = fraction[:, 10, 10, 10:]
    at = np.argmax(line < 0.5, axis=1)
    rows = np.arange(len(line))
    before, after = line[rows, at - 1], line[rows, at]
    return 3.0 * (at - 1 + (before - 0.5) / (before - after))


ALIKE = members(np.linspace(14.7, 15.3, 24))


@pytest.mark.parametrize(("elapsed_s", "sd_mm"), [(180.0, 0.55), (720.0, 1.1)])
def test_edges_move_apart_with_the_root_of_the_time(elapsed_s: float, sd_mm: float) -> None:
    after = radii_mm(spread(ALIKE, DEGC, elapsed_s, GRID))
    moved = after - radii_mm(ALIKE)
    assert moved.std() == pytest.approx(sd_mm, rel=0.1)
    assert abs(moved.mean()) < 0.05


def test_nothing_moves_at_the_scan_or_where_members_do_not_differ() -> None:
    np.testing.assert_array_equal(spread(ALIKE, DEGC, 0.0, GRID), ALIKE)
    same = members(np.full(24, -9.0))
    np.testing.assert_array_equal(spread(same, DEGC, 180.0, GRID), same)


def test_it_does_not_write_over_what_it_was_given() -> None:
    before = ALIKE.copy()
    spread(ALIKE, DEGC, 180.0, GRID)
    np.testing.assert_array_equal(ALIKE, before)
