"""A series of CT images as one Enhanced CT object (PS3.3 A.38), as newer scanners send a scan. LPS mm, HU.

Frames lie in the order of the slices; what they share stands once. Invariant: every frame has the place, the
time and the stored values of the slice it was made of; the slices stay as they are.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, generate_uid

from scanner_sim.dicom import pixels

# As the slices have them, of the object as a whole.
_SHARED = (
    *(
        "SpecificCharacterSet",
        "TimezoneOffsetFromUTC",
        "PatientID",
        "PatientName",
        "PatientBirthDate",
    ),
    *("PatientSex", "StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "StudyDescription"),
    *("AccessionNumber", "ReferringPhysicianName", "Modality", "SeriesInstanceUID", "SeriesNumber"),
    *("SeriesDate", "SeriesTime", "SeriesDescription", "PatientPosition", "FrameOfReferenceUID"),
    *("PositionReferenceIndicator", "Manufacturer", "ManufacturerModelName", "StationName"),
    *(
        "DeviceSerialNumber",
        "SoftwareVersions",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "Rows",
    ),
    *("Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)
_ORGANIZATION = "2.25.118402765293385613870224960213358801264"
# PS3.16 CID 2 and, of what may be frozen, CID 4031: SNOMED CT.
_REGIONS = {
    "ABDOMEN": ("818981001", "Abdomen"),
    "BREAST": ("76752008", "Breast"),
    "LUNG": ("39607008", "Lung"),
    "LIVER": ("10200004", "Liver"),
    "KIDNEY": ("64033007", "Kidney"),
    "ADRENAL": ("23451007", "Adrenal gland"),
}
_BODY = ("123037004", "Body structure")


def enhanced(datasets: Sequence[Dataset], syntax: str = "explicit") -> Iterator[Dataset]:
    """Each series of CT images as one object; scouts and what is no CT image go as they are. The images must
    be uncompressed; ``syntax`` is a key of ``pixels.SYNTAXES``."""
    for _, group in groupby(datasets, key=lambda d: str(d.SeriesInstanceUID)):
        images = list(group)
        if images[0].SOPClassUID != CTImageStorage or "LOCALIZER" in images[0].ImageType:
            yield from images
        else:
            yield pixels.encode(_object(images), syntax)


def _object(images: Sequence[Dataset]) -> Dataset:
    first = images[0]
    d = Dataset()
    d.file_meta = copy.deepcopy(first.file_meta)
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    uid = UID(generate_uid(entropy_srcs=[first.SOPInstanceUID, "enhanced"]))
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = uid
    for keyword in _SHARED:
        if keyword in first:
            d[keyword] = copy.deepcopy(first[keyword])
    d.InstanceNumber = first.get("AcquisitionNumber", 1)
    d.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    d.ContentDate, d.ContentTime = images[-1].ContentDate, images[-1].ContentTime
    d.AcquisitionDateTime, d.AcquisitionDuration = _acquired(first), _duration_s(images)
    d.AcquisitionNumber = first.get("AcquisitionNumber", 1)
    d.ContentQualification, d.BurnedInAnnotation = "RESEARCH", "NO"
    d.LossyImageCompression, d.PresentationLUTShape = "00", "IDENTITY"
    d.PixelPresentation, d.VolumetricProperties = "MONOCHROME", "VOLUME"
    d.VolumeBasedCalculationTechnique = "NONE"
    d.IsocenterPosition = [0, 0, 0]
    d.AcquisitionContextSequence = []
    _dimensions(d)
    d.SharedFunctionalGroupsSequence = [_common(first)]
    d.PerFrameFunctionalGroupsSequence = list(_frames(images))
    d.NumberOfFrames = len(images)
    d.PixelData = b"".join(i.PixelData[: 2 * i.Rows * i.Columns] for i in images)
    d["PixelData"].VR = "OW"
    return d


def _acquired(image: Dataset) -> str:
    return str(
        image.get("AcquisitionDateTime") or f"{image.AcquisitionDate}{image.AcquisitionTime}"
    )


def _duration_s(images: Sequence[Dataset]) -> float:
    """From the first frame's beginning to the last one's end, as far as the stamps tell."""
    begun, last = (
        datetime.strptime(_acquired(i)[:14], "%Y%m%d%H%M%S") for i in (images[0], images[-1])
    )
    return abs((last - begun).total_seconds()) + float(images[0].ExposureTime) / 1000.0


def _dimensions(d: Dataset) -> None:
    """Frames are told apart by stack, point in time and place in the stack (PS3.3 C.7.6.17)."""
    d.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=_ORGANIZATION)]
    d.DimensionIndexSequence = [
        _item(
            DimensionOrganizationUID=_ORGANIZATION,
            DimensionIndexPointer=pointer,
            FunctionalGroupPointer=0x00209111,  # Frame Content Sequence
            DimensionDescriptionLabel=label,
        )
        for pointer, label in (
            (0x00209056, "Stack"),
            (0x00209128, "Time"),
            (0x00209057, "Position"),
        )
    ]


def _common(image: Dataset) -> Dataset:
    """The functional groups that all frames share (PS3.3 A.38.1.4)."""
    code, meaning = _REGIONS.get(image.get("BodyPartExamined", ""), _BODY)
    region = _item(CodeValue=code, CodingSchemeDesignator="SCT", CodeMeaning=meaning)
    measures = _item(PixelSpacing=image.PixelSpacing, SliceThickness=image.SliceThickness)
    if "SpacingBetweenSlices" in image:
        measures.SpacingBetweenSlices = image.SpacingBetweenSlices
    anatomy = _item(AnatomicRegionSequence=[region], FrameLaterality=image.get("Laterality") or "U")
    kernel = image.ConvolutionKernel
    return _item(
        PixelMeasuresSequence=[measures],
        PlaneOrientationSequence=[_item(ImageOrientationPatient=image.ImageOrientationPatient)],
        FrameAnatomySequence=[anatomy],
        PixelValueTransformationSequence=[_values(image)],
        FrameVOILUTSequence=[_item(WindowCenter=image.WindowCenter, WindowWidth=image.WindowWidth)],
        IrradiationEventIdentificationSequence=[_item(IrradiationEventUID=_event(image))],
        CTImageFrameTypeSequence=[_frame_type()],
        CTAcquisitionTypeSequence=[_acquisition()],
        CTAcquisitionDetailsSequence=[_details(image)],
        CTTableDynamicsSequence=[_item(TableSpeed=0.0)],
        CTGeometrySequence=[_geometry(image)],
        CTReconstructionSequence=[_reconstruction(image, kernel)],
        CTExposureSequence=[_exposure(image)],
        CTXRayDetailsSequence=[_rays(image)],
    )


def _values(image: Dataset) -> Dataset:
    return _item(
        RescaleIntercept=image.RescaleIntercept,
        RescaleSlope=image.RescaleSlope,
        RescaleType=image.RescaleType,
    )


def _event(image: Dataset) -> str:
    own = image.get("IrradiationEventUID")
    return str(own or generate_uid(entropy_srcs=[image.SeriesInstanceUID, "irradiation"]))


def _frame_type() -> Dataset:
    return _item(
        FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        PixelPresentation="MONOCHROME",
        VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
    )


def _acquisition() -> Dataset:
    return _item(AcquisitionType="SEQUENCED", ConstantVolumeFlag="NO", FluoroscopyFlag="NO")


def _details(image: Dataset) -> Dataset:
    return _item(
        RotationDirection=image.get("RotationDirection", "CW"),
        RevolutionTime=float(image.ExposureTime) / 1000.0,
        SingleCollimationWidth=float(image.SliceThickness),
        TotalCollimationWidth=float(image.SliceThickness),
        TableHeight=float(image.get("TableHeight", 0.0)),
        GantryDetectorTilt=float(image.get("GantryDetectorTilt", 0.0)),
        DataCollectionDiameter=float(image.get("DataCollectionDiameter", 500.0)),
    )


def _geometry(image: Dataset) -> Dataset:
    return _item(
        DistanceSourceToDetector=float(image.get("DistanceSourceToDetector", 1000.0)),
        DistanceSourceToDataCollectionCenter=float(image.get("DistanceSourceToPatient", 550.0)),
    )


def _reconstruction(image: Dataset, kernel: Any) -> Dataset:
    name = [str(kernel)] if isinstance(kernel, str) else [str(k) for k in kernel]
    rows = float(image.Rows) * float(image.PixelSpacing[0])
    columns = float(image.Columns) * float(image.PixelSpacing[1])
    return _item(
        ReconstructionAlgorithm="FILTER_BACK_PROJ",
        ConvolutionKernel=name,
        ConvolutionKernelGroup="SOFT_TISSUE",
        ReconstructionFieldOfView=[columns, rows],
        ReconstructionPixelSpacing=[float(v) for v in image.PixelSpacing],
        ImageFilter="NONE",
        ReconstructionAngle=360.0,
    )


def _exposure(image: Dataset) -> Dataset:
    return _item(
        ExposureTimeInms=float(image.ExposureTime),
        XRayTubeCurrentInmA=float(image.XRayTubeCurrent),
        ExposureInmAs=float(image.Exposure),
        ExposureModulationType=["NONE"],
        EstimatedDoseSaving=0.0,
        CTDIvol=0.066 * float(image.Exposure),
    )


def _rays(image: Dataset) -> Dataset:
    return _item(
        KVP=image.KVP,
        FocalSpots=[float(v) for v in _several(image.get("FocalSpots", 1.2))],
        FilterType="FLAT",
        FilterMaterial=["ALUMINUM"],
    )


def _several(value: Any) -> list[Any]:
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else [value]


def _frames(images: Sequence[Dataset]) -> Iterator[Dataset]:
    """Of a fluoroscopy the same places come again and again: each time is a point in time."""
    places = sorted({_place(i) for i in images})
    if _descends(images):
        places.reverse()
    seen: Counter[float] = Counter()
    for image in images:
        place = _place(image)
        seen[place] += 1
        position, at = places.index(place) + 1, seen[place]
        content = _item(
            FrameReferenceDateTime=_acquired(image),
            FrameAcquisitionDateTime=_acquired(image),
            FrameAcquisitionDuration=float(image.ExposureTime),
            FrameAcquisitionNumber=image.get("AcquisitionNumber", 1),
            StackID="1",
            InStackPositionNumber=position,
            TemporalPositionIndex=at,
            DimensionIndexValues=[1, at, position],
        )
        yield _item(
            FrameContentSequence=[content],
            PlanePositionSequence=[_item(ImagePositionPatient=image.ImagePositionPatient)],
            CTPositionSequence=[
                _item(
                    TablePosition=float(image.ImagePositionPatient[2]),
                    ReconstructionTargetCenterPatient=[
                        float(v) for v in image.ImagePositionPatient
                    ],
                    DataCollectionCenterPatient=[0.0, 0.0, float(image.ImagePositionPatient[2])],
                )
            ],
        )


def _place(image: Dataset) -> float:
    return float(image.ImagePositionPatient[2])


def _descends(images: Sequence[Dataset]) -> bool:
    return len(images) > 1 and _place(images[1]) < _place(images[0])


def _item(**elements: Any) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item
