"""The pixel data of one CT image → Hounsfield units, int16 (row, column).

Sizes are checked before anything is decoded. Invariant: each pixel is rescaled as the image says,
rounded and clipped to int16; padding never looks like metal.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    UID,
    CTImageStorage,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    RLELossless,
)

from monitor.intake.attributes import (
    Refusal,
    numbers,
    required_text,
    required_whole,
    text,
    values,
    whole,
)
from monitor.intake.codestream import announced_shape
from monitor.model import Int16Array

MAX_EDGE_PIXELS = 4096

# pydicom's decoders here read no JPEG of more than 8 bits; the GDCM in SimpleITK does.
_BY_GDCM = frozenset({JPEGLossless, JPEGLosslessSV1, JPEGExtended12Bit, JPEGBaseline8Bit})
_PIXEL_MODULE = (
    *("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)
# Ice is some 50 HU darker than tissue: a coarser grey scale cannot show its edge.
_COARSEST_STEP_HU = 8.0
_AIR_HU, _DENSEST_HU = -1024, 3071


def hounsfield(d: Dataset) -> Int16Array:
    """Rescaled, rounded and clipped (PS3.3 C.11.1.1.2)."""
    shape = _shape(d)
    _check_format(d)
    slope, intercept = _rescale(d)
    stored = _stored(d, shape)
    hu = np.rint(stored * slope + intercept)
    if _padding_hu(d, slope, intercept) > _DENSEST_HU:
        hu[_padded(d, stored)] = _AIR_HU
    return np.asarray(np.clip(hu, -32768, 32767).astype(np.int16))


def _shape(d: Dataset) -> tuple[int, int]:
    rows, columns = required_whole(d, "Rows"), required_whole(d, "Columns")
    if not (0 < rows <= MAX_EDGE_PIXELS and 0 < columns <= MAX_EDGE_PIXELS):
        raise Refusal("bad_matrix", f"A matrix of {rows} × {columns} is not accepted.")
    return rows, columns


def _check_format(d: Dataset) -> None:
    """What CT images are (PS3.3 C.8.2.1): one grey sample of up to 16 bits a pixel. MONOCHROME1
    turns only the display around, not the numbers."""
    frames = whole(d, "NumberOfFrames")
    if frames not in (None, 1):
        raise Refusal("multi_frame", f"{frames} frames in a single-frame SOP class.")
    grey = required_text(d, "PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2")
    if required_whole(d, "SamplesPerPixel") != 1 or not grey:
        raise Refusal("bad_pixel_format", "The image is not one grey sample a pixel.")
    allocated, stored = required_whole(d, "BitsAllocated"), required_whole(d, "BitsStored")
    if allocated not in (8, 16) or not 0 < stored <= allocated:
        raise Refusal("bad_pixel_format", f"{stored} bits stored in {allocated} is not CT.")
    if "PixelData" not in d or not d["PixelData"].value:
        raise Refusal("pixel_data_unreadable", "There is no pixel data.")


def _rescale(d: Dataset) -> tuple[float, float]:
    unit = text(d, "RescaleType").upper()
    if unit not in ("", "HU"):
        raise Refusal("not_hounsfield", "RescaleType is not HU.")
    slope = float(numbers(d, "RescaleSlope", 1)[0])
    intercept = float(numbers(d, "RescaleIntercept", 1)[0])
    if slope == 0.0:
        raise Refusal("not_hounsfield", "RescaleSlope is 0.")
    if abs(slope) > _COARSEST_STEP_HU:
        raise Refusal("coarse_grey_scale", f"One grey level is {abs(slope):.0f} HU: too coarse.")
    return slope, intercept


# ------------------------------------------------------------------ padding


def _padding_hu(d: Dataset, slope: float, intercept: float) -> float:
    """What PixelPaddingValue would be in HU; that of air when there is none. Only padding that
    would look like metal is replaced: some writers name a value that real pixels have."""
    value = whole(d, "PixelPaddingValue")
    return _AIR_HU if value is None else _signed(d, value) * slope + intercept


def _padded(d: Dataset, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Pixels from PixelPaddingValue to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2)."""
    value = _signed(d, whole(d, "PixelPaddingValue") or 0)
    limit = whole(d, "PixelPaddingRangeLimit")
    other = value if limit is None else _signed(d, limit)
    return np.asarray((stored >= min(value, other)) & (stored <= max(value, other)))


def _signed(d: Dataset, value: int) -> int:
    """Padding as the pixels are; writers get its VR (US or SS) wrong."""
    if whole(d, "PixelRepresentation") == 1:
        return (value + 0x8000) % 0x10000 - 0x8000
    return value % 0x10000


# ------------------------------------------------------------------ decoding


def _stored(d: Dataset, shape: tuple[int, int]) -> npt.NDArray[Any]:
    syntax = d.file_meta.TransferSyntaxUID
    try:
        _check_announced(d, syntax, shape)
        if syntax in _BY_GDCM:
            stored = _read_by_gdcm(d)
        else:
            # pylibjpeg-rle answers damage with a Rust panic, which is no Exception and would end the core.
            if syntax == RLELossless:
                d.pixel_array_options(decoding_plugin="pydicom")
            stored = d.pixel_array
    except Refusal:
        raise
    except Exception as error:  # decoders raise whatever they like
        kind = type(error).__name__
        text = f"The pixel data cannot be decoded ({kind})."
        raise Refusal("pixel_data_unreadable", text) from None
    if stored.shape != shape:
        raise Refusal("pixel_data_unreadable", f"Pixels of shape {stored.shape}, expected {shape}.")
    return stored.astype(np.int32)


def _check_announced(d: Dataset, syntax: UID, shape: tuple[int, int]) -> None:
    if not syntax.is_compressed or syntax == RLELossless:
        return  # native and RLE data are measured against Rows and Columns by pydicom
    announced = announced_shape(get_frame(values(d, "PixelData")[0], 0, number_of_frames=1))
    if announced != shape:
        raise Refusal(
            "pixel_data_unreadable",
            f"The compressed image announces {announced}, expected {shape}.",
        )


def _read_by_gdcm(d: Dataset) -> npt.NDArray[Any]:
    """Stored values, of a file in memory that holds the pixels and no more: GDCM allocates whatever length an
    element of the received one claims."""
    plain = Dataset()
    plain.file_meta = FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = d.file_meta.TransferSyntaxUID
    plain.SOPClassUID = plain.file_meta.MediaStorageSOPClassUID = CTImageStorage
    plain.SOPInstanceUID = plain.file_meta.MediaStorageSOPInstanceUID = UID("1.2")
    for keyword in _PIXEL_MODULE:
        plain[keyword] = d[keyword]
    plain.RescaleSlope, plain.RescaleIntercept = "1", "0"
    plain.PixelData = encapsulate([get_frame(values(d, "PixelData")[0], 0, number_of_frames=1)])
    plain["PixelData"].is_undefined_length = True
    with os.fdopen(os.memfd_create("image"), "wb") as file:
        dcmwrite(file, plain, enforce_file_format=True)
        file.flush()
        reader = SimpleITK.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(f"/proc/self/fd/{file.fileno()}")
        image = SimpleITK.GetArrayFromImage(reader.Execute())
    return image[0] if image.ndim == 3 and len(image) == 1 else image
