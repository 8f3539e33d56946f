"""The simulator's objects before judges that are not ours: dciodvfy, the standard's tables,
dicom-validator, DCMTK and Orthanc. What is not installed skips, with the reason.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from scanner_sim.dicom import pixels, profiles, structures
from scanner_sim.images import Geometry
from scanner_sim.wire.push import Target, deliver
from tests.scanner_sim.samples import BODIES, TECHNIQUE, acquisition, fluoro, geometry, writer

PROFILES = profiles.names()
SCOUT = Geometry(
    (-60.0, 0.0, 200.0), (1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 1.2)
)


def kinds(profile: str, syntax: str = "explicit") -> dict[str, list[Dataset]]:
    """One of everything that the simulator writes, by what it is."""
    w = writer(profile, syntax=syntax)
    baseline = list(w.slices(acquisition(slices=8)))
    plain = list(writer(profile).slices(acquisition(slices=8)))
    shape = (8, 48, 40)
    return {
        "baseline": baseline,
        "tilted": list(w.slices(acquisition(1, 2, ("soft", "sharp"), tilt_deg=18.5))),
        "fluoro": list(w.slices(fluoro(2, 2))),
        "scout": [w.scout(np.full((50, 60), -200, np.int16), SCOUT, TECHNIQUE, -30.0)],
        "dose": [w.dose_page(["Total DLP 123 mGy cm"], 900.0)],
        "rtstruct": [structures.rtstruct(w.study, BODIES, geometry(), shape)],
        "rtstruct with images": [structures.rtstruct(w.study, BODIES, geometry(), shape, baseline)],
        "seg": [structures.segmentation(w.study, BODIES, plain)],
    }


def saved(folder: Path, datasets: list[Dataset]) -> list[Path]:
    paths = []
    for n, dataset in enumerate(datasets):
        paths.append(folder / f"{n:04d}.dcm")
        pydicom.dcmwrite(paths[-1], dataset, enforce_file_format=True)
    return paths


# ------------------------------------------------------------------ dciodvfy


@pytest.fixture(scope="module")
def dciodvfy() -> str:
    path = shutil.which("dciodvfy")
    if path is None:
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools")
    return path


def complaints(dciodvfy: str, path: Path) -> list[str]:
    done = subprocess.run([dciodvfy, "-new", str(path)], capture_output=True, check=False)
    lines = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
    assert any(not line.startswith(("Error", "Warning")) for line in lines)  # it names the IOD
    return [line for line in lines if line.startswith("Error")]


@pytest.mark.parametrize("profile", PROFILES)
def test_dciodvfy_finds_no_error(dciodvfy: str, profile: str, tmp_path: Path) -> None:
    for kind, datasets in kinds(profile).items():
        for path in saved(tmp_path, [datasets[0], datasets[-1]]):
            assert complaints(dciodvfy, path) == [], kind


@pytest.mark.parametrize("syntax", pixels.SYNTAXES)
def test_dciodvfy_finds_no_error_in_any_syntax(dciodvfy: str, syntax: str, tmp_path: Path) -> None:
    for path in saved(tmp_path, kinds("ge", syntax)["baseline"][:1]):
        assert complaints(dciodvfy, path) == []


def test_dciodvfy_would_find_one(dciodvfy: str, tmp_path: Path) -> None:
    broken = kinds("siemens")["baseline"][0]
    del broken.ImagePositionPatient
    (path,) = saved(tmp_path, [broken])
    assert "ImagePositionPatient" in "".join(complaints(dciodvfy, path))


# ------------------------------------------------------------------ the standard's own tables


@cache
def table(name: str) -> Any:
    """PS3.3's modules and attributes, as highdicom brings them (it needs no network)."""
    file = resources.files("highdicom") / "_standard" / f"{name}.json"
    if not file.is_file():
        pytest.skip(f"this highdicom has no _standard/{name}.json")
    return json.loads(file.read_text(encoding="utf-8"))


def missing(d: Dataset) -> list[str]:
    """Attributes of type 1 and 2 that the object's mandatory modules ask for at the top level and
    that it has not, or has empty where it may not."""
    modules = table("iod_module_map")[table("sop_class_iod_map")[str(d.SOPClassUID)]]
    attributes = table("module_attribute_map")
    asked = [
        a
        for module in modules
        if module["usage"] == "M"
        for a in attributes[module["key"]]
        if not a["path"] and a["type"] in "12"
    ]
    assert len(asked) >= 20
    return [
        a["keyword"]
        for a in asked
        if a["keyword"] not in d or (a["type"] == "1" and d[a["keyword"]].is_empty)
    ]


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_mandatory_is_missing(profile: str) -> None:
    for kind, datasets in kinds(profile).items():
        assert missing(datasets[0]) == [], kind


def test_something_mandatory_would_be_missed() -> None:
    d = kinds("siemens")["baseline"][0]
    del d.KVP
    d.ImageType = None
    assert sorted(missing(d)) == ["ImageType", "KVP"]


