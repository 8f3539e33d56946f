"""Delineations from disk: RTSTRUCT, DICOM SEG, NIfTI, NRRD, or a plain body. LPS mm.

Each becomes a signed distance on a patient-aligned grid of its own. Invariant: what cannot be read
exactly is an error that names the file and what is wrong in it; no body is ever empty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK
from pydicom.errors import InvalidDicomError
from pydicom.uid import RTStructureSetStorage, SegmentationStorage
from scipy import ndimage

from monitor.config import Ellipsoid, ShapeFile, StructureConfig
from monitor.geometry import FloatArray, Grid
from monitor.imaging.distance import signed_distance_mm
from monitor.intake.contours import level_between_planes
from monitor.model import Structure

_PAD_MM = 4.0
_FINEST_MM, _COARSEST_MM, _MAX_VOXELS = 0.5, 2.5, 6_000_000
# Label Map Segmentation Storage (PS3.6 2024d), newer than pydicom's own table.
_LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
_VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")

# A level (negative inside) at points of a grid, with the box of the body.
Level = Callable[[Grid], FloatArray]


class StructureError(ValueError):
    """A delineation cannot be used; the message names the file and what is wrong."""


@dataclass(frozen=True)
class Loaded:
    """A structure and whose it is, as far as its file says."""

    structure: Structure
    frame_of_reference_uid: str | None = None
    patient_id: str | None = None


def load_structure(config: StructureConfig) -> Loaded:
    """The delineation of a case. Raises ``StructureError``."""
    if isinstance(config.shape, Ellipsoid):
        return Loaded(_ellipsoid(config, config.shape))
    path = config.shape.path
    if _is_mask(path):
        return Loaded(_mask_volume(config, config.shape))
    dataset = _dataset(path)
    try:
        structure = _from_dicom(config, config.shape, dataset)
    except StructureError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # Missing or misshapen elements, as in a file that was cut off: half of it is not read.
        raise StructureError(f"{path}: damaged or incomplete: {error}") from error
    return Loaded(
        structure, frame_of_reference(dataset), str(dataset.get("PatientID") or "") or None
    )


def _is_mask(path: Path) -> bool:
    return path.name.lower().endswith(_VOLUME_SUFFIXES)


def _dataset(path: Path) -> pydicom.Dataset:
    try:
        return pydicom.dcmread(path)
    except (InvalidDicomError, OSError, EOFError, AttributeError, ValueError) as error:
        raise StructureError(
            f"{path}: neither DICOM nor {', '.join(_VOLUME_SUFFIXES)} ({error})"
        ) from error


# ------------------------------------------------------------------ what a file holds


@dataclass(frozen=True)
class Part:
    """One of the bodies of a file: what a case calls it by (``ShapeFile.roi``; None: all that is not zero),
    its number or label and its name."""

    roi: str | None
    number: int
    name: str


def parts(path: Path) -> tuple[Part, ...]:
    """What a file holds, for somebody to choose from: at least one. Raises ``StructureError``."""
    if _is_mask(path):
        return _labels(path)
    dataset = _dataset(path)
    try:
        known, what = _named(path, dataset)
        found = tuple(Part(_roi(path, known, n, what), n, name) for n, name in known.items())
    except StructureError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StructureError(f"{path}: damaged or incomplete: {error}") from error
    if not found:
        raise StructureError(f"{path}: it holds no ROI, no segment and no label other than 0")
    return found


def number_of(path: Path, roi: str) -> int:
    """The number of what a case calls by a name, or the label. Raises ``StructureError``."""
    if _is_mask(path):
        return int(roi)
    return _pick(ShapeFile(path, roi), *_named(path, _dataset(path)))[0]


def _roi(path: Path, known: dict[int, str], number: int, what: str) -> str:
    """By its name where no other is called so, else by its number."""
    try:
        if known[number] and _pick(ShapeFile(path, known[number]), known, what)[0] == number:
            return known[number]
    except StructureError:
        pass
    return str(number)


def _labels(path: Path) -> tuple[Part, ...]:
    """The labels of a mask; one, or shares that are no labels, is all that is not zero."""
    _, array = _mask_image(path)
    labels = [v for v in np.unique(array) if v != 0]
    if not labels:
        raise StructureError(f"{path}: it holds no ROI, no segment and no label other than 0")
    if len(labels) == 1 or any(v != int(v) for v in labels):
        return (Part(None, 0, ""),)
    return tuple(Part(str(int(v)), int(v), "") for v in labels)


def _named(path: Path, dataset: pydicom.Dataset) -> tuple[dict[int, str], str]:
    """The ROIs of an RTSTRUCT or the segments of a SEG, by number; and what they are."""
    sop_class = dataset.get("SOPClassUID")
    if sop_class == RTStructureSetStorage:
        rois = dataset.get("StructureSetROISequence", [])
        return {int(r.ROINumber): str(r.get("ROIName") or "") for r in rois}, "ROI"
    if sop_class in (SegmentationStorage, _LABEL_MAP_STORAGE):
        segments = dataset.get("SegmentSequence", [])
        return {int(s.SegmentNumber): str(s.get("SegmentLabel") or "") for s in segments}, "segment"
    raise StructureError(f"{path}: SOP class {sop_class or 'missing'} is neither RTSTRUCT nor SEG")


def _from_dicom(config: StructureConfig, shape: ShapeFile, dataset: pydicom.Dataset) -> Structure:
    number, name = _pick(shape, *_named(shape.path, dataset))
    made = _rtstruct if dataset.SOPClassUID == RTStructureSetStorage else _segmentation
    return made(config, shape, dataset, number, name)


# ------------------------------------------------------------------ plain bodies


def _ellipsoid(config: StructureConfig, shape: Ellipsoid) -> Structure:
    centre, semi = np.array(shape.centre_lps_mm), np.array(shape.semi_axes_mm)

    def level(grid: Grid) -> FloatArray:
        return np.asarray(
            (np.linalg.norm((grid.points_lps_mm() - centre) / semi, axis=-1) - 1.0) * semi.min()
        )

    return _structure(config, "case", centre - semi, centre + semi, level)


def _structure(
    config: StructureConfig, where: str, low: FloatArray, high: FloatArray, level: Level
) -> Structure:
    """The signed distance on a grid fine enough for the body's smallest side."""
    extent = np.maximum(high - low, 1.0)
    spacing = float(np.clip(extent.min() / 24.0, _FINEST_MM, 1.0))
    while np.prod((extent + 2 * _PAD_MM) / spacing) > _MAX_VOXELS and spacing < _COARSEST_MM:
        spacing *= 1.2
    grid = Grid.around(low - _PAD_MM - spacing, high + _PAD_MM + spacing, spacing)
    sdf = signed_distance_mm(level(grid), grid)
    if not (sdf < 0).any():
        raise StructureError(f"{where}: {config.name} is empty")
    sdf.setflags(write=False)
    return Structure(config.name, config.role, grid, sdf, config.limit_mm)


