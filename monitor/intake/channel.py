"""The way from the intake process to the core: bounded, and safe against the death of either end.

A ``multiprocessing.Queue`` shares a lock: a process that is killed while it holds it locks out the next,
and a message cut in two is waited for without end. Here each intake process has a pipe of its own, whose
end is the end of the process. Invariant: the core reads what a dead process had sent, in order, then hears
that it is gone (``IntakeGone``), then reads what the next one sends.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

_AGAIN_S = 0.02
# What the core sends, the other way.
STOP = "stop"


@dataclass(frozen=True)
class IntakeGone:
    """An intake process died. ``kept``: the names in ``blobs`` when it had: what it kept and could not tell
    of any more is among them."""

    kept: frozenset[str]


class Outbox:
    """The listener's end. ``put`` raises ``queue.Full`` when ``size`` messages wait for the core."""

    def __init__(self, pipe: Connection, size: int) -> None:
        self._pipe = pipe
        self._waiting: queue.Queue[Any] = queue.Queue(size)
        self._sender = threading.Thread(target=self._send, name="outbox", daemon=True)
        self._sender.start()

    def put(self, message: Any, timeout: float | None = None) -> None:
        self._waiting.put(message, timeout=timeout)

    def put_nowait(self, message: Any) -> None:
        self._waiting.put_nowait(message)

    def close(self) -> None:
        """When all has been sent, or nobody is there to read it."""
        self._waiting.put(None)
        self._sender.join()
        self._pipe.close()

    def _send(self) -> None:
        gone = False
        while (message := self._waiting.get()) is not None:
            if not gone:
                try:
                    self._pipe.send((self._waiting.qsize(), message))
                except OSError:
                    gone = True  # the core: the intake process is about to notice


class Inbox:
    """The core's end: one thread reads; another may add the pipe of the next intake process."""

    def __init__(self) -> None:
        self._sources: deque[Connection | IntakeGone] = deque()
        # Messages that waited in the listener behind the one read last, when that was sent.
        self.waiting = 0

    def follow(self, pipe: Connection, before: IntakeGone | None = None) -> None:
        """From now on ``pipe``, once what came ``before`` has been read."""
        if before is not None:
            self._sources.append(before)
        self._sources.append(pipe)

    def get(self, timeout: float) -> Any:
        """The next message. Raises ``queue.Empty`` when there is none in time."""
        end_s = time.monotonic() + timeout
        while True:
            if self._sources and isinstance(self._sources[0], IntakeGone):
                return self._sources.popleft()
            left_s = max(end_s - time.monotonic(), 0.0)
            try:
                if self._sources and self._sources[0].poll(left_s):  # type: ignore[union-attr]
                    self.waiting, message = self._sources[0].recv()  # type: ignore[union-attr]
                    return message
            except (EOFError, OSError):  # in the middle of a message, too
                self._over()
                time.sleep(min(left_s, _AGAIN_S))
            if left_s == 0.0:
                raise queue.Empty
            if not self._sources:
                time.sleep(min(left_s, _AGAIN_S))

    def _over(self) -> None:
        """The process at the other end is gone; what it has sent is read."""
        pipe = self._sources[0]
        if len(self._sources) > 1:
            self._sources.popleft()
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
