"""A DICOM object without its patient: what a list names is kept, and nothing else.

PS3.15 E.1 lists what to take out; a list of what to keep needs no guess about what a sender may add.
UIDs, ids and dates are dicognito's to replace. Invariant: no private element, no text of an operator's, no
overlay and no unknown element is in what is returned; an object that says that its pixels name somebody
raises.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import pydicom
from dicognito.anonymizer import Anonymizer
from dicognito.datetimeanonymizer import DateTimeAnonymizer
from pydicom.uid import RTStructureSetStorage, SecondaryCaptureImageStorage

from monitor.deidentified.substitutes import Substitutes
from monitor.intake.attributes import acquired_utc_s

_OBJECT = """SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID
Modality PatientID SeriesNumber InstanceNumber StudyDate StudyTime SeriesDate SeriesTime ContentDate
ContentTime AcquisitionDate AcquisitionTime AcquisitionDateTime InstanceCreationDate
InstanceCreationTime TimezoneOffsetFromUTC BurnedInAnnotation Manufacturer ManufacturerModelName"""
_PIXELS = """ImageType Rows Columns NumberOfFrames BitsAllocated BitsStored HighBit
PixelRepresentation SamplesPerPixel PlanarConfiguration PhotometricInterpretation PixelPaddingValue
PixelPaddingRangeLimit PixelData ExtendedOffsetTable ExtendedOffsetTableLengths
LossyImageCompression LossyImageCompressionRatio LossyImageCompressionMethod RescaleSlope
RescaleIntercept RescaleType WindowCenter WindowWidth"""
_PLACE = """ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness
SpacingBetweenSlices SliceLocation GantryDetectorTilt PatientPosition AcquisitionNumber
ImagesInAcquisition"""
_CT = """KVP XRayTubeCurrent Exposure ExposureTime DataCollectionDiameter ReconstructionDiameter
ConvolutionKernel TableHeight SingleCollimationWidth TotalCollimationWidth SpiralPitchFactor CTDIvol"""
_FRAMES = """SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence PlanePositionSequence
PlaneOrientationSequence PixelMeasuresSequence PixelValueTransformationSequence FrameContentSequence
StackID TemporalPositionIndex InStackPositionNumber FrameReferenceDateTime FrameAcquisitionDateTime
FrameAcquisitionDuration FrameAcquisitionNumber DimensionIndexValues CTImageFrameTypeSequence
FrameType PixelPresentation VolumetricProperties VolumeBasedCalculationTechnique
CTReconstructionSequence FrameVOILUTSequence ConcatenationUID InConcatenationNumber
InConcatenationTotalNumber ConcatenationFrameOffsetNumber DimensionOrganizationType
DimensionOrganizationSequence DimensionOrganizationUID DimensionIndexSequence DimensionIndexPointer
FunctionalGroupPointer"""
_SEGMENTS = """SegmentSequence SegmentNumber SegmentAlgorithmType SegmentationType
SegmentationFractionalType MaximumFractionalValue SegmentsOverlap SegmentIdentificationSequence
ReferencedSegmentNumber ReferencedSeriesSequence ReferencedInstanceSequence ReferencedSOPClassUID
ReferencedSOPInstanceUID"""
_CONTOURS = """StructureSetDate StructureSetTime StructureSetROISequence ROINumber
ReferencedFrameOfReferenceUID ROIGenerationAlgorithm ROIContourSequence ROIDisplayColor
ReferencedROINumber ContourSequence ContourNumber ContourGeometricType NumberOfContourPoints
ContourData ContourImageSequence RTROIObservationsSequence ObservationNumber RTROIInterpretedType
ReferencedFrameOfReferenceSequence RTReferencedStudySequence RTReferencedSeriesSequence
ReferencedSOPClassUID ReferencedSOPInstanceUID ReferencedFrameNumber"""
KEPT = frozenset(" ".join((_OBJECT, _PIXELS, _PLACE, _CT, _FRAMES, _SEGMENTS, _CONTOURS)).split())
# Attributes of type 2: there, and empty (PS3.3 C.7.1.1, C.7.2.1).
_EMPTY = ("PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber", "ReferringPhysicianName")
_TEXT = frozenset({"AE", "AS", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT", "PN"})


class Unsafe(ValueError):
    """An object cannot be made safe; says why, and nothing that the object says."""


def refuse_burned_in(d: pydicom.Dataset) -> None:
    """Raises ``Unsafe``: pixels are not looked at, and cannot be mended here."""
    if str(d.get("BurnedInAnnotation") or "").strip().upper() == "YES":
        raise Unsafe("its pixels hold annotations (BurnedInAnnotation YES)")
    if str(d.get("SOPClassUID") or "") == SecondaryCaptureImageStorage:
        raise Unsafe("it is a secondary capture, which may show whose it is")


class Deidentifier:
    """``words``: in lower case, what a text that is kept must not hold."""

    def __init__(self, substitutes: Substitutes, words: Collection[str]) -> None:
        self._to, self._words = substitutes, words
        self._anonymizer = Anonymizer(seed=substitutes.secret)
        self._anonymizer.add_element_handler(DateTimeAnonymizer(-24 * substitutes.days))

    def object(self, d: Any) -> Any:
        """In place, with the file's meta information. Raises ``Unsafe``."""
        refuse_burned_in(d)
        acquired = acquired_utc_s(d)
        patient_id = self._to.patient_id(str(d.get("PatientID") or ""))
        self._keep(d)
        d.file_meta = _meta(d)
        self._anonymizer.anonymize(d)
        d.PatientID, d.PatientName = patient_id, patient_id and f"{patient_id}^"
        for keyword in _EMPTY:
            setattr(d, keyword, "")
        _named(d)
        if acquired is not None and not d.get("TimezoneOffsetFromUTC"):
            # Stamps without a zone are this machine's; on another date, or elsewhere, that would be another.
            there = datetime.fromtimestamp(acquired).astimezone()
            d.TimezoneOffsetFromUTC = f"{there:%z}"[:5]
        d.preamble = b"\0" * 128
        return d

    def _keep(self, d: pydicom.Dataset) -> None:
        for tag in list(d.keys()):
            if pydicom.datadict.keyword_for_tag(tag) not in KEPT:
                del d[tag]
                continue
            element = d[tag]
            if element.VR == "SQ":
                for item in element.value:
                    self._keep(item)
            elif (element.VR in _TEXT and self._tells(element.value)) or not _may_be_moved(element):
                element.value = ""

    def _tells(self, value: Any) -> bool:
        text = str(value or "").lower()
        return not text.isascii() or any(word in text for word in self._words)