# ------------------------------------------------------------------ RTSTRUCT


def _rtstruct(
    config: StructureConfig, shape: ShapeFile, dataset: pydicom.Dataset, number: int, name: str
) -> Structure:
    planes = _planes(shape.path, dataset, number, name)
    points = np.concatenate([line for lines in planes.values() for line in lines])
    heights = np.array(sorted(planes))
    gap = float(np.median(np.diff(heights))) if len(heights) > 1 else 3.0
    low = np.array([*points.min(0), heights[0] - gap / 2])
    high = np.array([*points.max(0), heights[-1] + gap / 2])
    return _structure(
        config, str(shape.path), low, high, lambda grid: level_between_planes(planes, grid, gap)
    )


def _planes(
    path: Path, dataset: pydicom.Dataset, number: int, name: str
) -> dict[float, list[FloatArray]]:
    """Closed contours (n, 2) x, y by height; several in one plane cut holes into each other."""
    planes: dict[float, list[FloatArray]] = {}
    for item in dataset.get("ROIContourSequence", []):
        if int(item.ReferencedROINumber) != number:
            continue
        for contour in item.get("ContourSequence", []):
            if contour.get("ContourGeometricType") != "CLOSED_PLANAR":
                continue
            points = np.array([float(v) for v in contour.ContourData]).reshape(-1, 3)
            if not np.isfinite(points).all() or len(points) < 3:
                raise StructureError(
                    f"{path}: ROI {name!r}: a contour holds {len(points)} points or is not finite"
                )
            if np.ptp(points[:, 2]) > 0.02:
                raise StructureError(
                    f"{path}: ROI {name!r}: only contours in axial planes are read"
                )
            planes.setdefault(round(float(points[0, 2]), 2), []).append(points[:, :2])
    if not planes:
        raise StructureError(f"{path}: ROI {name!r} has no closed planar contour")
    return planes


def _pick(shape: ShapeFile, known: dict[int, str], what: str) -> tuple[int, str]:
    """The ROI or segment that the case asks for, by name (exact, then any case) or number."""
    listed = ", ".join(f"{n} {name!r}" for n, name in known.items()) or "none"
    if shape.roi is None:
        if len(known) == 1:
            return next(iter(known.items()))
        raise StructureError(f"{shape.path}: name the {what} with roi; it holds: {listed}")
    for fold in (str, str.lower):
        found = [(number, name) for number, name in known.items() if fold(name) == fold(shape.roi)]
        if len(found) == 1:
            return found[0]
        if found:
            raise StructureError(
                f"{shape.path}: {what} {shape.roi!r} is ambiguous; it holds: {listed}"
            )
    if shape.roi.isdigit() and int(shape.roi) in known:
        return int(shape.roi), known[int(shape.roi)]
    raise StructureError(f"{shape.path}: no {what} {shape.roi!r}; it holds: {listed}")


