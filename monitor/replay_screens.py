"""``iceball replay RECORD --view``: a record on the screens of the room. Real seconds; UTC of the record.

A worker thread works the record out, as far ahead as it can; another plays what is there, four times a
second, or at once when an operator asks for something.
Invariant: no act of an operator gets farther than the player, and the record is only read.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_kernels.select import open_engine, warm_up
from monitor.playback import Head, alarms_over_time, moments, scans_in
from monitor.prediction.ensemble import MOST_LATENT
from monitor.record.reading import Finding, read_journal
from monitor.replay import first_procedure
from monitor.screen import Screen
from monitor.view.console.process import ConsoleOptions
from monitor.view.legibility import ROOM, Viewing
from monitor.view.process import ViewOptions

_TURN_S = 0.25
_REFUSED = "replay: a record cannot be changed"
_REFUSED_FOR_S = 6.0


@dataclass(frozen=True)
class ReplayOptions:
    """``engine`` None: the one that was recorded with. ``language`` None: the case's."""

    record: Path
    pace: float = 1.0
    show: str = "room"
    monitor: int | None = None
    engine: str | None = None
    language: str | None = None
    viewing: Viewing = ROOM
    size: tuple[int, int] | None = None


class ReplayScreens:
    """A record being played: ``start``, then ``finish``. ``stopping`` is set when it should end."""

    def __init__(self, options: ReplayOptions, tell: Callable[[Finding], None]) -> None:
        self.options, self._tell = options, tell
        self._lines = read_journal(options.record, tell)
        self.config = first_procedure(options.record, self._lines, lambda _: None).config
        recorded_with = str(self._lines[0].fields.get("engine"))
        self._engine = open_engine(options.engine or recorded_with, MOST_LATENT)
        self.stopping, self._wake = threading.Event(), threading.Event()
        self.began_utc_s, ends_utc_s = self._lines[0].at_utc_s, self._lines[-1].at_utc_s
        self._head = Head(
            self.began_utc_s,
            ends_utc_s,
            alarms_over_time(self._lines),
            scans_in(self._lines),
            options.pace,
        )
        self._lock = threading.Lock()
        self._scratch = Path(tempfile.mkdtemp(prefix="iceball-replay-"))
        self._refused_until_s = 0.0
        self._screens: list[Screen] = []
        self._worker = threading.Thread(target=self._work, name="replay", daemon=True)
        self._player = threading.Thread(target=self._play, name="player", daemon=True)

    def start(self) -> None:
        language = self.options.language or self.config.language
        if self.options.show != "console":
            shown = ViewOptions(
                language=language,
                viewing=self.options.viewing,
                size=self.options.size,
                show=self.options.show,
                monitor=self.options.monitor,
            )
            self._screens.append(Screen(shown, self.act))
        if self.options.show != "room":
            folder = str(self._scratch / "console")
            beside = ConsoleOptions(
                folder,
                self.config.listener,
                language=language,
                show=self.options.show,
                monitor=self.options.monitor,
            )
            self._screens.append(Screen(beside, self.act))
        self._worker.start()
        self._player.start()

    def finish(self) -> None:
        self.stopping.set()
        self._player.join()
        self._worker.join()
        for screen in self._screens:
            screen.quit()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def act(self, act: str, alarm: Any = None, params: Any = None) -> None:
        """From a screen. What is not the player's is refused, and that is said."""
        if act == "quit":
            self.stopping.set()
            self._wake.set()
            return
        number = (params or {}).get("number")
        with self._lock:
            if not self._head.act(act, number if isinstance(number, int) else None):
                self._refused_until_s = time.monotonic() + _REFUSED_FOR_S
        self._wake.set()

    # ------------------------------------------------------------------ threads

    def _work(self) -> None:
        """Works the record out; where that fails, what was worked out can still be played."""
        try:
            warm_up(self._engine)
            told = moments(
                self.options.record, self._lines, self._engine, self._scratch, self._tell
            )
            for moment in told:
                with self._lock:
                    self._head.add(moment)
                if self.stopping.is_set():
                    return
        except Exception as error:
            traceback.print_exception(error)
            with self._lock:
                self._head.complete(broken=True)
        else:
            with self._lock:
                self._head.complete()

    def _play(self) -> None:
        """Until it is to stop, or every window has been closed or has died."""
        last = time.monotonic()
        while not self.stopping.is_set():
            self._wake.wait(_TURN_S)
            self._wake.clear()
            now = time.monotonic()
            with self._lock:
                self._head.pass_time(now - last)
                shown = self._head.shown(_REFUSED if now < self._refused_until_s else None)
            last = now
            if shown is not None:
                for screen in self._screens:
                    screen.show(shown)
            if all(s.exitcode is not None for s in self._screens):
                self.stopping.set()
