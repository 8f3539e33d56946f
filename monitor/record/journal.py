"""The journal: ``RECORD/journal.jsonl``, one JSON object a line, append-only.

Every line has ``seq`` (from 1; a gap is a line that could never be written), ``at`` (ISO 8601, UTC,
procedure clock), ``mono_s`` and ``kind``; the rest depends on the kind (docs/journal.md). Invariant: a
line that was written is whole and on disk before ``write`` returns, and every number in it is finite
(None otherwise).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import tempfile
import threading
from collections import deque
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
# Room on the disk that is the journal's already, some 10 000 lines of it: what operators do is kept while
# nothing else is.
_RESERVE_BYTES = 4 * 2**20
_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE (fallocate(2)), which Python has no name for
# Lines that a full disk has not taken: an hour's, of a busy procedure.
_MOST_WAITING = 20_000


_LIBC = ctypes.CDLL(None)


class RecordError(OSError):
    """The record cannot be written; the message names the file."""


class Journal:
    """Appends lines; safe to call from several threads. A line that the disk does not take waits in memory
    and is written before the next one, so that a disk that was full for a while loses nothing."""

    def __init__(self, record: Path, clock: ProcedureClock, resume: bool = False) -> None:
        """A new journal, or (``resume``) the one that is there, whose torn last line is cut off: ``torn`` is
        how many bytes that were. Raises ``RecordError``."""
        self.path = record / JOURNAL
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque(maxlen=_MOST_WAITING)
        # Written, and perhaps not on the disk yet.
        self._unsynced: deque[bytes] = deque(maxlen=_MOST_WAITING)
        self._seq = self._end = self.torn = 0
        self._reserved_end = 0
        flags = os.O_RDWR if resume else os.O_RDWR | os.O_CREAT | os.O_EXCL
        try:
            self._file = os.open(self.path, flags, 0o640)
            share(self._file)
            if resume:
                self._go_on()
            else:
                sync_folder(record)
            self._reserve()
        except FileExistsError:
            text = f"{self.path}: a procedure is recorded there already; one that was not ended: --resume"
            raise RecordError(text) from None
        except OSError as error:
            raise RecordError(f"{self.path}: {error.strerror}") from None

    def write(self, kind: str, **fields: Any) -> int:
        """One line; its ``seq``. Raises ``RecordError`` when it, or one before it, cannot be kept yet."""
        with self._lock:
            self._seq += 1
            line = {
                "seq": self._seq,
                "at": iso_utc(self._clock.now_utc_s()),
                "mono_s": self._clock.mono_s(),
                "kind": kind,
                **fields,
            }
            self._waiting.append((json.dumps(plain(line), allow_nan=False) + "\n").encode())
            try:
                self._write_waiting()
                if kind not in _UNSYNCED:
                    self._sync()
            except OSError as error:
                raise RecordError(f"{self.path}: {error.strerror}") from error
            return self._seq

    @property
    def seq(self) -> int:
        """Of the last line."""
        return self._seq

    def close(self) -> Path | None:
        """Where the lines are that the disk has still not taken: in a file of their own among the system's
        temporary ones, for the owner only; None: there are none. Raises ``RecordError``: they are lost."""
        with self._lock:
            try:
                self._write_waiting()
            except OSError as error:
                return self._rest(error)
            finally:
                with contextlib.suppress(OSError):
                    self._give_back()
                os.close(self._file)
        return None

    def _sync(self) -> None:
        os.fsync(self._file)
        self._unsynced.clear()

    def _rest(self, why: OSError) -> Path:
        # What a disk had taken before it became read-only, and not synced, it never gets.
        with contextlib.suppress(OSError):
            self._sync()
        lines = [*self._unsynced, *self._waiting]
        # Of the first one its journal may have a piece, or zeros in its place, without an end.
        apart = [b"\n"] if self._unsynced else []
        try:
            file, name = tempfile.mkstemp(".jsonl", f"iceball-{self.path.parent.name}-")
            with open(file, "wb") as rest:
                rest.writelines([*apart, *lines])
                rest.flush()
                os.fsync(rest.fileno())
        except OSError:
            text = f"{self.path}: {why.strerror}: its last {len(lines)} line(s) are lost"
            raise RecordError(text) from why
        return Path(name)

    def _write_waiting(self) -> None:
        """A line is on disk whole or not at all: what there is of one that failed is cut off again."""
        while self._waiting:
            data = memoryview(self._waiting[0])
            try:
                written = 0
                while written < len(data):
                    written += os.pwrite(self._file, data[written:], self._end + written)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._end)
                self._reserved_end = 0  # cut off with it
                raise
            self._end += len(data)
            self._unsynced.append(self._waiting.popleft())
        if self._reserved_end - self._end < _RESERVE_BYTES // 2:
            self._reserve()

    def _give_back(self) -> None:
        """What was reserved. The file's time stays that of its last line."""
        written = os.fstat(self._file)
        os.ftruncate(self._file, self._end)
        os.utime(self._file, ns=(written.st_atime_ns, written.st_mtime_ns))

    def _reserve(self) -> None:
        """As far as the disk has room and its file system can."""
        done = _LIBC.fallocate(
            self._file, _KEEP_SIZE, ctypes.c_long(self._end), ctypes.c_long(_RESERVE_BYTES)
        )
        if done == 0:
            self._reserved_end = self._end + _RESERVE_BYTES

    def _go_on(self) -> None:
        """After the last line that is whole."""
        raw = self.path.read_bytes()
        self._end = raw.rfind(b"\n") + 1
        self.torn = len(raw) - self._end
        if self.torn:
            os.ftruncate(self._file, self._end)
        for line in reversed(raw[: self._end].splitlines()):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                self._seq = int(json.loads(line)["seq"])
                return


def sync_folder(folder: Path) -> None:
    """So that a new file's name, too, outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
