"""``scanner-sim`` as its user calls it: the folder it renders, its truth, its messages. LPS mm."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tomllib
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import EnhancedCTImageStorage
from pynetdicom import AE, evt

from scanner_sim import output, truth
from scanner_sim import scenario as scenarios
from scanner_sim.bodies import ellipsoid
from scanner_sim.cache import Cache, folder
from scanner_sim.cli import main
from scanner_sim.frame import even
from scanner_sim.freezing.ice import State
from scanner_sim.patient.motion import displacement
from scanner_sim.scenario import Scan, ScenarioError
from scanner_sim.wire.push import PushError, Target, verify
from tests.scanner_sim.blocks import AWE, block
from tests.scanner_sim.samples import Receiver

SCANS = 4


def _coarse_text() -> str:
    """The abdominal wall in 14 slices of 128², its first four scans, one with a breath."""
    text = (resources.files("scanner_sim") / "scenarios" / f"{AWE}.toml").read_text()
    coarse = 'vendor = "siemens"\nmatrix = 128\nslices = 14\nthickness_mm = 5.0'
    text = text.replace('vendor = "siemens"', coarse)
    text = text.replace("{ at_s = 360.0 }", "{ at_s = 360.0, breath = 1.0 }")
    # In slices of 5 mm needles along them would hide the ice in streaks: here they cross.
    for along, across in (("-92.0, -2.5]", "-92.0, 14.0]"), ("-93.0, 8.5]", "-93.0, 25.0]")):
        assert along in text
        text = text.replace(along, across)
    for late in (655.0, 900.0, 1080.0, 1200.0, 1315.0):
        text = text.replace(f"    {{ at_s = {late} }},\n", "")
    return text.replace("restlessness_mm = 0.4", "restlessness_mm = 0.4\norgan_shift_mm = 9.0")


@pytest.fixture(scope="module", autouse=True)
def coarse(tmp_path_factory: pytest.TempPathFactory) -> object:
    """The scenario made small, and a cache of its own."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    small = scenarios.parse(AWE, _coarse_text())
    patch.setattr(
        scenarios, "load", lambda name: small if name == AWE else scenarios.parse(name, "")
    )
    yield
    patch.undo()


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sim")
    for left in ("scan_000/0099.dcm", "scan_007/0000.dcm", "truth/ice_007.nii.gz", "notes.txt"):
        (out / left).parent.mkdir(exist_ok=True)
        (out / left).write_text("of an earlier rendering")
    assert main(["render", AWE, "--out", str(out), "--scans", str(SCANS)]) == 0
    return out


def volume(folder: Path) -> tuple[np.ndarray, list[pydicom.Dataset]]:
    slices = [pydicom.dcmread(p) for p in sorted(folder.iterdir())]
    slices.sort(key=lambda d: float(d.ImagePositionPatient[2]))
    pixels = [d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in slices]
    return np.stack(pixels), slices


def field(rendered: Path, name: str) -> SimpleITK.Image:
    return SimpleITK.ReadImage(str(rendered / "truth" / f"{name}.nii.gz"))


def scans(rendered: Path) -> list[dict]:
    return json.loads((rendered / "truth" / "truth.json").read_text())["scans"]


def test_everything_that_is_promised_is_there(rendered: Path) -> None:
    names = {str(p.relative_to(rendered)) for p in rendered.rglob("*") if p.is_file()}
    assert {"case.toml", "rtstruct.dcm", "seg.dcm", "truth/truth.json"} <= names
    for n in range(SCANS):
        for what in ("ice", "frozen_fraction", "temperature_degc", "displacement_lps_mm"):
            assert f"truth/{what}_{n:03d}.nii.gz" in names
        assert len(list((rendered / f"scan_{n:03d}").glob("*.dcm"))) == 14


def test_nothing_of_an_earlier_rendering_stays_but_what_is_not_ours(rendered: Path) -> None:
    assert not (rendered / "scan_007").exists()
    assert not (rendered / "truth" / "ice_007.nii.gz").exists()
    assert (rendered / "notes.txt").exists()


def test_patient_study_and_frame_are_one_and_time_goes_on(rendered: Path) -> None:
    one, later = (volume(rendered / f"scan_{n:03d}")[1][0] for n in (0, 2))
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "PixelSpacing"):
        assert one[keyword].value == later[keyword].value
    assert one.SeriesInstanceUID != later.SeriesInstanceUID
    assert float(later.AcquisitionTime) - float(one.AcquisitionTime) == pytest.approx(
        600.0, abs=1.0
    )
    plan = pydicom.dcmread(rendered / "rtstruct.dcm")
    (reference,) = plan.ReferencedFrameOfReferenceSequence
    assert reference.FrameOfReferenceUID == one.FrameOfReferenceUID


