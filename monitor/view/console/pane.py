"""One axial plane to draw on: CT, outlines, needles, a cross that mouse and keys move. LPS mm onto pixels.

``stroked`` gives start and end of a line, dragged or set by two presses of the space bar; ``pointed`` every
place that is clicked, dragged over or set by the space bar.
Invariant: whatever the mouse can draw here, the keys can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PyQt5.QtCore import QPointF, pyqtSignal
from PyQt5.QtGui import QPainter, QPainterPath
from PyQt5.QtWidgets import QSizePolicy, QWidget

from monitor.geometry import Grid
from monitor.snapshot import NeedleLine
from monitor.view import layers, style
from monitor.view.images import SLAB_MM, Stack
from monitor.view.marks import draw_needles
from monitor.view.planes import AXIAL, Frame, Point
from monitor.view.qt import Qt
from monitor.view.replaying import draw_replay
from monitor.view.scene import Array
from monitor.view.words import Places, Word

_STEP_MM, _FAST_MM = 1.0, 5.0
_FIELD_MM = 260.0
_LEAST_MM = 60.0
_ARROWS = {
    Qt.Key_Left: (-1, 0), Qt.Key_Right: (1, 0), Qt.Key_Up: (0, -1), Qt.Key_Down: (0, 1),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Outline:
    """A surface to draw: the zero of ``field``."""

    field: Array
    grid: Grid
    colour: str
    dash: str = "solid"


class EditPane(QWidget):
    """The plane. ``brush_mm`` None: no brush."""

    stroked = pyqtSignal(object, object)
    pointed = pyqtSignal(object, bool)
    moved = pyqtSignal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.StrongFocus)
        self.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Expanding)
        self.setMinimumSize(320, 240)
        self.stack: Stack | None = None
        self.cross: Point = (0.0, 0.0, 0.0)
        self.centre: Point = (0.0, 0.0, 0.0)
        self._given: Point | None = None
        self.field_mm = _FIELD_MM
        self.window_hu = (40.0, 400.0)
        self.outlines: Sequence[Outline] = ()
        self.needles: Sequence[NeedleLine] = ()
        self.strokes: Sequence[tuple[Point, Point]] = ()
        self.brush_mm: float | None = None
        self.scale = 1.0
        self.drawing = False
        self.note = self.banner = ""
        self._start: Point | None = None
        self._dragging = False

    # ------------------------------------------------------------------ what to show

    def show_stack(self, stack: Stack | None) -> None:
        """Another scan, or the same with the slices that came late. The cross stays where a hand has put it;
        until then it is in the middle of what has come."""
        first = self.stack is None
        self.stack = stack
        if stack is not None and (first or self.cross == self._given):
            self._given = middle = _middle(stack)
            if self.cross != middle:
                self.go_to(middle)
        self.update()

    def go_to(self, point: Point) -> None:
        self.cross = self.centre = point
        self.moved.emit()
        self.update()

    def frame(self) -> Frame:
        size = max(1, min(self.width(), self.height()))
        return Frame(AXIAL, self.centre, size / self.field_mm, self.width(), self.height())

    def take_back(self) -> None:
        """Forgets a line that was begun."""
        self._start = None
        self.update()

    # ------------------------------------------------------------------ mouse and keys

    def change_slice(self, steps: int) -> None:
        """So many slices towards the head."""
        step = self.stack.geometry.slice_spacing_mm if self.stack else _STEP_MM
        x, y, z = self.cross
        self.cross = (x, y, z + steps * max(step, _STEP_MM))
        self.moved.emit()
        self.update()

    def zoom(self, factor: float) -> None:
        self.field_mm = float(np.clip(self.field_mm / factor, _LEAST_MM, 2 * _FIELD_MM))
        self.centre = self.cross
        self.update()

    def _at(self, event: Any) -> Point:
        right, vertical = self.frame().to_mm(event.x() + 0.5, event.y() + 0.5)
        return (right, vertical, self.cross[2])

    def _move_to(self, point: Point) -> None:
        self.cross = point
        self.moved.emit()
        self.update()

    def mousePressEvent(self, event: Any) -> None:
        if event.button() == Qt.LeftButton and self.stack is not None:
            self._dragging = True
            self._move_to(self._at(event))
            if self.drawing:
                self._start = self.cross
            else:
                self.pointed.emit(self.cross, False)

    def mouseMoveEvent(self, event: Any) -> None:
        if self._dragging:
            self._move_to(self._at(event))
            if self.brush_mm is not None:
                self.pointed.emit(self.cross, True)

    def mouseReleaseEvent(self, event: Any) -> None:
        if self._dragging and self.drawing and self._start is not None:
            start, self._start = self._start, None
            self.stroked.emit(start, self.cross)
        self._dragging = False

    def wheelEvent(self, event: Any) -> None:
        if event.modifiers() & Qt.ControlModifier:
            self.zoom(1.15 if event.angleDelta().y() > 0 else 1 / 1.15)
        else:
            self.change_slice(1 if event.angleDelta().y() > 0 else -1)
        event.accept()

    def keyPressEvent(self, event: Any) -> None:
        key = event.key()
        if key in _ARROWS:
            step = _FAST_MM if event.modifiers() & Qt.ShiftModifier else _STEP_MM
            dx, dy = _ARROWS[key]
            x, y, z = self.cross
            self._move_to((x + step * dx, y + step * dy, z))
        elif key in (Qt.Key_PageUp, Qt.Key_PageDown):
            self.change_slice(1 if key == Qt.Key_PageUp else -1)
        elif key in (Qt.Key_Plus, Qt.Key_Equal, Qt.Key_Minus):
            self.zoom(0.8 if key == Qt.Key_Minus else 1.25)
        elif key == Qt.Key_Space and not event.isAutoRepeat():
            self._set_point()
        elif key == Qt.Key_Escape:
            self.take_back()
        else:
            super().keyPressEvent(event)

    def _set_point(self) -> None:
        if self.stack is None:
            return
        if not self.drawing:
            self.pointed.emit(self.cross, False)
        elif self._start is None:
            self._start = self.cross
        else:
            start, self._start = self._start, None
            self.stroked.emit(start, self.cross)
        self.update()

    # ------------------------------------------------------------------ painting

    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        painter.setRenderHints(QPainter.Antialiasing | QPainter.SmoothPixmapTransform)
        painter.fillRect(self.rect(), style.colour("pane"))
        frame = self.frame()
        if self.stack is not None:
            self._paint_ct(painter, frame)
            for outline in self.outlines:
                path = layers.contour(outline.field, outline.grid, frame, self.cross[2], 0.0)
                style.stroke(painter, path, outline.colour, 2.2, outline.dash)
            draw_needles(painter, self.needles, frame, self.cross, 0.7 * self.scale, Places())
            self._paint_marks(painter, frame)
        if self.note:
            middle = QPointF(self.width() / 2, self.height() / 2)
            Word(self.note, middle, 22 * self.scale, align="centre").draw(painter)
        if self.banner:
            draw_replay(painter, self.rect(), self.banner)
        if self.hasFocus():
            painter.setBrush(Qt.NoBrush)
            painter.setPen(style.line_pen("text", 2.0))
            painter.drawRect(self.rect().adjusted(1, 1, -1, -1))
        painter.end()

    def _paint_ct(self, painter: QPainter, frame: Frame) -> None:
        assert self.stack is not None
        made = layers.ct_picture(self.stack, None, frame, self.cross[2], SLAB_MM)
        if made is None:
            return
        picture, _ = made
        image = layers.grey_image(picture, frame.plane.up, self.window_hu)
        layers.draw_image(painter, image, picture, frame)

    def _paint_marks(self, painter: QPainter, frame: Frame) -> None:
        lines = list(self.strokes)
        if self._start is not None:
            lines.append((self._start, self.cross))
        for start, end in lines:
            path = QPainterPath(QPointF(*frame.to_px(np.array(start))))
            path.lineTo(QPointF(*frame.to_px(np.array(end))))
            style.stroke(painter, path, "lesion", 2.0)
        cross = QPointF(*frame.to_px(np.array(self.cross)))
        mark = QPainterPath()
        if self.brush_mm is not None:
            radius = self.brush_mm * frame.px_per_mm
            mark.addEllipse(cross, radius, radius)
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            mark.moveTo(cross + QPointF(dx, dy) * 5.0)
            mark.lineTo(cross + QPointF(dx, dy) * 13.0)
        style.stroke(painter, mark, "mark", 1.4)


def _middle(stack: Stack) -> Point:
    last = np.array(stack.hu.shape) - 1
    x, y, z = stack.geometry.to_lps_mm(last / 2.0)
    return (float(x), float(y), float(z))
