"""Masks as files: where their voxels lie, that they are whole, and what a SEG refers to. LPS mm."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK

from monitor.geometry import SliceGeometry
from monitor.record.masks import MaskError, write_nifti, write_seg
from tests.intake.intake_helpers import ct_dataset

# Turned about the body's axis and leaning: no entry of the affine is a round number.
_ROW = np.array([np.cos(0.3), np.sin(0.3), 0.0])
_COLUMN = np.array([-np.sin(0.3) * np.cos(0.2), np.cos(0.3) * np.cos(0.2), np.sin(0.2)])
_NORMAL = np.cross(_ROW, _COLUMN)
GEOMETRY = SliceGeometry((-31.0, 17.0, 101.5), tuple(_ROW), tuple(_COLUMN), tuple(_NORMAL),
                         0.7, 0.9, (0.0, 2.5, 5.0, 7.5), 3.0, 6, 5)  # fmt: skip
MASK = (np.arange(4 * 6 * 5) % 7 == 0).astype(np.uint8).reshape(4, 6, 5)


@pytest.mark.requirement("REQ-ORIENTATION")
def test_every_voxel_lies_where_its_pixel_did(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", MASK, GEOMETRY)
    image = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    assert (SimpleITK.GetArrayFromImage(image) == MASK).all()
    for k, j, i in ((0, 0, 0), (3, 5, 4), (2, 1, 3)):
        point = image.TransformIndexToPhysicalPoint((i, j, k))
        assert point == pytest.approx(GEOMETRY.to_lps_mm(np.array([k, j, i])), abs=1e-3)


def test_the_bytes_say_the_same_in_niftis_own_axes(tmp_path: Path) -> None:
    """By the header alone (NIfTI-1, sform): the axes run to the right, anterior, superior."""
    write_nifti(tmp_path / "a.nii.gz", MASK, GEOMETRY)
    header = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())[:348]
    assert struct.unpack_from("<h", header, 254)[0] > 0  # sform_code
    affine = np.array(struct.unpack_from("<12f", header, 280)).reshape(3, 4)
    for k, j, i in ((0, 0, 0), (3, 5, 4), (2, 1, 3)):
        ras = affine @ (i, j, k, 1)
        assert ras * (-1, -1, 1) == pytest.approx(GEOMETRY.to_lps_mm(np.array([k, j, i])), abs=1e-3)


def images(folder: Path) -> list[Path]:
    """Four tilted slices, unevenly spaced."""
    paths = []
    for k, z in enumerate((0.0, 2.5, 6.0, 8.5)):
        d = ct_dataset(k)
        d.ImageOrientationPatient = [1, 0, 0, 0, np.cos(0.2), np.sin(0.2)]
        d.ImagePositionPatient = [-10.0, -20.0, z]
        paths.append(folder / f"{k}.dcm")
        d.save_as(paths[-1], enforce_file_format=True)
    return paths


def test_a_seg_holds_tilted_and_uneven_slices_exactly(tmp_path: Path) -> None:
    paths = images(tmp_path)
    mask = np.zeros((4, 16, 12), np.uint8)
    mask[1, 3:6, 2:4], mask[3, 8, 8] = 1, 1
    write_seg(tmp_path / "seg.dcm", mask, paths)
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    uids = [pydicom.dcmread(p).SOPInstanceUID for p in paths]
    held = seg.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert (held == mask).all()
    places = [
        [float(v) for v in f.PlanePositionSequence[0].ImagePositionPatient]
        for f in seg.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(places) == [[-10.0, -20.0, 2.5], [-10.0, -20.0, 8.5]]
    assert seg.PatientID == "P1"


def test_a_seg_without_ice_can_be_written(tmp_path: Path) -> None:
    write_seg(tmp_path / "seg.dcm", np.zeros((4, 16, 12), np.uint8), images(tmp_path))
    assert not highdicom.seg.segread(tmp_path / "seg.dcm").pixel_array.any()


def test_what_cannot_be_written_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MaskError, match=r"file/a\.nii: cannot be written"):
        write_nifti(tmp_path / "file" / "a.nii", MASK, GEOMETRY)
    paths = images(tmp_path)
    with pytest.raises(MaskError, match=r"seg\.dcm: the scan's images cannot be referred to"):
        write_seg(tmp_path / "seg.dcm", MASK[:2], paths)
    assert not (tmp_path / "seg.dcm").exists()


@pytest.mark.requirement("REQ-RECORD")
def test_a_failure_leaves_the_old_file_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.nii"
    target.write_bytes(b"old")

    def fail(image: object, path: str, compress: bool) -> None:
        Path(path).write_bytes(b"half")
        raise RuntimeError("disk full")

    monkeypatch.setattr("monitor.record.masks.SimpleITK.WriteImage", fail)
    with pytest.raises(MaskError, match="disk full"):
        write_nifti(target, MASK, GEOMETRY)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.nii", b"old")]
