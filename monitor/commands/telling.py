"""What a procedure says while it runs, on a terminal. Seconds.

Invariant: what is counted together is said in the end.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from monitor import console

# So long after the last image that is rejected for one reason a series is over: they come several a second.
_QUIET_S = 2.0
# A line at least so often, where it does not end.
_LONGEST_S = 30.0


class Counts:
    """Rejected images by reason, until each has been said. Pure; monotonic seconds."""

    def __init__(self, quiet_s: float = _QUIET_S) -> None:
        self._quiet_s = quiet_s
        # Reason → how many, when the first and the last came.
        self._waiting: dict[str, tuple[int, float, float]] = {}

    def took(self, code: str, now_s: float) -> None:
        count, first_s, _ = self._waiting.get(code, (0, now_s, now_s))
        self._waiting[code] = count + 1, first_s, now_s

    def over(self, now_s: float) -> list[tuple[str, int]]:
        """Those to be said now: reason and how many."""
        found = [
            (code, count)
            for code, (count, first_s, last_s) in self._waiting.items()
            if now_s - last_s >= self._quiet_s or now_s - first_s >= _LONGEST_S
        ]
        for code, _ in found:
            del self._waiting[code]
        return found

    def __bool__(self) -> bool:
        return bool(self._waiting)


class Teller:
    """Says each thing once: a scan is assessed anew when the forecast has lent its times, which may
    change nothing that is said. Of rejected images one line a series. From any thread; ``close`` it."""

    def __init__(self, quiet_s: float = _QUIET_S) -> None:
        self._last: dict[str, str | None] = {}
        self._quiet_s, self._rejected = quiet_s, Counts(quiet_s)
        self._lock = threading.Lock()
        self._looking = False

    def __call__(self, kind: str, fields: dict[str, Any]) -> None:
        if kind == "instance_rejected":
            self._count(str(fields["reason"]))
            return
        said = console.line(kind, fields)
        if kind == "listener_failed":
            print(f"iceball: {fields['error']}", file=sys.stderr, flush=True)
        if said is not None and not (kind == "assessment" and said == self._last.get(kind)):
            print(said, flush=True)
        self._last[kind] = said

    def close(self) -> None:
        self._say(float("inf"))

    def _count(self, code: str) -> None:
        with self._lock:
            self._rejected.took(code, time.monotonic())
            if not self._looking:
                self._looking = True
                threading.Thread(target=self._look, name="rejected", daemon=True).start()

    def _look(self) -> None:
        """Until nothing waits to be said."""
        while True:
            time.sleep(self._quiet_s / 4.0)
            self._say(time.monotonic())
            with self._lock:
                if not self._rejected:
                    self._looking = False
                    return

    def _say(self, now_s: float) -> None:
        with self._lock:
            over = self._rejected.over(now_s)
        for code, count in over:
            print(console.rejected(code, count), flush=True)
