"""The room's window under pytest-qt: keys and mouse as an operator's, faults in slots, the UI thread's turns.

Milliseconds of the UI thread's own processor time: what other programs take is not its doing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import view_samples as samples
from PyQt5.QtCore import QPoint, Qt, QTimer

from monitor.snapshot import Snapshot
from monitor.view.process import install_excepthook
from monitor.view.viewmodel import State
from monitor.view.views import Views

Make = Callable[..., Any]
BLOCKED_MS = 50.0


@pytest.fixture
def room(normal: Snapshot, screen: Make, qtbot: Any) -> Any:
    """A window on a clock that stands still, exposed and with the keyboard."""
    s = screen(normal)
    qtbot.waitExposed(s.window)
    s.window.activateWindow()
    return s


def test_a_procedure_by_keys_alone(room: Any, normal: Snapshot, qtbot: Any) -> None:
    w = room.window
    for key in (
        Qt.Key_Left,
        Qt.Key_PageUp,
        Qt.Key_W,
        Qt.Key_S,
        Qt.Key_T,
        Qt.Key_V,
        Qt.Key_L,
        Qt.Key_H,
    ):
        qtbot.keyClick(w, key)
    assert w.look is not None
    assert w.language == "fr"
    assert (w.scene.views.subtraction, w.scene.views.slab_mm, w.scene.views.third) == (
        True,
        5.0,
        "map",
    )
    assert w.help.isVisible()
    qtbot.keyClick(w, Qt.Key_End)
    qtbot.keyClick(w, Qt.Key_H)
    assert w.look is None
    qtbot.keyClick(w, Qt.Key_F)
    assert room.acts == [{"act": "phase_next"}]


@pytest.mark.requirement("REQ-ACTS")
def test_nothing_a_pedal_can_type_is_beyond_recall(room: Any, qtbot: Any) -> None:
    """A foot pedal is a keyboard of a few keys: page keys, arrows, space, return, letters b and n. None of
    them acts on the procedure, however often or long it is pressed."""
    pedal = (
        Qt.Key_PageUp, Qt.Key_PageDown, Qt.Key_Left, Qt.Key_Right, Qt.Key_Up, Qt.Key_Down, Qt.Key_Space,
        Qt.Key_Return, Qt.Key_B, Qt.Key_N, Qt.Key_Home, Qt.Key_End, Qt.Key_Escape,
    )  # fmt: skip
    for key in pedal * 3:
        qtbot.keyClick(room.window, key)
    assert room.acts == []
    for key in (Qt.Key_C, Qt.Key_Q):  # what cannot be undone asks first
        qtbot.keyClick(room.window, key)
        room.mono_s += 10.0
    assert room.acts == []


def test_the_strip_is_dragged_with_the_mouse(room: Any, qtbot: Any) -> None:
    w, strip = room.window, room.window.strip

    def at(utc_s: float) -> QPoint:
        return QPoint(round(strip.x_of(utc_s)), strip.height() // 2)

    qtbot.mousePress(strip, Qt.LeftButton, pos=at(samples.NOW - 228.0))
    assert w.look is not None
    assert w.look.scan is not None
    qtbot.mouseMove(strip, at(samples.NOW + 120.0))
    qtbot.mousePress(strip, Qt.LeftButton, pos=at(samples.NOW + 120.0))
    assert w.look.scan is None
    qtbot.mousePress(strip, Qt.LeftButton, pos=at(samples.NOW))
    assert w.look is None
    qtbot.mouseRelease(strip, Qt.LeftButton)


def test_a_click_in_a_plane_moves_the_others(room: Any, qtbot: Any) -> None:
    pane = room.window.panes["axial"]
    qtbot.mouseClick(pane, Qt.LeftButton, pos=QPoint(pane.width() // 3, pane.height() // 3))
    chosen = room.window.scene.chosen
    assert chosen is not None
    right, down = pane.frame().to_px(np.array(chosen))
    assert (right, down) == pytest.approx((pane.width() / 3, pane.height() / 3), abs=1.5)


# --------------------------------------------------------------------------- faults


@pytest.fixture
def hooked(room: Any) -> Iterator[Any]:
    before = sys.excepthook
    install_excepthook(room.window)
    yield room
    sys.excepthook = before


@pytest.mark.qt_no_exception_capture
def test_a_slot_that_raises_shows_a_banner_and_the_screen_lives_on(
    hooked: Any, normal: Snapshot, qtbot: Any, capsys: Any
) -> None:
    w = hooked.window
    QTimer.singleShot(0, lambda: [][1])
    qtbot.waitUntil(lambda: w._slot_error is not None)
    w.refresh()
    assert w.model.state is State.VIEW_ERROR
    assert "IndexError" in w.model.alarm.sentence
    assert w.model.lesion.value == "—", "no number of a screen that is not sound"
    assert "IndexError" in capsys.readouterr().err
    qtbot.keyClick(w, Qt.Key_A)
    w.show_snapshot(replace(normal, seq=8))
    assert w.model.state is State.NORMAL


@pytest.mark.qt_no_exception_capture
def test_so_does_a_view_that_cannot_be_made(
    hooked: Any, normal: Snapshot, qtbot: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The margin map fails: the fault is told, and without the map the screen is whole again."""
    from monitor.view import map_pane

    def broken(*_: Any) -> Any:
        raise ValueError("no such surface")

    monkeypatch.setattr(map_pane, "surface_map", broken)
    w = hooked.window
    w.show_views(Views.next_third)
    qtbot.waitUntil(lambda: w._slot_error is not None)
    w.refresh()
    assert w.model.state is State.VIEW_ERROR
    assert "ValueError" in w.model.alarm.sentence
    w.show_views(Views.next_third)
    qtbot.keyClick(w, Qt.Key_A)
    w.show_snapshot(replace(normal, seq=9))
    assert w.model.state is State.NORMAL


