"""Instances on their way to disk: what is there under its name when, and what is left when the disk fails."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from monitor.intake.keeping import Part

DATA = b"a slice"
NAME = f"{hashlib.sha256(b'head' + DATA).hexdigest()}.dcm"


def part(folder: Path) -> Part:
    made = Part(folder, b"head")
    made.write(memoryview(DATA))
    return made


@pytest.mark.requirement("REQ-EVERY-SLICE")
def test_the_name_is_there_before_the_file_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a power cut after the answer leaves a whole file under its name: with the sync of a new file a
    journalling file system writes what was done to its directory before."""
    there: list[list[str]] = []
    synced = os.fdatasync

    def seen(descriptor: int) -> None:
        there.append(sorted(p.name for p in tmp_path.iterdir()))
        synced(descriptor)

    monkeypatch.setattr(os, "fdatasync", seen)
    assert f"{part(tmp_path).keep(durable=True)}.dcm" == NAME
    assert there == [[NAME]]
    assert (tmp_path / NAME).read_bytes() == b"head" + DATA


@pytest.mark.requirement("REQ-EVERY-SLICE")
def test_a_disk_that_fails_leaves_nothing_of_the_new_and_all_of_what_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(OSError, match="No space"):
        part(tmp_path).keep(durable=True)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    part(tmp_path).keep(durable=True)
    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(OSError, match="No space"):
        part(tmp_path).keep(durable=True)  # the same again: the first was acknowledged
    assert [p.name for p in tmp_path.iterdir()] == [NAME]
