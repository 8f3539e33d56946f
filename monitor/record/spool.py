"""Objects that wait for one receiver, on disk: ``pending``, then ``sent`` or ``refused`` (with the reason).

A record's spool has such a folder for each receiver: what one of them has, another may lack. A file is named
by the hash of its bytes, never by anything in it. Invariant: an object leaves ``pending`` only with the
receiver's answer, and is never lost between two folders.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from monitor.record.cases import sha256_of
from monitor.record.journal import RecordError

_STATES = ("pending", "sent", "refused")


@dataclass(frozen=True)
class Spool:
    """Raises ``RecordError`` naming what could not be written."""

    folder: Path

    @classmethod
    def of(cls, spools: Path, ae_title: str, host: str, port: int) -> Spool:
        """The receiver's own in the folder of spools. Its name has no slash, whatever the title has."""
        return cls(spools / quote(f"{ae_title}@{host.lower()}:{port}", safe="@:"))

    def add(self, source: Path) -> bool:
        """Whether it is new here; what was sent is not sent again, what was refused is tried once more."""
        try:
            for state in _STATES:
                (self.folder / state).mkdir(parents=True, exist_ok=True)
            name = f"{sha256_of(source)}.dcm"
            if any((self.folder / s / name).exists() for s in ("pending", "sent")):
                return False
            part = self.folder / "pending" / f".{name}.part"
            shutil.copyfile(source, part)
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(part, self.folder / "pending" / name)
        except OSError as error:
            raise RecordError(f"{error.filename or source}: {error.strerror}") from error
        return True

    def count(self, state: str) -> int:
        """How many objects are ``pending``, ``sent`` or ``refused``."""
        return len(list((self.folder / state).glob("[!.]*.dcm")))

    def pending(self) -> list[Path]:
        return sorted((self.folder / "pending").glob("[!.]*.dcm"))

    def refused(self) -> list[tuple[Path, str]]:
        """What the receiver would not take, and why."""
        found = sorted((self.folder / "refused").glob("*.dcm"))
        return [(p, p.with_suffix(".txt").read_text(encoding="utf-8").strip()) for p in found]

    def sent(self, path: Path) -> None:
        """An earlier refusal of the same object is over."""
        self._move(path, "sent")
        for old in (path.name, path.with_suffix(".txt").name):
            (self.folder / "refused" / old).unlink(missing_ok=True)

    def refuse(self, path: Path, reason: str) -> None:
        try:
            reasons = self.folder / "refused" / path.with_suffix(".txt").name
            reasons.write_text(reason + "\n", encoding="utf-8")
        except OSError as error:
            raise RecordError(f"{error.filename}: {error.strerror}") from error
        self._move(path, "refused")

    def _move(self, path: Path, state: str) -> None:
        try:
            os.replace(path, self.folder / state / path.name)
        except OSError as error:
            raise RecordError(f"{path}: {error.strerror}") from error
