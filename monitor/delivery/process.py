"""The process that gives results to the PACS while a procedure runs. Seconds.

It gets each measured surface through a pipe, makes the SEG, puts it on the spool and sends what waits there;
when the procedure has ended it works the record out once more and sends the rest. Invariant: nobody waits for
it, and what it was killed over is made again at the end: from the spool, or from the record.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from monitor.config import PacsConfig
from monitor.export import Targets, export, ice_object, measured_at, objects_named, save
from monitor.imaging.registration import Registration
from monitor.model import CtVolume, IceSegmentation
from monitor.record.account import account
from monitor.record.journal import RecordError
from monitor.record.reading import in_use, read_journal
from monitor.record.spool import Spool
from monitor.sending import Receiver, Trouble, send_all
from monitor.snapshot import Delivered

# What a case calls them, and what the export does.
# The core has a result before its lines are on the disk.
_JOURNAL_S = 20.0
_LOOK_S = 0.2
SPOOL = "spool"


@dataclass(frozen=True)
class Measured:
    """A scan's ice, without what making a SEG does not need."""

    volume: CtVolume
    ice: IceSegmentation
    registration: Registration

    def lighter(self) -> Measured:
        """The pixels and what was seen are in the record, and large."""
        volume = replace(self.volume, hu=np.zeros((0, 0, 0), np.int16))
        return replace(self, volume=volume, ice=replace(self.ice, known=np.zeros((0, 0, 0), bool)))


def run_delivery(pipe: Connection, record: Path, config: PacsConfig) -> None:
    """Until it has been told that the procedure is over and all is sent, or to stop, or nobody is there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the core decides when to stop
    with contextlib.suppress(OSError):
        os.nice(10)
    _Delivering(pipe, record, config).run()


class _Delivering:
    def __init__(self, pipe: Connection, record: Path, config: PacsConfig) -> None:
        self._pipe, self._record, self._config = pipe, record, config
        self._spool = Spool.of(record / SPOOL, config.ae_title, config.host, config.port)
        self._to = Receiver(config.ae_title, config.host, config.port, config.calling, config.tls)
        self._stop, self._more, self._over = (threading.Event() for _ in range(3))
        self._idle = threading.Event()
        self._last: Delivered | None = None
        self._speaks = threading.Lock()

    def run(self) -> None:
        sender = threading.Thread(target=self._send, name="sender", daemon=True)
        sender.start()
        with contextlib.suppress(EOFError, OSError):
            while True:
                message: Any = self._pipe.recv()
                if message == "stop":
                    break
                if message == "end":
                    self._rest()
                    self._wait()
                    break
                self._scan(message)
        self._stop.set()
        self._more.set()
        sender.join(_LOOK_S)

    # ------------------------------------------------------------------ made

    def _scan(self, scan: Measured) -> None:
        if "ice" not in self._config.objects:
            return
        try:
            with tempfile.TemporaryDirectory(prefix="iceball-pacs-") as folder:
                made = self._seg(scan)
                if made is not None:
                    self._spool.add(save(Path(folder) / "ice_seg.dcm", made))
                    self._more.set()
        except Exception as error:  # it is made again when the procedure has ended
            self._tell("failed", f"{scan.volume.volume_id}: {type(error).__name__}: {error}")

    def _seg(self, scan: Measured) -> Any:
        """None where the journal does not have it: the export at the end will."""
        until = time.monotonic() + _JOURNAL_S
        while time.monotonic() < until:
            lines = read_journal(self._record, lambda f: None)
            if measured_at(lines, scan.ice) is not None:
                ids = [s.volume_id for s in account(lines, lambda f: None).scans]
                number = ids.index(scan.volume.volume_id) + 1
                return ice_object(
                    self._record, lines, number, scan.volume, scan.ice, scan.registration
                )
            time.sleep(_LOOK_S)
        return None

    def _rest(self) -> None:
        wanted = objects_named(self._config.objects)
        try:
            with (
                in_use(self._record),
                tempfile.TemporaryDirectory(prefix="iceball-pacs-") as folder,
            ):
                written, left_out = export(
                    self._record, Targets(dicom=Path(folder), objects=wanted)
                )
                for path in written:
                    self._spool.add(path)
            for what in left_out:
                self._tell("failed", what)
        except Exception as error:
            self._tell("failed", f"{type(error).__name__}: {error}")
        self._more.set()

    # ------------------------------------------------------------------ sent

    def _send(self) -> None:
        while not self._stop.is_set():
            self._more.clear()
            try:
                if self._spool.pending():
                    self._idle.clear()
                    self._tell("sending")
                    send_all(self._spool, self._to, self._trouble, stop=self._stop)
                    refused = self._spool.refused()
                    self._tell("refused" if refused else "sent", refused[-1][1] if refused else "")
            except (RecordError, OSError) as error:
                self._tell("failed", str(error))
                self._stop.wait(_LOOK_S * 50)
                continue
            if not self._more.is_set():
                self._idle.set()
                self._more.wait()

    def _trouble(self, trouble: Trouble, waiting: int, again_s: float) -> None:
        self._tell(trouble.code, trouble.text)

    def _wait(self) -> None:
        """Until all is sent, whoever started this says so, or it has been tried for long enough."""
        until = time.monotonic() + self._config.give_up_after_s
        while time.monotonic() < until:
            time.sleep(_LOOK_S)
            if self._idle.is_set() and not self._spool.pending():
                return
            if self._pipe.poll() and self._pipe.recv() == "stop":
                return

    def _tell(self, code: str, reason: str = "") -> None:
        """How it stands, when that has changed."""
        standing = Delivered(
            self._to.ae_title,
            code,
            self._spool.count("sent"),
            self._spool.count("pending"),
            self._spool.count("refused"),
            reason,
        )
        with self._speaks:
            if standing != self._last:
                self._last = standing
                with contextlib.suppress(OSError):
                    self._pipe.send(standing)
