"""Delineations read from every kind of file, against bodies of known place and size. LPS mm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from monitor.config import Ellipsoid, ShapeFile, StructureConfig
from monitor.imaging.distance import volume_ml
from monitor.intake.structures import Part, StructureError, load_structure, parts
from monitor.model import Role, Structure

CENTRE, RADIUS_MM = np.array([12.0, -35.0, 80.0]), 11.0
TRUE_ML = 4 / 3 * np.pi * RADIUS_MM**3 / 1000


def load(path: Path, roi: str | None) -> Structure:
    config = StructureConfig("lesion", Role.LESION, ShapeFile(path, roi), None)
    return load_structure(config).structure


def check(s: Structure, volume_within: float, centre_within_mm: float) -> None:
    assert volume_ml(s.sdf_mm, s.grid) == pytest.approx(TRUE_ML, rel=volume_within)
    inside = s.grid.to_lps_mm(np.argwhere(s.sdf_mm < 0))
    np.testing.assert_allclose(inside.mean(0), CENTRE, atol=centre_within_mm)
    edge = np.stack([s.sdf_mm[0], s.sdf_mm[-1]]).min()
    assert edge >= 3.0


def rtstruct(path: Path, spacing_mm: float, name: str = "GTV 1") -> Path:
    """A sphere as contours every ``spacing_mm``, beside a second ROI with a hole."""
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID = generate_uid()
    d.SOPClassUID, d.PatientID, d.Modality = RTStructureSetStorage, "P1", "RTSTRUCT"
    d.StructureSetROISequence, d.ROIContourSequence = Sequence(), Sequence()
    ring = [(0.0, RADIUS_MM), (0.0, 4.0)]
    for number, roi, bodies in ((1, name, [(0.0, RADIUS_MM)]), (7, "Ring", ring)):
        item = Dataset()
        item.ROINumber, item.ROIName = number, roi
        d.StructureSetROISequence.append(item)
        contours = Dataset()
        contours.ReferencedROINumber, contours.ContourSequence = number, Sequence()
        for z in CENTRE[2] + np.arange(-30.0, 30.0, spacing_mm):
            for _, radius in bodies:
                across = radius**2 - (z - CENTRE[2]) ** 2
                if across > 0.05:
                    contours.ContourSequence.append(_circle(np.sqrt(across), z))
        d.ROIContourSequence.append(contours)
    pydicom.dcmwrite(path, d, enforce_file_format=True)
    return path


def _circle(radius: float, z: float) -> Dataset:
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    points = np.column_stack(
        [CENTRE[0] + radius * np.cos(angles), CENTRE[1] + radius * np.sin(angles), np.full(90, z)]
    )
    c = Dataset()
    c.ContourGeometricType, c.NumberOfContourPoints = "CLOSED_PLANAR", 90
    c.ContourData = [f"{v:.3f}" for v in points.ravel()]
    return c


def mask_image(direction: np.ndarray) -> SimpleITK.Image:
    """The sphere as label 3 in a volume of any orientation, voxels 1 × 1 × 2 mm."""
    spacing = np.array([1.0, 1.0, 2.0])
    size = np.array([60, 60, 32])
    origin = CENTRE - direction @ (spacing * (size - 1) / 2)
    index = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
    points = origin + (index * spacing) @ direction.T
    inside = np.linalg.norm(points - CENTRE, axis=-1) < RADIUS_MM
    image = SimpleITK.GetImageFromArray((3 * inside.T).astype(np.uint8))
    image.SetOrigin(origin.tolist())
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    return image


def turned() -> np.ndarray:
    a, b = np.deg2rad(25.0), np.deg2rad(-15.0)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1.0]])
    about_x = np.array([[1.0, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return about_z @ about_x


def test_plain_ellipsoid() -> None:
    shape = Ellipsoid(tuple(CENTRE), (RADIUS_MM,) * 3)
    check(load_structure(StructureConfig("lesion", Role.LESION, shape, None)).structure, 0.01, 0.1)


@pytest.mark.parametrize("spacing_mm", [1.0, 2.5, 4.0])
@pytest.mark.parametrize("roi", ["GTV 1", "gtv 1", "1"])
def test_rtstruct(tmp_path: Path, spacing_mm: float, roi: str) -> None:
    check(load(rtstruct(tmp_path / "rt.dcm", spacing_mm), roi), 0.04, 0.3)


def test_inner_contour_is_a_hole(tmp_path: Path) -> None:
    ring = load(rtstruct(tmp_path / "rt.dcm", 1.0), "Ring")
    hole_ml = 4 / 3 * np.pi * 4.0**3 / 1000
    assert volume_ml(ring.sdf_mm, ring.grid) == pytest.approx(TRUE_ML - hole_ml, rel=0.04)
    at = np.round(ring.grid.to_index_zyx(CENTRE)).astype(int)
    assert ring.sdf_mm[tuple(at)] > 2.0


@pytest.mark.requirement("REQ-ORIENTATION")
@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "nrrd"])
@pytest.mark.parametrize("direction", [np.eye(3), np.diag([-1.0, -1.0, 1.0]), turned()])
def test_masks_in_any_orientation(tmp_path: Path, suffix: str, direction: np.ndarray) -> None:
    path = tmp_path / f"mask.{suffix}"
    SimpleITK.WriteImage(mask_image(direction), str(path))
    check(load(path, "3"), 0.03, 0.3)
    check(load(path, None), 0.03, 0.3)


def test_dicom_seg_on_real_ct(ct_data: Path) -> None:
    """Its liver segment against the voxels that its own frames mark."""
    path = ct_data / "dcmqi_liver_seg" / "liver.dcm"
    d = pydicom.dcmread(path)
    measures = d.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    voxel_ml = float(np.prod([*measures.PixelSpacing, measures.SliceThickness])) / 1000
    s = load(path, None)
    assert volume_ml(s.sdf_mm, s.grid) == pytest.approx(
        float(d.pixel_array.sum()) * voxel_ml, rel=0.1
    )


def by_planes_ml(path: Path, name: str) -> float:
    """The shoelace area of each contour times the distance between planes."""
    d = pydicom.dcmread(path)
    number = next(r.ROINumber for r in d.StructureSetROISequence if r.ROIName == name)
    item = next(c for c in d.ROIContourSequence if c.ReferencedROINumber == number)
    total, heights = 0.0, set()
    for contour in item.ContourSequence:
        x, y, z = np.array(contour.ContourData, float).reshape(-1, 3).T
        total += 0.5 * abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1)))
        heights.add(round(float(z[0]), 2))
    return total * float(np.median(np.diff(sorted(heights)))) / 1000


def test_rtstruct_of_another_program(ct_data: Path) -> None:
    path = ct_data / "rtstruct_pairs" / "dicompyler-core" / "rtss.dcm"
    for name in ("Tumor Bed", "Heart"):
        s = load(path, name)
        assert volume_ml(s.sdf_mm, s.grid) == pytest.approx(by_planes_ml(path, name), rel=0.06)
    with pytest.raises(StructureError, match="'Areola' has no closed planar contour"):
        load(path, "Areola")


@pytest.mark.parametrize(
    ("roi", "says"),
    [("Liver", "no ROI 'Liver'; it holds: 1 'GTV 1', 7 'Ring'"), (None, "name the ROI with roi")],
)
def test_wrong_roi_lists_what_there_is(tmp_path: Path, roi: str | None, says: str) -> None:
    with pytest.raises(StructureError, match=says):
        load(rtstruct(tmp_path / "rt.dcm", 2.0), roi)


def test_what_cannot_be_read_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "rt.dcm").write_bytes(b"nothing")
    (tmp_path / "mask.nii").write_bytes(b"nothing")
    empty = SimpleITK.GetImageFromArray(np.zeros((5, 5, 5), np.uint8))
    SimpleITK.WriteImage(empty, str(tmp_path / "empty.nrrd"))
    for name in ("rt.dcm", "mask.nii", "empty.nrrd"):
        with pytest.raises(StructureError, match=name):
            load(tmp_path / name, None)


@pytest.mark.parametrize("name", ["sparse-labelmap-noppv.dcm", "sparse-labelmap-ppv5.dcm"])
def test_label_map_seg_on_real_ct(ct_data: Path, name: str) -> None:
    """Segment 1 of a label map against its own voxels: two slices, so 10 % is one edge's worth."""
    path = ct_data / "dcmqi_liver_seg" / name
    d = pydicom.dcmread(path)
    measures = d.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    voxel_ml = float(np.prod([*measures.PixelSpacing, measures.SpacingBetweenSlices])) / 1000
    s = load(path, "Liver")
    assert volume_ml(s.sdf_mm, s.grid) == pytest.approx(
        float((d.pixel_array == 1).sum()) * voxel_ml, rel=0.1
    )


