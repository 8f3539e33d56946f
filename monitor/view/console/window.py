"""The technologist's console: six steps in order, a plane to draw on, what is missing, every alarm. LPS mm.

Edits make a draft here; the monitor has it only once it was sent. Times: the core's silence is real time by
the view's own monotonic clock. Invariant: while the core is silent, or the patient is wrong, nothing that
acts on the procedure can be pressed, and why is said.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PyQt5.QtCore import QTimer
from PyQt5.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QShortcut,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from monitor.case import needle_preset
from monitor.config import ListenerConfig, ShapeFile
from monitor.model import CtVolume
from monitor.planning import metal
from monitor.planning.case_text import write_case
from monitor.planning.draft import (
    Draft,
    DraftNeedle,
    DraftStructure,
    config_of,
    drawn_bodies,
    missing,
    plausible,
)
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
    write_mask,
)
from monitor.planning.growth import Grown, grow
from monitor.planning.history import History
from monitor.snapshot import NeedleLine, Snapshot
from monitor.view.alarms import sentence
from monitor.view.console.alarm_list import AlarmList
from monitor.view.console.monitor_page import MonitorPage
from monitor.view.console.pages import (
    BaselinePage,
    LesionPage,
    NeedlesPage,
    ProtocolPage,
    StructuresPage,
)
from monitor.view.console.pane import EditPane, Outline
from monitor.view.console.parts import SHEET, enabled
from monitor.view.console.words import Words
from monitor.view.console.work import Worker
from monitor.view.images import Stack
from monitor.view.qt import Qt
from monitor.view.scene import Arrays
from monitor.view.translations import next_language
from monitor.view.viewmodel import SILENT_AFTER_S, worker_hangs

STEPS = ("baseline", "lesion", "structures", "needles", "protocol", "monitor")
_REFRESH_MS = 200
_SURE_S = 4.0
Point = tuple[float, float, float]


class ConsoleWindow(QWidget):
    """``send`` takes acts as plain dicts; plans and corrections are written into ``folder``."""

    def __init__(
        self,
        send: Callable[[dict[str, Any]], None],
        language: str,
        folder: Path,
        listener: ListenerConfig,
        stale_after_s: float,
        speed: float = 1.0,
        mono: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.words = Words(language)
        self.snapshot: Snapshot | None = None
        self.history: History[Draft] = History.of(Draft())
        self.tool = ""
        self.correction: DrawnBody | None = None
        self._sent: Draft | None = None
        self._send, self._mono, self._speed = send, mono, speed
        self._folder, self._listener, self._stale_after_s = folder, listener, stale_after_s
        self._received_mono_s = mono()
        self._core_gone = self._may_close = False
        self._error: str | None = None
        self._said: tuple[str, dict[str, str]] | None = None
        self._sure: tuple[str, float] = ("", 0.0)
        self._strokes: list[Stroke] = []
        self._ellipsoid: Ellipsoid | None = None
        self._tip: Point | None = None
        self._arrays = Arrays()
        self._stack_of: Any = None
        self._plans = 0
        self.worker = Worker(self)
        self.worker.changed.connect(self.refresh)
        self._make()
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.refresh)
        self.go("baseline")

    @property
    def draft(self) -> Draft:
        return self.history.state

    # ------------------------------------------------------------------ making the window

    def _make(self) -> None:
        self.setStyleSheet(SHEET)
        self.words.put(self.setWindowTitle, "console.title")
        self.pane = EditPane()
        self.pane.stroked.connect(self._stroked)
        self.pane.pointed.connect(self._pointed)
        self.pane.moved.connect(self._say_slice)
        self.pages: dict[str, Any] = {
            "baseline": BaselinePage(self),
            "lesion": LesionPage(self),
            "structures": StructuresPage(self),
            "needles": NeedlesPage(self),
            "protocol": ProtocolPage(self),
            "monitor": MonitorPage(self),
        }
        whole = QVBoxLayout(self)
        whole.setContentsMargins(8, 6, 8, 6)
        whole.setSpacing(5)
        whole.addLayout(self._make_top())
        middle = QHBoxLayout()
        middle.addLayout(self._make_steps())
        middle.addLayout(self._make_picture(), 1)
        middle.addWidget(self._make_pages())
        whole.addLayout(middle, 1)
        self.missing = QLabel()
        self.missing.setWordWrap(True)
        self.missing.setProperty("role", "missing")
        whole.addWidget(self.missing)
        self.alarms = AlarmList(
            self.words, lambda key: self._send({"act": "acknowledge", "alarm": key})
        )
        whole.addWidget(self.alarms)
        notice = QLabel()
        notice.setWordWrap(True)
        notice.setProperty("role", "notice")
        self.words.put(notice.setText, "notice")
        whole.addWidget(notice)
        self._orders()

    def _make_top(self) -> QHBoxLayout:
        top = QHBoxLayout()
        self.patient = QLabel()
        self.patient.setProperty("role", "title")
        top.addWidget(self.patient, 1)
        self.undo, self.redo, self.language, self.clear, self.end = (
            self._button(key, do)
            for key, do in (
                ("console.undo", self.take_back),
                ("console.redo", self.do_again),
                ("console.language", self.switch_language),
                ("console.clear_block", lambda: self._surely("clear_block")),
                ("console.end", lambda: self._surely("quit")),
            )
        )
        for button in (self.undo, self.redo, self.language, self.clear, self.end):
            top.addWidget(button)
        return top

    def _button(self, key: str, pressed: Callable[[], None]) -> QPushButton:
        button = QPushButton()
        button.clicked.connect(lambda *_: pressed())
        self.words.put(button.setText, key)
        return button

    def _make_steps(self) -> QVBoxLayout:
        column = QVBoxLayout()
        self.steps: dict[str, QPushButton] = {}
        for step in STEPS:
            button = self._button(f"console.step.{step}", lambda step=step: self.go(step))  # type: ignore[misc]
            button.setCheckable(True)
            button.setProperty("step", True)
            self.steps[step] = button
            column.addWidget(button)
        column.addStretch(1)
        return column

    def _make_picture(self) -> QVBoxLayout:
        column = QVBoxLayout()
        column.addWidget(self.pane, 1)
        self.slice = QLabel()
        self.slice.setWordWrap(True)
        column.addWidget(self.slice)
        return column

    def _make_pages(self) -> QScrollArea:
        self.stack = QStackedWidget()
        for page in self.pages.values():
            self.stack.addWidget(page)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setWidget(self.stack)
        area.setFixedWidth(430)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        area.setFrameShape(QScrollArea.NoFrame)
        return area

    def _orders(self) -> None:
        for keys, do in (
            ("Ctrl+Z", self.take_back),
            ("Ctrl+Y", self.do_again),
            ("F6", self.pane.setFocus),
        ):
            QShortcut(keys, self).activated.connect(do)

    def start_clock(self) -> None:
        self._timer.start(_REFRESH_MS)

    # ------------------------------------------------------------------ what comes in

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """The core's latest word."""
        self.snapshot, self._received_mono_s = snapshot, self._mono()
        try:
            self._show_image(snapshot)
        except Exception as error:
            traceback.print_exception(error)
            self._error = type(error).__name__
        self.refresh()

    def _show_image(self, s: Snapshot) -> None:
        key = None if s.blocked else (s.volume, s.volume_geometry)
        if key == self._stack_of:
            return
        self._stack_of = key
        hu = None if s.blocked else self._arrays.get(s.volume)
        if hu is None or s.volume_geometry is None:
            self.pane.show_stack(None)
            return
        self.pane.show_stack(Stack(hu, s.volume_geometry))
        self.correction = None

    def core_gone(self) -> None:
        self._core_gone = True
        self.refresh()

    def show_error(self, name: str) -> None:
        """An exception escaped from a slot: it is said, and the window lives on."""
        self._error = name
        self.refresh()

    def silent(self) -> bool:
        s = self.snapshot
        if self._core_gone or s is None:
            return True
        return self._mono() - self._received_mono_s > SILENT_AFTER_S or worker_hangs(s, self._speed)

    def may_act(self) -> bool:
        return not self.silent() and self.snapshot is not None and not self.snapshot.blocked

    # ------------------------------------------------------------------ the state, shown

    def refresh(self) -> None:
        """Brings every control up to this moment."""
        s, may, draft = self.snapshot, self.may_act(), self.draft
        gaps = missing(draft)
        self.words.put(self.patient.setText, "console.patient", patient=self._patient(s, draft))
        done = {step: step not in gaps for step in STEPS}
        done["protocol"] = "organ" not in gaps and self._sent == draft
        for step, button in self.steps.items():
            button.setChecked(step == self.step)
            mark = "✓ " if done.get(step, False) and step != "monitor" else ""
            button.setText(mark + self.words.say(f"console.step.{step}"))
        image = self.pane.stack is not None and s is not None and not s.blocked
        idle = not self.worker.busy
        pages = self.pages
        pages["baseline"].show_state(self, may)
        pages["lesion"].show_state(
            self, may, self.tool, idle and self._ellipsoid is not None, image
        )
        pages["structures"].show_state(self, self.tool, image)
        pages["needles"].show_state(self, self.tool, image, idle)
        pages["protocol"].show_state(self, may and idle and not gaps and self._sent != draft)
        pages["monitor"].show_state(self, may, self.tool, self.correction is not None)
        blocked = s is not None and s.blocked
        enabled({
            self.undo: self.history.undoes is not None, self.redo: self.history.redoes is not None,
            self.clear: blocked and not self.silent(),
        })  # fmt: skip
        self.clear.setVisible(blocked)
        self._say_missing(gaps)
        self.alarms.show_alarms(
            s.alarms if s else (),
            lambda a: sentence(a, None, self.words.language),
            not self.silent(),
        )
        self._show_pane()

    def _patient(self, s: Snapshot | None, draft: Draft) -> str:
        if s is not None and not s.draft:
            return s.patient_label
        return draft.patient_id or "—"

    def _say_missing(self, gaps: tuple[str, ...]) -> None:
        key, params = self._telling(gaps)
        self.words.put(self.missing.setText, key, **params)
        self.words.put(
            self._note, "console.no_image" if self.pane.stack is None else "console.done"
        )

    def _note(self, said: str) -> None:
        self.pane.note = said if self.pane.stack is None else ""

    def _telling(self, gaps: tuple[str, ...]) -> tuple[str, dict[str, str]]:
        """The gravest first, then what the last press brought, then what is missing."""
        s = self.snapshot
        if self._error is not None:
            return "console.error", {"error": self._error}
        if s is not None and s.blocked:
            return "console.blocked", {}
        if self.silent():
            return "console.silent", {}
        if self._mono() < self._sure[1]:
            return "console.sure", {}
        if self.worker.busy:
            return "console.working", {}
        if s is not None and s.refused:
            return "console.refused", {"why": s.refused}
        if self._said is not None:
            return self._said
        untouched = self.draft.lesion is None and not self.draft.needles
        if s is not None and not s.draft and untouched:
            return "console.missing.given", {}
        if gaps:
            return f"console.missing.{gaps[0]}", {}
        return ("console.missing.none" if self._sent == self.draft else "console.missing.send"), {}

    def _say_slice(self) -> None:
        at = f"{self.pane.cross[2]:.1f}"
        name = self.snapshot.volume_id if self.snapshot and self.snapshot.volume_id else "—"
        at = at.replace(".", ",") if self.words.language == "fr" else at
        self.words.put(self.slice.setText, "console.slice", at=at, name=name)

    def _show_pane(self) -> None:
        s, pane = self.snapshot, self.pane
        pane.outlines = self._outlines()
        needles = [NeedleLine(n.number, n.tip_lps_mm, n.entry_lps_mm) for n in self.draft.needles]
        if s is not None and s.needles and self.step == "monitor":
            needles = list(s.needles)
        pane.needles = needles
        pane.strokes = [(k.start_lps_mm, k.end_lps_mm) for k in self._strokes]
        if self._tip is not None:
            pane.strokes = [*pane.strokes, (self._tip, pane.cross)]
        pane.drawing = self.tool == "strokes"
        pane.brush_mm = self._brush_mm()
        if s is not None:
            pane.window_hu = s.window_hu
        self._say_slice()
        pane.update()

    def _outlines(self) -> list[Outline]:
        found: list[Outline] = []
        s = self.snapshot
        if s is not None and s.blocked:
            return found
        for structure in self.draft.structures:
            if isinstance(structure.shape, DrawnBody):
                found.append(Outline(structure.shape.level_mm, structure.shape.grid, "critical"))
        if isinstance(self.draft.lesion, DrawnBody):
            found.append(Outline(self.draft.lesion.level_mm, self.draft.lesion.grid, "lesion"))
        if self.correction is not None:
            found.append(Outline(self.correction.level_mm, self.correction.grid, "ice", "dashed"))
        elif s is not None and s.ice_sdf is not None and s.analysis_grid is not None:
            ice = self._arrays.get(s.ice_sdf)
            if ice is not None:
                found.append(Outline(ice, s.analysis_grid, "ice"))
        return found

    # ------------------------------------------------------------------ acts

    def act(self, name: str, **params: Any) -> None:
        """Asks the core. Nothing when that is unsafe: the controls are disabled then, too."""
        if self.may_act():
            self._said = None
            self._send({"act": name, "params": params} if params else {"act": name})

    def _surely(self, act: str) -> None:
        """On the second press in time."""
        asked, until = self._sure
        if asked != act or self._mono() >= until:
            self._sure = (act, self._mono() + _SURE_S)
            self.refresh()
            return
        self._sure = ("", 0.0)
        if act == "quit" and (self._core_gone or self.snapshot is None):
            self.close_for_good()
        else:
            self._send({"act": act})

    def pick(self, row: int) -> None:
        s = self.snapshot
        if s is None or not 0 <= row < len(s.received):
            return
        chosen = s.received[len(s.received) - 1 - row]
        self.act("pick_baseline", volume_id=chosen.volume_id)
        self.edit("baseline", patient_id=chosen.patient_id)

    def switch_language(self) -> None:
        self.words.speak(next_language(self.words.language))
        self.refresh()

    # ------------------------------------------------------------------ edits

    def go(self, step: str) -> None:
        self.step = step
        self.stack.setCurrentWidget(self.pages[step])
        self.use("")

    def edit(self, name: str, **changes: Any) -> None:
        self._said = None
        self.history = self.history.edited(name, replace(self.draft, **changes))
        self.refresh()

    def take_back(self) -> None:
        self.history = self.history.undone()
        self.refresh()

    def do_again(self) -> None:
        self.history = self.history.redone()
        self.refresh()

    def use(self, tool: str) -> None:
        """Takes a tool, or puts it down when it is in the hand already."""
        self.tool = "" if tool == self.tool else tool
        self._strokes, self._tip = [], None
        self.pane.take_back()
        if self.tool:
            self.pane.setFocus()
        self.refresh()

    def _brush_mm(self) -> float | None:
        target = self.tool.partition(".")[0]
        if target == "lesion":
            return float(self.pages["lesion"].radius.value())
        if target in ("structure", "ice"):
            return float(self.pages["structures"].radius.value())
        return None

    def _stroked(self, start: Point, end: Point) -> None:
        self._strokes.append(Stroke(start, end))
        if len(self._strokes) < 2:
            self.refresh()
            return
        long, short = sorted(self._strokes, key=lambda k: -k.length_mm)
        self._strokes = []
        self._try(lambda: self._mark(ellipsoid(long, short)))

    def _mark(self, e: Ellipsoid) -> None:
        self._ellipsoid = e
        self.edit("lesion", lesion=from_ellipsoid(e))
        self.use("")

    def _pointed(self, at: Point, dragged: bool) -> None:
        if self.tool == "needle" and not dragged:
            self._needle_point(at)
        elif self.tool:
            self._try(lambda: self._paint(at))

    def _try(self, do: Callable[[], None]) -> None:
        try:
            do()
        except DrawingError as error:
            self._said = ("console.failed", {"why": error.code})
            self.refresh()

    def _paint(self, at: Point) -> None:
        target, _, how = self.tool.partition(".")
        radius = self._brush_mm() or 5.0
        if target == "lesion":
            old = self.draft.lesion if isinstance(self.draft.lesion, DrawnBody) else None
            self.edit("brush", lesion=_painted(old, at, radius, how == "add"))
        elif target == "ice":
            self._correct(at, radius)
        elif how == "new":
            page = self.pages["structures"]
            made = DraftStructure(page.chosen_name(), ball(at, radius), float(page.limit.value()))
            self.edit("structures", structures=(*self.draft.structures, made))
            self.tool = "structure.add"
            page.all.setCurrentRow(len(self.draft.structures) - 1)
            self.refresh()
        else:
            self._paint_structure(at, radius, how == "add")

    def _paint_structure(self, at: Point, radius: float, add: bool) -> None:
        row, all_ = self.pages["structures"].all.currentRow(), list(self.draft.structures)
        if 0 <= row < len(all_) and isinstance(all_[row].shape, DrawnBody):
            all_[row] = replace(all_[row], shape=_painted(all_[row].shape, at, radius, add))
            self.edit("brush", structures=tuple(all_))

    def _correct(self, at: Point, radius: float) -> None:
        s = self.snapshot
        body = self.correction
        if body is None and s is not None and s.analysis_grid is not None:
            ice = self._arrays.get(s.ice_sdf)
            body = None if ice is None else from_sdf(s.analysis_grid, np.asarray(ice))
        if body is not None:
            inside = (
                body.level_mm[
                    tuple(
                        np.clip(
                            np.round(body.grid.to_index_zyx(np.array(at))).astype(int),
                            0,
                            np.array(body.level_mm.shape) - 1,
                        )
                    )
                ]
                < 0
            )
            self.correction = brushed(body, at, radius, add=not inside)
            self.refresh()

    def _needle_point(self, at: Point) -> None:
        if self._tip is None:
            self._tip = at
            self.refresh()
            return
        tip, self._tip = self._tip, None
        if not plausible(tip, at):
            self._said = ("console.needles.short", {})
            self.refresh()
            return
        volume, kind = self._volume(), self._needle_type()
        if volume is not None:
            self._work(lambda: metal.clicked(volume, tip, at, needle_preset(kind)),
                       lambda p: self._needles([p]))  # fmt: skip

    # ------------------------------------------------------------------ longer work

    def _work(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self.worker.do(work, then, self._failed)

    def _failed(self, error: Exception) -> None:
        self._said = ("console.failed", {"why": str(error) or type(error).__name__})
        self.refresh()

    def _volume(self) -> CtVolume | None:
        """The scan on the screen, for what measures it."""
        s = self.snapshot
        hu = self._arrays.get(s.volume) if s is not None else None
        if s is None or hu is None or s.volume_geometry is None:
            return None
        return CtVolume(s.volume_id or "", s.volume_geometry, hu, "", "", "", 0.0, 0.0, (), "")

    def _needle_type(self) -> str:
        return str(self.pages["needles"].kind.currentText())

    def grow(self) -> None:
        volume, e = self._volume(), self._ellipsoid
        if volume is not None and e is not None:
            self._work(lambda: grow(volume, e), self._grown)

    def _grown(self, grown: Grown) -> None:
        self.edit("grow", lesion=grown.body)
        percent = str(int(100 * grown.shown))
        self._said = (
            ("console.lesion.grown", {"percent": percent})
            if grown.grown
            else ("console.lesion.not_grown", {})
        )
        self.refresh()

    def find_needles(self) -> None:
        volume, kind = self._volume(), self._needle_type()
        near = self._lesion_centre()
        if volume is not None and near is not None:
            self._work(lambda: metal.candidates(volume, near, needle_preset(kind)),
                       lambda found: self._needles(found, said=True))  # fmt: skip

    def _lesion_centre(self) -> Point | None:
        lesion = self.draft.lesion
        if isinstance(lesion, DrawnBody):
            x, y, z = lesion.grid.to_lps_mm(np.argwhere(lesion.level_mm < 0)).mean(0)
            return (float(x), float(y), float(z))
        return self.pane.cross if lesion is not None else None

    def _needles(self, found: Any, said: bool = False) -> None:
        needles = list(self.draft.needles)
        for p in found:
            number = replace(self.draft, needles=tuple(needles)).free_number()
            needles.append(
                DraftNeedle(number, self._needle_type(), p.tip_lps_mm, p.entry_lps_mm, p.on_metal)
            )
        self.edit("needles", needles=tuple(needles))
        if said:
            self._said = ("console.needles.found", {"count": str(len(found))})
            self.refresh()

    def import_file(self, target: str) -> None:
        """An RTSTRUCT, SEG, NIfTI or NRRD; what in it is meant has the name of the structure, or is all."""
        path, _ = QFileDialog.getOpenFileName(
            self,
            self.words.say("console.import.title"),
            "",
            "",
            "",
            QFileDialog.DontUseNativeDialog,
        )
        if path:
            self.take_file(target, Path(path))

    def take_file(self, target: str, path: Path) -> None:
        mask = path.name.lower().endswith((".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"))
        if target == "lesion":
            self.edit("import", lesion=ShapeFile(path, None if mask else "Lesion"))
            return
        page = self.pages["structures"]
        name = page.chosen_name()
        shape = ShapeFile(path, None if mask else name)
        made = DraftStructure(name, shape, float(page.limit.value()))
        self.edit("import", structures=(*self.draft.structures, made))

    def send_plan(self) -> None:
        """Writes the case with what it names, then tells the core."""
        self._plans += 1
        draft, language = self.draft, self.words.language
        listener, stale = self._listener, self._stale_after_s
        folder = _free(self._folder)

        def write() -> Path:
            folder.mkdir(parents=True)
            for name, body in drawn_bodies(draft).items():
                write_mask(body, folder / name)
            config = config_of(draft, folder / "case.toml", listener, language, stale)
            write_case(config, config.path)
            return config.path

        self._work(write, lambda path: self._plan_written(path, draft))

    def _plan_written(self, path: Path, draft: Draft) -> None:
        self.act("open_case", path=str(path.resolve()))
        self._sent = draft
        self._said = ("console.protocol.sent", {})
        self.refresh()

    def send_correction(self) -> None:
        s, body = self.snapshot, self.correction
        if s is None or body is None or s.volume_id is None:
            return
        path, volume_id = _free(self._folder).with_suffix(".nii.gz"), s.volume_id

        def write() -> Path:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_mask(body, path)
            return path

        self._work(write, lambda p: self._correction_written(p, volume_id))

    def _correction_written(self, path: Path, volume_id: str) -> None:
        self.act("correct_ice", volume_id=volume_id, path=str(path.resolve()))
        self.correction = None
        self.use("")

    # ------------------------------------------------------------------ Qt

    def close_for_good(self) -> None:
        self._timer.stop()
        self.worker.finish()
        self._may_close = True
        self.close()

    def closeEvent(self, event: Any) -> None:
        if self._may_close:
            event.accept()
            return
        event.ignore()
        self._surely("quit")


def _painted(old: Any, at: Point, radius_mm: float, add: bool) -> DrawnBody:
    if isinstance(old, DrawnBody):
        return brushed(old, at, radius_mm, add)
    if not add:
        raise DrawingError("empty")
    return ball(at, radius_mm)


def _free(folder: Path) -> Path:
    """A name in the folder that nothing has yet."""
    number = 1
    while any(folder.glob(f"{number:03d}*")):
        number += 1
    return folder / f"{number:03d}"
