"""One plane of the patient: CT, plan, measured ice, prediction, needles, the cursor.

LPS mm onto pane pixels by ``planes.Frame``. Drawn in three layers: a base (CT and fills) and an
overlay (all that is measured or planned) kept as pixmaps, and between them the prediction, the
only thing that moves between scans. Invariant: a predicted edge is never solid and its band is hatched; a
measured edge is solid and its area filled, unless unsure: then it is a filled band with a dotted middle.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from PyQt5.QtCore import QPointF, QRectF, pyqtSignal
from PyQt5.QtGui import QPainter, QPainterPath, QPixmap
from PyQt5.QtWidgets import QWidget

from monitor.geometry import Grid
from monitor.model import SDS_90
from monitor.snapshot import Snapshot
from monitor.view import layers, style
from monitor.view.captions import captions
from monitor.view.layout import SMALL_DU
from monitor.view.marks import (
    RING_DU,
    Message,
    banner,
    draw_banner,
    draw_frame,
    draw_message,
    draw_name,
    draw_needles,
    draw_scale_bar,
    letters,
    message,
    ring,
    scale_caption,
    worst_point,
)
from monitor.view.planes import Frame, Plane
from monitor.view.qt import Qt
from monitor.view.scene import Scene
from monitor.view.translations import body_name
from monitor.view.turns import Turns
from monitor.view.viewmodel import ScreenModel
from monitor.view.words import Places, Word

COLD_DEGC = (-20.0, -40.0)
_ICE_FILL, _BAND_FILL, _STRUCTURE_FILL = 0.15, 0.38, 0.30
# Of the 80 % of the members' isotherms: hatched, as only what is predicted is.
_PREDICTED_FILL = 0.75
# The prediction is drawn anew when it has moved on by this much of the procedure's time.
PREDICTION_STEP_S = 1.0
LINE_DU, THIN_DU = 2.6, 2.2


class PlanePane(QWidget):
    """A plane through the scene's cursor. ``wheeled`` gives steps, ``pointed`` in-plane mm."""

    wheeled = pyqtSignal(int)
    pointed = pyqtSignal(float, float)

    def __init__(
        self, plane: Plane, scene: Scene, main: bool, parent: QWidget, turns: Turns
    ) -> None:
        super().__init__(parent)
        self.plane, self.scene, self.main = plane, scene, main
        self._turns = turns
        self.scale = 1.0
        self.model: ScreenModel | None = None
        self.slab_mm: float | None = None
        self._wheel = 0
        self._caption_rows = 0
        self._subtracted = False
        self._cross: tuple[float, float] | None = None
        self._paths = layers.PathCache()
        self._key: Any = None
        self._due: tuple[ScreenModel, Frame, Any] | None = None
        self._foreseen: tuple[ScreenModel, Frame, Any] | None = None
        self._base = self._overlay = QPixmap()
        self._prediction_key: Any = None
        self._prediction: list[QPainterPath] = []
        self._prediction_bands: list[QPainterPath] = []
        self.setAttribute(Qt.WA_OpaquePaintEvent)

    # ------------------------------------------------------------------ what to show

    def frame(self) -> Frame:
        """Where millimetres fall on this pane now."""
        shown_mm = self.scene.field_mm / self.scene.zoom
        size = max(1, min(self.width(), self.height()))
        return Frame(self.plane, self.scene.centre, size / shown_mm, self.width(), self.height())

    def show_model(self, model: ScreenModel) -> None:
        """Takes the screen's state; redraws only the layers that change with it."""
        self.model = model
        frame, cursor = self.frame(), self.scene.cursor()
        key = self._static_key(model, frame, cursor)
        changed = key != self._key
        if changed:
            self._key, self._due = key, (model, frame, cursor)
            if self.main:
                self._draw_due()
            else:  # in a turn of its own, so that keys and clocks are served between the planes
                self._turns.add(self._draw_late)
        cross = (float(v) for v in frame.to_px(np.array(cursor)))
        moved, self._cross = self._cross, (next(cross), next(cross))
        predicted = False
        alone = self.main and not changed  # its layers are work enough for one turn
        if alone or model.layers.predicted_at_utc_s is None:
            self._foreseen = None
            predicted = self._predict(model, frame, cursor)
        else:
            self._foreseen = (model, frame, cursor)
            self._turns.add(self._draw_late)
        if self._due is None and (predicted or changed or moved != self._cross):
            self.update()

    def _draw_due(self) -> None:
        """The layers that have been found to be out of date, once."""
        due, self._due = self._due, None
        if due is not None:
            self._draw_base(*due)
            self._draw_overlay(*due)

    def _draw_late(self) -> None:
        changed = self._due is not None
        self._draw_due()
        if self._predict_due() or changed:
            self.update()

    def _predict_due(self) -> bool:
        """The prediction that has been put off; whether it has moved."""
        asked, self._foreseen = self._foreseen, None
        return asked is not None and self._predict(*asked)

    def _static_key(self, model: ScreenModel, frame: Frame, cursor: Any) -> tuple[Any, ...]:
        s, shown = self.scene.snapshot, model.layers
        drawn = (shown.image, shown.plan, shown.ice, shown.band)
        if s is None:
            return frame, drawn, model.message, model.language, model.frame, model.looking
        return (
            frame,
            cursor[self.plane.across],
            drawn,
            model.message,
            model.language,
            model.frame,
            model.looking,
            self.scale,
            self.scene.views,
            s.baseline,
            s.volume,
            s.volume_geometry,
            s.window_hu,
            s.lesion_sdf,
            s.structure_sdfs,
            s.needles,
            s.analysis_grid,
            s.ice_sdf,
            s.ice_inner_sdf,
            s.ice_outer_sdf,
            s.ice_edge_error_mm,
            s.margin_goal_mm,
            self.scene.worst(),
            self.scene.chosen is None,
        )

    def _predict(self, model: ScreenModel, frame: Frame, cursor: Any) -> bool:
        """Moves the prediction on; True when it changed."""
        s, at, fields = self.scene.snapshot, model.layers.predicted_at_utc_s, self.scene.forecast
        if s is None or at is None or fields is None or s.forecast_grid is None:
            changed = self._prediction_key is not None
            self._prediction_key, self._prediction, self._prediction_bands = None, [], []
            return changed
        key = (s.forecast_temperature, s.forecast_grid, s.forecast_edge_degc, frame,
               cursor[self.plane.across],
               round(at / PREDICTION_STEP_S))  # fmt: skip
        if key == self._prediction_key:
            return False
        edge = math.nan if s.forecast_edge_degc is None else s.forecast_edge_degc
        self._prediction_key = key
        place = (s.forecast_times_utc_s, at, s.forecast_grid, frame, cursor[self.plane.across])
        self._prediction = layers.predicted(fields, *place, (edge, *COLD_DEGC))
        band = self.scene.band
        self._prediction_bands = (
            [] if band is None else layers.predicted_bands(band, *place, (edge, *COLD_DEGC))
        )
        return True

    # ------------------------------------------------------------------ layers

    def _draw_base(self, model: ScreenModel, frame: Frame, cursor: Any) -> None:
        self._base = QPixmap(self.size())
        self._base.fill(style.colour("pane"))
        self.slab_mm, self._subtracted = None, False
        if self.scene.snapshot is None or not model.layers.image:
            return
        painter = QPainter(self._base)
        painter.setRenderHints(QPainter.Antialiasing | QPainter.SmoothPixmapTransform)
        self._draw_ct(painter, frame, cursor)
        if model.layers.plan:
            self._fill_structures(painter, frame, cursor)
        if model.layers.ice:
            self._fill_ice(painter, model, frame, cursor)
        painter.end()

    def _draw_ct(self, painter: QPainter, frame: Frame, cursor: Any) -> None:
        s, stack = self.scene.snapshot, self.scene.stack
        if s is None or stack is None:
            return
        views = self.scene.views
        baseline = self.scene.baseline if views.subtraction else None
        made = layers.ct_picture(stack, baseline, frame, cursor[self.plane.across], views.slab_mm)
        if made is None:
            return
        picture, self._subtracted = made
        window_hu = views.window_hu(s.window_hu, self._subtracted)
        image = layers.grey_image(picture, self.plane.up, window_hu)
        self.slab_mm = picture.slab_mm
        layers.draw_image(painter, image, picture, frame)

    def _fill_structures(self, painter: QPainter, frame: Frame, cursor: Any) -> None:
        s = self.scene.snapshot
        if s is None or s.analysis_grid is None:
            return
        for _, ref, field, grid in self.scene.structures:
            path = self._area(field, ref, frame, cursor, None, 0.0, grid)
            painter.fillPath(path, style.colour("critical", _STRUCTURE_FILL))

    def _fill_ice(self, painter: QPainter, model: ScreenModel, frame: Frame, cursor: Any) -> None:
        s, ice = self.scene.snapshot, self.scene.ice
        if s is None or ice is None or s.ice_sdf is None:
            return
        if model.layers.band:
            painter.fillPath(self._band(s, ice, frame, cursor), style.colour("ice", _BAND_FILL))
            return
        path = self._area(ice, s.ice_sdf.path, frame, cursor, None, 0.0)
        painter.fillPath(path, style.colour("ice", _ICE_FILL))

    def _band(self, s: Snapshot, ice: Any, frame: Frame, cursor: Any) -> QPainterPath:
        """Where the edge may be: between the measured bounds, else by its error on both sides."""
        bounds, inner, outer = self.scene.ice_bounds, s.ice_inner_sdf, s.ice_outer_sdf
        if bounds is None or inner is None or outer is None:
            e = SDS_90 * s.ice_edge_error_mm
            assert s.ice_sdf is not None
            return self._area(ice, s.ice_sdf.path, frame, cursor, -e, e)
        band = QPainterPath(self._area(bounds[1], outer.path, frame, cursor, None, 0.0))
        band.addPath(self._area(bounds[0], inner.path, frame, cursor, None, 0.0))
        band.setFillRule(Qt.OddEvenFill)
        return band

    def _draw_overlay(self, model: ScreenModel, frame: Frame, cursor: Any) -> None:
        self._overlay = QPixmap(self.size())
        self._overlay.fill(Qt.transparent)
        painter = QPainter(self._overlay)
        painter.setRenderHint(QPainter.Antialiasing)
        said = message(QRectF(self.rect()), model, self.scale) if self.main else None
        if self.scene.snapshot is not None and model.layers.image:
            self._draw_picture(painter, model, frame, cursor, said)
        if said is not None:
            draw_message(painter, QRectF(self.rect()), said, self.scale)
        told = banner(QRectF(self.rect()), model.looking, self.scale, self.main)
        if told is not None:
            draw_banner(painter, told, self.scale)
        draw_frame(painter, QRectF(self.rect()), model, self.scale)
        painter.end()

    def _draw_picture(
        self,
        painter: QPainter,
        model: ScreenModel,
        frame: Frame,
        cursor: Any,
        said: Message | None,
    ) -> None:
        """Lines first, then the words that can move, then those that cannot."""
        s, scale = self.scene.snapshot, self.scale
        fixed = self._fixed_words(model, frame, cursor)
        worst = worst_point(self.scene.worst(), frame, cursor) if model.layers.ice else None
        places = Places([w.box() for w in fixed])
        if self.main:
            places.take(self._caption(model.simulation, self._caption_rows).box())
        if said is not None and said.box is not None:
            places.take(said.box)
        if worst is not None:
            places.take(_around(worst, 1.5 * RING_DU * scale))
        if s is not None and model.layers.plan:
            names = self._draw_measured(painter, model, frame, cursor, places)
            size = SMALL_DU * scale
            for name, path in names:
                draw_name(painter, name, path, QRectF(self.rect()), size, places)
            draw_needles(painter, s.needles, frame, cursor, scale, places)
        if worst is not None:
            ring(painter, worst, RING_DU * scale, scale)
        draw_scale_bar(painter, self._above_banner(model, frame), scale)
        for word in fixed:
            word.draw(painter)

    def _draw_measured(
        self, painter: QPainter, model: ScreenModel, frame: Frame, cursor: Any, places: Places
    ) -> list[tuple[str, QPainterPath]]:
        """Structures, measured ice, margin, lesion, in the order of what must stay visible. Returns
        the structures' names and outlines."""
        s, scene, line = self.scene.snapshot, self.scene, LINE_DU * self.scale
        if s is None or s.analysis_grid is None:
            return []
        names = []
        for name, ref, field, grid in scene.structures:
            path = self._line(field, ref, frame, cursor, 0.0, grid)
            style.stroke(painter, path, "critical", line)
            names.append((body_name(model.language, name), path))
        if scene.ice is not None and s.ice_sdf is not None and model.layers.ice:
            path = self._line(scene.ice, s.ice_sdf.path, frame, cursor, 0.0)
            style.stroke(painter, path, "ice", line, "dotted" if model.layers.band else "solid")
            places.take(path.boundingRect())
        if scene.lesion is not None and s.lesion_sdf is not None:
            ref = s.lesion_sdf.path
            margin = self._line(scene.lesion, ref, frame, cursor, s.margin_goal_mm)
            style.stroke(painter, margin, "lesion", THIN_DU * self.scale, "dashed")
            style.stroke(painter, self._line(scene.lesion, ref, frame, cursor, 0.0), "lesion", line)
        return names

    def _fixed_words(self, model: ScreenModel, frame: Frame, cursor: Any) -> list[Word]:
        """Orientation, captions and the scale bar's length: these have their own places."""
        scale = self.scale
        said = captions(
            self.scene,
            self.plane,
            self.main,
            cursor,
            self.slab_mm,
            self._subtracted,
            model.language,
        )
        placed = [self._caption(c, i) for i, c in enumerate(said)]
        self._caption_rows = len(placed)
        free = self._above_banner(model, frame)
        boxes = [word.box() for word in placed]
        sides = letters(free, scale * (1.0 if self.main else 0.8), model.language)
        return [
            *(letter.right_of(boxes) for letter in sides),
            *placed,
            scale_caption(free, scale),
        ]

    def _above_banner(self, model: ScreenModel, frame: Frame) -> Frame:
        """For words that have their places at the edges: the pane without what the banner covers."""
        told = banner(QRectF(self.rect()), model.looking, self.scale, self.main)
        return frame if told is None else replace(frame, height_px=int(told.box.top()))

    def _caption(self, words: str, row: int) -> Word:
        size = SMALL_DU * self.scale
        return Word(words, QPointF(10 * self.scale, (1.15 + 1.3 * row) * size), size)

    # ------------------------------------------------------------------ paths

    def _line(
        self,
        field: Any,
        ref: str,
        frame: Frame,
        cursor: Any,
        level: float,
        own: Grid | None = None,
    ) -> QPainterPath:
        grid, at = own or self._grid(), cursor[self.plane.across]
        return self._paths.get(
            ("line", ref, grid, frame, at, level),
            lambda: layers.contour(field, grid, frame, at, level),
        )

    def _area(
        self,
        field: Any,
        ref: str,
        frame: Frame,
        cursor: Any,
        low: float | None,
        high: float,
        own: Grid | None = None,
    ) -> QPainterPath:
        grid, at = own or self._grid(), cursor[self.plane.across]
        return self._paths.get(
            ("area", ref, grid, frame, at, low, high),
            lambda: layers.area(field, grid, frame, at, low, high),
        )

    def _grid(self) -> Grid:
        """The grid of the fields; there are no fields without one (``scene._on``)."""
        assert self.scene.snapshot is not None
        assert self.scene.snapshot.analysis_grid is not None
        return self.scene.snapshot.analysis_grid

    # ------------------------------------------------------------------ Qt

    def paintEvent(self, event: Any) -> None:
        self._draw_due()  # nothing of an older snapshot is ever painted
        self._predict_due()
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._base)
        painter.setRenderHint(QPainter.Antialiasing)
        for path, (name, _) in zip(self._prediction_bands, PREDICTED_LINES, strict=False):
            painter.fillPath(path, style.hatched(name, _PREDICTED_FILL, self.scale))
        for path, (name, dash) in zip(self._prediction, PREDICTED_LINES, strict=False):
            style.stroke(painter, path, name, THIN_DU * self.scale, dash)
        self._draw_cross(painter)
        painter.drawPixmap(0, 0, self._overlay)
        if self.main and self.model is not None and self._prediction:
            self._caption(self.model.simulation, self._caption_rows).draw(painter)
        painter.end()

    def _draw_cross(self, painter: QPainter) -> None:
        """Where the other planes cut this one: it moves oftener than all else."""
        if self.model is None or not self.model.layers.image or self._cross is None:
            return
        x, y = self._cross
        painter.setPen(style.line_pen("mark", max(1.0, self.scale), alpha=0.28))
        painter.drawLine(QPointF(0, y), QPointF(self.width(), y))
        painter.drawLine(QPointF(x, 0), QPointF(x, self.height()))

    def wheelEvent(self, event: Any) -> None:
        self._wheel += event.angleDelta().y()
        steps, self._wheel = int(self._wheel / 120), int(np.fmod(self._wheel, 120))
        if steps:
            self.wheeled.emit(steps)
        event.accept()

    def mousePressEvent(self, event: Any) -> None:
        if event.button() == Qt.LeftButton:
            self.pointed.emit(*self.frame().to_mm(event.x() + 0.5, event.y() + 0.5))


def _around(centre: QPointF, reach: float) -> QRectF:
    return QRectF(centre.x() - reach, centre.y() - reach, 2 * reach, 2 * reach)


# Always broken lines, what is predicted must not look measured; and each in its own way, since two of
# the colours are near each other for some eyes.
PREDICTED_LINES = (("ice", "dashed"), ("cold20", "dashdot"), ("cold40", "dotted"))
