"""The plan's delineations as RTSTRUCT and as DICOM SEG. LPS mm; bodies are negative inside.

Invariant: both hold the same bodies under the same names, in the procedure's frame of reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import contourpy
import highdicom
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import RTStructureSetStorage

from scanner_sim.bodies import Level
from scanner_sim.dicom.study import Study, stamp
from scanner_sim.frame import FloatArray
from scanner_sim.images import Geometry
from scanner_sim.scenario import ScenarioError

LESION = "Lesion"
# Okabe and Ito's colours, told apart by the colour-blind too.
_COLOURS = ([240, 228, 66], [86, 180, 233], [230, 159, 0], [0, 158, 115], [204, 121, 167])
_MAKER, _MODEL, _VERSION, _SERIAL = "Iceball Monitor", "scanner_sim plan", "1", "SIM"


def rtstruct(
    study: Study,
    bodies: Mapping[str, Level],
    geometry: Geometry,
    shape: tuple[int, int, int],
    images: Sequence[Dataset] = (),
) -> Dataset:
    """Closed planar contours on the planes of an axial, untilted stack of ``shape`` (slice, row,
    column); ``images`` are the slices it refers to, where there are any yet."""
    x, y, z = _axes(geometry, shape)
    d = study.new(RTStructureSetStorage, "rtstruct")
    d.Modality, d.StructureSetLabel = "RTSTRUCT", "PLAN"
    d.Manufacturer, d.ManufacturerModelName = _MAKER, _MODEL
    d.SeriesInstanceUID, d.SeriesNumber, d.InstanceNumber = study.uid("rtstruct series"), 900, 1
    d.OperatorsName = ""
    stamp(d, "StructureSet", study.when(0.0), 6)
    d.ReferencedFrameOfReferenceSequence = [_referenced_frame(study, images)]
    d.StructureSetROISequence = [_roi(study, n, name) for n, name in enumerate(bodies, 1)]
    d.ROIContourSequence = [
        _contours(n, _lines(level, x, y, z)) for n, level in enumerate(bodies.values(), 1)
    ]
    d.RTROIObservationsSequence = [_observation(n, name) for n, name in enumerate(bodies, 1)]
    return d


def segmentation(study: Study, bodies: Mapping[str, Level], images: Sequence[Dataset]) -> Dataset:
    """Binary segments on ``images``, the CT slices of one untilted or tilted stack."""
    masks = np.stack([_mask(body, images) for body in bodies.values()], axis=-1)
    empty = [name for n, name in enumerate(bodies) if not masks[..., n].any()]
    if empty:
        raise ScenarioError(f"SEG: {', '.join(empty)} lies outside the images")
    d: Dataset = highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=masks.astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(n, name) for n, name in enumerate(bodies, 1)],
        series_instance_uid=study.uid("seg series"),
        series_number=901,
        sop_instance_uid=study.uid("instance", "seg"),
        instance_number=1,
        manufacturer=_MAKER,
        manufacturer_model_name=_MODEL,
        software_versions=_VERSION,
        device_serial_number=_SERIAL,
        content_label="PLAN",
        dimension_organization_type=None,
    )
    d.ContentCreatorName = ""  # of type 2 in PS3.3 of 2020; highdicom follows a later edition
    _settle(d, study)
    return d


def _settle(d: Dataset, study: Study) -> None:
    """Replaces what highdicom takes from the clock and at random, so that same is same."""
    now: datetime = study.when(0.0)
    for what in ("Series", "Content", "InstanceCreation"):
        stamp(d, what, now, 6)
    uid = study.uid("seg dimensions")
    d.DimensionOrganizationSequence[0].DimensionOrganizationUID = uid
    for item in d.DimensionIndexSequence:
        item.DimensionOrganizationUID = uid
    for item in d.get("ContributingEquipmentSequence", []):
        item.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")


def _axes(g: Geometry, shape: tuple[int, int, int]) -> tuple[FloatArray, FloatArray, FloatArray]:
    directions = [*g.row_direction, *g.column_direction, *g.step_lps_mm[:2]]
    if not np.allclose(directions, [1, 0, 0, 0, 1, 0, 0, 0], atol=1e-6):
        raise ScenarioError("RTSTRUCT: contours need axial, untilted planes along the patient axes")
    x0, y0, z0 = g.origin_lps_mm
    return (
        x0 + g.spacing_mm[0] * np.arange(shape[2]),
        y0 + g.spacing_mm[1] * np.arange(shape[1]),
        z0 + g.step_lps_mm[2] * np.arange(shape[0]),
    )


def _referenced_frame(study: Study, images: Sequence[Dataset]) -> Dataset:
    item = Dataset()
    item.FrameOfReferenceUID = study.frame_of_reference_uid
    if not images:
        return item
    series, referenced = Dataset(), Dataset()
    series.SeriesInstanceUID = images[0].SeriesInstanceUID
    series.ContourImageSequence = [_reference(image) for image in images]
    referenced.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"  # Detached Study, as C.8.8.5 asks
    referenced.ReferencedSOPInstanceUID = images[0].StudyInstanceUID
    referenced.RTReferencedSeriesSequence = [series]
    item.RTReferencedStudySequence = [referenced]
    return item


def _reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = image.SOPClassUID
    item.ReferencedSOPInstanceUID = image.SOPInstanceUID
    return item


def _roi(study: Study, number: int, name: str) -> Dataset:
    roi = Dataset()
    roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, name, "MANUAL"
    roi.ReferencedFrameOfReferenceUID = study.frame_of_reference_uid
    return roi


def _observation(number: int, name: str) -> Dataset:
    seen = Dataset()
    seen.ObservationNumber, seen.ReferencedROINumber = number, number
    seen.RTROIInterpretedType = "GTV" if name == LESION else "AVOIDANCE"
    seen.ROIInterpreter = ""
    return seen


def _contours(number: int, lines: Sequence[FloatArray]) -> Dataset:
    item = Dataset()
    item.ReferencedROINumber, item.ROIDisplayColor = number, _COLOURS[(number - 1) % len(_COLOURS)]
    contours = []
    for points in lines:
        contour = Dataset()
        contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
        contour.ContourData = [f"{v:.3f}" for v in points.ravel()]
        contours.append(contour)
    if contours:
        item.ContourSequence = contours
    return item


def _lines(level: Level, x: FloatArray, y: FloatArray, z: FloatArray) -> list[FloatArray]:
    """The body's closed outlines (n, 3) on each plane that it crosses. A body that leaves the image
    ends at its edge, half a pixel beyond the last centres: the rim mirrors the level's sign."""
    outlines: list[FloatArray] = []
    rim_x, rim_y = (np.concatenate([[2 * a[0] - a[1]], a, [2 * a[-1] - a[-2]]]) for a in (x, y))
    outside = np.pad(np.zeros((len(y), len(x)), bool), 1, constant_values=True)
    for height in z:
        plane = np.asarray(level(x[None, :], y[:, None], np.asarray(height)), float)
        if not (plane < 0).any():
            continue
        padded = np.pad(plane, 1, mode="edge")
        padded[outside] = np.abs(padded[outside]) + 1e-6
        generator: Any = contourpy.contour_generator(rim_x, rim_y, padded)
        for line in generator.lines(0.0):
            if len(line) > 3:
                ring = line[:-1]  # closed: its last point is its first
                outlines.append(np.column_stack([ring, np.full(len(ring), height)]))
    return outlines


def _mask(level: Level, images: Sequence[Dataset]) -> npt.NDArray[np.bool_]:
    """What lies inside, at the pixel centres of each image (image, row, column)."""
    planes = []
    for image in images:
        row, column = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
        origin = np.array(image.ImagePositionPatient, float)
        j = np.arange(image.Rows)[:, None] * float(image.PixelSpacing[0])
        i = np.arange(image.Columns)[None, :] * float(image.PixelSpacing[1])
        x, y, z = (origin[a] + i * row[a] + j * column[a] for a in range(3))
        planes.append(np.asarray(level(x, y, z)) < 0)
    return np.stack(planes)


def _segment(number: int, name: str) -> Any:
    lesion = name == LESION
    category = (
        codes.SCT.MorphologicallyAbnormalStructure if lesion else codes.SCT.AnatomicalStructure
    )
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=category,
        segmented_property_type=codes.SCT.Lesion if lesion else codes.SCT.AnatomicalStructure,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
    )
