"""What takes longer than a moment, on a thread of its own, its result back on the window's. No units.

Invariant: one piece of work at a time; its result comes once, or its error does.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from PyQt5.QtCore import QObject, QRunnable, QThreadPool, pyqtSignal


class _Signals(QObject):
    done = pyqtSignal(object, object)


class _Task(QRunnable):
    def __init__(self, work: Callable[[], Any], signals: _Signals) -> None:
        super().__init__()
        self._work, self._signals = work, signals

    def run(self) -> None:
        try:
            result = self._work()
        except Exception as error:
            traceback.print_exc()
            self._signals.done.emit(None, error)
        else:
            self._signals.done.emit(result, None)


class Worker(QObject):
    """``busy`` while at work; ``changed`` when that changes."""

    changed = pyqtSignal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.busy = False
        self._pool = QThreadPool(self)
        self._pool.setMaxThreadCount(1)
        self._signals: _Signals | None = None

    def do(
        self,
        work: Callable[[], Any],
        then: Callable[[Any], None],
        failed: Callable[[Exception], None],
    ) -> bool:
        """Starts the work unless there is some already."""
        if self.busy:
            return False
        self.busy = True
        self._signals = signals = _Signals()
        signals.done.connect(lambda result, error: self._over(result, error, then, failed))
        self._pool.start(_Task(work, signals))
        self.changed.emit()
        return True

    def _over(self, result: Any, error: Any, then: Any, failed: Any) -> None:
        self.busy = False
        self.changed.emit()
        if error is None:
            then(result)
        else:
            failed(error)

    def finish(self) -> None:
        """Waits for what is at work, at most some seconds."""
        self._pool.waitForDone(10_000)
