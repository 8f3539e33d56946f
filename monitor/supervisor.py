"""``iceball live`` looked after: a program that dies is started again and goes on with its record. Seconds.

The program is a child process with the same terminal; the supervisor only waits. Each looks after the other:
a supervisor that dies is started again by the program (``Supervised``). Invariant: what ended by a wish of
the operator, or said why it cannot run, is not started again; what dies again and again is given up, and that
is said. A terminal that goes away ends nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

# So often in a row, each within so many seconds of its start: starting it once more would not help.
_DEATHS, _WITHIN_S = 3, 60.0
GIVEN_UP = 3
# Exit statuses of a program that ended by itself: as asked, or because of what it has said.
# (1 is Python's own, for an error that nobody caught.)
_CANNOT_RUN = 2
NOT_ALL_KEPT = 4  # at its end: the record's disk did not take all
_ITS_OWN = (0, _CANNOT_RUN, NOT_ALL_KEPT)


COMMAND = (sys.executable, "-m", "monitor.cli")
# What one process starts the other with: ``Supervised`` and ``_Supervisor`` alone use them.
BY, TAKE_OVER = "--supervised-by", "--take-over"
_SUPERVISOR_AGAIN_S = 5.0
# A record that could be written before, and cannot be now: a disk that has become read-only.
_TRIED_AGAIN_S = 10.0
_OVER = (
    "The monitor {died}, after the procedure had ended: {record} is whole. If a PACS was to have its "
    "results, they may not all be there: iceball send {record} --to AE@HOST:PORT"
)
_NOT_ENDED = (
    "The monitor was killed while it ended: what {record} has is kept; to end it in order: iceball live "
    "--resume {record}"
)
_STUCK = (
    "Nobody monitors now: {record} cannot be gone on with, for what is said above. It is tried again every "
    "{seconds:.0f} s; Ctrl-C ends that. To begin anew in another place: iceball live CASE.toml --record DIR "
    "--new"
)
_ENDS_S = 5.0


def supervise(
    arguments: Sequence[str], record: Path, say: Callable[[str], None], take_over: int | None = None
) -> int:
    """Runs ``iceball live`` with these arguments until it has ended. The exit status: its own, or
    ``GIVEN_UP``. For the main thread, whose signals go to the program meanwhile. ``take_over``: the program
    runs already, is this one's parent, and tells through this pipe how it ends."""
    one = _Supervisor(_own(arguments), None if take_over is None else _Running(take_over))
    before = {n: signal.signal(n, one.pass_on) for n in (signal.SIGINT, signal.SIGTERM)}
    # Ignored by the program, too: the windows of a procedure do not go with the terminal it was typed at.
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        return one.run(record, say)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _own(arguments: Sequence[str]) -> list[str]:
    """As they were typed, without what an earlier supervisor has added for its own use."""
    return [a for a in arguments if a.partition("=")[0] not in (BY, TAKE_OVER)]


class Supervised:
    """The program's side, of a supervisor that is its parent: whether it lives, and another one if it does
    not. ``arguments``: those that the program was started with."""

    def __init__(self, supervisor: int, arguments: Sequence[str]) -> None:
        self._arguments = _own(arguments)
        self._parent: int | None = supervisor
        self._started: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._again_mono_s = 0.0

    def start_again(self) -> bool:
        """Whether the supervisor had died; another one looks after this process from now on."""
        if self._lives() or time.monotonic() < self._again_mono_s:
            return False
        self._again_mono_s = time.monotonic() + _SUPERVISOR_AGAIN_S
        self._parent = None
        self._close()
        theirs, self._pipe = os.pipe()
        command = [*COMMAND, *self._arguments, f"{TAKE_OVER}={theirs}"]
        try:
            self._started = subprocess.Popen(command, pass_fds=[theirs])
        finally:
            os.close(theirs)
        return True

    def ended(self, status: int) -> None:
        """The program ends, by itself and with this exit status: nothing is to be started again."""
        if self._started is None:
            return
        with contextlib.suppress(OSError):
            os.write(self._pipe, str(status).encode())
        self._close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._started.wait(_ENDS_S)

    def _lives(self) -> bool:
        if self._started is None:
            return os.getppid() == self._parent
        return self._started.poll() is None

    def _close(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
        self._pipe = -1


class _Program(Protocol):
    def send_signal(self, number: int, /) -> None: ...

    def wait(self) -> int: ...


class _Running:
    """A program that has started its supervisor itself: this process's parent."""

    def __init__(self, pipe: int) -> None:
        self._pipe, self._pid = pipe, os.getppid()

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def wait(self) -> int:
        """Its exit status; the pipe ends with the process, and what died has said nothing."""
        with os.fdopen(self._pipe, "rb") as pipe:
            told = pipe.read()
        return int(told) if told else -signal.SIGKILL


class _Supervisor:
    def __init__(self, arguments: Sequence[str], running: _Program | None) -> None:
        by = f"{BY}={os.getpid()}"
        self._command = [*COMMAND, *arguments, by]
        self._running = self._program = running
        self._signals: list[int] = []

    def pass_on(self, number: int, _frame: object) -> None:
        self._signals.append(number)
        if self._program is not None:
            self._program.send_signal(number)

    def run(self, record: Path, say: Callable[[str], None]) -> int:
        deaths, how, told = 0, ["--record", str(record)], False
        while True:
            began_s = time.monotonic()
            code = self._ended(how)
            begun = (record / "journal.jsonl").exists()
            if code == _CANNOT_RUN and deaths and not self._signals and not _is_ended(record):
                if not told:
                    say(_STUCK.format(record=record, seconds=_TRIED_AGAIN_S))
                told = True
                self._pause(_TRIED_AGAIN_S)
                continue
            if code in _ITS_OWN or self._signals or not begun:
                if begun and code not in _ITS_OWN:
                    say(_NOT_ENDED.format(record=record))
                return code if code >= 0 else 128 - code
            died = f"was killed (signal {-code})" if code < 0 else f"died (exit status {code})"
            if _is_ended(record):
                say(_OVER.format(record=record, died=died))
                return 128 - code if code < 0 else code
            deaths = deaths + 1 if time.monotonic() - began_s < _WITHIN_S else 1
            if deaths >= _DEATHS:
                say(
                    f"The monitor {died}, {_DEATHS} times soon after a start: it is not started again. "
                    f"The record is {record}; to go on with it: iceball live --resume {record}"
                )
                return GIVEN_UP
            say(f"The monitor {died}. It is started again and goes on with {record}.")
            how = ["--resume", str(record)]

    def _pause(self, seconds: float) -> None:
        """Shorter if there is a signal."""
        end_mono_s = time.monotonic() + seconds
        while time.monotonic() < end_mono_s and not self._signals:
            time.sleep(0.1)

    def _ended(self, how: list[str]) -> int:
        """The exit status of one run."""
        program, self._running = self._running or subprocess.Popen([*self._command, *how]), None
        self._program = program
        for number in self._signals:  # that came before there was anybody to hear
            program.send_signal(number)
        return program.wait()


def _is_ended(record: Path) -> bool:
    """Whether there is nothing that could be gone on with."""
    from monitor.record.inventory import look

    try:
        return look(record, in_use=False).ended
    except OSError:
        return False
