"""The third dimension in the third place: lesion, margin, measured ice, structures, needles. LPS mm.

Made in turns of the event loop, a body to a turn, at a lower resolution than the pane's; painted enlarged.
What is predicted is not shown here. Sizes in design units times ``scale``.
Invariant: what is painted is of one snapshot and one view of it; ice that may not be shown is not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PyQt5.QtCore import QPointF, QRectF, pyqtSignal
from PyQt5.QtGui import QImage, QPainter, QPainterPath
from PyQt5.QtWidgets import QWidget

from monitor.view import solid, style
from monitor.view.layout import SMALL_DU
from monitor.view.marks import RING_DU, draw_frame, ring
from monitor.view.planes import Point
from monitor.view.qt import Qt
from monitor.view.scene import AROUND_MM, Array, Scene
from monitor.view.solid import Body, Camera, Seen
from monitor.view.translations import body_name, text
from monitor.view.turns import Turns
from monitor.view.viewmodel import ScreenModel
from monitor.view.words import Places, Word

TURN_DEG = 15.0
_PIXELS, _TITLE_DU, _BANNER_DU = 160, 40, 50
_BEYOND_MM, _LEAST_MM, _MOST_MM = 7.0, 22.0, 60.0
_HIGHEST_DEG = 75.0
# Name of the colour, how opaque a surface is seen squarely and at its rim: ice must not hide what it covers.
_LOOKS = {
    "critical": (0.55, 0.95),
    "lesion": (0.95, 1.0),
    "margin": (0.05, 0.75),
    "ice": (0.30, 0.80),
}
_AXES = (("R", (-1, 0, 0)), ("L", (1, 0, 0)), ("A", (0, -1, 0)), ("P", (0, 1, 0)), ("S", (0, 0, 1)),
         ("I", (0, 0, -1)))  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """A body to be drawn: what it looks like, its field and where that lies."""

    look: str
    path: str
    field: Array
    grid: Any
    level_mm: float = 0.0


@dataclass(frozen=True)
class Made:
    """A picture that is whole, and what it shows."""

    image: QImage
    camera: Camera
    names: tuple[tuple[str, Point], ...]


class SolidPane(QWidget):
    """Turned by the wheel or by keys. ``wheeled`` gives steps."""

    wheeled = pyqtSignal(int)

    def __init__(self, scene: Scene, parent: QWidget, turns: Turns) -> None:
        super().__init__(parent)
        self.scene, self.scale = scene, 1.0
        self.model: ScreenModel | None = None
        self.azimuth_deg, self.elevation_deg = 30.0, 20.0
        self.made: Made | None = None
        self._turns = turns
        self._of: Any = None
        self._key: Any = None
        self._todo: list[Wanted] = []
        self._seen: list[tuple[Wanted, Seen]] = []
        self._bodies: dict[Any, Body | None] = {}
        self._camera = Camera((0.0, 0.0, 0.0), _LEAST_MM)
        self._wheel = 0
        self.setAttribute(Qt.WA_OpaquePaintEvent)

    # ------------------------------------------------------------------ what to show

    def turn(self, steps: int, upwards: bool = False) -> None:
        """A step around the patient, or up and down."""
        if upwards:
            up = self.elevation_deg + steps * TURN_DEG
            self.elevation_deg = min(_HIGHEST_DEG, max(-_HIGHEST_DEG, up))
        else:
            self.azimuth_deg = (self.azimuth_deg + steps * TURN_DEG) % 360.0
        if self.model is not None:
            self.show_model(self.model)

    def show_model(self, model: ScreenModel) -> None:
        self.model = model
        wanted = self._wanted(model)
        of = tuple((w.look, w.path, w.grid, w.level_mm) for w in wanted)
        if of != self._of:
            # Nothing of what was is left to be seen meanwhile.
            self._of, self.made, self._todo = of, None, []
            self._bodies = {
                k: b for k, b in self._bodies.items() if k[0] in {w.path for w in wanted}
            }
        key = (of, self.azimuth_deg, self.elevation_deg)
        if key != self._key:
            self._key, self._todo, self._seen = key, list(wanted), []
            self._camera = replace(
                self._ball(), azimuth_deg=self.azimuth_deg, elevation_deg=self.elevation_deg
            )
            self._turns.add(self._go_on)
        self.update()

    def _wanted(self, model: ScreenModel) -> list[Wanted]:
        s, scene, shown = self.scene.snapshot, self.scene, model.layers
        if s is None or s.analysis_grid is None or not shown.plan:
            return []
        found = [Wanted("critical", path, field, grid) for _, path, field, grid in scene.structures]
        grid = s.analysis_grid
        if scene.lesion is not None and s.lesion_sdf is not None:
            path = s.lesion_sdf.path
            found.append(Wanted("lesion", path, scene.lesion, grid))
            found.append(Wanted("margin", path, scene.lesion, grid, s.margin_goal_mm))
        if shown.ice and scene.ice is not None and s.ice_sdf is not None:
            field, path = scene.ice, s.ice_sdf.path
            if shown.band and scene.ice_bounds is not None and s.ice_inner_sdf is not None:
                field, path = scene.ice_bounds[0], s.ice_inner_sdf.path  # the least there may be
            found.append(Wanted("ice", path, field, grid))
        return found

    def _ball(self) -> Camera:
        """Around the lesion with its margin, and the ice."""
        scene = self.scene
        around = 0.5 * scene.field_mm - AROUND_MM + _BEYOND_MM
        return Camera(scene.centre, float(np.clip(around, _LEAST_MM, _MOST_MM)))

    # ------------------------------------------------------------------ made, in turns

    def _go_on(self) -> None:
        """One body; after the last of them, the picture."""
        if self._todo:
            wanted, camera = self._todo.pop(0), self._camera
            key = (wanted.path, wanted.grid, wanted.level_mm, camera.centre, camera.radius_mm)
            if key not in self._bodies:
                self._bodies[key] = solid.body_of(
                    wanted.field, wanted.grid, camera.centre, camera.radius_mm, wanted.level_mm
                )
            body = self._bodies[key]
            if body is not None:
                self._seen.append((wanted, solid.seen_of(body, camera, _PIXELS)))
            self._turns.add(self._go_on)
        elif self._seen:
            self._finish()

    def _finish(self) -> None:
        layers = []
        for wanted, seen in self._seen:
            c = style.colour("lesion" if wanted.look == "margin" else wanted.look)
            layers.append((seen, (c.red(), c.green(), c.blue()), *_LOOKS[wanted.look]))
        rgb = solid.picture(layers)
        h, w, _ = rgb.shape
        data: Any = rgb.data
        image = QImage(data, w, h, 3 * w, QImage.Format_RGB888).copy()
        names = [
            (name, at)
            for (name, path, _, _) in self.scene.structures
            if (at := self._middle(path)) is not None
        ]
        self.made, self._seen = Made(image, self._camera, tuple(names)), []
        self.update()

    def _middle(self, path: str) -> Point | None:
        """The middle of what is seen of a structure, on its surface."""
        for wanted, seen in self._seen:
            if wanted.path != path:
                continue
            there = np.argwhere(np.isfinite(seen.near_mm))
            if len(there) > 12:
                row, column = there[np.argmin(np.abs(there - there.mean(0)).sum(1))]
                r = self._camera.radius_mm
                x, y = ((v + 0.5) / _PIXELS * 2.0 - 1.0 for v in (column, row))
                return (float(x * r), float(-y * r), float(seen.near_mm[row, column]))
        return None

    @property
    def pending(self) -> bool:
        return bool(self._todo or self._seen)

    # ------------------------------------------------------------------ painted

    def paintEvent(self, event: Any) -> None:
        painter, k = QPainter(self), self.scale
        painter.setRenderHints(
            QPainter.Antialiasing | QPainter.TextAntialiasing | QPainter.SmoothPixmapTransform
        )
        painter.fillRect(self.rect(), style.colour("pane"))
        model = self.model
        if model is not None:
            if self.made is not None:
                self._paint(painter, self.made, model)
            if model.layers.image:
                box = QRectF(10 * k, 0, self.width() - 20 * k, _TITLE_DU * k)
                title = "solid" if model.layers.ice else "solid.no_ice"
                title = "solid.least" if model.layers.band else title
                style.draw_text(painter, box, text(model.language, title), SMALL_DU * k, "text")
            if model.looking:
                self._banner(painter, model.looking[0])
            draw_frame(painter, QRectF(self.rect()), model, k)
        painter.end()

    def _banner(self, painter: QPainter, words: str) -> None:
        k = self.scale
        box = QRectF(0, self.height() - _BANNER_DU * k, self.width(), _BANNER_DU * k)
        painter.fillRect(box, style.colour("look"))
        style.draw_text(painter, box, words, SMALL_DU * k, "look_text", True, Qt.AlignCenter)

    def place(self) -> QRectF:
        """The square of the ball."""
        k = self.scale
        below = _BANNER_DU * k if self.model is not None and self.model.looking else 8 * k
        room = QRectF(self.rect()).adjusted(8 * k, _TITLE_DU * k, -8 * k, -below)
        size = min(room.width(), room.height())
        square = QRectF(0, 0, size, size)
        square.moveCenter(room.center())
        return square

    def at(self, seen: Any) -> QPointF:
        """Where a point (right, up) mm from the middle falls on the pane."""
        place, camera = self.place(), self.made.camera if self.made else self._camera
        half = place.width() / 2
        c = place.center()
        return QPointF(
            c.x() + seen[0] / camera.radius_mm * half, c.y() - seen[1] / camera.radius_mm * half
        )

    def _paint(self, painter: QPainter, made: Made, model: ScreenModel) -> None:
        place, k, camera = self.place(), self.scale, made.camera
        painter.drawImage(place, made.image)
        painter.setPen(style.line_pen("rule", 2 * k))
        painter.drawEllipse(place)
        worst = self.scene.worst() if model.layers.ice else None
        mark = None if worst is None else camera.seen(np.array(worst))
        letters = self._letters(camera, model.language)
        places = Places([w.box() for w in letters])
        if mark is not None and np.linalg.norm(mark) < camera.radius_mm:
            places.take(_around(self.at(mark), 1.5 * RING_DU * k))
        self._needles(painter, camera, places)
        for name, at in made.names:
            self._name(body_name(model.language, name), self.at(at), places).draw(painter)
        if mark is not None and np.linalg.norm(mark) < camera.radius_mm:
            ring(painter, self.at(mark), RING_DU * k, k)
        for letter in letters:
            letter.draw(painter)

    def _name(self, name: str, at: QPointF, places: Places) -> Word:
        """On the body, or a little above or below where something else stands."""
        size, room = SMALL_DU * self.scale, QRectF(self.rect())
        found = places.choose(
            [
                Word(
                    name, at + QPointF(0, 0.4 * rows * size), size, "critical", True, "centre"
                ).inside(room)
                for rows in (0, 1, -1, 2, -2, 3, -3, 4, -4)
            ]
        )
        assert found is not None
        return found

    def _needles(self, painter: QPainter, camera: Camera, places: Places) -> None:
        """As far as the ball reaches; over all bodies, as their shafts are seen in the planes."""
        s, k = self.scene.snapshot, self.scale
        size = SMALL_DU * k
        for needle in s.needles if s is not None else ():
            ends = (np.array(p) for p in (needle.tip_lps_mm, needle.entry_lps_mm))
            tip, entry = (camera.seen(end) for end in ends)
            along = [tip + share * (entry - tip) for share in np.linspace(0.0, 1.0, 60)]
            inside = [p for p in along if np.hypot(*p[:2]) < 0.97 * camera.radius_mm]
            if len(inside) < 2:
                continue
            path = QPainterPath(self.at(inside[0]))
            path.lineTo(self.at(inside[-1]))
            style.stroke(painter, path, "needle", 2.4 * k)
            number = places.choose(
                [
                    Word(str(needle.number), self.at(p) + QPointF(side * 0.5 * size, 0), size, "needle",
                         True, "left" if side > 0 else "right")
                    for p in reversed(inside)
                    for side in (1, -1)
                ]
            )  # fmt: skip
            assert number is not None
            number.draw(painter)

    def _letters(self, camera: Camera, language: str) -> list[Word]:
        """At the ends of the patient's axes, but for one that points at the eye or away from it."""
        size, found = 32 * self.scale, []
        for letter, way in _AXES:
            seen = np.array(way, float) @ camera.axes().T
            if np.hypot(*seen[:2]) < 0.35:
                continue
            seen = seen / np.hypot(*seen[:2]) * 0.92 * camera.radius_mm
            at = self.at(seen) + QPointF(0, 0.36 * size)
            found.append(Word(text(language, f"letter.{letter}"), at, size, "text", True, "centre"))
        return found

    def wheelEvent(self, event: Any) -> None:
        self._wheel += event.angleDelta().y()
        steps, self._wheel = int(self._wheel / 120), int(np.fmod(self._wheel, 120))
        if steps:
            self.turn(steps)
        event.accept()


def _around(centre: QPointF, reach: float) -> QRectF:
    return QRectF(centre.x() - reach, centre.y() - reach, 2 * reach, 2 * reach)
