"""A pedal's keys work in whichever window has the keyboard, and do nothing grave."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from PyQt5.QtCore import QEvent, Qt
from PyQt5.QtGui import QKeyEvent
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import QApplication

from monitor.model import Alarm, Priority
from monitor.screen import Screen
from monitor.snapshot import Snapshot
from monitor.view.pedal import PEDAL_ACTS, PEDAL_KEYS, listen
from monitor.view.process import ViewOptions
from monitor.view.window import RoomWindow

PEDAL = (("F7", "scroll_up"), ("F9", "acknowledge"))
STALE = Alarm("image_stale", Priority.MEDIUM, 0.0, {"age_s": "300"})


@pytest.fixture
def did(app: QApplication) -> Iterator[list[str]]:
    done: list[str] = []
    listener = listen(app, PEDAL, done.append)
    yield done
    app.removeEventFilter(listener)


def test_no_field_slider_or_plane_takes_a_pedals_key(
    did: list[str], desk: Any, full: Snapshot
) -> None:
    window = desk(full).window
    page = window.pages["monitor"]
    window.go("monitor")
    for widget in (
        window,
        window.planes.main,
        page.rows[0].slider,
        window.pages["structures"].name,
    ):
        QTest.keyClick(widget, Qt.Key_F7)
    QTest.keyClick(window.planes.main, Qt.Key_F9)
    assert did == ["scroll_up"] * 4 + ["acknowledge"]
    QTest.keyClick(window.planes.main, Qt.Key_F7, Qt.ShiftModifier)
    QTest.keyClick(window.planes.main, Qt.Key_F8)
    z = window.shown.cross[2]
    QTest.keyClick(window.planes.main, Qt.Key_PageUp)
    assert window.shown.cross[2] > z, "all other keys are the window's"
    assert len(did) == 5


def test_a_switch_that_is_held_down_scrolls_on_but_acts_once(
    did: list[str], desk: Any, full: Snapshot
) -> None:
    pane = desk(full).window.planes.main
    for key in (Qt.Key_F7, Qt.Key_F9):
        for held in (False, True, True):
            press = QKeyEvent(QEvent.KeyPress, key, Qt.NoModifier, "", held)
            QApplication.sendEvent(pane, press)
    assert did == ["scroll_up"] * 3 + ["acknowledge"]


def test_what_a_pedal_does_in_the_room(app: QApplication, normal: Snapshot) -> None:
    sent: list[dict[str, Any]] = []
    room = RoomWindow(sent.append)
    room.resize(1920, 1080)
    room.show_snapshot(replace(normal, alarms=(STALE,)))
    third = room.scene.views.third
    for act in (*PEDAL_ACTS, "quit", "phase_next", "clear_block", ""):
        room.keys.pedal(act)
    assert sent == [{"act": "acknowledge", "alarm": ("image_stale", "")}]
    assert room.scene.views.third != third
    room.keys.pedal("look_back")
    assert room.look is not None
    room.keys.pedal("now")
    assert room.look is None
    room.close_for_good()


def test_no_key_that_a_window_uses_is_a_pedals() -> None:
    assert not {"F", "A", "C", "Q", "PageUp", "F6", "F11"} & set(PEDAL_KEYS)


def test_it_reaches_the_rooms_process(normal: Snapshot) -> None:
    """By the pipe of the snapshots; what follows of it comes back as the room's own act."""
    acts: queue.Queue[Any] = queue.Queue()
    screen = Screen(ViewOptions(window=False), lambda *act: acts.put(act))
    try:
        screen.show(replace(normal, alarms=(STALE,)))
        act = None
        while act is None:  # until the snapshot is there, there is nothing to acknowledge
            screen.pass_on(("pedal", "acknowledge"))
            try:
                act = acts.get(timeout=1.0)
            except queue.Empty:
                assert screen.exitcode is None
        assert act == ("acknowledge", ("image_stale", ""), None)
    finally:
        screen.quit()
