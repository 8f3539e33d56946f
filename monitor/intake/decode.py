"""One stored instance → ``CtSlice`` or ``Rejected``. Hounsfield units int16, LPS mm, UTC seconds.

Never raises on what it is given, and looks at sizes before it decodes pixels.
Invariant: a ``CtSlice`` has a right geometry and right Hounsfield units, or it does not exist.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage

from monitor.model import CtSlice, FloatArray, Instance, Int16Array, Reason, Rejected

MAX_EDGE_PIXELS = 4096


class _Refusal(Exception):
    """Carries the reason for which an instance is not a CT slice."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.reason = Reason(code, text)


def decode(instance: Instance, record: Path) -> CtSlice | Rejected:
    """The slice in ``record/instance.path``, or why it is none."""
    try:
        dataset = dcmread(record / instance.path)
        _check_kind(dataset)
        return _slice(instance, dataset)
    except _Refusal as refusal:
        return Rejected(instance, refusal.reason)
    except (
        Exception
    ) as error:  # whatever a broken file makes a parser do, it must not stop the next
        text = f"The instance cannot be read ({type(error).__name__})."
        return Rejected(instance, Reason("undecodable", text))


def _check_kind(d: FileDataset) -> None:
    sop_class = d.get("SOPClassUID")
    if sop_class == EnhancedCTImageStorage:
        raise _Refusal(
            "enhanced_ct_unsupported", "Enhanced CT multi-frame images are not read yet."
        )
    if sop_class != CTImageStorage:
        raise _Refusal(
            "not_ct_image", f"SOP class {sop_class or 'missing'} is not CT Image Storage."
        )
    if d.get("Modality") != "CT":
        raise _Refusal("not_ct_image", f"Modality is {d.get('Modality')!r}, not CT.")
    image_type = [str(v).upper() for v in _values(d, "ImageType")]
    if "LOCALIZER" in image_type or "SCOUT" in image_type:
        raise _Refusal("localizer", "A localizer (scout) is not part of a volume.")
    if "SECONDARY" in image_type[1:2]:
        raise _Refusal(
            "secondary_capture", "A secondary image (dose page, capture) is not part of a volume."
        )
    frames = int(d.get("NumberOfFrames") or 1)
    if frames != 1:
        raise _Refusal("multi_frame", f"{frames} frames in a single-frame SOP class.")


def _slice(instance: Instance, d: FileDataset) -> CtSlice:
    orientation = _numbers(d, "ImageOrientationPatient", 6)
    row, column = orientation[:3], orientation[3:]
    _check_orientation(row, column)
    spacing = _numbers(d, "PixelSpacing", 2)
    if not (spacing > 0).all():
        raise _Refusal("missing_attribute", f"PixelSpacing {spacing.tolist()} is not positive.")
    thickness = d.get("SliceThickness")
    hu = _hounsfield(d)
    hu.setflags(write=False)
    return CtSlice(
        instance=instance,
        patient_id=str(d.get("PatientID") or ""),
        study_uid=str(d.get("StudyInstanceUID") or ""),
        series_uid=_text(d, "SeriesInstanceUID"),
        frame_of_reference_uid=_text(d, "FrameOfReferenceUID"),
        position_lps_mm=_numbers(d, "ImagePositionPatient", 3),
        row_direction=row / np.linalg.norm(row),
        column_direction=column / np.linalg.norm(column),
        pixel_spacing_mm=(float(spacing[0]), float(spacing[1])),
        slice_thickness_mm=float(thickness) if thickness and float(thickness) > 0 else None,
        kernel="\\".join(str(v) for v in _values(d, "ConvolutionKernel")),
        image_type=tuple(str(v) for v in _values(d, "ImageType")),
        acquisition_number=_whole(d, "AcquisitionNumber"),
        images_in_acquisition=_whole(d, "ImagesInAcquisition"),
        instance_number=_whole(d, "InstanceNumber"),
        acquired_utc_s=_acquired(d),
        hu=hu,
    )


def _check_orientation(row: FloatArray, column: FloatArray) -> None:
    lengths = np.linalg.norm([row, column], axis=1)
    if not np.allclose(lengths, 1.0, atol=1e-3) or abs(float(row @ column)) > 1e-3:
        raise _Refusal(
            "bad_orientation", "ImageOrientationPatient is not two perpendicular unit vectors."
        )


# ------------------------------------------------------------------ attributes


