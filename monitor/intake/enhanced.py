"""An Enhanced CT image (PS3.3 A.38) taken apart into what classic CT images would have said. LPS mm.

Each frame becomes a dataset of its own, with the attributes of its functional groups where a classic image
has them, and its own pixels; all that is checked of a classic image is then checked of it. Invariant: an
instance is taken apart whole or not at all; nothing is unpacked before its size is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import CTImageStorage

from monitor.intake.attributes import Refusal, required_whole, text, values, whole

MOST_FRAMES = 4096
MOST_PIXELS = 2**28
# What a frame shares with the others of its instance.
_SHARED = (
    *("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("Modality", "SeriesDescription", "TimezoneOffsetFromUTC", "ImageType", "InstanceNumber"),
    *("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "ContentDate", "ContentTime"),
    *("AcquisitionNumber", "ConvolutionKernel", "Rows", "Columns", "SamplesPerPixel"),
    *("PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
)
# Functional group → its attributes, and what a classic image calls them (PS3.3 C.7.6.16.2, C.8.15.3).
_GROUPS: dict[str, dict[str, str]] = {
    "PlanePositionSequence": {"ImagePositionPatient": ""},
    "PlaneOrientationSequence": {"ImageOrientationPatient": ""},
    "PixelMeasuresSequence": {"PixelSpacing": "", "SliceThickness": ""},
    "PixelValueTransformationSequence": {
        "RescaleSlope": "",
        "RescaleIntercept": "",
        "RescaleType": "",
    },
    "CTImageFrameTypeSequence": {"FrameType": "ImageType"},
    "CTReconstructionSequence": {"ConvolutionKernel": ""},
    "FrameContentSequence": {
        "FrameReferenceDateTime": "AcquisitionDateTime",
        "FrameAcquisitionDateTime": "AcquisitionDateTime",
        "FrameAcquisitionNumber": "AcquisitionNumber",
    },
}


@dataclass(frozen=True)
class Frame:
    """``number`` from 1; ``stack`` tells stacks and points in time of one instance apart; ``expected``: how
    many frames the stack has, None where other instances have more of it (a concatenation)."""

    number: int
    stack: str
    expected: int | None
    dataset: Dataset


def frames_of(d: FileDataset) -> Iterator[Frame]:
    """One after the other, a stack from its first to its last slice. Raises ``Refusal``."""
    count = _checked_count(d)
    per_frame = values(d, "PerFrameFunctionalGroupsSequence")
    if len(per_frame) != count:
        raise Refusal("bad_frames", f"{count} frames, but functional groups of {len(per_frame)}.")
    shared = next(iter(values(d, "SharedFunctionalGroupsSequence")), Dataset())
    places = [_place(groups) for groups in per_frame]
    sizes = Counter(place[0] for place in places)
    concatenated = bool(text(d, "ConcatenationUID"))
    pixels = _pixels(d, count)
    for index in sorted(range(count), key=places.__getitem__):
        stack = places[index][0]
        frame = _flat(d, shared, per_frame[index])
        frame.PixelData = pixels[index]
        yield Frame(index + 1, stack, None if concatenated else sizes[stack], frame)


def _checked_count(d: Dataset) -> int:
    count = required_whole(d, "NumberOfFrames")
    size = required_whole(d, "Rows") * required_whole(d, "Columns")
    if not 0 < count <= MOST_FRAMES or not 0 < size * count <= MOST_PIXELS:
        raise Refusal("bad_frames", f"{count} frames of {size} pixels are not accepted.")
    return count


def _place(groups: Dataset) -> tuple[str, int]:
    """The stack and time of a frame, and where in it."""
    content = next(iter(values(groups, "FrameContentSequence")), Dataset())
    stack = text(content, "StackID")
    at = whole(content, "TemporalPositionIndex")
    return f"{stack}/{at or 0:06d}", whole(content, "InStackPositionNumber") or 0


def _flat(d: FileDataset, shared: Dataset, own: Dataset) -> Dataset:
    flat = Dataset()
    flat.file_meta = d.file_meta
    flat.SOPClassUID = CTImageStorage
    for keyword in _SHARED:
        if keyword in d:
            flat.add(d[keyword])
    for groups in (shared, own):  # what a frame says of itself goes first
        for sequence, names in _GROUPS.items():
            for item in values(groups, sequence)[:1]:
                for name, classic in names.items():
                    if values(item, name):
                        setattr(flat, classic or name, item[name].value)
    return flat


def _pixels(d: FileDataset, count: int) -> list[bytes]:
    """The bytes of each frame, encapsulated as that of a classic image would be."""
    data = next(iter(values(d, "PixelData")), b"")
    if not data:
        raise Refusal("pixel_data_unreadable", "There is no pixel data.")
    if d.file_meta.TransferSyntaxUID.is_encapsulated:
        return _compressed(d, data, count)
    allocated = required_whole(d, "BitsAllocated")
    size = required_whole(d, "Rows") * required_whole(d, "Columns") * (allocated // 8)
    if allocated not in (8, 16) or len(data) != size * count + (size * count) % 2:
        raise Refusal("pixel_data_unreadable", f"{len(data)} bytes of pixels for {count} frames.")
    return [data[size * i : size * (i + 1)] + b"\0" * (size % 2) for i in range(count)]


def _compressed(d: FileDataset, data: bytes, count: int) -> list[bytes]:
    table = None
    if "ExtendedOffsetTable" in d and "ExtendedOffsetTableLengths" in d:
        table = (d.ExtendedOffsetTable, d.ExtendedOffsetTableLengths)
    try:
        found = list(generate_frames(data, number_of_frames=count, extended_offsets=table))
    except Exception as error:  # whatever a damaged encapsulation makes of it
        said = f"The frames cannot be told apart ({type(error).__name__})."
        raise Refusal("pixel_data_unreadable", said) from None
    if len(found) != count:
        raise Refusal("pixel_data_unreadable", f"{len(found)} frames of pixels for {count}.")
    return [encapsulate([frame]) for frame in found]
