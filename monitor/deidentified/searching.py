"""The last look at an export: whether anything that identifies the patient is still in one of its bytes.

Everything is read, packed files unpacked; short words are looked for as whole words, and among voxels, where
they turn up by chance, not. Invariant: what is found is told by its kind and its file, never by itself.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from monitor.deidentified.identity import WHOLE_WORD, Identity
from monitor.deidentified.substitutes import DAY_S

_AMONG_VOXELS = 6
_ENCODINGS = ("utf-8", "latin-1", "utf-16-le")
_UID = re.compile(rb"(?<![\d.])\d+(?:\.\d+){2,}")
_DICOM_DATE = re.compile(rb"(?<![\da-f.])((?:19|20)\d\d)(\d\d)(\d\d)(?=\D|\d\d|\Z)")
_ISO_DATE = re.compile(rb"(?<!\d)(\d{4})([-./])(\d\d)\2(\d\d)(?!\d)")
_OTHER_DATE = re.compile(rb"(?<!\d)(\d\d)([-./])(\d\d)\2(\d{4})(?!\d)")
_EPOCH = re.compile(rb"(?<![\w.])\d{10}(?:\.\d+)?(?!\w)")


@dataclass(frozen=True)
class Found:
    """``path`` relative to the folder; ``kind``: what it is of."""

    path: str
    kind: str


def search(folder: Path, identity: Identity) -> list[Found]:
    """All files of a folder, and their names. Raises ``OSError``."""
    patterns = _patterns(identity)
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        kinds = set(_kinds(name.encode(), identity, patterns))
        text, voxels = _parts(path)
        kinds |= set(_kinds(text, identity, patterns))
        kinds |= {kind for pattern, kind, length in patterns
                  if length >= _AMONG_VOXELS and pattern.search(voxels)}  # fmt: skip
        found += [Found(name, kind) for kind in sorted(kinds)]
    return found


_Pattern = tuple[re.Pattern[bytes], str, int]


def _patterns(identity: Identity) -> list[_Pattern]:
    made = []
    for word, kind in identity.words.items():
        forms = set()
        for form in (word, word.upper(), word.capitalize()):
            for encoding in _ENCODINGS:
                with contextlib.suppress(UnicodeEncodeError):
                    forms.add(re.escape(form.encode(encoding)))
        any_form = b"|".join(sorted(forms))
        if len(word) < WHOLE_WORD:
            any_form = rb"(?<![A-Za-z0-9])(?:" + any_form + rb")(?![A-Za-z0-9])"
        made.append((re.compile(any_form, re.IGNORECASE), kind, len(word)))
    return made


def _kinds(text: bytes, identity: Identity, patterns: list[_Pattern]) -> Iterator[str]:
    yield from (kind for pattern, kind, _ in patterns if pattern.search(text))
    if any(m[0].decode() in identity.uids for m in _UID.finditer(text)):
        yield "UID"
    if any(day in identity.dates for day in _dates(text)):
        yield "date"
    low, high = identity.epochs_utc_s
    if any(low - DAY_S <= float(m[0]) <= high + DAY_S for m in _EPOCH.finditer(text)):
        yield "date (seconds since 1970)"


def _dates(text: bytes) -> Iterator[date]:
    for m in _DICOM_DATE.finditer(text):
        yield from _date(m[1], m[2], m[3])
    for m in _ISO_DATE.finditer(text):
        yield from _date(m[1], m[3], m[4])
    for m in _OTHER_DATE.finditer(text):
        yield from _date(m[4], m[3], m[1])
        yield from _date(m[4], m[1], m[3])


def _date(year: bytes, month: bytes, day: bytes) -> Iterator[date]:
    with contextlib.suppress(ValueError):
        yield date(int(year), int(month), int(day))


# ------------------------------------------------------------------ files


def _parts(path: Path) -> tuple[bytes, bytes]:
    """What is not voxels, and voxels."""
    data = path.read_bytes()
    name = path.name.lower()
    if name.endswith(".dcm"):
        return _dicom(path, data)
    if name.endswith(".npy"):
        return _cut(data, data.find(b"\n") + 1)
    if name.endswith(".nii.gz"):
        raw = gzip.decompress(data)
        # From where its header says that voxels begin: what is before are the header and its extensions.
        return _cut(raw, int(struct.unpack_from("<f", raw, 108)[0]))
    if name.endswith(".nrrd"):
        end = data.find(b"\n\n") + 2
        voxels = data[end:]
        with contextlib.suppress(OSError, EOFError, zlib.error):
            voxels = gzip.decompress(voxels)
        return data[:end], voxels
    return data, b""


def _cut(data: bytes, at: int) -> tuple[bytes, bytes]:
    return data[:at], data[at:]


def _dicom(path: Path, data: bytes) -> tuple[bytes, bytes]:
    """A file that cannot be read is text to its end."""
    try:
        pixels = pydicom.dcmread(path).get("PixelData") or b""
    except (InvalidDicomError, OSError, AttributeError, ValueError):
        return data, b""
    at = data.rfind(pixels) if pixels else -1
    return (data, b"") if at < 0 else (data[:at] + data[at + len(pixels) :], pixels)
