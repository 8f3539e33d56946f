"""What was measured and forecast of one scan, as DICOM: SEG, SR (TID 1500), secondary capture. LPS mm, ml.

Everything refers to the scan's own CT slices and lies in its frame of reference. UIDs and dates follow from
what is in an object and from the record: the same record gives the same bytes. Invariant: what is predicted
says so in its series, its labels and its algorithm; what is not known is no number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
from highdicom import sr
from pydicom.sr.codedict import codes
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from monitor.record.account import Fields, ScanAccount, interval, number, rows
from monitor.record.masks import FROZEN, Mask

_MAKER, _SCHEME = "Iceball Monitor", "99ICEBALL"
NOTICE = "Research software, not a medical device"
MEASURED, PREDICTED = "iceball measurement", "iceball bioheat forecast"
SOP_CLASSES = (SegmentationStorage, Comprehensive3DSRStorage, SecondaryCaptureImageStorage)
_ML = ("mL", "UCUM", "milliliter")
_SERIES = {"ice": 9001, "isotherms": 9002, "measurements": 9003, "screen": 9004}


@dataclass(frozen=True)
class Body:
    """A segment: its label, its code in our own scheme and its mask on the scan's slices."""

    label: str
    code: tuple[str, str]
    mask: Mask


@dataclass(frozen=True)
class Source:
    """The scan's CT headers in the order of its slices, and what tells its record from all others."""

    images: tuple[pydicom.Dataset, ...]
    record_key: str
    made_utc_s: float

    @property
    def study_uid(self) -> str:
        return str(self.images[0].StudyInstanceUID)


def ice_seg(source: Source, number: int, bodies: Sequence[Body]) -> Any:
    """The measured ice and its bounds. Raises ``ValueError`` and its like where the CT cannot be
    referred to."""
    return _seg(source, "ice", number, bodies, MEASURED, codes.DCM.EdgeDetection,
                "Ice, measured in CT")  # fmt: skip


def isotherm_seg(source: Source, number: int, bodies: Sequence[Body]) -> Any:
    """What a model predicts of temperatures."""
    family = sr.CodedConcept("BIOHEAT", _SCHEME, "Bioheat simulation")
    return _seg(source, "isotherms", number, bodies, PREDICTED, family,
                "PREDICTED isotherms")  # fmt: skip


def _seg(
    source: Source,
    kind: str,
    number: int,
    bodies: Sequence[Body],
    algorithm: str,
    family: Any,
    series: str,
) -> Any:
    named = highdicom.AlgorithmIdentificationSequence(
        name=algorithm, version=_release(), family=family
    )
    derived = kind == "isotherms"
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=n,
            segment_label=b.label,
            segmented_property_category=codes.SCT.SpatialAndRelationalConcept
            if derived
            else codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=sr.CodedConcept(b.code[0], _SCHEME, b.code[1]),
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=named,
            tracking_uid=_uid(source, kind, b.label, "tracking"),
            tracking_id=b.label[:64],
        )
        for n, b in enumerate(bodies, 1)
    ]
    pixels = np.stack([b.mask for b in bodies], -1).astype(np.uint8)
    seg = highdicom.seg.Segmentation(
        source_images=list(source.images),
        pixel_array=pixels,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=_uid(source, kind, "series"),
        series_number=_SERIES[kind],
        sop_instance_uid=_uid(
            source, kind, str(number), _digest(pixels), *(b.label for b in bodies)
        ),
        instance_number=number,
        manufacturer=_MAKER,
        manufacturer_model_name=algorithm,
        software_versions=_release(),
        device_serial_number="none",
        content_label="PREDICTED" if derived else "ICE",
        content_description=f"{series} ({NOTICE})"[:64],
        series_description=f"{series} ({NOTICE})"[:64],
    )
    seg.ContentCreatorName = ""  # no person made it (PS3.3 C.8.20.2)
    return _dated(_named_codes(seg), source)


# ------------------------------------------------------------------ measurements


