"""A mask on a scan's slices as files for other programs: NIfTI and DICOM SEG. LPS mm, (z, y, x).

Invariant: a file is there whole or not at all, and lies in space where the slices lay.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from monitor.geometry import SliceGeometry

NIFTI_SUFFIXES = (".nii", ".nii.gz")
# SNOMED CT has no code for tissue frozen in the patient.
FROZEN = ("ICE", "99ICEBALL", "Frozen tissue")
_LABEL = "Ice"
# Patient and study attributes of type 2, which highdicom copies (PS3.3 C.7.1.1, C.7.2.1).
_MAY_BE_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip

Mask = npt.NDArray[np.uint8]


class MaskError(ValueError):
    """A mask cannot be written; the message names the file and why."""


def write_nifti(path: Path, mask: npt.NDArray[Any], geometry: SliceGeometry) -> None:
    """A mask, or any field, with the place of its voxels. The slices must be upright
    (``imaging.mask.upright``): SimpleITK, like most readers of NIfTI, knows neither sheared stacks nor
    uneven gaps."""
    row, column = np.array(geometry.row_direction), np.array(geometry.column_direction)
    image: Any = SimpleITK.GetImageFromArray(mask)
    image.SetOrigin(geometry.origin_lps_mm)
    image.SetSpacing(
        (geometry.column_spacing_mm, geometry.row_spacing_mm, geometry.slice_spacing_mm)
    )
    image.SetDirection(np.column_stack([row, column, np.cross(row, column)]).ravel().tolist())
    _whole(path, lambda part: SimpleITK.WriteImage(image, str(part), True))


def write_seg(path: Path, mask: Mask, images: Sequence[Path]) -> None:
    """One binary segment, referring to ``images``: the CT slices in the order of the mask's. Each
    frame has a place of its own, so a tilted gantry and uneven gaps are exact."""
    sources = [source_header(image) for image in images]
    try:
        seg = _segmentation(mask, sources)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MaskError(f"{path}: the scan's images cannot be referred to: {error}") from error
    _whole(path, lambda part: seg.save_as(part))


def source_header(image: Path) -> pydicom.Dataset:
    """A slice's header; what may be empty and is missing (de-identified files) is empty."""
    found = pydicom.dcmread(image, stop_before_pixels=True)
    for name in _MAY_BE_EMPTY:
        if name not in found:
            setattr(found, name, "")
    if found.PatientSex not in ("", "M", "F", "O"):
        found.PatientSex = ""  # as some systems send it; highdicom raises
    if not found.get("SpecificCharacterSet"):
        found.pop("SpecificCharacterSet", None)  # empty is the default repertoire; highdicom raises
    return found


def _segmentation(mask: Mask, sources: Sequence[pydicom.Dataset]) -> Any:
    release = version("iceball-monitor")
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="iceball segment", version=release, family=codes.DCM.EdgeDetection
    )
    segment = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label=_LABEL,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=highdicom.sr.CodedConcept(*FROZEN),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
    )
    seg = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=mask,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_instance_uid=generate_uid(),
        series_number=900,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Iceball Monitor",
        manufacturer_model_name="iceball segment",
        software_versions=release,
        device_serial_number="none",
        content_label="ICE",
        series_description="Ice (research software, not a medical device)",
    )
    seg.ContentCreatorName = ""  # required, and may be empty (PS3.3 C.8.20.2); no person made it
    return seg


def _whole(path: Path, write: Callable[[Path], None]) -> None:
    """Writes beside the file first: a name that is there holds a file that is complete."""
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.open("wb").close()  # says what is wrong in fewer words than ITK does
        write(part)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            part.unlink()
        lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
        said = lines[-1] if lines else type(error).__name__
        raise MaskError(f"{path}: cannot be written ({said})") from error
