"""The cases of a record: RECORD/cases/001 for the one it began with, 002 for the first reloaded, …

Each folder holds ``given.toml`` (the case as it was given), the delineations that it names and
``case.toml``, the same case naming those copies. Invariant: what a case in the record names lies
beside it, so that a record that was moved, or whose plan is gone, can still be opened.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.case import anchored
from monitor.record.journal import RecordError
from monitor.toml_text import toml_text

_CASES = "cases"
# Headers whose voxels lie in other files: kept as one file that holds both.
_DETACHED = (".nhdr", ".mhd")


@dataclass(frozen=True)
class KeptCase:
    """A case in the record: ``path`` of its TOML, and the hash of every file, relative to the record."""

    path: str
    sha256: dict[str, str]


def keep_case(record: Path, case: Path) -> KeptCase:
    """Copies a case that can be opened, and what it names, into the record. Raises ``RecordError``."""
    try:
        folder = _new_folder(record / _CASES)
        given = case.read_bytes()
        _write(folder / "given.toml", given)
        text = toml_text(
            _with_copies(
                anchored(tomllib.loads(given.decode("utf-8")), case.parent), case.parent, folder
            )
        )
        _write(folder / "case.toml", text.encode("utf-8"))
        hashes = {str(p.relative_to(record)): sha256_of(p) for p in sorted(folder.iterdir())}
    except OSError as error:
        raise RecordError(f"{error.filename or record}: {error.strerror}") from error
    except (RuntimeError, ValueError) as error:  # ITK; a case that was edited meanwhile
        raise RecordError(f"{case}: cannot be kept in the record: {error}") from error
    return KeptCase(str((folder / "case.toml").relative_to(record)), hashes)


def sha256_of(path: Path) -> str:
    """Hexadecimal. Raises ``OSError``."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _new_folder(cases: Path) -> Path:
    """The next number that is free: two acts may reload at the same time."""
    number = 1
    while True:
        folder = cases / f"{number:03d}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def _with_copies(case: dict[str, Any], of: Path, to: Path) -> dict[str, Any]:
    """The case with the names of the copies. A file that several structures name is copied once."""
    copies: dict[Path, str] = {}
    bodies = [case["lesion"]] if "lesion" in case else []
    for body in (*bodies, *case.get("structure", ())):
        if "file" not in body:
            continue
        source = (of / body["file"]).resolve()
        if source not in copies:
            copies[source] = _copy(source, to, len(copies) + 1)
        body["file"] = copies[source]
    return case


def _copy(source: Path, to: Path, number: int) -> str:
    if source.suffix.lower() in _DETACHED:
        import SimpleITK  # 30 MB, which who only reads a record does not need

        name = f"{number}_{source.stem}.nrrd"
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(source)), str(to / name), True)
    else:
        name = f"{number}_{source.name}"
        _write(to / name, source.read_bytes())
    return name


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
