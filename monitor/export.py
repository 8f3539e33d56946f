"""``iceball export``: a record's measured and predicted bodies as files for other programs. LPS mm, UTC s.

Only what comes out of the record as it was recorded is written; the rest is named in what is returned.
Invariant: the record is only read, and a file that is there is whole.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from monitor.geometry import Grid, SliceGeometry
from monitor.imaging.distance import sample
from monitor.imaging.mask import FAR_MM, is_upright, mask_on, upright
from monitor.imaging.registration import Registration
from monitor.model import CtVolume, Float32Array, IceSegmentation
from monitor.record.account import Account, ScanAccount, account
from monitor.record.cases import sha256_of
from monitor.record.dicom_out import Body, Source, capture, ice_seg, isotherm_seg, measurements
from monitor.record.journal import RecordError, plain
from monitor.record.masks import Mask, source_header, write_nifti
from monitor.record.reading import Finding, JournalLine, read_journal
from monitor.record.tables import alarms_csv, scans_csv
from monitor.report.content import bounds_ml
from monitor.report.pictures import Pictures, rgb
from monitor.worked_out import WorkedOut, WorkedScan, work_out

ISOTHERMS_DEGC = (0.0, -20.0, -40.0)
# By the names that operators use (``config.PACS_OBJECTS``).
_NAMED = {
    "ice": "ice_seg",
    "isotherms": "predicted_seg",
    "measurements": "sr",
    "screens": "screen",
}
OBJECTS = frozenset(_NAMED.values())


def objects_named(names: Iterable[str]) -> frozenset[str]:
    return frozenset(_NAMED[name] for name in names)


@dataclass(frozen=True)
class Targets:
    """Folders for each kind of file; None: not wanted. ``language`` of the captured screen. ``objects``:
    which of the DICOM ones."""

    dicom: Path | None = None
    nifti: Path | None = None
    csv: Path | None = None
    language: str = "en"
    objects: frozenset[str] = OBJECTS


def export(
    record: Path, targets: Targets, engine: str | None = None
) -> tuple[list[Path], list[str]]:
    """The files written, and what was not and why. Raises ``RecordError``."""
    findings: list[Finding] = []
    lines = read_journal(record, findings.append)
    a = account(lines, findings.append)
    written: list[Path] = []
    with tempfile.TemporaryDirectory(prefix="iceball-export-") as scratch:
        worked = work_out(record, lines, Path(scratch), engine)
        left_out = [f"journal line {f.line}: {f.text}" for f in findings]
        if worked.broken:
            left_out.append(f"the record could not be worked out: {worked.broken}")
        screens = targets.dicom is not None and "screen" in targets.objects
        pictures = Pictures(targets.language) if screens else None
        for n, scan in enumerate(a.scans, 1):
            found = worked.scans.get(scan.volume_id)
            why = _unfit(found)
            if found is None or why:
                left_out.append(f"{scan.volume_id}: {why}")
                continue
            try:
                if targets.dicom:
                    source = source_of(record, lines, found.volume, found.at_utc_s)
                    made = dicom_objects(source, n, scan, found, lines, pictures)
                    named = {
                        f"{scan.volume_id}_{x}.dcm": d for x, d in made if x in targets.objects
                    }
                    written += [save(targets.dicom / name, d) for name, d in named.items()]
                if targets.nifti:
                    written += nifti_files(targets.nifti, found)
            except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
                left_out.append(f"{scan.volume_id}: {type(error).__name__}: {error}")
        if pictures is not None:
            pictures.close()
        if targets.csv:
            written += _tables(targets.csv, a, worked)
    return written, left_out


def _tables(out: Path, a: Account, worked: WorkedOut) -> list[Path]:
    known = {v: b for v, s in worked.scans.items() if (b := bounds_ml(s)) is not None}
    made = {"scans.csv": scans_csv(a, known), "alarms.csv": alarms_csv(a)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            (out / f"{name}.part").write_text(text, encoding="utf-8")
            os.replace(out / f"{name}.part", out / name)
    except OSError as error:
        raise RecordError(f"{error.filename or out}: {error.strerror}") from error
    return [out / name for name in made]


def nifti_files(out: Path, scan: WorkedScan) -> list[Path]:
    """The scan (HU) and its ice on its slices; signed distance to the ice (mm) and predicted temperature at
    the scan (degrees Celsius) on their own grids, in the frame of the plan, from which the scan is moved.
    Slices that NIfTI cannot hold as they lie (tilted, uneven) are given as ice alone, on upright ones."""
    g, ice, moved, f = scan.volume.geometry, scan.ice, scan.registration, scan.forecast
    name, made = scan.volume.volume_id, []

    def write(what: str, array: Any, where: SliceGeometry) -> None:
        made.append(out / f"{name}_{what}.nii.gz")
        write_nifti(made[-1], array, where)

    if is_upright(g):
        write("ct_hu", np.asarray(scan.volume.hu), g)
    if ice is not None and moved is not None and ice.sdf_mm is not None and not scan.baseline:
        write("ice", mask_on(upright(g), ice, moved), upright(g))
        level = np.clip(ice.sdf_mm, -FAR_MM, FAR_MM).astype(np.float32)
        write("plan_ice_distance_mm", level, _slices(ice.grid))
    if f is not None:
        write("plan_predicted_degc", np.asarray(f.temperature_degc[0], np.float32), _slices(f.grid))
    return made


def _slices(grid: Grid) -> SliceGeometry:
    (x, y, z), (n, rows, columns) = grid.spacing_mm, grid.shape_zyx
    offsets = tuple(z * k for k in range(n))
    axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    return SliceGeometry(grid.origin_lps_mm, *axes, x, y, offsets, z, rows, columns)


def _unfit(found: WorkedScan | None) -> str:
    if found is None:
        return "not worked out: no measurement of it, or damage before it"
    return f"not as recorded: {found.differs[0]}" if found.differs else ""


def source_of(
    record: Path, lines: list[JournalLine], volume: CtVolume, made_utc_s: float
) -> Source:
    """The scan's slices in its order, checked against what was received."""
    for i in volume.instances:
        if sha256_of(record / i.path) != i.sha256:
            raise ValueError(f"{i.path} is not what was received")
    images = tuple(source_header(record / i.path) for i in volume.instances)
    first = lines[0].fields
    key = f"{first.get('at')} {first.get('mono_s')} {first.get('patient_id')}"
    return Source(images, key, made_utc_s)


