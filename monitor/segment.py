"""``iceball segment``: the ice in one scan, from two folders of DICOM and a case. LPS mm, ml, seconds.

Reading and writing are here and in ``record.masks``; what is measured is what a live procedure would
have. Invariant: an INVALID measurement has no mask, and its numbers are null.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from monitor.config import Config, ShapeFile
from monitor.geometry import SliceGeometry
from monitor.imaging.mask import is_upright, mask_on, upright
from monitor.imaging.measurement import Measurement, make_reference, measure
from monitor.imaging.needle_finding import FoundNeedle
from monitor.intake.folder import soft_volume, volumes_in
from monitor.model import CtVolume, Status, worst
from monitor.opening import open_case
from monitor.procedure import Procedure
from monitor.record.masks import NIFTI_SUFFIXES, Mask, MaskError, write_nifti, write_seg
from monitor.scans import doubted


@dataclass(frozen=True)
class SegmentJob:
    """What the command line asks for. ``earlier``: scans between the two, oldest first. ``seg`` None:
    no DICOM SEG."""

    case: Path
    baseline: Path
    earlier: tuple[Path, ...]
    scan: Path
    out: Path
    seg: Path | None


class SegmentError(ValueError):
    """The folders do not go together; the message names them."""


@dataclass(frozen=True)
class _Result:
    """``mask`` lies on ``geometry``: the scan's slices, or upright ones where those cannot be had
    in NIfTI. ``on_slices`` is the mask on the slices themselves."""

    volume: CtVolume
    found: Measurement
    geometry: SliceGeometry
    mask: Mask
    on_slices: Mask
    wall_s: float

    @property
    def status(self) -> Status:
        return worst(self.found.ice.status, self.found.registration.status)


def run_segment(job: SegmentJob) -> dict[str, Any]:
    """Measures, writes the files, returns what is printed as JSON."""
    config, procedure = open_case(job.case)
    _check_outputs(job, config)
    first = soft_volume(volumes_in(job.baseline, config.patient_id, config.frame_of_reference_uid))
    frame = first.frame_of_reference_uid
    *earlier, volume = (
        soft_volume(volumes_in(folder, config.patient_id, frame))
        for folder in (*job.earlier, job.scan)
    )
    _check_order(job, [first, *earlier, volume])
    result = _measured(doubted(volume, procedure), first, earlier, procedure)
    if result.status is Status.INVALID:
        for old in filter(None, (job.out, job.seg)):
            old.unlink(missing_ok=True)  # a mask of an earlier scan must not pass for this one's
        return _as_json(result, None, None)
    write_nifti(job.out, result.mask, result.geometry)
    if job.seg is not None:
        images = [job.scan / instance.path for instance in volume.instances]
        write_seg(job.seg, result.on_slices, images)
    return _as_json(result, job.out, job.seg)


def _check_outputs(job: SegmentJob, config: Config) -> None:
    """Before anything is measured: names that fit, and nothing overwritten that is read."""
    if not job.out.name.lower().endswith(NIFTI_SUFFIXES):
        raise MaskError(f"--out {job.out}: expected a name ending in {' or '.join(NIFTI_SUFFIXES)}")
    if job.seg is not None and job.seg.suffix.lower() != ".dcm":
        raise MaskError(f"--seg {job.seg}: expected a name ending in .dcm")
    scans = [f.resolve() for f in (job.baseline, *job.earlier, job.scan)]
    shapes = [s.shape.path for s in config.bodies if isinstance(s.shape, ShapeFile)]
    read = {p.resolve() for p in (job.case, *shapes)}
    for name, path in (("--out", job.out), ("--seg", job.seg)):
        if path is None:
            continue
        where = path.resolve()
        if where in read or any(scan in where.parents for scan in scans):
            raise MaskError(
                f"{name} {path}: would overwrite or join what is read; choose another place"
            )


def _check_order(job: SegmentJob, volumes: Sequence[CtVolume]) -> None:
    named = [("--baseline", job.baseline), *(("--earlier", f) for f in job.earlier)]
    named.append(("--scan", job.scan))
    for (before, after), (a, b) in zip(pairwise(named), pairwise(volumes), strict=True):
        if not b.acquired_utc_s > a.acquired_utc_s:
            raise SegmentError(
                f"{after[0]} {after[1]}: was not acquired after {before[0]} {before[1]}; "
                "are they swapped, or the same?"
            )


def _measured(
    volume: CtVolume, first: CtVolume, earlier: Sequence[CtVolume], procedure: Procedure
) -> _Result:
    """``wall_s`` is all of this: from the volumes in memory to the mask."""
    began = time.perf_counter()
    reference = make_reference(first, procedure.analysis_grid, procedure.config)
    for scan in earlier:
        reference = measure(scan, reference, procedure.config).reference
    found = measure(volume, reference, procedure.config)
    on_slices = mask_on(volume.geometry, found.ice, found.registration)
    geometry = upright(volume.geometry)
    same = geometry is volume.geometry
    mask = on_slices if same else _within(
        volume.geometry, geometry, mask_on(geometry, found.ice, found.registration)
    )  # fmt: skip
    return _Result(volume, found, geometry, mask, on_slices, time.perf_counter() - began)


def _within(scanned: SliceGeometry, geometry: SliceGeometry, mask: Mask) -> Mask:
    """Only what the scan looked at: upright slices reach beyond a tilted stack."""
    ice = np.argwhere(mask)
    index = scanned.to_index_zyx(geometry.to_lps_mm(ice))
    half = 0.5 * scanned.slice_thickness_mm / scanned.slice_spacing_mm
    last = np.array([len(scanned.slice_offsets_mm), scanned.rows, scanned.columns]) - 1
    reach = np.array([half, 0.5, 0.5])
    outside = ice[((index < -reach) | (index > last + reach)).any(1)]
    mask = mask.copy()
    mask[tuple(outside.T)] = 0
    return mask


# ------------------------------------------------------------------ what is printed


def _as_json(result: _Result, out: Path | None, seg: Path | None) -> dict[str, Any]:
    ice, moved, volume = result.found.ice, result.found.registration, result.volume
    reasons = dict.fromkeys((*ice.reasons, *moved.reasons))
    return {
        "status": result.status.value,
        "quality": _number(ice.quality),
        "reasons": [{"code": r.code, "text": r.text} for r in reasons],
        "volume_ml": _number(ice.volume_ml),
        "edge_error_mm": _number(ice.edge_error_mm),
        "registration": {
            "status": moved.status.value,
            "quality": _number(moved.quality),
            "error_mm": _number(moved.error_mm),
            "shift_mm": None if moved.status is Status.INVALID else _number(moved.shift_mm),
        },
        "needles": [_needle(n) for n in result.found.needles],
        "scan": {
            "series_uid": volume.series_uid,
            "slices": len(volume.instances),
            "acquired_utc_s": volume.acquired_utc_s,
        },
        "mask": None if out is None else str(out),
        "mask_on": None if out is None else _grid_name(volume.geometry),
        "seg": None if seg is None else str(seg),
        "wall_s": round(result.wall_s, 3),
    }


def _grid_name(geometry: SliceGeometry) -> str:
    return "the scan's slices" if is_upright(geometry) else "upright slices"


def _needle(n: FoundNeedle) -> dict[str, Any]:
    """``direction`` is a unit vector from the tip towards the entry; a needle that was not found is
    given where it was looked for: where the plan has it, as far as the tissue seems to have moved."""
    return {
        "number": n.number,
        "found": n.found,
        "tip_lps_mm": [round(float(v), 2) for v in n.tip_lps_mm],
        "direction": [round(float(v), 4) for v in n.direction],
    }


def _number(value: float) -> float | None:
    """JSON knows no NaN and no infinity."""
    return round(float(value), 4) if math.isfinite(value) else None
