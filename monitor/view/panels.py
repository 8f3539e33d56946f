"""Header, readouts, alarm row and footer: painted from the screen model alone.

Sizes in design units times ``scale``. Invariant: every item keeps its place in every state, so
that nothing on the screen shifts when a number or an alarm comes or goes.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from importlib import metadata
from typing import Any

from PyQt5.QtCore import QLineF, QPointF, QRectF
from PyQt5.QtGui import QFontMetricsF, QPainter, QPainterPath
from PyQt5.QtWidgets import QWidget

from monitor.model import Priority
from monitor.view import style
from monitor.view.alarms import AlarmLine
from monitor.view.layout import SMALL_DU
from monitor.view.marks import ring, wrapped
from monitor.view.panes import LINE_DU, PREDICTED_LINES, THIN_DU
from monitor.view.qt import Qt
from monitor.view.readouts import Readout
from monitor.view.translations import text
from monitor.view.viewmodel import ScreenModel

_VERSION = metadata.version("iceball-monitor")
_RIGHT = Qt.AlignRight | Qt.AlignVCenter
_LEFT = Qt.AlignLeft | Qt.AlignVCenter
_READOUTS_HIGH_DU = 844
# Less than this, and the header leaves out how long the phase lasts.
_WIDE_DU = 1500


class _AbstractWidget(ABCMeta, type(QWidget)):  # type: ignore[misc]
    """Qt's classes have a metaclass of their own: an abstract one has to be both."""


class Panel(QWidget, metaclass=_AbstractWidget):
    """A part of the screen that repaints only when what it shows has changed."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.scale = 1.0
        self.model: ScreenModel | None = None
        self._shown: Any = None
        self.setAttribute(Qt.WA_OpaquePaintEvent)

    def show_model(self, model: ScreenModel) -> None:
        self.model = model
        shown = (self.content(model), self.scale, self.size())
        if shown != self._shown:
            self._shown = shown
            self.update()

    @abstractmethod
    def content(self, model: ScreenModel) -> tuple[object, ...]:
        """What of the model this panel shows."""

    @abstractmethod
    def paint(self, painter: QPainter, model: ScreenModel) -> None:
        """Paints that, on a filled background."""

    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        painter.setRenderHints(QPainter.Antialiasing | QPainter.TextAntialiasing)
        painter.fillRect(self.rect(), style.colour("panel"))
        if self.model is not None:
            self.paint(painter, self.model)
        painter.end()

    def box(self, x: float, y: float, w: float, h: float) -> QRectF:
        """A rectangle given in design units."""
        k = self.scale
        return QRectF(x * k, y * k, w * k, h * k)

    @property
    def width_du(self) -> float:
        return self.width() / self.scale


class Header(Panel):
    """Patient, cycle and phase, the phase's clock."""

    def content(self, model: ScreenModel) -> tuple[object, ...]:
        return model.patient, model.phase, model.clock, model.clock_of, model.replayed

    def paint(self, painter: QPainter, model: ScreenModel) -> None:
        w, k = self.width_du, self.scale
        if model.replayed:
            painter.fillRect(self.rect(), style.colour("replay"))
        short = w < _WIDE_DU
        left, middle = (w - 190, 0.41 * w) if short else (w - 330, 0.45 * w)
        of = f"/ {model.clock_of}" if model.clock_of else ""
        self._rows(painter, model.patient, 16, middle - 36)
        self._rows(painter, model.phase, middle, left - middle - 20, Qt.AlignCenter)
        style.draw_text(
            painter, self.box(left, 0, 170, 64), model.clock, 50 * k, "text", True, _RIGHT
        )
        if not short:
            at = self.box(left + 182, 3, 140, 64)
            name = "text" if model.replayed else "label"
            style.draw_text(painter, at, of, 34 * k, name, align=_LEFT)

    def _rows(
        self, painter: QPainter, words: str, left: float, width_du: float, align: int = _LEFT
    ) -> None:
        """The whole of it: in two smaller rows rather than with a part left out."""
        k, width = self.scale, width_du * self.scale
        whole = style.width_of(words, 1.02 * SMALL_DU * k, True) <= width
        rows = [words] if whole else wrapped(words, SMALL_DU * k, True, width)[:2]
        size, height = (40 * k, 64) if whole else (SMALL_DU * k, 32)
        for i, row in enumerate(rows):
            box = self.box(left, i * height, width_du, height)
            style.draw_text(painter, box, row, size, "text", True, align)


