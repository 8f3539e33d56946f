"""Files that a scanner should not send: too large, bombs, names that would lead elsewhere. Bytes.

Each comes from the scanner's own address while it sends a scan; a reader without bounds would take minutes
or gigabytes for it, or write where it should not. Invariant: what the monitor is to do of it is waited for.
"""

from __future__ import annotations

import random
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fault_tries import Scanner
from faulty_network import PATIENT, Network
from fuzz_input import _plain
from live_room import Room
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import JPEG2000Lossless, generate_uid

from scanner_sim.wire.link import Link
from scanner_sim.wire.push import Target

MOST_BYTES = 32 * 2**20  # of an instance, as the monitor's case has it
_MANY = 1_000_000
_SHARED, _PER_FRAME = (0x5200, 0x9229), (0x5200, 0x9230)
_ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
_ELSEWHERE = "../../../fault_table_was_here"
_ANSWER_S = 30.0


def _image() -> Dataset:
    d = _plain(64)
    d.SOPInstanceUID, d.PatientID, d.PatientName = generate_uid(), PATIENT, "FAULTS^OF"
    d.StudyInstanceUID, d.SeriesInstanceUID = "1.2.826.7", generate_uid()
    return d


def _long(tag: tuple[int, int], vr: bytes, length: int) -> bytes:
    """An element's head in explicit VR with a length of 32 bits (PS3.5 7.1.2)."""
    return struct.pack("<HH2sHL", *tag, vr, 0, length)


# ------------------------------------------------------------------ what is sent

_Made = tuple[Dataset, bytes]


def _elements() -> _Made:
    return _image(), b"".join(
        struct.pack("<HH2sH", 0x7FE3, k % 65536, b"LO", 0) for k in range(_MANY)
    )


def _items() -> _Made:
    return _image(), _long(_PER_FRAME, b"SQ", 8 * _MANY) + _ITEM * _MANY


def _deep() -> _Made:
    one = _long(_SHARED, b"SQ", 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return _image(), one * 50_000


def _numbers() -> _Made:
    """Numeric Value, which is a DS whatever VR is said of it."""
    value = b"0\\" * _MANY
    return _image(), _long((0x0040, 0xA30A), b"UN", len(value)) + value


def _codestream() -> _Made:
    """A few hundred bytes of JPEG 2000 that say they are 60 000 × 60 000 pixels (ITU-T T.800 A.5.1)."""
    d = _image()
    d.compress(JPEG2000Lossless, generate_instance_uid=False)
    frame = bytearray(get_frame(d.PixelData, 0, number_of_frames=1))
    at = frame.index(b"\xff\x4f\xff\x51") + 8
    struct.pack_into(">2I", frame, at, 60_000, 60_000)
    d.PixelData = encapsulate([bytes(frame)])
    return d, b""


def _named() -> _Made:
    """It says of itself, everywhere, that it is a file elsewhere."""
    d = _image()
    for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        d.add_new(name, "LO", _ELSEWHERE)
    d.AccessionNumber = d.StudyID = _ELSEWHERE[:16]
    return d, b""


# ------------------------------------------------------------------ sent, beside a scan


def _beside(made: Callable[[], _Made], reason: str) -> Network:
    """It is answered with success, and ends in quarantine for that reason."""

    def send(room: Room, target: Target, slices: list[Dataset], chance: random.Random) -> None:
        before = len(room.journal())
        scanner = Scanner(target, slices)
        scanner.start()
        scanner.reached(chance.randrange(2, len(slices) - 2))
        if status := _stored(target, *made()):
            raise SystemExit(f"it was answered with 0x{status:04X}")

        def told(lines: list[dict[str, Any]]) -> bool:
            ours = (x for x in lines[before:] if x["kind"] == "instance_rejected")
            return any(x["reason"] == reason for x in ours)

        room.wait(told, _ANSWER_S)
        _nothing_elsewhere(room)
        scanner.join(_ANSWER_S)

    return send


def _too_large(room: Room, target: Target, slices: list[Dataset], chance: random.Random) -> None:
    """Nothing of it is kept: it is refused, and that is said although the scan beside it is not."""
    before = len(room.journal())
    scanner = Scanner(target, slices)
    scanner.start()
    scanner.reached(chance.randrange(2, len(slices) - 2))
    if not _stored(target, _image(), bytes(MOST_BYTES)):
        raise SystemExit("it was answered with success")

    def told(lines: list[dict[str, Any]]) -> bool:
        """The alarm stands; that of a try before may not have been over for a moment."""
        refused = any(x["kind"] == "images_refused" for x in lines[before:])
        alarm = [x["kind"] for x in lines if x.get("code") == "images_refused"]
        return refused and [k for k in alarm if k != "alarm_acknowledged"][-1:] == ["alarm_raised"]

    room.wait(told, _ANSWER_S)
    scanner.join(_ANSWER_S)


def _stored(target: Target, d: Dataset, more: bytes) -> int:
    syntax = d.file_meta.TransferSyntaxUID
    titles = (target.calling_ae_title, target.ae_title)
    link = Link((target.host, target.port), titles, [(str(d.SOPClassUID), str(syntax))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of UIDs that are none
        status = link.store(d, syntax, more)
    link.release()
    return status


def _nothing_elsewhere(room: Room) -> None:
    """From wherever the path may have been followed."""
    for begin in (Path.cwd(), room.record, *(p for p in room.record.iterdir() if p.is_dir())):
        elsewhere = begin / _ELSEWHERE
        if found := list(elsewhere.parent.glob(f"{elsewhere.name}*")):
            raise SystemExit(f"written: {found}")


FILES: dict[str, tuple[str, Network]] = {
    "too_large": ("beside the scan comes an image larger than the limit: refused", _too_large),
    "million_elements": (
        "beside it comes an image with a million empty elements",
        _beside(_elements, "too_many_elements"),
    ),
    "million_items": ("one with a million empty items", _beside(_items, "too_many_elements")),
    "deep_sequences": ("one with 50 000 sequences, each in another", _beside(_deep, "undecodable")),
    "million_numbers": (
        "one with a value of a million numbers",
        _beside(_numbers, "value_too_long"),
    ),
    "codestream_bomb": (
        "one whose codestream says that it has 60 000 × 60 000 pixels",
        _beside(_codestream, "pixel_data_unreadable"),
    ),
    "other_path": (
        "one whose identifiers are paths that lead out of the record",
        _beside(_named, "single_slice"),
    ),
}
