"""A recorded procedure cut off anywhere, as a killed program or a power cut leaves it, and gone on with.

The procedure is that of ``tests.replay.recorded``, played once to its end by the real core; what it knew
after every input is remembered. A cut keeps the journal up to a random byte, the files that were there by
then, and the checkpoints of that time, some of them torn. Seconds are real ones; the procedure's clock is
scripted.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_kernels.select import open_engine
from monitor.core import Core
from monitor.prediction.ensemble import MOST_LATENT
from monitor.record import checkpoints
from monitor.record.checkpoints import Checkpoint
from monitor.record.journal import JOURNAL, Journal, plain
from monitor.record.left_behind import kept_names
from monitor.record.reading import JournalLine, read_journal
from monitor.record.store import Store
from monitor.replay import state_fields
from monitor.resuming import open_unfinished
from monitor.state import State
from tests.replay.recorded import SETTLE, RememberingCore, Room, ScriptedClock


@dataclass
class Played:
    """``known`` after the input on each line of the journal, as programs are told it."""

    record: Path
    lines: list[JournalLine]
    known: dict[int, Any]


@dataclass
class Outcome:
    """Of one cut: at ``cut_bytes`` of the journal. ``wrong``: what is not as it was before, or is lost."""

    cut_bytes: int
    checkpoint: str
    resumed_s: float
    redone: int
    left_behind: int
    wrong: list[str] = field(default_factory=list)


class _KeepingCore(RememberingCore):
    """Takes a checkpoint whenever the program would, and keeps them all."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, lambda kind, fields: None, lambda: None, self._checkpoint)
        self.kept: dict[int, Any] = {}

    def handle(self, event: Any) -> None:
        super().handle(event)
        self.kept[self.input_seq] = told(self.state, self)

    def _checkpoint(self) -> None:
        record = self._store.record
        case = os.path.relpath(self.case, record)
        made = Checkpoint(self.input_seq, self._journal.seq, case, self.known)
        checkpoints.write(record, made)
        name = f"{self.input_seq:08d}.state"
        (record.parent / "checkpoints").mkdir(exist_ok=True)
        os.link(record / checkpoints.FOLDER / name, record.parent / "checkpoints" / name)


def told(state: State, core: Core) -> Any:
    """What is known, as numbers: phase, scans, measurement, forecast, what the parameters have learned."""
    theta = None if state.estimate is None else state.estimate.theta
    done = [d.act for d in state.done]
    return plain({**state_fields(state, core.procedure), "theta": theta, "done": done})


def play(folder: Path) -> Played:
    """A baseline, a freeze with two scans, acts and an image that is rejected."""
    room = Room(folder)
    room.first_freeze()
    room.slice(3, PatientID="P2")
    room.act("clear_block")
    room.act("needle", {"number": 1, "duty": 0.5})
    room.wait(60.0)
    room.scan(10.0, ended=False)
    room.wait(5.0)
    room.script.append(SETTLE)
    core = room.run(_KeepingCore)
    assert core.fault is None
    return Played(room.record, read_journal(room.record, _unexpected), core.kept)


def _unexpected(finding: Any) -> None:
    raise AssertionError(finding)


def cut(played: Played, rng: random.Random, to: Path) -> int:
    """A copy in ``to`` of the record as it was when ``cut_bytes`` (returned) of its journal were on disk."""
    journal = (played.record / JOURNAL).read_bytes()
    # The first line is written before anything can come; the last says that it has ended.
    first, last = journal.index(b"\n") + 1, journal.rstrip(b"\n").rindex(b"\n") + 1
    at = rng.randrange(first, last)
    whole = journal[:at].count(b"\n")
    lines = [x for x in played.lines if x.number <= whole]
    shutil.copytree(played.record / "cases", to / "cases")
    for name in ("blobs", "quarantine", "volumes", "screens", "scratch", checkpoints.FOLDER):
        (to / name).mkdir()
    (to / JOURNAL).write_bytes(journal[:at])
    _files(played, lines, rng, to)
    _checkpoints(played, lines, rng, to)
    return at


