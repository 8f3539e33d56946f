"""The core's end of the view process: starts it, feeds it, hears the operator through it.

Invariant: ``show`` never waits; a screen that hangs cannot hold up whoever watches over safety, and
of snapshots that pile up only the latest is sent.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from monitor.logs import LogOptions, run
from monitor.snapshot import Snapshot
from monitor.streaming.process import StreamOptions, run_stream
from monitor.view.console.process import ConsoleOptions, run_console
from monitor.view.process import ViewOptions, run_view

_SPAWN = multiprocessing.get_context("spawn")
_QUIT_S = 20.0


def _named(
    options: ViewOptions | ConsoleOptions | StreamOptions,
) -> tuple[str, Callable[..., None]]:
    if isinstance(options, StreamOptions):
        return "openigtlink", run_stream
    return ("console", run_console) if isinstance(options, ConsoleOptions) else ("view", run_view)


class Screen:
    """One process that is shown snapshots: the room's screen, the console or a stream. ``on_act`` gets the
    operator's acts, each with the alarm that it is about, if any (code, about), and its params, on a thread
    of the screen's own."""

    def __init__(
        self,
        options: ViewOptions | ConsoleOptions | StreamOptions,
        on_act: Callable[[str, Any, Any], None],
        logs: LogOptions = LogOptions(),  # noqa: B008 (frozen)
    ) -> None:
        self._on_act = on_act
        self._latest: Snapshot | None = None
        self._passed: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._news = threading.Event()
        self._over = False
        self._pipe, child = _SPAWN.Pipe()
        self._process = _SPAWN.Process(
            target=run,
            name="view",
            args=(logs, *_named(options), child, options),
            daemon=True,
        )
        self._process.start()
        child.close()
        self._sender = threading.Thread(target=self._send, name="screen", daemon=True)
        self._sender.start()
        threading.Thread(target=self._hear, args=(self._pipe,), name="acts", daemon=True).start()

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    @property
    def exitcode(self) -> int | None:
        """None while it lives."""
        return self._process.exitcode

    def show(self, snapshot: Snapshot) -> None:
        self._latest = snapshot
        self._news.set()

    def pass_on(self, message: tuple[str, str]) -> None:
        """What another window's operator did that is this one's business. Never waits."""
        self._passed.put(message)
        self._news.set()

    def quit(self) -> None:
        """Asks it to end, after what was shown last; then makes it."""
        self._over = True
        self._news.set()
        self._sender.join(_QUIT_S)
        self._process.join(_QUIT_S)
        if self._process.is_alive():
            self._process.terminate()

    def _send(self) -> None:
        sent: Snapshot | None = None
        # A broken pipe means that the process died: whoever watches sees its exit code.
        with contextlib.suppress(OSError):
            while True:
                self._news.wait()
                self._news.clear()
                over, latest = self._over, self._latest
                while not self._passed.empty():
                    self._pipe.send(self._passed.get())
                if latest is not None and latest is not sent:
                    self._pipe.send(("snapshot", latest))
                    sent = latest
                if over:
                    self._pipe.send(("quit",))
                    return

    def _hear(self, pipe: Connection) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                message: Any = pipe.recv()
                if isinstance(message, dict) and "act" in message:
                    act, params = str(message["act"]), message.get("params")
                    self._on_act(act, message.get("alarm"), params)
