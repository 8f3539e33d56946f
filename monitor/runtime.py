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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from gpu_kernels.select import open_engine, warm_up
from monitor.case import load_case
from monitor.clock import ProcedureClock
from monitor.config import Config
from monitor.core import Core
from monitor.decision import protocol
from monitor.decision.safety import Facts, alarm_key, standing_alarms
from monitor.intake.listener import check_port, run_listener
from monitor.intake.structures import StructureError, load_structure
from monitor.model import Alarm, Structure
from monitor.pipeline import OperatorAct
from monitor.prediction.ensemble import MOST_LATENT
from monitor.procedure import Procedure, prepare
from monitor.publish import snapshot
from monitor.record.journal import FORMAT_VERSION, Journal, RecordError
from monitor.record.store import Store
from monitor.screen import Screen
from monitor.view.process import ViewOptions

_WATCH_S = 0.25
# Slices waiting for the core; a full queue is told to the scanner (0xA700), which sends again.
_INBOX = 2000
_INTAKE_STOP_S = 10.0
LISTENER_FAILED = "listener failed"
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
    structures, frames = _structures(config)
    return config, prepare(config, structures, frames)


def _structures(config: Config) -> tuple[list[Structure], frozenset[str]]:
    structures, frames = [], set()
    for wanted in (config.lesion, *config.structures):
        loaded = load_structure(wanted)
        if loaded.patient_id is not None and loaded.patient_id != config.patient_id:
            raise StructureError(
                f"{config.path}: {wanted.name}: the file is of another patient than patient.id"
            )
        structures.append(loaded.structure)
        if loaded.frame_of_reference_uid is not None:
            frames.add(loaded.frame_of_reference_uid)
    return structures, frozenset(frames)


def _make(record: Path) -> None:
    try:
        record.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"{record}: {error.strerror}") from None


