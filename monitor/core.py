"""The worker: owns the engine and the state, turns messages into events, outputs into the record.

One thread runs ``Core.run``; other threads read ``state``, ``published`` (for the screens) and
``beat_mono_s``, which are replaced whole, never changed in place. Times are UTC seconds (procedure
clock) or monotonic.
Invariant: whatever ``step`` gets is in the journal before it works on it; every instance that arrives
ends in a volume or a rejection.
"""

from __future__ import annotations

import contextlib
import queue
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpu_kernels.engine import Engine
from monitor.clock import ProcedureClock
from monitor.decision.safety import GRACE_S
from monitor.intake.channel import Inbox, IntakeGone
from monitor.intake.decode import Decoding, decode
from monitor.intake.messages import KeptAgain, LetIn, NotKept, Refused
from monitor.journal_fields import rejected_fields
from monitor.memory import give_back
from monitor.model import AssociationEnded, CtFrames, CtSlice, Instance, Rejected
from monitor.pipeline import after_fault, due, in_force, step
from monitor.procedure import Procedure
from monitor.publish import Publisher, Shared
from monitor.record.events import input_line
from monitor.record.journal import Journal, RecordError
from monitor.record.left_behind import left_behind
from monitor.record.store import Store
from monitor.snapshot import ArrayRef, PastScan
from monitor.stages import Stopwatch, timed_by
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
from monitor.timing import Timing

_TICK_S = 0.1
# Measuring a scan takes a second or two, on a busy machine more: at work is not silent.
_WORK_GRACE_S = 7.0
# How often a disk that was full is tried again.
_PAY_S = 2.0