def dicom_objects(
    source: Source,
    number: int,
    account_: ScanAccount,
    scan: WorkedScan,
    lines: list[JournalLine],
    pictures: Pictures | None,
) -> list[tuple[str, Any]]:
    """Of one scan: the ice, the predicted isotherms, the measurements, the screen; those that there are.
    ``pictures`` None: no screen."""
    made: list[tuple[str, Any]] = []
    seg = None
    if not scan.baseline and scan.ice is not None and scan.registration is not None:
        seg = _ice_seg(source, lines, number, scan.volume, scan.ice, scan.registration)
        if seg is not None:
            made.append(("ice_seg", seg))
    if predicted := isotherm_bodies(scan):
        made.append(("predicted_seg", isotherm_seg(source, number, predicted)))
    made.append(("sr", measurements(source, number, account_, bounds_ml(scan), seg)))
    if pictures is not None:
        screen = rgb(pictures.screen(scan.pictured))
        made.append(("screen", capture(source, number, screen, "Screen, replayed")))
    return made


def ice_object(
    record: Path,
    lines: list[JournalLine],
    number: int,
    volume: CtVolume,
    ice: IceSegmentation,
    moved: Registration,
) -> Any:
    """The measured ice as soon as its lines are in the journal; None where there is no surface. What is
    exported later is the same object, byte by byte."""
    source = source_of(record, lines, volume, volume.acquired_utc_s)
    return _ice_seg(source, lines, number, volume, ice, moved)


def _ice_seg(
    source: Source,
    lines: list[JournalLine],
    number: int,
    volume: CtVolume,
    ice: IceSegmentation,
    moved: Registration,
) -> Any:
    """Dated by when the ice was on record."""
    bodies = ice_bodies(volume, ice, moved)
    at_utc_s = measured_at(lines, ice)
    if not bodies:
        return None
    return ice_seg(
        source if at_utc_s is None else replace(source, made_utc_s=at_utc_s), number, bodies
    )


