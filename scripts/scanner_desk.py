"""A scanner whose operator decides when: rendered scans, stamped with now, sent by DCMTK. UTC seconds.

Invariant: of a scan only its times are changed, and all of its images by the same difference.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pydicom

_TIMES = ("Study", "Series", "Acquisition", "Content", "InstanceCreation")


@dataclass(frozen=True)
class Clock:
    """The procedure's: from the ``epoch_utc_s`` on, ``speed`` times faster than life."""

    epoch_utc_s: float
    speed: float

    def now_utc_s(self) -> float:
        return self.epoch_utc_s + self.speed * (time.time() - self.epoch_utc_s)

    def wait_until(self, utc_s: float) -> None:
        time.sleep(max((utc_s - self.now_utc_s()) / self.speed, 0.0))


def send(folder: Path, acquired_utc_s: float, port: int) -> None:
    """One rendered scan as if acquired then. Raises ``CalledProcessError`` when nobody takes it."""
    datasets = [pydicom.dcmread(f) for f in sorted(folder.glob("*.dcm"))]
    difference_s = acquired_utc_s - _first_acquired_utc_s(datasets)
    with tempfile.TemporaryDirectory() as scratch:
        for k, dataset in enumerate(datasets):
            _shift(dataset, timedelta(seconds=difference_s))
            dataset.save_as(Path(scratch) / f"{k:04d}.dcm", enforce_file_format=True)
        command = ["storescu", "-aec", "ICEBALL", "-aet", "SCANNER", "127.0.0.1", str(port)]
        files = map(str, sorted(Path(scratch).iterdir()))
        subprocess.run([*command, *files], check=True, capture_output=True, timeout=120)


def _first_acquired_utc_s(datasets: Iterable[pydicom.Dataset]) -> float:
    return min(
        datetime.strptime(
            f"{d.AcquisitionDate}{d.AcquisitionTime}"[:14], "%Y%m%d%H%M%S"
        ).timestamp()
        for d in datasets
    )


def _shift(dataset: pydicom.Dataset, by: timedelta) -> None:
    for name in _TIMES:
        day, clock = dataset.get(f"{name}Date"), dataset.get(f"{name}Time")
        if day and clock:
            moved = _moved(f"{day}{clock}", by)
            setattr(dataset, f"{name}Date", moved[:8])
            setattr(dataset, f"{name}Time", moved[8:])
    if dataset.get("AcquisitionDateTime"):
        dataset.AcquisitionDateTime = _moved(str(dataset.AcquisitionDateTime), by)


def _moved(stamp: str, by: timedelta) -> str:
    form = "%Y%m%d%H%M%S.%f"
    whole = stamp if "." in stamp else f"{stamp}.0"
    return (datetime.strptime(whole, form) + by).strftime(form)


def rendered(scenario: str, folder: Path) -> Path:
    """The scenario's scans in the folder, made there unless they are."""
    if not (folder / "truth" / "truth.json").exists():
        command = [
            sys.executable,
            "-m",
            "scanner_sim.cli",
            "render",
            scenario,
            "--out",
            str(folder),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=1500)
    return folder