@dataclass(frozen=True)
class Known:
    """What a procedure is gone on with: its state, and the scans of which the screen knows."""

    state: State
    history: tuple[PastScan, ...]


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
        on_result: Callable[[], None] = lambda: None,
    ) -> None:
        self.procedure = procedure
        self.state: State = initial_state(procedure)
        # The engine may have to be compiled before the first beat; one that hangs there is silent after this.
        self.beat_mono_s = clock.mono_s() + GRACE_S
        # False until the first message can be served: starting, and nothing to show yet.
        self.started = False
        self.fault: str | None = None
        self.record_ok = True
        # Of the last input: what a checkpoint stands on.
        self.input_seq = 0
        # Address → who was turned away there when it called last, and why (a code).
        self.shut_out: Mapping[str, tuple[str, str]] = {}
        self.not_kept: Mapping[str, tuple[str, str]] = {}
        # Of them, those that an earlier listener told of.
        self._of_before: frozenset[str] = frozenset()
        # Another one where decoding has ended the program before.
        self.decoding: Decoding = decode
        # Since when an image has been being decoded; None: none is.
        self.decoding_mono_s: float | None = None
        self._engine = engine
        self._journal = journal
        self._store = store
        self._clock = clock
        self._on_line, self._on_news, self._on_result = on_line, on_news, on_result
        self._publisher = Publisher(store)
        self._share()
        self._ticked_mono_s = self._paid_mono_s = 0.0
        self._held: deque[Any] = deque()
        self._watch, self._timing = Stopwatch(clock.mono_s), Timing()
        # Results of the input at hand that the journal has already (``redo``).
        self._known = 0

    @property
    def case(self) -> Path:
        """Of the procedure in force."""
        return self.procedure.config.path

    def restore(self, known: Known, procedure: Procedure, input_seq: int) -> None:
        """What was known when an earlier run of the program ended, before ``run``."""
        self.state, self.procedure, self.input_seq = known.state, procedure, input_seq
        for volume in known.state.kept:
            path = self._store.record / "volumes" / f"{volume.volume_id}.npy"
            self._publisher.volume_kept(volume.volume_id, ArrayRef(str(path)))
        self._publisher.recall(known.history)
        self._share()

    def _share(self) -> None:
        """State, procedure and files of one moment, for other threads: numbers of one scan beside the picture
        of another would be wrong."""
        self._shared: Shared = self._publisher.share(self.state, self.procedure)
        self.published = (self.state, self.procedure, self._shared)

    @property
    def known(self) -> Known:
        """For a checkpoint. From the thread of ``run`` alone."""
        return Known(self.state, self._shared.history)

    def run(
        self,
        inbox: Inbox,
        acts: queue.SimpleQueue[OperatorAct],
        stop: Callable[[], bool],
        ready: Callable[[], bool] = lambda: True,
        first: Callable[[], None] = lambda: None,
    ) -> None:
        """Serves messages until ``stop()`` and the inbox is empty, then ends the procedure. A failure
        outside the pipeline (a message that cannot be read) is a fault, and the next is served. Until the
        engine is ``ready`` images and acts wait, and the beat that was given for it runs out; ``first``
        is done before any of them."""
        over = False
        while not ready():
            self._hold(inbox)
        first()
        while not over:
            try:
                busy = self._turn(inbox, acts)
            except Exception as error:
                self.failed("the next message", error)
                busy = False
                time.sleep(_TICK_S)
            over = not busy and stop()
        self.handle(Ending(self._clock.now_utc_s()))

    def _turn(self, inbox: Inbox, acts: queue.SimpleQueue[OperatorAct]) -> bool:
        """Whether there was anything to do."""
        busy = self._serve_acts(acts) | self._serve(inbox, self._patience_s())
        self.beat_mono_s = self._clock.mono_s()
        self.started = True
        if not busy:
            # Only now is silence the scanner's, and not our own lag behind the queue.
            self._tick()
        if not busy and self.state.work_pending:
            self._forecast()
        if not self.record_ok:
            self._pay()
        return busy

    def handle(self, event: Event) -> None:
        """One event through the pipeline. A failure is journalled and alarmed; the state before it
        stands, and the next event is served."""
        self.beat_mono_s = self._clock.mono_s() + _WORK_GRACE_S
        if not isinstance(
            event, CtSlice | CtFrames | Rejected
        ):  # their instance is in the journal already
            self.input_seq = self.journal(*input_line(event))
        self._work_on(event)

    def redo(self, event: Event, seq: int, results: int) -> None:
        """An event that the journal has on line ``seq``, with that many of its results, once more: what
        an earlier run of the program had worked out of it, or was about to."""
        self.beat_mono_s = self._clock.mono_s() + _WORK_GRACE_S
        self.procedure = in_force(self.state, event, self.procedure)
        self.input_seq, self._known = seq, results
        self._work_on(event, timed=False)
        self._known = 0

    def _work_on(self, event: Event, timed: bool = True) -> None:
        began, shown = self._clock.mono_s(), self.state.assessment
        try:
            with timed_by(self._watch):
                self.state, outputs = step(self.state, event, self.procedure, self._engine)
            for output in outputs:
                self._carry_out(output)
            if outputs or isinstance(event, OperatorAct):
                with self._watch.going_on("publish"):
                    self._share()
                self._on_news()
            else:
                self.published = (self.state, self.procedure, self._shared)
            if outputs:
                self._on_result()
            if self.state.assessment is not shown:
                give_back()  # a scan was measured or a forecast finished, and that is out
            if (
                timed
            ):  # of what is done once more the journal has a line, or its times are of before
                self._time(event, outputs, began)
            self._watch.taken()
        except Exception as error:
            self.state = after_fault(self.state, event)
            with contextlib.suppress(Exception):  # what was shared before belongs together, too
                self._share()
            self._watch.taken()
            self._result("fault", self._fault(type(event).__name__, error))
        self.beat_mono_s = self._clock.mono_s()

    # ------------------------------------------------------------------ what comes in

    def _patience_s(self) -> float:
        """How long to wait for a message: not at all while there is work to carry on."""
        return 0.001 if self.state.work_pending else _TICK_S

    def _hold(self, inbox: Inbox) -> None:
        """What comes while the engine is made ready: what the listener says is said now, images wait."""
        try:
            message = inbox.get(timeout=_TICK_S)
            if isinstance(message, Instance | AssociationEnded | IntakeGone):
                self._held.append(message)
            else:
                self._told(message)
        except queue.Empty:
            pass
        except Exception as error:
            self.failed("the next message", error)

    def _serve(self, inbox: Inbox, patience_s: float) -> bool:
        try:
            message = self._held.popleft() if self._held else inbox.get(timeout=patience_s)
        except queue.Empty:
            return False
        if isinstance(message, Instance):
            self._one_kept(message.calling_ae_title)
            self._received(message)
        elif isinstance(message, AssociationEnded):
            self.handle(message)
        elif isinstance(message, IntakeGone):
            self.take_up(message.kept)
            self.still_not_kept(self.not_kept)
        else:
            self._told(message)
        return True

    def still_not_kept(self, not_kept: Mapping[str, tuple[str, str]]) -> None:
        """As a listener that is no more had told: the next one only tells of its own."""
        self.not_kept, self._of_before = dict(not_kept), frozenset(not_kept)

    def _one_kept(self, title: str) -> None:
        over = {
            a for a in self._of_before if self.not_kept.get(a, ("",))[0].startswith(f"{title}@")
        }
        if over:
            self.not_kept = {a: who for a, who in self.not_kept.items() if a not in over}
            self._of_before -= over

    def take_up(self, kept: frozenset[str]) -> int:
        """What an intake process had kept, of these names in ``blobs``, and could not tell of any more. How
        many there were."""
        missed = left_behind(self._store.record, kept, self._clock)
        for instance in missed:
            self._received(instance)
        return len(missed)

    def _told(self, message: Any) -> None:
        """What the listener says of itself and of its peers."""
        if isinstance(message, Refused) and message.shut_out:
            self.shut_out = {**self.shut_out, message.address: (message.peer, message.shut_out)}
        elif isinstance(message, LetIn):
            # Nor was a stranger the scanner, now that somebody is in.
            over = {a for a, (_, why) in self.shut_out.items() if why == "peer_address"}
            over.add(message.address)
            self.shut_out = {a: who for a, who in self.shut_out.items() if a not in over}
        elif isinstance(message, NotKept):
            self._of_before -= {message.address}
            self.not_kept = {**self.not_kept, message.address: (message.peer, message.code)}
        elif isinstance(message, KeptAgain):
            self.not_kept = {a: who for a, who in self.not_kept.items() if a != message.address}
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
        self.input_seq = self.journal(*input_line(instance))
        self.decoding_mono_s = self._clock.mono_s()
        try:
            with timed_by(self._watch):
                decoded = self.decoding(instance, self._store.record)
        finally:
            self.decoding_mono_s = None
        self.handle(decoded)

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
            with self._watch.going_on("keep"):
                ref = self._store.keep_volume(output.volume)
            if self._store.failing is not None:
                self._record_failed(self._store.failing)
            self._publisher.volume_kept(volume_id, ref)
            self.state = on_disk(self.state, volume_id, np.load(ref.path, mmap_mode="r"))
        elif isinstance(output, Rejected):
            self._rejected(output)
        elif isinstance(output, Line):
            self._result(output.kind, output.fields)

    def _rejected(self, rejected: Rejected) -> None:
        path = rejected.instance.path
        try:
            path = self._store.quarantine(rejected)
        except RecordError as error:  # it stays where it is, and is rejected all the same
            self._record_failed(error)
        self._result("instance_rejected", {**rejected_fields(rejected), "path": path})

    def _result(self, kind: str, fields: dict[str, Any]) -> None:
        """A line, unless the journal has it already."""
        if self._known > 0:
            self._known -= 1
        else:
            self.journal(kind, fields)

    def _pay(self) -> None:
        """What the disk would not take before, it may take now."""
        now = self._clock.mono_s()
        if now - self._paid_mono_s < _PAY_S:
            return
        self._paid_mono_s = now
        try:
            self._store.pay()
            self._journal.write("record_kept_again")
        except RecordError:
            return
        self.record_ok = True
        self._on_line("record_kept_again", {})

    def _time(self, event: Event, outputs: list[Output], began_mono_s: float) -> None:
        now = self._clock.mono_s()
        line = self._timing.line(event, outputs, self._watch.taken(), now - began_mono_s, now)
        if line is not None:
            self.journal("timing", line)

    def journal(self, kind: str, fields: dict[str, Any]) -> int:
        """One line, and whoever listens; its number. A record that cannot be written alarms, the work
        goes on."""
        seq = self._journal.seq + 1
        try:
            seq = self._journal.write(kind, **fields)
        except RecordError as error:
            self._record_failed(error)
        self._on_line(kind, fields)
        return seq

    def _record_failed(self, error: RecordError) -> None:
        if self.record_ok:
            self._on_line("record_failing", {"error": str(error)})
        self.record_ok = False

    def failed(self, event: str, error: Exception) -> None:
        """An error in the program: journalled, and a fact for the alarms. From any thread."""
        self.journal("fault", self._fault(event, error))

    def _fault(self, event: str, error: Exception) -> dict[str, Any]:
        self.fault = f"{type(error).__name__} while handling {event}"
        where = traceback.format_exception(error)[-3:]
        return {"event": event, "error": str(error), "trace": "".join(where)}
