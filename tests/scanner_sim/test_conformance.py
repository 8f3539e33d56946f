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
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from scanner_sim import scenario as scenarios
from scanner_sim.console import writer_of
from scanner_sim.dicom import pixels, profiles, structures
from scanner_sim.dicom.enhanced import enhanced
from scanner_sim.images import Geometry
from scanner_sim.patient.anatomy import outline
from scanner_sim.plan import write_plan
from scanner_sim.wire.push import Target, deliver
from tests.scanner_sim.blocks import small
from tests.scanner_sim.samples import (
    BODIES,
    EPOCH_UTC_S,
    TECHNIQUE,
    acquisition,
    fluoro,
    geometry,
    writer,
)
from tests.scanner_sim.test_dicom_objects import unseen_slices

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


def own_objects(name: str, folder: Path) -> list[Path]:
    """One of everything that a scenario's procedure is made of, as files."""
    s = small(name, matrix=64, slices=24)
    w = writer_of(s, EPOCH_UTC_S)
    kinds = {scan.kind: n for n, scan in reversed(list(enumerate(s.scans)))}
    datasets = [unseen_slices(s, n)[0] for n in kinds.values()]
    datasets.append(w.scout(np.full((50, 60), -200, np.int16), SCOUT, TECHNIQUE, -30.0))
    datasets.append(w.dose_page(["Total DLP 123 mGy cm"], 900.0))
    write_plan(s, outline(s), w, folder, "ICEBALL", 11112)
    return [*saved(folder, datasets), folder / "rtstruct.dcm", folder / "seg.dcm"]


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


@pytest.mark.parametrize("name", scenarios.names())
def test_dciodvfy_finds_no_error_in_any_scenario(dciodvfy: str, name: str, tmp_path: Path) -> None:
    for path in own_objects(name, tmp_path):
        assert complaints(dciodvfy, path) == [], path.name


@pytest.mark.parametrize("syntax", pixels.SYNTAXES)
def test_dciodvfy_finds_no_error_in_any_syntax(dciodvfy: str, syntax: str, tmp_path: Path) -> None:
    for path in saved(tmp_path, kinds("ge", syntax)["baseline"][:1]):
        assert complaints(dciodvfy, path) == []


@pytest.mark.parametrize("syntax", pixels.SYNTAXES)
@pytest.mark.parametrize("profile", PROFILES)
def test_dciodvfy_finds_no_error_in_enhanced_ct(
    dciodvfy: str, profile: str, syntax: str, tmp_path: Path
) -> None:
    w = writer(profile)
    scans = [acquisition(slices=8), acquisition(1, 2, ("soft", "sharp"), 18.5), fluoro(2, 2)]
    made = [d for scan in scans for d in enhanced(list(w.slices(scan)), syntax)]
    assert len(made) == 4
    for path in saved(tmp_path, made):
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


SOP_CLASSES = (
    CTImageStorage,
    SecondaryCaptureImageStorage,
    RTStructureSetStorage,
    SegmentationStorage,
)
# What PS3.3 of 2020 does not have in a CT image, and a maker may add all the same: PS3.2 calls it a
# Standard Extended SOP Class.
EXTENSIONS = {
    "philips": {
        # In Image Plane, of type 3, in later editions.
        "CT Image, General: SpacingBetweenSlices TagUnexpected",
        # From the MR Image module, of type 3 there.
        "CT Image, General: TemporalPositionIdentifier TagUnexpected",
    }
}


@pytest.fixture(scope="module")
def errors() -> Callable[[Dataset], set[str]]:
    """What dicom-validator has against a dataset. It would download the standard; tests download
    nothing, and take its tables from the package dicom-standard."""
    for name in ("dicom_validator", "dicom_standard"):
        if importlib.util.find_spec(name) is None:
            package = name.replace("_", "-")
            pytest.skip(f"{package} is not installed: pip install {package}")
    tables = importlib.import_module("tests.scanner_sim.standard_tables")
    return partial(tables.errors, info=tables.dicom_info(SOP_CLASSES))


@pytest.mark.parametrize("profile", PROFILES)
def test_dicom_validator_finds_no_error(
    errors: Callable[[Dataset], set[str]], profile: str, tmp_path: Path
) -> None:
    found = set()
    for datasets in kinds(profile).values():
        for path in saved(tmp_path, [datasets[0], datasets[-1]]):
            found |= errors(pydicom.dcmread(path))
    assert found == EXTENSIONS.get(profile, set())


@pytest.mark.parametrize("name", scenarios.names())
def test_dicom_validator_finds_no_error_in_any_scenario(
    errors: Callable[[Dataset], set[str]], name: str, tmp_path: Path
) -> None:
    paths = own_objects(name, tmp_path)
    found = set().union(*(errors(pydicom.dcmread(path)) for path in paths))
    assert found == EXTENSIONS.get(scenarios.load(name).scanner.vendor, set())


@pytest.mark.parametrize(
    ("kind", "iod_module", "path"),
    [
        # of type 1 or 2
        ("baseline", "CT Image, Image Plane", "ImagePositionPatient"),
        ("baseline", "CT Image, CT Image", "KVP"),
        ("dose", "Secondary Capture Image, SC Equipment", "ConversionType"),
        (
            "rtstruct",
            "RT Structure Set, RT ROI Observations",
            "RTROIObservationsSequence/RTROIInterpretedType",
        ),
        # of type 1C, and the condition holds: WindowCenter is there
        ("baseline", "CT Image, VOI LUT", "WindowWidth"),
        # DimensionIndexSequence is there
        (
            "seg",
            "Segmentation, Frame Content",
            "PerFrameFunctionalGroupsSequence/FrameContentSequence/DimensionIndexValues",
        ),
        # CodeValue is there
        (
            "seg",
            "Segmentation, Segmentation Image",
            "SegmentSequence/SegmentedPropertyTypeCodeSequence/CodingSchemeDesignator",
        ),
    ],
)
def test_dicom_validator_would_find_a_missing_attribute(
    errors: Callable[[Dataset], set[str]], kind: str, iod_module: str, path: str
) -> None:
    broken = item = kinds("siemens")[kind][0]
    *sequences, keyword = path.split("/")
    for sequence in sequences:
        item = item[sequence].value[0]
    del item[keyword]
    assert errors(broken) == {f"{iod_module}: {path} TagMissing"}


def test_dicom_validator_would_find_a_wrong_value(errors: Callable[[Dataset], set[str]]) -> None:
    broken = kinds("siemens")["baseline"][0]
    broken.PatientSex, broken.Modality, broken.EchoTime = "X", "", "1"
    assert errors(broken) == {
        "CT Image, Patient: PatientSex EnumValueNotAllowed",
        "CT Image, General Series: Modality TagEmpty",
        "CT Image, General: EchoTime TagUnexpected",
    }


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
    # The RTSTRUCT without images is the one with them, before; DCMTK names files by instance.
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
