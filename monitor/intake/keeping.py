"""Instances on their way to disk, as they come: hashed fragment by fragment, written in few pieces. Bytes.

Invariant: what is kept is a whole Part 10 file under its own hash, its preamble zero (CVE-2019-11687), on
the disk before ``keep`` returns; nothing of what is not kept stays behind. What a sender chose is never
part of a path.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import struct
from pathlib import Path

_NUMBERS = itertools.count(1)
# Written at once: a slice of 0.5 MB in fragments of 16 kB takes three times as long.
_GATHERED = 2**22


class Part:
    """One file in the making. Every method may raise ``OSError``, after which nothing of it is left."""

    def __init__(self, folder: Path, head: bytes) -> None:
        self._folder = folder
        self._path = folder / f"{os.getpid()}_{next(_NUMBERS)}.part"
        self._digest = hashlib.sha256()
        self._waiting = bytearray()
        self.size = 0
        self._descriptor: int | None = os.open(
            self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640
        )
        self.write(memoryview(head))

    def write(self, data: memoryview) -> None:
        self._digest.update(data)
        self.size += len(data)
        self._waiting += data
        if len(self._waiting) >= _GATHERED:
            self._write()

    def _write(self) -> None:
        assert self._descriptor is not None
        data, self._waiting = memoryview(self._waiting), bytearray()
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            self.discard()
            raise

    def keep(self, durable: bool) -> str:
        """The hash under which the file is kept. What was kept under it before stays until this one, the same
        bytes, is on the disk."""
        self._write()
        assert self._descriptor is not None
        sha256 = self._digest.hexdigest()
        kept = self._folder / f"{sha256}.dcm"
        try:
            if kept.exists():
                if durable:
                    os.fdatasync(self._descriptor)
                os.replace(self._path, kept)
            else:
                # First the name: on a journalling file system it is on the disk with the file's first sync.
                os.rename(self._path, kept)
                self._path = kept
                if durable:
                    os.fdatasync(self._descriptor)
        except OSError:
            self.discard()
            raise
        os.close(self._descriptor)
        self._descriptor = None
        return sha256

    def discard(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            self._path.unlink(missing_ok=True)


def free_bytes(folder: Path) -> int:
    """For whom is not root."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def part10_head(sop_class: str, sop_instance: str, syntax: str, implementation: str) -> bytes:
    """Preamble and file meta information (PS3.10 7.1), Explicit VR Little Endian."""
    meta = struct.pack("<HH2sxxL2s", 2, 1, b"OB", 2, b"\0\1")
    for element, uid in ((2, sop_class), (3, sop_instance), (16, syntax), (18, implementation)):
        value = uid.encode("ascii")
        value += b"\0" * (len(value) % 2)
        meta += struct.pack("<HH2sH", 2, element, b"UI", len(value)) + value
    length = struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(meta))
    return b"\0" * 128 + b"DICM" + length + meta
