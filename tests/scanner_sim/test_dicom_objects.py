"""What the simulated scanner writes: where it lies, how dense it is, whose it is. LPS mm, HU."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage

from scanner_sim import scenario as scenarios
from scanner_sim.console import writer_of
from scanner_sim.dicom import pixels, profiles, structures
from scanner_sim.dicom.study import Procedure
from scanner_sim.dicom.writer import Writer
from scanner_sim.frame import Frame
from scanner_sim.images import Geometry
from scanner_sim.patient.anatomy import Anatomy, outline
from scanner_sim.plan import planning_images, write_plan
from scanner_sim.render import Renderer
from scanner_sim.scenario import Scenario, ScenarioError
from tests.scanner_sim.blocks import AWE, small
from tests.scanner_sim.samples import (
    BODIES,
    EPOCH_UTC_S,
    PROCEDURE,
    TECHNIQUE,
    acquisition,
    fluoro,
    geometry,
    writer,
)

PROFILES = profiles.names()
SCOUT = Geometry(
    (-60.0, 0.0, 200.0), (1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 1.2)
)


def as_bytes(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def read_back(dataset: Dataset) -> Dataset:
    return pydicom.dcmread(io.BytesIO(as_bytes(dataset)))


def hounsfield(d: Dataset) -> np.ndarray:
    return d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept)


def position(d: Dataset) -> np.ndarray:
    return np.array(d.ImagePositionPatient, float)


def everything(w: Writer) -> list[Dataset]:
    slices = [*w.slices(acquisition()), *w.slices(fluoro(2))]
    plan = structures.rtstruct(w.study, BODIES, geometry(), (8, 48, 40), slices[:8])
    seg = structures.segmentation(w.study, BODIES, slices[:8])
    scout = w.scout(np.full((50, 60), -200, np.int16), SCOUT, TECHNIQUE, -30.0)
    return [*slices, plan, seg, scout, w.dose_page(["Total DLP 123 mGy·cm"], 900.0)]


def unseen_slices(scenario: Scenario, number: int = 0) -> list[Dataset]:
    """The slices of a scenario's own scan, in their places and in its scanner's habits; 32² pixels
    without a patient."""
    o = outline(scenario)
    nothing = np.zeros((0, 0, 0), np.float32)
    anatomy = Anatomy(
        o.frame,
        o.lesion,
        o.lesion_centre_lps_mm,
        o.structures,
        o.needles,
        nothing,
        nothing.astype(np.uint8),
    )
    found = Renderer(scenario, anatomy, o.frame).described(number)
    hu = np.zeros((scenario.scanner.slices, 32, 32), np.int16)
    images = tuple(replace(image, hu=hu) for image in found.images)
    return list(writer_of(scenario, EPOCH_UTC_S).slices(replace(found, images=images)))


def corners(rows: int, columns: int) -> np.ndarray:
    y, x = np.mgrid[:rows, :columns]
    u, v = (y + 0.5) / rows - 0.5, (x + 0.5) / columns - 0.5
    return u**2 + v**2 > 0.25


# ------------------------------------------------------------------ CT images


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("syntax", pixels.SYNTAXES)
def test_density_and_place_survive_every_maker_and_syntax(profile: str, syntax: str) -> None:
    image = acquisition(tilt_deg=18.5).images[0]
    written = [
        read_back(d) for d in writer(profile, syntax=syntax).slices(acquisition(tilt_deg=18.5))
    ]
    assert {d.file_meta.TransferSyntaxUID for d in written} == {pixels.SYNTAXES[syntax]}
    seen = set()
    for d in written:
        k = round((position(d)[2] - 100.0) / 2.5)
        seen.add(k)
        inside = np.full(image.hu[k].shape, True)
        if profile == "ge":  # pads what lies outside the reconstruction circle
            inside = ~corners(*image.hu[k].shape)
            assert (d.pixel_array[~inside] == d.PixelPaddingValue).all()
        assert (hounsfield(d)[inside] == image.hu[k][inside]).all()
        g = image.geometry
        assert position(d) == pytest.approx(
            np.add(g.origin_lps_mm, k * np.array(g.step_lps_mm)), abs=1e-6
        )
        directions = [*g.row_direction, *g.column_direction]
        assert [float(v) for v in d.ImageOrientationPatient] == pytest.approx(directions, abs=1e-6)
        # DICOM's first is between rows; ours is along a row.
        assert [float(v) for v in d.PixelSpacing] == pytest.approx(g.spacing_mm[::-1])
        assert d["PixelPaddingValue"].VR == "SS" if "PixelPaddingValue" in d else profile != "ge"
    assert seen == set(range(8))


@pytest.mark.parametrize(
    ("profile", "low", "high"),
    [("siemens", -1024, 3071), ("philips", -1024, 3071), ("ge", -20000, 20000)],
)
def test_metal_is_clipped_where_the_bits_end(profile: str, low: int, high: int) -> None:
    acquired = acquisition(slices=1)
    acquired.images[0].hu[0, 20, 20:22] = (-20000, 20000)
    (d,) = writer(profile).slices(acquired)
    assert hounsfield(d)[20, 20:22].tolist() == [low, high]


@pytest.mark.parametrize("profile", PROFILES)
def test_one_patient_one_study_one_frame(profile: str) -> None:
    objects = everything(writer(profile))
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "StudyTime"):
        assert len({str(d[keyword].value) for d in objects}) == 1
    assert {str(d.PatientName) for d in map(read_back, objects)} == {"DUPONT^Hélène"}
    frames = {str(d.FrameOfReferenceUID) for d in objects if "FrameOfReferenceUID" in d}
    assert frames == {writer(profile).study.frame_of_reference_uid}
    uids = [str(d.SOPInstanceUID) for d in objects]
    assert len(set(uids)) == len(uids)


@pytest.mark.parametrize("profile", PROFILES)
def test_same_seed_and_epoch_same_bytes(profile: str) -> None:
    one, same = everything(writer(profile)), everything(writer(profile))
    assert [as_bytes(d) for d in one] == [as_bytes(d) for d in same]


def test_the_frame_outlives_the_epoch_and_nothing_else_does() -> None:
    profile = profiles.load("siemens")
    now, later = (Writer(PROCEDURE, profile, EPOCH_UTC_S + s).study for s in (0.0, 1.0))
    assert now.frame_of_reference_uid == later.frame_of_reference_uid
    assert now.uid("study") != later.uid("study")
    other = Writer(Procedure("sample", 8, "SIM-1", "A, B", "liver"), profile, EPOCH_UTC_S).study
    assert other.frame_of_reference_uid != now.frame_of_reference_uid


def test_no_two_instances_have_one_uid() -> None:
    w = writer("siemens")
    written = [*w.slices(acquisition(1, 12)), *w.slices(acquisition(10, 2, ("soft", "sharp")))]
    assert len({str(d.SOPInstanceUID) for d in written}) == len(written) == 16


def test_other_objects_have_other_uids_and_the_same_patient_the_same_frame() -> None:
    s = small("liver_near_vessel", slices=2)
    made = {
        "as it is": s,
        "vendor": replace(s, scanner=replace(s.scanner, vendor="ge")),
        "series": replace(s, scanner=replace(s.scanner, series="single")),
        "anatomy": replace(s, digest="of a real series"),
        "seed": replace(s, seed=s.seed + 1),
    }
    slices = {what: unseen_slices(own) for what, own in made.items()}
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        values = [{str(d[keyword].value) for d in found} for found in slices.values()]
        assert len(set.union(*values)) == sum(map(len, values)), keyword
    frames = {what: str(found[0].FrameOfReferenceUID) for what, found in slices.items()}
    assert frames["as it is"] == frames["vendor"] == frames["series"]
    assert len(set(frames.values())) == 3


@pytest.mark.parametrize("name", scenarios.names())
def test_position_and_side_are_those_of_the_patient(name: str) -> None:
    s = scenarios.load(name)
    for d in unseen_slices(s):
        prone = float(d.ImageOrientationPatient[0]) < 0
        assert d.PatientPosition == ("HFP" if prone else "HFS")
        assert prone == s.habitus.prone
        paired = s.organ not in ("liver", "abdominal_wall")
        side = "L" if s.lesion.centre_lps_mm[0] > 0 else "R"
        assert d.get("Laterality") == (side if paired else None)


@pytest.mark.parametrize(
    ("vendor", "series", "count"),
    [("canon", None, 1), ("ge", None, 2), ("canon", "per_scan", 2), ("ge", "single", 1)],
)
def test_the_makers_habit_counts_where_the_scenario_has_none(
    vendor: str, series: str | None, count: int
) -> None:
    s = small(AWE, vendor=vendor, series=series, slices=2)
    written = [d for n in (0, 1) for d in unseen_slices(s, n)]
    assert len({str(d.SeriesInstanceUID) for d in written}) == count


def test_two_kernels_are_two_series_of_one_acquisition() -> None:
    written = list(writer("siemens").slices(acquisition(1, kernels=("soft", "sharp"))))
    series = {str(d.SeriesInstanceUID): d.ConvolutionKernel[0] for d in written}
    assert list(series.values()) == ["Br38f", "Br59f"]
    assert len({d.SeriesNumber for d in written}) == 2
    for keyword in ("FrameOfReferenceUID", "AcquisitionNumber", "IrradiationEventUID"):
        assert len({str(d[keyword].value) for d in written}) == 1
    halves = [[tuple(position(d)) for d in half] for half in (written[:8], written[8:])]
    assert halves[0] == halves[1]
    assert [d.AcquisitionTime for d in written[:8]] == [d.AcquisitionTime for d in written[8:]]


@pytest.mark.parametrize(("habit", "count"), [("per_scan", 3), ("single", 1)])
def test_repeated_scans_share_a_series_or_not(habit: str, count: int) -> None:
    w = writer("siemens", series=habit)
    written = [d for n in range(3) for d in w.slices(acquisition(n))]
    assert len({str(d.SeriesInstanceUID) for d in written}) == count
    assert len({int(d.SeriesNumber) for d in written}) == count
    numbers = [int(d.InstanceNumber) for d in written]
    assert numbers == (list(range(1, 25)) if habit == "single" else [*range(1, 9)] * 3)
    if habit == "single":  # what is said of the series is said once
        assert len({d.SeriesTime for d in written}) == 1


def test_fluoroscopy_is_one_series_of_recurring_places() -> None:
    for profile in PROFILES:
        written = list(writer(profile).slices(fluoro(frames=4)))
        assert len({str(d.SeriesInstanceUID) for d in written}) == 1
        assert [int(d.InstanceNumber) for d in written] == list(range(1, 13))
        places = [tuple(position(d)) for d in written]
        assert places == places[:3] * 4
        assert len({str(d.SOPInstanceUID) for d in written}) == 12
        times = [float(d.AcquisitionTime) for d in written]
        assert times == sorted(times)
        assert len(set(times[::3])) == 4, profile
        np.testing.assert_allclose(np.diff(times[::3]), 0.25, atol=2e-3)


# ------------------------------------------------------------------ the makers' habits


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


# ------------------------------------------------------------------ scout, dose page, plan


@pytest.mark.parametrize("profile", PROFILES)
def test_a_scout_is_ct_image_storage_and_not_axial(profile: str) -> None:
    hu = (np.arange(50)[:, None] * 10 + np.arange(60)[None, :] - 700).astype(np.int16)
    d = read_back(writer(profile).scout(hu, SCOUT, TECHNIQUE, -30.0))
    assert d.SOPClassUID == CTImageStorage
    assert d.ImageType[2] == "LOCALIZER"
    assert (hounsfield(d) == hu).all()
    assert [float(v) for v in d.PixelSpacing] == [1.2, 1.0]
    assert [float(v) for v in d.ImageOrientationPatient] == [1, 0, 0, 0, 0, -1]
    slices = list(writer(profile).slices(acquisition()))
    assert d.SeriesInstanceUID not in {s.SeriesInstanceUID for s in slices}
    assert d.FrameOfReferenceUID == slices[0].FrameOfReferenceUID


def test_a_dose_page_is_secondary_capture_that_says_ct_and_can_be_read() -> None:
    d = read_back(writer("philips").dose_page(["TOTAL DLP 123", "second line"], 900.0))
    assert (d.SOPClassUID, d.Modality) == (SecondaryCaptureImageStorage, "CT")
    assert "ImagePositionPatient" not in d
    assert "FrameOfReferenceUID" not in d
    ink = d.pixel_array > 128
    assert 50 < ink.sum() < 2000
    lines = np.flatnonzero(np.diff(ink.any(axis=1).astype(int)) == 1)
    assert len(lines) == 2


def test_rtstruct_and_seg_hold_the_same_bodies() -> None:
    w = writer("siemens")
    images = list(w.slices(acquisition()))
    plan = read_back(structures.rtstruct(w.study, BODIES, geometry(), (8, 48, 40)))
    seg = read_back(structures.segmentation(w.study, BODIES, images))
    assert [r.ROIName for r in plan.StructureSetROISequence] == list(BODIES)
    assert [s.SegmentLabel for s in seg.SegmentSequence] == list(BODIES)
    types = [o.RTROIInterpretedType for o in plan.RTROIObservationsSequence]
    assert types == ["GTV", "AVOIDANCE"]
    voxel_mm3 = 0.8 * 0.7 * 2.5
    for n in range(len(BODIES)):
        area_mm2 = 0.0
        for contour in plan.ROIContourSequence[n].ContourSequence:
            x, y, _ = np.array(contour.ContourData, float).reshape(-1, 3).T
            area_mm2 += 0.5 * abs(x @ np.roll(y, 1) - y @ np.roll(x, 1))
        frames = [
            k
            for k, f in enumerate(seg.PerFrameFunctionalGroupsSequence)
            if f.SegmentIdentificationSequence[0].ReferencedSegmentNumber == n + 1
        ]
        voxels = seg.pixel_array[frames].sum()
        assert voxels * voxel_mm3 == pytest.approx(area_mm2 * 2.5, rel=0.06)


def test_seg_refers_to_the_baseline_and_lies_on_it() -> None:
    w = writer("ge")
    images = list(w.slices(acquisition(tilt_deg=18.5)))
    seg = structures.segmentation(w.study, BODIES, images)
    referred = {
        str(i.ReferencedSOPInstanceUID)
        for i in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert referred == {str(d.SOPInstanceUID) for d in images}
    points = []
    for mask, f in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        if f.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1:
            origin = np.array(f.PlanePositionSequence[0].ImagePositionPatient, float)
            down = np.array(images[0].ImageOrientationPatient[3:], float)
            j, i = np.nonzero(mask)
            points.append(origin + j[:, None] * 0.7 * down + i[:, None] * [0.8, 0, 0])
    assert np.concatenate(points).mean(0) == pytest.approx([0.0, -8.0, 110.0], abs=0.5)


def test_rtstruct_refers_to_images_where_there_are_any() -> None:
    w = writer("siemens")
    images = list(w.slices(acquisition()))
    (frame,) = structures.rtstruct(
        w.study, BODIES, geometry(), (8, 48, 40), images
    ).ReferencedFrameOfReferenceSequence
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == images[0].SeriesInstanceUID
    assert len(series.ContourImageSequence) == 8


@pytest.mark.parametrize("name", scenarios.names())
@pytest.mark.parametrize("square", [True, False])
def test_the_plan_refers_to_images_that_lie_where_it_says(
    name: str, square: bool, tmp_path: Path
) -> None:
    s = small(name, matrix=96, slices=24)
    o = outline(s)
    if not square:
        o = replace(o, frame=Frame(o.frame.x[:-4], o.frame.y[3:], o.frame.z))
    w = writer_of(s, EPOCH_UTC_S)
    write_plan(s, o, w, tmp_path, "ICEBALL", 11112)
    plan, seg = (pydicom.dcmread(tmp_path / f"{n}.dcm") for n in ("rtstruct", "seg"))
    images = {str(d.SOPInstanceUID): d for d in planning_images(w, o.frame)}
    one = next(iter(images.values()))
    lies = ("HFP", -1.0) if s.habitus.prone else ("HFS", 1.0)
    assert (one.PatientPosition, float(one.ImageOrientationPatient[0])) == lies

    study = plan.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    assert study.ReferencedSOPInstanceUID == one.StudyInstanceUID == plan.StudyInstanceUID
    (series,) = study.RTReferencedSeriesSequence
    (of_seg,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == of_seg.SeriesInstanceUID == one.SeriesInstanceUID
    for sequence in (series.ContourImageSequence, of_seg.ReferencedInstanceSequence):
        assert {str(i.ReferencedSOPInstanceUID) for i in sequence} == set(images)
    sent = unseen_slices(s)
    assert not {str(d.SOPInstanceUID) for d in sent} & set(images)
    assert one.SeriesInstanceUID not in {d.SeriesInstanceUID for d in sent}
    for d in (sent[0], plan, seg):
        assert d.FrameOfReferenceUID == one.FrameOfReferenceUID

    shared = seg.SharedFunctionalGroupsSequence[0]
    direction = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    assert list(direction) == list(one.ImageOrientationPatient)
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == list(one.PixelSpacing)
    assert (seg.Rows, seg.Columns) == (one.Rows, one.Columns) == o.frame.shape[1:]
    voxels = 0
    for mask, f in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        source = f.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        at = np.array(f.PlanePositionSequence[0].ImagePositionPatient, float)
        assert at == pytest.approx(position(images[source]), abs=1e-5)
        if f.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1:
            row, column = np.array(direction, float).reshape(2, 3)
            j, i = np.nonzero(mask)
            dy, dx = (float(v) for v in one.PixelSpacing)
            points = at + i[:, None] * dx * row + j[:, None] * dy * column
            assert o.lesion(*points.T).max() < 1e-3
            voxels += len(i)
    assert voxels == (o.lesion(*o.frame.grid()) < 0).sum() > 0
    heights = {round(float(position(d)[2]), 2) for d in images.values()}
    for contour in plan.ROIContourSequence[0].ContourSequence:
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        assert abs(o.lesion(*points.T)).max() < 1.0
        assert round(float(points[0, 2]), 2) in heights


# ------------------------------------------------------------------ what cannot be


def test_errors_name_what_there_is() -> None:
    with pytest.raises(ScenarioError, match="there are ge, siemens, philips, canon"):
        profiles.load("acme")
    with pytest.raises(ScenarioError, match="there are explicit, implicit"):
        writer("ge", syntax="gif")
    with pytest.raises(ScenarioError, match="ge has soft, sharp"):
        list(writer("ge").slices(acquisition(kernels=("bone",))))
    with pytest.raises(ScenarioError, match="untilted"):
        structures.rtstruct(writer().study, BODIES, geometry(10.0), (8, 48, 40))
    far = {"Liver": lambda x, y, z: np.broadcast_to(1.0, np.broadcast(x, y, z).shape)}
    with pytest.raises(ScenarioError, match="Liver lies outside"):
        structures.segmentation(writer().study, far, list(writer().slices(acquisition())))
