"""A record whose procedure did not end, read for going on with it. UTC seconds on the procedure clock.

The newest checkpoint that is whole, and the inputs after it; without one, all inputs. Invariant: what is
gone on with is what an uninterrupted run would have known, for the inputs that are on record; what could not
be read of them is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monitor.config import ConfigError
from monitor.core import Known
from monitor.decision.alarm_states import (
    ACKNOWLEDGED,
    CLEARED,
    RAISED,
    Alarms,
    AlarmState,
    Cause,
    Key,
    Standing,
)
from monitor.decision.safety import ALARMS, latches
from monitor.intake.structures import StructureError
from monitor.model import Priority
from monitor.opening import open_case
from monitor.procedure import Procedure
from monitor.record import checkpoints
from monitor.record.comparing import RESULTS
from monitor.record.events import is_input
from monitor.record.journal import JOURNAL, RecordError
from monitor.record.reading import Finding, JournalLine, read_journal
from monitor.replay import decoding_of, events_of, first_procedure, is_deadly
from monitor.state import Event, initial_state

_ENDED = "procedure_ended"
# Who ends a procedure by a wish, and not by stopping the program.
OPERATOR = "operator"


@dataclass(frozen=True)
class Redo:
    """The input on line ``seq`` of the journal, to be worked on once more; so many of its results are
    there."""

    event: Event
    seq: int
    results: int


@dataclass
class Unfinished:
    """``known`` after line ``seq`` (0: at the beginning), in force ``procedure``. ``damage``: what could not
    be read. ``given``: the case's own file, as the operator named it."""

    record: Path
    lines: list[JournalLine]
    known: Known
    procedure: Procedure
    seq: int
    given: Path
    damage: list[Finding] = field(default_factory=list)

    @property
    def started(self) -> dict[str, Any]:
        return dict(self.lines[0].fields)

    @property
    def last_utc_s(self) -> float:
        return self.lines[-1].at_utc_s

    @property
    def last_mono_s(self) -> float:
        return float(self.lines[-1].fields["mono_s"])

    def clock(self) -> dict[str, Any]:
        """What the journal says last of the clock. Raises ``RecordError``."""
        for line in reversed(self.lines):
            if isinstance(told := line.fields.get("clock"), dict):
                return told
        raise RecordError(f"{self.record / JOURNAL}: does not say how its clock ran")

    @property
    def ended_by(self) -> str:
        """Who had asked for its end when it was cut off, if anybody."""
        kinds = ("procedure_resumed", "procedure_ending")
        last = [x for x in self.lines if x.kind in kinds][-1:]
        return "".join(str(x.fields["by"]) for x in last if x.kind == "procedure_ending")

    @property
    def deadly(self) -> bool:
        """Whether an instance has ended the program before."""
        return any(is_deadly(x) for x in self.lines)

    def tail(self) -> Iterator[Redo]:
        """Decoded one by one; what cannot be read is in ``damage``."""
        after = [x for x in self.lines if x.seq > self.seq]
        counts, decoding = _result_counts(after), decoding_of(self.record, self.lines)
        for line, event in events_of(self.record, after, self.damage.append, decoding):
            yield Redo(event, line.seq, counts.get(line.seq, 0))


def open_unfinished(record: Path) -> Unfinished:
    """Raises ``RecordError`` when there is nothing to go on with."""
    damage: list[Finding] = []
    lines = read_journal(record, damage.append)
    # Half a line is what a power cut leaves of one that was being written.
    damage = [f for f in damage if f.code != "torn_line"]
    if any(x.kind == _ENDED for x in lines):
        raise RecordError(f"{record}: this procedure was ended; it can be replayed, not resumed")
    seqs = {x.seq for x in lines if is_input(x.kind, x.fields)}
    given = _given(lines)
    for checkpoint in checkpoints.read(record, lambda _: None):
        try:
            known, seq = checkpoint.known, checkpoint.seq
            ahead = checkpoint.until > lines[-1].seq  # the journal has lost what it stands on
            if not isinstance(known, Known) or seq not in seqs or ahead:
                continue
            procedure = open_case(record / checkpoint.case)[1]
        except (ConfigError, StructureError, OSError):
            continue
        return Unfinished(record, lines, known, procedure, seq, given, damage)
    procedure = first_procedure(record, lines, damage.append)
    known = Known(initial_state(procedure), ())
    return Unfinished(record, lines, known, procedure, 0, given, damage)


def standing_alarms(lines: list[JournalLine]) -> Alarms:
    """The alarms that stood at the end of the journal, as far as operators had seen them. How grave each was
    is not on record: it sounds again when it grows worse than it is at the first check."""
    found: dict[Key, Standing] = {}
    for line in lines:
        if (
            line.kind not in (RAISED, ACKNOWLEDGED, CLEARED)
            or line.fields.get("code") not in ALARMS
        ):
            continue
        key = (str(line.fields["code"]), str(line.fields.get("about", "")))
        if line.kind == RAISED:
            found[key] = _raised(line, key)
        elif line.kind == CLEARED and line.fields.get("latched") and key in found:
            found[key] = _in(found[key], AlarmState.LATCHED)
        elif line.kind == ACKNOWLEDGED and key in found and not found[key].alarm.latched:
            found[key] = _in(found[key], AlarmState.ACKNOWLEDGED)
        else:
            found.pop(key, None)
    return tuple(found.values())


def not_kept(lines: list[JournalLine]) -> dict[str, tuple[str, str]]:
    """Address → (peer, why) of those whose last images could not be kept, by the journal's end."""
    found: dict[str, tuple[str, str]] = {}
    for line in lines:
        peer = str(line.fields.get("peer"))
        address = peer.rpartition("@")[2]
        if line.kind == "images_refused":
            found[address] = (peer, str(line.fields.get("reason")))
        elif line.kind == "images_kept_again":
            found.pop(address, None)
    return found


def _raised(line: JournalLine, key: Key) -> Standing:
    code, about = key
    params = {str(k): str(v) for k, v in dict(line.fields.get("params") or {}).items()}
    cause = Cause(code, Priority(line.fields["priority"]), params, about, math.inf, latches(code))
    return Standing(cause, AlarmState.UNACKNOWLEDGED, line.at_utc_s, math.inf, latches(code))


def _in(s: Standing, state: AlarmState) -> Standing:
    return Standing(s.cause, state, s.since_utc_s, s.level, s.latching)


def _result_counts(lines: list[JournalLine]) -> dict[int, int]:
    """How many results of each input are on record, by the input's line."""
    counts: dict[int, int] = {}
    latest = 0
    for line in lines:
        if is_input(line.kind, line.fields):
            latest = line.seq
            counts[latest] = 0
        elif line.kind in RESULTS and latest:
            counts[latest] += 1
    return counts


def _given(lines: list[JournalLine]) -> Path:
    given = str(lines[0].fields.get("case", ""))
    for line in lines:
        if line.kind == "operator" and line.fields.get("act") == "reload":
            given = str((line.fields.get("params") or {}).get("path", given))
    return Path(given)