def measurements(
    source: Source, number_: int, scan: ScanAccount, bounds_ml: tuple[float, float] | None, seg: Any
) -> Any:
    """SR of a scan's last assessment. ``seg``: its ice; None where it has none."""
    device = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=_uid(source, "device"),
            name="iceball-monitor",
            manufacturer_name=_MAKER,
            model_name=_release(),
        ),
    )
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=device),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=_groups(source, scan, bounds_ml, seg),
        title=codes.DCM.ImagingMeasurementReport,
    )
    evidence = [*source.images, *([] if seg is None else [seg])]
    digest = hashlib.sha256(repr((dict(scan.assessment), bounds_ml)).encode()).hexdigest()
    document = sr.Comprehensive3DSR(
        evidence=evidence,
        content=report[0],
        series_instance_uid=_uid(source, "measurements", "series"),
        series_number=_SERIES["measurements"],
        sop_instance_uid=_uid(source, "measurements", scan.volume_id, digest),
        instance_number=number_,
        manufacturer=_MAKER,
        is_complete=True,
        is_verified=False,
        series_description=f"Ice measurements ({NOTICE})"[:64],
    )
    return _dated(_named_codes(document), source)


def _groups(
    source: Source, scan: ScanAccount, bounds_ml: tuple[float, float] | None, seg: Any
) -> list[Any]:
    f = scan.assessment
    volume = [_num("ICEVOL", "Ice volume", number(f, "ice_volume_ml"), _ML, codes.SCT.Volume)]
    for code, name, end in (("ICEVOLLO", "Ice volume, inner bound (90 %)", 0),
                            ("ICEVOLHI", "Ice volume, outer bound (90 %)", 1)):  # fmt: skip
        volume.append(_num(code, name, None if bounds_ml is None else bounds_ml[end], _ML))
    percent, mm = ("%", "UCUM", "percent"), ("mm", "UCUM", "millimeter")
    lesion = []
    for code, what in (("LESCOV", "lesion"), ("MARCOV", "margin")):
        share, ends = number(f, f"{what}_covered"), interval(f, f"{what}_covered_interval")
        name = "Share of lesion in ice" if what == "lesion" else "Share of lesion and margin in ice"
        lesion.append(_num(code, name, _scaled(share), percent))
        for end, said in ((0, "low end (90 %)"), (1, "high end (90 %)")):
            value = None if ends is None else _scaled(ends[end])
            lesion.append(
                _num(f"{code}{'LO' if end == 0 else 'HI'}", f"{name}, {said}", value, percent)
            )
    lesion.append(_num("MINMARGIN", "Minimal margin", number(f, "min_margin_mm"), mm))
    lesion.append(_num("MARGINERR", "Error of minimal margin", number(f, "margin_error_mm"), mm))
    lesion.append(_num("MARGINGOAL", "Margin asked for", number(f, "margin_goal_mm"), mm))
    groups = [_group(source, "ice", volume, scan, seg), _group(source, "lesion", lesion, scan)]
    for s in rows(f, "structures"):
        name = str(s.get("name"))
        found = [
            _num("ICEDIST", "Distance from ice", number(s, "distance_mm"), mm),
            _num("ICEDISTLO", "Distance from ice, at least", number(s, "at_least_mm"), mm),
            _num("ICELIMIT", "Distance asked for", number(s, "limit_mm"), mm),
        ]
        groups.append(_group(source, name, found, scan))
    return groups


def _scaled(share: float | None) -> float | None:
    return None if share is None else 100.0 * share


def _num(
    code: str, name: str, value: float | None, unit: tuple[str, str, str], standard: Any = None
) -> tuple[Any, Any]:
    """A measurement, or a statement that it is not known."""
    concept = standard or sr.CodedConcept(code, _SCHEME, name)
    if value is None:
        return None, sr.QualitativeEvaluation(
            sr.CodedConcept(code, _SCHEME, name), codes.SCT.Unknown
        )
    return sr.Measurement(concept, round(value, 6), sr.CodedConcept(*unit)), None