# --------------------------------------------------------------------------- the UI thread


@pytest.mark.long  # in milliseconds: it judges the machine as well, and does not belong in `make test`
@pytest.mark.usefixtures("only_our_garbage")
def test_the_ui_thread_is_never_busy_for_long(
    normal: Snapshot, screen: Make, qtbot: Any, tmp_path: Path
) -> None:
    """Of three rounds the best: a machine that others use counts their cache misses as ours."""
    rounds = []
    for i in range(3):
        turns = busy_turns(normal, screen, qtbot, tmp_path / str(i))
        assert len(turns) > 50
        rounds.append(max(turns))
        if rounds[-1] <= BLOCKED_MS:
            break
    assert min(rounds) <= BLOCKED_MS, rounds


def busy_turns(normal: Snapshot, screen: Make, qtbot: Any, folder: Path) -> list[float]:
    """Its turns, with scans, scrolling, looking and views coming as fast as it takes them."""
    folder.mkdir()
    s = screen(normal)
    w = s.window
    scans = []
    for i in range(4):
        names = ("ice_sdf", "ice_inner_sdf", "ice_outer_sdf", "volume")
        files = {
            n: samples.save(folder, f"{n}{i}", np.load(getattr(normal, n).path)) for n in names
        }
        scans.append(replace(normal, seq=20 + i, volume_id=f"v{i + 10}", **files))
    doing: list[Callable[[], Any]] = []
    for i, scan in enumerate(scans):
        doing += [
            lambda scan=scan: w.show_snapshot(scan),
            lambda: w.scroll_plane(1),
            lambda: w.look_on(-1),
            w.look_now,
            lambda: w.show_views(Views.other_subtraction),
            lambda: w.show_views(Views.next_third),
            w.switch_language,
            lambda scan=scan, i=i: w.show_snapshot(replace(scan, now_utc_s=samples.NOW + 3.0 * i)),
        ]
    turns: list[float] = []
    last = [time.thread_time()]

    def turn() -> None:
        now = time.thread_time()
        turns.append(1000 * (now - last[0]))
        last[0] = now

    watch, work = QTimer(), QTimer()
    watch.timeout.connect(turn)
    work.timeout.connect(lambda: doing.pop(0)() if doing else None)
    qtbot.waitExposed(w)
    w.repaint()
    last[0] = time.thread_time()
    watch.start(0)
    work.start(15)
    qtbot.waitUntil(lambda: not doing, timeout=120_000)
    qtbot.wait(200)
    watch.stop()
    work.stop()
    return turns