class Readouts(Panel):
    """The numbers, at the sizes display.md gives them, each at its own place. ``simple``: the three that
    matter most, and the age of the image."""

    simple = False

    def content(self, model: ScreenModel) -> tuple[object, ...]:
        return (
            self.simple,
            model.lesion,
            model.margin,
            model.min_margin,
            model.time_left,
            model.structure,
            model.last_ct,
            model.next_ct,
        )

    def paint(self, painter: QPainter, model: ScreenModel) -> None:
        if self.simple:
            self._paint_simple(painter, model)
            return
        stretch = self.height() / self.scale / _READOUTS_HIGH_DU
        places = (
            (model.lesion, 0, 124, True),
            (model.margin, 203, 88, True),
            (model.min_margin, 370, 56, False),
            (model.time_left, 470, 60, False),
            (model.structure, 574, 60, False),
        )
        for readout, top, size, noted in places:
            self._readout(painter, readout, top * stretch, size, noted)
        self._rule(painter, 680 * stretch)
        self._last_ct(painter, model.last_ct, 683 * stretch)
        self._next_ct(painter, model.next_ct, 736 * stretch)

    def _paint_simple(self, painter: QPainter, model: ScreenModel) -> None:
        high = self.height() / self.scale
        each = (high - 60) / 3
        for i, readout in enumerate((model.lesion, model.margin, model.min_margin)):
            size = min((110, 100, 60)[i], 0.9 * (each - 40))
            self._readout(painter, readout, i * each, size, False)
        self._last_ct(painter, model.last_ct, high - 58)

    def _readout(self, painter: QPainter, r: Readout, top: float, size: float, noted: bool) -> None:
        k, w = self.scale, self.width_du - 32
        style.draw_text(painter, self.box(20, top, w, 38), r.label, 33 * k, "label")
        style.draw_text(
            painter, self.box(20, top + 36, w, 1.06 * size), r.value, size * k, r.tone, True
        )
        if noted:
            box = self.box(20, top + 34 + 1.06 * size, w, 36)
            style.draw_text(painter, box, r.note, SMALL_DU * k, "label")

    def _last_ct(self, painter: QPainter, r: Readout, top: float) -> None:
        box, name = self.box(12, top, self.width_du - 24, 52), r.tone
        if name == "alarm_medium":
            painter.fillRect(box, style.colour(name))
            name = "alarm_medium_text"
        words = box.adjusted(8 * self.scale, 0, 0, 0)
        style.draw_text(painter, words, r.value, 44 * self.scale, name, True)

    def _next_ct(self, painter: QPainter, r: Readout, top: float) -> None:
        """When, then why, in two rows where one is too short."""
        k, w = self.scale, self.width_du - 32
        style.draw_text(painter, self.box(20, top, w, 38), r.value, 34 * k, r.tone)
        for i, row in enumerate(wrapped(r.note, SMALL_DU * k, False, w * k)[:2]):
            box = self.box(20, top + 38 + 35 * i, w, 36)
            style.draw_text(painter, box, row, SMALL_DU * k, "label")

    def _rule(self, painter: QPainter, y: float) -> None:
        painter.setPen(style.line_pen("rule", 2 * self.scale))
        painter.drawLine(
            QLineF(24 * self.scale, y * self.scale, self.width() - 24 * self.scale, y * self.scale)
        )


