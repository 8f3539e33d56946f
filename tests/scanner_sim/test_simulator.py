"""The simulated scanner: its freezing, its images, its plan, what it sends. LPS mm, HU, °C."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
import SimpleITK
from pynetdicom import AE, evt
from scipy.special import erf, erfc

from scanner_sim import scenario as scenarios
from scanner_sim import truth
from scanner_sim.anatomy import TISSUES, Anatomy, Frame
from scanner_sim.bodies import ellipsoid
from scanner_sim.cli import main
from scanner_sim.dicom_out import Writer
from scanner_sim.heat import Heat, _sweep
from scanner_sim.push import PushError, Target, deliver

NAME = "abdominal_wall_endometriosis"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sim")
    assert main(["render", NAME, "--out", str(out), "--scans", "3"]) == 0
    return out


def volume(folder: Path) -> tuple[np.ndarray, list[pydicom.Dataset]]:
    slices = [pydicom.dcmread(p) for p in sorted(folder.iterdir())]
    hu = np.stack(
        [d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in slices]
    )
    return hu, slices


def soft_block(scenario: scenarios.Scenario) -> Anatomy:
    """Muscle and nothing else around the scenario's needles."""
    axes = [np.arange(-60.0, 61.0, 2.0) + c for c in scenario.lesion_centre_lps_mm]
    frame = Frame(*axes)
    shape = tuple(len(a) for a in reversed(axes))
    label = np.full(shape, TISSUES.index("muscle"), np.uint8)
    lesion = ellipsoid(scenario.lesion_centre_lps_mm, scenario.lesion_semi_axes_mm)
    needles = scenario.needles[:1]
    return Anatomy(
        frame,
        np.full(shape, 55.0, np.float32),
        label,
        lesion,
        scenario.lesion_centre_lps_mm,
        {},
        needles,
    )


def test_one_needle_freezes_a_ball_of_published_size() -> None:
    """One 1.5 mm argon needle, ten minutes: 25-45 mm long and 20-40 mm across (human lung 25 × 16,
    the maker's gel 37 × 32, swine kidney 50 × 40 mm)."""
    scenario = scenarios.load(NAME)
    heat = Heat(scenario, soft_block(scenario))
    heat.advance(scenario.start_after_baseline_s + 600.0)
    ice = heat.frozen_fraction() >= 0.5
    extent = [np.ptp(np.flatnonzero(ice.any(axis=axes))) + 1 for axes in ((0, 1), (0, 2), (1, 2))]
    assert 25 <= extent[0] <= 45  # the needle runs along x
    assert all(16 <= e <= 40 for e in extent[1:])
    assert -156.0 < heat.temperature_degc().min() < -60.0


