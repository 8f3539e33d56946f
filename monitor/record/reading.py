"""A record read back: the lines of its journal, its instances, its volumes. Times are UTC seconds.

Nothing here writes. Invariant: what is damaged or missing is a ``Finding`` that says where; only a
journal that cannot be read at all, or is of another format, raises.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from monitor.model import CtVolume, Instance
from monitor.record.cases import sha256_of
from monitor.record.journal import FORMAT_VERSION, JOURNAL, RecordError
from monitor.record.using import share


@dataclass(frozen=True)
class JournalLine:
    """``number`` is the line's in the file, from 1; ``fields`` is all of it."""

    number: int
    seq: int
    at_utc_s: float
    kind: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """Something of a record that is damaged, missing, or not what is worked out again from it.
    ``line`` of the journal; ``field``, ``recorded`` and ``recomputed`` where values differ."""

    line: int
    code: str
    text: str
    field: str | None = None
    recorded: Any = None
    recomputed: Any = None


Tell = Callable[[Finding], None]


@contextlib.contextmanager
def in_use(record: Path) -> Iterator[None]:
    """The record cannot be deleted meanwhile. One without a journal is told by whoever reads it. Raises
    ``RecordError`` when it is being deleted."""
    path = record / JOURNAL
    with contextlib.ExitStack() as opened:
        try:
            share(opened.enter_context(path.open("rb")).fileno())
        except BlockingIOError as error:
            raise RecordError(f"{path}: {error.strerror}") from None
        except OSError:
            pass
        yield


def read_journal(record: Path, tell: Tell) -> list[JournalLine]:
    """The lines that are whole, each once: of what was appended after its disk had become read-only, it may
    have some already, and zeros in the place of others. Raises ``RecordError`` when there is no journal of
    this format."""
    path = record / JOURNAL
    try:
        raw = path.read_bytes().split(b"\n")
    except OSError as error:
        how = f"; iceball records {record} lists the records below it" if record.is_dir() else ""
        raise RecordError(f"{path}: {error.strerror}{how}") from None
    if torn := raw.pop():
        text = f"torn off: {len(torn)} byte(s) without an end of line, not read"
        tell(Finding(len(raw) + 1, "torn_line", text))
    first = dict(zip(reversed(raw), range(len(raw), 0, -1), strict=True))
    # At the end they may be of lines that came, and of a procedure that goes on: that is told.
    said = [(n, text) for n, text in enumerate(raw, 1) if text.strip(b"\0") or n == len(raw)]
    once = [(n, text) for n, text in said if first[text] == n]
    lines = [line for n, text in once if (line := _line(n, text, tell))]
    _check_format(path, lines)
    for before, line in pairwise(lines):
        if line.seq != before.seq + 1:
            text = f"seq goes from {before.seq} to {line.seq}: lines are missing or out of order"
            tell(Finding(line.number, "journal_gap", text))
    return lines


def check_end(lines: list[JournalLine], tell: Tell) -> None:
    """A procedure that was ended says so in its last line."""
    if lines[-1].kind != "procedure_ended":
        text = "the journal ends here without procedure_ended: cut off, or still being written"
        tell(Finding(lines[-1].number, "unfinished", text))


def _line(number: int, raw: bytes, tell: Tell) -> JournalLine | None:
    try:
        fields = json.loads(raw.decode("utf-8"))
        at_utc_s = datetime.fromisoformat(fields["at"]).timestamp()
        return JournalLine(number, int(fields["seq"]), at_utc_s, str(fields["kind"]), fields)
    except (ValueError, KeyError, TypeError) as error:
        text = f"not a line of a journal ({type(error).__name__}: {error})"
        tell(Finding(number, "unreadable_line", text))
        return None


def _check_format(path: Path, lines: list[JournalLine]) -> None:
    first = lines[0] if lines else None
    if first is None or first.number != 1 or first.kind != "procedure_started":
        raise RecordError(f"{path}:1: not the beginning of a procedure")
    found = first.fields.get("format_version")
    if found != FORMAT_VERSION:
        raise RecordError(
            f"{path}:1: journal format {found}; this program reads format {FORMAT_VERSION}"
        )


# ------------------------------------------------------------------ files


def check_instance(record: Path, instance: Instance, number: int, tell: Tell) -> bool:
    """Whether an instance's bytes are there; told when they are not, or are others than received."""
    places = [record / instance.path, record / "quarantine" / Path(instance.path).name]
    found = next((p for p in places if p.is_file()), None)
    if found is None:
        tell(Finding(number, "file_missing", f"{instance.path} is not in the record"))
        return False
    _check_hash(record, str(found.relative_to(record)), instance.sha256, number, tell)
    return True


def check_case(record: Path, kept: Mapping[str, Any], number: int, tell: Tell) -> None:
    """Whether every file of a case is there, and as it was kept."""
    check_files(record, kept["sha256"], number, tell)


def check_files(record: Path, hashes: Mapping[str, Any], number: int, tell: Tell) -> None:
    """Whether files of the record are there, and as they were kept."""
    for name, sha256 in hashes.items():
        if (record / name).is_file():
            _check_hash(record, name, sha256, number, tell)
        else:
            tell(Finding(number, "file_missing", f"{name} is not in the record"))


def check_volume(record: Path, volume: CtVolume, number: int, tell: Tell) -> None:
    """The pixels on record against those worked out again."""
    name = f"volumes/{volume.volume_id}.npy"
    try:
        hu = np.load(record / name, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        tell(Finding(number, "volume_unreadable", f"{name}: {error}"))
        return
    if not np.array_equal(hu, volume.hu):
        tell(Finding(number, "volume_differs", f"{name} holds other pixels than its instances"))


def _check_hash(record: Path, name: str, sha256: str, number: int, tell: Tell) -> None:
    found = sha256_of(record / name)
    if found != sha256:
        text = f"{name} is not what was recorded: its SHA-256 has changed"
        tell(Finding(number, "file_changed", text, "sha256", sha256, found))
