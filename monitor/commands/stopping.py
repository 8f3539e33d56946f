"""Ctrl-C and a request to end, for commands that go on until then. Seconds.

Invariant: the handler itself takes no lock. It runs in between whatever the main thread does, also while
that holds the lock of the very event that is to be set, and a second signal interrupts the first's handler.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

_LOOK_S = 0.05


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
