"""What a rendered scenario knows of itself: its case, its scans and their truth. LPS mm, seconds.

A scenario is a folder as ``scanner-sim render`` writes it: case.toml, scan_NNN/, truth/. Fields are
NIfTI in the coordinates of their scan. Invariant: whatever is missing or misshapen is a
``BenchmarkError`` that names the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK
from scipy import ndimage

from monitor.config import ProtocolConfig
from monitor.geometry import FloatArray, Grid
from monitor.model import PhaseKind
from monitor.snapshot import NeedleLine

_INVERSE_STEPS = 15


class BenchmarkError(ValueError):
    """A folder is no rendered scenario; the message names the file and what is missing."""


@dataclass(frozen=True)
class TrueMotion:
    """Tissue seen at scan point s lies at ``s + displacement(s)`` in the plan; trilinear on ``grid``,
    constant beyond. ``displacement_mm`` is (z, y, x, component)."""

    grid: Grid
    displacement_mm: FloatArray

    def to_plan(self, points_lps_mm: FloatArray) -> FloatArray:
        points = np.asarray(points_lps_mm, float)
        index = np.moveaxis(self.grid.to_index_zyx(points), -1, 0)
        return points + np.stack(
            [
                ndimage.map_coordinates(
                    self.displacement_mm[..., c], index, order=1, mode="nearest"
                )
                for c in range(3)
            ],
            axis=-1,
        )

    def to_scan(self, points_lps_mm: FloatArray) -> FloatArray:
        """The inverse, by fixed-point iteration."""
        plan = np.asarray(points_lps_mm, float)
        seen = plan
        for _ in range(_INVERSE_STEPS):
            seen = seen - (self.to_plan(seen) - plan)
        return seen


@dataclass(frozen=True)
class ScanTruth:
    """One scan's truth. ``ice`` and ``level`` (½ − frozen fraction) live on ``grid``, in the scan's
    coordinates; ``minutes`` since the baseline. ``min_margin_mm`` is None without ice."""

    number: int
    minutes: float
    grid: Grid
    ice: npt.NDArray[np.bool_]
    level: FloatArray
    motion: TrueMotion
    ice_volume_ml: float
    lesion_covered: float
    min_margin_mm: float | None
    needles: tuple[NeedleLine, ...]


@dataclass(frozen=True)
class Scenario:
    """A rendered folder; ``scans`` are truth.json's entries, the baseline first."""

    name: str
    folder: Path
    scans: tuple[Mapping[str, Any], ...]

    @property
    def case(self) -> Path:
        return self.folder / "case.toml"

    def scan_folder(self, number: int) -> Path:
        return self.folder / f"scan_{number:03d}"


def open_scenarios(folders: Sequence[Path]) -> list[Scenario]:
    """All of them, each under a name of its own."""
    resolved = [folder.resolve() for folder in folders]
    for folder in folders:
        _need(folder, "given more than once", resolved.count(folder.resolve()) == 1)
    found = [open_scenario(folder) for folder in folders]
    names = [s.name for s in found]
    return [s if names.count(s.name) == 1 else replace(s, name=str(s.folder)) for s in found]


def open_scenario(folder: Path) -> Scenario:
    """Checks that everything is there before anything is measured."""
    _need(folder, "not a folder", folder.is_dir())
    _need(folder / "case.toml", "missing", (folder / "case.toml").is_file())
    path = folder / "truth" / "truth.json"
    _need(path, "missing; expected a folder written by `scanner-sim render`", path.is_file())
    try:
        scans = json.loads(path.read_text(encoding="utf-8"))["scans"]
        numbers = [int(s["scan"]) for s in scans]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(f"{path}: not a truth file ({_said(error)})") from None
    _need(path, "tells of no scan but the baseline", len(numbers) > 1)
    for number in numbers:
        scan = folder / f"scan_{number:03d}"
        _need(scan, "missing, though truth.json tells of it", scan.is_dir())
        for name in ("ice", "frozen_fraction", "displacement_lps_mm"):
            field = _field_path(folder, name, number)
            _need(field, "missing, though truth.json tells of its scan", field.is_file())
    return Scenario(folder.resolve().name, folder, tuple(scans))


def _need(path: Path, problem: str, fine: bool) -> None:
    if not fine:
        raise BenchmarkError(f"{path}: {problem}")


def _said(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _field_path(folder: Path, name: str, number: int) -> Path:
    return folder / "truth" / f"{name}_{number:03d}.nii.gz"


def read_truth(scenario: Scenario, entry: Mapping[str, Any]) -> ScanTruth:
    """The truth of one scan, an entry of ``scenario.scans``."""
    try:
        number, margin = int(entry["scan"]), entry["min_margin_mm"]
        fraction, grid = _field(scenario, "frozen_fraction", number)
        ice, _ = _field(scenario, "ice", number)
        return ScanTruth(
            number=number,
            minutes=float(entry["time_s"]) / 60.0,
            grid=grid,
            ice=ice > 0,
            level=0.5 - fraction,
            motion=TrueMotion(*_field(scenario, "displacement_lps_mm", number)[::-1]),
            ice_volume_ml=float(entry["ice_volume_ml"]),
            lesion_covered=float(entry["lesion_covered"]),
            min_margin_mm=None if margin is None else float(margin),
            needles=tuple(_needle(n) for n in entry["needles"]),
        )
    except (KeyError, TypeError) as error:
        path = scenario.folder / "truth" / "truth.json"
        raise BenchmarkError(f"{path}: scan {entry.get('scan')}: {_said(error)}") from None


def _needle(n: Mapping[str, Any]) -> NeedleLine:
    return NeedleLine(int(n["number"]), tuple(n["tip_lps_mm"]), tuple(n["entry_lps_mm"]))


def _field(scenario: Scenario, name: str, number: int) -> tuple[FloatArray, Grid]:
    path = _field_path(scenario.folder, name, number)
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        raise BenchmarkError(f"{path}: cannot be read ({str(error).splitlines()[-1]})") from None
    _need(
        path, "not along the patient's axes", np.allclose(image.GetDirection(), np.eye(3).ravel())
    )
    values = np.asarray(SimpleITK.GetArrayFromImage(image), np.float32)
    return values, Grid(image.GetOrigin(), image.GetSpacing(), values.shape[:3])


def frozen_minutes(protocol: ProtocolConfig, minutes: float) -> float:
    """How long the needles have frozen, in all, that many minutes after the baseline."""
    begins_s = protocol.start_after_baseline_s or 0.0
    frozen_s = 0.0
    for phase in protocol.phases:
        over_s = min(max(60.0 * minutes - begins_s, 0.0), phase.duration_s)
        frozen_s += over_s if phase.kind is PhaseKind.FREEZE else 0.0
        begins_s += phase.duration_s
    return frozen_s / 60.0
