"""The worker: owns the engine and the state, turns messages into events, outputs into the record.

One thread runs ``Core.run``; other threads read ``state``, ``shared`` and ``beat_mono_s``, which
are replaced whole, never changed in place. Times are UTC seconds (procedure clock) or monotonic.
Invariant: whatever ``step`` gets is in the journal before it works on it; every instance that arrives
ends in a volume or a rejection.
"""

from __future__ import annotations

import queue
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from multiprocessing.queues import Queue as ProcessQueue
from typing import Any

import numpy as np

from gpu_kernels.engine import Engine
from monitor.clock import ProcedureClock
from monitor.decision.safety import GRACE_S
from monitor.intake.decode import decode
from monitor.intake.messages import LetIn, Refused
from monitor.journal_fields import rejected_fields
from monitor.memory import give_back
from monitor.model import AssociationEnded, CtFrames, CtSlice, Instance, Rejected
from monitor.pipeline import after_fault, due, in_force, step
from monitor.procedure import Procedure
from monitor.publish import Publisher, Shared
from monitor.record.events import input_line
from monitor.record.journal import Journal, RecordError
from monitor.record.store import Store
from monitor.state import (
    Ending,
    Event,
    ForecastDue,
    KeepVolume,
    Line,
    OperatorAct,
    Output,
    State,
    Tick,
    initial_state,
    on_disk,
)

_TICK_S = 0.1
# Measuring a scan takes a second or two, on a busy machine more: at work is not silent.
_WORK_GRACE_S = 7.0


