"""The keys, over the planes, for as long as somebody asks for them. Sizes in design units times ``scale``.

Invariant: it covers planes and strip only; numbers and alarms stay in sight.
"""

from __future__ import annotations

from typing import Any

from PyQt5.QtCore import QRectF
from PyQt5.QtGui import QPainter
from PyQt5.QtWidgets import QWidget

from monitor.view import style
from monitor.view.layout import SMALL_DU
from monitor.view.qt import Qt
from monitor.view.translations import text

# (key, or where its own name in the language is, what it does)
KEYS = (
    ("F", "help.F"),
    ("A", "help.A"),
    ("key.pages", "help.scroll"),
    ("key.home", "help.home"),
    ("← →", "help.look"),
    ("key.end", "help.end"),
    ("+ −", "help.zoom"),
    ("W", "help.W"),
    ("S", "help.S"),
    ("T", "help.T"),
    ("V", "help.V"),
    ("key.turn", "help.turn"),
    ("M", "help.M"),
    ("F11", "help.F11"),
    ("L", "help.L"),
    ("C C", "help.CC"),
    ("Q Q", "help.QQ"),
)
# A record that is played cannot be changed: its keys stand in place of those that act.
REPLAY_KEYS = (
    ("key.space", "help.replay.space"),
    ("key.step", "help.replay.step"),
    ("key.scan", "help.replay.scan"),
    ("< >", "help.replay.pace"),
    *KEYS[2:-2],
    ("Q Q", "help.replay.QQ"),
)
_ROW_DU, _KEY_DU = 46, 400


class Help(QWidget):
    """Hidden until asked for."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.scale, self.language, self.replay = 1.0, "en", False
        self.hide()

    def paintEvent(self, event: Any) -> None:
        painter, k = QPainter(self), self.scale
        painter.setRenderHint(QPainter.TextAntialiasing)
        painter.fillRect(self.rect(), style.colour("panel"))
        keys = REPLAY_KEYS if self.replay else KEYS
        step = min(_ROW_DU * k, self.height() / (len(keys) + 1.5))
        size = min(SMALL_DU * k, 0.8 * step)
        width = self.width() - 40 * k
        key_px = min(_KEY_DU * k, 0.34 * width)
        title = QRectF(20 * k, 0.2 * step, width, 1.2 * step)
        style.draw_text(painter, title, text(self.language, "help.title"), 1.1 * size, "text", True)
        for i, (key, does) in enumerate(keys):
            top = (i + 1.4) * step
            name = text(self.language, key) if key.startswith("key.") else key
            style.draw_text(painter, QRectF(20 * k, top, key_px, step), name, size, "text", True)
            box = QRectF(20 * k + key_px, top, width - key_px, step)
            style.draw_text(painter, box, text(self.language, does), size, "label", align=_LEFT)
        painter.end()


_LEFT = Qt.AlignLeft | Qt.AlignVCenter