def test_what_a_file_holds(tmp_path: Path) -> None:
    """Each can be asked for as it is called here, also where two have one name."""
    path = rtstruct(tmp_path / "a.dcm", 2.0)
    assert parts(path) == (Part("GTV 1", 1, "GTV 1"), Part("Ring", 7, "Ring"))
    path = rtstruct(tmp_path / "b.dcm", 2.0, "ring")
    assert parts(path) == (Part("ring", 1, "ring"), Part("Ring", 7, "Ring"))
    path = rtstruct(tmp_path / "c.dcm", 2.0, "Ring")
    assert [p.roi for p in parts(path)] == ["1", "7"]
    check(load(path, "1"), 0.02, 0.2)
    holed = load(path, "7")
    assert volume_ml(holed.sdf_mm, holed.grid) < 0.97 * TRUE_ML  # without its hole of 5 %


def test_the_labels_of_a_mask(tmp_path: Path) -> None:
    array = np.zeros((12, 12, 12), np.uint8)
    path = tmp_path / "mask.nii.gz"

    def written() -> Path:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))
        return path

    with pytest.raises(StructureError, match="no label other than 0"):
        parts(written())
    array[2:5, 2:5, 2:5] = 4
    assert parts(written()) == (Part(None, 0, ""),)
    array[7:9, 7:9, 7:9] = 9
    assert parts(written()) == (Part("4", 4, ""), Part("9", 9, ""))
    with pytest.raises(StructureError, match="neither DICOM nor"):
        parts(Path(__file__))
