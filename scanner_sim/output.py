"""Writes a rendered procedure to a folder: scans, plan and truth. LPS mm, °C.

``scan_NNN/*.dcm``, ``rtstruct.dcm``, ``seg.dcm``, ``case.toml``, ``truth/truth.json`` and per scan
``truth/{ice,frozen_fraction,temperature_degc,displacement_lps_mm}_NNN.nii.gz``, placed by their
affine in that scan's patient coordinates. ``displacement`` leads from a scan's point to the plan's.
Invariant: same scenario, same bytes; no scan of an earlier rendering stays in the folder.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK

from scanner_sim.console import Console, writer_of
from scanner_sim.frame import FloatArray, Frame
from scanner_sim.freezing.heat import BODY_DEGC
from scanner_sim.plan import save, write_plan
from scanner_sim.scenario import ScenarioError
from scanner_sim.simulation import Simulation
from scanner_sim.truth import as_seen, seen_frame

# A fixed moment, so that the same scenario renders to the same bytes.
EPOCH_UTC_S = 1_767_225_600.0
_TRUTH_STEP_MM = 1.0


def write_all(simulation: Simulation, out: Path, count: int, say: Callable[[str], None]) -> None:
    """The first ``count`` scans, the plan and the truth; an earlier rendering's files go, another
    scenario's are an error."""
    _check_folder(out, simulation.scenario.name)
    _clear(out)
    writer = writer_of(simulation.scenario, EPOCH_UTC_S)
    console = Console(simulation, writer)
    write_plan(simulation.scenario, simulation.planned, writer, out, "ICEBALL", 11112)
    truth = out / "truth"
    truth.mkdir(exist_ok=True)
    for number in range(count):
        begun_s = time.monotonic()
        folder = out / f"scan_{number:03d}"
        folder.mkdir(exist_ok=True)
        made = console.datasets(number)
        imaged_s = time.monotonic()
        for k, dataset in enumerate(made):
            save(dataset, folder / f"{k:04d}.dcm")
        _write_fields(simulation, number, truth)
        say(
            f"scan {number} (of 0 to {count - 1}): {len(made)} images in {imaged_s - begun_s:.1f} s, "
            f"written with their truth in {time.monotonic() - imaged_s:.1f} s"
        )
    write_truth(simulation, count, truth)


def _check_folder(out: Path, scenario: str) -> None:
    """Raises ``ScenarioError`` where another scenario has been rendered: it would be lost."""
    try:
        text = (out / "truth" / "truth.json").read_text(encoding="utf-8")
        there = json.loads(text).get("scenario")
    except (OSError, ValueError, AttributeError):
        return
    if there != scenario:
        raise ScenarioError(f"--out {out}: holds {there}; give a folder of its own, or empty it")


def _clear(out: Path) -> None:
    """Only what is named as it names them itself: scans of two renderings must not mix."""
    for old in (
        *out.glob("scan_[0-9][0-9][0-9]/[0-9][0-9][0-9][0-9].dcm"),
        *out.glob("truth/*_[0-9][0-9][0-9].nii.gz"),
    ):
        old.unlink()
    for folder in out.glob("scan_[0-9][0-9][0-9]"):
        if not any(folder.iterdir()):
            folder.rmdir()


def write_truth(simulation: Simulation, count: int, folder: Path) -> None:
    """``truth.json`` of the first ``count`` scans."""
    folder.mkdir(parents=True, exist_ok=True)
    scans = [simulation.truth(n) for n in range(count)]
    text = json.dumps({"scenario": simulation.scenario.name, "scans": scans}, indent=1)
    (folder / "truth.json").write_text(text + "\n", encoding="utf-8")


def _write_fields(simulation: Simulation, number: int, folder: Path) -> None:
    state, moved = simulation.state(number), simulation.displacement(number)
    frame = seen_frame(state, moved, _TRUTH_STEP_MM)
    fraction = as_seen(state.fraction, state, moved, frame)
    temperature = as_seen(state.temperature_degc, state, moved, frame, outside=BODY_DEGC)
    _write((fraction >= 0.5).astype(np.uint8), frame, folder / f"ice_{number:03d}.nii.gz")
    _write(fraction, frame, folder / f"frozen_fraction_{number:03d}.nii.gz")
    _write(temperature, frame, folder / f"temperature_degc_{number:03d}.nii.gz")
    vectors = np.moveaxis(moved.field_mm, 0, -1)
    _write(vectors, moved.frame, folder / f"displacement_lps_mm_{number:03d}.nii.gz")


def _write(values: FloatArray, frame: Frame, path: Path) -> None:
    """(z, y, x) or (z, y, x, component) on an even frame."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(values), isVector=values.ndim == 4)
    image.SetOrigin(frame.origin_lps_mm)
    image.SetSpacing(frame.spacing_mm)
    SimpleITK.WriteImage(image, str(path))