class Live:
    """A running procedure: ``start``, then ``finish``. ``stopping`` is set when it should end."""

    def __init__(self, options: LiveOptions, say: Callable[[str, dict[str, Any]], None]) -> None:
        self.options = options
        self.config, procedure = open_case(options.case)
        self._engine = open_engine(options.engine, MOST_LATENT)
        check_port(self.config.listener)
        self.clock = ProcedureClock.start(options.clock_speed, options.clock_epoch_utc_s)
        # Made last: what cannot begin leaves no folder behind.
        _make(options.record)
        self._journal = Journal(options.record, self.clock)
        self._scratch = Path(tempfile.mkdtemp(prefix="iceball-"))
        store = Store(options.record, self._scratch)
        shutil.copyfile(options.case, options.record / "case.toml")
        self.core = Core(procedure, self._engine, self._journal, store, self.clock, say)
        self.stopping = threading.Event()
        self.ended_by = ""
        self._acts: queue.SimpleQueue[OperatorAct] = queue.SimpleQueue()
        self._inbox = _SPAWN.Queue(_INBOX)
        self._intake_stop = _SPAWN.Event()
        self._intake: BaseProcess | None = None
        self._intake_over = threading.Event()
        self._screen: Screen | None = None
        self._alarms: tuple[Alarm, ...] = ()
        self._seq = 0
        self._worker = threading.Thread(target=self._work, name="core")
        self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        self.core.journal("procedure_started", self._description())
        self._start_intake()
        if self.options.screen or self.options.screenshots:
            self._start_screen()
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
            self._intake.join(_INTAKE_STOP_S)
        self._intake_over.set()
        self._worker.join()
        self._watcher.join()
        self._publish()
        self.core.journal("procedure_ended", {"by": self.ended_by or "request"})
        if self._screen is not None:
            self._screen.quit()
        self._journal.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _description(self) -> dict[str, Any]:
        config = self.config
        return {
            "format_version": FORMAT_VERSION,
            "case": str(config.path),
            "patient_id": config.patient_id,
            "organ": config.organ.name,
            "margin_goal_mm": config.margin_goal_mm,
            "engine": self._engine.name,
            "clock_speed": self.clock.speed,
            "needles": [n.number for n in config.needles],
            "structures": [s.name for s in config.structures],
        }

    def _work(self) -> None:
        # Compiled before the first scan needs it; a slice that arrives meanwhile waits in the queue.
        warm_up(self._engine)
        self.core.run(self._inbox, self._acts, self._intake_over.is_set)

    # ------------------------------------------------------------------ intake, screen, operator

    def _start_intake(self) -> None:
        blobs = self.options.record / "blobs"
        self._intake = _SPAWN.Process(
            target=run_listener,
            name="intake",
            daemon=True,
            args=(self.config.listener, blobs, self.clock, self._inbox, self._intake_stop),
        )
        self._intake.start()

    def _start_screen(self) -> None:
        screens = str(self.options.record / "screens") if self.options.screenshots else None
        options = ViewOptions(
            language=self.config.language,
            clock_speed=self.clock.speed,
            window=self.options.screen,
            png_dir=screens,
        )
        self._screen = Screen(options, self.act)

    def act(self, act: str, params: Mapping[str, Any] | None = None) -> None:
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
        self._acts.put(OperatorAct(act, self.clock.now_utc_s(), procedure, params or {}))

    # ------------------------------------------------------------------ the watch

    def _watch(self) -> None:
        pause = threading.Event()
        while self._worker.is_alive():
            if not self.stopping.is_set():
                self._keep_alive()
            self._check()
            self._publish()
            pause.wait(_WATCH_S)

    def _keep_alive(self) -> None:
        if self._intake is not None and not self._intake.is_alive():
            if self._intake.exitcode == 2:  # it has said why
                self.request_stop(LISTENER_FAILED)
                return
            self._restarted("intake", self._intake.exitcode)
            self._start_intake()
        if self._screen is not None and self._screen.exitcode is not None:
            self._restarted("view", self._screen.exitcode)
            self._start_screen()

    def _restarted(self, process: str, exitcode: int | None) -> None:
        self.core.journal("process_restarted", {"process": process, "exit": exitcode})

    def _facts(self) -> Facts:
        state = self.core.state
        config = self.core.procedure.config
        intake_alive = self._intake is not None and self._intake.is_alive()
        return Facts(
            phase=protocol.phase(state.progress, config.protocol),
            baseline_id=state.reference.baseline.volume_id if state.reference else None,
            needles_known=bool(config.needles),
            assessment=state.assessment,
            structures=state.structures,
            block=state.block,
            stale_after_s=config.stale_after_s,
            heartbeat_age_s=self.clock.mono_s() - self.core.beat_mono_s,
            intake_alive=intake_alive or self.stopping.is_set(),
            record_ok=self.core.record_ok,
            clock_offset_s=state.clock_offset_s,
            fault=self.core.fault,
            forecast=state.forecast,
            organ=config.organ.name,
        )

    def _check(self) -> None:
        alarms = standing_alarms(self._facts(), self.clock.now_utc_s(), self._alarms)
        before = {alarm_key(a): a for a in self._alarms}
        now = {alarm_key(a): a for a in alarms}
        self._alarms = alarms
        for key in now.keys() - before.keys():
            self._journal_alarm("alarm_raised", now[key])
        for key in before.keys() - now.keys():
            self._journal_alarm("alarm_cleared", before[key])

    def _journal_alarm(self, kind: str, alarm: Alarm) -> None:
        fields = {"code": alarm.code, "priority": alarm.priority.value, "params": alarm.params}
        self.core.journal(kind, fields)

    def _publish(self) -> None:
        if self._screen is None:
            return
        self._seq += 1
        now = self.clock.now_utc_s()
        beat = now - (self.clock.mono_s() - self.core.beat_mono_s) * self.clock.speed
        state, shared, procedure = self.core.state, self.core.shared, self.core.procedure
        self._screen.show(snapshot(self._seq, now, beat, state, shared, procedure, self._alarms))
