"""A scanner whose operator decides when: rendered scans, stamped with now, sent by DCMTK. UTC seconds.

Invariant: of a scan only its times are changed, and all of its images by the same difference.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pydicom

from scanner_sim.wire.times import acquire_at


def send(folder: Path, acquired_utc_s: float, port: int) -> None:
    """One rendered scan as if acquired then. Raises ``CalledProcessError`` when nobody takes it."""
    datasets = [pydicom.dcmread(f) for f in sorted(folder.glob("*.dcm"))]
    acquire_at(datasets, acquired_utc_s)
    with tempfile.TemporaryDirectory() as scratch:
        for k, dataset in enumerate(datasets):
            dataset.save_as(Path(scratch) / f"{k:04d}.dcm", enforce_file_format=True)
        command = ["storescu", "-aec", "ICEBALL", "-aet", "SCANNER", "127.0.0.1", str(port)]
        files = map(str, sorted(Path(scratch).iterdir()))
        subprocess.run([*command, *files], check=True, capture_output=True, timeout=120)


def rendered(scenario: str, folder: Path) -> Path:
    """The scenario's scans in the folder, made there unless they are."""
    if not (folder / "truth" / "truth.json").exists():
        command = [sys.executable, "-m", "scanner_sim.cli", "render", scenario]
        command += ["--out", str(folder)]
        subprocess.run(command, check=True, capture_output=True, timeout=1500)
    return folder