def test_implicit_sweep_diffuses_as_the_exact_solution_does() -> None:
    """A step of temperature in a long bar: T = ½·erfc(x/2√(αt))."""
    n, steps, spacing_m, step_s = 201, 100, 1e-3, 1.0
    t = np.zeros((n, 1, 1), np.float32)
    t[: n // 2] = 1.0
    k, c = np.full_like(t, 0.5), np.full_like(t, 3.6e6)
    for _ in range(steps):
        _sweep(t, k, c, np.float32(step_s / spacing_m**2))
    x = (np.arange(n) - (n // 2 - 0.5)) * spacing_m
    exact = 0.5 * erfc(x / (2 * np.sqrt(0.5 / 3.6e6 * steps * step_s)))
    assert np.abs(t[:, 0, 0] - exact).max() < 0.01
    assert erf(0.0) == 0.0


def test_freezing_moves_exactly_the_heat_it_takes() -> None:
    """Without needles, blood or air the enthalpy of the box does not change."""
    scenario = scenarios.load(NAME)
    bare = replace(scenario.tissues["muscle"], perfusion_per_s=0.0)
    scenario = replace(
        scenario,
        tissues={**scenario.tissues, "muscle": bare},
        cooling=replace(scenario.cooling, u_w_m_k=0.0),
    )
    heat = Heat(scenario, soft_block(scenario))
    heat._h[20:30, 20:30, 20:40] = -2.0e8  # a frozen block in warm tissue
    before = float(heat._h.sum(dtype=float))
    coldest = float(heat.temperature_degc().min())
    heat.advance(60.0)
    assert abs(float(heat._h.sum(dtype=float)) - before) < 2e-4 * abs(before)
    assert float(heat.temperature_degc().min()) > coldest + 0.3


def test_water_rich_tissue_darkens_by_the_published_drop_and_fat_hardly(rendered: Path) -> None:
    (before, slices), (after, _) = volume(rendered / "scan_000"), volume(rendered / "scan_002")
    mask = (
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(rendered / "truth" / "ice_002.nii.gz")))
        > 0
    )
    drop = before - after
    # Deep inside only: the edge is half frozen.
    from scipy.ndimage import binary_erosion

    deep = binary_erosion(mask, iterations=2)
    muscle, fat = deep & (before > 20) & (before < 110), deep & (before < -60) & (before > -150)
    assert muscle.sum() > 200
    assert fat.sum() > 200
    assert 50 < np.median(drop[muscle]) < 85
    assert 2 < np.median(drop[fat]) < 20
    assert abs(np.median(drop[~mask])) < 1.0
    assert np.std(drop[:, 250:, 200:300]) == pytest.approx(12.0 * np.sqrt(2), rel=0.15)
    assert len(slices) == 40


def test_slices_lie_where_they_say(rendered: Path) -> None:
    _, slices = volume(rendered / "scan_001")
    z = [float(d.ImagePositionPatient[2]) for d in slices]
    assert np.diff(z) == pytest.approx(2.5)
    first = slices[0]
    assert first.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert [float(v) for v in first.ImageOrientationPatient] == [1, 0, 0, 0, 1, 0]
    baseline = volume(rendered / "scan_000")[1][0]
    same = (
        "PatientID",
        "StudyInstanceUID",
        "FrameOfReferenceUID",
        "ImagePositionPatient",
        "PixelSpacing",
    )
    assert all(first[k].value == baseline[k].value for k in same)
    assert first.SeriesInstanceUID != baseline.SeriesInstanceUID
    apart = float(first.AcquisitionTime) - float(baseline.AcquisitionTime)
    assert apart == pytest.approx(300.0, abs=1.0)  # hhmmss: three minutes


def test_rtstruct_holds_the_lesion(rendered: Path) -> None:
    d = pydicom.dcmread(rendered / "rtstruct.dcm")
    names = [str(r.ROIName) for r in d.StructureSetROISequence]
    assert names == ["Lesion", "Skin", "Bowel"]
    area_mm2 = 0.0
    for contour in d.ROIContourSequence[0].ContourSequence:
        x, y, _ = np.array(contour.ContourData, float).reshape(-1, 3).T
        area_mm2 += 0.5 * abs(x @ np.roll(y, 1) - y @ np.roll(x, 1))
    semi = scenarios.load(NAME).lesion_semi_axes_mm
    assert area_mm2 * 2.5 == pytest.approx(4 / 3 * np.pi * np.prod(semi), rel=0.04)


def test_truth_of_known_shapes() -> None:
    """Ice as a ball of 14 mm around a lesion of 8 mm: covered, 6 mm of margin."""
    scenario = replace(scenarios.load(NAME), lesion_semi_axes_mm=(8.0, 8.0, 8.0), structures=())
    axes = [np.arange(-24.0, 24.5, 1.0) + c for c in scenario.lesion_centre_lps_mm]
    frame = Frame(*axes)
    ball = np.asarray(ellipsoid(scenario.lesion_centre_lps_mm, (14.0, 14.0, 14.0))(*frame.grid()))
    fraction = np.clip(0.5 - ball / 2.0, 0.0, 1.0)
    anatomy = replace(
        soft_block(scenario), lesion=ellipsoid(scenario.lesion_centre_lps_mm, (8.0, 8.0, 8.0))
    )
    t = truth.measure(scenario, anatomy, frame, fraction, 0.0)
    assert t["lesion_covered"] == 1.0
    assert t["min_margin_mm"] == pytest.approx(6.0, abs=0.5)
    assert t["ice_volume_ml"] == pytest.approx(4 / 3 * np.pi * 14**3 / 1000, rel=0.02)
    nothing = truth.measure(scenario, anatomy, frame, None, 0.0)
    assert (nothing["lesion_covered"], nothing["min_margin_mm"]) == (0.0, None)


def test_truth_grows_with_the_freeze(rendered: Path) -> None:
    scans = json.loads((rendered / "truth" / "truth.json").read_text())["scans"]
    assert scans[0]["ice_volume_ml"] == 0.0
    assert scans[1]["ice_volume_ml"] < scans[2]["ice_volume_ml"]
    assert all(s["margin_covered"] <= s["lesion_covered"] for s in scans)


def test_same_seed_same_bytes(rendered: Path, tmp_path: Path) -> None:
    assert main(["render", NAME, "--out", str(tmp_path), "--scans", "1"]) == 0
    for name in ("scan_000/0007.dcm", "rtstruct.dcm", "case.toml"):
        assert (tmp_path / name).read_bytes() == (rendered / name).read_bytes()


def test_a_real_series_serves_as_anatomy(ct_data: Path, tmp_path: Path) -> None:
    source = ct_data / "totalseg_body_ct"
    assert main(["render", NAME, "--ct", str(source), "--out", str(tmp_path), "--scans", "1"]) == 0
    hu, slices = volume(tmp_path / "scan_000")
    real = sorted(
        (pydicom.dcmread(p) for p in source.glob("CT.*")), key=lambda d: d.ImagePositionPatient[2]
    )
    places = [
        np.array([d.ImagePositionPatient for d in series], float) for series in (slices, real)
    ]
    np.testing.assert_allclose(places[0], places[1], atol=1e-5)
    there = np.stack(
        [d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in real]
    )
    assert abs(np.median(hu - there)) < 2.0
    assert np.corrcoef(hu[::4, ::4, ::4].ravel(), there[::4, ::4, ::4].ravel())[0, 1] > 0.98


class Receiver:
    """A storage SCP that refuses the first ``refuse`` instances as out of resources."""

    def __init__(self, refuse: int) -> None:
        self.refuse, self.taken = refuse, []
        ae = AE("RX")
        ae.add_supported_context("1.2.840.10008.5.1.4.1.1.2")
        handlers = [(evt.EVT_C_STORE, self._store)]
        self.server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port = self.server.socket.getsockname()[1]

    def _store(self, event: evt.Event) -> int:
        if self.refuse:
            self.refuse -= 1
            return 0xA700
        self.taken.append(event.dataset.SOPInstanceUID)
        return 0x0000


@pytest.mark.parametrize("per_image", [False, True])
def test_what_is_refused_is_sent_again(rendered: Path, per_image: bool) -> None:
    slices = volume(rendered / "scan_000")[1][:12]
    receiver = Receiver(refuse=5)
    try:
        assert deliver(slices, Target("RX", "127.0.0.1", receiver.port, per_image=per_image)) == 12
    finally:
        receiver.server.shutdown()
    assert sorted(receiver.taken) == sorted(d.SOPInstanceUID for d in slices)


def test_nobody_listening_is_an_error(rendered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanner_sim.push._RETRIES_S", (0.01,))
    with pytest.raises(PushError, match="2 of 2 slices"):
        deliver(volume(rendered / "scan_000")[1][:2], Target("RX", "127.0.0.1", 1))


def test_bad_arguments_are_told_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["render", "nowhere", "--out", str(tmp_path)]) == 2
    assert "there are: abdominal_wall" in capsys.readouterr().err
    assert main(["plan", NAME, "--ct", str(tmp_path / "none"), "--out", str(tmp_path)]) == 2
    (tmp_path / "empty").mkdir()
    assert main(["plan", NAME, "--ct", str(tmp_path / "empty"), "--out", str(tmp_path)]) == 2
    assert "0 CT slices found" in capsys.readouterr().err
    done = subprocess.run(
        [sys.executable, "-m", "scanner_sim.cli", "push", NAME, "--to", "nonsense"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "AET@host:port" in done.stderr


def test_uids_follow_seed_and_epoch() -> None:
    scenario = scenarios.load(NAME)
    frame = SimpleNamespace()
    writers = [Writer(scenario, frame, epoch) for epoch in (1.0, 1.0, 2.0)]
    one, same, later = (w._uid("study") for w in writers)
    assert one == same != later
    assert len({w.frame_of_reference_uid for w in writers}) == 1