def _files(played: Played, lines: list[JournalLine], rng: random.Random, to: Path) -> None:
    """Of the images some more than the journal knows: they were acknowledged, and nobody was told."""
    received = [x.fields["sha256"] for x in played.lines if x.kind == "instance_received"]
    known = sum(x.kind == "instance_received" for x in lines)
    for sha in received[: known + rng.choice((0, 0, 1, 5))]:
        for folder in ("blobs", "quarantine"):
            if (source := played.record / folder / f"{sha}.dcm").exists():
                # Not yet moved where the line that says so is not there.
                rejected = any(
                    x.kind == "instance_rejected" and x.fields["sha256"] == sha for x in lines
                )
                os.link(source, to / (folder if rejected else "blobs") / source.name)
    for line in lines:
        if line.kind == "volume_completed":
            name = f"{line.fields['volume_id']}.npy"
            shutil.copy(played.record / "volumes" / name, to / "volumes" / name)
    (to / "blobs" / "77_1.part").write_bytes(b"half an image")
    (to / "volumes" / "v009.part").write_bytes(b"half a volume")


def _checkpoints(played: Played, lines: list[JournalLine], rng: random.Random, to: Path) -> None:
    """The two newest of then, of which the newest may be torn, or ahead of the journal, or not there yet, or
    both may be of no use."""
    last = lines[-1].seq
    there = sorted((played.record.parent / "checkpoints").glob("*.state"))
    names = [p for p in there if int(p.stem) <= last][-2:]
    names = names[: rng.choice((2, 2, 2, 1, 0))]
    for i, path in enumerate(reversed(names)):
        data = path.read_bytes()
        if i == 0 and rng.random() < 0.3:
            data = data[: rng.randrange(len(data))]
        (to / checkpoints.FOLDER / path.name).write_bytes(data)


def resume(played: Played, record: Path, at: int) -> Outcome:
    """Goes on as ``runtime.Live`` does, and compares."""
    began = time.perf_counter()
    kept = kept_names(record)
    clock = ScriptedClock()
    found = open_unfinished(record)
    clock.since_s = found.last_mono_s + 3.0
    journal = Journal(record, clock, resume=True)  # type: ignore[arg-type]
    engine = open_engine("cpu", MOST_LATENT)
    store = Store(record, record / "scratch")
    core = Core(found.procedure, engine, journal, store, clock)  # type: ignore[arg-type]
    core.restore(found.known, found.procedure, found.seq)
    core.journal("procedure_resumed", {})
    redone = 0
    for redo in found.tail():
        core.redo(redo.event, redo.seq, redo.results)
        redone += 1
    now = told(core.state, core)
    resumed_s = time.perf_counter() - began
    missed = core.take_up(kept)
    outcome = Outcome(at, "none" if not found.seq else "used", resumed_s, redone, missed)
    before = played.known[core_input(found.lines)] if core_input(found.lines) else None
    if before is not None:
        outcome.wrong += [
            f"{k}: {before[k]!r:.80} became {now[k]!r:.80}" for k in before if before[k] != now[k]
        ]
    journal.close()
    outcome.wrong += _lost(record, played, core)
    return outcome


def core_input(lines: list[JournalLine]) -> int:
    """Of the last input on record; 0 when there is none."""
    from monitor.record.events import is_input

    return max((x.seq for x in lines if is_input(x.kind, x.fields)), default=0)


def _lost(record: Path, played: Played, core: Core) -> list[str]:
    wrong = [] if core.fault is None else [f"fault: {core.fault}"]
    lines = read_journal(record, lambda f: wrong.append(f.text))
    received = {x.fields["sha256"] for x in lines if x.kind == "instance_received"}
    there = {p.stem for f in ("blobs", "quarantine") for p in (record / f).glob("*.dcm")}
    wrong += [f"{sha}: kept and not taken up" for sha in there - received]
    wrong += [f"{sha}: taken up and gone" for sha in received - there]
    return wrong + _results_once(lines, played)


def _results_once(lines: list[JournalLine], played: Played) -> list[str]:
    """Each result of an input that was on record is there once, the interrupted one's too."""
    kinds = ("volume_completed", "baseline_set", "ice_segmented", "registered", "forecast", "phase")
    resumed = next(x.number for x in lines if x.kind == "procedure_resumed")
    last = core_input([x for x in lines if x.number < resumed])
    ended = next((x.seq for x in played.lines if x.seq > last and x.seq in played.known), 10**9)
    for kind in kinds:
        was = [x.fields.get("volume_id") for x in played.lines if x.kind == kind and x.seq < ended]
        now = [x.fields.get("volume_id") for x in lines if x.kind == kind]
        if was != now[: len(was)]:
            return [f"{kind}: {was} became {now}"]
    return []
