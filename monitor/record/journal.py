"""The journal: ``RECORD/journal.jsonl``, one JSON object a line, append-only.

Every line has ``seq`` (from 1, no gaps), ``at`` (ISO 8601, UTC, procedure clock), ``mono_s`` and
``kind``; the rest depends on the kind (docs/journal.md). Invariant: a line that was written is
whole and on disk before ``write`` returns, and every number in it is finite (None otherwise).
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

FORMAT_VERSION = 1

# Reception is journalled slice by slice; the instances are on disk already, so these lines may
# wait for the next one to reach the platter.
_UNSYNCED = frozenset({"instance_received"})


class RecordError(OSError):
    """The record cannot be written; the message names the file."""


class Journal:
    """Appends lines; safe to call from several threads."""

    def __init__(self, record: Path, clock: ProcedureClock) -> None:
        self.path = record / "journal.jsonl"
        self._clock = clock
        self._lock = threading.Lock()
        self._seq = 0
        try:
            self._file = self.path.open("x", encoding="utf-8")
        except FileExistsError:
            raise RecordError(f"{self.path}: a procedure is recorded there already") from None

    def write(self, kind: str, **fields: Any) -> None:
        """One line. Raises ``RecordError`` when it cannot be kept."""
        with self._lock:
            line = {
                "seq": self._seq + 1,
                "at": iso_utc(self._clock.now_utc_s()),
                "mono_s": round(self._clock.mono_s(), 6),
                "kind": kind,
                **fields,
            }
            try:
                self._file.write(json.dumps(_plain(line), allow_nan=False) + "\n")
                self._file.flush()
                if kind not in _UNSYNCED:
                    os.fsync(self._file.fileno())
            except OSError as error:
                raise RecordError(f"{self.path}: {error.strerror}") from error
            self._seq += 1

    def close(self) -> None:
        with self._lock:
            self._file.close()


def _plain(value: Any) -> Any:
    """JSON-ready: arrays to lists, what is not finite to None, floats to 6 decimals."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return round(float(value), 6) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, Path):
        return str(value)
    return value
