"""Where a window opens, and what of it is kept for the next procedure. Logical pixels of the desktop.

Monitors are numbered from the left, the topmost first, from 0. Invariant: a window is always on a monitor
that is there.
"""

from __future__ import annotations

import sys
from typing import Any

from PyQt5.QtCore import QObject, QTimer
from PyQt5.QtGui import QGuiApplication

from monitor.view.qt import Qt
from monitor.view.remembered import CONSOLE, Monitors, Remembered, monitors, recall, remember
from monitor.view.remembered import ROOM as ROOM

_LOOK_MS = 2000


def in_order() -> list[Any]:
    """The monitors, by their numbers."""

    def place(screen: Any) -> tuple[int, int]:
        return screen.geometry().x(), screen.geometry().y()

    return sorted(QGuiApplication.screens(), key=place)


def number_of(screen: Any) -> int:
    there = in_order()
    return there.index(screen) if screen in there else 0


def chosen(show: str, given: int | None) -> Monitors:
    """Where the windows belong, of the monitors that are there."""
    primary = number_of(QGuiApplication.primaryScreen())
    before = recall(ROOM).monitor, recall(CONSOLE).monitor
    return monitors(len(in_order()), primary, show, given, *before)


def open_on(window: Any, number: int, before: Remembered) -> None:
    """Shows the window on that monitor, as it was there before, else maximised."""
    screen = in_order()[number]
    window.winId()  # makes the handle that a screen can be set of
    window.windowHandle().setScreen(screen)
    if before.full_screen:
        window.setGeometry(screen.geometry())
        window.showFullScreen()
    elif before.box is not None and _lies_on(before.box, screen):
        left, top, width, height = before.box
        window.resize(width, height)
        window.move(left, top)
        window.show()
    else:
        window.setGeometry(screen.availableGeometry())
        window.showMaximized()


def _lies_on(box: tuple[int, int, int, int], screen: Any) -> bool:
    left, top, width, height = box
    return bool(screen.geometry().contains(left + width // 2, top + height // 2))


def say_gone(gone: tuple[int, ...]) -> None:
    """For who reads the terminal; the window says it, too."""
    sizes = [f"{i}: {s.size().width()} x {s.size().height()}" for i, s in enumerate(in_order())]
    for number in gone:
        sys.stderr.write(
            f"iceball: monitor {number} is not there (there are {'; '.join(sizes)}): "
            "the window opens on the main one\n"
        )
        sys.stderr.flush()


class Keeper(QObject):
    """Looks now and then at what there is to remember, and writes it when it has changed. ``given``: the
    language that the case asks for; only another one is remembered."""

    def __init__(self, window: Any, name: str, given: str) -> None:
        super().__init__(window)
        self._window, self._name, self._given = window, name, given
        self._last = recall(name)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.look)
        self._timer.start(_LOOK_MS)

    def look(self) -> None:
        window = self._window
        if not window.isVisible() or window.isMinimized():
            return
        now = self._seen()
        if now != self._last:
            self._last = now
            remember(self._name, now)

    def _seen(self) -> Remembered:
        window = self._window
        state = window.windowState()
        whole = bool(state & (Qt.WindowMaximized | Qt.WindowFullScreen))
        at, size = window.pos(), window.size()
        spoken = window.spoken()
        return Remembered(
            monitor=number_of(window.windowHandle().screen()),
            language=None if spoken == self._given else spoken,
            simple=getattr(window, "simple", None),  # the console has one way of showing
            full_screen=True if state & Qt.WindowFullScreen else None,
            box=None if whole else (at.x(), at.y(), size.width(), size.height()),
        )
