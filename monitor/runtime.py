"""The processes and threads of a procedure: intake, core, safety watch, view.

Intake and view are processes of their own; in this one a worker thread owns the engine
(``core.Core``) and a watch thread checks safety four times a second on the last state and the
clock, so that a hung worker, a dead intake or a silent scanner alarms. Times: UTC seconds on the
procedure clock, monotonic for heartbeats. Invariant: whatever dies is journalled, alarmed and, if
it can be, started again; nothing fails in silence.
"""

from __future__ import annotations

import multiprocessing
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from gpu_kernels.select import open_engine, warm_up
from monitor.clock import ProcedureClock
from monitor.case import load_case
from monitor.config import Config
from monitor.core import Core
from monitor.decision import protocol
from monitor.decision.safety import Facts, alarm_key, standing_alarms
from monitor.intake.listener import run_listener
from monitor.intake.structures import StructureError, load_structure
from monitor.model import Alarm, Structure
from monitor.pipeline import OperatorAct
from monitor.procedure import Procedure, prepare
from monitor.publish import snapshot
from monitor.record.journal import FORMAT_VERSION, Journal
from monitor.record.store import Store
from monitor.view.process import ViewOptions, run_view

_WATCH_S = 0.25
# Slices waiting for the core; a full queue is told to the scanner (0xA700), which sends again.
_INBOX = 2000
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class LiveOptions:
    """``screen``: a window. ``screenshots``: a PNG per scan into RECORD/screens."""

    case: Path
    record: Path
    screen: bool
    screenshots: bool
    engine: str = "auto"
    clock_speed: float = 1.0
    clock_epoch_utc_s: float | None = None


def open_case(path: Path) -> tuple[Config, Procedure]:
    """A case with its delineations read. Raises ``ConfigError`` or ``StructureError``."""
    config = load_case(path)
    return config, prepare(config, _structures(config))


def _structures(config: Config) -> list[Structure]:
    structures = []
    for wanted in (config.lesion, *config.structures):
        loaded = load_structure(wanted)
        if loaded.patient_id is not None and loaded.patient_id != config.patient_id:
            raise StructureError(
                f"{config.path}: {wanted.name}: the file is of another patient than patient.id")
        structures.append(loaded.structure)
    return structures


