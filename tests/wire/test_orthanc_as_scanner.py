"""A real Orthanc in the scanner's place: it is asked to send a CT, killed over it, and asked again."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import CTImageStorage, generate_uid

from tests.wire.live import LiveProcess, sphere_case
from tests.wire.test_real_ct import check_volume
from tests.wire.test_sending import free_port, orthanc

pytestmark = pytest.mark.timeout(300)
# The listener keeps a peer waiting that is faster: there is time to kill Orthanc over a scan.
PER_S, TIMES = 50, 3
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
Images = dict[str, Path]


def images(ct_data: Path, folder: Path) -> Images:
    """A public body CT, so often above itself that a scan of it lasts; with the identifiers that scanners
    send, and its de-identification has taken. By UID."""
    folder.mkdir()
    study, series, frame = (generate_uid() for _ in range(3))
    slices = [pydicom.dcmread(p) for p in sorted((ct_data / "totalseg_body_ct").glob("CT.*"))]
    slices.sort(key=lambda d: float(d.ImagePositionPatient[2]))
    low, high = (float(slices[n].ImagePositionPatient[2]) for n in (0, -1))
    step_mm = (high - low) / (len(slices) - 1)
    made = {}
    for number in range(TIMES * len(slices)):
        d = slices[number % len(slices)]
        d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = CTImageStorage
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = study, series, frame
        d.PatientID, d.PatientName, d.InstanceNumber = "ORTHANC", "SCANNED^BY", number + 1
        d.ImagePositionPatient[2] = f"{low + step_mm * number:.3f}"
        made[str(d.SOPInstanceUID)] = folder / f"{number:03d}.dcm"
        d.save_as(made[str(d.SOPInstanceUID)])
    return made


def asked(url: str, body: bytes | None = None, kind: str = "application/json") -> Any:
    request = urllib.request.Request(
        url, body, {"Content-Type": kind, "Accept": "application/dicom+json, application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def uploaded(url: str, files: Images) -> None:
    """One after the other, by Orthanc's own API: where orthanc-dicomweb is not installed."""
    for path in files.values():
        assert asked(f"{url}/instances", path.read_bytes(), "application/dicom")["ID"]


def stowed(url: str, files: Images) -> None:
    """All in one request, by DICOMweb (STOW-RS, PS3.18 10.5)."""
    boundary = uuid.uuid4().hex
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    parts = [head + path.read_bytes() + b"\r\n" for path in files.values()]
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    answer = asked(f"{url}/dicom-web/studies", body, kind)
    stored = {x["00081155"]["Value"][0] for x in answer["00081199"]["Value"]}
    assert stored == set(files)
    assert not answer.get("00081198", {}).get("Value")  # what failed


@pytest.mark.requirement("REQ-EVERY-SLICE")
def test_a_scan_that_orthanc_sends_arrives_though_it_is_killed_over_it(
    ct_data: Path, tmp_path: Path
) -> None:
    files, dicom, http = images(ct_data, tmp_path / "images"), free_port(), free_port()
    case = sphere_case(tmp_path, "ORTHANC", (-5.0, -190.0, -785.0))
    with case.open("a", encoding="utf-8") as file:
        file.write(f"[listener.limits]\nmessages_per_s = {PER_S}\n")
    pacs, url = tmp_path / "orthanc", f"http://127.0.0.1:{http}"
    pacs.mkdir()
    with LiveProcess(case, tmp_path / "record") as live:
        known = {
            "Plugins": [str(DICOMWEB)] if DICOMWEB.exists() else [],
            "DicomModalities": {"iceball": ["ICEBALL", "127.0.0.1", live.port]},
        }
        with orthanc(pacs, dicom, http, **known) as process:
            (stowed if DICOMWEB.exists() else uploaded)(url, files)
            (study,) = asked(f"{url}/studies")
            later = {"Resources": [study], "Synchronous": False, "Permissive": False}
            asked(f"{url}/modalities/iceball/store", json.dumps(later).encode())
            some = len(files) // 8
            end = time.monotonic() + 60.0
            while len(live.journal("instance_received")) <= some:
                assert time.monotonic() < end
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.wait(20.0)
        before = {x["sop_instance_uid"] for x in live.journal("instance_received")}
        assert some < len(before) < len(files)  # in the middle of it
        with orthanc(pacs, dicom, http, **known):
            assert asked(f"{url}/studies") == [study]
            now = {**later, "Synchronous": True}
            done = asked(f"{url}/modalities/iceball/store", json.dumps(now).encode())
            assert (done["InstancesCount"], done["FailedInstancesCount"]) == (len(files), 0)
        live.wait(lambda m: _whole(m, set(files)))
    lines = live.journal()
    assert {x["sop_instance_uid"] for x in lines if x["kind"] == "instance_received"} == set(files)
    *parts, volume = (x for x in lines if x["kind"] == "volume_completed")
    assert {x["volume_id"].partition("r")[0] for x in (*parts, volume)} == {"v001"}  # one scan
    assert sorted(volume["sop_instance_uids"]) == sorted(files)
    check_volume(live.record, volume, list(files.values()))
    twice = [x for x in lines if x["kind"] == "instance_rejected"]
    assert {x["reason"] for x in twice} == {"duplicate_instance"}
    # All of them, where Orthanc took up its old job as well.
    assert before <= {x["sop_instance_uid"] for x in twice}
    assert not live.journal("fault")


def _whole(lines: list[dict[str, Any]], uids: set[str]) -> bool:
    return any(
        set(x["sop_instance_uids"]) == uids for x in lines if x["kind"] == "volume_completed"
    )
