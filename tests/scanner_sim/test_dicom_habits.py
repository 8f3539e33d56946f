"""What each maker writes in a way of its own."""

from __future__ import annotations

import re
from datetime import timedelta, timezone
from pathlib import Path

import pydicom
import pytest

from scanner_sim.dicom import profiles
from tests.scanner_sim.dicom_objects import (
    PROFILES,
    position,
    read_back,
)
from tests.scanner_sim.samples import (
    acquisition,
    writer,
)


@pytest.mark.parametrize(("profile", "ascends"), [("ge", False), ("siemens", False)])
def test_instances_are_numbered_from_head_to_feet_or_back(profile: str, ascends: bool) -> None:
    first, *_, last = writer(profile).slices(acquisition())
    assert (last.InstanceNumber, first.InstanceNumber) == (8, 1)
    assert (position(last)[2] > position(first)[2]) == ascends
    first, *_, last = writer("philips").slices(acquisition())
    assert position(last)[2] > position(first)[2]


def test_acquisition_numbers() -> None:
    numbers = {
        p: [int(d.AcquisitionNumber) for d in writer(p).slices(acquisition(4))] for p in PROFILES
    }
    assert numbers.pop("ge") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert list(numbers.values()) == [[5] * 8] * 3


def test_tilt_is_told_with_each_makers_sign() -> None:
    told = {
        p: float(next(writer(p).slices(acquisition(tilt_deg=18.5))).GantryDetectorTilt)
        for p in PROFILES
    }
    # PS3.3 C.8.2.1, as the Philips phantom has it; the GE head has the other.
    assert told == {"ge": 18.5, "siemens": -18.5, "philips": -18.5, "canon": -18.5}


def test_times() -> None:
    slices = {p: list(writer(p).slices(acquisition(1))) for p in PROFILES}
    assert [d.AcquisitionTime for d in slices["siemens"][:2]] == ["000100.000000", "000100.500000"]
    assert {d.AcquisitionTime for d in slices["ge"]} == {"000100"}
    assert {d.AcquisitionTime for d in slices["philips"]} == {"000100"}
    assert slices["philips"][1].ContentTime == "000100.500"
    assert slices["canon"][0].ContentTime == "000104.080"
    assert slices["siemens"][1].AcquisitionDateTime == "20260101000100.500000"


def test_the_rooms_clock_is_local_and_its_offset_is_told_by_those_who_tell() -> None:
    paris = timezone(timedelta(hours=1))
    for profile in PROFILES:
        d = next(writer(profile, zone=paris).slices(acquisition()))
        assert d.AcquisitionTime.startswith("0100")
        assert d.get("TimezoneOffsetFromUTC") == ("+0100" if profile == "canon" else None)


def test_what_only_some_makers_write() -> None:
    first = {p: next(writer(p).slices(acquisition(2))) for p in PROFILES}
    for keyword, makers in {
        "ImagesInAcquisition": ["philips"],
        "TemporalPositionIdentifier": ["philips"],
        "SpacingBetweenSlices": ["philips"],
        "PixelPaddingValue": ["ge"],
        "IrradiationEventUID": ["siemens"],
    }.items():
        assert [p for p in PROFILES if keyword in first[p]] == makers, keyword
    assert first["philips"].ImagesInAcquisition == 8
    assert [first[p].RescaleIntercept for p in PROFILES] == [-1024, -1024, -1024, 0]
    assert [first[p].PixelRepresentation for p in PROFILES] == [1, 0, 0, 1]
    assert [first[p].BitsStored for p in PROFILES] == [16, 12, 12, 16]
    creators = {p: [str(e.value) for e in first[p] if e.tag.is_private_creator] for p in PROFILES}
    assert "GEMS_ACQU_01" in creators["ge"]
    assert all(creators.values())


@pytest.mark.parametrize("profile", PROFILES)
def test_decimal_strings_fit(profile: str) -> None:
    decimal = profiles.load(profile).decimal
    for value in (0.0, -0.0, 1 / 3, -249.51171875, -1234.56789012345, 1e-9, -1e-12):
        text = decimal(value)
        assert len(text) <= 16
        assert float(text) == pytest.approx(value, abs=1e-6)
        assert not re.fullmatch(r"-0*\.?0*", text)


@pytest.mark.parametrize(
    ("profile", "folder", "pattern"),
    [
        ("siemens", "totalseg_body_ct", "CT.*"),
        ("ge", "dcmqi_liver_seg/ct", "*.dcm"),
        ("philips", "dcm_qa_ct/Philips/S21610/S2010", "I*"),
    ],
)
def test_habits_are_those_of_real_series(
    ct_data: Path, profile: str, folder: str, pattern: str
) -> None:
    real = pydicom.dcmread(next(iter(sorted((ct_data / folder).glob(pattern)))))
    ours = read_back(next(writer(profile).slices(acquisition())))
    for keyword in (
        "Manufacturer", "ImageType", "RescaleIntercept", "RescaleSlope", "BitsAllocated",
        "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "Modality",
    ):  # fmt: skip
        assert ours.get(keyword) == real.get(keyword), keyword
    for keyword in ("SpacingBetweenSlices", "AcquisitionDateTime", "TimezoneOffsetFromUTC"):
        assert (keyword in ours) == (keyword in real), keyword
    for keyword in ("AcquisitionTime", "ContentTime"):
        if profile != "ge":  # this GE is from 2003
            assert len(ours[keyword].value) == len(real[keyword].value), keyword
