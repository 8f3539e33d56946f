"""Work of the screen that can wait a moment, one piece to a turn of the event loop.

No units. Invariant: between two pieces keys, clocks and paint events are served, however slow the machine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from PyQt5.QtCore import QObject, QTimer


class Turns(QObject):
    """A queue that a piece of work is in once, however often it is asked for."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._due: deque[Callable[[], None]] = deque()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._next)

    @property
    def waiting(self) -> bool:
        return bool(self._due)

    def add(self, work: Callable[[], None]) -> None:
        if work not in self._due:
            self._due.append(work)
        if not self._timer.isActive():
            self._timer.start(0)

    def _next(self) -> None:
        work = self._due.popleft()
        if self._due:
            self._timer.start(0)
        work()