def _values(d: FileDataset, name: str) -> list[Any]:
    value = d.get(name)
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple) or hasattr(value, "append") else [value]


def _text(d: FileDataset, name: str) -> str:
    value = str(d.get(name) or "").strip()
    if not value:
        raise _Refusal("missing_attribute", f"{name} is missing.")
    return value


def _numbers(d: FileDataset, name: str, count: int) -> FloatArray:
    try:
        values = np.array([float(v) for v in _values(d, name)])
    except (TypeError, ValueError):
        values = np.array([np.nan])
    if len(values) != count or not np.isfinite(values).all():
        raise _Refusal("missing_attribute", f"{name} is missing or not {count} numbers.")
    return values


def _whole(d: FileDataset, name: str) -> int | None:
    try:
        return int(d.get(name))
    except (TypeError, ValueError):
        return None


def _acquired(d: FileDataset) -> float | None:
    """When the slice was acquired, UTC seconds; None when it does not say."""
    text = str(d.get("AcquisitionDateTime") or "")
    if not text:
        date = d.get("AcquisitionDate") or d.get("ContentDate")
        clock = d.get("AcquisitionTime") or d.get("ContentTime")
        text = f"{date}{clock}" if date and clock else ""
    stamp, sign, offset = text.partition("+") if "+" in text else text.partition("-")
    zone = f"{sign}{offset}" if sign else str(d.get("TimezoneOffsetFromUTC") or "")
    try:
        form = "%Y%m%d%H%M%S.%f" if "." in stamp else "%Y%m%d%H%M%S"
        when = datetime.strptime(stamp, form)
        return _in_zone(when, zone).timestamp()
    except ValueError:
        return None


def _in_zone(when: datetime, zone: str) -> datetime:
    """Local time of this machine unless the image names its offset, as PS3.3 C.12.1.1.8 asks."""
    if len(zone) == 5 and zone[0] in "+-" and zone[1:].isdigit():
        minutes = int(zone[1:3]) * 60 + int(zone[3:])
        return when.replace(
            tzinfo=timezone(timedelta(minutes=minutes if zone[0] == "+" else -minutes))
        )
    return when.astimezone(UTC)


# ------------------------------------------------------------------ pixels


def _hounsfield(d: FileDataset) -> Int16Array:
    """Rescaled, rounded and clipped to int16 (PS3.3 C.11.1.1.2)."""
    rows, columns = int(d.get("Rows") or 0), int(d.get("Columns") or 0)
    if not (0 < rows <= MAX_EDGE_PIXELS and 0 < columns <= MAX_EDGE_PIXELS):
        raise _Refusal("bad_matrix", f"A matrix of {rows} × {columns} is not accepted.")
    if int(d.get("SamplesPerPixel") or 1) != 1 or d.get("PhotometricInterpretation") not in (
        "MONOCHROME2",
    ):
        raise _Refusal("not_ct_image", "The image is not MONOCHROME2 with one sample a pixel.")
    unit = d.get("RescaleType")
    if unit not in (None, "", "HU"):
        raise _Refusal("not_hounsfield", f"RescaleType is {unit!r}, not HU.")
    slope, intercept = _rescale(d)
    stored = _stored(d, (rows, columns))
    hu = (
        np.rint(stored * slope + intercept)
        if slope != 1 or intercept % 1
        else stored + int(intercept)
    )
    return np.clip(hu, -32768, 32767).astype(np.int16)


def _rescale(d: FileDataset) -> tuple[float, float]:
    try:
        slope, intercept = float(d.RescaleSlope), float(d.RescaleIntercept)
    except (AttributeError, TypeError, ValueError):
        raise _Refusal(
            "missing_attribute", "RescaleSlope or RescaleIntercept is missing."
        ) from None
    if not np.isfinite([slope, intercept]).all() or slope == 0:
        raise _Refusal(
            "not_hounsfield", f"Rescale slope {slope} and intercept {intercept} make no HU."
        )
    return slope, intercept


def _stored(d: FileDataset, shape: tuple[int, int]) -> Any:
    try:
        stored = d.pixel_array
    except Exception as error:  # decoders raise whatever they like
        raise _Refusal(
            "pixel_data_unreadable", f"The pixel data cannot be decoded ({type(error).__name__})."
        ) from None
    if stored.shape != shape:
        raise _Refusal(
            "pixel_data_unreadable", f"Pixel data of shape {stored.shape}, expected {shape}."
        )
    return stored.astype(np.int32)
