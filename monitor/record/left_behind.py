"""Instances that were kept, and answered with success, and of which the core never heard: the process that
kept them, or the core itself, was killed in between. UTC seconds by the file's own time.

Invariant: an instance that the journal knows, in ``blobs`` or in quarantine, is not among them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from monitor.clock import ProcedureClock
from monitor.model import Instance
from monitor.record.cases import sha256_of
from monitor.record.journal import JOURNAL

_RECEIVED = b'"kind": "instance_received"'
_FOLDERS = ("blobs", "quarantine")
# Of an association that nobody can name any more: no live one has this number.
UNKNOWN_ASSOCIATION = 0


def left_behind(record: Path, names: Iterable[str], clock: ProcedureClock) -> list[Instance]:
    """Those among ``names``, in the order in which they came. A file whose bytes are not those its name says
    was cut off by a power cut, before it was answered: it stays where it is."""
    known = _received(record / JOURNAL)
    missed = [n for n in names if n.endswith(".dcm") and n.removesuffix(".dcm") not in known]
    paths = [p for n in missed for p in _places(record, n) if p.exists()]
    there = sorted((p.stat().st_mtime, p) for p in paths)
    return [
        _instance(path, wall_s, clock) for wall_s, path in there if sha256_of(path) == path.stem
    ]


def kept_names(record: Path) -> frozenset[str]:
    """All that is in ``blobs`` and in quarantine now."""
    return frozenset(p.name for folder in _FOLDERS for p in (record / folder).glob("*.dcm"))


def _places(record: Path, name: str) -> tuple[Path, ...]:
    return tuple(record / folder / name for folder in _FOLDERS)


def _received(journal: Path) -> set[str]:
    """Read anew, since this is rare and a procedure may have very many."""
    found = set()
    with journal.open("rb") as file:
        for line in file:
            if _RECEIVED in line:
                try:
                    found.add(str(json.loads(line)["sha256"]))
                except (ValueError, KeyError):
                    continue  # a damaged line: the instance is taken for one that was not heard of
    return found


def _instance(path: Path, wall_s: float, clock: ProcedureClock) -> Instance:
    try:
        meta = read_file_meta_info(path)
        uids = [
            str(meta.get(name, ""))
            for name in (
                "MediaStorageSOPClassUID",
                "MediaStorageSOPInstanceUID",
                "TransferSyntaxUID",
            )
        ]
    except (InvalidDicomError, OSError, ValueError):
        uids = ["", "", ""]  # the decoder says why it is rejected
    return Instance(
        sha256=path.stem,
        path=f"blobs/{path.name}",
        sop_class_uid=uids[0],
        sop_instance_uid=uids[1],
        transfer_syntax_uid=uids[2],
        association_id=UNKNOWN_ASSOCIATION,
        calling_ae_title="",
        received_utc_s=clock.of_wall(wall_s),
        received_mono_s=clock.mono_s(),
    )
