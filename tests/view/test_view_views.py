"""Ways of showing: ice window, subtraction, slab, margin map. HU, LPS mm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import view_samples as samples
from PyQt5.QtCore import QEvent, Qt
from PyQt5.QtGui import QKeyEvent
from PyQt5.QtWidgets import QApplication
from view_pixels import pixels

from monitor.snapshot import Snapshot
from monitor.view.captions import captions
from monitor.view.images import Stack, difference
from monitor.view.planes import AXIAL
from monitor.view.surface_map import ROWS, on_map, surface_map

Make = Callable[..., Any]
EXTENT = (-40.0, 80.0, -140.0, -20.0)


def press(screen: Any, key: Any, repeat: bool = False) -> None:
    event = QKeyEvent(QEvent.KeyPress, key, Qt.NoModifier, "", repeat)
    QApplication.sendEvent(screen.window, event)


def ball(centre: Any, radius: float) -> np.ndarray:
    away = np.linalg.norm(samples.GRID.points_lps_mm() - np.array(centre), axis=-1)
    return (away - radius).astype(np.float32)


# --------------------------------------------------------------------------- slab


def test_a_slab_is_the_mean_and_never_the_brightest_or_darkest() -> None:
    geometry = samples.aligned_geometry((21, 40, 40), (1.0, 3.0, 3.0))
    hu = np.zeros((21, 40, 40), np.int16)
    hu[10], hu[11] = 300, -200
    stack = Stack(hu, geometry)
    at = geometry.origin_lps_mm[2] + 10.0
    for slab_mm, count in ((1.0, 1), (3.0, 3), (5.0, 5), (10.0, 11)):
        picture = stack.picture(AXIAL, at, EXTENT, slab_mm)
        assert picture is not None
        expected = 300.0 if count == 1 else 100.0 / count
        assert picture.hu.mean() == pytest.approx(expected, abs=0.5)
        assert picture.slab_mm == pytest.approx(count, abs=1.0)


def test_a_tilted_stack_is_averaged_over_the_slab_too() -> None:
    c, s = np.cos(0.2), np.sin(0.2)
    g = samples.aligned_geometry((60, 60, 60), (1.0, 2.0, 2.0))
    tilted = replace(g, column_direction=(0.0, c, s), slice_axis=(0.0, -s, c))
    z = samples.points(tilted)[..., 2]
    stack = Stack((10.0 * z).astype(np.int16), tilted)
    assert stack.aligned is None
    for slab_mm in (3.0, 10.0):
        picture = stack.picture(AXIAL, 12.0, (0.0, 20.0, -80.0, -60.0), slab_mm)
        assert picture is not None
        assert np.nanmean(picture.hu) == pytest.approx(120.0, abs=1.5), (
            "a ramp's mean is its middle"
        )


# --------------------------------------------------------------------------- subtraction


def test_what_has_only_moved_subtracts_to_nothing() -> None:
    geometry = samples.aligned_geometry((9, 80, 80), (3.0, 1.5, 1.5))
    p = samples.points(geometry)

    def hu(x0: float) -> np.ndarray:
        return (100 * np.exp(-((p[..., 0] - x0) ** 2 + (p[..., 1] + 60) ** 2) / 400)).astype(
            np.int16
        )

    now, before = Stack(hu(6.0), geometry), Stack(hu(0.0), geometry)
    a = now.picture(AXIAL, 12.0, (-30.0, 30.0, -90.0, -30.0))
    b = before.picture(AXIAL, 12.0, (-36.0, 24.0, -90.0, -30.0))
    assert a is not None
    assert b is not None
    moved = difference(a, b, (6.0, 0.0)).hu
    assert np.nanmax(np.abs(moved)) < 3.0
    assert np.nanmax(np.abs(difference(a, b, (0.0, 0.0)).hu)) > 20.0


def said(s: Any) -> list[str]:
    """What stands in the corner of the axial plane."""
    pane, scene = s.window.panes["axial"], s.window.scene
    return captions(
        scene, pane.plane, True, scene.cursor(), pane.slab_mm, pane._subtracted, pane.model.language
    )


def test_subtraction_shows_the_ice_alone_and_says_what_it_is(
    normal: Snapshot, screen: Make
) -> None:
    s = screen(replace(normal, needles=(), forecast_temperature=None, structure_sdfs=()))
    press(s, Qt.Key_S)
    pane = s.window.panes["axial"]
    assert "CT − baseline" in said(s)
    frame = pane.frame()
    shot = pixels(pane).mean(-1)

    def grey_at(x: float, y: float) -> float:
        column, row = frame.to_px(np.array([x, y, 12.0]))
        return float(
            np.median(shot[int(row) - 3 : int(row) + 4, int(column) - 3 : int(column) + 4])
        )

    assert grey_at(20.0, -76.0) < grey_at(55.0, -76.0) - 60, "ice is dark, unchanged tissue light"
    assert abs(grey_at(55.0, -76.0) - grey_at(-25.0, -80.0)) < 12, "both unchanged"
    press(s, Qt.Key_S, repeat=True)
    assert s.window.scene.views.subtraction, "holding the key down does not toggle"


def test_without_a_baseline_the_ct_itself_is_shown_and_that_is_said(
    normal: Snapshot, screen: Make
) -> None:
    s = screen(replace(normal, history=()))
    plain = pixels(s.window.panes["coronal"])
    press(s, Qt.Key_S)
    assert "no baseline to subtract" in said(s)
    assert np.abs(pixels(s.window.panes["coronal"]) - plain).mean() < 1.0


def test_the_ice_window_and_the_slab_are_written_on_the_plane(
    normal: Snapshot, screen: Make
) -> None:
    s = screen(normal)

    def caption() -> str:
        return said(s)[1]

    assert caption() == "L 20 / W 300 · slab 3 mm"
    press(s, Qt.Key_W)
    assert caption() == "L 15 / W 175 · slab 3 mm"
    press(s, Qt.Key_T)
    press(s, Qt.Key_T)
    assert caption() == "L 15 / W 175 · slab 9 mm", "three slices of 3 mm come nearest to 10"


# --------------------------------------------------------------------------- the margin map


def test_concentric_balls_have_one_margin_everywhere() -> None:
    made = surface_map(
        ball(samples.LESION, 11.0), ball(samples.LESION, 15.5), samples.GRID, samples.LESION
    )
    known = made.margin_mm[np.isfinite(made.margin_mm)]
    assert len(known) > 0.7 * made.margin_mm.size
    assert known == pytest.approx(np.full(len(known), 4.5), abs=0.3)


@pytest.mark.parametrize(
    "towards", [(1, 0, 0), (-1, 0, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1), (1, -1, 1)]
)
def test_the_worst_point_of_the_map_lies_opposite_to_where_the_ice_has_gone(
    towards: tuple[int, int, int],
) -> None:
    shift = 3.0 * np.array(towards) / np.linalg.norm(towards)
    made = surface_map(
        ball(samples.LESION, 11.0),
        ball(samples.LESION + shift, 15.5),
        samples.GRID,
        samples.LESION,
    )
    assert np.nanmin(made.margin_mm) == pytest.approx(1.5, abs=0.4)
    row, column = np.unravel_index(np.nanargmin(made.margin_mm), made.margin_mm.shape)
    far = tuple(np.array(samples.LESION) - 11.0 * shift)
    x, y = on_map(far, samples.LESION)  # type: ignore[misc]
    rows, columns = made.margin_mm.shape
    assert (1 - y) / 2 * rows == pytest.approx(row + 0.5, abs=2.5)
    seen = (x + 1) / 2 * columns - (column + 0.5)
    if abs(y) < 0.9:  # a pole has no longitude
        assert min(abs(seen), columns - abs(seen)) < 6.0, "the two ends of a map are one"


def test_patient_right_is_on_the_left_of_the_map_and_superior_on_top() -> None:
    c = (0.0, 0.0, 0.0)
    assert on_map((-5.0, 0.0, 0.0), c) == pytest.approx((-0.5, 0.0))
    assert on_map((0.0, -5.0, 0.0), c) == pytest.approx((0.0, 0.0))
    assert on_map((0.0, 0.0, 5.0), c) == pytest.approx((0.0, 1.0), abs=1e-3)
    assert on_map(c, c) is None


def test_no_lesion_no_map() -> None:
    made = surface_map(
        ball((900, 0, 0), 5.0), ball(samples.LESION, 9.0), samples.GRID, samples.LESION
    )
    assert np.isnan(made.margin_mm).all()
    assert made.margin_mm.shape[0] == ROWS


def test_the_map_takes_the_sagittal_place_and_needs_a_measurement(
    normal: Snapshot, screen: Make
) -> None:
    s = screen(normal)
    place = s.window.panes["sagittal"].geometry()
    press(s, Qt.Key_V)
    assert s.window.map.isVisible()
    assert s.window.map.geometry() == place
    assert not s.window.panes["sagittal"].isVisible()
    pixels(s.window.map)  # made when there is time, or painted
    assert s.window.map.map is not None
    sure = np.nanmin(s.window.map.map.margin_mm)
    states = samples.states(normal)
    s.window.show_snapshot(states["degraded"])
    pixels(s.window.map)
    assert np.nanmin(s.window.map.map.margin_mm) < sure - 1.5, (
        "of the inner bound: the least margin"
    )
    s.window.show_snapshot(states["invalid"])
    assert s.window.map.map is None
    s.window.show_snapshot(states["blocked"])
    assert pixels(s.window.map)[12:-12, 12:-12].max() == 0
    press(s, Qt.Key_V)
    assert s.window.solid.isVisible()
    press(s, Qt.Key_V)
    assert s.window.dose.isVisible()
    assert s.window.dose.geometry() == place
    press(s, Qt.Key_V)
    assert s.window.panes["sagittal"].isVisible()


def test_the_keys_are_listed_over_the_planes_only(
    normal: Snapshot, screen: Make, folder: Path
) -> None:
    s = screen(normal)
    press(s, Qt.Key_H)
    assert s.window.help.isVisible()
    covered = s.window.help.geometry()
    assert not covered.intersects(s.window.readouts.geometry())
    assert not covered.intersects(s.window.alarm_row.geometry())
    press(s, Qt.Key_H, repeat=True)
    assert s.window.help.isVisible()
    press(s, Qt.Key_H)
    assert not s.window.help.isVisible()
