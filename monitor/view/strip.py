"""The time strip: three rows over one time axis, to read and to drag. Painted from ``strip_model`` alone.

Sizes in design units times ``scale``; times UTC seconds. Measured values are points with bars, what is
foreseen is a hatched band to the right of the line of now.
Invariant: a drag only ever asks for a time; what is shown of it is decided elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PyQt5.QtCore import QLineF, QPointF, QRectF, pyqtSignal
from PyQt5.QtGui import QPainter, QPolygonF
from PyQt5.QtWidgets import QWidget

from monitor.model import PhaseKind
from monitor.view import style
from monitor.view.layout import SMALL_DU
from monitor.view.qt import Qt
from monitor.view.strip_model import Point, StripModel, Track

_GUTTER_DU, _RIGHT_DU, _AXIS_DU, _PAD_DU = 256, 16, 40, 5
_DOT_DU, _NOW_REACH_DU = 5.5, 10
_COLOURS = ("ice", "lesion", "text")


class Strip(QWidget):
    """``asked`` gives a time that the operator points at; ``returned``: back to now."""

    asked = pyqtSignal(float)
    returned = pyqtSignal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.scale = 1.0
        self.shown: StripModel | None = None
        self._key: Any = None
        self.setAttribute(Qt.WA_OpaquePaintEvent)

    def show_strip(self, shown: StripModel | None) -> None:
        """Repaints when anything has moved by a pixel."""
        self.shown = shown
        now = None if shown is None else round(self.x_of(shown.now_utc_s))
        same = (
            None if shown is None else (shown.tracks, shown.phases, shown.looked_utc_s, shown.back)
        )
        key = (now, same, self.scale, self.size())
        if key != self._key:
            self._key = key
            self.update()

    # ------------------------------------------------------------------ time and place

    def _ends(self) -> tuple[float, float]:
        return _GUTTER_DU * self.scale, self.width() - _RIGHT_DU * self.scale

    def x_of(self, at_utc_s: float) -> float:
        assert self.shown is not None
        left, right = self._ends()
        span = self.shown.end_utc_s - self.shown.start_utc_s
        return left + (at_utc_s - self.shown.start_utc_s) / span * (right - left)

    def time_at(self, x: float) -> float:
        assert self.shown is not None
        left, right = self._ends()
        share = min(1.0, max(0.0, (x - left) / (right - left)))
        return self.shown.start_utc_s + share * (self.shown.end_utc_s - self.shown.start_utc_s)

    def mousePressEvent(self, event: Any) -> None:
        if event.button() == Qt.LeftButton:
            self._point(event.x())

    def mouseMoveEvent(self, event: Any) -> None:
        if event.buttons() & Qt.LeftButton:
            self._point(event.x())

    def _point(self, x: float) -> None:
        if self.shown is None:
            return
        if abs(x - self.x_of(self.shown.now_utc_s)) <= _NOW_REACH_DU * self.scale:
            self.returned.emit()
        else:
            self.asked.emit(self.time_at(x))

    # ------------------------------------------------------------------ painting

    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        painter.setRenderHints(QPainter.Antialiasing | QPainter.TextAntialiasing)
        painter.fillRect(self.rect(), style.colour("panel"))
        if self.shown is not None:
            rows = self._rows(len(self.shown.tracks))
            self._phases(painter, self.shown, rows[-1].bottom())
            for track, name, row in zip(self.shown.tracks, _COLOURS, rows, strict=True):
                self._track(painter, track, name, row)
            self._marks(painter, self.shown, rows[-1].bottom())
        painter.end()

    def _rows(self, count: int) -> list[QRectF]:
        left, right = self._ends()
        each = (self.height() - _AXIS_DU * self.scale) / count
        pad = _PAD_DU * self.scale
        return [QRectF(left, i * each + pad, right - left, each - 2 * pad) for i in range(count)]

    def _phases(self, painter: QPainter, shown: StripModel, bottom: float) -> None:
        """Freezes as bands through the rows; the names of all phases below."""
        left, right = self._ends()
        k = self.scale
        for phase, name in shown.phases:
            x0, x1 = (
                min(max(self.x_of(t), left), right) for t in (phase.start_utc_s, phase.end_utc_s)
            )
            if x1 - x0 < 2:
                continue
            if phase.kind is PhaseKind.FREEZE:
                painter.fillRect(
                    QRectF(x0, 0, x1 - x0, bottom + _PAD_DU * k), style.colour("freeze")
                )
            painter.setPen(style.line_pen("dim", 1.5 * k))
            painter.drawLine(QLineF(x0, 0, x0, self.height()))
            box = QRectF(
                x0 + 6 * k, bottom + 3 * k, x1 - x0 - 10 * k, self.height() - bottom - 3 * k
            )
            if style.width_of(name, SMALL_DU * k) <= box.width():
                style.draw_text(painter, box, name, SMALL_DU * k, "label")

    def _track(self, painter: QPainter, track: Track, name: str, row: QRectF) -> None:
        k = self.scale
        box = QRectF(10 * k, row.top() - 4 * k, (_GUTTER_DU - 16) * k, row.height() + 8 * k)
        style.draw_text(painter, box, track.name, SMALL_DU * k, "label")
        painter.setPen(style.line_pen("rule", 1.5 * k))
        painter.drawLine(QLineF(row.left(), row.bottom(), row.right(), row.bottom()))
        if track.goal is not None:
            y = self._y(track, track.goal, row)
            painter.setPen(style.line_pen("label", 1.5 * k, "dashed"))
            painter.drawLine(QLineF(row.left(), y, row.right(), y))
        self._band(painter, track, name, row)
        self._line(painter, track, track.points, name, row)
        for point in track.second:
            self._point_mark(painter, track, point, name, row, hollow=True)
        for point in track.points:
            self._point_mark(painter, track, point, name, row)

    def _y(self, track: Track, value: float, row: QRectF) -> float:
        share = (value - track.low) / (track.high - track.low)
        return row.bottom() - min(1.0, max(0.0, share)) * row.height()

    def _band(self, painter: QPainter, track: Track, name: str, row: QRectF) -> None:
        if len(track.band) < 2:
            return
        values = np.nan_to_num(
            np.array(track.band), nan=track.low, neginf=track.low, posinf=track.high
        )
        lower = [QPointF(self.x_of(t), self._y(track, low, row)) for t, low, _ in values]
        upper = [QPointF(self.x_of(t), self._y(track, high, row)) for t, _, high in values]
        painter.setPen(style.line_pen(name, 1.4 * self.scale, "dashed"))
        painter.setBrush(style.hatched(name, 0.75, self.scale))
        painter.drawPolygon(QPolygonF([*lower, *reversed(upper)]))
        painter.setBrush(Qt.NoBrush)

    def _line(
        self, painter: QPainter, track: Track, points: tuple[Point, ...], name: str, row: QRectF
    ) -> None:
        painter.setPen(style.line_pen(name, 1.6 * self.scale, alpha=0.7))
        places = [QPointF(self.x_of(p.at_utc_s), self._y(track, p.value, row)) for p in points]
        painter.drawPolyline(QPolygonF(places))

    def _point_mark(
        self,
        painter: QPainter,
        track: Track,
        p: Point,
        name: str,
        row: QRectF,
        hollow: bool = False,
    ) -> None:
        """A dot on its bar, filled where the measurement was sure."""
        x, k = self.x_of(p.at_utc_s), self.scale
        painter.setPen(style.line_pen(name, 2.4 * k))
        painter.drawLine(QLineF(x, self._y(track, p.low, row), x, self._y(track, p.high, row)))
        filled = p.sure and not hollow
        painter.setBrush(style.colour(name if filled else "panel"))
        at = QPointF(x, self._y(track, p.value, row))
        painter.drawEllipse(at, _DOT_DU * k, _DOT_DU * k)
        painter.setBrush(Qt.NoBrush)

    def _marks(self, painter: QPainter, shown: StripModel, bottom: float) -> None:
        """Now, and where the planes look instead."""
        k, x = self.scale, self.x_of(shown.now_utc_s)
        painter.setPen(style.line_pen("text", 3 * k))
        painter.drawLine(QLineF(x, 0, x, bottom + _PAD_DU * k))
        if shown.looked_utc_s is None:
            return
        at = self.x_of(shown.looked_utc_s)
        painter.setPen(style.line_pen("look", 4 * k, "dashed"))
        painter.drawLine(QLineF(at, 0, at, self.height()))
        box = QRectF(10 * k, bottom + 3 * k, (_GUTTER_DU - 16) * k, self.height() - bottom - 3 * k)
        style.draw_text(painter, box, shown.back, SMALL_DU * k, "text", True)
