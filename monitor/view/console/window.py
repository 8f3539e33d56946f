"""The technologist's console: six steps in order, a plane to draw on, what is missing, every alarm. LPS mm.

The ``editor`` makes a draft; the monitor has it only once it was sent and taken. Times: the core's silence is
real time by the view's own monotonic clock. Invariant: while the core is silent, or the patient is wrong,
nothing that acts on the procedure can be pressed, and why is said.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PyQt5.QtCore import QLocale, QTimer
from PyQt5.QtWidgets import QFileDialog, QPushButton, QShortcut, QWidget

from monitor.config import ListenerConfig
from monitor.model import PhaseKind
from monitor.planning.draft import Draft, missing
from monitor.planning.history import History
from monitor.snapshot import Delivered, Snapshot
from monitor.view import formats
from monitor.view.alarms import told
from monitor.view.console import layout
from monitor.view.console.alarm_list import AlarmList
from monitor.view.console.editor import Editor
from monitor.view.console.monitor_page import MonitorPage
from monitor.view.console.pacs import FromPacs
from monitor.view.console.pages import (
    BaselinePage,
    LesionPage,
    NeedlesPage,
    ProtocolPage,
    StructuresPage,
)
from monitor.view.console.parts import enabled
from monitor.view.console.plan_files import write_correction, write_plan
from monitor.view.console.planes import Planes
from monitor.view.console.replaying import show_replay
from monitor.view.console.scale import rescale, scale_of
from monitor.view.console.shown import Shown
from monitor.view.console.words import Words
from monitor.view.images import Stack
from monitor.view.refusals import failure_text, refusal_text
from monitor.view.scene import Arrays
from monitor.view.translations import next_language
from monitor.view.viewmodel import (
    SILENT_AFTER_S,
    STARTING_S,
    Inputs,
    ScreenModel,
    screen_model,
    worker_hangs,
)

STEPS = ("baseline", "lesion", "structures", "needles", "protocol", "monitor")
_REFRESH_MS = 200
_SURE_S = 4.0


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
        fetch: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.words = Words(language)
        self.setLocale(QLocale(language))  # decimal signs
        self._send, self._mono, self._speed = send, mono, speed
        self._folder, self._listener, self._stale_after_s = folder, listener, stale_after_s
        self._sent: Draft | None = None
        self._received_mono_s = mono()
        self._core_gone = self._may_close = False
        self._error: str | None = None
        self._sure: tuple[str, float] = ("", 0.0)
        self.model: ScreenModel
        self._arrays = Arrays()
        self._stack_of: Any = None
        self.shown = Shown(language)
        self.planes = Planes(self.shown)
        self.editor = Editor(self.shown, self.planes.take_keys, self._arrays, self)
        self.pacs = FromPacs(fetch, folder / "pacs", self)
        self._make()
        self.shown.moved.connect(self._say_slice)
        self.scale = 1.0
        rescale(self, self.scale)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.refresh)
        self.go("baseline")
        self.editor.changed.connect(self.refresh)
        self.pacs.changed.connect(self.refresh)
        self.pacs.fetched.connect(self._from_pacs)
        self.pacs.failed.connect(self._pacs_failed)

    def begin(self, draft: Draft) -> None:
        """With the plan that the monitor has already."""
        self.editor.history = History.of(draft)
        self._sent = draft
        self.go("monitor" if not missing(draft) else "baseline")

    @property
    def snapshot(self) -> Snapshot | None:
        return self.editor.snapshot

    def _make(self) -> None:
        words, editor = self.words, self.editor
        words.put(self.setWindowTitle, "console.title")
        self.pages: dict[str, Any] = {
            "baseline": BaselinePage(self),
            "lesion": LesionPage(self),
            "structures": StructuresPage(self),
            "needles": NeedlesPage(self),
            "protocol": ProtocolPage(self),
            "monitor": MonitorPage(self),
        }
        editor.pages = self.pages
        self.patient, self.slice = layout.label("title"), layout.label()
        self.phase = layout.label("title")
        for title in (self.patient, self.phase):
            title.setWordWrap(False)
        self.missing, notice = layout.label("missing"), layout.label("notice")
        self.delivery = layout.label("notice")
        words.put(notice.setText, "notice")
        orders = [layout.button(words, key, do) for key, do in self._orders()]
        self.undo, self.redo, self.language, self.clear, self.end = orders
        self.steps: dict[str, QPushButton] = {
            step: layout.step_button(words, step, self.go) for step in STEPS
        }
        self.alarms = AlarmList(words, lambda key: self._send({"act": "acknowledge", "alarm": key}))
        self.stack, self._area = layout.stacked(self.pages)
        layout.put_together(
            self, (self.patient, self.phase), orders, self.steps.values(), (self.planes, self.slice),
            self._area, (self.missing, self.alarms, self.delivery, notice),
        )  # fmt: skip
        for keys, do in (
            ("Ctrl+Z", editor.take_back),
            ("Ctrl+Y", editor.do_again),
            ("F6", self.planes.take_keys),
        ):
            QShortcut(keys, self).activated.connect(do)

    def _orders(self) -> tuple[tuple[str, Callable[[], None]], ...]:
        return (
            ("console.undo", self.editor.take_back),
            ("console.redo", self.editor.do_again),
            ("console.language", self.switch_language),
            ("console.clear_block", lambda: self._surely("clear_block")),
            ("console.end", lambda: self._surely("quit")),
        )

    def start_clock(self) -> None:
        self._timer.start(_REFRESH_MS)

    # ------------------------------------------------------------------ what comes in

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """The core's latest word."""
        self.editor.snapshot, self._received_mono_s = snapshot, self._mono()
        try:
            self._show_image(snapshot)
        except Exception as error:
            traceback.print_exception(error)
            self._error = type(error).__name__
        self.refresh()

    def _show_image(self, s: Snapshot) -> None:
        plan = (s.lesion_sdf, *(ref for _, ref in s.structure_sdfs))
        self._arrays.keep_only({r.path for r in (s.volume, s.ice_sdf, *plan) if r is not None})
        key = None if s.blocked else (s.volume, s.volume_geometry)
        if key == self._stack_of:
            return
        self._stack_of = key
        hu = None if s.blocked else self._arrays.get(s.volume)
        if hu is None or s.volume_geometry is None:
            self.shown.show_stack(None)
            return
        self.shown.show_stack(Stack(hu, s.volume_geometry))
        self.editor.correction = None

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

    def _starting(self) -> bool:
        """Before the monitor's first word, and not without end."""
        waited_s = self._mono() - self._received_mono_s
        return self.snapshot is None and not self._core_gone and waited_s <= STARTING_S

    def blocked(self) -> bool:
        return self.snapshot is not None and self.snapshot.blocked

    def may_act(self) -> bool:
        return not self.silent() and not self.blocked() and not self.replaying()

    def replaying(self) -> bool:
        return self.snapshot is not None and self.snapshot.replay is not None

    def plan_taken(self) -> bool:
        """Whether the monitor has the draft as it stands; what it refused it has not."""
        refused = self.snapshot.refused if self.snapshot is not None else None
        return self._sent == self.editor.draft and not (refused or "").startswith("open_case:")

    def _has_baseline(self) -> bool:
        return self.snapshot is not None and self.snapshot.baseline_id is not None

    # ------------------------------------------------------------------ the state, shown

    def refresh(self) -> None:
        """Brings every control up to this moment."""
        s, draft, history = self.snapshot, self.editor.draft, self.editor.history
        gaps = missing(draft)
        patient = draft.patient_id or "—" if s is None or s.draft else s.patient_label
        self.words.put(self.patient.setText, "console.patient", patient=patient)
        show_replay(self, s.replay if s is not None else None, patient)
        self.model = model = screen_model(self._inputs())
        clock = f"  {model.clock} / {model.clock_of}" if model.clock_of else ""
        self.phase.setText(f"{model.phase}{clock}")
        self._show_steps(gaps)
        self._show_pages(gaps)
        enabled({
            self.undo: history.undoes is not None, self.redo: history.redoes is not None,
            self.clear: self.blocked() and not self.silent() and not self.replaying(),
        })  # fmt: skip
        self.clear.setVisible(self.blocked())
        key, params = self._telling(gaps)
        self.words.put(self.missing.setText, key, **params)
        self.words.put(
            self._note, "console.no_image" if self.shown.stack is None else "console.done"
        )
        self._show_delivery(s.delivery if s is not None else None)
        alarms = s.alarms if s else ()
        language = self.words.language
        seen = not self.silent() and not self.replaying()
        self.alarms.show_alarms(alarms, lambda a: told(a, None, language), seen)
        self.editor.show(live_needles=self.step == "monitor")
        self._say_slice()

    def _show_delivery(self, d: Delivered | None) -> None:
        """Where results are sent. Of no consequence for the patient: beside the notice, no alarm."""
        self.delivery.setVisible(d is not None)
        if d is not None:
            counts = {"sent": str(d.sent), "waiting": str(d.waiting), "refused": str(d.refused)}
            key = f"console.delivery.{d.code}"
            self.words.put(self.delivery.setText, key, name=d.ae_title, why=d.reason, **counts)

    def _inputs(self) -> Inputs:
        s, since_s = self.snapshot, self._mono() - self._received_mono_s
        now_utc_s = float("nan") if s is None else s.now_utc_s + self._speed * since_s
        silent_s = float("inf") if self._core_gone else since_s
        return Inputs(s, now_utc_s, silent_s, self.words.language, None, self._speed)

    def _show_steps(self, gaps: tuple[str, ...]) -> None:
        done = {step for step in STEPS[:-1] if step not in gaps}
        if not self.plan_taken():
            done.discard("protocol")
        if not self._has_baseline():  # a case may name the patient before anything was scanned
            done.discard("baseline")
        for step, button in self.steps.items():
            button.setChecked(step == self.step)
            mark = "✓ " if step in done else ""
            button.setText(mark + self.words.say(f"console.step.{step}"))

    def _show_pages(self, gaps: tuple[str, ...]) -> None:
        editor, may, pages = self.editor, self.may_act(), self.pages
        image = self.shown.stack is not None and not self.blocked()
        idle, tool = not editor.worker.busy, editor.tool
        pages["baseline"].show_state(self, may)
        pages["lesion"].show_state(self, may, tool, editor.can_grow, image)
        pages["structures"].show_state(self, tool, image)
        pages["needles"].show_state(self, tool, image, idle)
        may_send = may and idle and not gaps and not self.plan_taken()
        pages["protocol"].show_state(self, may_send)
        pages["monitor"].show_state(self, may, tool, editor.correction is not None)

    def _note(self, said: str) -> None:
        self.shown.note = said if self.shown.stack is None and not self.blocked() else ""

    def _telling(self, gaps: tuple[str, ...]) -> tuple[str, Mapping[str, str]]:
        """The gravest first, then what the last press brought, then what is missing."""
        s, draft = self.snapshot, self.editor.draft
        if self._error is not None:
            return "console.error", {"error": self._error}
        if self.replaying():
            return "replay.refused", {}
        if self.blocked():
            return "console.blocked", {}
        if self.silent():
            return f"console.{'starting' if self._starting() else 'silent'}", {}
        if self._mono() < self._sure[1]:
            return "console.sure", {}
        if self.editor.worker.busy:
            return "console.working", {}
        if s is not None and s.refused:
            return "console.refused", {"why": refusal_text(self.words.language, s.refused)}
        if self.editor.said is not None:
            key, params = self.editor.said
            if key == "console.failed":
                params = {"why": failure_text(self.words.language, params["why"])}
            return key, params
        given = s is not None and not s.draft and draft.lesion is None and not draft.needles
        if given or (not gaps and self.plan_taken()):
            return self._what_is_next(given)
        if gaps:
            return f"console.missing.{gaps[0]}", {}
        return "console.missing.send", {}

    def _what_is_next(self, given: bool) -> tuple[str, Mapping[str, str]]:
        """What is next, once the monitor has a plan."""
        kind = PhaseKind.WAITING if self.snapshot is None else self.snapshot.phase.kind
        if kind is PhaseKind.WAITING and not self._has_baseline():
            return "console.missing.scan", {}
        if kind is PhaseKind.WAITING:
            return f"console.missing.{'given' if given else 'none'}", {}
        if kind is PhaseKind.ENDED:
            return "console.ended", {}
        due = self.model.next_ct
        return "console.running", {"next": " · ".join(x for x in (due.value, due.note) if x)}

    def _say_slice(self) -> None:
        x, y, z = (formats.decimal(v, 1, self.words.language) for v in self.shown.cross)
        name = self.snapshot.volume_id if self.snapshot and self.snapshot.volume_id else "—"
        self.words.put(self.slice.setText, "console.slice", x=x, y=y, z=z, name=name)

    # ------------------------------------------------------------------ acts

    def go(self, step: str) -> None:
        """To that step's page, and to its top."""
        self.step = step
        self._area.ensureVisible(0, 0)
        self.editor.said = self.editor.offered = None
        self.stack.setCurrentWidget(self.pages[step])
        self.editor.use("")
        self.refresh()

    def act(self, name: str, **params: Any) -> None:
        """Asks the core. Nothing when that is unsafe: the controls are disabled then, too."""
        if self.may_act():
            self.editor.said = None
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
        """The scan in that row of the list, the newest first, as the baseline."""
        received = self.snapshot.received if self.snapshot is not None else ()
        if 0 <= row < len(received):
            chosen = received[len(received) - 1 - row]
            self.act("pick_baseline", volume_id=chosen.volume_id)
            self.editor.edit("baseline", patient_id=chosen.patient_id)
            self.pacs.forget()

    def switch_language(self) -> None:
        self.speak(next_language(self.words.language))

    def speak(self, language: str) -> None:
        self.words.speak(language)
        self.setLocale(QLocale(language))
        self.shown.language = language
        self.refresh()

    def spoken(self) -> str:
        return self.words.language

    def import_file(self, target: str) -> None:
        title, own = self.words.say("console.import.title"), QFileDialog.DontUseNativeDialog
        path, _ = QFileDialog.getOpenFileName(self, title, "", "", "", own)
        if path:
            self.pacs.forget()
            self.editor.take_file(target, Path(path))

    def ask_pacs(self, target: str) -> None:
        """What there is to import; pressed again, it is given up."""
        patient_id = self.editor.draft.patient_id
        if self.pacs.busy:
            self.pacs.cancel()
        elif not patient_id:
            self.editor.tell("console.pacs.whose")
        else:
            self.editor.offered = self.editor.said = None
            self.pacs.ask(target, patient_id)

    def _from_pacs(self, target: str, path: str) -> None:
        """What is of another patient than the draft is now is not looked at."""
        if self.editor.draft.patient_id == self.pacs.patient_id:
            self.editor.take_file(target, Path(path))
        else:
            self.editor.tell("console.pacs.other_patient")

    def _pacs_failed(self, code: str, about: str) -> None:
        self.editor.tell(f"console.pacs.{code}", about=about)

    def send_plan(self) -> None:
        """Writes the case with what it names, then tells the core."""
        draft, folder, listener = self.editor.draft, self._folder, self._listener
        language, stale_s = self.words.language, self._stale_after_s

        def written(path: Path) -> None:
            self.act("open_case", path=str(path))
            self._sent = draft
            self.editor.tell("console.protocol.sent")

        self.editor.work(lambda: write_plan(draft, folder, listener, language, stale_s), written)

    def send_correction(self) -> None:
        s, body, folder = self.snapshot, self.editor.correction, self._folder
        if s is None or body is None or s.volume_id is None:
            return
        volume_id = s.volume_id

        def written(path: Path) -> None:
            self.act("correct_ice", volume_id=volume_id, path=str(path))
            self.editor.correction = None
            self.editor.use("")

        self.editor.work(lambda: write_correction(body, folder), written)

    # ------------------------------------------------------------------ Qt

    def close_for_good(self) -> None:
        self._timer.stop()
        self.editor.worker.finish()
        self.pacs.finish()
        self._may_close = True
        self.close()

    def resizeEvent(self, event: Any) -> None:
        scale = scale_of(self.width(), self.height())
        if scale != self.scale:
            self.scale = scale
            self.planes.rescale(scale)
            rescale(self, scale)

    def closeEvent(self, event: Any) -> None:
        if self._may_close:
            event.accept()
            return
        event.ignore()
        self._surely("quit")
