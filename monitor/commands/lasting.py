"""Standard output and error of a program that outlasts its terminal."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, TextIO


def may_go() -> None:
    """From now on, that the terminal is gone (or who has read from a pipe) is no error of what is printed."""
    sys.stdout, sys.stderr = Patient(sys.stdout), Patient(sys.stderr)


class Patient:
    """A stream that takes what it is given, whatever becomes of it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()