def _may_be_moved(element: pydicom.DataElement) -> bool:
    """A date that is none cannot, and is not kept."""
    if element.VR not in ("DA", "DT"):
        return True
    values = (
        element.value if isinstance(element.value, pydicom.multival.MultiValue) else [element.value]
    )
    try:
        for value in filter(None, map(str, values)):
            datetime.strptime(
                value.replace(".", "", 2)[:8] if element.VR == "DA" else value[:8], "%Y%m%d"
            )
    except ValueError:
        return False
    return True


def _meta(d: Any) -> Any:
    """Nothing of who wrote or sent the file."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = d.file_meta.TransferSyntaxUID
    meta.MediaStorageSOPClassUID = d.get("SOPClassUID") or d.file_meta.MediaStorageSOPClassUID
    meta.MediaStorageSOPInstanceUID = (
        d.get("SOPInstanceUID") or d.file_meta.MediaStorageSOPInstanceUID
    )
    return meta


def _named(d: Any) -> None:
    """Regions and segments by their numbers, in words that every reader needs."""
    for roi in d.get("StructureSetROISequence") or ():
        roi.ROIName = f"ROI {int(roi.ROINumber)}"
    for seen in d.get("RTROIObservationsSequence") or ():
        seen.ROIInterpreter = ""
    if d.get("SOPClassUID") == RTStructureSetStorage:
        d.StructureSetLabel = "RTSTRUCT"
    for segment in d.get("SegmentSequence") or ():
        segment.SegmentLabel = f"Segment {int(segment.SegmentNumber)}"
        if segment.get("SegmentAlgorithmType") not in (None, "MANUAL"):
            segment.SegmentAlgorithmName = "unknown"
        for keyword in (
            "SegmentedPropertyCategoryCodeSequence",
            "SegmentedPropertyTypeCodeSequence",
        ):
            setattr(segment, keyword, [_tissue()])
    if "SegmentSequence" in d:
        d.ContentLabel, d.ContentDescription, d.ContentCreatorName = "SEG", "", ""


def _tissue() -> pydicom.Dataset:
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "85756007", "SCT"
    code.CodeMeaning = "Tissue"
    return code
