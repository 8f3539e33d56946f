"""Checkpoints: RECORD/checkpoints/<seq>.state, what was known after the input on the journal's line ``seq``.

A procedure is gone on with from the newest one and the lines after it, instead of from the first line. A
checkpoint is a head (one line of JSON) and a pickle, whose loader knows this program's dataclasses and
enumerations, NumPy's arrays and nothing else: what a file says can make data, and call nothing
(docs/decisions/0015). Volumes are named, not copied. Invariant: a checkpoint that is damaged, or of another
version of the program, is passed over; nothing depends on there being one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import hashlib
import io
import json
import mmap
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import gpu_kernels
import monitor

FOLDER = "checkpoints"
_KEPT = 2
_OURS = ("monitor.", "gpu_kernels.")
# How NumPy and the standard library pickle arrays, types, paths and read-only mappings.
_THEIRS = frozenset(
    {
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("pathlib", "PosixPath"),
        ("collections", "OrderedDict"),
        ("types", "MappingProxyType"),
        ("builtins", "frozenset"),
        ("builtins", "set"),
    }
)


@dataclass(frozen=True)
class Checkpoint:
    """``known`` after the input on line ``seq`` of the journal, all of whose results are on lines up to
    ``until``, with the case at ``case`` (relative to the record)."""

    seq: int
    until: int
    case: str
    known: Any


class Checkpoints:
    """Writes them on a thread of its own; of those that wait the newest. ``tell`` gets what fails."""

    def __init__(self, record: Path, tell: Callable[[Exception], None]) -> None:
        self._record, self._tell = record, tell
        self._next: Checkpoint | None = None
        self._news, self._over = threading.Condition(), False
        self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
        self._thread.start()

    def take(self, checkpoint: Checkpoint) -> None:
        """Never waits."""
        with self._news:
            self._next = checkpoint
            self._news.notify()

    def close(self) -> None:
        with self._news:
            self._over = True
            self._news.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._over or self._next is not None)
                checkpoint, self._next = self._next, None
            if checkpoint is None:
                return
            try:
                write(self._record, checkpoint)
            except Exception as error:  # the procedure goes on without
                self._tell(error)


def write(record: Path, checkpoint: Checkpoint) -> None:
    """On disk when it returns; of the older ones the newest stays. Raises ``OSError``, or
    ``pickle.PicklingError`` where the state holds what no loader would take."""
    body = io.BytesIO()
    _Pickler(record, body).dump(checkpoint.known)
    data = body.getbuffer()
    head = {
        "seq": checkpoint.seq,
        "until": checkpoint.until,
        "case": checkpoint.case,
        "code": code_hash(),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    folder = record / FOLDER
    folder.mkdir(exist_ok=True)
    part, path = folder / "new.part", folder / f"{checkpoint.seq:08d}.state"
    try:
        with part.open("wb") as file:
            file.write(json.dumps(head).encode() + b"\n")
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    for old in _files(record)[_KEPT:]:
        old.unlink(missing_ok=True)


def read(record: Path, tell: Callable[[str], None]) -> Iterator[Checkpoint]:
    """Those that can be used, the newest first; why another cannot is told."""
    for path in _files(record):
        try:
            yield _read(record, path)
        except Exception as error:  # whatever a damaged file does, the one before is next
            tell(f"{FOLDER}/{path.name}: {type(error).__name__}: {error}")


def remove(record: Path) -> None:
    """Of a procedure that has ended: its journal has all that they hold."""
    for path in _files(record):
        with contextlib.suppress(OSError):  # a disk that is read-only by now
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (record / FOLDER).rmdir()


def _files(record: Path) -> list[Path]:
    return sorted((record / FOLDER).glob("*.state"), reverse=True)


def _read(record: Path, path: Path) -> Checkpoint:
    with path.open("rb") as file:
        head = json.loads(file.readline())
        if head["code"] != code_hash():
            raise ValueError("written by another version of the program")
        data = file.read()
    if len(data) != head["bytes"] or hashlib.sha256(data).hexdigest() != head["sha256"]:
        raise ValueError("its bytes are not those that were written")
    known = _Unpickler(record, io.BytesIO(data)).load()
    return Checkpoint(int(head["seq"]), int(head["until"]), str(head["case"]), known)


@cache
def code_hash() -> str:
    """Of the program's own source: what a state means is written nowhere else."""
    digest = hashlib.sha256(np.__version__.encode())
    for package in (monitor, gpu_kernels):
        for root in package.__path__:
            for path in sorted(Path(root).rglob("*.py")):
                digest.update(path.read_bytes())
    return digest.hexdigest()


# ------------------------------------------------------------------ what is written, and what is taken


class _Pickler(pickle.Pickler):
    def __init__(self, record: Path, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self._volumes = (record / "volumes").resolve()

    def persistent_id(self, obj: Any) -> str | None:
        """A volume as it lies in the record is named."""
        if not (isinstance(obj, np.memmap) and isinstance(obj.base, mmap.mmap)):
            return None
        path = Path(str(obj.filename)).resolve()
        return path.name if path.parent == self._volumes else None

    def reducer_override(self, obj: Any) -> Any:
        """Of a volume that lies elsewhere (the record's disk was full): its voxels."""
        if isinstance(obj, np.memmap):
            return np.array(obj).__reduce_ex__(5)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, record: Path, file: io.BytesIO) -> None:
        super().__init__(file)
        self._volumes = record / "volumes"

    def persistent_load(self, pid: Any) -> Any:
        name = Path(str(pid)).name
        return np.load(self._volumes / name, mmap_mode="r", allow_pickle=False)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _THEIRS:
            return super().find_class(module, name)
        if module.startswith(_OURS) and "." not in name:
            found = super().find_class(module, name)
            if isinstance(found, type) and (
                dataclasses.is_dataclass(found) or issubclass(found, enum.Enum)
            ):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} does not belong into a checkpoint")
