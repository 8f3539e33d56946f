"""The records in a folder: which there are, and which were not ended. UTC seconds, bytes.

Invariant: nothing is deleted but by ``prune``, and never what is in use or was not ended.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from monitor.record.journal import JOURNAL, RecordError
from monitor.record.running import in_use

# A procedure takes less than that. What was left longer ago is not what somebody wants to go on with.
_RECENT_S = 6 * 3600.0
# Enough of a journal's end to hold its last lines.
_TAIL_BYTES = 2**16


@dataclass(frozen=True)
class RecordEntry:
    """``started`` is the journal's first line. ``written_utc_s``: when anything was written last, by the
    file's own time."""

    path: Path
    started: dict[str, Any]
    ended: bool
    in_use: bool
    written_utc_s: float

    @property
    def started_utc_s(self) -> float:
        try:
            return datetime.fromisoformat(str(self.started.get("at"))).timestamp()
        except ValueError:
            return self.written_utc_s

    def size_bytes(self) -> int:
        return sum(p.stat().st_size for p in self.path.rglob("*") if p.is_file())


def records_in(folder: Path) -> Iterator[RecordEntry]:
    """Those directly in ``folder`` and in what lies in it (``iceball demo`` keeps its own there)."""
    for journal in sorted({*folder.glob(f"*/{JOURNAL}"), *folder.glob(f"*/*/{JOURNAL}")}):
        entry = _entry(journal)
        if entry is not None:
            yield entry


def latest_unfinished(folder: Path, patient_id: str | None) -> Path | None:
    """The newest record of this patient that was left within the last hours and not ended."""
    recent = time.time() - _RECENT_S
    left = [
        e
        for e in records_in(folder)
        if not (e.ended or e.in_use)
        and e.written_utc_s >= recent
        and e.started.get("patient_id") == patient_id
    ]
    return max(left, key=lambda e: e.written_utc_s).path if left else None


def prune(entry: RecordEntry) -> None:
    """Deletes a record. Raises ``RecordError`` when it was not ended, is in use or cannot be deleted."""
    if not entry.ended:
        raise RecordError(f"{entry.path}: its procedure was not ended; it is not deleted")
    if entry.in_use:
        raise RecordError(f"{entry.path}: a program is recording there; it is not deleted")
    try:
        shutil.rmtree(entry.path)
    except OSError as error:
        raise RecordError(f"{error.filename or entry.path}: {error.strerror}") from error


def _entry(journal: Path) -> RecordEntry | None:
    """None for what is no record."""
    try:
        with journal.open("rb") as file:
            started = _line(file.readline())
            file.seek(max(journal.stat().st_size - _TAIL_BYTES, 0))
            last = _line(file.read().rpartition(b"\n")[0].rpartition(b"\n")[2])
        written_utc_s = journal.stat().st_mtime
    except OSError:
        return None
    if started.get("kind") != "procedure_started":
        return None
    ended = last.get("kind") == "procedure_ended"
    return RecordEntry(journal.parent, started, ended, in_use(journal.parent), written_utc_s)


def _line(raw: bytes) -> dict[str, Any]:
    """{} for what is none: torn off, or damaged."""
    try:
        line = json.loads(raw)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}
