"""Decoding tried in a process of its own first: what ends that process is not decoded in the core. Seconds.

For a record in which it has happened. Invariant: what is decoded here was decoded there, to its end and in
time.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from monitor import logs
from monitor.intake.decode import DIED, decode
from monitor.model import CtFrames, CtSlice, Instance, Rejected

_SPAWN = multiprocessing.get_context("spawn")
# Its imports, on a machine however busy; then the largest instance that is taken, on such a machine.
_STARTS_S, DECODES_S = 60.0, 20.0


class Trial:
    """Instances of one record; one at a time. Its process is started when it is needed, and ends with this
    one."""

    def __init__(self, record: Path, log: logs.LogOptions | None = None) -> None:
        self._record, self._log = record, log
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def decode(self, instance: Instance, record: Path) -> CtSlice | CtFrames | Rejected:
        """As ``intake.decode``; rejected if that ends the process that tries it, or has no end, and where it
        cannot be tried: what is received has to end somewhere."""
        if self._survived(instance):
            return decode(instance, record)
        self.close()
        return Rejected(instance, DIED)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _survived(self, instance: Instance) -> bool:
        try:
            pipe = self._pipe or self._started()
            pipe.send(instance)
            if not pipe.poll(DECODES_S):
                return False
            pipe.recv()
        except (EOFError, OSError):
            return False
        return True

    def _started(self) -> Connection:
        """Raises ``OSError`` or ``EOFError`` where it cannot be."""
        self._pipe, theirs = _SPAWN.Pipe()
        given: tuple[Any, ...] = (_try_each, self._record, theirs)
        if self._log is not None:
            given = (logs.run, self._log, "trial", *given)
        target, *args = given
        self._process = _SPAWN.Process(target=target, name="trial", daemon=True, args=args)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(_STARTS_S):
            raise TimeoutError("the process that tries to decode does not start")
        self._pipe.recv()
        return self._pipe


def _try_each(record: Path, pipe: Connection) -> None:
    pipe.send(True)
    while True:
        try:
            instance = pipe.recv()
        except EOFError:
            return
        decode(instance, record)
        pipe.send(True)
