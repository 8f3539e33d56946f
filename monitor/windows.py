"""The processes that show a procedure: the room's screen, the console, a stream. Seconds, monotonic.

Invariant: one that dies is started again, with what holds by then; windows that a killed program has left
stay until the new ones have had time to appear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from monitor.logs import LogOptions
from monitor.record.running import Running
from monitor.screen import Screen
from monitor.snapshot import Snapshot
from monitor.streaming.process import StreamOptions
from monitor.view.console.process import ConsoleOptions
from monitor.view.process import ViewOptions

# A window is on the screen so long after its process was started.
_APPEAR_S = 4.0

Options = ViewOptions | ConsoleOptions | StreamOptions


class Windows:
    """``wanted``: by its name, what each is started with, asked for whenever it is. ``on_act``: as of
    ``Screen``."""

    def __init__(
        self,
        wanted: Mapping[str, Callable[[], Options]],
        on_act: Callable[[str, Any, Any], None],
        logs: LogOptions,
        running: Running,
        mono_s: Callable[[], float],
    ) -> None:
        self._wanted, self._on_act, self._logs = wanted, on_act, logs
        self._running, self._mono_s = running, mono_s
        self._screens: dict[str, Screen] = {}
        self._pids: list[int] = []
        self._since_mono_s = 0.0

    def __len__(self) -> int:
        return len(self._screens)

    def start(self) -> None:
        for name in self._wanted:
            self._start(name)

    def start_again(self) -> dict[str, int]:
        """Those that had died, with their exit statuses."""
        dead = {n: s.exitcode for n, s in self._screens.items() if s.exitcode is not None}
        for name in dead:
            self._start(name)
        return dead

    def show(self, snapshot: Snapshot) -> None:
        for screen in self._screens.values():
            screen.show(snapshot)
        self._note()

    def pass_on(self, name: str, message: tuple[str, str]) -> None:
        """To one of them, if it is there."""
        if name in self._screens:
            self._screens[name].pass_on(message)

    def alive(self) -> dict[str, bool]:
        return {name: screen.exitcode is None for name, screen in self._screens.items()}

    def quit(self) -> None:
        for screen in self._screens.values():
            screen.quit()

    def _start(self, name: str) -> None:
        self._screens[name] = Screen(self._wanted[name](), self._on_act, self._logs)

    def _note(self) -> None:
        """Which processes these are; those that were left go when these have had time to appear."""
        pids = [screen.pid for screen in self._screens.values()]
        if pids != self._pids:
            self._pids, self._since_mono_s = pids, self._mono_s()
            self._running.note(pids)
        elif self._running.left and self._mono_s() - self._since_mono_s > _APPEAR_S:
            self._running.clear_away()
            self._running.note(pids)