@pytest.mark.parametrize("number", [2, 3])
def test_ice_is_seen_where_the_truth_says(rendered: Path, number: int) -> None:
    """Muscle that the truth calls frozen has darkened by the published 50-85 HU in the pixels; for
    the scan with a breath (2), against the tissue carried along by the stored displacement."""
    hu, slices = volume(rendered / f"scan_{number:03d}")
    before, _ = volume(rendered / "scan_000")
    g = slices[0]
    k, j, i = np.meshgrid(*(np.arange(n) for n in hu.shape), indexing="ij")
    origin, spacing = np.array(g.ImagePositionPatient, float), float(g.PixelSpacing[0])
    points = np.stack([origin[0] + i * spacing, origin[1] + j * spacing, origin[2] + 5.0 * k], -1)
    fraction = sampled(field(rendered, f"frozen_fraction_{number:03d}"), points)
    moved = points + sampled(field(rendered, f"displacement_lps_mm_{number:03d}"), points)
    came_from = SimpleITK.GetImageFromArray(before.astype(np.float32))
    came_from.SetOrigin([float(v) for v in origin])
    came_from.SetSpacing([spacing, spacing, 5.0])
    was = sampled(came_from, moved)
    deep = (fraction > 0.9) & (was > 35) & (was < 80)
    away = (fraction == 0.0) & (was > 35) & (was < 80)
    away &= np.linalg.norm(points - (36.0, -84.0, 0.0), axis=-1) < 90.0
    assert deep.sum() > 25
    assert 50.0 < np.median((was - hu)[deep]) < 85.0
    assert abs(np.median((was - hu)[away])) < 4.0
    if number == 2:
        carried = np.linalg.norm(moved - points, axis=-1)[fraction > 0.9]
        assert 1.0 < np.median(carried) < 10.0


def sampled(image: SimpleITK.Image, points: np.ndarray) -> np.ndarray:
    """A field at LPS points, by its own affine; 0 outside."""
    from scipy.ndimage import map_coordinates

    assert image.GetDirection() == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    at = np.moveaxis((points - image.GetOrigin()) / image.GetSpacing(), -1, 0)[::-1]
    values = SimpleITK.GetArrayFromImage(image).astype(float)
    if values.ndim == 3:
        return map_coordinates(values, at, order=1)
    return np.stack([map_coordinates(v, at, order=1) for v in np.moveaxis(values, -1, 0)], -1)


def test_truth_json_agrees_with_the_stored_fields(rendered: Path) -> None:
    for number, scan in enumerate(scans(rendered)):
        ice = SimpleITK.GetArrayFromImage(field(rendered, f"ice_{number:03d}")) > 0
        fraction = SimpleITK.GetArrayFromImage(field(rendered, f"frozen_fraction_{number:03d}"))
        degc = SimpleITK.GetArrayFromImage(field(rendered, f"temperature_degc_{number:03d}"))
        assert (ice == (fraction >= 0.5)).all()
        assert scan["ice_volume_ml"] == pytest.approx(ice.sum() / 1000.0, rel=0.03, abs=0.05)
        assert scan["margin_covered"] <= scan["lesion_covered"]
        if number:
            assert degc[ice].max() < 0.0
            assert (scan["lesion_covered"] < 1.0) == (scan["min_margin_mm"] < 0.0)
    volumes = [s["ice_volume_ml"] for s in scans(rendered)]
    assert volumes[0] == 0.0 < volumes[1] < volumes[2]


def test_the_needles_in_the_pixels_are_where_the_truth_has_them(rendered: Path) -> None:
    hu, slices = volume(rendered / "scan_002")
    origin = np.array(slices[0].ImagePositionPatient, float)
    spacing = float(slices[0].PixelSpacing[0])
    for needle in scans(rendered)[2]["needles"]:
        tip, entry = (np.array(needle[k]) for k in ("tip_lps_mm", "entry_lps_mm"))
        middle = tip + 0.4 * (entry - tip)
        x, y, z = np.rint((middle - origin) / (spacing, spacing, 5.0)).astype(int)
        assert hu[z, y - 1 : y + 2, x - 1 : x + 2].max() > 300.0


