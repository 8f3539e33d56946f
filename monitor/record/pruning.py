"""Old records deleted: only when somebody asks for it, and only what is nothing but a finished record.

Seconds, bytes. Invariant: a record that has not ended, is in use, or holds what no other place has is kept,
and why is said; the journal goes last, so that a deletion that was cut off is found and finished by the next.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from monitor.record.inventory import Found, look
from monitor.record.journal import JOURNAL, RecordError, sync_folder
from monitor.record.store import FOLDERS
from monitor.record.using import alone

# All that the program itself puts into a record's folder.
_PARTS = frozenset(
    {
        *(JOURNAL, *FOLDERS, "cases", "corrections", "draft", "console", "report", "spool", "logs"),
        # Of a program that was killed after its last line.
        *("scratch", "checkpoints", "running.lock", "running.json"),
    }
)


def why_kept(found: Found, now_utc_s: float, older_than_s: float) -> str | None:
    """Why a record is not to be deleted; None: it may be."""
    if found.unreadable:
        return "its journal cannot be read"
    if not found.ended:
        return "it has not ended"
    # Asked this way round, an age that is not a number keeps it, too.
    if not now_utc_s - found.last_utc_s > older_than_s:
        return "it is not that old"
    if found.in_use:
        return "it is in use, or cannot be written to"
    return _held(found.folder)


def _held(record: Path) -> str | None:
    strangers = sorted(p.name for p in record.iterdir() if p.name not in _PARTS or p.is_symlink())
    if strangers:
        return f"{strangers[0]!r} in its folder is no part of a record"
    others = sorted(p.parent for p in record.glob(f"*/**/{JOURNAL}"))
    if others:
        return f"it holds another record: {others[0]}"
    waiting = [p for s in ("pending", "refused") for p in (record / "spool").rglob(f"{s}/*.dcm")]
    if waiting:
        return f"{len(waiting)} object(s) in its spool have not been sent"
    return None


def delete(record: Path, now_utc_s: float, older_than_s: float) -> str | None:
    """Deletes a record that may be; else why not. It is looked at once more while nobody else can use it.
    Raises ``RecordError`` naming what could not be deleted; the rest of the record may be gone then."""
    try:
        with alone(record / JOURNAL) as free:
            if not free:
                return "it is in use, or cannot be written to"
            kept = why_kept(look(record, in_use=False), now_utc_s, older_than_s)
            if kept is None:
                _remove(record)
            return kept
    except OSError as error:
        raise RecordError(f"{error.filename or record}: {error.strerror}") from error


def _remove(record: Path) -> None:
    for path in sorted(record.iterdir()):
        if path.name == JOURNAL:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    # The journal is gone from the disk only after all else is.
    sync_folder(record)
    (record / JOURNAL).unlink()
    with contextlib.suppress(OSError):  # a new procedure may have taken the place already
        record.rmdir()
