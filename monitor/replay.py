"""A recorded procedure worked out again: its journal's inputs through ``pipeline.step``, without
threads, and what comes of them beside what was recorded. UTC seconds, mm.

``events_of`` is the record as the events that ``step`` got, in their order: a procedure that was cut
off can be taken up from it. Invariant: nothing here writes, and what could not be compared is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gpu_kernels.engine import Engine
from monitor.config import ConfigError
from monitor.decision import protocol
from monitor.intake.decode import DIED, Decoding, decode
from monitor.intake.structures import StructureError
from monitor.intake.trial import Trial
from monitor.journal_fields import (
    assessment_fields,
    forecast_fields,
    iso_utc,
    rejected_fields,
    what_if_fields,
)
from monitor.model import CtFrames, CtSlice, CtVolume, Instance, Int16Array, Rejected, Structure
from monitor.opening import open_case, open_drawing
from monitor.pipeline import after_fault, in_force, step
from monitor.procedure import Procedure
from monitor.record.comparing import (
    NOT_COMPARED,
    RESULTS,
    Difference,
    Fields,
    Tolerances,
    aligned,
    differences,
)
from monitor.record.events import is_input, message_of
from monitor.record.journal import JOURNAL, RecordError
from monitor.record.reading import (
    Finding,
    JournalLine,
    Tell,
    check_case,
    check_files,
    check_instance,
    check_volume,
)
from monitor.state import (
    Event,
    KeepVolume,
    Line,
    OperatorAct,
    Output,
    State,
    initial_state,
    on_disk,
)

# ------------------------------------------------------------------ events


def first_procedure(record: Path, lines: list[JournalLine], tell: Tell) -> Procedure:
    """The procedure that the record began with. Raises ``RecordError``."""
    return _opened(record, lines[0], tell)


def events_of(
    record: Path, lines: list[JournalLine], tell: Tell, decoding: Decoding | None = None
) -> Iterator[tuple[JournalLine, Event]]:
    """What ``step`` got, in order, each with the line of its input; an instance that is no longer there
    is told and left out. ``decoding``: of the whole record, where these are some of its lines. Raises
    ``RecordError`` where a reloaded case cannot be opened."""
    decoding = decoding or decoding_of(record, lines)
    for line in lines:
        if is_input(line.kind, line.fields) and (event := _event(record, line, tell, decoding)):
            yield line, event


def decoding_of(record: Path, lines: Sequence[JournalLine]) -> Decoding:
    """For the instances of a record: what has ended its program is not decoded, and that at which it was cut
    off, if it was at one, is tried first."""
    deadly = {x.fields.get("sha256") for x in lines if is_deadly(x)}
    suspect = _suspect(lines)

    def decoding(instance: Instance, record: Path) -> CtSlice | CtFrames | Rejected:
        if instance.sha256 in deadly:
            return Rejected(instance, DIED)
        if instance.sha256 != suspect:
            return decode(instance, record)
        with closing(Trial(record)) as trial:
            return trial.decode(instance, record)

    return decoding if deadly or suspect else decode


def is_deadly(line: JournalLine) -> bool:
    """Whether it says that an instance has ended the program."""
    return line.kind == "instance_rejected" and line.fields.get("reason") == DIED.code


def _suspect(lines: Sequence[JournalLine]) -> str | None:
    """The SHA-256 of the instance that was the last input, if nothing is known to have come of it."""
    inputs = [x for x in lines if is_input(x.kind, x.fields)]
    if not inputs or inputs[-1].kind != "instance_received":
        return None
    over = any(x.seq > inputs[-1].seq and x.kind in RESULTS for x in lines)
    return None if over else str(inputs[-1].fields.get("sha256"))


def _event(record: Path, line: JournalLine, tell: Tell, decoding: Decoding) -> Event | None:
    try:
        message = message_of(line.kind, line.fields)
        if isinstance(message, Instance):
            there = check_instance(record, message, line.number, tell)
            return decoding(message, record) if there else None
    except (TypeError, OSError) as error:
        tell(Finding(line.number, "unreadable_line", f"{line.kind}: {error}"))
        return None
    if isinstance(message, OperatorAct) and message.kept_case is not None:
        return replace(message, procedure=_opened(record, line, tell))
    if isinstance(message, OperatorAct) and message.act == "correct_ice":
        return replace(message, drawn=_drawn(record, line, message, tell))
    return message


def _opened(record: Path, line: JournalLine, tell: Tell) -> Procedure:
    try:
        kept = line.fields["kept_case"]
        check_case(record, kept, line.number, tell)
        return open_case(record / kept["path"])[1]
    except (ConfigError, StructureError, KeyError, TypeError, AttributeError, OSError) as error:
        raise RecordError(f"{record / JOURNAL}:{line.number}: kept_case: {error}") from error


def _drawn(record: Path, line: JournalLine, act: OperatorAct, tell: Tell) -> Structure | None:
    """None, which the act refuses, where the file is not there or cannot be read."""
    params = act.params or {}
    name = str(params.get("path"))
    check_files(record, {name: params.get("sha256")}, line.number, tell)
    try:
        return open_drawing(record / name)
    except StructureError as error:
        tell(Finding(line.number, "unreadable_line", f"{line.kind}: {error}"))
        return None


# ------------------------------------------------------------------ replay


@dataclass(frozen=True)
class Step:
    """One event, the state after it, and its results as they were recorded and as they come out now."""

    line: JournalLine
    state: State
    procedure: Procedure
    recorded: list[JournalLine]
    outputs: list[Output]


def up_to(lines: list[JournalLine], until_utc_s: float) -> list[JournalLine]:
    """The lines of what came in by then, and of what followed from it."""
    late = (
        i
        for i, x in enumerate(lines)
        if is_input(x.kind, x.fields) and not x.at_utc_s <= until_utc_s
    )
    return lines[: next(late, len(lines))]


def replay(
    record: Path,
    lines: list[JournalLine],
    engine: Engine,
    tell: Tell,
    kept: Callable[[CtVolume], Int16Array] | None = None,
    begin: Callable[[State, Procedure], None] = lambda state, procedure: None,
) -> Iterator[Step]:
    """The procedure once more, event by event; ``begin`` gets what stands before the first. ``kept`` may give
    a volume's pixels as they lie on disk, which need no memory. Raises ``RecordError`` where a case cannot
    be opened."""
    procedure = first_procedure(record, lines, tell)
    state = initial_state(procedure)
    begin(state, procedure)
    results = _results(lines, tell)
    for line, event in events_of(record, lines, tell):
        procedure = in_force(state, event, procedure)
        state, outputs = _attempt(state, event, procedure, engine)
        if kept is not None:
            for volume in (o.volume for o in outputs if isinstance(o, KeepVolume)):
                state = on_disk(state, volume.volume_id, kept(volume))
        yield Step(line, state, procedure, results[line.number], outputs)


def _attempt(
    state: State, event: Event, procedure: Procedure, engine: Engine
) -> tuple[State, list[Output]]:
    """As the core does it: a step that fails leaves the state before it."""
    try:
        return step(state, event, procedure, engine)
    except Exception as error:  # whatever failed then has to fail now
        fault = Line("fault", {"event": type(event).__name__, "error": str(error)})
        return after_fault(state, event), [fault]


def _results(lines: list[JournalLine], tell: Tell) -> dict[int, list[JournalLine]]:
    """What was recorded of each input, by the number of its line."""
    results: dict[int, list[JournalLine]] = {}
    latest: list[JournalLine] | None = None
    for line in lines:
        if is_input(line.kind, line.fields):
            latest = results[line.number] = []
        elif line.kind in RESULTS and latest is not None:
            latest.append(line)
        elif line.kind not in NOT_COMPARED:
            text = f"{line.kind}: of no known kind, or a result before anything came in"
            tell(Finding(line.number, "unknown_line", text))
    return results


# ------------------------------------------------------------------ comparison


@dataclass
class Scan:
    """What was compared of one volume: the numbers of its last assessment on both sides, and by unit
    the largest difference of any number in its results."""

    volume_id: str
    results: int = 0
    recorded: Mapping[str, Any] | None = None
    recomputed: Mapping[str, Any] | None = None
    largest: dict[str, float] = field(default_factory=dict)


class Comparison:
    """Takes a replay's steps one by one. ``scans`` by volume; "" is what is of none (phases)."""

    def __init__(self, record: Path, tolerances: Tolerances, tell: Tell) -> None:
        self._record, self._tolerances, self._tell = record, tolerances, tell
        self.events = 0
        self.results = 0
        self.scans: dict[str, Scan] = {}

    def take(self, step: Step) -> None:
        self.events += 1
        volumes = {o.volume.volume_id: o.volume for o in step.outputs if isinstance(o, KeepVolume)}
        for line, result in aligned(step.recorded, _lines(step.outputs)):
            if line is None or result is None:
                self._one_sided(step, line, result)
                continue
            self._pair(line, result[1])
            if line.kind == "volume_completed":
                volume = volumes[result[1]["volume_id"]]
                check_volume(self._record, volume, line.number, self._tell)

    def _one_sided(
        self, step: Step, line: JournalLine | None, result: tuple[str, Fields] | None
    ) -> None:
        if line is not None:
            text = f"{line.kind}: recorded, but does not follow from what came before"
            self._tell(Finding(line.number, "not_recomputed", text))
        elif result is not None:
            text = f"{result[0]}: follows from this {step.line.kind}, but is not on record"
            self._tell(Finding(step.line.number, "not_recorded", text))

    def _pair(self, line: JournalLine, now: Fields) -> None:
        self.results += 1
        volume_id = str(line.fields.get("volume_id", line.fields.get("from_volume_id")) or "")
        scan = self.scans.setdefault(volume_id, Scan(volume_id))
        scan.results += 1
        if line.kind == "assessment":
            scan.recorded, scan.recomputed = line.fields, now
        for d in differences(line, now, self._tolerances):
            if d.apart is not None:
                scan.largest[d.unit] = max(scan.largest.get(d.unit, 0.0), d.apart)
            if not d.within:
                self._tell(_differs(line, d))


