"""What the console's three planes show: a scan, outlines, needles, and the cross that they share. LPS mm.

``stroked`` gives start and end of a line; ``pointed`` every place that is clicked, dragged over or set by
the space bar. Invariant: all planes cut the same cross.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PyQt5.QtCore import QObject, pyqtSignal

from monitor.geometry import Grid
from monitor.snapshot import NeedleLine
from monitor.view.images import Stack
from monitor.view.planes import Plane, Point
from monitor.view.scene import Array

FIELD_MM = 260.0
_LEAST_FIELD_MM = 60.0
_STEP_MM = 1.0


@dataclass(frozen=True, eq=False)
class Outline:
    """A surface to draw: the zero of ``field``."""

    field: Array
    grid: Grid
    colour: str
    dash: str = "solid"


class Shown(QObject):
    """``centre``: what lies in the middle of the planes; ``field_mm`` across the smaller side of each.
    ``brush_mm`` None: no brush. ``drawing``: lines, not points, are drawn."""

    stroked = pyqtSignal(object, object)
    pointed = pyqtSignal(object, bool)
    moved = pyqtSignal()
    changed = pyqtSignal()

    def __init__(self, language: str) -> None:
        super().__init__()
        self.stack: Stack | None = None
        self.cross: Point = (0.0, 0.0, 0.0)
        self.centre: Point = (0.0, 0.0, 0.0)
        self.field_mm = FIELD_MM
        self.window_hu = (40.0, 400.0)
        self.outlines: Sequence[Outline] = ()
        self.needles: Sequence[NeedleLine] = ()
        self.strokes: Sequence[tuple[Point, Point]] = ()
        self.brush_mm: float | None = None
        self.drawing = False
        self.note = self.banner = ""
        self.language = language
        self.start: Point | None = None
        self._given: Point | None = None

    def show_stack(self, stack: Stack | None) -> None:
        """Another scan, or the same with the slices that came late. The cross stays where a hand has put it;
        until then it is in the middle of what has come."""
        first = self.stack is None
        self.stack = stack
        if stack is not None and (first or self.cross == self._given):
            self._given = middle = _middle(stack)
            if self.cross != middle:
                self.go_to(middle)
        self.changed.emit()

    def go_to(self, point: Point) -> None:
        """The cross there, and in the middle of every plane."""
        self.centre = point
        self.move_to(point)

    def move_to(self, point: Point) -> None:
        self.cross = point
        self.moved.emit()
        self.changed.emit()

    def change_slice(self, plane: Plane, steps: int) -> None:
        """So many slices towards the head, or so many steps backwards or to the left."""
        spacing_mm = (
            self.stack.geometry.slice_spacing_mm if self.stack and plane.across == 2 else 0.0
        )
        x, y, z = (
            v + (steps * max(spacing_mm, _STEP_MM) if axis == plane.across else 0.0)
            for axis, v in enumerate(self.cross)
        )
        self.move_to((x, y, z))

    def zoom(self, factor: float) -> None:
        self.field_mm = float(np.clip(self.field_mm / factor, _LEAST_FIELD_MM, 2 * FIELD_MM))
        self.centre = self.cross
        self.changed.emit()

    # ------------------------------------------------------------------ drawing

    def touch(self) -> None:
        """A hand on the cross's place: begins a line, or is a point."""
        if self.drawing:
            self.start = self.cross
        else:
            self.pointed.emit(self.cross, False)

    def drag_to(self, point: Point) -> None:
        self.move_to(point)
        if self.brush_mm is not None:
            self.pointed.emit(self.cross, True)

    def let_go(self) -> None:
        """Ends a line that was begun."""
        if self.drawing and self.start is not None:
            start, self.start = self.start, None
            self.stroked.emit(start, self.cross)
        self.changed.emit()

    def set_point(self) -> None:
        """By the space bar: a line takes two."""
        if self.drawing and self.start is not None:
            self.let_go()
        else:
            self.touch()
        self.changed.emit()

    def take_back(self) -> None:
        """Forgets a line that was begun."""
        self.start = None
        self.changed.emit()


def _middle(stack: Stack) -> Point:
    last = np.array(stack.hu.shape) - 1
    x, y, z = stack.geometry.to_lps_mm(last / 2.0)
    return (float(x), float(y), float(z))
