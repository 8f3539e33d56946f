"""The record's files: RECORD/blobs (instances as received), quarantine, volumes, screens; and the
scratch folder through which the core shares fields with the screen.

Pixels are int16 Hounsfield units (z, y, x). Invariant: nothing in the record is overwritten or
deleted; an instance is either in ``blobs`` or, rejected, in ``quarantine``.
"""

from __future__ import annotations

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

    def __init__(self, record: Path, scratch: Path, generations: int | None = _GENERATIONS) -> None:
        """``generations`` of each field are kept; None: all."""
        self.record = record
        self._scratch, self._generations = scratch, generations
        self._numbers = itertools.count(1)
        self._kept: dict[str, deque[Path]] = {}
        for name in FOLDERS:
            (record / name).mkdir(parents=True, exist_ok=True)

    def keep_volume(self, volume: CtVolume) -> ArrayRef:
        """The assembled pixels, for other programs and as shared memory for the screen."""
        return self._save(self.record / "volumes" / f"{volume.volume_id}.npy", volume.hu)

    def keep_field(self, name: str, array: npt.NDArray[np.generic]) -> ArrayRef:
        """A field for the screen (signed distances, temperatures), under a name never used twice."""
        path = self._scratch / f"{next(self._numbers):05d}_{name}.npy"
        kept = self._kept.setdefault(name, deque())
        kept.append(path)
        if self._generations is not None and len(kept) > self._generations:
            kept.popleft().unlink(missing_ok=True)
        return self._save(path, array)

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
            raise RecordError(f"{target}: {error.strerror}") from error
        return str(target.relative_to(self.record))

    def _save(self, path: Path, array: npt.NDArray[np.generic]) -> ArrayRef:
        part = path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                np.save(file, array)
            os.replace(part, path)
        except OSError as error:
            raise RecordError(f"{path}: {error.strerror}") from error
        return ArrayRef(str(path))
