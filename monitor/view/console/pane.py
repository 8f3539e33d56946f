"""One plane to draw on: CT, outlines, needles, a cross that mouse and keys move. LPS mm onto pixels.

Invariant: whatever the mouse can draw here, the keys can, and what is drawn lies in this plane.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PyQt5.QtCore import QPointF, QRectF, pyqtSignal
from PyQt5.QtGui import QImage, QPainter, QPainterPath
from PyQt5.QtWidgets import QSizePolicy, QWidget

from monitor.view import layers, style
from monitor.view.console.shown import Shown
from monitor.view.images import SLAB_MM, Picture
from monitor.view.marks import draw_needles
from monitor.view.planes import Frame, Plane, Point
from monitor.view.qt import Qt
from monitor.view.replaying import draw_replay
from monitor.view.translations import text
from monitor.view.words import Places, Word

_STEP_MM, _FAST_MM = 1.0, 5.0
_ARROWS = {
    Qt.Key_Left: (-1, 0), Qt.Key_Right: (1, 0), Qt.Key_Up: (0, -1), Qt.Key_Down: (0, 1),
}  # fmt: skip


class EditPane(QWidget):
    """``plane`` of what is ``shown``. The ``main`` one says what there is to be said. ``turned``: another
    plane is wanted here."""

    turned = pyqtSignal()

    def __init__(
        self, shown: Shown, plane: Plane, main: bool, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.StrongFocus)
        self.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Expanding)
        self.shown, self.plane, self.main = shown, plane, main
        self.scale = 1.0
        self._dragging = False
        self._made: tuple[tuple[Any, ...], tuple[QImage, Picture] | None] | None = None
        shown.changed.connect(self.update)

    def frame(self) -> Frame:
        size = max(1, min(self.width(), self.height()))
        per_mm = size / self.shown.field_mm
        return Frame(self.plane, self.shown.centre, per_mm, self.width(), self.height())

    # ------------------------------------------------------------------ mouse and keys

    def _at(self, event: Any) -> Point:
        at = list(self.shown.cross)
        frame = self.frame()
        at[self.plane.right], at[self.plane.vertical] = frame.to_mm(
            event.x() + 0.5, event.y() + 0.5
        )
        return (at[0], at[1], at[2])

    def mousePressEvent(self, event: Any) -> None:
        if event.button() == Qt.LeftButton and self.shown.stack is not None:
            self._dragging = True
            self.shown.move_to(self._at(event))
            self.shown.touch()
        elif event.button() == Qt.MiddleButton:
            self.turned.emit()

    def mouseMoveEvent(self, event: Any) -> None:
        if self._dragging:
            self.shown.drag_to(self._at(event))

    def mouseReleaseEvent(self, event: Any) -> None:
        if self._dragging:
            self._dragging = False
            self.shown.let_go()

    def wheelEvent(self, event: Any) -> None:
        up = event.angleDelta().y() > 0
        if event.modifiers() & Qt.ControlModifier:
            self.shown.zoom(1.15 if up else 1 / 1.15)
        else:
            self.shown.change_slice(self.plane, 1 if up else -1)
        event.accept()

    def keyPressEvent(self, event: Any) -> None:
        key, shown = event.key(), self.shown
        if key in _ARROWS:
            self._step(
                *_ARROWS[key], _FAST_MM if event.modifiers() & Qt.ShiftModifier else _STEP_MM
            )
        elif key in (Qt.Key_PageUp, Qt.Key_PageDown):
            shown.change_slice(self.plane, 1 if key == Qt.Key_PageUp else -1)
        elif key in (Qt.Key_Plus, Qt.Key_Equal, Qt.Key_Minus):
            shown.zoom(0.8 if key == Qt.Key_Minus else 1.25)
        elif key == Qt.Key_Space and not event.isAutoRepeat() and shown.stack is not None:
            shown.set_point()
        elif key == Qt.Key_P and not event.isAutoRepeat():
            self.turned.emit()
        elif key == Qt.Key_Escape:
            shown.take_back()
        else:
            super().keyPressEvent(event)

    def _step(self, right: int, down: int, mm: float) -> None:
        at = list(self.shown.cross)
        at[self.plane.right] += right * mm
        at[self.plane.vertical] += (-down if self.plane.up else down) * mm
        self.shown.move_to((at[0], at[1], at[2]))

    # ------------------------------------------------------------------ painting

    def paintEvent(self, event: Any) -> None:
        painter, shown = QPainter(self), self.shown
        painter.setRenderHints(QPainter.Antialiasing | QPainter.SmoothPixmapTransform)
        painter.fillRect(self.rect(), style.colour("pane"))
        if shown.stack is not None:
            self._paint_scene(painter, self.frame())
        if shown.note and self.main:
            middle = QPointF(self.width() / 2, self.height() / 2)
            Word(shown.note, middle, 22 * self.scale, align="centre").draw(painter)
        if shown.banner and self.main:
            draw_replay(painter, self.rect(), shown.banner)
        if self.hasFocus():
            painter.setBrush(Qt.NoBrush)
            painter.setPen(style.line_pen("text", 2.0))
            painter.drawRect(self.rect().adjusted(1, 1, -1, -1))
        painter.end()

    def _paint_scene(self, painter: QPainter, frame: Frame) -> None:
        shown = self.shown
        at_mm = shown.cross[self.plane.across]
        made = self._ct(frame, at_mm)
        if made is not None:
            layers.draw_image(painter, *made, frame)
        for outline in shown.outlines:
            path = layers.contour(outline.field, outline.grid, frame, at_mm, 0.0)
            style.stroke(painter, path, outline.colour, 2.2, outline.dash)
        draw_needles(painter, shown.needles, frame, shown.cross, 0.7 * self.scale, Places())
        self._paint_marks(painter, frame)
        self._paint_letters(painter)

    def _ct(self, frame: Frame, at_mm: float) -> tuple[QImage, Picture] | None:
        """The plane's picture, anew only where it has changed: the console looks five times a second."""
        shown = self.shown
        assert shown.stack is not None
        key = (shown.stack, frame.plane, at_mm, frame.extent_mm(), shown.window_hu)
        if self._made is None or self._made[0] != key:
            found = layers.ct_picture(shown.stack, None, frame, at_mm, SLAB_MM)
            if found is None:
                self._made = (key, None)
            else:
                image = layers.grey_image(found[0], frame.plane.up, shown.window_hu)
                self._made = (key, (image, found[0]))
        return self._made[1]

    def _paint_letters(self, painter: QPainter) -> None:
        """Which side of the patient is where."""
        left, right, top, bottom = (
            text(self.shown.language, f"letter.{c}") for c in self.plane.letters
        )
        size, w, h = 15.0 * self.scale, float(self.width()), float(self.height())
        for letter, x, y, align in (
            (left, 0.5 * size, h / 2, "left"), (right, w - 0.5 * size, h / 2, "right"),
            (top, w / 2, 1.2 * size, "centre"), (bottom, w / 2, h - 0.5 * size, "centre"),
        ):  # fmt: skip
            room = QRectF(0.0, 0.0, w, h)
            Word(letter, QPointF(x, y), size, "text", True, align).inside(room).draw(painter)

    def _paint_marks(self, painter: QPainter, frame: Frame) -> None:
        shown = self.shown
        lines = list(shown.strokes)
        if shown.start is not None:
            lines.append((shown.start, shown.cross))
        for start, end in lines:
            path = QPainterPath(QPointF(*frame.to_px(np.array(start))))
            path.lineTo(QPointF(*frame.to_px(np.array(end))))
            style.stroke(painter, path, "lesion", 2.0)
        cross = QPointF(*frame.to_px(np.array(shown.cross)))
        mark = QPainterPath()
        if shown.brush_mm is not None:
            radius = shown.brush_mm * frame.px_per_mm
            mark.addEllipse(cross, radius, radius)
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            mark.moveTo(cross + QPointF(dx, dy) * 5.0)
            mark.lineTo(cross + QPointF(dx, dy) * 13.0)
        style.stroke(painter, mark, "mark", 1.4)
