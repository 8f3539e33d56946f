"""A record's DICOM, read back by others: equal to what was worked out, and twice the same bytes."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import ExplicitVRLittleEndian

from monitor.cli import main
from monitor.export import ice_bodies, isotherm_bodies
from monitor.record.dicom_out import SOP_CLASSES
from monitor.record.reading import read_journal
from monitor.worked_out import WorkedOut, work_out
from tests.replay.recorded import SETTLE, Room


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baseline and a scan of the ice, from a scanner that sends an empty SpecificCharacterSet."""
    room = Room(tmp_path_factory.mktemp("exported"))
    received = room.received

    def unnamed(k: int, hu: object, number: int, **changed: object) -> object:
        return received(k, hu, number, SpecificCharacterSet="", **changed)  # type: ignore[arg-type]

    room.received = unnamed  # type: ignore[method-assign, assignment]
    room.scan(0.0)
    room.wait(2.0)
    room.act("phase_next")
    room.wait(120.0)
    room.scan(9.0)
    room.script.append(SETTLE)
    room.run()
    return room.record


@pytest.fixture(scope="module")
def out(record: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dicom")
    wanted = ["--dicom", str(folder), "--nifti", str(folder), "--csv", str(folder)]
    assert main(["export", str(record), *wanted]) == 0
    return folder


@pytest.fixture(scope="module")
def worked(record: Path, tmp_path_factory: pytest.TempPathFactory) -> WorkedOut:
    lines = read_journal(record, pytest.fail)
    return work_out(record, lines, tmp_path_factory.mktemp("scratch"))


def test_every_screen_has_the_number_of_its_scan(worked: WorkedOut) -> None:
    """Each is worked out several times, as its forecast and what follows come."""
    marks = [scan.shown.replay for scan in worked.scans.values()]
    assert [(m.scan, m.scans) for m in marks if m is not None] == [
        (n, len(marks)) for n in range(1, len(marks) + 1)
    ]
    assert len(marks) >= 2


def sources(record: Path) -> list[pydicom.Dataset]:
    """The second scan's images, by position."""
    found = [pydicom.dcmread(p) for p in (record / "blobs").glob("*.dcm")]
    scan = [d for d in found if d.SeriesInstanceUID == "1.2.3.2"]
    return sorted(scan, key=lambda d: float(d.ImagePositionPatient[2]))


def test_segments_are_what_was_worked_out(record: Path, out: Path, worked: WorkedOut) -> None:
    scan = worked.scans["v002"]
    uids = [d.SOPInstanceUID for d in sources(record)]
    for name, bodies in (
        ("ice_seg", ice_bodies(scan.volume, scan.ice, scan.registration)),
        ("predicted_seg", isotherm_bodies(scan)),
    ):
        seg = highdicom.seg.segread(out / f"v002_{name}.dcm")
        assert [s.SegmentLabel for s in seg.SegmentSequence] == [b.label for b in bodies]
        held = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
        for n, body in enumerate(bodies):
            assert np.array_equal(held[..., n], body.mask), body.label
        assert held[..., 0].any()


def test_predicted_bodies_say_so(out: Path) -> None:
    seg = pydicom.dcmread(out / "v002_predicted_seg.dcm")
    assert seg.SeriesDescription.startswith("PREDICTED")
    assert seg.ContentLabel == "PREDICTED"
    for s in seg.SegmentSequence:
        assert s.SegmentLabel.startswith("Predicted")
        named = s.SegmentationAlgorithmIdentificationSequence[0]
        assert named.AlgorithmName == "iceball bioheat forecast"


def test_objects_belong_to_the_scans_patient_study_and_frame(record: Path, out: Path) -> None:
    ct = sources(record)[0]
    for path in sorted(out.glob("v002_*.dcm")):
        made = pydicom.dcmread(path)
        assert (made.PatientID, made.StudyInstanceUID) == (ct.PatientID, ct.StudyInstanceUID)
        if "seg" in path.name:
            assert made.FrameOfReferenceUID == ct.FrameOfReferenceUID
            referred = made.ReferencedSeriesSequence[0]
            assert referred.SeriesInstanceUID == "1.2.3.2"
            named = {i.ReferencedSOPInstanceUID for i in referred.ReferencedInstanceSequence}
            assert named == {d.SOPInstanceUID for d in sources(record)}


def test_the_report_holds_the_journals_numbers(record: Path, out: Path) -> None:
    lines = read_journal(record, pytest.fail)
    recorded = [x.fields for x in lines if x.kind == "assessment"][-1]
    document = highdicom.sr.srread(out / "v002_sr.dcm")
    text = str(document)
    found = {
        str(m.name.meaning): (float(m.value), str(m.unit.value))
        for g in (
            *document.content.get_volumetric_roi_measurement_groups(),
            *document.content.get_image_measurement_groups(),
        )
        for m in g.get_measurements()
    }
    assert found["Volume"] == (recorded["ice_volume_ml"], "mL")
    assert found["Minimal margin"] == (recorded["min_margin_mm"], "mm")
    low, high = (found[f"Ice volume, {e} bound (90 %)"][0] for e in ("inner", "outer"))
    assert low < recorded["ice_volume_ml"] < high
    assert found["Distance from ice"] == (recorded["structures"][0]["distance_mm"], "mm")
    assert "bowel" in text


def test_what_is_not_known_is_no_number(out: Path) -> None:
    baseline = highdicom.sr.srread(out / "v001_sr.dcm")
    names = {
        str(m.name.meaning)
        for g in baseline.content.get_image_measurement_groups()
        for m in g.get_measurements()
    }
    assert not names & {"Minimal margin", "Ice volume", "Distance from ice"}
    assert "Unknown" in str(baseline)
    assert not (out / "v001_ice_seg.dcm").exists()


def test_the_same_record_gives_the_same_bytes(record: Path, out: Path, tmp_path: Path) -> None:
    assert main(["export", str(record), "--dicom", str(tmp_path)]) == 0
    made = sorted(p.name for p in out.glob("*.dcm"))
    assert made == sorted(p.name for p in tmp_path.iterdir())
    for name in made:
        assert (out / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_a_scan_that_is_not_as_recorded_is_not_exported(
    record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(record, tmp_path / "record")
    journal = tmp_path / "record" / "journal.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines()
    other = [
        x.replace('"volume_ml": ', '"volume_ml": 1') if '"ice_segmented"' in x else x for x in lines
    ]
    journal.write_text("\n".join(other) + "\n", encoding="utf-8")
    assert main(["export", str(tmp_path / "record"), "--dicom", str(tmp_path / "out")]) == 1
    assert "v002: not as recorded" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("v002_*"))


def test_segments_read_without_any_library_of_segments(
    record: Path, out: Path, worked: WorkedOut
) -> None:
    """Bits, frames and places as PS3.3 A.51 has them; highdicom wrote them."""
    scan = worked.scans["v002"]
    slices = {d.SOPInstanceUID: k for k, d in enumerate(sources(record))}
    heights = [float(d.ImagePositionPatient[2]) for d in sources(record)]
    for name, bodies in (
        ("ice_seg", ice_bodies(scan.volume, scan.ice, scan.registration)),
        ("predicted_seg", isotherm_bodies(scan)),
    ):
        d = pydicom.dcmread(out / f"v002_{name}.dcm")
        bits = np.unpackbits(np.frombuffer(d.PixelData, np.uint8), bitorder="little")
        frames = bits[: d.NumberOfFrames * d.Rows * d.Columns].reshape(-1, d.Rows, d.Columns)
        found = {b.label: np.zeros_like(b.mask) for b in bodies}
        labels = {int(s.SegmentNumber): s.SegmentLabel for s in d.SegmentSequence}
        for frame, groups in zip(frames, d.PerFrameFunctionalGroupsSequence, strict=True):
            segment = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            source = groups.DerivationImageSequence[0].SourceImageSequence[0]
            k = slices[source.ReferencedSOPInstanceUID]
            place = groups.PlanePositionSequence[0].ImagePositionPatient
            assert float(place[2]) == heights[k]
            found[labels[int(segment)]][k] = frame
        for body in bodies:
            assert np.array_equal(found[body.label], body.mask), body.label


def test_dsrdump_reads_the_journals_digits(record: Path, out: Path) -> None:
    dsrdump = shutil.which("dsrdump")
    if dsrdump is None:
        pytest.skip("dcmtk is not installed")
    done = subprocess.run([dsrdump, str(out / "v002_sr.dcm")], capture_output=True, check=True)
    text = done.stdout.decode("utf-8")
    said = {n: float(v) for n, v in re.findall(r'NUM:\(,,"([^"]+)"\)="([^"]+)"', text)}
    f = [x.fields for x in read_journal(record, pytest.fail) if x.kind == "assessment"][-1]
    bowel = f["structures"][0]
    low, high = f["lesion_covered_interval"]
    low_both, high_both = f["margin_covered_interval"]
    expected = {
        "Volume": f["ice_volume_ml"],
        "Share of lesion in ice": 100 * f["lesion_covered"],
        "Share of lesion in ice, low end (90 %)": 100 * low,
        "Share of lesion in ice, high end (90 %)": 100 * high,
        "Share of lesion and margin in ice": 100 * f["margin_covered"],
        "Share of lesion and margin in ice, low end (90 %)": 100 * low_both,
        "Share of lesion and margin in ice, high end (90 %)": 100 * high_both,
        "Minimal margin": f["min_margin_mm"],
        "Error of minimal margin": f["margin_error_mm"],
        "Margin asked for": f["margin_goal_mm"],
        "Distance from ice": bowel["distance_mm"],
        "Distance from ice, at least": bowel["at_least_mm"],
        "Distance asked for": bowel["limit_mm"],
    }
    bounds = {n for n in said if n.startswith("Ice volume, ")}
    assert said.keys() - bounds == expected.keys()
    assert len(bounds) == 2
    for name, value in expected.items():
        assert said[name] == round(value, 6), name


# What dicom-validator cannot judge: it asks of every content item what belongs to other value types.
_NOT_JUDGED = "SR Document Content: "


def test_dicom_validator_finds_no_error(out: Path) -> None:
    tables = pytest.importorskip("tests.scanner_sim.standard_tables")
    made = {p.name: pydicom.dcmread(p) for p in sorted(out.glob("v002_*.dcm"))}
    assert {d.SOPClassUID for d in made.values()} == set(SOP_CLASSES)
    assert {d.file_meta.TransferSyntaxUID for d in made.values()} == {ExplicitVRLittleEndian}
    info = tables.dicom_info({d.SOPClassUID for d in made.values()})
    for name, d in made.items():
        found = {e for e in tables.errors(d, info) if _NOT_JUDGED not in e}
        assert found == set(), name
    broken = made["v002_ice_seg.dcm"]
    del broken.SegmentSequence
    assert any("SegmentSequence TagMissing" in e for e in tables.errors(broken, info))


# Warnings that stay; docs/outputs.md says why.
_WARNED = (
    "Unrecognized defined term = <99ICEBALL>",
    "would be needed to build DICOMDIR",
    "</Laterality(0020,0060)> - is only permitted to be empty when actually unknown",
)


def test_dciodvfy_and_dsrdump_find_no_error(out: Path) -> None:
    dciodvfy, dsrdump = shutil.which("dciodvfy"), shutil.which("dsrdump")
    if dciodvfy is None or dsrdump is None:
        pytest.skip("dicom3tools or dcmtk is not installed")
    for path in sorted(out.glob("*.dcm")):
        done = subprocess.run([dciodvfy, "-new", str(path)], capture_output=True, check=False)
        said = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
        assert said, path.name
        assert [x for x in said if x.startswith("Error")] == [], path.name
        warned = [x for x in said if x.startswith("Warning")]
        assert [x for x in warned if not any(w in x for w in _WARNED)] == [], path.name
    subprocess.run([dsrdump, str(out / "v002_sr.dcm")], capture_output=True, check=True)


def test_nifti_and_csv_hold_the_same(record: Path, out: Path, worked: WorkedOut) -> None:
    scan = worked.scans["v002"]
    read = {p.name: SimpleITK.ReadImage(str(p)) for p in out.glob("v002_*.nii.gz")}
    ice = read["v002_ice.nii.gz"]
    measured = ice_bodies(scan.volume, scan.ice, scan.registration)
    assert np.array_equal(SimpleITK.GetArrayFromImage(ice), measured[0].mask)
    ct = read["v002_ct_hu.nii.gz"]
    assert np.array_equal(SimpleITK.GetArrayFromImage(ct), scan.volume.hu)
    g = scan.volume.geometry
    assert ct.GetOrigin() == pytest.approx(g.origin_lps_mm)
    assert scan.forecast is not None
    degc = SimpleITK.GetArrayFromImage(read["v002_plan_predicted_degc.nii.gz"])
    assert np.array_equal(degc, scan.forecast.temperature_degc[0])
    lines = read_journal(record, pytest.fail)
    recorded = [x.fields for x in lines if x.kind == "assessment"][-1]
    first, second = csv.DictReader((out / "scans.csv").open(encoding="utf-8"))
    assert float(second["min_margin_mm"]) == recorded["min_margin_mm"]
    assert first["min_margin_mm"] == ""
    raised = sum(x.kind == "alarm_raised" for x in lines)
    assert 1 <= len(list(csv.DictReader((out / "alarms.csv").open(encoding="utf-8")))) <= raised