def frame_of_reference(dataset: pydicom.Dataset) -> str | None:
    """The space in which an RTSTRUCT, a SEG or an image lies; None where it says none."""
    if "FrameOfReferenceUID" in dataset:
        return str(dataset.FrameOfReferenceUID)
    referenced = dataset.get("ReferencedFrameOfReferenceSequence") or []
    return str(referenced[0].get("FrameOfReferenceUID") or "") or None if referenced else None


# ------------------------------------------------------------------ masks


def _segmentation(
    config: StructureConfig, shape: ShapeFile, dataset: pydicom.Dataset, number: int, name: str
) -> Structure:
    import highdicom  # a quarter of a second, which a procedure without a SEG has no use for

    try:
        volume = highdicom.seg.Segmentation.from_dataset(dataset).get_volume(
            segment_numbers=[number], allow_missing_positions=True
        )
    except Exception as error:  # highdicom raises whatever a malformed SEG leads it to
        raise StructureError(f"{shape.path}: segment {name!r} cannot be read: {error}") from error
    mask = np.asarray(volume.array, np.float32)
    return _from_mask(
        config, str(shape.path), mask[..., 0] if mask.ndim == 4 else mask, np.asarray(volume.affine)
    )


def _mask_volume(config: StructureConfig, shape: ShapeFile) -> Structure:
    """NIfTI, NRRD or MetaImage: the voxels of the label ``roi``, or all that are not zero."""
    image, array = _mask_image(shape.path)
    if shape.roi is not None and not shape.roi.lstrip("-").isdigit():
        raise StructureError(f"{shape.path}: roi {shape.roi!r}: a mask's roi is a label value")
    mask = array != 0 if shape.roi is None else array == int(shape.roi)
    if not mask.any():
        present = ", ".join(str(v) for v in np.unique(array)[:12])
        raise StructureError(
            f"{shape.path}: label {shape.roi or 'other than 0'} is not in it; it holds: {present}"
        )
    directions = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3] = directions[:, ::-1]  # columns for (z, y, x) indices
    affine[:3, 3] = image.GetOrigin()
    return _from_mask(config, str(shape.path), mask.astype(np.float32), affine)


def _mask_image(path: Path) -> tuple[SimpleITK.Image, npt.NDArray[Any]]:
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        raise StructureError(
            f"{path}: cannot be read ({str(error).strip().splitlines()[-1]})"
        ) from error
    array = SimpleITK.GetArrayFromImage(image)
    if array.ndim != 3:
        raise StructureError(f"{path}: {array.ndim} dimensions, expected 3")
    return image, array


def _from_mask(
    config: StructureConfig, where: str, mask: npt.NDArray[np.float32], index_to_lps: FloatArray
) -> Structure:
    """A mask in any orientation; its surface runs half-way between voxels in and out."""
    inside = np.argwhere(mask > 0.5)
    if not len(inside):
        raise StructureError(f"{where}: {config.name} is empty")
    first, last = np.maximum(inside.min(0) - 2, 0), np.minimum(inside.max(0) + 3, mask.shape)
    part = np.pad(mask[tuple(slice(a, b) for a, b in zip(first, last, strict=True))], 1)
    corners = np.array(
        np.meshgrid(*zip(inside.min(0) - 0.5, inside.max(0) + 0.5, strict=True))
    ).reshape(3, -1)
    box = index_to_lps[:3, :3] @ corners + index_to_lps[:3, 3:]
    to_index = np.linalg.inv(index_to_lps)
    voxel_ml = abs(float(np.linalg.det(index_to_lps[:3, :3]))) / 1000.0

    def level(grid: Grid) -> FloatArray:
        index = np.moveaxis(
            grid.points_lps_mm() @ to_index[:3, :3].T + to_index[:3, 3] - first + 1, -1, 0
        )
        value = ndimage.map_coordinates(part, index, order=1, mode="constant")
        return np.asarray(
            _keeping_volume(value, float(mask.sum()) * voxel_ml / grid.voxel_ml) - value
        )

    return _structure(config, where, box.min(1), box.max(1), level)


def _keeping_volume(value: FloatArray, voxels: float) -> float:
    """The level at which an interpolated mask has the volume of its voxels. At ½, interpolation
    shaves off what is convex: 3 % of a ball of 11 mm in voxels of 2 mm."""
    count = int(np.clip(round(voxels), 1, value.size - 1))
    return float(np.clip(np.partition(value.ravel(), -count)[-count], 0.3, 0.5))
