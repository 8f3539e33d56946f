"""A DICOM file parsed within bounds: so much work, and no more, whatever it holds. Bytes.

An empty element takes 8 bytes in a file and a hundred times that in memory, and what a file announces as a
number may be a million of them. Invariant: nothing of a parsed dataset that this program reads is still to
be unpacked into more than the bounds here.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.charset import default_encoding
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import _read_file_meta_info, read_preamble, read_sequence
from pydicom.sequence import Sequence
from pydicom.uid import UID, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from monitor.intake.attributes import Refusal
from monitor.intake.syntaxes import TRANSFER_SYNTAXES

# Of a file: pydicom reads an element's head and its value in one to three of them. Of the public test files
# none takes more than 11 325; an Enhanced CT of the simulator takes 61 to 84 for each of its frames.
MOST_READS, MOST_READS_OF_FRAMES = 100_000, 500_000
_OF_FRAMES = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
# A value that becomes many: as much as explicit VR can say in 16 bits.
LONGEST_VALUE_BYTES = 2**16
# A sequence outside functional groups that is read only if it is asked for.
_SMALL_SEQUENCE_BYTES = 2**12
# Values that stay the bytes that they are, or one text.
_PLAIN = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "UN", "UT", "LT", "ST", "UR"})


class _Budget:
    """``most`` reads, of which some may have been spent before it is known how many there are."""

    def __init__(self, most: int) -> None:
        self.most, self._spent = most, 0

    def spend(self) -> None:
        self._spent += 1
        self.check()

    def check(self) -> None:
        if self._spent > self.most:
            raise Refusal("too_many_elements", f"It takes over {self.most} reads to take apart.")


class _Counted(io.BufferedReader):
    """A file whose reads are paid for."""

    def __init__(self, raw: Any, budget: _Budget) -> None:
        super().__init__(raw)
        self._budget = budget

    def read(self, size: int | None = -1, /) -> bytes:
        self._budget.spend()
        return super().read(size)


def parsed(path: Path) -> FileDataset:
    """Raises ``Refusal``, and whatever pydicom raises of a broken file."""
    budget = _Budget(MOST_READS)
    try:
        dataset = _read(path, budget)
        _bounded(dataset, budget)
    except Exception:
        budget.check()  # the library makes other errors of it
        raise
    return dataset


def _read(path: Path, budget: _Budget) -> FileDataset:
    with _Counted(io.FileIO(path), budget) as file:
        read_preamble(file, False)
        meta = _read_file_meta_info(file)
        syntax = UID(str(meta.get("TransferSyntaxUID", "")))
        if syntax not in TRANSFER_SYNTAXES:  # before dcmread, which would inflate a deflated file
            text = f"Transfer syntax {syntax.name} is not read."
            raise Refusal("transfer_syntax_unsupported", text)
        if meta.get("MediaStorageSOPClassUID") in _OF_FRAMES:
            budget.most = MOST_READS_OF_FRAMES
        file.seek(0)
        return dcmread(file)


def _bounded(dataset: Dataset, budget: _Budget) -> None:
    """Without recursion: how deep sequences lie is the sender's choice, too."""
    waiting: list[tuple[Dataset, bool]] = [(dataset, False)]
    while waiting:
        one, inside = waiting.pop()
        for element in list(_raw_elements(one)):
            for item in _unpacked(one, element, budget, inside):
                budget.spend()
                waiting.append((item, True))


def _raw_elements(d: Dataset) -> Iterator[RawDataElement | DataElement]:
    return (d.get_item(tag) for tag in list(d.keys()))


def _unpacked(
    d: Dataset, element: RawDataElement | DataElement, budget: _Budget, nested: bool
) -> list[Dataset]:
    """The items of a sequence; the elements of odd groups are nobody's here, and are not looked at."""
    if element.tag.is_private:
        return []
    if not isinstance(element, RawDataElement):
        return list(element.value) if isinstance(element.value, Sequence) else []
    size = 0 if element.value is None else len(element.value)
    vr = _vr(element)
    if vr == "SQ":
        if not nested and size <= _SMALL_SEQUENCE_BYTES:
            return []
        return list(_sequence(d, element, budget))
    if size > LONGEST_VALUE_BYTES and vr not in _PLAIN and " or O" not in vr:
        name = f"({element.tag.group:04X},{element.tag.element:04X})"
        raise Refusal("value_too_long", f"The value of {name} has {size} bytes.")
    return []


def _vr(element: RawDataElement) -> str:
    """What pydicom takes it for when it is asked for."""
    if element.VR not in (None, "UN"):
        return str(element.VR)
    return dictionary_VR(element.tag) if dictionary_has_tag(element.tag) else "UN"


def _sequence(d: Dataset, element: RawDataElement, budget: _Budget) -> Sequence:
    """Read now, and paid for, rather than when somebody asks."""
    data = element.value or b""
    implicit = element.is_implicit_VR or element.VR == "UN"
    with _Counted(io.BytesIO(data), budget) as file:
        encoding = getattr(d, "_character_set", default_encoding)
        found = read_sequence(
            file, implicit, element.is_little_endian, len(data), encoding, element.value_tell
        )
    d.add(DataElement(element.tag, "SQ", found))
    return found
