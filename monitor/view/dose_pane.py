"""Predicted cold in the third place: how cold each point has been at the coldest by now, in three classes.

Of the nominal member, on the sagittal plane, over a dimmed CT, with the lesion and its margin. °C, LPS mm;
sizes in design units times ``scale``. A class has a colour and a hatch of its own, as only what is predicted
is hatched. Invariant: the pane says that it is predicted; what may not be shown (``cold.trust``) is not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from PyQt5.QtCore import QPointF, QRectF, pyqtSignal
from PyQt5.QtGui import QPainter, QPixmap
from PyQt5.QtWidgets import QWidget

from monitor.view import cold, formats, layers, style
from monitor.view.layout import SMALL_DU
from monitor.view.marks import draw_frame, draw_scale_bar, letters, scale_caption
from monitor.view.planes import Frame, Plane
from monitor.view.qt import Qt
from monitor.view.scene import AROUND_MM, Scene
from monitor.view.translations import text
from monitor.view.turns import Turns
from monitor.view.viewmodel import ScreenModel, after_ct

# (from, up to, colour, hatch): the isotherms' own colours.
CLASSES: tuple[tuple[float | None, float, str, Any], ...] = (
    (None, -40.0, "cold40", Qt.DiagCrossPattern),
    (-40.0, -20.0, "cold20", Qt.HorPattern),
    (-20.0, 0.0, "ice", Qt.BDiagPattern),
)
_TINT, _HATCH, _CT = 0.42, 1.0, 0.65
_TOP_DU, _ROW_DU, _LEGEND_DU, _BANNER_DU = 6, 38, 46, 50
# The pane is small, and what is asked of it lies within the margin or just beyond.
_AROUND_MM = 14.0
_LINE_DU, _THIN_DU = 2.6, 2.2


class DosePane(QWidget):
    """Made anew, in a turn of its own, only when what it shows has changed. ``wheeled`` gives steps,
    ``pointed`` in-plane mm."""

    wheeled = pyqtSignal(int)
    pointed = pyqtSignal(float, float)

    def __init__(self, plane: Plane, scene: Scene, parent: QWidget, turns: Turns) -> None:
        super().__init__(parent)
        self.plane, self.scene, self.scale = plane, scene, 1.0
        self.model: ScreenModel | None = None
        self._turns = turns
        self._key: Any = None
        self._due = False
        self._image = QPixmap()
        self._wheel = 0
        self.setAttribute(Qt.WA_OpaquePaintEvent)

    def show_model(self, model: ScreenModel) -> None:
        self.model = model
        key = self._all_shown(model)
        if key != self._key:
            self._key, self._due = key, True
            self._turns.add(self._late)

    def _all_shown(self, model: ScreenModel) -> tuple[Any, ...]:
        """Whatever the picture depends on."""
        s, at = self.scene.snapshot, self.scene.cursor()[self.plane.across]
        said = (model.language, model.layers.image, model.layers.plan, model.frame, model.looking)
        if s is None:
            return self.size(), self.scale, said
        place = (self.size(), self.scale, self._frame(), at, self.scene.views)
        plan = (s.lesion_sdf, s.analysis_grid, s.margin_goal_mm)
        ct = (s.volume, s.volume_geometry, s.window_hu)
        foreseen = (s.forecast_lowest, s.forecast_grid, s.forecast_times_utc_s)
        return place, said, plan, ct, foreseen, cold.trust(model, s), self.output()

    def output(self) -> int | None:
        """Which of the forecast's times is shown; None: none of them."""
        s, model = self.scene.snapshot, self.model
        if s is None or model is None or not cold.trust(model, s).shown:
            return None
        at_utc_s, fields = model.layers.predicted_at_utc_s, self.scene.lowest
        if fields is None or at_utc_s is None or len(fields) != len(s.forecast_times_utc_s):
            return None
        return cold.output_by(s, at_utc_s)

    def _late(self) -> None:
        if self._due:
            self._make()
            self.update()

    # ------------------------------------------------------------------ where it lies

    def _room(self) -> QRectF:
        """The picture's part of the pane, between title and legend."""
        k, banner = self.scale, _BANNER_DU if self.model and self.model.looking else 0
        return QRectF(self.rect()).adjusted(
            0, (_TOP_DU + 2 * _ROW_DU) * k, 0, -(_LEGEND_DU + banner) * k
        )

    def _frame(self) -> Frame:
        room = self._room()
        width, height = max(1, int(room.width())), max(1, int(room.height()))
        shown_mm = (self.scene.field_mm - 2 * (AROUND_MM - _AROUND_MM)) / self.scene.zoom
        return Frame(self.plane, self.scene.centre, min(width, height) / shown_mm, width, height)

    # ------------------------------------------------------------------ painting

    def _make(self) -> None:
        self._due = False
        self._image = QPixmap(self.size())
        self._image.fill(style.colour("pane"))
        if self.model is None:
            return
        painter = QPainter(self._image)
        painter.setRenderHints(
            QPainter.Antialiasing | QPainter.TextAntialiasing | QPainter.SmoothPixmapTransform
        )
        if self.scene.snapshot is not None and self.model.layers.image:
            painter.save()
            painter.setClipRect(self._room())
            painter.translate(self._room().topLeft())
            self._picture(painter, self.model, self._frame())
            painter.restore()
            self._say(painter, self.model)
        self._banner(painter, self.model)
        draw_frame(painter, QRectF(self.rect()), self.model, self.scale)
        painter.end()

    def _picture(self, painter: QPainter, model: ScreenModel, frame: Frame) -> None:
        s, at = self.scene.snapshot, self.scene.cursor()[self.plane.across]
        assert s is not None
        self._draw_ct(painter, frame, at)
        i, grid = self.output(), s.forecast_grid
        if i is not None and grid is not None and self.scene.lowest is not None:
            for low, high, name, hatch in CLASSES:
                path = layers.area(self.scene.lowest[i], grid, frame, at, low, high)
                painter.fillPath(path, style.colour(name, _TINT))
                painter.fillPath(path, style.hatched(name, _HATCH, self.scale, hatch))
        lesion, own, k = self.scene.lesion, s.analysis_grid, self.scale
        if model.layers.plan and lesion is not None and own is not None:
            margin = layers.contour(lesion, own, frame, at, s.margin_goal_mm)
            style.stroke(painter, margin, "lesion", _THIN_DU * k, "dashed")
            outline = layers.contour(lesion, own, frame, at, 0.0)
            style.stroke(painter, outline, "lesion", _LINE_DU * k)
        draw_scale_bar(painter, frame, k)

    def _draw_ct(self, painter: QPainter, frame: Frame, at_mm: float) -> None:
        s, stack, views = self.scene.snapshot, self.scene.stack, self.scene.views
        made = stack and layers.ct_picture(stack, None, frame, at_mm, views.slab_mm)
        if s is None or not made:
            return
        image = layers.grey_image(made[0], self.plane.up, views.window_hu(s.window_hu, False))
        painter.setOpacity(_CT)
        layers.draw_image(painter, image, made[0], frame)
        painter.setOpacity(1.0)

    def _say(self, painter: QPainter, model: ScreenModel) -> None:
        """What it is and of when, above the picture; its orientation; what the colours are, below."""
        s, k, i, language = self.scene.snapshot, self.scale, self.output(), model.language
        assert s is not None
        trusted = cold.trust(model, s)
        if i is None and trusted.shown:
            trusted = cold.Trust.NONE
        after = "" if i is None else after_ct(s, s.forecast_times_utc_s[i], language)
        title = text(language, f"cold.title.{trusted.value}", at=after)
        plane = text(
            language,
            "plane.short",
            axis="xyz"[self.plane.across],
            at=formats.decimal(self.scene.cursor()[self.plane.across], 1, language),
        )
        when = text(language, "cold.by_then" if model.looking else "cold.so_far")
        second = plane if i is None else f"{when}, {plane}"
        for row, (words, bold) in enumerate(((title, True), (second, False))):
            box = QRectF(12 * k, (_TOP_DU + row * _ROW_DU) * k, self.width() - 24 * k, _ROW_DU * k)
            style.draw_text(painter, box, words, SMALL_DU * k, "text", bold)
        frame, corner = self._frame(), self._room().topLeft()
        for word in (*letters(frame, 0.8 * k, language), scale_caption(frame, k)):
            replace(word, at=word.at + corner).draw(painter)
        if i is not None:
            self._legend(painter)

    def _legend(self, painter: QPainter) -> None:
        """One box for each class, the coldest first."""
        k, top, x = self.scale, self._room().bottom(), 12 * self.scale
        for i, (_, high, name, hatch) in enumerate(CLASSES):
            box = QRectF(x, top + 6 * k, 36 * k, 30 * k)
            painter.fillRect(box, style.colour(name, _TINT))
            painter.fillRect(box, style.hatched(name, _HATCH, k, hatch))
            painter.setPen(style.line_pen("dim", 1.5 * k))
            painter.drawRect(box)
            x += 41 * k
            unit = f"{formats.NBSP}°C" if i == len(CLASSES) - 1 else ""
            said = f"≤{formats.decimal(high, 0, 'en')}{unit}"
            place = QRectF(x, top, self.width() - x, _LEGEND_DU * k)
            x += style.draw_text(painter, place, said, SMALL_DU * k, "text") + 11 * k

    def _banner(self, painter: QPainter, model: ScreenModel) -> None:
        if model.looking:
            k = self.scale
            box = QRectF(0, self.height() - _BANNER_DU * k, self.width(), _BANNER_DU * k)
            painter.fillRect(box, style.colour("look"))
            said, size = model.looking[0], SMALL_DU * k
            style.draw_text(painter, box, said, size, "look_text", True, Qt.AlignCenter)

    # ------------------------------------------------------------------ Qt

    def paintEvent(self, event: Any) -> None:
        if self._due:  # nothing of an older snapshot is ever painted
            self._make()
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._image)
        painter.end()

    def wheelEvent(self, event: Any) -> None:
        self._wheel += event.angleDelta().y()
        steps, self._wheel = int(self._wheel / 120), int(np.fmod(self._wheel, 120))
        if steps:
            self.wheeled.emit(steps)
        event.accept()

    def mousePressEvent(self, event: Any) -> None:
        at = QPointF(event.x() + 0.5, event.y() + 0.5) - self._room().topLeft()
        if event.button() == Qt.LeftButton and self._room().contains(QPointF(event.pos())):
            self.pointed.emit(*self._frame().to_mm(at.x(), at.y()))
