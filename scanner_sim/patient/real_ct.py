"""A real CT series as the anatomy: lesion and needles are planted in it. HU, LPS mm, (z, y, x).

No public CT of a cryoablation exists; ice shown in a real series is painted in.
Invariant: the series' pixels and geometry stay as they are until something is planted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from scipy import ndimage

from scanner_sim.bodies import ellipsoid, patch, sampled
from scanner_sim.frame import FloatArray, Frame
from scanner_sim.patient.anatomy import Anatomy
from scanner_sim.scenario import Motion, Needle, Scenario, ScenarioError, tissue_names

_LESION_MM = (9.0, 7.5, 6.5)
_NEEDLE_GAP_MM = 11.0
_CLEAR_MM = 13.0
_DEPTH_MM = (28.0, 75.0)
_FEWEST_SLICES = 10
_NEEDED = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
)


def load(folder: Path, scenario: Scenario) -> Anatomy:
    """The series in ``folder`` with the scenario's lesion planted where tissue is uniform, near the
    skin. Raises ``ScenarioError`` for what cannot serve."""
    frame, hu = _read(folder)
    body = _body(hu)
    label = _labels(hu, body)
    depth_mm = ndimage.distance_transform_edt(body, sampling=(1e6, *frame.spacing_mm[1::-1]))
    centre = _place(frame, label, depth_mm)
    lesion = ellipsoid(_point(frame, centre), _LESION_MM)
    inside = lesion(*frame.grid()) < 0
    hu[inside] += 8.0
    label[inside] = tissue_names().index("lesion")
    skin_level = sampled(
        np.where(body, depth_mm - 2.0, 1.0).astype(np.float32),
        np.array([frame.x[0], frame.y[0], frame.z[0]]),
        np.array(frame.spacing_mm),
    )
    needles = _needles(frame, centre, body, depth_mm)
    return Anatomy(
        frame,
        lesion,
        _point(frame, centre),
        {"skin": patch(skin_level, _point(frame, centre), 80.0)},
        needles,
        hu,
        label,
    )


def adapted(scenario: Scenario, anatomy: Anatomy) -> Scenario:
    """The scenario with the scanner's geometry of a real series and its lesion's place; what it says
    of a drawn patient (bodies, structures but the skin, motion, tilt, prone) does not apply to this
    one, who is rendered as he lies. ``digest`` covers the series too."""
    frame = anatomy.frame
    pixels = hashlib.sha256(scenario.digest.encode() + anatomy.hu.tobytes())
    scanner = replace(
        scenario.scanner,
        fov_mm=frame.spacing_mm[0] * len(frame.x),
        matrix=len(frame.x),
        slices=len(frame.z),
        thickness_mm=frame.spacing_mm[2],
        tilt_deg=0.0,
    )
    return replace(
        scenario,
        scanner=scanner,
        habitus=replace(scenario.habitus, prone=False),
        lesion=replace(
            scenario.lesion,
            centre_lps_mm=anatomy.lesion_centre_lps_mm,
            semi_axes_mm=_LESION_MM,
        ),
        bodies=(),
        structures=tuple(s for s in scenario.structures if s.name in anatomy.structures),
        motion=Motion(),
        scans=tuple(replace(s, breath=0.0) for s in scenario.scans),
        digest=pixels.hexdigest(),
    )


def _read(folder: Path) -> tuple[Frame, npt.NDArray[np.float32]]:
    slices, folders = {}, list[Path]()
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            folders.append(path)
            continue
        d = _dataset(path)
        if d is not None and "PixelData" in d and ("ImagePositionPatient" in d or _is_ct(d)):
            slices[path] = d
    if not slices:
        inside = "; folders in it are not looked into" if folders else ""
        raise ScenarioError(f"{folder}: no CT in it{inside}")
    if folders:
        raise ScenarioError(f"{folders[0]}: a folder; expected the files of one CT series")
    if len(slices) < _FEWEST_SLICES:
        raise ScenarioError(
            f"{folder}: {len(slices)} CT slices found, at least {_FEWEST_SLICES} needed"
        )
    planes = [_plane(path, d) for path, d in slices.items()]
    first = planes[0]
    for plane in planes:
        difference = plane.differs(first)
        if difference:
            raise ScenarioError(f"{plane.path}: {difference} is not that of {first.path.name}")
    planes.sort(key=lambda p: p.origin_lps_mm[2])
    first = planes[0]
    z = np.array([p.origin_lps_mm[2] for p in planes])
    _check_steps(folder, z)
    row_mm, column_mm = first.spacing_mm
    x = first.origin_lps_mm[0] + column_mm * np.arange(first.hu.shape[1])
    y = first.origin_lps_mm[1] + row_mm * np.arange(first.hu.shape[0])
    hu = np.stack([p.hu for p in planes])
    return Frame(x, y, z[0] + np.arange(len(z)) * float(np.mean(np.diff(z)))), hu


@dataclass(frozen=True)
class _Plane:
    """A slice that can serve. ``spacing_mm``: between rows, between columns."""

    path: Path
    series_uid: str
    origin_lps_mm: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    hu: npt.NDArray[np.float32]

    def differs(self, other: _Plane) -> str:
        """What keeps the two from being slices of one stack; empty if nothing does."""
        if self.series_uid != other.series_uid:
            return "its series"
        if self.hu.shape != other.hu.shape:
            return f"its size ({self.hu.shape[0]} rows, {self.hu.shape[1]} columns)"
        if not np.allclose(self.spacing_mm, other.spacing_mm, atol=1e-4):
            return "its PixelSpacing"
        if not np.allclose(self.origin_lps_mm[:2], other.origin_lps_mm[:2], atol=0.05):
            return "its position in x and y"
        return ""


def _dataset(path: Path) -> Dataset | None:
    """None for what is no DICOM file."""
    try:
        return pydicom.dcmread(path)
    except pydicom.errors.InvalidDicomError:
        return None
    except Exception as error:  # pydicom raises many kinds for files that are damaged
        raise ScenarioError(f"{path}: cannot be read: {error}") from error


def _is_ct(d: Dataset) -> bool:
    """A picture of text may say that its modality is CT: only its class is meant."""
    return d.get("SOPClassUID") == CTImageStorage


def _plane(path: Path, d: Dataset) -> _Plane:
    """Raises ``ScenarioError`` that names the file and what it lacks."""
    if d.get("Modality") != "CT":
        raise ScenarioError(f"{path}: its modality is {d.get('Modality') or 'not told'}, not CT")
    for keyword in _NEEDED:
        if keyword not in d or d[keyword].is_empty:
            raise ScenarioError(f"{path}: it has no {keyword}")
    try:
        direction = _numbers(d, "ImageOrientationPatient", 6)
        origin, spacing = _numbers(d, "ImagePositionPatient", 3), _numbers(d, "PixelSpacing", 2)
        (slope,), (intercept,) = _numbers(d, "RescaleSlope", 1), _numbers(d, "RescaleIntercept", 1)
        pixels = d.pixel_array
        uid = str(d.get("SeriesInstanceUID") or "")
    except Exception as error:  # each codec raises its own
        raise ScenarioError(f"{path}: cannot be read: {error}") from error
    if not np.allclose(direction, [1, 0, 0, 0, 1, 0], atol=1e-4):
        raise ScenarioError(f"{path}: only axial slices without tilt can serve as anatomy")
    if min(spacing) <= 0 or slope == 0:
        raise ScenarioError(f"{path}: its PixelSpacing or RescaleSlope is not above 0")
    if pixels.ndim != 2 or min(pixels.shape) < 2:
        raise ScenarioError(f"{path}: it is not one plane of grey values")
    return _Plane(path, uid, origin, spacing, pixels.astype(np.float32) * slope + intercept)


def _numbers(d: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    values = tuple(float(v) for v in np.atleast_1d(np.asarray(d[keyword].value, float)))
    if len(values) != count or not np.isfinite(values).all():
        raise ValueError(f"{keyword} is {d[keyword].value}")
    return values


def _check_steps(folder: Path, z: FloatArray) -> None:
    steps = np.diff(z)
    usual = float(np.median(steps))
    if steps.min() < 0.01:
        at = z[int(np.argmin(steps))]
        raise ScenarioError(f"{folder}: there are two slices at z = {at:.2f} mm")
    if np.ptp(steps) > 0.05:
        k = int(np.argmax(np.abs(steps - usual)))
        raise ScenarioError(
            f"{folder}: the slices are not evenly spaced: {steps[k]:.2f} mm from z = {z[k]:.2f} mm "
            f"to {z[k + 1]:.2f} mm, {usual:.2f} mm elsewhere; is one missing?"
        )


def _body(hu: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """The largest piece of tissue in each slice, filled: without table and clothes."""
    body = np.zeros(hu.shape, bool)
    for k, plane in enumerate(hu):
        mask = ndimage.binary_opening(plane > -300, iterations=3)
        pieces, count = ndimage.label(mask)
        if count:
            largest = 1 + int(np.argmax(ndimage.sum_labels(mask, pieces, np.arange(1, count + 1))))
            body[k] = ndimage.binary_fill_holes(pieces == largest)
    return body


def _labels(hu: npt.NDArray[np.float32], body: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    smooth = ndimage.gaussian_filter(hu, (0, 1, 1))
    label = np.full(hu.shape, tissue_names().index("muscle"), np.uint8)
    label[smooth > 220] = tissue_names().index("bone")
    label[smooth < -30] = tissue_names().index("fat")
    label[(smooth < -350) | ~body] = tissue_names().index("air")
    return label


def _place(
    frame: Frame, label: npt.NDArray[np.uint8], depth_mm: FloatArray
) -> tuple[int, int, int]:
    """The voxel nearest to the skin whose surroundings are all soft tissue, half-way along z."""
    k = len(frame.z) // 2
    soft = (label == tissue_names().index("muscle")).astype(np.float32)
    size = [max(1, round(2 * _CLEAR_MM / d)) for d in frame.spacing_mm[::-1]]
    share = ndimage.uniform_filter(soft, size)[k]
    depth = depth_mm[k]
    fits = (depth > _DEPTH_MM[0]) & (depth < _DEPTH_MM[1]) & (share > 0.97 * share.max())
    if not fits.any() or share.max() < 0.9:
        raise ScenarioError(
            "no place for a lesion: no soft tissue of 26 mm between 28 and 75 mm deep"
        )
    j, i = np.unravel_index(np.argmin(np.where(fits, depth, np.inf)), depth.shape)
    return k, int(j), int(i)


def _point(frame: Frame, index: tuple[int, int, int]) -> tuple[float, float, float]:
    return (float(frame.x[index[2]]), float(frame.y[index[1]]), float(frame.z[index[0]]))


def _needles(
    frame: Frame, centre: tuple[int, int, int], body: npt.NDArray[np.bool_], depth_mm: FloatArray
) -> tuple[Needle, ...]:
    """Two parallel needles in the axial plane from the nearest skin, either side of the centre."""
    point = np.array(_point(frame, centre))
    outside = np.argwhere(~body[centre[0]])
    xy = np.stack([frame.x[outside[:, 1]], frame.y[outside[:, 0]]], -1)
    nearest = xy[np.argmin(((xy - point[:2]) ** 2).sum(1))]
    out = np.append(nearest - point[:2], 0.0)
    length_mm = float(np.linalg.norm(out))
    out /= length_mm
    aside = np.array([-out[1], out[0], 0.0]) * _NEEDLE_GAP_MM / 2
    needles = []
    for number, sign in ((1, 1.0), (2, -1.0)):
        tip = point + sign * aside - 11.0 * out
        entry = tip + (length_mm + 11.0) * out
        needles.append(Needle(number, "icesphere_1_5", _triple(tip), _triple(entry)))
    return tuple(needles)


def _triple(p: FloatArray) -> tuple[float, float, float]:
    return (round(float(p[0]), 2), round(float(p[1]), 2), round(float(p[2]), 2))
