"""Surfaces that operators drew: RECORD/corrections/001_<name>, 002_…, as they were when they were taken.

Invariant: nothing in that folder is overwritten, and a journal line names its file with its hash.
"""

from __future__ import annotations

import os
from pathlib import Path

from monitor.record.cases import sha256_of
from monitor.record.journal import RecordError

_DRAWINGS = "corrections"


def keep_drawing(record: Path, source: Path) -> tuple[str, str]:
    """A copy in the record: its path relative to that, and its SHA-256. Raises ``RecordError``."""
    try:
        data = source.read_bytes()
        (record / _DRAWINGS).mkdir(exist_ok=True)
        number, made = 1, False
        while not made:
            target = record / _DRAWINGS / f"{number:03d}_{source.name}"
            made, number = _write(target, data), number + 1
        return str(target.relative_to(record)), sha256_of(target)
    except OSError as error:
        raise RecordError(f"{error.filename or source}: {error.strerror}") from error


def _write(target: Path, data: bytes) -> bool:
    """Whether the name was free; a number is used once, whatever the file is called."""
    if any(target.parent.glob(f"{target.name[:3]}_*")):
        return False
    with target.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return True
