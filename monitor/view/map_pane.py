"""The margin map in the third place: bright where the margin is least, the worst point marked.

Millimetres of margin; sizes in design units times ``scale``. Steps of grey, told apart by every eye,
with their limits below; what is not covered is hatched besides.
Invariant: without a margin that may be shown there is no map.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from PyQt5.QtCore import QPointF, QRectF
from PyQt5.QtGui import QImage, QPainter, QPainterPath
from PyQt5.QtWidgets import QWidget
from scipy import ndimage

from monitor.view import style
from monitor.view.layout import SMALL_DU
from monitor.view.marks import RING_DU, draw_frame, ring
from monitor.view.qt import Qt
from monitor.view.scene import Scene
from monitor.view.surface_map import SurfaceMap, on_map, surface_map
from monitor.view.translations import text
from monitor.view.turns import Turns
from monitor.view.viewmodel import ScreenModel
from monitor.view.words import Word

# Outcomes differ at 3 mm and at the goal (clinical.md); 0 is the lesion's own surface.
_STEPS_MM = (0.0, 3.0)
_GREYS = (240, 165, 95, 40)
_TITLE_DU, _LEGEND_DU = 46, 46


class MapPane(QWidget):
    """Made anew only when lesion, ice or place has changed."""

    def __init__(self, scene: Scene, parent: QWidget, turns: Turns) -> None:
        super().__init__(parent)
        self._turns = turns
        self.scene, self.scale = scene, 1.0
        self.model: ScreenModel | None = None
        self.map: SurfaceMap | None = None
        self._of: Any = None
        self._unsure = self._pending = False
        self._key: Any = None
        self._image = QImage()
        self.setAttribute(Qt.WA_OpaquePaintEvent)

    def show_model(self, model: ScreenModel) -> None:
        self.model = model
        s, shown = self.scene.snapshot, model.layers
        of = None
        if s is not None and shown.ice and self.scene.lesion is not None and s.analysis_grid:
            of = (s.lesion_sdf, s.ice_inner_sdf if shown.band else s.ice_sdf, s.analysis_grid)
        if of != self._of:
            # In a turn of its own, as it takes as long as a plane; until then there is no map.
            self._of, self.map, self._unsure = of, None, shown.band
            self._pending = of is not None
            self._turns.add(self._make)
        self._refresh(model)

    def _make(self) -> None:
        """The map of what is shown now, once. A fault in it is told as any slot's is."""
        if not self._pending or self.model is None:
            return
        self._pending = False
        self.map = self._made(self._unsure)
        self._refresh(self.model)

    def _refresh(self, model: ScreenModel) -> None:
        s, shown, of = self.scene.snapshot, model.layers, self._of
        key = (self.map is None, of, self.size(), self.scale, model.language, model.frame, model.looking,
               shown.band, self.scene.worst(), s.margin_goal_mm if s else None)  # fmt: skip
        if key != self._key:
            self._key = key
            self._image = self._picture()
            self.update()

    def _made(self, unsure: bool) -> SurfaceMap | None:
        """Of the inner bound where the edge is not sure: the least margin."""
        s, ice, bounds = self.scene.snapshot, self.scene.ice, self.scene.ice_bounds
        if self._of is None or s is None or s.analysis_grid is None or self.scene.lesion is None:
            return None
        if unsure and bounds is not None:
            ice = bounds[0]
        if ice is None:
            return None
        return surface_map(self.scene.lesion, ice, s.analysis_grid, self.scene.centre)

    # ------------------------------------------------------------------ painting

    def _ellipse(self) -> QRectF:
        """Twice as wide as high, between title and legend."""
        k = self.scale
        room = QRectF(self.rect()).adjusted(
            34 * k, _TITLE_DU * k, -34 * k, -(_LEGEND_DU + self._banner_du()) * k
        )
        width = min(room.width(), 2.0 * room.height())
        place = QRectF(0, 0, width, width / 2)
        place.moveCenter(room.center())
        return place

    def _banner_du(self) -> float:
        return 50.0 if self.model is not None and self.model.looking else 0.0

    def _limits_mm(self) -> list[float]:
        goal = self.scene.snapshot.margin_goal_mm if self.scene.snapshot else math.nan
        return [*(v for v in _STEPS_MM if v < goal), goal] if goal > 0 else [0.0]

    def _picture(self) -> QImage:
        if self.map is None:
            return QImage()
        place = self._ellipse().toRect()
        h, w = max(place.height(), 2), max(place.width(), 2)
        fine = _enlarged(self.map.margin_mm, h, w)
        grey = np.array(_GREYS, np.uint8)[np.digitize(fine, self._limits_mm())]
        y, x = np.mgrid[0:h, 0:w]
        hatch = (fine < 0) & (
            (x + y) % max(6, round(10 * self.scale)) < max(1, round(2 * self.scale))
        )
        grey[hatch] = 0
        outside = ((x + 0.5) / w * 2 - 1) ** 2 + ((y + 0.5) / h * 2 - 1) ** 2 > 1
        grey[outside | np.isnan(fine)] = 0
        data: Any = np.ascontiguousarray(grey).data
        return QImage(data, w, h, w, QImage.Format_Grayscale8).copy()

    def paintEvent(self, event: Any) -> None:
        self._make()  # nothing of an older snapshot is ever painted
        painter = QPainter(self)
        painter.setRenderHints(QPainter.Antialiasing | QPainter.TextAntialiasing)
        painter.fillRect(self.rect(), style.colour("pane"))
        if self.model is not None:
            self._paint(painter, self.model)
        painter.end()

    def _paint(self, painter: QPainter, model: ScreenModel) -> None:
        k, language = self.scale, model.language
        title = "map.none" if self._of is None else "map.least" if model.layers.band else "map"
        box = QRectF(10 * k, 0, self.width() - 20 * k, _TITLE_DU * k)
        if model.layers.image:
            style.draw_text(painter, box, text(language, title), SMALL_DU * k, "text")
        if self.map is not None:
            place = self._ellipse()
            painter.drawImage(place.topLeft().toPoint(), self._image)
            painter.setPen(style.line_pen("dim", 2 * k))
            painter.drawEllipse(place)
            worst = self.worst_at(place)
            self._letters(painter, place, language, worst)
            if worst is not None:
                ring(painter, worst, RING_DU * k, k)
            self._legend(painter, language)
        if model.looking:
            banner = QRectF(0, self.height() - 50 * k, self.width(), 50 * k)
            painter.fillRect(banner, style.colour("look"))
            style.draw_text(
                painter, banner, model.looking[0], SMALL_DU * k, "look_text", True, Qt.AlignCenter
            )
        draw_frame(painter, QRectF(self.rect()), model, k)

    def _letters(
        self, painter: QPainter, place: QRectF, language: str, worst: QPointF | None
    ) -> None:
        """All but one that would stand where the worst point is marked."""
        size, c = 32 * self.scale, place.center()
        down = QPointF(0, 0.36 * size)
        for letter, at in (
            ("A", c),
            ("R", QPointF(c.x() - place.width() / 4, c.y())),
            ("L", QPointF(c.x() + place.width() / 4, c.y())),
            ("S", QPointF(c.x(), place.top() + 0.6 * size)),
            ("I", QPointF(c.x(), place.bottom() - 0.6 * size)),
        ):
            if worst is not None and math.hypot(*_xy(at - worst)) < 1.2 * size:
                continue
            said = text(language, f"letter.{letter}")
            Word(said, at + down, size, "text", True, "centre").draw(painter)

    def worst_at(self, place: QRectF) -> QPointF | None:
        """Where the smallest margin lies, seen from where the rays begin."""
        worst = self.scene.worst()
        at = None if worst is None or self.map is None else on_map(worst, self.map.centre_lps_mm)
        if at is None:
            return None
        c = place.center()
        return QPointF(c.x() + at[0] * place.width() / 2, c.y() - at[1] * place.height() / 2)

    def _legend(self, painter: QPainter, language: str) -> None:
        """One box for each step, the worst first."""
        k, limits = self.scale, [f"{v:g}" for v in self._limits_mm()]
        names = [f"<{limits[0]}", *(f"{a}–{b}" for a, b in itertools.pairwise(limits)),
                 f"≥{limits[-1]} mm"]  # fmt: skip
        top = self.height() - (_LEGEND_DU + self._banner_du()) * k
        x = 10 * k
        for i, name in enumerate(names):
            painter.fillRect(QRectF(x, top + 10 * k, 22 * k, 26 * k), _grey(i))
            painter.setPen(style.line_pen("dim", 1.5 * k))
            painter.drawRect(QRectF(x, top + 10 * k, 22 * k, 26 * k))
            if i == 0:
                slash = QPainterPath(QPointF(x, top + 36 * k))
                slash.lineTo(QPointF(x + 22 * k, top + 10 * k))
                painter.strokePath(slash, style.line_pen("casing", 3 * k))
            x += 28 * k
            box = QRectF(x, top, self.width() - x, _LEGEND_DU * k)
            x += style.draw_text(painter, box, name, SMALL_DU * k, "text") + 12 * k


def _xy(p: QPointF) -> tuple[float, float]:
    return p.x(), p.y()


def _grey(step: int) -> Any:
    colour = style.colour("pane")
    colour.setRgb(*(3 * (_GREYS[step],)))
    return colour


def _enlarged(margin_mm: np.ndarray, height: int, width: int) -> np.ndarray:
    """Linear between the map's pixels; past its edge as at the nearest of them."""
    known = np.isfinite(margin_mm)
    if not known.any():
        return np.full((height, width), np.nan, np.float32)
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    full = margin_mm[tuple(nearest)]
    rows = (np.arange(height) + 0.5) / height * full.shape[0] - 0.5
    columns = (np.arange(width) + 0.5) / width * full.shape[1] - 0.5
    index = np.meshgrid(rows, columns, indexing="ij")
    return np.asarray(ndimage.map_coordinates(full, index, order=1, mode="nearest"))