def test_rtstruct_and_seg_hold_the_lesion(rendered: Path) -> None:
    d = pydicom.dcmread(rendered / "rtstruct.dcm")
    assert [str(r.ROIName) for r in d.StructureSetROISequence] == ["Lesion", "Skin", "Bowel"]
    area_mm2 = 0.0
    for contour in d.ROIContourSequence[0].ContourSequence:
        x, y, _ = np.array(contour.ContourData, float).reshape(-1, 3).T
        area_mm2 += 0.5 * abs(x @ np.roll(y, 1) - y @ np.roll(x, 1))
    whole = 4 / 3 * np.pi * np.prod(scenarios.load(AWE).lesion.semi_axes_mm)
    assert area_mm2 * 5.0 == pytest.approx(whole, rel=0.08)
    seg = pydicom.dcmread(rendered / "seg.dcm")
    frames = seg.PerFrameFunctionalGroupsSequence
    of_lesion = [n for n, f in enumerate(frames)
                 if f.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1]  # fmt: skip
    voxels = seg.pixel_array[of_lesion].sum() * (360.0 / 128) ** 2 * 5.0
    assert voxels == pytest.approx(whole, rel=0.15)


@pytest.mark.long
def test_same_seed_same_bytes_and_another_seed_other_pixels(rendered: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    assert main(["render", AWE, "--out", str(again), "--scans", "2", "--no-cache"]) == 0
    files = [
        p.relative_to(again) for p in again.rglob("*") if p.is_file() and p.name != "truth.json"
    ]
    assert len(files) == 2 * (14 + 4) + 3
    for name in files:
        assert (again / name).read_bytes() == (rendered / name).read_bytes(), name
    assert scans(again) == scans(rendered)[:2]
    assert main(["render", AWE, "--out", str(other), "--scans", "1", "--seed", "7"]) == 0
    assert (volume(other / "scan_000")[0] != volume(again / "scan_000")[0]).mean() > 0.4
    assert patients(again) == {("DEMO-AWE", "DEMO^Abdominal wall")}
    assert patients(other) == {("DEMO-AWE-7", "DEMO^Abdominal wall 7")}


def patients(rendered: Path) -> set[tuple[str, str]]:
    """Whom the case and each of the objects names."""
    case = tomllib.loads((rendered / "case.toml").read_text(encoding="utf-8"))["patient"]
    datasets = [pydicom.dcmread(p, stop_before_pixels=True) for p in rendered.rglob("*.dcm")]
    named = {(str(d.PatientID), str(d.PatientName)) for d in datasets}
    return named | {(case["id"], case["label"].replace(", ", "^"))}


def test_a_damaged_cache_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    scenario = scenarios.load(AWE)
    cache = Cache(scenario, None)
    assert cache.load("scan_000") is None
    cache.store("scan_000", {"0": np.arange(4, dtype=np.int16)})
    stored = cache.load("scan_000")
    assert stored is not None
    assert stored["0"].tolist() == [0, 1, 2, 3]
    assert Cache(replace(scenario, seed=1), None).load("scan_000") is None
    for file in folder().glob("*/*.npz"):
        file.write_bytes(b"PK broken")
    assert cache.load("scan_000") is None
    assert Cache(scenario, None, keep=False).load("scan_000") is None


def test_truth_of_known_shapes() -> None:
    """Ice as a ball of 14 mm around a lesion of 8 mm: covered, 6 mm of margin; half a breath later
    about the same, elsewhere: tissue is stretched on the way."""
    scenario = scenarios.load(AWE)
    lesion = replace(scenario.lesion, semi_axes_mm=(8.0, 8.0, 8.0))
    scenario = replace(scenario, lesion=lesion, structures=())
    anatomy = block(scenario, "muscle", 60.0)
    centre = np.array(lesion.centre_lps_mm)
    frame = even(centre - 24.0, centre + 24.0, 1.0)
    ball = np.asarray(ellipsoid(lesion.centre_lps_mm, (14.0, 14.0, 14.0))(*frame.grid()))
    fraction = np.clip(0.5 - ball / 2.0, 0.0, 1.0).astype(np.float32)
    far = ellipsoid((float(centre[0]), float(centre[1] + 62.0), float(centre[2])), (7.0, 7.0, 7.0))
    beside = ellipsoid(
        (float(centre[0]), float(centre[1] + 26.0), float(centre[2])), (7.0, 7.0, 7.0)
    )
    anatomy = replace(anatomy, structures={"bowel": beside, "nerve": far})
    for breath, within_mm in ((0.0, 0.5), (0.5, 1.0)):
        scan = Scan(0.0, breath=breath)
        moved = displacement(scenario, anatomy.needles, scan, 0, anatomy.frame)
        state = State(frame, fraction, fraction, 0 * fraction)
        t = truth.measure(scenario, anatomy, state, moved, 0.0)
        assert t["lesion_covered"] == 1.0
        assert t["min_margin_mm"] == pytest.approx(6.0, abs=within_mm)
        assert t["ice_volume_ml"] == pytest.approx(4 / 3 * np.pi * 14**3 / 1000, rel=0.06)
        assert t["structures"]["bowel"] == pytest.approx(5.0, abs=within_mm)
        assert t["structures"]["nerve"] == pytest.approx(41.0, abs=2.0 * within_mm)
    nothing = truth.measure(scenario, anatomy, None, moved, 0.0)
    assert (nothing["lesion_covered"], nothing["min_margin_mm"]) == (0.0, None)


def test_list_says_why_each_is_hard() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scanner_sim.cli", "list"],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in scenarios.names():
        assert name in done.stdout
    assert done.stdout.count("needle(s)") == len(scenarios.names()) >= 10


def test_push_plays_it_and_writes_the_truth(rendered: Path, tmp_path: Path) -> None:
    """What is sent is what is rendered, but for UIDs and times."""
    with Receiver() as receiver:
        to = f"RX@127.0.0.1:{receiver.port}"
        few = scenarios.load(AWE)
        patch = pytest.MonkeyPatch()
        patch.setattr(scenarios, "load", lambda _: replace(few, scans=few.scans[:2]))
        arguments = ["push", AWE, "--to", to, "--speed", "1000", "--truth", str(tmp_path)]
        assert main(arguments) == 0
        patch.undo()
    assert len(receiver.stored) == 2 * 14
    first = sorted(receiver.stored[:14], key=lambda d: float(d.ImagePositionPatient[2]))
    sent = np.stack([d.pixel_array for d in first])
    kept = np.stack([d.pixel_array for d in volume(rendered / "scan_000")[1]])
    np.testing.assert_array_equal(sent, kept)
    assert len(json.loads((tmp_path / "truth.json").read_text())["scans"]) == 2


def test_push_enhanced_sends_an_object_a_scan(rendered: Path) -> None:
    with Receiver() as receiver:
        to = f"RX@127.0.0.1:{receiver.port}"
        few = scenarios.load(AWE)
        patch = pytest.MonkeyPatch()
        patch.setattr(scenarios, "load", lambda _: replace(few, scans=few.scans[:2]))
        assert main(["push", AWE, "--to", to, "--speed", "1000", "--enhanced"]) == 0
        patch.undo()
    assert [d.SOPClassUID for d in receiver.stored] == [EnhancedCTImageStorage] * 2
    kept = [d.pixel_array for d in volume(rendered / "scan_000")[1]]
    first = receiver.stored[0]
    places = [
        float(g.PlanePositionSequence[0].ImagePositionPatient[2])
        for g in first.PerFrameFunctionalGroupsSequence
    ]
    np.testing.assert_array_equal(first.pixel_array[np.argsort(places)], kept)


def test_the_receiver_is_asked_by_c_echo() -> None:
    asked: list[str] = []

    def echo(event: evt.Event) -> int:
        asked.append(str(event.assoc.requestor.ae_title).strip())
        return 0x0000

    ae = AE(ae_title="RX")
    ae.require_called_aet = True
    ae.add_supported_context("1.2.840.10008.1.1")
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_ECHO, echo)])
    try:
        port = server.socket.getsockname()[1]
        verify(Target("RX", "127.0.0.1", port, "CT01"))
        with pytest.raises(PushError, match=r"RY@127\.0\.0\.1.*rejected"):
            verify(Target("RY", "127.0.0.1", port, "CT01"))
    finally:
        server.shutdown()
    assert asked == ["CT01"]


