"""Scout, dose page, RTSTRUCT and SEG of the simulated scanner, and what cannot be written. LPS mm, HU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage

from scanner_sim import scenario as scenarios
from scanner_sim.console import writer_of
from scanner_sim.dicom import profiles, structures
from scanner_sim.frame import Frame
from scanner_sim.patient.anatomy import outline
from scanner_sim.plan import planning_images, write_plan
from scanner_sim.scenario import ScenarioError
from tests.scanner_sim.blocks import small
from tests.scanner_sim.dicom_objects import (
    PROFILES,
    SCOUT,
    hounsfield,
    position,
    read_back,
    unseen_slices,
)
from tests.scanner_sim.samples import (
    BODIES,
    EPOCH_UTC_S,
    TECHNIQUE,
    acquisition,
    geometry,
    writer,
)


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
