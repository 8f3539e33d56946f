"""Ctrl-C and a request to end, for commands that go on until then. Seconds.

Invariant: the handler itself takes no lock. It runs in between whatever the main thread does, also while
that holds the lock of the very event that is to be set, and a second signal interrupts the first's handler.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK_S = 0.05


_ENDED = 128 + signal.SIGTERM


@contextmanager
def taken_back() -> Iterator[None]:
    """Within it SIGTERM ends the program as Ctrl-C does, by an exception: what was begun on the disk is
    patient data, and is not left there. One that comes while that is cleared away changes nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(_ENDED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def when_told_to_stop(then: Callable[[], None]) -> None:
    """From now on ``then`` is called, on a thread of its own and once, when SIGINT or SIGTERM has come. For
    the main thread."""
    came: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _frame: came.append(n))

    def look() -> None:
        while not came:
            time.sleep(_LOOK_S)
        then()

    threading.Thread(target=look, name="signals", daemon=True).start()
