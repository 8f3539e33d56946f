"""What a compressed image says of its own size, read before anything is decompressed. Pixels.

A few hundred bytes of JPEG 2000 may announce an image of many gigabytes, whatever Rows and Columns
say. Invariant: nothing here allocates more than it was given.
"""

from __future__ import annotations

import struct

# Start-of-frame markers (ITU-T T.81 B.1.1.3) and JPEG-LS's SOF55 (T.87 C.1.1).
_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_J2K_SIZE = b"\xff\x4f\xff\x51"


def announced_shape(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) of a JPEG, JPEG-LS or JPEG 2000 frame; None when it does not say."""
    try:
        if frame[:2] == b"\xff\xd8":
            return _jpeg(frame)
        return _jpeg2000(frame)
    except (struct.error, IndexError):
        return None


def _jpeg(frame: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _FRAME_MARKERS:
            _, _, rows, columns = struct.unpack_from(">HBHH", frame, at + 2)
            return rows, columns
        at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    return None


def _jpeg2000(frame: bytes) -> tuple[int, int] | None:
    """The SIZ marker follows the start of the code stream (ITU-T T.800 A.5.1); a JP2 file's boxes,
    which do not belong into DICOM but occur, come before it."""
    at = frame.find(_J2K_SIZE, 0, 4096)
    if at < 0:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", frame, at + len(_J2K_SIZE) + 4)
    return bottom - top, right - left
