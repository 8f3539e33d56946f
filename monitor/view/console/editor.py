"""The draft being edited: tools in the hand, strokes, brush, needles, longer work. LPS mm.

What is typed is on the ``pages``; the scan is the ``snapshot``'s. ``changed`` tells the window to look again.
Invariant: an edit is one step of the history, and nothing here reaches the monitor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PyQt5.QtCore import QObject, pyqtSignal

from monitor.case import needle_preset
from monitor.config import ShapeFile
from monitor.geometry import Grid
from monitor.model import CtVolume
from monitor.planning import metal
from monitor.planning.draft import Draft, DraftNeedle, DraftStructure, plausible
from monitor.planning.drawn import (
    DrawingError,
    DrawnBody,
    Ellipsoid,
    Stroke,
    ball,
    brushed,
    ellipsoid,
    from_ellipsoid,
    from_sdf,
    runs_across,
    with_depth,
)
from monitor.planning.growth import Grown, grow
from monitor.planning.history import History
from monitor.snapshot import ArrayRef, NeedleLine, Snapshot
from monitor.view.console.plan_files import parts_of, readable
from monitor.view.console.shown import Outline, Shown
from monitor.view.console.work import Worker
from monitor.view.scene import Arrays

if TYPE_CHECKING:
    from monitor.intake.structures import Part

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Offered:
    """A file that holds several bodies, of which one is to be chosen. ``target``: "lesion" or "structure"."""

    target: str
    path: Path
    parts: tuple[Part, ...]


class Editor(QObject):
    """``said``: what the last edit brought, a sentence's key and parameters."""

    changed = pyqtSignal()

    def __init__(
        self, shown: Shown, take_keys: Callable[[], None], arrays: Arrays, parent: QObject
    ) -> None:
        super().__init__(parent)
        self.shown, self.pages = shown, dict[str, Any]()
        self._take_keys = take_keys
        self.snapshot: Snapshot | None = None
        self.history: History[Draft] = History.of(Draft())
        self.tool = ""
        self.correction: DrawnBody | None = None
        self.offered: Offered | None = None
        self.said: tuple[str, Mapping[str, str]] | None = None
        self._arrays = arrays
        self._strokes: list[Stroke] = []
        self._tip: Point | None = None
        self._adds = True
        self.worker = Worker(self)
        self.worker.changed.connect(self.changed)
        shown.stroked.connect(self._stroked)
        shown.pointed.connect(self._pointed)

    @property
    def draft(self) -> Draft:
        return self.history.state

    @property
    def can_grow(self) -> bool:
        return not self.worker.busy and self.draft.marked is not None

    def tell(self, key: str, **params: str) -> None:
        self.said = (key, params)
        self.changed.emit()

    # ------------------------------------------------------------------ history and tools

    def edit(self, name: str, **changes: Any) -> None:
        self.said = None
        self.history = self.history.edited(name, replace(self.draft, **changes))
        self.changed.emit()

    def take_back(self) -> None:
        self.history = self.history.undone()
        self.changed.emit()

    def do_again(self) -> None:
        self.history = self.history.redone()
        self.changed.emit()

    def use(self, tool: str) -> None:
        """Takes a tool, or puts it down when it is in the hand already."""
        self.tool = "" if tool == self.tool else tool
        self._strokes, self._tip = [], None
        self.shown.take_back()
        if self.tool:
            self._take_keys()
        self.changed.emit()

    def _brush_mm(self) -> float | None:
        page = {"lesion": "lesion", "structure": "structures", "ice": "monitor"}.get(
            self.tool.partition(".")[0]
        )
        return None if page is None else float(self.pages[page].radius.value())

    # ------------------------------------------------------------------ drawing

    def _stroked(self, start: Point, end: Point) -> None:
        stroke, marked = Stroke(start, end), self.draft.marked
        if not self._strokes and marked is not None and runs_across(marked, stroke):
            self._try(lambda: self._mark(with_depth(marked, stroke)))
            return
        self._strokes.append(stroke)
        if len(self._strokes) < 2:
            self.changed.emit()
            return
        long, short = sorted(self._strokes, key=lambda k: -k.length_mm)
        self._strokes = []
        self._try(lambda: self._mark(ellipsoid(long, short)))

    def _mark(self, e: Ellipsoid) -> None:
        self.edit("lesion", lesion=from_ellipsoid(e), marked=e)
        self.use("")
        x, y, z = (float(v) for v in e.centre_lps_mm)
        self.shown.move_to((x, y, z))  # all planes cut it where it is largest

    def _pointed(self, at: Point, dragged: bool) -> None:
        if self.tool == "needle" and not dragged:
            self._needle_point(at)
        elif self.tool:
            self._try(lambda: self._paint(at, dragged))

    def _try(self, do: Callable[[], None]) -> None:
        try:
            do()
        except DrawingError as error:
            self.tell("console.failed", why=error.code)

    def _paint(self, at: Point, dragged: bool) -> None:
        target, _, how = self.tool.partition(".")
        radius_mm = self._brush_mm()
        if radius_mm is None:
            return
        if target == "lesion":
            self.edit("brush", lesion=_painted(self.draft.lesion, at, radius_mm, how == "add"))
        elif target == "ice":
            self._correct(at, radius_mm, dragged)
        elif how == "new":
            self._add_structure("structures", ball(at, radius_mm))
            self.use("structure.add")
        else:
            self._paint_structure(at, radius_mm, how == "add")

    def _add_structure(self, name: str, shape: DrawnBody | ShapeFile) -> None:
        page = self.pages["structures"]
        made = DraftStructure(page.chosen_name(), shape, float(page.limit.value()))
        self.edit(name, structures=(*self.draft.structures, made))
        page.all.setCurrentRow(len(self.draft.structures) - 1)

    def _paint_structure(self, at: Point, radius_mm: float, add: bool) -> None:
        row, all_ = self.pages["structures"].all.currentRow(), list(self.draft.structures)
        if 0 <= row < len(all_) and isinstance(all_[row].shape, DrawnBody):
            all_[row] = replace(all_[row], shape=_painted(all_[row].shape, at, radius_mm, add))
            self.edit("brush", structures=tuple(all_))

    def _correct(self, at: Point, radius_mm: float, dragged: bool) -> None:
        """A stroke that begins outside the ice adds to it, one that begins inside takes away."""
        s, body = self.snapshot, self.correction
        if body is None and s is not None and s.analysis_grid is not None:
            ice = self._arrays.get(s.ice_sdf)
            body = None if ice is None else from_sdf(s.analysis_grid, np.asarray(ice))
        if body is not None:
            self._adds = self._adds if dragged else not body.holds(at)
            self.correction = brushed(body, at, radius_mm, add=self._adds)
            self.changed.emit()

    # ------------------------------------------------------------------ needles

    def _needle_type(self) -> str:
        return str(self.pages["needles"].kind.currentText())

    def _needle_point(self, at: Point) -> None:
        if self._tip is None:
            self._tip = at
            self.changed.emit()
            return
        tip, self._tip = self._tip, None
        if not plausible(tip, at):
            self.tell("console.needles.short")
            return
        volume, kind = self._volume(), self._needle_type()
        if volume is not None:
            self.work(lambda: metal.clicked(volume, tip, at, needle_preset(kind)),
                      lambda p: self._add_needles([p]))  # fmt: skip

    def find_needles(self) -> None:
        volume, kind, near = self._volume(), self._needle_type(), self._lesion_centre()
        if volume is not None and near is not None:
            self.work(lambda: metal.candidates(volume, near, needle_preset(kind)), self._found)

    def _found(self, needles: Sequence[Any]) -> None:
        self._add_needles(needles)
        self.tell("console.needles.found", count=str(len(needles)))

    def _lesion_centre(self) -> Point | None:
        lesion = self.draft.lesion
        if isinstance(lesion, DrawnBody):
            x, y, z = lesion.grid.to_lps_mm(np.argwhere(lesion.level_mm < 0)).mean(0)
            return (float(x), float(y), float(z))
        return self.shown.cross if lesion is not None else None

    def _add_needles(self, placed: Sequence[Any]) -> None:
        draft, kind = self.draft, self._needle_type()
        for p in placed:
            needle = DraftNeedle(
                draft.free_number(), kind, p.tip_lps_mm, p.entry_lps_mm, p.on_metal
            )
            draft = replace(draft, needles=(*draft.needles, needle))
        self.edit("needles", needles=draft.needles)

    # ------------------------------------------------------------------ longer work, files

    def work(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self.worker.do(work, then, self._failed)

    def _failed(self, error: Exception) -> None:
        self.tell("console.failed", why=str(error) or type(error).__name__)

    def _volume(self) -> CtVolume | None:
        """The scan on the screen, for what measures it."""
        s = self.snapshot
        hu = self._arrays.get(s.volume) if s is not None else None
        if s is None or hu is None or s.volume_geometry is None:
            return None
        return CtVolume(s.volume_id or "", s.volume_geometry, hu, "", "", "", 0.0, 0.0, (), "")

    def grow(self) -> None:
        volume, e = self._volume(), self.draft.marked
        if volume is not None and e is not None:
            self.work(lambda: grow(volume, e), self._grown)

    def _grown(self, grown: Grown) -> None:
        self.edit("grow", lesion=grown.body)
        if grown.grown:
            self.tell("console.lesion.grown", percent=str(int(100 * grown.shown)))
        else:
            self.tell("console.lesion.not_grown")

    def take_file(self, target: str, path: Path) -> None:
        """A file that was chosen: of several bodies in it, one is to be chosen then (``offered``)."""
        self.offered = None
        self.work(lambda: parts_of(path), lambda parts: self._offer(Offered(target, path, parts)))

    def _offer(self, offered: Offered) -> None:
        self.offered = offered
        if len(offered.parts) == 1:
            self.choose(0)
        else:
            self.changed.emit()

    def choose(self, row: int) -> None:
        """Of what was offered. What cannot be read is said now, not when the plan is sent."""
        offered = self.offered
        if offered is None or self.worker.busy or not 0 <= row < len(offered.parts):
            return
        shape = ShapeFile(offered.path, offered.parts[row].roi)
        self.offered = None
        self.work(lambda: readable(shape), lambda _: self._take(offered.target, shape))

    def _take(self, target: str, shape: ShapeFile) -> None:
        if target == "lesion":
            # what was drawn is not to grow over what was imported
            self.edit("import", lesion=shape, marked=None)
        else:
            self._add_structure("import", shape)

    # ------------------------------------------------------------------ what is drawn of it

    def show(self, live_needles: bool) -> None:
        """What stands in the draft; the procedure's own needles where it runs."""
        s, shown = self.snapshot, self.shown
        shown.outlines = [] if s is not None and s.blocked else self._outlines()
        needles = [NeedleLine(n.number, n.tip_lps_mm, n.entry_lps_mm) for n in self.draft.needles]
        shown.needles = list(s.needles) if s is not None and s.needles and live_needles else needles
        shown.strokes = [(k.start_lps_mm, k.end_lps_mm) for k in self._strokes]
        if self._tip is not None:
            shown.strokes = [*shown.strokes, (self._tip, shown.cross)]
        shown.drawing = self.tool == "strokes"
        shown.brush_mm = self._brush_mm()
        if s is not None:
            shown.window_hu = s.window_hu
        shown.changed.emit()

    def _outlines(self) -> list[Outline]:
        bodies = [(structure.shape, "critical") for structure in self.draft.structures]
        drawn = [*bodies, (self.draft.lesion, "lesion")]
        found = [Outline(b.level_mm, b.grid, c) for b, c in drawn if isinstance(b, DrawnBody)]
        s = self.snapshot
        if s is not None and not s.draft:
            found += self._from_files(s)
        if self.correction is not None:
            return [
                *found,
                Outline(self.correction.level_mm, self.correction.grid, "ice", "dashed"),
            ]
        ice = None if s is None else self._arrays.get(s.ice_sdf)
        if s is None or ice is None or s.analysis_grid is None:
            return found
        return [*found, Outline(ice, s.analysis_grid, "ice")]

    def _from_files(self, s: Snapshot) -> list[Outline]:
        """Bodies of files, as the monitor has read them: known once it has the plan, and where they lie in
        the scan that is shown."""
        drawn = {b.name for b in self.draft.structures if isinstance(b.shape, DrawnBody)}
        common = () if s.analysis_grid is None else (s.analysis_grid,) * len(s.structure_sdfs)
        grids = s.structure_grids or common
        bodies: list[tuple[ArrayRef | None, Grid, str]] = [
            (ref, grid, "critical")
            for (name, ref), grid in zip(s.structure_sdfs, grids, strict=True)
            if name not in drawn
        ]
        if not isinstance(self.draft.lesion, DrawnBody) and s.analysis_grid is not None:
            bodies.append((s.lesion_sdf, s.analysis_grid, "lesion"))
        read = [(self._arrays.get(ref), grid, colour) for ref, grid, colour in bodies]
        return [Outline(sdf, grid, colour) for sdf, grid, colour in read if sdf is not None]


def _painted(old: object, at: Point, radius_mm: float, add: bool) -> DrawnBody:
    if isinstance(old, DrawnBody):
        return brushed(old, at, radius_mm, add)
    if not add:
        raise DrawingError("empty")
    return ball(at, radius_mm)
