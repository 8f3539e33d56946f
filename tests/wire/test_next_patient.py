"""Two patients in one room in a row, each sent by a DCMTK of its own at the same time. HU, LPS mm.

A patient's pixels lie in a range that the other's do not reach, so that a mix is seen whatever the
identifiers say.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.cli import main
from tests.intake.intake_helpers import ct_dataset
from tests.wire.live import LiveProcess, sphere_case, unaccounted

pytestmark = pytest.mark.timeout(600)

SLICES = 60
CENTRE = (12.0, 5.0, 70.0)
STORED = {"PATIENT-A": (1040, 1140), "PATIENT-B": (400, 500)}  # HU + 1024


def images(folder: Path, patient: str) -> Path:
    """Two series of it, one frame of reference."""
    target = folder / patient
    target.mkdir()
    low, high = STORED[patient]
    chance = np.random.default_rng(len(patient))
    for scan in range(2):
        for k in range(SLICES):
            series = f"1.2.826.{ord(patient[-1])}.{scan}"
            d = ct_dataset(
                k, series=series, frame=f"{series[:-2]}.9", patient=patient, rows=64, columns=64
            )
            d.PatientName, d.StudyInstanceUID = f"{patient}^X", f"{series[:-2]}.1"
            d.AcquisitionTime = f"12{10 * scan:02d}{k % 60:02d}.5"
            d.PixelData = chance.integers(low, high, (64, 64)).astype("<u2").tobytes()
            d.save_as(target / f"{scan}{k:03d}.dcm", enforce_file_format=True)
    return target


@contextmanager
def sent_again_and_again(dcmtk: dict[str, str], port: int, folder: Path) -> Iterator[list[int]]:
    """By a console at which somebody else is being looked at; what storescu said, each time."""
    over, statuses = threading.Event(), list[int]()

    def send() -> None:
        while not over.is_set():
            done = subprocess.run(storescu(dcmtk, port, folder), check=False, capture_output=True)
            statuses.append(done.returncode)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield statuses
    finally:
        over.set()
        sender.join()


def storescu(dcmtk: dict[str, str], port: int, folder: Path) -> list[str]:
    return [dcmtk["storescu"], "+sd", "-aec", "ICEBALL", "127.0.0.1", str(port), str(folder)]


def only(live: LiveProcess, patient: str) -> set[str]:
    """The images in volumes, once every image is accounted for; each by its pixels that patient's."""
    live.wait(lambda lines: unaccounted(lines) == 0)
    low, high = STORED[patient]
    for v in live.journal("volume_completed"):
        hu = np.load(live.record / v["pixels"]) + 1024
        assert low <= hu.min() <= hu.max() < high, v["volume_id"]
    return _in_volumes(live.journal())


def uids(patient: str) -> set[str]:
    return {
        str(ct_dataset(k, series=f"1.2.826.{ord(patient[-1])}.{scan}").SOPInstanceUID)
        for scan in range(2)
        for k in range(SLICES)
    }


@pytest.mark.requirement("REQ-PATIENT")
def test_the_next_patients_images_during_the_first_and_the_firsts_during_the_next(
    dcmtk: dict[str, str], tmp_path: Path
) -> None:
    folder_of = {patient: images(tmp_path, patient) for patient in STORED}
    port = 0
    for patient, other in (("PATIENT-A", "PATIENT-B"), ("PATIENT-B", "PATIENT-A")):
        place = tmp_path / f"room-of-{patient}"
        place.mkdir()
        case = sphere_case(place, patient, CENTRE)
        # The second procedure has the first one's port: a scanner is not told anew.
        case.write_text(case.read_text().replace("port = 0", f"port = {port}"), encoding="utf-8")
        with LiveProcess(case, place / "record") as live:
            port = live.port
            with sent_again_and_again(dcmtk, port, folder_of[other]) as statuses:
                live.wait(lambda lines: [x for x in lines if x.get("code") == "patient_mismatch"])
                done = subprocess.run(storescu(dcmtk, port, folder_of[patient]), check=False)
                mine = uids(patient)
                live.wait(lambda lines, mine=mine: mine <= _in_volumes(lines))
                live.type("clear")  # and the next image of the other blocks again
                live.wait(lambda lines: len(_alarms(lines)) > 1)
            assert done.returncode == 0
            assert set(statuses) == {0}  # each was taken, so that it is accounted for
            assert only(live, patient) == uids(patient)
        lines = live.journal()
        _both_came_in_turns(lines, uids(patient))
        refused = [x for x in lines if x["kind"] == "instance_rejected"]
        assert {x["reason"] for x in refused} == {"patient_mismatch"}
        assert {x["sop_instance_uid"] for x in refused} == uids(other)
        assert unaccounted(lines) == 0
        assert main(["replay", str(live.record)]) == 0


def _in_volumes(lines: list[dict[str, Any]]) -> set[str]:
    return {u for x in lines if x["kind"] == "volume_completed" for u in x["sop_instance_uids"]}


def _alarms(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [x for x in lines if x["kind"] == "alarm_raised" and x["code"] == "patient_mismatch"]


def _both_came_in_turns(lines: list[dict[str, Any]], mine: set[str]) -> None:
    """Or else the test has not tried what it is for."""
    came = [x["sop_instance_uid"] in mine for x in lines if x["kind"] == "instance_received"]
    assert sum(a != b for a, b in pairwise(came)) > 4
