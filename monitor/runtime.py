"""The processes and threads of a procedure: intake, core, safety watch, view.

Intake and view are processes of their own; in this one a worker thread owns the engine
(``core.Core``) and a watch thread checks safety four times a second on the last state and the
clock, so that a hung worker, a dead intake or a silent scanner alarms. Times: UTC seconds on the
procedure clock, monotonic for heartbeats. Invariant: whatever dies is journalled, alarmed and, if
it can be, started again; nothing fails in silence.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import queue
import shutil
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from gpu_kernels.select import warm_up
from monitor import logs
from monitor.begun import LiveOptions, begin, kept_case
from monitor.case import load_case
from monitor.config import Config
from monitor.core import Core
from monitor.decision.alarm_states import Alarms, Change, Key, acknowledged, checked
from monitor.decision.safety import Facts, causes
from monitor.intake.channel import STOP, Inbox, IntakeGone
from monitor.intake.decode import DIED
from monitor.intake.listener import run_listener
from monitor.intake.trial import Trial
from monitor.journal_fields import alarm_fields
from monitor.metrics import Observed
from monitor.model import Rejected
from monitor.opening import open_drawing
from monitor.publish import snapshot
from monitor.record import checkpoints
from monitor.record.checkpoints import Checkpoint, Checkpoints
from monitor.record.drawings import keep_drawing
from monitor.record.journal import plain
from monitor.record.left_behind import kept_names
from monitor.record.store import Store
from monitor.resuming import OPERATOR, not_kept, standing_alarms
from monitor.snapshot import Delivered
from monitor.state import OperatorAct, State
from monitor.streaming.server import check_stream
from monitor.supervisor import Supervised
from monitor.view.console.process import ConsoleOptions
from monitor.view.process import ViewOptions
from monitor.watching import Machine, facts_of
from monitor.windows import Options, Windows

_WATCH_S = 0.25
_INTAKE_STOP_S = 10.0
# Longer than any image takes, on a machine that is very busy or a disk that is slow.
DECODES_S = 60.0
LISTENER_FAILED = "listener failed"
_SPAWN = multiprocessing.get_context("spawn")


class Delivery(Protocol):
    """Who gives results to others (``delivery``), and how that stands; never waits and never raises."""

    standing: Delivered | None

    def start(self) -> None: ...

    def look(self, state: State) -> list[tuple[str, dict[str, Any]]]: ...


def _logging(say: Callable[[str, dict[str, Any]], None]) -> Callable[[str, dict[str, Any]], None]:
    def told(kind: str, fields: dict[str, Any]) -> None:
        logs.journal_line(kind, fields)
        say(kind, fields)

    return told


class Live:
    """A running procedure: ``start``, then ``finish``. ``stopping`` is set when it should end."""

    def __init__(
        self,
        options: LiveOptions,
        say: Callable[[str, dict[str, Any]], None],
        delivery: Callable[[Config, Path], Delivery | None] = lambda config, record: None,
        supervised: Supervised | None = None,
    ) -> None:
        self.options, self._supervised = options, supervised
        self._delivery: Delivery | None = None

        def check(config: Config) -> None:
            if options.stream is not None:
                check_stream(options.stream.address, options.stream.port)
            self._delivery = delivery(config, options.record)

        self._begun = begun = begin(options, check)
        self.config, self.clock, self._given = begun.config, begun.clock, begun.given
        self._journal, self._running = begun.journal, begun.running
        # Seconds that nobody watched, until the alarms have been told.
        self._down_s, self._begun_mono_s = begun.down_s, begun.clock.mono_s()
        self._alarms: Alarms = ()
        self.logs = logs.of_record(options.record, options.log_level)
        self._news = threading.Event()
        self._store = Store(options.record, self._scratch, spare=self._spare)
        self.core = Core(
            begun.procedure,
            begun.engine,
            self._journal,
            self._store,
            self.clock,
            _logging(say),
            self._news.set,
            self._checkpoint,
        )
        if (found := begun.unfinished) is not None:
            self.core.restore(found.known, begun.procedure, found.seq)
            self.core.still_not_kept(not_kept(found.lines))
            self._alarms = standing_alarms(found.lines)
        self._say, self._standing_told = say, begun.unfinished is None
        self._checkpoints = Checkpoints(options.record, self._checkpoint_failed)
        self.stopping = threading.Event()
        self.ended_by = ""
        if begun.unfinished is not None and begun.unfinished.ended_by == OPERATOR:
            self.ended_by = OPERATOR
            self.stopping.set()
        # Lines that the record's disk did not take to the end, in this file instead.
        self.unwritten: Path | None = None
        self._damage = 0
        # Before, what is known is of some time ago: it is neither shown nor judged, unless this hangs.
        self._caught_up = not options.resume
        self._acts: queue.SimpleQueue[OperatorAct] = queue.SimpleQueue()
        self._inbox = Inbox()
        self._intake_pipe: Connection | None = None
        self._intake: BaseProcess | None = None
        self._intake_over = threading.Event()
        self._windows = Windows(
            self._wanted(), self.act, self.logs, begun.running, self.clock.mono_s
        )
        self._seen: queue.SimpleQueue[Key | None] = queue.SimpleQueue()
        self._seq = 0
        # Why the last act was, if it could not even be read from disk.
        self._refused: str | None = None
        self._watch_over = threading.Event()
        self._worker = threading.Thread(target=self._work, name="core")
        self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        self.core.journal(*self._begun.line)
        self._start_intake()
        self._windows.start()
        if self._delivery is not None:
            self._delivery.start()
        self._worker.start()
        self._watcher.start()

    def request_stop(self, why: str) -> None:
        """Journalled at once: what is killed while it ends is not gone on with as if nobody had wished it."""
        if not self.ended_by:
            self.ended_by = why
            self.core.journal("procedure_ending", {"by": why})
        self.stopping.set()

    def finish(self) -> None:
        """Stops taking images in, finishes what was received, ends the record."""
        self.stopping.set()
        if self._intake is not None and self._intake_pipe is not None:
            with contextlib.suppress(OSError):  # it is dead already
                self._intake_pipe.send(STOP)
            self._intake.join(_INTAKE_STOP_S)
        self._intake_over.set()
        self._worker.join()
        self._watch_over.set()
        self._watcher.join()
        self._publish()
        self.core.journal("procedure_ended", {"by": self.ended_by or "request"})
        self._windows.quit()
        try:
            self.unwritten = self._journal.close()
        finally:
            self._clear_away()

    def _clear_away(self) -> None:
        self._running.clear_away()
        self._checkpoints.close()
        checkpoints.remove(self.options.record)
        for folder in (self._scratch, self._spare):
            shutil.rmtree(folder, ignore_errors=True)
        self._running.close()

    @property
    def _scratch(self) -> Path:
        """Through which the screens get their fields: of the record, so that what was shown is still there
        when the procedure is gone on with."""
        return self.options.record / "scratch"

    @property
    def _spare(self) -> Path:
        """In memory, for when the record's disk is full; of the record, so that it is cleared away by whoever
        goes on with that."""
        name = hashlib.sha256(str(self.options.record.resolve()).encode()).hexdigest()[:16]
        return Path("/dev/shm") / f"iceball-{name}"

    def _work(self) -> None:
        # Compiled before the first scan needs it; a slice that arrives meanwhile waits.
        warming = threading.Thread(target=self._warm_up, name="warm-up", daemon=True)
        warming.start()
        over = self._intake_over.is_set
        self.core.run(self._inbox, self._acts, over, lambda: not warming.is_alive(), self._catch_up)

    def _catch_up(self) -> None:
        """What the record has beyond its checkpoint, then what had been kept and not been told of. What is
        missing of it is said."""
        found = self._begun.unfinished
        if found is None:
            return
        try:
            deadly = found.deadly
            for redo in found.tail():
                self.core.redo(redo.event, redo.seq, redo.results)
                deadly = deadly or (isinstance(redo.event, Rejected) and redo.event.reason == DIED)
            if deadly:  # its like may come again
                self.core.decoding = Trial(self.options.record, self.logs).decode
            self.core.take_up(self._begun.kept)
        except Exception as error:
            self.core.failed("what the record holds", error)
        for finding in found.damage:
            self.core.journal("record_damaged", {"line": finding.line, "text": finding.text})
        self._damage = len(found.damage)
        self._down_s += self.clock.mono_s() - self._begun_mono_s
        self._caught_up = True

    def _checkpoint(self) -> None:
        if not self.core.record_ok:
            return  # lines that it would stand on are not on disk
        case = os.path.relpath(self.core.case, self.options.record)
        self._checkpoints.take(
            Checkpoint(self.core.input_seq, self._journal.seq, case, self.core.known)
        )

    def _checkpoint_failed(self, error: Exception) -> None:
        self.core.journal("checkpoint_failed", {"error": f"{type(error).__name__}: {error}"})

    def _warm_up(self) -> None:
        try:
            warm_up(self._begun.engine)
        except Exception as error:  # what needs no engine goes on
            self.core.failed("the start of the engine", error)

    # ------------------------------------------------------------------ intake, screen, operator

    def _start_intake(self, before: IntakeGone | None = None) -> None:
        blobs = self.options.record / "blobs"
        self._intake_pipe, theirs = _SPAWN.Pipe()
        self._intake = _SPAWN.Process(
            target=logs.run,
            name="intake",
            daemon=True,
            args=(
                self.logs,
                "intake",
                run_listener,
                *(self.config.listener, blobs, self.clock, theirs),
            ),
        )
        self._intake.start()
        theirs.close()  # the process has its own; with it ends the pipe
        self._inbox.follow(self._intake_pipe, before)

    def _wanted(self) -> dict[str, Callable[[], Options]]:
        """What is to be shown, by the names that the journal has."""
        options, wanted = self.options, dict[str, Callable[[], Options]]()
        if options.screen or options.screenshots:
            wanted["view"] = self._room
        if options.console:
            wanted["console"] = self._console
        if (stream := options.stream) is not None:
            wanted["openigtlink"] = lambda: stream
        return wanted

    def _room(self) -> ViewOptions:
        screens = str(self.options.record / "screens") if self.options.screenshots else None
        return ViewOptions(
            language=self.config.language,
            clock_speed=self.clock.speed,
            window=self.options.screen,
            png_dir=screens,
            viewing=self.options.viewing,
            show=self.options.show,
            monitor=self.options.monitor,
            pedal=self.options.pedal,
        )

    def _console(self) -> ConsoleOptions:
        procedure = self.core.procedure
        return ConsoleOptions(
            case=None if procedure.draft else str(self.core.case.resolve()),
            folder=str(self.options.record.resolve() / "console"),
            listener=self.config.listener,
            stale_after_s=self.config.stale_after_s,
            language=self.config.language,
            clock_speed=self.clock.speed,
            show=self.options.show,
            monitor=self.options.monitor,
            pedal=self.options.pedal,
            fetch=self.options.fetch,
        )

    def act(
        self, act: str, alarm: Key | None = None, params: Mapping[str, Any] | None = None
    ) -> None:
        """An operator's act, from screen or terminal. "acknowledge" is of one ``alarm``, or of all;
        ``params`` are the act's own."""
        if act == "quit":
            self.request_stop(OPERATOR)
            return
        if act == "pedal":  # the room's screen's own business, whichever window has the keyboard
            self._windows.pass_on("view", ("pedal", str((params or {}).get("do"))))
            return
        if act == "acknowledge":  # not by way of the worker, which may hang: that is an alarm too
            self._seen.put(alarm)
        try:
            self._acts.put(self._act(act, plain(params)))
        except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: ITK's
            self.core.journal("operator", {"act": act, "refused": str(error)})
            self._refused = f"{act}: {error}"
        else:
            self._refused = None

    def _act(self, act: str, params: Mapping[str, Any] | None) -> OperatorAct:
        """With what has to be read from disk for it, on the caller's thread, which may take its time: what is
        worked with is what a replay will find. "open_case" is a reload of the case at its ``path``, and of
        that one from then on."""
        if act in ("reload", "open_case"):
            path = self._given if act == "reload" else Path(str((params or {}).get("path")))
            load_case(path)  # whose errors name the file as it was given
            procedure, kept = kept_case(self.options.record, path)
            self._given, self.config = path, procedure.config
            now_utc_s, params = self.clock.now_utc_s(), {"path": str(path.resolve())}
            return OperatorAct("reload", now_utc_s, procedure, asdict(kept), params)
        if act == "correct_ice":
            record, given = self.options.record, dict(params or {})
            given["path"], given["sha256"] = keep_drawing(record, record / str(given.get("path")))
            drawn = open_drawing(record / given["path"])
            return OperatorAct(act, self.clock.now_utc_s(), params=given, drawn=drawn)
        return OperatorAct(act, self.clock.now_utc_s(), params=params)

    def observed(self) -> Observed:
        """How it stands, for the metrics. From any thread."""
        volume, now_utc_s = self.core.state.volume, self.clock.now_utc_s()
        alive = {"core": self._worker.is_alive(), "watch": self._watcher.is_alive()}
        if self._intake is not None:
            alive["intake"] = self._intake.is_alive()
        alive |= self._windows.alive()
        return Observed(
            scan_age_s=None if volume is None else now_utc_s - volume.acquired_utc_s,
            waiting=self._inbox.waiting,
            alarms=tuple((s.alarm.code, s.alarm.priority.value) for s in self._alarms),
            alive=alive,
        )

    # ------------------------------------------------------------------ the watch

    def _watch(self) -> None:
        """Until the procedure has ended, whatever becomes of the worker. When a turn fails, no snapshot
        goes out, and the screen says within a second that the core is silent."""
        failed = ""
        while not self._watch_over.is_set():
            self._news.wait(_WATCH_S)  # a new result is not to wait for its turn
            self._news.clear()
            try:
                intake_ran = self._keep_alive()
                self._running.beat()
                self._end_without_end()
                if self._caught_up or self.core.beat_mono_s < self.clock.mono_s():
                    self._check(intake_ran)
                    self._publish()
                if self._delivery is not None and self._caught_up:
                    for kind, fields in self._delivery.look(self.core.state):
                        self.core.journal(kind, fields)
            except Exception as error:
                if repr(error) != failed:  # four times a second would fill the disk
                    failed = repr(error)
                    self.core.failed("the watch", error)

    def _keep_alive(self) -> bool:
        """Starts again what has died. Whether reception had not: a restart is not to pass unseen."""
        if self.stopping.is_set():
            return True
        for name, exitcode in self._windows.start_again().items():
            self._restarted(name, exitcode)
        if self._supervised is not None and self._supervised.start_again():
            self._restarted("supervisor", None)
        if self._intake is None or self._intake.is_alive():
            return self._intake is not None
        if self._intake.exitcode == 2:  # it has said why
            self.request_stop(LISTENER_FAILED)
        else:
            self._restarted("intake", self._intake.exitcode)
            self._start_intake(IntakeGone(kept_names(self.options.record)))
        return False

    def _end_without_end(self) -> None:
        """A codec that does not come back holds the core, and nothing else can take it from there: started
        again, the program tries that image in a process of its own."""
        since = self.core.decoding_mono_s
        if since is not None and self.clock.mono_s() - since > DECODES_S:
            # In the log alone: a line of the journal would be a result of that image.
            logs.failed("decoding_has_no_end", TimeoutError())
            os.kill(os.getpid(), signal.SIGKILL)

    def _restarted(self, process: str, exitcode: int | None) -> None:
        self.core.journal("process_restarted", {"process": process, "exit": exitcode})

    def _facts(self, intake_ran: bool) -> Facts:
        machine = Machine(
            heartbeat_age_s=self.clock.mono_s() - self.core.beat_mono_s,
            intake_alive=intake_ran,
            record_ok=self.core.record_ok,
            clock_jump_s=self.clock.jump_s(),
            fault=self.core.fault,
            down_s=self._down_s,
            record_damage=self._damage,
            shut_out=tuple(self.core.shut_out.values()),
            not_kept=tuple(self.core.not_kept.values()),
        )
        now_utc_s = self.clock.now_utc_s()
        return facts_of(self.core.state, self.core.procedure, now_utc_s, machine)

    def _check(self, intake_ran: bool) -> None:
        """What operators have acknowledged, of the alarms they saw; then what stands now."""
        while not self._seen.empty():
            self._alarms, changes = acknowledged(self._alarms, self._seen.get())
            self._journal_alarms(changes)
        now_utc_s = self.clock.now_utc_s()
        found = causes(self._facts(intake_ran), now_utc_s)
        self._down_s = 0.0  # told: the alarm stays until somebody has seen it
        self._alarms, changes = checked(self._alarms, found, now_utc_s)
        self._journal_alarms(changes)
        if not self._standing_told:
            self._tell_standing(changes)

    def _tell_standing(self, changes: tuple[Change, ...]) -> None:
        """Of a record that is gone on with: the terminal has not seen what stood before, and what has not
        changed is no line of the journal."""
        self._standing_told = True
        told = {(a.code, a.about) for _, a in changes}
        for alarm in (s.alarm for s in self._alarms if s.cause.key not in told):
            self._say("alarm_stands", {**alarm_fields(alarm), "acknowledged": alarm.acknowledged})

    def _journal_alarms(self, changes: tuple[Change, ...]) -> None:
        for kind, alarm in changes:
            self.core.journal(kind, alarm_fields(alarm))

    def _publish(self) -> None:
        if (
            not self._windows or not self.core.started
        ):  # until then a screen waits, and not without end
            return
        self._seq += 1
        now = self.clock.now_utc_s()
        beat = now - (self.clock.mono_s() - self.core.beat_mono_s) * self.clock.speed
        state, procedure, shared = self.core.published
        alarms = tuple(s.alarm for s in self._alarms)
        shown = snapshot(self._seq, now, beat, state, shared, procedure, alarms)
        delivery = None if self._delivery is None else self._delivery.standing
        shown = replace(shown, refused=self._refused or shown.refused, delivery=delivery)
        self._windows.show(shown)
