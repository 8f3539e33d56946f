"""One stored instance → ``CtSlice`` or ``Rejected``. Hounsfield units int16, LPS mm, UTC seconds.

Never raises on what it is given, and looks at kind, geometry and sizes before it decodes pixels.
Invariant: a ``CtSlice`` has a right geometry and right Hounsfield units, or it does not exist; no
reason given here holds patient data.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    SecondaryCaptureImageStorage,
)

from monitor.intake.attributes import (
    Refusal,
    acquired_utc_s,
    numbers,
    positive,
    required_text,
    text,
    texts,
    whole,
)
from monitor.intake.enhanced import frames_of
from monitor.intake.parsing import parsed
from monitor.intake.pixels import hounsfield
from monitor.model import CtFrames, CtSlice, FloatArray, Instance, Int16Array, Reason, Rejected
from monitor.stages import stage

# pydicom warns by quoting values, in a log that may be shown: and those may name a patient.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

# Of an instance that has ended a process (``trial``).
DIED = Reason("decoder_died", "Decoding it ended the program.")
_LOCALIZERS = {"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW"}
# Projections through a volume: their values are not those of the tissue at that place.
_PROJECTIONS = {"MIP", "MINIP", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "VOLUME RENDER"}
_ENHANCED = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_FARTHEST_MM = 10_000.0  # of an image from its frame's origin
_WIDEST_PIXEL_MM = 10.0


Decoding = Callable[[Instance, Path], CtSlice | CtFrames | Rejected]


@stage("decode")
def decode(instance: Instance, record: Path) -> CtSlice | CtFrames | Rejected:
    """The slice, or slices, in ``record/instance.path``, or why it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's quote values, and those may name a patient
            return _read(instance, _file(instance, record))
    except Refusal as refusal:
        return Rejected(instance, refusal.reason)
    except Exception as error:  # whatever a broken file makes a parser do must not stop the next
        text = f"The instance cannot be read ({type(error).__name__})."
        return Rejected(instance, Reason("undecodable", text))


def _file(instance: Instance, record: Path) -> Path:
    """Where the instance lies: the same bytes may have come before and be in quarantine already."""
    path = record / instance.path
    return path if path.exists() else record / "quarantine" / path.name


def _read(instance: Instance, path: Path) -> CtSlice | CtFrames:
    dataset = parsed(path)
    if _checked_class(instance, dataset) in _ENHANCED:
        return _frames(instance, dataset)
    _check_kind(dataset)
    return _slice(instance, dataset, hounsfield(dataset))


def _frames(instance: Instance, d: FileDataset) -> CtFrames:
    """Every frame, or none: half an instance is no ground to stand on."""
    slices = []
    for frame in frames_of(d):
        try:
            _check_kind(frame.dataset)
            one = _slice(instance, frame.dataset, hounsfield(frame.dataset))
        except Refusal as refusal:
            code, said = refusal.reason.code, refusal.reason.text
            raise Refusal(code, f"Frame {frame.number}: {said}") from None
        one = replace(one, frame=frame.number, stack=frame.stack)
        slices.append(replace(one, images_in_acquisition=frame.expected))
    return CtFrames(instance, tuple(slices))


def _check_kind(d: Dataset) -> None:
    if required_text(d, "Modality") != "CT":
        raise Refusal("not_ct_image", "Modality is not CT.")
    image_type = [v.upper() for v in texts(d, "ImageType")]
    if not _LOCALIZERS.isdisjoint(image_type):
        raise Refusal("localizer", "A localizer (scout) is not part of a volume.")
    if not _PROJECTIONS.isdisjoint(image_type):
        raise Refusal("projection", "A projection of several slices is not part of a volume.")
    if "SECONDARY" in image_type[1:2]:
        raise Refusal("secondary_image", "A secondary image (dose page, capture) is no CT slice.")


def _checked_class(instance: Instance, d: FileDataset) -> UID:
    """Some de-identifiers empty SOPClassUID; then the class of the C-STORE command, for which the
    transfer was negotiated, holds. One that contradicts the command is refused."""
    sop_class = UID(text(d, "SOPClassUID") or instance.sop_class_uid)
    if instance.sop_class_uid and sop_class != instance.sop_class_uid:
        raise Refusal("sop_class_mismatch", "The image is of another class than it was sent as.")
    if sop_class == SecondaryCaptureImageStorage:
        raise Refusal("secondary_capture", "A secondary capture (dose page) is no CT slice.")
    if sop_class != CTImageStorage and sop_class not in _ENHANCED:
        raise Refusal(
            "not_ct_image", f"{sop_class.name or 'No SOP class'} is not CT Image Storage."
        )
    return sop_class


def _slice(instance: Instance, d: Dataset, hu: Int16Array) -> CtSlice:
    row, column = _orientation(d)
    position = numbers(d, "ImagePositionPatient", 3)
    if not np.abs(position).max() <= _FARTHEST_MM:
        raise Refusal("missing_attribute", "ImagePositionPatient is not a plausible place.")
    spacing = _pixel_spacing(d)
    # De-identified files may lack it; the slices then group by all else they share.
    series = text(d, "SeriesInstanceUID")
    frame = required_text(d, "FrameOfReferenceUID")
    for array in (hu, position, row, column):
        array.setflags(write=False)
    return CtSlice(
        instance=instance,
        patient_id=text(d, "PatientID"),
        study_uid=text(d, "StudyInstanceUID"),
        series_uid=series,
        frame_of_reference_uid=frame,
        position_lps_mm=position,
        row_direction=row,
        column_direction=column,
        pixel_spacing_mm=spacing,
        slice_thickness_mm=positive(d, "SliceThickness"),
        kernel="\\".join(texts(d, "ConvolutionKernel")),
        image_type=texts(d, "ImageType"),
        acquisition_number=whole(d, "AcquisitionNumber"),
        images_in_acquisition=whole(d, "ImagesInAcquisition"),
        instance_number=whole(d, "InstanceNumber"),
        acquired_utc_s=acquired_utc_s(d),
        hu=hu,
        patient_name=text(d, "PatientName"),
        series_description=text(d, "SeriesDescription"),
    )


def _orientation(d: Dataset) -> tuple[FloatArray, FloatArray]:
    """Row and column direction: perpendicular unit vectors (PS3.3 C.7.6.2.1.1)."""
    both = numbers(d, "ImageOrientationPatient", 6).reshape(2, 3)
    lengths = np.linalg.norm(both, axis=1)
    if not np.allclose(lengths, 1.0, atol=1e-3) or abs(float(both[0] @ both[1])) > 1e-3:
        raise Refusal(
            "bad_orientation", "ImageOrientationPatient is not two perpendicular unit vectors."
        )
    both /= lengths[:, None]
    return both[0].copy(), both[1].copy()


def _pixel_spacing(d: Dataset) -> tuple[float, float]:
    between_rows, between_columns = numbers(d, "PixelSpacing", 2)
    if not (0.0 < between_rows <= _WIDEST_PIXEL_MM and 0.0 < between_columns <= _WIDEST_PIXEL_MM):
        raise Refusal("missing_attribute", "PixelSpacing is not two plausible lengths.")
    return float(between_rows), float(between_columns)