def test_a_closed_port_is_told_before_anything_is_rendered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def rendered(*_: object) -> None:
        raise AssertionError("it was rendered")

    monkeypatch.setattr("scanner_sim.cli.Simulation", rendered)
    with socket.socket() as s:  # bound and not listening: nobody else's port
        s.bind(("127.0.0.1", 0))
        to = f"RX@127.0.0.1:{s.getsockname()[1]}"
        assert main(["push", AWE, "--to", to]) == 2
    said = capsys.readouterr()
    assert said.out == f"Calling {to} as SCANNER ...\n"
    assert f"{to}: no connection" in said.err


PUSH = ("push", AWE, "--to", "RX@127.0.0.1:1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["render", AWE, "--out", "o", "--ct", "none"], "--ct none: not a folder"),
        (["render", AWE, "--out", "o", "--ct", "."], ": no CT in it"),
        (["render", AWE, "--out", "o", "--seed", "-1"], "--seed -1"),
        (["render", AWE, "--out", "o", "--seed", "99999999999"], "--seed 99999999999"),
        (["render", AWE, "--out", "o", "--scans", "0"], "--scans 0: expected"),
        (["render", AWE, "--out", "o", "--scans", "-2"], "--scans -2: expected"),
        ([*PUSH, "--speed", "0"], "--speed 0"),
        ([*PUSH, "--speed", "nan"], "--speed nan"),
        ([*PUSH, "--fault", "earthquake"], "earthquake"),
        ([*PUSH, "--fault", "stall:99"], "there is no scan 99, the last one is 3"),
        ([*PUSH, "--slices-per-s", "0"], "--slices-per-s 0.0: expected"),
        ([*PUSH, "--slices-per-s", "-3"], "--slices-per-s -3.0: expected"),
        ([*PUSH, "--slices-per-s", "nan"], "--slices-per-s nan: expected"),
        ([*PUSH, "--epoch", "nan"], "--epoch nan"),
        ([*PUSH, "--epoch", "1e15", "--speed", "2"], "--epoch 1000000000000000.0"),
        ([*PUSH, "--epoch", "0", "--speed", "1000"], "--epoch 0.0"),
        ([*PUSH, "--calling-ae", ""], "AE title ''"),
        ([*PUSH, "--calling-ae", "SEVENTEEN_LETTERS"], "1 to 16 plain characters"),
        (["push", AWE, "--to", "RX@127.0.0.1:65536"], "port 65536"),
        (["push", AWE, "--to", "RX@127.0.0.1:0"], "port 0"),
        (["push", AWE, "--to", "SEVENTEEN_LETTERS@127.0.0.1:1"], "1 to 16 plain characters"),
        (["plan", AWE, "--out", "o", "--port", "70000"], "port 70000"),
        (["plan", AWE, "--out", "o", "--ae-title", "A\\B"], "no backslash"),
        ([*PUSH, "--tls-cert", "c.pem", "--tls-key", "k.pem"], "they need --tls-ca"),
        ([*PUSH, "--tls-key", "k.pem"], "they need --tls-ca"),
        ([*PUSH, "--tls-ca", "c.pem", "--tls-key", "k.pem"], "--tls-key: it needs --tls-cert"),
        ([*PUSH, "--tls-ca", "no.pem"], "TLS with no.pem"),
    ],
)
def test_bad_arguments_are_told_and_exit_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments)
    except SystemExit as error:  # argparse's own
        status = error.code
    told = capsys.readouterr()
    assert status == 2
    assert message in told.err
    assert sum("scanner-sim" in line and ": " in line for line in told.err.splitlines()[-1:]) == 1
    assert told.out == ""
    assert not list(tmp_path.iterdir())