class Live:
    """A running procedure. ``start`` returns when the listener is bound; ``finish`` ends it."""

    def __init__(self, options: LiveOptions, say: Callable[[str, dict[str, Any]], None]) -> None:
        self.options = options
        self.config, procedure = open_case(options.case)
        self.clock = ProcedureClock.start(options.clock_speed, options.clock_epoch_utc_s)
        self._scratch = Path(tempfile.mkdtemp(prefix="iceball-"))
        self._store = Store(options.record, self._scratch)
        self._journal = Journal(options.record, self.clock)
        shutil.copyfile(options.case, options.record / "case.toml")
        self._engine = open_engine(options.engine)
        self.core = Core(procedure, self._engine, self._journal, self._store, self.clock, say)
        self.stopping = threading.Event()
        self.ended_by = ""
        self._acts: queue.SimpleQueue[OperatorAct] = queue.SimpleQueue()
        self._inbox = _SPAWN.Queue(_INBOX)
        self._intake_stop = _SPAWN.Event()
        self._intake: multiprocessing.process.BaseProcess | None = None
        self._view: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self._alarms: tuple[Alarm, ...] = ()
        self._seq = 0
        self._worker = threading.Thread(target=self._work, name="core")
        self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        config = self.config
        self.core.journal("procedure_started", {
            "format_version": FORMAT_VERSION, "case": str(config.path), "patient_id": config.patient_id,
            "organ": config.organ.name, "margin_goal_mm": config.margin_goal_mm,
            "engine": self._engine.name, "clock_speed": self.clock.speed,
            "needles": [n.number for n in config.needles],
            "structures": [s.name for s in config.structures],
        })
        self._start_intake()
        if self.options.screen or self.options.screenshots:
            self._start_view()
        self._worker.start()
        self._watcher.start()

    def request_stop(self, why: str) -> None:
        self.ended_by = self.ended_by or why
        self.stopping.set()

    def finish(self) -> None:
        """Stops taking images in, finishes what was received, ends the record."""
        self.stopping.set()
        self._intake_stop.set()
        if self._intake is not None:
            self._intake.join(10)
        self._intake_gone = True
        self._worker.join()
        self._publish()
        self.core.journal("procedure_ended", {"by": self.ended_by or "request"})
        self._stop_view()
        self._journal.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    _intake_gone = False

    def _work(self) -> None:
        # Compiled before the first scan needs it; a slice that arrives meanwhile waits in the queue.
        warm_up(self._engine)
        self.core.run(self._inbox, self._acts, lambda: self._intake_gone)

    # ------------------------------------------------------------------ intake and view

    def _start_intake(self) -> None:
        self._intake = _SPAWN.Process(
            target=run_listener, name="intake", daemon=True,
            args=(self.config.listener, self.options.record / "blobs", self.clock, self._inbox, self._intake_stop))
        self._intake.start()

    def _start_view(self) -> None:
        self._pipe, child = _SPAWN.Pipe()
        options = ViewOptions(
            language=self.config.language, clock_speed=self.clock.speed, window=self.options.screen,
            png_dir=str(self.options.record / "screens") if self.options.screenshots else None)
        self._view = _SPAWN.Process(target=run_view, name="view", args=(child, options), daemon=True)
        self._view.start()
        child.close()
        threading.Thread(target=self._listen_to_view, args=(self._pipe,), name="acts", daemon=True).start()

    def _stop_view(self) -> None:
        if self._view is None or self._pipe is None:
            return
        try:
            self._pipe.send(("quit",))
        except OSError:
            pass
        self._view.join(20)
        if self._view.is_alive():
            self._view.terminate()

    def _listen_to_view(self, pipe: Connection) -> None:
        while True:
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                return
            if isinstance(message, dict) and "act" in message:
                self.act(str(message["act"]))

    def act(self, act: str) -> None:
        """An operator's act, from screen or terminal."""
        if act == "quit":
            self.request_stop("operator")
            return
        procedure = None
        if act == "reload":
            try:
                self.config, procedure = open_case(self.options.case)
            except ValueError as error:
                self.core.journal("operator", {"act": act, "refused": str(error)})
                return
        self._acts.put(OperatorAct(act, self.clock.now_utc_s(), procedure))

    # ------------------------------------------------------------------ the watch

    def _watch(self) -> None:
        while self._worker.is_alive():
            self._keep_alive()
            self._check()
            self._publish()
            self.stopping.wait(_WATCH_S) if not self.stopping.is_set() else threading.Event().wait(_WATCH_S)

    def _keep_alive(self) -> None:
        if self.stopping.is_set():
            return
        if self._intake is not None and not self._intake.is_alive():
            if self._intake.exitcode == 2:
                self.request_stop("listener failed")
                return
            self.core.journal("process_restarted", {"process": "intake", "exit": self._intake.exitcode})
            self._start_intake()
        if self._view is not None and not self._view.is_alive():
            self.core.journal("process_restarted", {"process": "view", "exit": self._view.exitcode})
            self._start_view()

    def _facts(self) -> Facts:
        state = self.core.state
        config = self.core.procedure.config
        return Facts(
            phase=protocol.phase(state.progress, config.protocol),
            baseline_id=state.baseline.volume_id if state.baseline else None,
            needles_known=bool(config.needles),
            assessment=state.assessment,
            block=state.block,
            stale_after_s=config.stale_after_s,
            heartbeat_age_s=self.clock.mono_s() - self.core.beat_mono_s,
            intake_alive=self._intake is not None and (self._intake.is_alive() or self.stopping.is_set()),
            record_ok=self.core.record_ok,
            clock_offset_s=state.clock_offset_s,
            fault=self.core.fault,
        )

    def _check(self) -> None:
        alarms = standing_alarms(self._facts(), self.clock.now_utc_s(), self._alarms)
        before = {alarm_key(a): a for a in self._alarms}
        now = {alarm_key(a): a for a in alarms}
        self._alarms = alarms
        for key, alarm in now.items():
            if key not in before:
                self.core.journal("alarm_raised", {"code": alarm.code, "priority": alarm.priority.value,
                                                   "params": dict(alarm.params)})
        for key, alarm in before.items():
            if key not in now:
                self.core.journal("alarm_cleared", {"code": alarm.code, "params": dict(alarm.params)})

    def _publish(self) -> None:
        if self._pipe is None:
            return
        self._seq += 1
        age_s = self.clock.mono_s() - self.core.beat_mono_s
        now = self.clock.now_utc_s()
        state, shared = self.core.state, self.core.shared
        try:
            self._pipe.send(("snapshot", snapshot(
                self._seq, now, now - age_s * self.clock.speed, state, shared, self.core.procedure, self._alarms)))
        except OSError:
            pass  # the view died; _keep_alive starts it again