def _lines(outputs: list[Output]) -> list[tuple[str, Fields]]:
    lines: list[tuple[str, Fields]] = []
    for output in outputs:
        if isinstance(output, Rejected):
            lines.append(("instance_rejected", rejected_fields(output)))
        elif isinstance(output, Line):
            lines.append((output.kind, output.fields))
    return lines


def _differs(line: JournalLine, d: Difference) -> Finding:
    apart = "" if d.apart is None else f", {d.apart:g} {d.unit or 'apart'}"
    text = f"{line.kind}.{d.field}: recorded {d.recorded!r}, recomputed {d.recomputed!r}{apart}"
    return Finding(line.number, "differs", text, d.field, d.recorded, d.recomputed)


# ------------------------------------------------------------------ the state


def state_fields(state: State, procedure: Procedure) -> dict[str, Any]:
    """What is known in a state, for people and programs; names and units as in the journal."""
    phase = protocol.phase(state.progress, procedure.config.protocol)
    return {
        "phase": phase.kind.value,
        "cycle": phase.cycle,
        "phase_started_at": _iso(phase.started_utc_s),
        "phase_ends_at": _iso(phase.ends_utc_s),
        "draft": procedure.draft,
        "baseline_id": state.baseline_volume.volume_id if state.baseline_volume else None,
        "volume_id": state.volume.volume_id if state.volume else None,
        "slices_pending": state.assembly.pending,
        "clock_offset_s": state.clock_offset_s,
        "blocked": state.block.code if state.block else None,
        "forecast_pending": state.forecast_pending,
        "assessment": assessment_fields(state.assessment) if state.assessment else None,
        "forecast": forecast_fields(state.forecast) if state.forecast else None,
        "what_if": what_if_fields(state.what_if) if state.what_if else None,
    }


def _iso(utc_s: float | None) -> str | None:
    return None if utc_s is None else iso_utc(utc_s)
