"""The core's end of the process that sends results to the PACS: starts it, feeds it, hears how it stands.

Invariant: no call waits, and none raises; what goes wrong here is said in the journal and at the console, and
is never an alarm: nothing about the patient depends on it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import shlex
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from monitor import console
from monitor.config import PACS_OBJECTS_BY_DEFAULT, ConfigError, PacsConfig
from monitor.delivery.process import Measured, run_delivery
from monitor.intake.tls import TlsError, client_context
from monitor.logs import LogOptions, run
from monitor.model import IceSegmentation
from monitor.sending import CALLING
from monitor.snapshot import Delivered
from monitor.state import State

_SPAWN = multiprocessing.get_context("spawn")
# Surfaces that wait for a process that is busy; what is dropped is made when the procedure has ended.
_MOST = 4
_RESTART_S = 5.0
_STOP_S = 5.0


def check_pacs(config: PacsConfig) -> None:
    """Raises ``ConfigError`` naming the file of [pacs.tls] that is wrong."""
    if config.tls is not None:
        try:
            client_context(config.tls)
        except TlsError as error:
            raise ConfigError(str(error)) from None


class Delivery:
    """Of one procedure. Raises ``ConfigError`` when the files that TLS needs are wrong."""

    def __init__(
        self,
        record: Path,
        config: PacsConfig,
        logs: LogOptions = LogOptions(),  # noqa: B008 (frozen)
    ) -> None:
        self._record, self._config, self._logs = record, config, logs
        check_pacs(config)
        self._seen: IceSegmentation | None = None
        self._news: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
        self._process: Any = None
        self._feed: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._started_s = 0.0
        self._ending = False
        self.standing: Delivered | None = None

    def start(self) -> None:
        pipe, child = _SPAWN.Pipe()
        self._process = _SPAWN.Process(
            target=run, name="pacs", daemon=True,
            args=(self._logs, "pacs", run_delivery, child, self._record, self._config),
        )  # fmt: skip
        self._process.start()
        child.close()
        self._started_s, self._feed = time.monotonic(), queue.SimpleQueue()
        for target in (self._send, self._hear):
            args = (pipe, self._feed) if target is self._send else (pipe,)
            threading.Thread(target=target, args=args, name="pacs", daemon=True).start()

    # ------------------------------------------------------------------ the watch

    def look(self, state: State) -> list[tuple[str, dict[str, Any]]]:
        """A surface that is new goes out; what is to be journalled comes back."""
        try:
            self._keep_alive()
            self._offer(state)
        except Exception as error:  # of no consequence for the procedure
            before = self.standing or Delivered(self._config.ae_title, "failed", 0, 0, 0)
            self.standing = replace(
                before, code="failed", reason=f"{type(error).__name__}: {error}"
            )
            if self.standing != before:
                self._news.put(("delivery", asdict(self.standing)))
        said = []
        while not self._news.empty():
            said.append(self._news.get())
        return said

    def _keep_alive(self) -> None:
        gone = self._process is not None and self._process.exitcode is not None
        if gone and not self._ending and time.monotonic() - self._started_s > _RESTART_S:
            self._news.put(
                ("process_restarted", {"process": "pacs", "exit": self._process.exitcode})
            )
            self.start()

    def _offer(self, state: State) -> None:
        ice, volume, moved = state.ice, state.volume, state.registration
        if ice is self._seen or ice is None or volume is None or moved is None:
            return
        self._seen = ice
        baseline = state.baseline_volume
        if ice.volume_id != volume.volume_id or ice.sdf_mm is None:
            return
        if baseline is not None and baseline.volume_id == volume.volume_id:
            return
        if self._feed.qsize() < _MOST:
            self._feed.put(Measured(volume, ice, moved).lighter())

    # ------------------------------------------------------------------ the end

    def end(self, say: Callable[[str], None], stopped: threading.Event) -> None:
        """The record is whole: the rest is made and sent. Until that is done, given up, or ``stopped``."""
        self._ending = True
        if self._process is None or self._process.exitcode is not None:
            self.start()
        self._feed.put("end")
        told = self.standing
        say(f"Sending the results to {self._config.ae_title}; Ctrl-C leaves the rest in the spool.")
        while self._process.exitcode is None and not stopped.is_set():
            self._process.join(0.2)
            if self.standing is not None and self.standing != told:
                told = self.standing
                say(said(told))
        self._feed.put("stop")
        self._process.join(_STOP_S)
        if self._process.exitcode is None:
            self._process.terminate()
        if self.standing is not None and (self.standing.waiting or self.standing.refused):
            later = shlex.join(send_command(self._record, self._config))
            say(f"Not sent: {said(self.standing)}. To go on later: {later}")

    # ------------------------------------------------------------------ the pipe

    @staticmethod
    def _send(pipe: Connection, feed: queue.SimpleQueue[Any]) -> None:
        # A broken pipe means that the process died: whoever watches sees its exit code.
        with contextlib.suppress(OSError):
            while True:
                pipe.send(feed.get())

    def _hear(self, pipe: Connection) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                standing: Delivered = pipe.recv()
                before, self.standing = self.standing, standing
                if _worth_a_line(before, standing):
                    self._news.put(("delivery", asdict(standing)))


def send_command(record: Path, c: PacsConfig) -> list[str]:
    """What goes on with it, as it was configured."""
    given = ["iceball", "send", str(record), "--to", f"{c.ae_title}@{c.host}:{c.port}"]
    if c.calling != CALLING:
        given += ["--calling", c.calling]
    if c.tls is not None:
        files = (("ca", c.tls.ca), ("certificate", c.tls.certificate), ("key", c.tls.key))
        given += [w for name, p in files if p is not None for w in (f"--tls-{name}", str(p))]
        given += ["--tls-host", c.tls.host] if c.tls.host else []
    if set(c.objects) != set(PACS_OBJECTS_BY_DEFAULT):
        given += ["--objects", *c.objects]
    return given


def _worth_a_line(before: Delivered | None, now: Delivered) -> bool:
    """Not every turn of a receiver that stays away, and not that it is being tried."""
    if now.code == "sending":
        return False
    return (
        before is None
        or now.code == "sent"
        or (before.code, before.reason) != (now.code, now.reason)
    )


def said(d: Delivered) -> str:
    """For a terminal."""
    return str(console.line("delivery", asdict(d)))