class AlarmRow(Panel):
    """The highest alarm; empty when all is quiet. Nothing else ever covers it."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.lit = True

    def content(self, model: ScreenModel) -> tuple[object, ...]:
        return model.alarm, self.lit

    def paint(self, painter: QPainter, model: ScreenModel) -> None:
        painter.fillRect(self.rect(), style.colour("window"))
        if model.alarm is not None:
            self._alarm(painter, model.alarm)

    def _alarm(self, painter: QPainter, alarm: AlarmLine) -> None:
        """Filled when lit; outlined in the dark half of a flash and for low priority."""
        name, k = f"alarm_{alarm.priority.value}", self.scale
        filled = self.lit and alarm.priority is not Priority.LOW
        high = self.height() / k
        box = self.box(8, 2, self.width_du - 16, high - 4)
        ink = f"{name}_text" if filled else name
        if filled:
            painter.fillRect(box, style.colour(name))
        else:
            ink = "alarm_high_dark" if alarm.priority is Priority.HIGH else name
            painter.setPen(style.line_pen(name, 3 * k))
            painter.drawRect(box.adjusted(1.5 * k, 1.5 * k, -1.5 * k, -1.5 * k))
        style.draw_text(painter, self.box(24, 4, 90, high - 8), alarm.stars, 38 * k, ink, True)
        self._sentence(painter, alarm.sentence, ink)
        at = self.box(self.width_du - 104, 4, 80, high - 8)
        style.draw_text(painter, at, alarm.others, 34 * k, ink, True, _RIGHT)

    def _sentence(self, painter: QPainter, sentence: str, ink: str) -> None:
        """In one row where it can be read from afar, else in two."""
        k, high, width = self.scale, self.height() / self.scale, self.width_du - 232
        whole = style.width_of(sentence, 1.02 * SMALL_DU * k, True) <= width * k
        rows = [sentence] if whole else wrapped(sentence, SMALL_DU * k, True, width * k)
        if len(rows) > 2:
            rows = [rows[0], " ".join(rows[1:])]
        for i, row in enumerate(rows):
            box = self.box(116, 4 + i * (high - 8) / len(rows), width, (high - 8) / len(rows))
            size = 40 if whole else SMALL_DU
            style.draw_text(painter, box, row, size * k, ink, True, Qt.AlignCenter)


_LEGEND_DU = 54


class Footer(Panel):
    """The legend, drawn with the very pens of the planes, and the research notice. A question or a
    confirmation to the operator takes the legend's place for a few seconds."""

    simple = False

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.said = ""

    def content(self, model: ScreenModel) -> tuple[object, ...]:
        return model.language, model.margin_text, self.said, self.simple

    def paint(self, painter: QPainter, model: ScreenModel) -> None:
        painter.fillRect(self.rect(), style.colour("window"))
        language, k = model.language, self.scale
        if self.said:
            self._say(painter)
        elif not self.simple:
            self._legend(painter, legend_items(language, model.margin_text))
        room, notice = self.width_du - 32, text(language, "notice")
        rows = wrapped(notice, SMALL_DU * k, False, room * k) if self.simple else [notice]
        if self.simple and self.said:
            return
        top = 0 if self.simple else _LEGEND_DU
        for i, row in enumerate(rows[:2]):
            box = self.box(16, top + 38 * i, room, 40)
            style.draw_text(painter, box, row, SMALL_DU * k, "dim")
        if not self.simple:
            keys = f"{text(language, 'keys')} · v{_VERSION}"
            style.draw_text(
                painter, self.box(16, _LEGEND_DU, room, 40), keys, SMALL_DU * k, "dim", align=_RIGHT
            )

    @property
    def legend_height(self) -> int:
        """Pixels, from the top."""
        return round(_LEGEND_DU * self.scale)

    def _say(self, painter: QPainter) -> None:
        box = self.box(8, 4, self.width_du - 16, 48)
        painter.setPen(style.line_pen("text", 3 * self.scale))
        painter.drawRect(box)
        words = box.adjusted(12 * self.scale, 0, -12 * self.scale, 0)
        style.draw_text(painter, words, self.said, 36 * self.scale, "text", True, Qt.AlignCenter)

    def _legend(self, painter: QPainter, items: list[tuple[str, str, str]]) -> None:
        k, sample, gap = self.scale, 54 * self.scale, 10 * self.scale
        size, space = SMALL_DU * k, 22 * k
        room = self.width() - 32 * k
        while (taken := self._taken(items, size, sample, gap, space)) > room and size > 12 * k:
            size -= k
            space = 16 * k
        space += min(24 * k, (room - taken) / max(1, len(items) - 1))
        x, y = 16 * k, 28 * k
        for words, name, dash in items:
            if name:
                self._sample(painter, x, y, sample, name, dash)
                x += sample + gap
            x += style.draw_text(
                painter, QRectF(x, 0, self.width() - x, 2 * y), words, size, "text"
            )
            x += space if name else gap

    def _taken(
        self,
        items: list[tuple[str, str, str]],
        size: float,
        sample: float,
        gap: float,
        space: float,
    ) -> float:
        metrics = QFontMetricsF(style.font(size))
        words = sum(metrics.horizontalAdvance(w) for w, _, _ in items)
        return words + sum(sample + gap + space if name else gap for _, name, _ in items) - space

    def _sample(
        self, painter: QPainter, x: float, y: float, width: float, name: str, dash: str
    ) -> None:
        if name == "mark":
            ring(painter, QPointF(x + width / 2, y), 12 * self.scale, self.scale)
            return
        if name in ("ice", "critical") and dash == "solid":
            alpha = 0.4 if name == "critical" else 0.3
            painter.fillRect(
                QRectF(x, y - 9 * self.scale, width, 18 * self.scale), style.colour(name, alpha)
            )
        if name != "lesion" and dash != "solid":
            band = QRectF(x, y - 9 * self.scale, width, 18 * self.scale)
            painter.fillRect(band, style.hatched(name, 0.75, self.scale))
        path = QPainterPath(QPointF(x, y))
        path.lineTo(QPointF(x + width, y))
        style.stroke(
            painter, path, name, (LINE_DU if dash == "solid" else THIN_DU) * self.scale * 1.15, dash
        )


def legend_items(language: str, margin: str) -> list[tuple[str, str, str]]:
    """(words, colour, dash) of each line the planes draw; no colour for words alone."""
    predicted = [
        (text(language, f"legend.{what}"), name, dash)
        for what, (name, dash) in zip(("edge", "cold20", "cold40"), PREDICTED_LINES, strict=True)
    ]
    return [
        (text(language, "legend.lesion"), "lesion", "solid"),
        (text(language, "legend.margin", margin=margin), "lesion", "dashed"),
        (text(language, "legend.ice"), "ice", "solid"),
        (text(language, "legend.predicted"), "", ""),
        *predicted,
        (text(language, "legend.critical"), "critical", "solid"),
        (text(language, "legend.needle"), "needle", "solid"),
        (text(language, "legend.mark"), "mark", "solid"),
    ]