# ------------------------------------------------------------------ dicom-validator


@pytest.fixture(scope="module")
def standard() -> Path:
    """Where dicom-validator has the standard. It would download it; tests download nothing."""
    if importlib.util.find_spec("dicom_validator") is None:
        pytest.skip("dicom-validator is not installed: pip install dicom-validator")
    folder = Path(os.environ.get("DICOM_STANDARD_PATH") or Path.home() / "dicom-validator")
    if not list(folder.glob("*/docbook/part03.xml")):
        pytest.skip(
            f"dicom-validator has no DICOM standard in {folder} and needs a network to get it; "
            "set DICOM_STANDARD_PATH to a folder with EDITION/docbook/part03.xml"
        )
    return folder


@pytest.mark.parametrize("profile", PROFILES)
def test_dicom_validator_finds_no_error(standard: Path, profile: str, tmp_path: Path) -> None:
    firsts = [datasets[0] for datasets in kinds(profile).values()]
    command = [sys.executable, "-m", "dicom_validator.validate_iods", "-src", str(standard)]
    done = subprocess.run(
        [*command, "-e", "local", *map(str, saved(tmp_path, firsts))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# ------------------------------------------------------------------ other people's receivers


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def running(command: list[str], *ports: int) -> Iterator[None]:
    """A server process, from when it listens on its ports."""
    environment = {**os.environ, "TCP_NODELAY": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        for port in ports:
            _wait_for(port, process)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=20)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    process.terminate()
    raise AssertionError(f"nothing listens on {port}: {process.communicate()[0]!r}")


@pytest.mark.parametrize("per_image", [False, True])
def test_storescp_takes_everything_as_it_was(
    dcmtk: dict[str, str], tmp_path: Path, per_image: bool
) -> None:
    sent = [d for p in PROFILES for datasets in kinds(p).values() for d in datasets]
    # The makers' writers share one procedure here; DCMTK names files by instance.
    sent = list({str(d.SOPInstanceUID): d for d in sent}.values())[: 20 if per_image else None]
    port = free_port()
    command = [dcmtk["storescp"], "+B", "-aet", "RX", "-od", str(tmp_path), str(port)]
    with running(command, port):
        deliver(sent, Target("RX", "127.0.0.1", port, per_image=per_image))
    received = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, tmp_path.iterdir())}
    assert set(received) == {d.SOPInstanceUID for d in sent}
    for d in sent:
        assert received[d.SOPInstanceUID].to_json() == d.to_json()


@pytest.mark.parametrize("syntax", ["implicit", "rle", "jpegls", "jpeg2000"])
def test_storescp_takes_every_syntax(dcmtk: dict[str, str], tmp_path: Path, syntax: str) -> None:
    sent = list(writer("canon", syntax=syntax).slices(acquisition()))
    port = free_port()
    command = [dcmtk["storescp"], "+xa", "+B", "-aet", "RX", "-od", str(tmp_path), str(port)]
    with running(command, port):
        deliver(sent, Target("RX", "127.0.0.1", port))
    received = [pydicom.dcmread(p) for p in tmp_path.iterdir()]
    assert len(received) == 8
    assert {d.file_meta.TransferSyntaxUID for d in received} == {pixels.SYNTAXES[syntax]}
    by_uid = {d.SOPInstanceUID: d for d in received}
    assert all((by_uid[d.SOPInstanceUID].pixel_array == d.pixel_array).all() for d in sent)


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Its DICOM and HTTP ports, on loopback, with a store of its own."""
    path = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if path is None:
        pytest.skip("Orthanc is not installed: apt-get install orthanc")
    dicom_port, http_port = free_port(), free_port()
    configuration = {
        "StorageDirectory": str(tmp_path / "store"),
        "IndexDirectory": str(tmp_path / "store"),
        "DicomAet": "RX",
        "DicomPort": dicom_port,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
        "StableAge": 1,
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(configuration), encoding="utf-8")
    with running([path, str(tmp_path / "orthanc.json")], dicom_port, http_port):
        yield dicom_port, http_port


def test_orthanc_files_it_as_one_study(orthanc: tuple[int, int]) -> None:
    dicom_port, http_port = orthanc
    sent = [d for datasets in kinds("philips").values() for d in datasets]
    sent = list({str(d.SOPInstanceUID): d for d in sent}.values())
    deliver(sent, Target("RX", "127.0.0.1", dicom_port))

    def ask(path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/{path}", timeout=10) as answer:
            return json.load(answer)

    counts = ask("statistics")
    assert counts["CountPatients"] == counts["CountStudies"] == 1
    assert counts["CountSeries"] == len({str(d.SeriesInstanceUID) for d in sent})
    assert counts["CountInstances"] == len(sent)
    (patient,) = ask("patients?expand")
    assert patient["MainDicomTags"]["PatientName"] == "DUPONT^Hélène"
    assert {s["MainDicomTags"]["Modality"] for s in ask("series?expand")} == {
        "CT",
        "RTSTRUCT",
        "SEG",
    }