def test_progress_has_a_total_and_ends_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["render", AWE, "--out", str(tmp_path), "--scans", "1", "--no-cache"]) == 0
    told = capsys.readouterr()
    *lines, rest = told.err.split("\n")
    assert rest == ""
    (line,) = lines
    assert [t.split("▯")[-1].split("▮")[-1].strip() for t in line.split("\r")[1:]] == [
        f"{n}/14 slices" for n in range(2, 15, 2)
    ]
    assert told.out.startswith("scan 0 (of 0 to 0): 14 images")


def test_the_help_says_when_a_fault_strikes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["push", "--help"])
    assert "all, default 2;" in " ".join(capsys.readouterr().out.split())


def test_an_unknown_scenario_and_a_bad_address_are_told() -> None:
    for arguments, message in (
        (["render", "nowhere", "--out", "o"], "there are: abdominal_wall"),
        (["push", AWE, "--to", "nonsense"], "AET@host:port"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "scanner_sim.cli", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert message in done.stderr


def test_another_scenarios_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    told = tmp_path / "truth" / "truth.json"
    told.write_text('{"scenario": "adrenal", "scans": []}')
    with pytest.raises(ScenarioError, match="holds adrenal; give a folder of its own"):
        output._check_folder(tmp_path, "lung_metastasis")
    output._check_folder(tmp_path, "adrenal")
    told.write_text("[]")
    output._check_folder(tmp_path, "lung_metastasis")
