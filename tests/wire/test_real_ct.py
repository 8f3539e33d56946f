"""Real CT, pushed by DCMTK into a running monitor: geometry, Hounsfield units, rejections."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from tests.wire.live import LiveProcess, sphere_case, unaccounted

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


def push(dcmtk: dict[str, str], port: int, files: list[Path], *options: str) -> None:
    for start in range(0, len(files), 100):
        subprocess.run(
            [
                dcmtk["storescu"],
                "-aec",
                "ICEBALL",
                "-aet",
                "SCANNER",
                *options,
                "127.0.0.1",
                str(port),
                *map(str, files[start : start + 100]),
            ],
            check=True,
            capture_output=True,
        )


def dicom_files(folder: Path, pattern: str) -> list[Path]:
    files = sorted(folder.glob(pattern))
    assert files, f"{folder}/{pattern} is empty"
    return files


def check_volume(record: Path, line: dict[str, Any], files: list[Path]) -> None:
    """Each slice of the journal's volume lies where its file says, and has its file's HU."""
    hu = np.load(record / line["pixels"])
    by_uid = {}
    for path in files:
        d = pydicom.dcmread(path)
        by_uid[str(d.SOPInstanceUID)] = d
    positions = np.array(line["slice_positions_lps_mm"])
    assert (
        hu.shape == (line["slices"], line["rows"], line["columns"]) == (len(files), *hu.shape[1:])
    )
    for k, uid in enumerate(line["sop_instance_uids"]):
        d = by_uid[uid]
        np.testing.assert_allclose(positions[k], np.array(d.ImagePositionPatient, float), atol=0.01)
        directions = [*line["row_direction"], *line["column_direction"]]
        np.testing.assert_allclose(
            directions, np.array(d.ImageOrientationPatient, float), atol=1e-4
        )
        np.testing.assert_allclose(
            line["spacing_mm"][:2], [float(d.PixelSpacing[1]), float(d.PixelSpacing[0])], atol=1e-5
        )
        expected = d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept)
        assert np.abs(hu[k] - expected).max() <= 1.0


def test_body_ct_in_jpeg_2000(ct_data: Path, dcmtk: dict[str, str], tmp_path: Path) -> None:
    files = []
    for source in dicom_files(ct_data / "totalseg_body_ct", "CT.*"):
        d = pydicom.dcmread(source)
        # De-identified to the point of having neither; a scanner sends both.
        d.SOPClassUID = CT_IMAGE_STORAGE
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID
        d.file_meta.MediaStorageSOPClassUID = CT_IMAGE_STORAGE
        files.append(tmp_path / f"{source.name}.dcm")
        d.save_as(files[-1])
    case = sphere_case(tmp_path, "", (-5.0, -190.0, -785.0))
    with LiveProcess(case, tmp_path / "record") as live:
        push(dcmtk, live.port, files, "-xv")
        live.wait_accounted(len(files))
        (line,) = live.journal("volume_completed")
        assert (
            line["status"] == "DEGRADED"
        )  # nobody said whose it is or of what series, and it is years old
        assert {r["code"] for r in line["reasons"]} == {
            "patient_unidentified",
            "clock_offset",
            "series_uid_missing",
        }
        check_volume(live.record, line, files)


def test_tilted_series_of_two_sweeps(ct_data: Path, dcmtk: dict[str, str], tmp_path: Path) -> None:
    """One series, gaps of 1 to 7 mm: its ImageType tells two evenly spaced sweeps apart."""
    files = dicom_files(ct_data / "dcm_qa_ct" / "GE", "*.dcm")
    case = sphere_case(tmp_path, "QMNx85rKkkg", (0.0, -20.0, 80.0))
    with LiveProcess(case, tmp_path / "record") as live:
        push(dcmtk, live.port, files)
        live.wait_accounted(len(files))
        lines = live.journal("volume_completed")
        assert [x["slices"] for x in lines] == [14, 14]
        assert sorted(x["spacing_mm"][2] for x in lines) == pytest.approx([4.22, 7.38], abs=0.01)
        for line in lines:
            assert line["tilt_deg"] == pytest.approx(18.5, abs=0.05)
            mine = [
                f
                for f in files
                if str(pydicom.dcmread(f).SOPInstanceUID) in line["sop_instance_uids"]
            ]
            check_volume(live.record, line, mine)


def test_variable_gap_within_one_sweep(
    ct_data: Path, dcmtk: dict[str, str], tmp_path: Path
) -> None:
    """The same slices, said to be one sweep: every slice keeps its own place."""
    files = []
    for source in dicom_files(ct_data / "dcm_qa_ct" / "GE", "*.dcm"):
        d = pydicom.dcmread(source)
        d.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        files.append(tmp_path / source.name)
        d.save_as(files[-1])
    case = sphere_case(tmp_path, "QMNx85rKkkg", (0.0, -20.0, 80.0))
    with LiveProcess(case, tmp_path / "record") as live:
        push(dcmtk, live.port, files)
        live.wait_accounted(len(files))
        (line,) = live.journal("volume_completed")
        assert "variable_slice_gap" in [r["code"] for r in line["reasons"]]
        check_volume(live.record, line, files)


def test_tilted_by_dcmsend(ct_data: Path, dcmtk: dict[str, str], tmp_path: Path) -> None:
    folder = ct_data / "dcm_qa_ct" / "Philips" / "S21610" / "S2010"
    files = dicom_files(folder, "I*")
    case = sphere_case(tmp_path, "PLASTIC", (0.0, 80.0, 800.0))
    with LiveProcess(case, tmp_path / "record") as live:
        subprocess.run(
            [dcmtk["dcmsend"], "-aec", "ICEBALL", "127.0.0.1", str(live.port), *map(str, files)],
            check=True,
            capture_output=True,
        )
        live.wait_accounted(len(files))
        (line,) = live.journal("volume_completed")
        assert line["status"] == "DEGRADED"
        assert [r["code"] for r in line["reasons"]] == ["clock_offset"]
        assert line["tilt_deg"] == pytest.approx(18.5, abs=0.05)
        check_volume(live.record, line, files)


def test_scout_and_dose_pages_are_rejected_beside_a_volume(
    ct_data: Path, dcmtk: dict[str, str], tmp_path: Path
) -> None:
    study = ct_data / "dcm_qa_ct" / "Philips" / "S21570"
    scout, series, dose = (dicom_files(study / name, "I*") for name in ("S1000", "S2010", "S4010"))
    case = sphere_case(tmp_path, "PLASTIC", (0.0, 110.0, 760.0))
    with LiveProcess(case, tmp_path / "record") as live:
        push(dcmtk, live.port, [*scout, *series, *dose])
        live.wait_accounted(len(scout) + len(series) + len(dose))
        (line,) = live.journal("volume_completed")
        check_volume(live.record, line, series)
        rejected = live.journal("instance_rejected")
        assert sorted(x["reason"] for x in rejected) == [
            "localizer",
            *["secondary_capture"] * len(dose),
        ]
        assert all(x["text"] for x in rejected)
        kept = [live.record / x["path"] for x in rejected]
        assert all(path.parent.name == "quarantine" and path.is_file() for path in kept)
        push(dcmtk, live.port, series)  # the same again
        live.wait_accounted(2 * len(series) + len(scout) + len(dose))
        assert len(live.journal("volume_completed")) == 1
    assert unaccounted(live.journal()) == 0
    assert live.journal()[-1]["kind"] == "procedure_ended"
    assert [x["seq"] for x in live.journal()] == list(range(1, len(live.journal()) + 1))


@pytest.mark.requirement("REQ-PATIENT")
def test_another_patient_blocks_until_the_operator_clears(
    ct_data: Path, dcmtk: dict[str, str], tmp_path: Path
) -> None:
    files = dicom_files(ct_data / "dcm_qa_ct" / "GE", "*.dcm")
    case = sphere_case(tmp_path, "SOMEBODY-ELSE", (0.0, -20.0, 80.0))
    with LiveProcess(case, tmp_path / "record") as live:
        push(dcmtk, live.port, files)
        live.wait_accounted(len(files))
        assert {x["reason"] for x in live.journal("instance_rejected")} == {"patient_mismatch"}
        assert not live.journal("volume_completed")
        live.wait(
            lambda lines: [
                x for x in lines if x["kind"] == "alarm_raised" and x["code"] == "patient_mismatch"
            ]
        )
        live.type("clear")
        live.wait(
            lambda lines: [
                x for x in lines if x["kind"] == "alarm_cleared" and x["code"] == "patient_mismatch"
            ]
        )
