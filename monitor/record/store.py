"""The record's files: RECORD/blobs (instances as received), quarantine, volumes, screens; and the
scratch folder through which the core shares fields with the screen. What the disk does not take goes into
a ``spare`` folder in memory, if there is one, so that the screen has it all the same.

Pixels are int16 Hounsfield units (z, y, x). Invariant: nothing in the record is overwritten or
deleted; an instance is either in ``blobs`` or, rejected, in ``quarantine``.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections import deque
from pathlib import Path

import numpy as np
import numpy.typing as npt

from monitor.model import CtVolume, Rejected
from monitor.record.journal import RecordError
from monitor.snapshot import ArrayRef

FOLDERS = ("blobs", "quarantine", "volumes", "screens")

# A screen a few snapshots behind can still open what its snapshot names.
_GENERATIONS = 4


class Store:
    """Files of one record. Raises ``RecordError`` naming what could not be written."""

    def __init__(
        self,
        record: Path,
        scratch: Path,
        generations: int | None = _GENERATIONS,
        spare: Path | None = None,
    ) -> None:
        """``generations`` of each field are kept; None: all. A scratch folder of before is gone on with."""
        self.record = record
        # Why the last file had to go into ``spare``; the volumes of which that is so.
        self.failing: RecordError | None = None
        self._owed: dict[str, Path] = {}
        self._spare = spare
        self._scratch, self._generations = scratch, generations
        self._numbers = itertools.count(_last_number(scratch) + 1)
        self._kept: dict[str, deque[Path]] = {}
        for folder in (*(record / name for name in FOLDERS), scratch):
            folder.mkdir(parents=True, exist_ok=True)

    def keep_volume(self, volume: CtVolume) -> ArrayRef:
        """The assembled pixels, for other programs and as shared memory for the screen."""
        path = self.record / "volumes" / f"{volume.volume_id}.npy"
        ref = self._save(path, volume.hu)
        if Path(ref.path) != path:
            self._owed[ref.path] = path
        return ref

    def pay(self) -> None:
        """Volumes that went into the spare folder are kept in the record as well; one that somebody has taken
        from there is found missing by a replay, which makes it of its images. Raises ``RecordError``."""
        for spare, path in list(self._owed.items()):
            if Path(spare).exists():
                self._write(path, np.load(spare, mmap_mode="r"))
            del self._owed[spare]
        if self.failing is not None:
            self._write(self._scratch / "probe.npy", np.zeros(2**17))
            (self._scratch / "probe.npy").unlink()
            self.failing = None

    def keep_field(self, name: str, array: npt.NDArray[np.generic]) -> ArrayRef:
        """A field for the screen (signed distances, temperatures), under a name never used twice."""
        path = self._scratch / f"{next(self._numbers):05d}_{name}.npy"
        kept = self._kept.setdefault(name, deque())
        kept.append(path)
        if self._generations is not None and len(kept) > self._generations:
            self._remove(kept.popleft())
        return self._save(path, array)

    def _remove(self, path: Path) -> None:
        """Wherever it is. A disk that takes nothing gives nothing back either."""
        for folder in (path.parent, self._spare):
            if folder is not None:
                with contextlib.suppress(OSError):
                    (folder / path.name).unlink(missing_ok=True)

    def quarantine(self, rejected: Rejected) -> str:
        """Moves a rejected instance out of ``blobs``, with its reason beside it. Returns the path
        relative to the record. A duplicate's bytes may belong to an accepted instance: they stay."""
        source = self.record / rejected.instance.path
        target = self.record / "quarantine" / source.name
        if rejected.reason.code == "duplicate_instance" or not source.exists():
            return rejected.instance.path
        reason = {"code": rejected.reason.code, "text": rejected.reason.text}
        try:
            os.replace(source, target)
            target.with_suffix(".json").write_text(json.dumps(reason) + "\n", encoding="utf-8")
        except OSError as error:
            raise RecordError(f"{target}: {error.strerror or error}") from error
        return str(target.relative_to(self.record))

    def _save(self, path: Path, array: npt.NDArray[np.generic]) -> ArrayRef:
        try:
            return self._write(path, array)
        except RecordError as error:
            if self._spare is None:
                raise
            self.failing = error
            with contextlib.suppress(OSError):
                self._spare.mkdir(exist_ok=True)
            return self._write(self._spare / path.name, array)

    def _write(self, path: Path, array: npt.NDArray[np.generic]) -> ArrayRef:
        part = path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                np.save(file, array)
            os.replace(part, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise RecordError(f"{path}: {error.strerror or error}") from error
        return ArrayRef(str(path))


def _last_number(scratch: Path) -> int:
    numbers = (p.name.partition("_")[0] for p in scratch.glob("*.npy"))
    return max((int(n) for n in numbers if n.isdigit()), default=0)
