"""The console's three planes: one cross, each drawn on by mouse and keys, each the large one in turn."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from console_desk import plan_by_mouse, press
from PyQt5.QtCore import QPoint, Qt
from PyQt5.QtTest import QTest

from monitor.planning.drawn import DrawnBody
from monitor.snapshot import Snapshot
from monitor.view.console.pane import EditPane
from monitor.view.planes import AXIAL, CORONAL, SAGITTAL, Plane

LESION = (20.0, -80.0, 12.0)


def pane_of(d: Any, plane: Plane) -> EditPane:
    (found,) = [p for p in d.window.planes.panes if p.plane is plane]
    return found


def px(pane: EditPane, point: tuple[float, float, float]) -> QPoint:
    x, y = pane.frame().to_px(np.array(point))
    return QPoint(round(float(x)), round(float(y)))


def drag(
    d: Any, pane: EditPane, a: tuple[float, float, float], b: tuple[float, float, float]
) -> None:
    QTest.mousePress(pane, Qt.LeftButton, Qt.NoModifier, px(pane, a))
    d.window.shown.drag_to(b)  # QTest's move has no button held on every platform
    QTest.mouseRelease(pane, Qt.LeftButton, Qt.NoModifier, px(pane, b))


def with_lesion(d: Any) -> DrawnBody:
    """Drawn by two strokes in the axial plane."""
    press(d.window.pages["baseline"].take)
    press(d.window.steps["lesion"])
    d.window.shown.go_to(LESION)
    d.window.shown.zoom(2.0)
    press(d.window.pages["lesion"].strokes)
    axial = pane_of(d, AXIAL)
    drag(d, axial, (8.0, -80.0, 12.0), (32.0, -80.0, 12.0))
    drag(d, axial, (20.0, -90.0, 12.0), (20.0, -70.0, 12.0))
    lesion = d.window.editor.draft.lesion
    assert isinstance(lesion, DrawnBody)
    return lesion


def extent_mm(body: DrawnBody, axis: int) -> float:
    inside = body.grid.to_lps_mm(np.argwhere(body.level_mm < 0))[:, axis]
    return float(np.ptp(inside))


@pytest.mark.parametrize("plane", [AXIAL, CORONAL, SAGITTAL])
def test_the_cross_is_where_a_plane_is_clicked_and_all_planes_cut_it(
    desk: Any, first: Snapshot, plane: Plane
) -> None:
    d = desk(first)
    d.window.shown.go_to(LESION)
    there = list(LESION)
    there[plane.right] += 15.0
    there[plane.vertical] -= 10.0
    pane = pane_of(d, plane)
    QTest.mouseClick(pane, Qt.LeftButton, Qt.NoModifier, px(pane, tuple(there)))
    mm_a_pixel = 1.0 / pane.frame().px_per_mm
    assert d.window.shown.cross == pytest.approx(there, abs=mm_a_pixel)
    assert d.window.shown.cross[plane.across] == LESION[plane.across]


@pytest.mark.parametrize("plane", [AXIAL, CORONAL, SAGITTAL])
def test_the_brush_paints_in_every_plane(desk: Any, first: Snapshot, plane: Plane) -> None:
    d = desk(first)
    before = with_lesion(d)
    press(d.window.pages["lesion"].add)
    at = list(LESION)
    at[plane.vertical] += 14.0 if plane is not AXIAL else 12.0
    d.window.shown.go_to(LESION)
    pane = pane_of(d, plane)
    QTest.mouseClick(pane, Qt.LeftButton, Qt.NoModifier, px(pane, tuple(at)))
    after = d.window.editor.draft.lesion
    assert after.volume_ml > before.volume_ml
    assert after.holds(tuple(at))
    assert not before.holds(tuple(at))


@pytest.mark.parametrize("plane", [CORONAL, SAGITTAL])
def test_a_third_stroke_across_sets_the_depth(desk: Any, first: Snapshot, plane: Plane) -> None:
    d = desk(first)
    before = with_lesion(d)
    assert extent_mm(before, 2) == pytest.approx(20.0, abs=2.5)
    press(d.window.pages["lesion"].strokes)
    drag(d, pane_of(d, plane), (20.0, -80.0, 0.0), (20.0, -80.0, 32.0))
    after = d.window.editor.draft.lesion
    assert extent_mm(after, 2) == pytest.approx(32.0, abs=2.5)
    assert extent_mm(after, 0) == pytest.approx(extent_mm(before, 0), abs=1.5)
    assert after.holds((20.0, -80.0, 30.0))
    QTest.keyClick(d.window, Qt.Key_Z, Qt.ControlModifier)
    assert d.window.editor.draft.lesion is before


def test_a_lesion_is_marked_by_two_strokes_in_a_sagittal_plane(desk: Any, first: Snapshot) -> None:
    d = desk(first)
    press(d.window.steps["lesion"])
    d.window.shown.go_to(LESION)
    press(d.window.pages["lesion"].strokes)
    pane = pane_of(d, SAGITTAL)
    drag(d, pane, (20.0, -80.0, -3.0), (20.0, -80.0, 27.0))
    drag(d, pane, (20.0, -90.0, 12.0), (20.0, -70.0, 12.0))
    lesion = d.window.editor.draft.lesion
    assert extent_mm(lesion, 2) == pytest.approx(30.0, abs=2.5)
    assert extent_mm(lesion, 1) == pytest.approx(20.0, abs=2.5)


def test_every_plane_is_the_large_one_in_turn(desk: Any, first: Snapshot) -> None:
    d = desk(first)
    main = d.window.planes.main
    QTest.keyClick(d.window, Qt.Key_F6)
    seen = [main.plane]
    for _ in range(3):
        QTest.keyClick(main, Qt.Key_P)
        seen.append(main.plane)
        assert {p.plane for p in d.window.planes.panes} == {AXIAL, CORONAL, SAGITTAL}
    assert len(set(seen[:3])) == 3
    assert seen[3] is seen[0]
    small = d.window.planes.panes[2]
    wanted = small.plane
    QTest.mouseClick(small, Qt.MiddleButton)
    assert main.plane is wanted
    assert main.width() > 1.8 * small.width()


def test_arrows_and_pages_go_the_way_the_plane_lies(desk: Any, first: Snapshot) -> None:
    d = desk(first)
    shown = d.window.shown
    for plane, up, page in (
        (AXIAL, (0.0, -1.0, 0.0), 2), (CORONAL, (0.0, 0.0, 1.0), 1), (SAGITTAL, (0.0, 0.0, 1.0), 0),
    ):  # fmt: skip
        shown.go_to(LESION)
        QTest.keyClick(pane_of(d, plane), Qt.Key_Up)
        assert np.subtract(shown.cross, LESION) == pytest.approx(up)
        shown.go_to(LESION)
        QTest.keyClick(pane_of(d, plane), Qt.Key_PageUp)
        moved = np.subtract(shown.cross, LESION)
        assert moved[page] >= 1.0
        assert np.count_nonzero(moved) == 1


def test_undo_gives_back_what_the_lesion_grows_from(desk: Any, first: Snapshot) -> None:
    d = desk(first)
    plan_by_mouse(d)
    marked = d.window.editor.draft.marked
    assert marked is not None
    d.window.editor.edit("lesion", lesion=None, marked=None)
    assert not d.window.editor.can_grow
    d.window.editor.take_back()
    assert d.window.editor.draft.marked is marked


@pytest.mark.usefixtures("only_our_garbage")
def test_painting_the_three_planes_holds_the_window_up_for_no_longer_than_50_ms(
    desk: Any, full: Snapshot
) -> None:
    d = desk(full, "en", (1920, 1080))
    press(d.window.steps["monitor"])
    times_s = []
    for step in range(8):
        d.window.shown.go_to((20.0 + step, -80.0 + step, 12.0 + step))
        began_s = time.thread_time()
        for pane in d.window.planes.panes:
            pane.repaint()
        times_s.append(time.thread_time() - began_s)
    assert max(times_s[1:]) < 0.05
