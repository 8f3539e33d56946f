"""The procedure over time, as a picture for paper: ice volume, coverage, minimal margin. Minutes, ml, %, mm.

Invariant: a value that is not known leaves a gap, never a point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from PyQt5.QtCore import QLineF, QPointF, QRectF
from PyQt5.QtGui import QColor, QImage, QPainter, QPen

from monitor.record.account import Account, interval, number
from monitor.report.content import bounds_ml
from monitor.view import style
from monitor.view.qt import Qt
from monitor.view.translations import text
from monitor.worked_out import WorkedOut

_SIZE = (1500, 860)
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 110.0, 20.0, 14.0, 66.0, 22.0
_TEXT_PX = 20.0
_INK, _GRID, _FREEZE = QColor("#202428"), QColor("#C8CCD0"), QColor("#DCEBF5")
_FIRST, _SECOND = QColor("#00629B"), QColor("#9A5B00")


@dataclass(frozen=True)
class _Point:
    minutes: float
    value: float
    low: float
    high: float
    sure: bool


@dataclass(frozen=True)
class _Track:
    title: str
    series: tuple[tuple[QColor, str, tuple[_Point, ...]], ...]
    low: float
    high: float
    zero: bool = False


def timeline(a: Account, worked: WorkedOut, language: str) -> QImage:
    """Needs a ``QGuiApplication``."""
    image = QImage(*_SIZE, QImage.Format_RGB32)
    image.fill(QColor("white"))
    painter = QPainter(image)
    painter.setRenderHint(QPainter.Antialiasing)
    _Drawing(painter, a, language).draw(_tracks(a, worked, language))
    painter.end()
    return image


def _tracks(a: Account, worked: WorkedOut, language: str) -> tuple[_Track, ...]:
    ml: list[_Point] = []
    lesion: list[_Point] = []
    margin: list[_Point] = []
    mm: list[_Point] = []
    for s in a.scans:
        f, at = s.assessment, s.acquired_utc_s
        if at is None:
            continue
        minutes, sure = (at - a.began_utc_s) / 60.0, f.get("status") == "OK"
        _add(
            ml, minutes, number(f, "ice_volume_ml"), bounds_ml(worked.scans.get(s.volume_id)), sure
        )
        for points, name in ((lesion, "lesion_covered"), (margin, "margin_covered")):
            _add(points, minutes, number(f, name), interval(f, f"{name}_interval"), sure, 100.0)
        value, error = number(f, "min_margin_mm"), number(f, "margin_error_mm")
        both = None if value is None or error is None else (value - error, value + error)
        _add(mm, minutes, value, both, sure)

    def word(name: str) -> str:
        return text(language, f"report.timeline.{name}")

    most = max([p.high for p in ml], default=1.0)
    ends = [v for p in mm for v in (p.low, p.high)] or [0.0, 5.0]
    return (
        _Track(word("volume"), ((_FIRST, "", tuple(ml)),), 0.0, max(1.0, 1.1 * most)),
        _Track(
            word("coverage"),
            (
                (_FIRST, word("lesion"), tuple(lesion)),
                (_SECOND, word("with_margin"), tuple(margin)),
            ),
            0.0,
            105.0,
        ),
        _Track(
            word("margin"),
            ((_FIRST, "", tuple(mm)),),
            min(0.0, *ends) - 1.0,
            max(0.0, *ends) + 1.0,
            True,
        ),
    )


def _add(
    points: list[_Point],
    minutes: float,
    value: float | None,
    ends: tuple[float, float] | None,
    sure: bool,
    scale: float = 1.0,
) -> None:
    if value is not None:
        low, high = ends or (value, value)
        points.append(_Point(minutes, scale * value, scale * low, scale * high, sure))


class _Drawing:
    def __init__(self, painter: QPainter, a: Account, language: str) -> None:
        self.painter, self.a, self.language = painter, a, language
        ends = [p.end_utc_s or a.last_utc_s for p in a.phases]
        last = max([a.began_utc_s + 60.0, *ends, *(s.acquired_utc_s or 0.0 for s in a.scans)])
        self.minutes = (last - a.began_utc_s) / 60.0 * 1.03
        self.width = _SIZE[0] - _LEFT - _RIGHT

    def draw(self, tracks: Sequence[_Track]) -> None:
        height = (_SIZE[1] - _TOP - _BOTTOM - _GAP * (len(tracks) - 1)) / len(tracks)
        for i, track in enumerate(tracks):
            box = QRectF(_LEFT, _TOP + i * (height + _GAP), self.width, height)
            self._track(box, track, i == 0)
        below = _SIZE[1] - _BOTTOM
        for minutes in _ticks(0.0, self.minutes, 8):
            self._text(
                QRectF(self._x(minutes) - 50, below + 4, 100, 26), f"{minutes:g}", Qt.AlignHCenter
            )
        box = QRectF(_LEFT, below + 32, self.width, 28)
        self._text(box, text(self.language, "report.timeline.minutes"), Qt.AlignHCenter)

    def _x(self, minutes: float) -> float:
        return _LEFT + self.width * minutes / self.minutes

    def _text(self, box: QRectF, words: str, align: int, colour: QColor = _INK) -> None:
        self.painter.setFont(style.font(_TEXT_PX, False))
        self.painter.setPen(colour)
        self.painter.drawText(box, int(align), words)

    def _track(self, box: QRectF, track: _Track, named: bool) -> None:
        def y(value: float) -> float:
            return box.bottom() - box.height() * (value - track.low) / (track.high - track.low)

        self._bands(box, named)
        for value in _ticks(track.low, track.high, 4):
            self.painter.setPen(QPen(_INK if track.zero and value == 0 else _GRID, 1.5))
            self.painter.drawLine(QLineF(box.left(), y(value), box.right(), y(value)))
            label = QRectF(box.left() - 60, y(value) - 14, 52, 28)
            said = f"{value:g}".replace("-", "−")
            self._text(label, said, Qt.AlignRight | Qt.AlignVCenter)
        self.painter.setPen(QPen(_INK, 1.5))
        self.painter.drawRect(box)
        self._title(box, track.title)
        for n, (colour, name, points) in enumerate(track.series):
            self._series(points, colour, y, n)
            if name:
                legend = QRectF(box.right() - 330, box.bottom() - 62 + 27 * n, 320, 28)
                self._text(legend, name, Qt.AlignRight, colour)

    def _title(self, box: QRectF, title: str) -> None:
        self.painter.save()
        self.painter.translate(26.0, box.center().y())
        self.painter.rotate(-90.0)
        self._text(QRectF(-box.height() / 2, -16, box.height(), 32), title, Qt.AlignCenter)
        self.painter.restore()

    def _bands(self, box: QRectF, named: bool) -> None:
        for p in self.a.phases:
            left = self._x((p.start_utc_s - self.a.began_utc_s) / 60.0)
            right = self._x(((p.end_utc_s or self.a.last_utc_s) - self.a.began_utc_s) / 60.0)
            band = QRectF(left, box.top(), max(right - left, 1.0), box.height())
            if p.kind == "freeze":
                self.painter.fillRect(band, _FREEZE)
            if named:
                said = text(self.language, f"report.phase.{p.kind}", cycle=str(p.cycle))
                self._text(band.adjusted(6, 2, 200, 0), said, Qt.AlignLeft)

    def _series(self, points: Sequence[_Point], colour: QColor, y: object, number: int) -> None:
        assert callable(y)
        self.painter.setPen(QPen(colour, 2.0, Qt.SolidLine))
        for p, q in pairwise(points):
            self.painter.drawLine(
                QLineF(self._x(p.minutes), y(p.value), self._x(q.minutes), y(q.value))
            )
        for p in points:
            x = self._x(p.minutes)
            self.painter.setPen(QPen(colour, 2.0))
            self.painter.drawLine(QLineF(x, y(p.low), x, y(p.high)))
            self.painter.setBrush(colour if p.sure else QColor("white"))
            at = QPointF(x, y(p.value))
            if number:
                self.painter.drawRect(QRectF(at.x() - 6, at.y() - 6, 12, 12))
            else:
                self.painter.drawEllipse(at, 7.0, 7.0)
            self.painter.setBrush(Qt.NoBrush)


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers within."""
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-6) / most))
    step *= next(k for k in (1, 2, 5, 10) if (high - low) / (k * step) <= most)
    first = math.ceil(low / step)
    return [k * step for k in range(first, math.floor(high / step) + 1)]
