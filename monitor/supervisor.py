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
_ITS_OWN = (0, 2)


def supervise(arguments: Sequence[str], record: Path, say: Callable[[str], None]) -> int:
    """Runs ``iceball live`` with these arguments until it has ended. The exit status: its own, or
    ``GIVEN_UP``."""
    signals: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def passed_on(number: int, _frame: object) -> None:
        signals.append(number)
        if child is not None:
            child.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, passed_on)
    deaths = 0
    how = ["--record", str(record)]
    while True:
        began_s = time.monotonic()
        child = subprocess.Popen(
            [sys.executable, "-m", "monitor.cli", *arguments, "--unsupervised", *how]
        )
        code = child.wait()
        if code in _ITS_OWN or signals:
            return code if code >= 0 else 128 - code
        deaths = deaths + 1 if time.monotonic() - began_s < _WITHIN_S else 1
        if not (record / "journal.jsonl").exists():
            return code if code >= 0 else 128 - code
        died = f"was killed (signal {-code})" if code < 0 else f"died (exit status {code})"
        if deaths >= _DEATHS:
            say(
                f"The monitor {died}, {_DEATHS} times soon after a start: it is not started again. "
                f"The record is {record}; to go on with it: iceball live --resume {record}"
            )
            return GIVEN_UP
        say(f"The monitor {died}. It is started again and goes on with {record}.")
        how = ["--resume", str(record)]
