"""The paths one plane is drawn with, made from fields and kept until what they show changes.

Paths are in pane pixels; keys are the array's path, the plane's place, the level and the frame.
Invariant: a kept path is used only where a new one would be the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PyQt5.QtCore import QPointF, QRectF
from PyQt5.QtGui import QImage, QPainter, QPainterPath

from monitor.geometry import Grid
from monitor.view import contours
from monitor.view.images import Picture, Stack, difference, grey
from monitor.view.planes import Frame, Point
from monitor.view.scene import Array
from monitor.view.style import path_of

_KEPT = 64


class PathCache:
    """A small least-recently-used store of paths."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Any, ...], QPainterPath] = OrderedDict()

    def get(self, key: tuple[Any, ...], make: Callable[[], QPainterPath]) -> QPainterPath:
        if key not in self._kept:
            self._kept[key] = make()
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def _at(frame: Frame, cursor: tuple[float, float, float]) -> float:
    return cursor[frame.plane.across]


def contour(field: Array, grid: Grid, frame: Frame, at_mm: float, level: float) -> QPainterPath:
    """Where the field is ``level`` on the plane at ``at_mm``."""
    cut = contours.cut(field, grid, frame.plane, at_mm)
    if cut is None:
        return QPainterPath()
    return path_of([frame.in_plane_px(*line.T) for line in contours.lines(cut, level)])


def area(
    field: Array, grid: Grid, frame: Frame, at_mm: float, low: float | None, high: float
) -> QPainterPath:
    """Where the field lies between two levels (below ``high`` when ``low`` is None)."""
    cut = contours.cut(field, grid, frame.plane, at_mm)
    if cut is None:
        return QPainterPath()
    rings = contours.areas(cut, low, high)
    return path_of([frame.in_plane_px(*ring.T) for ring in rings], closed=True)


def predicted(
    fields: Array,
    times: Sequence[float],
    at_time: float,
    grid: Grid,
    frame: Frame,
    at_mm: float,
    levels: Sequence[float],
) -> list[QPainterPath]:
    """The isotherms at a time, one path a level."""
    cut = contours.blended_cut(fields, times, at_time, grid, frame.plane, at_mm)
    if cut is None:
        return [QPainterPath() for _ in levels]
    return [
        path_of([frame.in_plane_px(*line.T) for line in contours.lines(cut, level)])
        for level in levels
    ]


def predicted_bands(
    bounds: Array,
    times: Sequence[float],
    at_time: float,
    grid: Grid,
    frame: Frame,
    at_mm: float,
    levels: Sequence[float],
) -> list[QPainterPath]:
    """Where each isotherm may lie at a time, to be filled odd-even: colder than the level in the first of
    ``bounds`` (2, time, z, y, x), but not in the second."""
    cuts = [contours.blended_cut(b, times, at_time, grid, frame.plane, at_mm) for b in bounds]
    rings = [
        [ring for cut in cuts if cut is not None for ring in contours.areas(cut, None, level)]
        for level in levels
    ]
    return [path_of([frame.in_plane_px(*r.T) for r in some], closed=True) for some in rings]


def ct_picture(
    stack: Stack, baseline: tuple[Stack, Point] | None, frame: Frame, at_mm: float, slab_mm: float
) -> tuple[Picture, bool] | None:
    """The plane's picture; less the baseline's (moved by the point) where there is one: then True."""
    picture = stack.picture(frame.plane, at_mm, frame.extent_mm(), slab_mm)
    if picture is None or min(picture.hu.shape) < 1:
        return None
    if baseline is None:
        return picture, False
    before, moved = baseline
    plane, (r0, r1, v0, v1) = frame.plane, frame.extent_mm()
    dr, dv = moved[plane.right], moved[plane.vertical]
    extent = (r0 - dr, r1 - dr, v0 - dv, v1 - dv)
    then = before.picture(plane, at_mm - moved[plane.across], extent, slab_mm)
    if then is None or min(then.hu.shape) < 2:
        return picture, False
    return difference(picture, then, (dr, dv)), True


def draw_image(painter: QPainter, image: QImage, picture: Picture, frame: Frame) -> None:
    """A pixel is an area around its centre: the picture reaches half a pixel beyond them."""
    right, vertical = picture.right_mm, picture.vertical_mm
    half_r, half_v = (float(a[1] - a[0]) / 2 if len(a) > 1 else 0.5 for a in (right, vertical))
    (x0, y0), (x1, y1) = frame.in_plane_px(
        np.array([right[0] - half_r, right[-1] + half_r]),
        np.array([vertical[0] - half_v, vertical[-1] + half_v]),
    )
    painter.drawImage(QRectF(QPointF(x0, min(y0, y1)), QPointF(x1, max(y0, y1))), image)


def grey_image(picture: Picture, up: bool, window_hu: tuple[float, float]) -> QImage:
    """As 8-bit grey, its first row at the top of the pane."""
    values = grey(picture.hu, *window_hu)
    values = (values[::-1] if up else values).copy()
    rows, columns = values.shape
    data: Any = values.data
    return QImage(data, columns, rows, columns, QImage.Format_Grayscale8).copy()
