"""The records below a folder: which there are, whether they have ended, how old and how big they are.
UTC seconds, bytes.

Nothing here writes. Invariant: a record of which something cannot be read is found all the same, and
counts as one that has not ended.
"""

from __future__ import annotations

import contextlib
import os
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from monitor.record.journal import JOURNAL, RecordError
from monitor.record.reading import Finding, JournalLine, read_journal
from monitor.record.using import alone

# A procedure takes less than that. What was left longer ago nobody wants to go on with.
_RECENT_S = 6 * 3600.0


@dataclass(frozen=True)
class Found:
    """A record. ``last_utc_s``: of its journal's last line, or when that file was last written to, whichever
    is later. ``ended_utc_s``: when its last line, if it is whole, says that it ended; else None.
    ``patient_id`` None: not known. ``unreadable``: why its journal cannot be read, "" if it can; times are
    then those of the file."""

    folder: Path
    began_utc_s: float | None
    last_utc_s: float
    ended_utc_s: float | None
    in_use: bool
    size_bytes: int
    patient_id: str | None = None
    unreadable: str = ""

    @property
    def ended(self) -> bool:
        return self.ended_utc_s is not None


def records(folder: Path, tell: Callable[[str], None]) -> list[Found]:
    """All below ``folder`` and that itself, also those that lie in another; no link is followed. The oldest
    first. ``tell``: what could not be looked into. Raises ``RecordError`` when there is no such folder."""
    if not folder.is_dir():
        raise RecordError(f"{folder}: no such folder")
    found = []
    walk = os.walk(folder, onerror=lambda e: tell(f"{e.filename}: {e.strerror}: not looked into"))
    for path, _, files in walk:
        if JOURNAL in files:
            try:
                found.append(look(Path(path)))
            except OSError as error:
                tell(f"{path}: {error.strerror}: not looked into")
    return sorted(found, key=lambda f: (f.began_utc_s or f.last_utc_s, f.folder))


def latest_unfinished(folder: Path, patient_id: str | None, now_utc_s: float) -> Path | None:
    """The newest record directly in ``folder`` of a procedure of this patient that was written to within the
    last hours and has not ended, whoever uses it: that somebody reads it must not hide it."""
    left = []
    for journal in folder.glob(f"*/{JOURNAL}"):
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
            if now_utc_s - journal.stat().st_mtime < _RECENT_S:
                left.append(look(journal.parent))
    left = [f for f in left if not (f.ended or f.unreadable) and f.patient_id == patient_id]
    return max(left, key=lambda f: f.last_utc_s).folder if left else None


def look(record: Path, in_use: bool | None = None) -> Found:
    """One record; ``in_use`` if that is known already. Raises ``OSError`` when there is no journal."""
    journal = record / JOURNAL
    written_utc_s = journal.stat().st_mtime
    if in_use is None:
        with alone(journal) as free:
            in_use = not free
    size = size_of(record)
    findings: list[Finding] = []
    try:
        lines = read_journal(record, findings.append)
    except RecordError as error:
        return Found(record, None, written_utc_s, None, in_use, size, unreadable=str(error))
    last = lines[-1]
    # What follows the last line that can be read may be of a procedure that goes on.
    ended = last.kind == "procedure_ended" and not any(f.line > last.number for f in findings)
    return Found(
        record,
        lines[0].at_utc_s,
        max(last.at_utc_s, written_utc_s),
        last.at_utc_s if ended else None,
        in_use,
        size,
        _patient(record, lines),
    )


def size_of(folder: Path) -> int:
    """Of all files below it. What is gone before it was counted (a procedure is writing) counts nothing."""
    size = 0
    for path, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                size += (Path(path) / name).lstat().st_size
    return size


def _patient(record: Path, lines: Sequence[JournalLine]) -> str | None:
    """Of the case it began with; of a draft, of the plan that was made of it."""
    given = lines[0].fields.get("patient_id")
    if given is not None:
        return str(given)
    before = found = None
    for line in lines:
        kept = line.fields.get("kept_case")
        if line.kind == "operator" and isinstance(kept, dict):
            before, found = found, _planned(record / str(kept.get("path"))) or found
        elif line.kind == "act_refused" and line.fields.get("act") == "reload":
            found = before
    return found


def _planned(case: Path) -> str | None:
    try:
        patient = tomllib.loads(case.read_text(encoding="utf-8")).get("patient")
    except (OSError, ValueError):
        return None
    patient_id = patient.get("id") if isinstance(patient, dict) else None
    return None if patient_id is None else str(patient_id)
