"""What says that a record is played, and how: words, and a border around every plane. UTC of the record.

``ReplayBorder`` lies behind a plane that is made smaller by ``inset``: on a coloured ground above the plane
stands that it is not live, and the same colour runs around it. Sizes in design units times ``scale``.
Invariant: while a record is played, every plane, the header and the alarm row say so, in words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from PyQt5.QtCore import QRect, QRectF
from PyQt5.QtGui import QPainter
from PyQt5.QtWidgets import QWidget

from monitor.snapshot import Replayed
from monitor.view import formats, style
from monitor.view.layout import SMALL_DU, Box
from monitor.view.qt import Qt
from monitor.view.translations import text
from monitor.view.viewmodel import ScreenModel

_EDGE_DU = 7.0
_TITLE_DU, _ROW_DU = 44.0, 40.0


@dataclass(frozen=True)
class Said:
    """``short`` for a small plane; ``title`` and ``playing`` for the main one."""

    short: str
    title: str
    playing: str


def said(replayed: Replayed, language: str) -> Said:
    began = datetime.fromtimestamp(replayed.began_utc_s, UTC)
    date = f"{began:%Y-%m-%d}"
    if replayed.broken:
        how = text(language, "replay.broken")
    elif replayed.working:
        how = text(language, "replay.working")
    else:
        pace = f"×{formats.NBSP}{pace_text(replayed.pace, language)}"
        how = text(language, "replay.paused") if replayed.paused else pace
        how = f"{how} · CT{formats.NBSP}{replayed.scan}/{replayed.scans}"
    of = text(language, "replay.of", date=date, time=f"{began:%H:%M}")
    return Said(
        text(language, "replay.short", date=date), text(language, "replay.title"), f"{of} · {how}"
    )


def pace_text(pace: float, language: str) -> str:
    shown = f"{pace:g}"
    return shown.replace(".", ",") if language == "fr" else shown


def as_replayed(model: ScreenModel, replayed: Replayed | None) -> ScreenModel:
    """Header and alarm row name the replay; an alarm of then does not flash now."""
    if replayed is None:
        return model
    prefix, alarm = text(model.language, "replay.prefix"), model.alarm
    if alarm is not None:
        alarm = replace(alarm, sentence=f"{prefix} · {alarm.sentence}", flash_hz=0.0)
    return replace(model, patient=f"{prefix} · {model.patient}", alarm=alarm, replayed=True)


def inset(box: Box, main: bool, scale: float) -> Box:
    """What is left of a plane's box within its border."""
    x, y, w, h = box
    edge = round(_EDGE_DU * scale)
    top = round((_TITLE_DU + _ROW_DU if main else _ROW_DU) * scale)
    return x + edge, y + top, w - 2 * edge, h - top - edge


def draw_replay(painter: QPainter, pane: QRect, words: str) -> None:
    """On a plane of the console, over what it shows: the words above, the border around it. Logical px."""
    ground = style.colour("replay")
    painter.fillRect(0, 0, pane.width(), 34, ground)
    painter.setBrush(Qt.NoBrush)
    painter.setPen(style.line_pen("replay", 8.0))
    painter.drawRect(pane.adjusted(4, 4, -4, -4))
    style.draw_text(
        painter, QRectF(8, 0, pane.width() - 16, 34), words, 20, "replay_text", True, Qt.AlignCenter
    )


class ReplayBorder(QWidget):
    """Behind one plane; hidden when nothing is replayed."""

    def __init__(self, main: bool, parent: QWidget) -> None:
        super().__init__(parent)
        self.main, self.scale = main, 1.0
        self._said: Said | None = None
        self.setAttribute(Qt.WA_OpaquePaintEvent)
        self.hide()

    def say(self, words: Said) -> None:
        if words != self._said:
            self._said = words
            self.update()

    def paintEvent(self, event: Any) -> None:
        painter, k = QPainter(self), self.scale
        painter.setRenderHint(QPainter.TextAntialiasing)
        painter.fillRect(self.rect(), style.colour("replay"))
        if self._said is not None:
            words, small = self._said, SMALL_DU * k
            if not self.main:
                self._row(painter, words.short, 0, _ROW_DU, small, True)
            else:
                self._row(painter, words.title, 0, _TITLE_DU, 1.2 * small, True)
                self._row(painter, words.playing, _TITLE_DU, _ROW_DU, small, False)
        painter.end()

    def _row(
        self, painter: QPainter, words: str, top: float, high: float, size: float, bold: bool
    ) -> None:
        k, pad = self.scale, 10 * self.scale
        box = QRectF(pad, top * k, self.width() - 2 * pad, high * k)
        style.draw_text(painter, box, words, size, "replay_text", bold, Qt.AlignCenter)