def measured_at(lines: list[JournalLine], ice: IceSegmentation) -> float | None:
    """When that very measurement of the scan was on record; None where it is not."""
    for x in reversed(lines):
        of = x.kind == "ice_segmented" and x.fields.get("volume_id") == ice.volume_id
        if of and x.fields.get("volume_ml") == plain(ice.volume_ml):
            return x.at_utc_s
    return None


def ice_bodies(
    volume: CtVolume, ice: IceSegmentation | None, moved: Registration | None
) -> list[Body]:
    """The measured ice and its bounds on the scan's slices; none without a measurement."""
    if ice is None or moved is None or ice.sdf_mm is None:
        return []
    fields = (
        ("Ice", ("ICE", "Frozen tissue"), ice.sdf_mm),
        ("Ice, inner bound (90 %)", ("ICELO", "Frozen tissue, inner bound"), ice.inner_sdf_mm),
        ("Ice, outer bound (90 %)", ("ICEHI", "Frozen tissue, outer bound"), ice.outer_sdf_mm),
    )
    return [
        Body(label, code, mask_on(volume.geometry, replace(ice, sdf_mm=sdf), moved))
        for label, code, sdf in fields
        if sdf is not None
    ]


def isotherm_bodies(scan: WorkedScan) -> list[Body]:
    """Where the forecast that runs on from the scan has tissue at or below each temperature: at the time of
    the scan, and at the planned end of its phase where the forecast reaches that."""
    f = scan.forecast
    if f is None or scan.registration is None:
        return []
    times = {"at the scan": f.times_utc_s[0]}
    end = scan.shown.phase.ends_utc_s
    if end is not None and f.times_utc_s[0] < end <= f.times_utc_s[-1]:
        at = datetime.fromtimestamp(end, UTC)
        times[f"at {at:%H:%M:%S} UTC, end of phase"] = end
    made = []
    for said, at_utc_s in times.items():
        field = _temperature(f.times_utc_s, f.temperature_degc, at_utc_s)
        for degc in ISOTHERMS_DEGC:
            label = f"Predicted {degc:g} C, {said}"
            code = (f"PRED{abs(degc):g}", f"Predicted below {degc:g} degrees Celsius")
            made.append(Body(label[:64], code, _below(scan, field, degc)))
    return made


def _temperature(times: tuple[float, ...], field: Float32Array, at_utc_s: float) -> Float32Array:
    """Between two of the forecast's times in proportion."""
    i = int(np.clip(np.searchsorted(times, at_utc_s), 1, len(times) - 1))
    w = (at_utc_s - times[i - 1]) / (times[i] - times[i - 1])
    return np.asarray((1 - w) * field[i - 1] + w * field[i], np.float32)


def _below(scan: WorkedScan, degc: Float32Array, limit_degc: float) -> Mask:
    """1 where a pixel's centre is at or below the temperature; tissue off the forecast's grid is not."""
    g, f, moved = scan.volume.geometry, scan.forecast, scan.registration
    assert f is not None
    assert moved is not None
    mask = np.zeros((len(g.slice_offsets_mm), g.rows, g.columns), np.uint8)
    cold = np.argwhere(degc <= limit_degc)
    if not len(cold):
        return mask
    room_mm = 2.0 * max(f.grid.spacing_mm)
    seen = moved.to_scan(f.grid.to_lps_mm(cold))
    low, high = seen.min(0) - room_mm, seen.max(0) + room_mm
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True)), -1).reshape(-1, 3)
    index = g.to_index_zyx(corners)
    first = np.clip(np.floor(index.min(0)).astype(int), 0, mask.shape)
    last = np.clip(np.ceil(index.max(0)).astype(int) + 1, first, mask.shape)
    box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    if mask[box].size:
        points = moved.to_plan(g.to_lps_mm(np.moveaxis(np.mgrid[box], 0, -1)))
        mask[box] = sample(degc, f.grid, points, outside=np.inf) <= limit_degc
    return mask


def save(path: Path, made: Any) -> Path:
    part = path.with_name(f".part-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made.save_as(part, enforce_file_format=True)
        os.replace(part, path)
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from error
    return path
