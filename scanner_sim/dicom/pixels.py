"""HU to stored values, and stored values to a transfer syntax.

Invariant: within what the maker's bits hold, stored·1 + RescaleIntercept gives the HU back exactly;
every syntax here is lossless.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from scanner_sim.dicom.profiles import Profile
from scanner_sim.scenario import ScenarioError

SYNTAXES: dict[str, UID] = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "rle": RLELossless,
    "jpegls": JPEGLSLossless,
    "jpeg2000": JPEG2000Lossless,
}


def syntax(name: str) -> UID:
    """Raises ``ScenarioError`` that lists the transfer syntaxes there are."""
    if name not in SYNTAXES:
        raise ScenarioError(f"transfer syntax {name!r}: there are {', '.join(SYNTAXES)}")
    return SYNTAXES[name]


def put_ct(d: Dataset, hu: npt.NDArray[np.int16], profile: Profile, round_field: bool) -> None:
    """CT pixels with their module; what does not fit is clipped, as metal is on a scanner. With
    ``round_field``, what lies outside the reconstruction circle gets the maker's padding value."""
    low = -(1 << profile.bits_stored - 1) if profile.signed else 0
    high = low + (1 << profile.bits_stored) - 1
    stored = np.clip(hu.astype(np.int32) - profile.rescale_intercept, low, high)
    if profile.padding is not None and round_field:
        stored[_outside_circle(*hu.shape)] = profile.padding
    dtype = "<i2" if profile.signed else "<u2"
    put(d, stored.astype(dtype), profile.bits_stored)
    d.RescaleIntercept, d.RescaleSlope = str(profile.rescale_intercept), "1"
    d.RescaleType = "HU"
    if profile.padding is not None:
        # US or SS: which, PixelRepresentation says, and only for values from a program (PS3.5 7.3).
        d.add_new("PixelPaddingValue", "SS" if profile.signed else "US", profile.padding)


def put(d: Dataset, stored: npt.NDArray[Any], bits_stored: int) -> None:
    """Monochrome pixels, uncompressed, and the Image Pixel module."""
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.Rows, d.Columns = stored.shape
    d.BitsAllocated = 8 * stored.dtype.itemsize
    d.BitsStored, d.HighBit = bits_stored, bits_stored - 1
    d.PixelRepresentation = int(stored.dtype.kind == "i")
    pixels = stored.tobytes()
    d.PixelData = pixels + b"\0" * (len(pixels) % 2)
    d["PixelData"].VR = "OW" if d.BitsAllocated == 16 else "OB"


def encode(d: Dataset, name: str) -> Dataset:
    """The dataset in the named transfer syntax; it must be uncompressed."""
    uid = syntax(name)
    if uid.is_compressed:
        d.compress(uid, generate_instance_uid=False)
    d.file_meta.TransferSyntaxUID = uid
    return d


def _outside_circle(rows: int, columns: int) -> npt.NDArray[np.bool_]:
    y = (np.arange(rows) + 0.5) / rows - 0.5
    x = (np.arange(columns) + 0.5) / columns - 0.5
    return np.asarray(x[None, :] ** 2 + y[:, None] ** 2 > 0.25)
