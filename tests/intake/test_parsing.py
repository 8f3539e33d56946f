"""Small files that would become large: refused within bounds, whatever they are made of."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from monitor.intake.attributes import Refusal
from monitor.intake.decode import decode
from monitor.intake.parsing import LONGEST_VALUE_BYTES, parsed
from monitor.model import CtSlice, Instance, Rejected
from tests.intake.intake_helpers import ct_dataset

SHARED, PER_FRAME, POSITION = (0x5200, 0x9229), (0x5200, 0x9230), (0x0020, 0x0032)
ITEM, END = struct.pack("<HHL", 0xFFFE, 0xE000, 0), struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
MANY = 1_000_000


def written(path: Path, more: bytes, *, implicit: bool = False, drop: str = "") -> Path:
    """A right CT image with ``more`` behind its pixels."""
    d = ct_dataset(3)
    if drop:
        del d[drop]
    d.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    b = io.BytesIO()
    d.save_as(b, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    path.write_bytes(b.getvalue() + more)
    return path


def explicit(tag: tuple[int, int], vr: bytes, length: int) -> bytes:
    return struct.pack("<HH2sHL", *tag, vr, 0, length)


def empty_elements() -> bytes:
    return b"".join(struct.pack("<HH2sH", 0x7FE3, k % 65536, b"LO", 0) for k in range(MANY))


BOMBS = {
    "elements": empty_elements(),
    "items": explicit((0x7FE1, 0x1010), b"SQ", 0xFFFFFFFF) + ITEM * MANY + END,
    "groups": explicit(PER_FRAME, b"SQ", 8 * MANY) + ITEM * MANY,
    "unknown": explicit(PER_FRAME, b"UN", 8 * MANY) + ITEM * MANY,
    "nested": explicit(SHARED, b"SQ", 0xFFFFFFFF)
    + struct.pack("<HHL", 0xFFFE, 0xE000, 12 + 8 * MANY)
    + explicit((0x0020, 0x9113), b"SQ", 8 * MANY)
    + ITEM * MANY
    + END,
    "depth": (explicit(SHARED, b"SQ", 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF))
    * 50_000,
}


@pytest.mark.requirement("REQ-HOSTILE-FILES")
@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_becomes_a_large_one_is_refused(name: str, tmp_path: Path) -> None:
    """Without bounds each takes 10 to 20 s and half a gigabyte (``depth`` fails by itself)."""
    path = written(tmp_path / "bomb.dcm", BOMBS[name])
    tracemalloc.start()
    found = decode(instance_of(path), tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(found, Rejected)
    code = "undecodable" if name == "depth" else "too_many_elements"
    assert found.reason.code == code
    assert peak < 2**28, peak


@pytest.mark.requirement("REQ-HOSTILE-FILES")
def test_a_text_that_becomes_millions_of_numbers_is_refused(tmp_path: Path) -> None:
    value = b"0\\" * MANY
    more = struct.pack("<HHL", *POSITION, len(value)) + value
    path = written(tmp_path / "bomb.dcm", more, implicit=True, drop="ImagePositionPatient")
    with pytest.raises(Refusal) as found:
        parsed(path)
    assert found.value.reason.code == "value_too_long"
    assert "(0020,0032)" in found.value.reason.text


def test_what_is_large_and_stays_so_is_read(tmp_path: Path) -> None:
    """Private sequences and blobs of a vendor, which nobody asks for, whatever they hold."""
    blob = explicit((0x7FE1, 0x1001), b"OB", 2**20) + bytes(2**20)
    vendor = explicit((0x7FE1, 0x1010), b"SQ", 8 * MANY) + ITEM * MANY
    path = written(tmp_path / "large.dcm", blob + vendor)
    assert isinstance(decode(instance_of(path), tmp_path), CtSlice)
    assert len(parsed(path).get_item((0x7FE1, 0x1001)).value) > LONGEST_VALUE_BYTES


def instance_of(path: Path) -> Instance:
    d = ct_dataset(3)
    return Instance(
        sha256="0" * 64, path=path.name, sop_class_uid=str(d.SOPClassUID),
        sop_instance_uid=str(d.SOPInstanceUID), transfer_syntax_uid=str(ExplicitVRLittleEndian),
        association_id=1, calling_ae_title="CT", received_utc_s=1.8e9, received_mono_s=1.0,
    )  # fmt: skip
