"""The room's screen of a scan, as a picture: all of it, or its three planes. Pixels.

One window is made and shown each scan in turn, without a display. Invariant: what is shown is painted by
the same code as in the room.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from monitor.snapshot import Snapshot
from monitor.view.platform import prepare

if TYPE_CHECKING:
    from PyQt5.QtGui import QImage

_SETTLE_S = 60.0
_PLANES = ("axial", "coronal", "sagittal")


# Qt's application must outlive every picture.
_APPLICATION: list[Any] = []


def application() -> Any:
    """The process's Qt application; without a window on any display if it is made here."""
    from PyQt5.QtWidgets import QApplication

    from monitor.view.style import load_fonts

    app = QApplication.instance()
    if app is None:
        prepare(window=False)
        app = QApplication(sys.argv[:1])
        _APPLICATION.append(app)
    load_fonts()
    return app


class Pictures:
    """``close`` it when done."""

    def __init__(self, language: str) -> None:
        self._app = application()
        from monitor.view.layout import DESIGN
        from monitor.view.window import RoomWindow

        # At the moment of its snapshot, however long painting takes here: the age of an image, and that
        # nothing is heard of the monitor, are not this machine's to tell.
        self._window = RoomWindow(lambda _: None, language, mono=lambda: 0.0)
        self._window.resize(*DESIGN)
        self._window.show()

    def screen(self, snapshot: Snapshot) -> QImage:
        """All of it, as it is shown."""
        from monitor.view.png import picture

        self._window.show_snapshot(snapshot)
        self._settle()
        self._window.refresh()
        self._settle()
        picture(self._window)  # whose painting may ask for what is drawn in a later turn
        self._settle()
        return picture(self._window)

    def _settle(self) -> None:
        """Until all that is drawn a piece to a turn of the event loop is drawn, however slow the machine."""
        until = time.monotonic() + _SETTLE_S
        self._app.processEvents()
        while self._window.turns.waiting and time.monotonic() < until:
            self._app.processEvents()

    def planes(self, snapshot: Snapshot) -> QImage:
        """The three planes beside each other, as they lie on the screen."""
        whole = self.screen(snapshot)
        boxes = [self._window.panes[name].geometry() for name in _PLANES]
        box = boxes[0]
        for other in boxes[1:]:
            box = box.united(other)
        return whole.copy(box)

    def legend(self) -> QImage:
        """What the lines of the screen that was shown last mean."""
        from monitor.view.png import picture

        box = self._window.footer.geometry()
        box.setHeight(self._window.footer.legend_height)
        return picture(self._window).copy(box)

    def close(self) -> None:
        self._window.close_for_good()


def rgb(image: QImage) -> npt.NDArray[np.uint8]:
    """(row, column, 3)."""
    from PyQt5.QtGui import QImage as Image

    plain = image.convertToFormat(Image.Format_RGB888)
    bits: Any = plain.constBits()
    bits.setsize(plain.byteCount())
    lines = np.frombuffer(bits, np.uint8).reshape(plain.height(), plain.bytesPerLine())
    shown = lines[:, : 3 * plain.width()].reshape(plain.height(), plain.width(), 3)
    return np.array(shown)


def png(image: QImage) -> bytes:
    from PyQt5.QtCore import QBuffer

    buffer: Any = QBuffer()
    buffer.open(buffer.WriteOnly)
    image.save(buffer, "PNG")
    return bytes(buffer.data())
