"""Images that a running monitor cannot keep: sender and operators are told, until others are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from monitor.cli import main
from scanner_sim.wire.link import Link
from tests.intake.intake_helpers import ct_dataset
from tests.wire.live import LiveProcess, sphere_case

pytestmark = pytest.mark.timeout(300)
SAID_WITHIN_S = 5.0


def stored(dcmtk: dict[str, str], port: int, image: Dataset, folder: Path) -> bool:
    path = folder / "image.dcm"
    image.save_as(path, enforce_file_format=True)
    command = [dcmtk["storescu"], "-v", "-aec", "ICEBALL", "127.0.0.1", str(port), str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    return "Received Store Response (Success)" in done.stdout + done.stderr


def reasons(lines: list[dict[str, Any]], kind: str) -> list[str]:
    ours = [x for x in lines if x["kind"] == kind and x["code"] == "images_refused"]
    return [x["params"]["reason"] for x in ours]


def said(live: LiveProcess, kind: str, wanted: list[str]) -> None:
    began = time.monotonic()
    live.wait(lambda lines: len(reasons(lines, kind)) >= len(wanted))
    assert reasons(live.journal(), kind) == wanted
    assert time.monotonic() - began < SAID_WITHIN_S


@pytest.mark.requirement("REQ-IMAGES-REFUSED", "REQ-EVERY-SLICE")
def test_what_cannot_be_kept_is_said_until_something_is(
    dcmtk: dict[str, str], tmp_path: Path
) -> None:
    case = sphere_case(tmp_path, "P1", (0.0, 0.0, 0.0))
    with case.open("a", encoding="utf-8") as file:
        file.write("[listener.limits]\ninstance_bytes = 1048576\n")
    with LiveProcess(case, tmp_path / "record") as live:
        blobs, away = live.record / "blobs", live.record / "away"
        blobs.rename(away)  # as a disk that cannot be written
        assert not stored(dcmtk, live.port, ct_dataset(0), tmp_path)
        said(live, "alarm_raised", ["image_disk"])
        assert not stored(dcmtk, live.port, ct_dataset(0), tmp_path)  # the same news is no news
        away.rename(blobs)
        assert stored(dcmtk, live.port, ct_dataset(0), tmp_path)
        said(live, "alarm_cleared", ["image_disk"])
        large = ct_dataset(1, rows=800, columns=800)
        offered = [(str(CTImageStorage), str(ExplicitVRLittleEndian))]
        link = Link(("127.0.0.1", live.port), ("STORESCU", "ICEBALL"), offered)
        assert link.store(large, ExplicitVRLittleEndian)
        assert not link.store(ct_dataset(4), ExplicitVRLittleEndian)  # which changes nothing
        said(live, "alarm_raised", ["image_disk", "image_too_large"])
        link.release()
        assert stored(dcmtk, live.port, ct_dataset(2), tmp_path)
        said(live, "alarm_cleared", ["image_disk", "image_too_large"])
        blobs.rename(away)
        assert not stored(dcmtk, live.port, ct_dataset(3), tmp_path)
        told = ["image_disk", "image_too_large", "image_disk"]
        said(live, "alarm_raised", told)
        for victim in ("intake", "core"):  # a restart is no news of the disk
            ports = len(live.journal("listening"))
            os.kill(live.core if victim == "core" else live.intake, signal.SIGKILL)
            live.wait(lambda _, n=ports: len(live.journal("listening")) > n, 60.0)
            time.sleep(2.0)
            assert reasons(live.journal(), "alarm_cleared") == told[:2]
        away.rename(blobs)
        port = live.journal("listening")[-1]["port"]
        assert stored(dcmtk, port, ct_dataset(3), tmp_path)
        said(live, "alarm_cleared", told)
    kinds = [x["kind"] for x in live.journal()]
    assert (kinds.count("images_refused"), kinds.count("images_kept_again")) == (3, 2)
    assert kinds.count("instance_received") == 4
    assert "NOT KEPT" in live.output
    assert main(["replay", str(live.record)]) == 0
