"""CT images and an RTSTRUCT as a scanner and a planning system write them. LPS mm, UTC.

Invariant: one patient, one study, one frame of reference for a procedure; UIDs depend on the seed
and the epoch alone, so that the same procedure is the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import contourpy
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    RTStructureSetStorage,
    generate_uid,
)

from scanner_sim.anatomy import Frame
from scanner_sim.bodies import FloatArray, Level
from scanner_sim.scenario import Scenario


class Writer:
    """Writes the objects of one procedure whose baseline is acquired at ``epoch_utc_s``."""

    def __init__(self, scenario: Scenario, frame: Frame, epoch_utc_s: float) -> None:
        self._scenario, self._frame, self._epoch_utc_s = scenario, frame, epoch_utc_s
        # The patient lies where the plan saw him: plan and images share the frame, whenever written.
        self.frame_of_reference_uid = str(
            generate_uid(entropy_srcs=[scenario.name, str(scenario.seed), "frame"])
        )

    def _uid(self, *what: object) -> str:
        sources = [
            self._scenario.name,
            str(self._scenario.seed),
            repr(self._epoch_utc_s),
            *map(str, what),
        ]
        return str(generate_uid(entropy_srcs=sources))

    def slices(self, number: int, time_s: float, hu: npt.NDArray[np.int16]) -> Iterator[Dataset]:
        """The images of scan ``number``, head to feet or feet to head as z ascends."""
        each_s = self._scenario.scan.duration_s / len(hu)
        for k in range(len(hu)):
            yield self._slice(number, k, self._epoch_utc_s + time_s + k * each_s, hu[k])

    def _slice(
        self, number: int, k: int, acquired_utc_s: float, hu: npt.NDArray[np.int16]
    ) -> Dataset:
        frame, spacing = self._frame, self._frame.spacing_mm
        d = self._common(CTImageStorage, self._uid("image", number, k))
        d.Modality = "CT"
        d.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        d.SeriesInstanceUID = self._uid("series", number)
        d.SeriesNumber, d.AcquisitionNumber, d.InstanceNumber = number + 2, number + 1, k + 1
        d.SeriesDescription = f"Ablation check {number}" if number else "Baseline"
        when = datetime.fromtimestamp(acquired_utc_s, UTC)
        d.SeriesDate = d.AcquisitionDate = d.ContentDate = when.strftime("%Y%m%d")
        d.SeriesTime = d.AcquisitionTime = d.ContentTime = when.strftime("%H%M%S.%f")
        d.BodyPartExamined, d.PatientPosition = "ABDOMEN", "HFS"
        d.KVP, d.XRayTubeCurrent, d.ExposureTime = "120", 180, 1000
        d.ConvolutionKernel, d.SliceThickness = "B30f", f"{spacing[2]:.4f}"
        d.SpacingBetweenSlices, d.GantryDetectorTilt = f"{spacing[2]:.4f}", "0"
        d.ImagePositionPatient = [f"{v:.6f}" for v in (frame.x[0], frame.y[0], frame.z[k])]
        d.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
        d.PixelSpacing = [f"{spacing[1]:.6f}", f"{spacing[0]:.6f}"]
        d.PositionReferenceIndicator = ""
        d.Rows, d.Columns = hu.shape
        d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
        d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 12, 11, 0
        d.RescaleIntercept, d.RescaleSlope, d.RescaleType = "-1024", "1", "HU"
        d.WindowCenter, d.WindowWidth = "40", "400"
        d.PixelData = (hu.astype(np.int32) + 1024).astype("<u2").tobytes()
        return d

    def _common(self, sop_class: str, instance_uid: str) -> Dataset:
        d = Dataset()
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = UID(sop_class)
        meta.MediaStorageSOPInstanceUID = UID(instance_uid)
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.file_meta = meta
        d.SpecificCharacterSet = "ISO_IR 192"
        d.SOPClassUID, d.SOPInstanceUID = sop_class, instance_uid
        when = datetime.fromtimestamp(self._epoch_utc_s, UTC)
        d.StudyDate, d.StudyTime = when.strftime("%Y%m%d"), when.strftime("%H%M%S.%f")
        d.TimezoneOffsetFromUTC = "+0000"
        d.AccessionNumber, d.ReferringPhysicianName, d.StudyID = "", "", "1"
        d.Manufacturer, d.ManufacturerModelName = "Iceball Monitor", "scanner_sim"
        d.StudyDescription = "Simulated cryoablation (not a patient)"
        d.PatientID = self._scenario.patient_id
        d.PatientName = self._scenario.patient_label.replace(", ", "^")
        d.PatientBirthDate, d.PatientSex = "", "O"
        d.StudyInstanceUID = self._uid("study")
        d.FrameOfReferenceUID = self.frame_of_reference_uid
        return d

    def rtstruct(self, bodies: Mapping[str, Level]) -> Dataset:
        """The plan's delineations as closed planar contours on the scan's slices."""
        d = self._common(RTStructureSetStorage, self._uid("rtstruct"))
        d.Modality, d.StructureSetLabel = "RTSTRUCT", "PLAN"
        d.SeriesInstanceUID, d.SeriesNumber, d.InstanceNumber = self._uid("rtstruct series"), 900, 1
        d.StructureSetDate, d.StructureSetTime = d.StudyDate, d.StudyTime
        frame_item = Dataset()
        frame_item.FrameOfReferenceUID = self.frame_of_reference_uid
        d.ReferencedFrameOfReferenceSequence = Sequence([frame_item])
        d.StructureSetROISequence, d.ROIContourSequence, d.RTROIObservationsSequence = (
            Sequence(),
            Sequence(),
            Sequence(),
        )
        for number, (name, level) in enumerate(bodies.items(), 1):
            d.StructureSetROISequence.append(self._roi(number, name))
            d.ROIContourSequence.append(self._contours(number, level))
            seen = Dataset()
            seen.ObservationNumber, seen.ReferencedROINumber = number, number
            seen.RTROIInterpretedType = "GTV" if name == "Lesion" else "AVOIDANCE"
            seen.ROIInterpreter = ""
            d.RTROIObservationsSequence.append(seen)
        return d

    def _roi(self, number: int, name: str) -> Dataset:
        roi = Dataset()
        roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, name, "MANUAL"
        roi.ReferencedFrameOfReferenceUID = self.frame_of_reference_uid
        return roi

    def _contours(self, number: int, level: Level) -> Dataset:
        item = Dataset()
        item.ReferencedROINumber, item.ROIDisplayColor = number, [240, 228, 66]
        item.ContourSequence = Sequence()
        x, y = self._frame.x[None, :], self._frame.y[:, None]
        for z in self._frame.z:
            plane = np.asarray(level(x, y, np.asarray(z)), float)
            for line in _closed_lines(self._frame, plane):
                contour = Dataset()
                contour.ContourGeometricType, contour.NumberOfContourPoints = (
                    "CLOSED_PLANAR",
                    len(line),
                )
                points = np.column_stack([line, np.full(len(line), z)])
                contour.ContourData = [f"{v:.3f}" for v in points.ravel()]
                item.ContourSequence.append(contour)
        return item


def _closed_lines(frame: Frame, plane: FloatArray) -> list[FloatArray]:
    if not (plane < 0).any():
        return []
    generator: Any = contourpy.contour_generator(frame.x, frame.y, plane)
    return [line[:-1] for line in generator.lines(0.0) if len(line) > 3]
