"""The journal: ``RECORD/journal.jsonl``, one JSON object a line, append-only.

Every line has ``seq`` (from 1; a gap is a line that could not be written), ``at`` (ISO 8601, UTC,
procedure clock), ``mono_s`` and ``kind``; the rest depends on the kind (docs/journal.md). Invariant: a
line that was written is whole and on disk before ``write`` returns, and every number in it is finite
(None otherwise).
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monitor.clock import ProcedureClock
from monitor.journal_fields import iso_utc
from monitor.record.using import share

JOURNAL = "journal.jsonl"
# 2: every event that the procedure worked on, and the case with its files (``iceball replay``).
FORMAT_VERSION = 2

# What comes in. The instances are on disk already and the results' lines, which follow, are synced: these
# may wait for them to reach the platter.
_UNSYNCED = frozenset({"instance_received", "association_ended", "tick", "forecast_step"})


class RecordError(OSError):
    """The record cannot be written; the message names the file."""


class Journal:
    """Appends lines; safe to call from several threads."""

    def __init__(self, record: Path, clock: ProcedureClock) -> None:
        self.path = record / JOURNAL
        self._clock = clock
        self._lock = threading.Lock()
        self._seq = 0
        try:
            self._file = self.path.open("x", encoding="utf-8")
            share(self._file)
        except FileExistsError:
            raise RecordError(f"{self.path}: a procedure is recorded there already") from None
        except BlockingIOError as error:
            raise RecordError(f"{self.path}: {error.strerror}") from None

    def write(self, kind: str, **fields: Any) -> None:
        """One line. Raises ``RecordError`` when it cannot be kept."""
        with self._lock:
            self._seq += 1
            line = {
                "seq": self._seq,
                "at": iso_utc(self._clock.now_utc_s()),
                "mono_s": self._clock.mono_s(),
                "kind": kind,
                **fields,
            }
            try:
                self._file.write(json.dumps(plain(line), allow_nan=False) + "\n")
                self._file.flush()
                if kind not in _UNSYNCED:
                    os.fsync(self._file.fileno())
            except OSError as error:
                raise RecordError(f"{self.path}: {error.strerror}") from error

    def close(self) -> None:
        with self._lock:
            self._file.close()


def plain(value: Any) -> Any:
    """JSON-ready: arrays to lists, what is not finite to None, floats to 6 decimals."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return round(float(value), 6) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, Path):
        return str(value)
    return value
