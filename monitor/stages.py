"""How long the parts of a step take (docs/decisions/0019-a-stopwatch-beside-the-core.md). Seconds.

``stage`` marks a part; whoever wants to know runs the step under ``timed_by``. Without one, as in a replay, a
mark does nothing. Invariant: nothing that is computed can depend on it, and a part inside another counts
once: as itself, not as part of the outer one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Stopwatch:
    """``seconds`` by stage since it was last taken. ``now_s``: a monotonic clock. For one thread."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.now_s = now_s
        self._seconds: dict[str, float] = {}
        # Of each stage that is going on: what those inside it have taken.
        self._inside: list[float] = []

    def add(self, name: str, took_s: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + took_s

    def taken(self) -> dict[str, float]:
        """The seconds by stage; from here it counts anew."""
        seconds, self._seconds = self._seconds, {}
        return seconds

    @contextmanager
    def going_on(self, name: str) -> Iterator[None]:
        began_s = self.now_s()
        self._inside.append(0.0)
        try:
            yield
        finally:
            took_s = self.now_s() - began_s
            self.add(name, took_s - self._inside.pop())
            if self._inside:
                self._inside[-1] += took_s


_WATCH: ContextVar[Stopwatch | None] = ContextVar("stopwatch", default=None)


@contextmanager
def timed_by(watch: Stopwatch) -> Iterator[None]:
    """Within it, on this thread, stages are timed."""
    before = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(before)


def stage(name: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """A function that is a stage of its own."""

    def marked(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @wraps(function)
        def timed(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            watch = _WATCH.get()
            if watch is None:
                return function(*args, **kwargs)
            with watch.going_on(name):
                return function(*args, **kwargs)

        return timed

    return marked
