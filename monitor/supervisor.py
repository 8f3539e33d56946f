"""``iceball live`` looked after: a program that dies is started again and goes on with its record. Seconds.

The program is a child process with the same terminal; the supervisor only waits. Invariant: what ended by an
operator's wish, or said why it cannot run, is not started again; what dies again and again is given up, and
that is said. If the supervisor dies the procedure goes on without.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# So often in a row, each within so many seconds of its start: starting it once more would not help.
_DEATHS, _WITHIN_S = 3, 60.0
GIVEN_UP = 3
# Exit statuses of a program that ended by itself: as asked, or because of what it has said.
# (1 is Python's own, for an error that nobody caught.)
_CANNOT_RUN = 2
NOT_ALL_KEPT = 4  # at its end: the record's disk did not take all
_ITS_OWN = (0, _CANNOT_RUN, NOT_ALL_KEPT)


def supervise(arguments: Sequence[str], record: Path, say: Callable[[str], None]) -> int:
    """Runs ``iceball live`` with these arguments until it has ended. The exit status: its own, or
    ``GIVEN_UP``. For the main thread, whose signals go to the program meanwhile."""
    one = _Supervisor(arguments)
    before = {n: signal.signal(n, one.pass_on) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        return one.run(record, say)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Supervisor:
    def __init__(self, arguments: Sequence[str]) -> None:
        self._command = [sys.executable, "-m", "monitor.cli", *arguments, "--unsupervised"]
        self._child: subprocess.Popen[bytes] | None = None
        self._signals: list[int] = []

    def pass_on(self, number: int, _frame: object) -> None:
        self._signals.append(number)
        if self._child is not None:
            self._child.send_signal(number)

    def run(self, record: Path, say: Callable[[str], None]) -> int:
        deaths, how = 0, ["--record", str(record)]
        while True:
            began_s = time.monotonic()
            code = self._ended(how)
            begun = (record / "journal.jsonl").exists()
            if code == _CANNOT_RUN and deaths and not self._signals:
                say(
                    f"Nobody monitors now: {record} cannot be gone on with, for what is said above. Once "
                    f"that is mended: iceball live --resume {record}; to begin anew in another place: "
                    f"iceball live CASE.toml --record DIR"
                )
            if code in _ITS_OWN or self._signals or not begun:
                return code if code >= 0 else 128 - code
            deaths = deaths + 1 if time.monotonic() - began_s < _WITHIN_S else 1
            died = f"was killed (signal {-code})" if code < 0 else f"died (exit status {code})"
            if deaths >= _DEATHS:
                say(
                    f"The monitor {died}, {_DEATHS} times soon after a start: it is not started again. "
                    f"The record is {record}; to go on with it: iceball live --resume {record}"
                )
                return GIVEN_UP
            say(f"The monitor {died}. It is started again and goes on with {record}.")
            how = ["--resume", str(record)]

    def _ended(self, how: list[str]) -> int:
        """The exit status of one run."""
        self._child = child = subprocess.Popen([*self._command, *how])
        for number in self._signals:  # that came before there was anybody to hear
            child.send_signal(number)
        return child.wait()
