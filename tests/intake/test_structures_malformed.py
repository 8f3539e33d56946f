"""Damaged RTSTRUCTs: refused with the file's name, and never read in part. LPS mm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from monitor.config import ShapeFile, StructureConfig
from monitor.intake.structures import StructureError, load_structure
from monitor.model import Role


def block(path: Path) -> Path:
    """A 20 x 20 x 18 mm block, contours every 2 mm, as ROI 1."""
    d, meta = Dataset(), FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = d.SOPClassUID = RTStructureSetStorage
    meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID = generate_uid()
    d.file_meta = meta
    roi, contours = Dataset(), Dataset()
    roi.ROINumber, roi.ROIName = 1, "Block"
    contours.ContourSequence = Sequence(_square(float(z)) for z in range(0, 18, 2))
    contours.ReferencedROINumber = 1
    d.StructureSetROISequence, d.ROIContourSequence = Sequence([roi]), Sequence([contours])
    pydicom.dcmwrite(path, d, enforce_file_format=True)
    return path


def _square(z: float) -> Dataset:
    c = Dataset()
    c.ContourGeometricType, c.NumberOfContourPoints = "CLOSED_PLANAR", 4
    c.ContourData = [0.0, 0.0, z, 20.0, 0.0, z, 20.0, 20.0, z, 0.0, 20.0, z]
    return c


def load(path: Path) -> object:
    return load_structure(StructureConfig("lesion", Role.LESION, ShapeFile(path, "Block"), None))


def first(d: Dataset) -> Dataset:
    return d.ROIContourSequence[0].ContourSequence[0]


def no_points(d: Dataset) -> None:
    del first(d).ContourData


def no_roi_number(d: Dataset) -> None:
    del d.StructureSetROISequence[0].ROINumber


def no_reference(d: Dataset) -> None:
    del d.ROIContourSequence[0].ReferencedROINumber


def not_a_multiple_of_three(d: Dataset) -> None:
    first(d).ContourData = [1.0, 2.0, 3.0, 4.0]


def two_points(d: Dataset) -> None:
    first(d).ContourData = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]


def out_of_plane(d: Dataset) -> None:
    first(d).ContourData = [0.0, 0.0, 0.0, 20.0, 0.0, 5.0, 20.0, 20.0, 0.0]


def no_contours(d: Dataset) -> None:
    del d.ROIContourSequence[0].ContourSequence


def test_the_block_itself_is_read(tmp_path: Path) -> None:
    load(block(tmp_path / "rt.dcm"))


@pytest.mark.requirement("REQ-HOSTILE-FILES")
@pytest.mark.parametrize(
    "damage",
    [
        no_points,
        no_roi_number,
        no_reference,
        not_a_multiple_of_three,
        two_points,
        out_of_plane,
        no_contours,
    ],
)
def test_damage_is_refused_by_name(tmp_path: Path, damage: Callable[[Dataset], None]) -> None:
    d = pydicom.dcmread(block(tmp_path / "rt.dcm"))
    damage(d)
    pydicom.dcmwrite(tmp_path / "damaged.dcm", d)
    with pytest.raises(StructureError, match=r"damaged\.dcm"):
        load(tmp_path / "damaged.dcm")


@pytest.mark.parametrize("percent", [35, 50, 65, 80, 95])
def test_a_file_cut_off_is_not_read_in_part(tmp_path: Path, percent: int) -> None:
    whole = block(tmp_path / "rt.dcm").read_bytes()
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(whole[: len(whole) * percent // 100])
    with pytest.raises(StructureError, match=r"cut\.dcm"):
        load(cut)
