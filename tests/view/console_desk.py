"""A console window, offscreen, whose clock and acts the test holds; and the hands on it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PyQt5.QtCore import QPoint, Qt
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import QApplication, QPushButton

from monitor.config import ListenerConfig
from monitor.model import Alarm, Priority
from monitor.view.console.window import ConsoleWindow

LISTENER = ListenerConfig("ICEBALL", "127.0.0.1", 0, ())
SIZES = ((1280, 800), (1920, 1080))
ALARMS = (
    Alarm("structure_near", Priority.HIGH, 0.0, {"name": "colon", "distance_mm": "3.4",
          "at_least_mm": "2.1", "limit_mm": "5.0"}, about="colon"),
    Alarm("image_stale", Priority.MEDIUM, 0.0, {"age_s": "300"}),
    Alarm("phase_ending", Priority.LOW, 0.0, {"seconds": "30"}),
)  # fmt: skip


# A window that Python collects while Qt still delivers to it takes the process with it.
KEPT: list[Any] = []


class Desk:
    """A console whose clock and acts the test holds."""

    def __init__(
        self, folder: Path, language: str, size: tuple[int, int], fetch: Sequence[str] = ()
    ) -> None:
        self.mono_s, self.acts = 100.0, list[dict[str, Any]]()
        self.window = ConsoleWindow(
            self.acts.append,
            language,
            folder / "plans",
            LISTENER,
            210.0,
            1.0,
            lambda: self.mono_s,
            fetch,
        )
        self.window.resize(*size)
        self.window.show()
        QApplication.setActiveWindow(self.window)

    def finish_work(self) -> None:
        deadline = time.monotonic() + 60.0
        while self.window.editor.worker.busy and time.monotonic() < deadline:
            QApplication.processEvents()
            time.sleep(0.005)
        assert not self.window.editor.worker.busy


def click_mm(desk: Desk, x: float, y: float) -> QPoint:
    """Of the large plane, the axial one."""
    px = desk.window.planes.main.frame().to_px(np.array([x, y, desk.window.shown.cross[2]]))
    return QPoint(round(float(px[0])), round(float(px[1])))


def drag(desk: Desk, a: tuple[float, float], b: tuple[float, float]) -> None:
    pane, shown = desk.window.planes.main, desk.window.shown
    QTest.mousePress(pane, Qt.LeftButton, Qt.NoModifier, click_mm(desk, *a))
    QTest.mouseMove(pane, click_mm(desk, *b))
    # QTest's move has no button held on every platform; the release ends the line where it is.
    shown.move_to((*b, shown.cross[2]))
    QTest.mouseRelease(pane, Qt.LeftButton, Qt.NoModifier, click_mm(desk, *b))


def alt(d: Desk, letter: str) -> None:
    """A letter with Alt: the button is seen to be pressed, a tenth of a second, before it acts."""
    QTest.keyClick(d.window, getattr(Qt, f"Key_{letter}"), Qt.AltModifier)
    QTest.qWait(200)
    deadline = time.monotonic() + 5.0  # of a machine that others use
    while time.monotonic() < deadline and any(
        b.isDown() for b in d.window.findChildren(QPushButton)
    ):
        QTest.qWait(20)


def press(button: QPushButton) -> None:
    assert button.isEnabled(), button.text()
    QTest.mouseClick(button, Qt.LeftButton)


def plan_by_mouse(d: Desk) -> None:
    w = d.window
    pages = w.pages
    press(pages["baseline"].take)
    press(w.steps["lesion"])
    w.shown.go_to((20.0, -80.0, 12.0))
    press(pages["lesion"].strokes)
    drag(d, (8.0, -80.0), (32.0, -80.0))
    drag(d, (20.0, -90.0), (20.0, -70.0))
    press(w.steps["structures"])
    pages["structures"].name.setCurrentText("colon")
    press(pages["structures"].new)
    QTest.mouseClick(w.planes.main, Qt.LeftButton, Qt.NoModifier, click_mm(d, -22.0, -52.0))
    press(w.steps["needles"])
    press(pages["needles"].clicks)
    QTest.mouseClick(w.planes.main, Qt.LeftButton, Qt.NoModifier, click_mm(d, 16.0, -68.0))
    QTest.mouseClick(w.planes.main, Qt.LeftButton, Qt.NoModifier, click_mm(d, 8.0, -122.0))
    d.finish_work()
    press(w.steps["protocol"])
    pages["protocol"].organ.setCurrentIndex(1)
    pages["protocol"].organ.activated.emit(1)