class Core:
    """One procedure being monitored."""

    def __init__(
        self,
        procedure: Procedure,
        engine: Engine,
        journal: Journal,
        store: Store,
        clock: ProcedureClock,
        on_line: Callable[[str, dict[str, Any]], None] = lambda kind, fields: None,
        on_news: Callable[[], None] = lambda: None,
    ) -> None:
        self.procedure = procedure
        self.state: State = initial_state(procedure)
        # The engine may have to be compiled before the first beat; one that hangs there is silent after this.
        self.beat_mono_s = clock.mono_s() + GRACE_S
        # False until the first message can be served: starting, and nothing to show yet.
        self.started = False
        self.fault: str | None = None
        self.record_ok = True
        # Address → who was turned away there when it called last, and why (a code).
        self.shut_out: Mapping[str, tuple[str, str]] = {}
        self._engine = engine
        self._journal = journal
        self._store = store
        self._clock = clock
        self._on_line, self._on_news = on_line, on_news
        self._publisher = Publisher(store)
        self.shared: Shared = self._publisher.share(self.state, procedure)
        self._ticked_mono_s = 0.0
        self._held: deque[Any] = deque()

    def run(
        self,
        inbox: ProcessQueue[Any],
        acts: queue.SimpleQueue[OperatorAct],
        stop: Callable[[], bool],
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        """Serves messages until ``stop()`` and the inbox is empty, then ends the procedure. A failure
        outside the pipeline (a message that cannot be read) is a fault, and the next is served. Until the
        engine is ``ready`` images and acts wait, and the beat that was given for it runs out."""
        over = False
        while not ready():
            self._hold(inbox)
        while not over:
            try:
                busy = self._turn(inbox, acts)
            except Exception as error:
                self.failed("the next message", error)
                busy = False
                time.sleep(_TICK_S)
            over = not busy and stop()
        self.handle(Ending(self._clock.now_utc_s()))

    def _turn(self, inbox: ProcessQueue[Any], acts: queue.SimpleQueue[OperatorAct]) -> bool:
        """Whether there was anything to do."""
        busy = self._serve_acts(acts) | self._serve(inbox, self._patience_s())
        self.beat_mono_s = self._clock.mono_s()
        self.started = True
        if not busy:
            # Only now is silence the scanner's, and not our own lag behind the queue.
            self._tick()
        if not busy and self.state.work_pending:
            self._forecast()
        return busy

    def handle(self, event: Event) -> None:
        """One event through the pipeline. A failure is journalled and alarmed; the state before it
        stands, and the next event is served."""
        began, shown = self._clock.mono_s(), self.state.assessment
        self.beat_mono_s = began + _WORK_GRACE_S
        if not isinstance(
            event, CtSlice | CtFrames | Rejected
        ):  # their instance is in the journal already
            self.journal(*input_line(event))
        try:
            self.state, outputs = step(self.state, event, self.procedure, self._engine)
            for output in outputs:
                self._carry_out(output)
            if outputs or isinstance(event, OperatorAct):
                self.shared = self._publisher.share(self.state, self.procedure)
                self._on_news()
            if self.state.assessment is not shown:
                give_back()  # a scan was measured or a forecast finished, and that is out
            self._time(event, self._clock.mono_s() - began)
        except RecordError as error:
            self._record_failed(error)
        except Exception as error:
            self.state = after_fault(self.state, event)
            self.failed(type(event).__name__, error)
        self.beat_mono_s = self._clock.mono_s()

    # ------------------------------------------------------------------ what comes in

    def _patience_s(self) -> float:
        """How long to wait for a message: not at all while there is work to carry on."""
        return 0.001 if self.state.work_pending else _TICK_S

    def _hold(self, inbox: ProcessQueue[Any]) -> None:
        """What comes while the engine is made ready: what the listener says is said now, images wait."""
        try:
            message = inbox.get(timeout=_TICK_S)
            if isinstance(message, Instance | AssociationEnded):
                self._held.append(message)
            else:
                self._told(message)
        except queue.Empty:
            pass
        except Exception as error:
            self.failed("the next message", error)

    def _serve(self, inbox: ProcessQueue[Any], patience_s: float) -> bool:
        try:
            message = self._held.popleft() if self._held else inbox.get(timeout=patience_s)
        except queue.Empty:
            return False
        if isinstance(message, Instance):
            self._received(message)
        elif isinstance(message, AssociationEnded):
            self.handle(message)
        else:
            self._told(message)
        return True

    def _told(self, message: Any) -> None:
        """What the listener says of itself and of its peers."""
        if isinstance(message, Refused) and message.shut_out:
            self.shut_out = {**self.shut_out, message.address: (message.peer, message.shut_out)}
        elif isinstance(message, LetIn):
            self.shut_out = {a: who for a, who in self.shut_out.items() if a != message.address}
        self.journal(*message.line())

    def _serve_acts(self, acts: queue.SimpleQueue[OperatorAct]) -> bool:
        try:
            act = acts.get_nowait()
        except queue.Empty:
            return False
        self.procedure = in_force(self.state, act, self.procedure)
        self.handle(act)
        return True

    def _received(self, instance: Instance) -> None:
        self.journal(*input_line(instance))
        self.handle(decode(instance, self._store.record))

    def _tick(self) -> None:
        now = self._clock.mono_s()
        if now - self._ticked_mono_s >= _TICK_S:
            self._ticked_mono_s = now
            tick = Tick(self._clock.now_utc_s(), now)
            if due(self.state, tick, self.procedure):
                self.handle(tick)

    def _forecast(self) -> None:
        self.handle(ForecastDue(self._clock.now_utc_s()))

    # ------------------------------------------------------------------ what goes out

    def _carry_out(self, output: Output) -> None:
        if isinstance(output, KeepVolume):
            volume_id = output.volume.volume_id
            ref = self._store.keep_volume(output.volume)
            self._publisher.volume_kept(volume_id, ref)
            self.state = on_disk(self.state, volume_id, np.load(ref.path, mmap_mode="r"))
        elif isinstance(output, Rejected):
            self._rejected(output)
        elif isinstance(output, Line):
            self.journal(output.kind, output.fields)

    def _rejected(self, rejected: Rejected) -> None:
        path = self._store.quarantine(rejected)
        self.journal("instance_rejected", {**rejected_fields(rejected), "path": path})

    def _time(self, event: Event, took_s: float) -> None:
        """What took long enough to matter."""
        if took_s > 0.1:
            self.journal("timing", {"event": type(event).__name__, "took_s": took_s})

    def journal(self, kind: str, fields: dict[str, Any]) -> None:
        """One line, and whoever listens. A record that cannot be written alarms, the work goes on."""
        try:
            self._journal.write(kind, **fields)
        except RecordError as error:
            self._record_failed(error)
        self._on_line(kind, fields)

    def _record_failed(self, error: RecordError) -> None:
        if self.record_ok:
            self._on_line("record_failing", {"error": str(error)})
        self.record_ok = False

    def failed(self, event: str, error: Exception) -> None:
        """An error in the program: journalled, and a fact for the alarms. From any thread."""
        self.fault = f"{type(error).__name__} while handling {event}"
        where = traceback.format_exception(error)[-3:]
        self.journal("fault", {"event": event, "error": str(error), "trace": "".join(where)})
