"""Bodies in three dimensions: where rays end, what hides what, and the pane that shows them. LPS mm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import view_samples as samples
from PyQt5.QtCore import Qt
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import QApplication
from view_pixels import pixels

from monitor.geometry import Grid
from monitor.snapshot import Snapshot
from monitor.view.solid import Camera, Seen, body_of, picture, seen_of
from monitor.view.views import Views

Make = Callable[..., Any]
CENTRE, RADIUS = (5.0, -20.0, 40.0), 12.0
GRID = Grid((-30.0, -60.0, 0.0), (1.0, 1.5, 2.0), (41, 54, 71))


def ball(centre: tuple[float, ...] = CENTRE, radius: float = RADIUS) -> np.ndarray:
    return np.linalg.norm(GRID.points_lps_mm() - np.array(centre), axis=-1) - radius


def seen(field: np.ndarray, camera: Camera, level: float = 0.0, size: int = 121) -> Seen:
    body = body_of(field, GRID, camera.centre, camera.radius_mm, level)
    assert body is not None
    return seen_of(body, camera, size)


@pytest.mark.parametrize("azimuth", [0.0, 37.0, 180.0, 300.0])
@pytest.mark.parametrize("elevation", [-60.0, 0.0, 20.0, 75.0])
def test_a_ball_is_a_ball_from_everywhere(azimuth: float, elevation: float) -> None:
    camera = Camera(CENTRE, 25.0, azimuth, elevation)
    s = seen(ball(), camera)
    across = ((np.arange(121) + 0.5) / 121 * 2 - 1) * 25.0
    far = np.hypot(*np.meshgrid(across, across))
    inside, outside = far < RADIUS - 1.0, far > RADIUS + 1.2
    assert np.isfinite(s.near_mm[inside]).all()
    assert np.isnan(s.near_mm[outside]).all()
    expected = np.sqrt(RADIUS**2 - far[inside] ** 2)
    assert np.abs(s.near_mm[inside] - expected).max() < 1.0
    middle = far < 4.0
    assert s.facing[middle].min() > 0.9


def test_a_level_is_a_shell_so_far_out() -> None:
    s = seen(ball(), Camera(CENTRE, 25.0), level=5.0)
    assert np.nanmax(s.near_mm) == pytest.approx(RADIUS + 5.0, abs=0.6)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "way"),
    [
        (0.0, 0.0, (0.0, -1.0, 0.0)), (90.0, 0.0, (1.0, 0.0, 0.0)), (180.0, 0.0, (0.0, 1.0, 0.0)),
        (0.0, 75.0, (0.0, -0.26, 0.97)),
    ],
)  # fmt: skip
def test_the_camera_looks_from_where_it_says(
    azimuth: float, elevation: float, way: tuple[float, ...]
) -> None:
    camera = Camera(CENTRE, 25.0, azimuth, elevation)
    right, up, towards = camera.axes()
    assert towards == pytest.approx(np.array(way), abs=0.01)
    assert np.cross(right, up) == pytest.approx(towards)
    assert camera.seen(np.array(CENTRE) + 3 * towards) == pytest.approx([0.0, 0.0, 3.0])
    assert up[2] >= 0.0  # the head is above


@pytest.mark.requirement("REQ-ORIENTATION")
def test_from_in_front_the_patients_left_is_on_the_right() -> None:
    right, _, _ = Camera(CENTRE, 25.0, 0.0, 0.0).axes()
    assert right == pytest.approx([1.0, 0.0, 0.0])


def test_what_lies_outside_the_ball_is_not_seen() -> None:
    assert np.isnan(seen(ball((35.0, -20.0, 40.0), 5.0), Camera(CENTRE, 15.0)).near_mm).all()
    assert body_of(ball(), GRID, (500.0, 0.0, 0.0), 15.0, 0.0) is None


def test_the_nearer_body_hides_the_farther() -> None:
    def flat(near: float) -> Seen:
        return Seen(np.full((2, 2), near, np.float32), np.ones((2, 2), np.float32))

    red, blue = (200, 0, 0), (0, 0, 200)
    for layers in ([(flat(5.0), red, 1.0, 1.0), (flat(1.0), blue, 1.0, 1.0)],
                   [(flat(1.0), blue, 1.0, 1.0), (flat(5.0), red, 1.0, 1.0)]):  # fmt: skip
        assert (picture(layers) == red).all()
    through = picture([(flat(5.0), red, 0.25, 0.25), (flat(1.0), blue, 1.0, 1.0)])
    assert (through[0, 0] == (50, 0, 150)).all()
    nothing = Seen(np.full((2, 2), np.nan, np.float32), np.zeros((2, 2), np.float32))
    assert (picture([(nothing, red, 1.0, 1.0)]) == 0).all()


# --------------------------------------------------------------------------- the pane


def solid(window: Any) -> Any:
    """The window, its third place showing bodies, all of them made."""
    while window.scene.views.third != "solid":
        window.show_views(Views.next_third)
    settle(window)
    return window


def settle(window: Any) -> None:
    while window.turns.waiting:
        QApplication.processEvents()


def colours(window: Any) -> dict[str, int]:
    """How many pixels of the pane are yellow (lesion, margin) and bluish (ice over black or lesion)."""
    image = pixels(window.solid).astype(int)
    r, g, b = image[..., 0], image[..., 1], image[..., 2]
    return {"yellow": int(((r > 90) & (g > 80) & (b < 0.6 * r)).sum()),
            "blue": int(((b > 50) & (b > 1.3 * r)).sum())}  # fmt: skip


def test_lesion_and_ice_are_there_and_ice_that_may_not_be_shown_is_not(
    normal: Snapshot, screen: Make
) -> None:
    there = colours(solid(screen(normal).window))
    assert min(there.values()) > 500
    window = solid(screen(samples.states(normal)["invalid"]).window)
    assert colours(window)["blue"] < 20
    assert colours(window)["yellow"] > 500


def test_a_blocked_screen_shows_no_bodies(normal: Snapshot, screen: Make) -> None:
    window = solid(screen(samples.states(normal)["blocked"]).window)
    assert sum(colours(window).values()) < 50


def test_nothing_of_an_older_snapshot_is_painted(normal: Snapshot, screen: Make) -> None:
    window = solid(screen(normal).window)
    assert window.solid.made is not None
    moved = replace(normal, ice_sdf=normal.history[1].ice_sdf)
    window.show_snapshot(moved)
    assert window.solid.made is None
    settle(window)
    assert window.solid.made is not None


def test_wheel_and_arrows_turn_it_and_scroll_otherwise(normal: Snapshot, screen: Make) -> None:
    window = solid(screen(normal).window)
    before, azimuth, cursor = pixels(window.solid), window.solid.azimuth_deg, window.scene.cursor()
    QTest.keyClick(window, Qt.Key_Up)
    settle(window)
    assert window.solid.azimuth_deg == azimuth + 15.0
    assert window.scene.cursor() == cursor
    assert (np.abs(pixels(window.solid) - before) > 30).any(-1).mean() > 0.005
    QTest.keyClick(window, Qt.Key_Down, Qt.ShiftModifier)
    assert window.solid.elevation_deg == 5.0
    QTest.keyClick(window, Qt.Key_PageUp)
    assert window.scene.cursor() != cursor
    window.show_views(Views.next_third)
    cursor = window.scene.cursor()
    QTest.keyClick(window, Qt.Key_Up)
    assert window.scene.cursor() != cursor


def test_it_is_made_a_body_to_a_turn(normal: Snapshot, screen: Make) -> None:
    window = solid(screen(normal).window)
    window.solid.turn(1)
    turns = 0
    while window.turns.waiting:
        QApplication.processEvents()
        turns += 1
    assert turns >= 4
