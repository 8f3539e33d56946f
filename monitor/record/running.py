"""Who is recording: RECORD/running.lock, held while a program does, and RECORD/running.json, its processes.

Invariant: a record has one writer; the lock ends with the process that holds it, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from monitor.record.journal import JOURNAL, RecordError

_LOCK, _PROCESSES = "running.lock", "running.json"
# (process id, when it was started in ticks since the machine was): a number is given again, this pair is not.
_Process = tuple[int, int]


class Running:
    """The right to write into a record. Raises ``RecordError`` when another program has it."""

    def __init__(self, record: Path) -> None:
        self._record = record
        try:
            lock = record / _LOCK
            # How long no program has recorded here, by the machine's wall clock; 0 for a new record.
            seen = [p.stat().st_mtime for p in (lock, record / JOURNAL) if p.exists()]
            self.down_s = max(time.time() - max(seen), 0.0) if seen else 0.0
            self._lock = os.open(lock, os.O_RDWR | os.O_CREAT, 0o640)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecordError(f"{record}: another program is recording there") from None
        except OSError as error:
            raise RecordError(f"{record / _LOCK}: {error.strerror}") from None
        # Windows that a program which was killed has left on the screen.
        self.left = [p for p in _read(record) if _started(p[0]) == p[1]]

    def beat(self) -> None:
        """This program is alive."""
        with contextlib.suppress(OSError):
            os.utime(self._lock)

    def note(self, pids: Iterable[int]) -> None:
        """These windows belong to this program. A disk that is full does not matter here."""
        processes = [(pid, _started(pid)) for pid in pids]
        with contextlib.suppress(OSError):
            (self._record / _PROCESSES).write_text(json.dumps([*processes, *self.left]))

    def clear_away(self) -> None:
        """The windows that were left: new ones are there."""
        for process in self.left:
            if _started(process[0]) == process[1]:
                with contextlib.suppress(OSError):
                    os.kill(process[0], signal.SIGKILL)
        self.left = []

    def close(self) -> None:
        for name in (_PROCESSES, _LOCK):
            with contextlib.suppress(OSError):  # a disk that is read-only by now
                (self._record / name).unlink(missing_ok=True)
        os.close(self._lock)


def _read(record: Path) -> list[_Process]:
    try:
        return [(int(p), int(t)) for p, t in json.loads((record / _PROCESSES).read_text())]
    except (OSError, ValueError, TypeError):
        return []


def _started(pid: int) -> int:
    """Of a process of this machine; -1 when there is none."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(after_name[19])
    except (OSError, ValueError, IndexError):
        return -1
