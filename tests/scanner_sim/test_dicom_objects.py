"""CT images of the simulated scanner: where they lie, how dense they are, whose they are. LPS mm, HU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scanner_sim import scenario as scenarios
from scanner_sim.dicom import pixels, profiles
from scanner_sim.dicom.study import Procedure
from scanner_sim.dicom.writer import Writer
from tests.scanner_sim.blocks import AWE, small
from tests.scanner_sim.dicom_objects import (
    PROFILES,
    as_bytes,
    corners,
    everything,
    hounsfield,
    position,
    read_back,
    unseen_slices,
)
from tests.scanner_sim.samples import (
    EPOCH_UTC_S,
    PROCEDURE,
    acquisition,
    fluoro,
    writer,
)


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