def _group(
    source: Source,
    tracked: str,
    found: Sequence[tuple[Any, Any]],
    scan: ScanAccount,
    seg: Any = None,
) -> Any:
    status = str(scan.assessment.get("status") or "unknown")
    said = [sr.QualitativeEvaluation(
        sr.CodedConcept("STATUS", _SCHEME, "Trust in the measurement"),
        sr.CodedConcept(status.upper()[:16], _SCHEME, status),
    )]  # fmt: skip
    said += [
        sr.QualitativeEvaluation(
            sr.CodedConcept("REASON", _SCHEME, "Why it is not trusted"),
            sr.CodedConcept(_short(r), _SCHEME, str(r.get("code"))[:64]),
        )
        for r in rows(scan.assessment, "reasons")
    ]
    common: dict[str, Any] = {
        "tracking_identifier": sr.TrackingIdentifier(
            uid=_uid(source, "tracked", tracked), identifier=tracked[:64]
        ),
        "algorithm_id": sr.AlgorithmIdentification(name=MEASURED, version=_release()),
        "measurements": [m for m, _ in found if m is not None] or None,
        "qualitative_evaluations": [*said, *(q for _, q in found if q is not None)],
    }
    if seg is not None:
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=sr.ReferencedSegment.from_segmentation(seg, segment_number=1),
            finding_type=sr.CodedConcept(*FROZEN),
            **common,
        )
    images = [sr.SourceImageForMeasurementGroup.from_source_image(i) for i in source.images]
    return sr.MeasurementsAndQualitativeEvaluations(source_images=images, **common)


def _short(reason: Fields) -> str:
    """Code values have at most 16 characters (PS3.3 8.1)."""
    code = str(reason.get("code"))
    return (
        code if len(code) <= 16 else f"{code[:9]}-{hashlib.sha256(code.encode()).hexdigest()[:6]}"
    )


# ------------------------------------------------------------------ the screen


def capture(source: Source, number: int, rgb: npt.NDArray[np.uint8], title: str) -> Any:
    """Secondary capture of a screen, (row, column, 3)."""
    image = highdicom.sc.SCImage.from_ref_dataset(
        source.images[0],
        pixel_array=rgb,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_instance_uid=_uid(source, "screen", "series"),
        series_number=_SERIES["screen"],
        sop_instance_uid=_uid(source, "screen", str(number), _digest(rgb)),
        instance_number=number,
        manufacturer=_MAKER,
        patient_orientation=("L", "P"),
        series_description=f"{title} ({NOTICE})"[:64],
    )
    image.PatientOrientation = None  # of a screen there is none
    image.Laterality = None
    image.BurnedInAnnotation = "YES"  # the patient's label is on it
    return _dated(image, source)


# ------------------------------------------------------------------ names and dates


def _release() -> str:
    return version("iceball-monitor")


def _uid(source: Source, *parts: str) -> str:
    """The same for the same record, study and parts; under 2.25 no root is needed (PS3.5 B.2)."""
    key = "\0".join((source.record_key, source.study_uid, _release(), *parts)).encode()
    return f"2.25.{int.from_bytes(hashlib.sha256(key).digest()[:16], 'big')}"


def _named_codes(made: Any) -> Any:
    """Whose the private codes are (PS3.3 C.12.1.1.6)."""
    scheme = pydicom.Dataset()
    scheme.CodingSchemeDesignator, scheme.CodingSchemeName = _SCHEME, "Codes of iceball-monitor"
    scheme.CodingSchemeResponsibleOrganization = _MAKER
    made.CodingSchemeIdentificationSequence = [
        *made.get("CodingSchemeIdentificationSequence", ()),
        scheme,
    ]
    return made


def _digest(pixels: npt.NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _dated(made: Any, source: Source) -> Any:
    """When the result was recorded, not when it is exported, wherever highdicom writes the time of day, and
    no random UID: so exports of one record are equal."""
    at = datetime.fromtimestamp(source.made_utc_s, UTC)
    date, time = f"{at:%Y%m%d}", f"{at:%H%M%S.%f}"
    for name in ("Content", "InstanceCreation"):
        setattr(made, f"{name}Date", date)
        setattr(made, f"{name}Time", time)
    own = {
        "SeriesDate": date,
        "SeriesTime": time,
        "DateOfSecondaryCapture": date,
        "TimeOfSecondaryCapture": time,
        "ContributionDateTime": date + time,
        "ObservationDateTime": date + time,
        "DimensionOrganizationUID": _uid(source, "dimensions", str(made.SOPInstanceUID)),
    }

    def fixed(_: pydicom.Dataset, element: pydicom.DataElement) -> None:
        if element.keyword in own:
            element.value = own[element.keyword]

    made.walk(fixed)
    made.TimezoneOffsetFromUTC = "+0000"
    return made
