"""What a PACS has for the plan, by a process of its own: ``iceball fetch``, whose lines are read as
they come.

The window's thread waits for nothing: a process is asked, and told to stop. Invariant: what came of one
patient is handed on only while the draft is of that patient.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PyQt5.QtCore import QObject, QProcess, QTimer, pyqtSignal

# After which a process that was told to stop is made to.
_PATIENCE_MS = 8000
# Delineations: the plan's images are looked at by who drew on them.
_DRAWN = ("RTSTRUCT", "SEG")


@dataclass(frozen=True)
class Found:
    """A series that may be chosen."""

    study_uid: str
    series_uid: str
    modality: str
    date: str
    description: str


class FromPacs(QObject):
    """``listed`` is what there is to choose from for ``target``; ``received`` of ``of`` while it comes."""

    changed = pyqtSignal()
    fetched = pyqtSignal(str, str)  # target, path
    failed = pyqtSignal(str, str)  # the error's code, and what it is about in no language

    def __init__(self, command: Sequence[str], folder: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.target, self.patient_id = "", ""
        self.listed: tuple[Found, ...] = ()
        self.received: int | None = None
        self.of: int | None = None
        self._command, self._folder = tuple(command), folder
        self._process: QProcess | None = None
        self._lines: list[dict[str, Any]] = []
        self._rest = b""
        self._stopped = False

    @property
    def available(self) -> bool:
        return bool(self._command)

    @property
    def busy(self) -> bool:
        return self._process is not None

    def ask(self, target: str, patient_id: str) -> None:
        """What is drawn of this patient: ``listed``, in time."""
        if self.busy or not self.available:
            return
        self.target, self.patient_id, self.listed = target, patient_id, ()
        self._start(())

    def take(self, row: int) -> None:
        """One of those listed: ``fetched``, in time."""
        if self.busy or not 0 <= row < len(self.listed):
            return
        chosen = self.listed[row]
        self.received = 0
        self._start((
            "--study", chosen.study_uid, "--series", chosen.series_uid, "--to", str(self._folder),
        ))  # fmt: skip

    def forget(self) -> None:
        self.listed = ()

    def cancel(self) -> None:
        """Told to stop; it leaves nothing behind."""
        process = self._process
        if process is not None:
            self._stopped = True
            process.terminate()
            QTimer.singleShot(_PATIENCE_MS, lambda: self._kill(process))

    def _kill(self, process: QProcess) -> None:
        if process is self._process:
            process.kill()

    def finish(self) -> None:
        """The window closes: nobody would hear of it."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            if not process.waitForFinished(_PATIENCE_MS):
                process.kill()
                process.waitForFinished(1000)

    # ------------------------------------------------------------------ the process

    def _start(self, more: Sequence[str]) -> None:
        self._lines, self._rest, self._stopped = [], b"", False
        process = self._process = QProcess(self)
        process.readyReadStandardOutput.connect(self._read)
        process.finished.connect(lambda *_: self._ended(process))
        process.errorOccurred.connect(
            lambda error: (
                self._ended(process) if error == QProcess.ProcessError.FailedToStart else None
            )
        )
        program, *arguments = self._command
        process.start(program, [*arguments, *more])
        process.write(f"{self.patient_id}\n".encode())
        process.closeWriteChannel()
        self.changed.emit()

    def _read(self) -> None:
        if self._process is None:
            return
        *whole, self._rest = (
            self._rest + bytes(self._process.readAllStandardOutput().data())
        ).split(b"\n")
        for text in whole:
            line = json.loads(text)
            if line["kind"] == "progress":
                self.received, self.of = line["received"], line["of"]
            else:
                self._lines.append(line)
        self.changed.emit()

    def _ended(self, process: QProcess) -> None:
        if process is not self._process:
            return
        self._read()
        self._process, self.received, self.of = None, None, None
        process.deleteLater()
        error = next((x for x in self._lines if x["kind"] == "error"), None)
        came = [x for x in self._lines if x["kind"] == "fetched"]
        if self._stopped:
            self.failed.emit("cancelled", "")
        elif error is not None:
            self.failed.emit(error["code"], error["about"])
        elif came and process.exitCode() == 0:
            self._came(came[0])
        elif process.exitCode() == 0:
            self._list()
        else:
            self.failed.emit("program", str(process.exitCode()))
        self.changed.emit()

    def _list(self) -> None:
        known = [x for x in self._lines if x["kind"] == "series" and x["modality"] in _DRAWN]
        names = Found.__dataclass_fields__
        self.listed = tuple(Found(**{n: str(x[n]) for n in names}) for x in known)
        if not known:
            self.failed.emit("no_series", "")

    def _came(self, line: dict[str, Any]) -> None:
        self.listed = ()
        self.fetched.emit(self.target, str(line["path"]))
