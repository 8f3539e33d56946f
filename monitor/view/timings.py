"""What the view's thread is busy with, for the benchmark: every event, timed. Monotonic seconds.

Asked for by the environment (``ICEBALL_VIEW_TIMINGS=FILE``), never in a procedure otherwise. One JSON
object a line: ``event`` a key or a turn of the wheel as it was taken up; ``painted`` the end of a paint
of the window, with what it shows; ``block`` whatever held the thread for longer than ``BLOCK_S``.
Invariant: only the outermost of nested events is a block; times are comparable with other processes'.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from PyQt5.QtCore import QEvent
from PyQt5.QtWidgets import QApplication

VARIABLE = "ICEBALL_VIEW_TIMINGS"
BLOCK_S = 0.010
_KINDS: Any = QEvent
_INPUT = (_KINDS.KeyPress, _KINDS.Wheel)
_UPDATE_REQUEST = 77  # of the whole window: all its paint events come within it


class TimedApplication(QApplication):
    """An application that writes its timings into a file."""

    def __init__(self, arguments: list[str], path: Path) -> None:
        super().__init__(arguments)
        self.window: Any = None
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self._depth = 0

    def notify(self, receiver: Any, event: Any) -> bool:
        kind, began, began_cpu = event.type(), time.monotonic(), time.thread_time()
        self._depth += 1
        try:
            return bool(super().notify(receiver, event))
        finally:
            self._depth -= 1
            ended = time.monotonic()
            if self._depth == 0 and ended - began > BLOCK_S:
                cpu_s = time.thread_time() - began_cpu
                of = type(receiver).__name__
                self._write("block", began, ended, type=int(kind), of=of, cpu_s=cpu_s)
            if kind in _INPUT and self._depth == 0:
                self._write("event", began, ended, type=int(kind))
            elif kind == _UPDATE_REQUEST and self.window is not None:
                self._write("painted", began, ended, **self._shown())

    def _shown(self) -> dict[str, Any]:
        s = self.window.model and self.window.scene.snapshot
        a = s.assessment if s else None
        return {
            "cursor": self.window.scene.cursor() if s else None,
            "volume": a.volume_id if a is not None and a.lesion_covered is not None else None,
            "lesion": self.window.model.lesion.value if self.window.model else None,
        }

    def _write(self, what: str, began: float, ended: float, **fields: Any) -> None:
        line = {"what": what, "at": began, "end": ended, **fields}
        self._file.write(json.dumps(line) + "\n")
