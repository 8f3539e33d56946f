"""``iceball segment`` and ``iceball benchmark imaging`` as their user calls them, on a small rendered
procedure: files, JSON, exit statuses. LPS mm."""

from __future__ import annotations

import json
import re
import shutil
from importlib import resources
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK

from monitor.cli import main
from scanner_sim import scenario as scenarios
from scanner_sim.cli import main as scanner_sim

AWE = "abdominal_wall_endometriosis"


def small_text() -> str:
    """The abdominal wall in 14 slices of 128² pixels: a baseline, and three minutes of freezing."""
    text = (resources.files("scanner_sim") / "scenarios" / f"{AWE}.toml").read_text()
    coarse = 'vendor = "siemens"\nmatrix = 128\nslices = 14\nthickness_mm = 5.0'
    text = text.replace('vendor = "siemens"', coarse).replace("at_s = 360.0", "at_s = 240.0")
    for other in (180.0, 540.0, 655.0, 900.0, 1080.0, 1200.0, 1315.0):
        text = text.replace(f"    {{ at_s = {other} }},\n", "")
    return text


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sim") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        small = scenarios.parse(AWE, small_text())
        patch.setattr(scenarios, "load", lambda name: small)
        assert scanner_sim(["render", AWE, "--out", str(out)]) == 0
    return out


def segment(folder: Path, out: Path, *more: str, **paths: Path) -> int:
    given = {"baseline": "scan_000", "scan": "scan_001", "case": "case.toml"}
    options = [a for k, v in given.items() for a in (f"--{k}", str(paths.get(k, folder / v)))]
    return main(["segment", *options, "--out", str(out), *more])


@pytest.fixture(scope="module")
def segmented(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("segmented")
    assert segment(rendered, out / "ice.nii.gz", "--seg", str(out / "deeper" / "ice.dcm")) == 0
    return out


def truth(rendered: Path) -> SimpleITK.Image:
    return SimpleITK.ReadImage(str(rendered / "truth" / "ice_001.nii.gz"))


def dice(mask: SimpleITK.Image, true: SimpleITK.Image) -> float:
    """In space, by SimpleITK's reading of both files."""
    onto = SimpleITK.Resample(mask, true, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor)
    a, b = (SimpleITK.GetArrayFromImage(i) > 0 for i in (onto, true))
    return 2.0 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_the_mask_lies_where_the_ice_is(rendered: Path, segmented: Path) -> None:
    mask = SimpleITK.ReadImage(str(segmented / "ice.nii.gz"))
    assert dice(mask, truth(rendered)) > 0.8
    moved = SimpleITK.Image(mask)
    moved.SetOrigin([mask.GetOrigin()[0], mask.GetOrigin()[1] + 8.0, mask.GetOrigin()[2]])
    assert dice(moved, truth(rendered)) < 0.7  # the comparison can fail
    first = pydicom.dcmread(min((rendered / "scan_001").iterdir()))
    assert mask.GetSize() == (128, 128, 14)
    assert mask.GetSpacing()[:2] == pytest.approx(np.array(first.PixelSpacing, float), abs=1e-4)


def test_json_says_what_was_measured(
    rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert segment(rendered, tmp_path / "ice.nii") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["status"] in ("OK", "DEGRADED")
    assert (said["status"] == "OK") == (said["reasons"] == [])
    mask = SimpleITK.ReadImage(str(tmp_path / "ice.nii"))
    ml = float(SimpleITK.GetArrayFromImage(mask).sum()) * np.prod(mask.GetSpacing()) / 1000.0
    assert said["volume_ml"] == pytest.approx(ml, rel=0.1)
    assert 0.0 <= said["quality"] <= 1.0
    assert set(said["registration"]) == {"status", "quality", "error_mm", "shift_mm"}
    assert [n["number"] for n in said["needles"]] == [1, 2]
    for needle in said["needles"]:
        assert np.linalg.norm(needle["direction"]) == pytest.approx(1.0, abs=1e-3)
        assert needle["direction"][0] > 0.9  # from the tip towards the entry
        assert len(needle["tip_lps_mm"]) == 3
    assert 0.0 < said["wall_s"] < 60.0
    assert (said["mask"], said["seg"]) == (str(tmp_path / "ice.nii"), None)
    assert said["mask_on"] == "the scan's slices"
    assert [p.name for p in tmp_path.iterdir()] == ["ice.nii"]  # nothing half written stays


def test_the_seg_refers_to_the_scans_slices_and_holds_the_same_ice(
    rendered: Path, segmented: Path
) -> None:
    seg = highdicom.seg.segread(segmented / "deeper" / "ice.dcm")
    slices = [pydicom.dcmread(p) for p in (rendered / "scan_001").iterdir()]
    slices.sort(key=lambda d: float(d.ImagePositionPatient[2]))
    assert seg.PatientID == slices[0].PatientID
    assert seg.FrameOfReferenceUID == slices[0].FrameOfReferenceUID
    uids = [d.SOPInstanceUID for d in slices]
    mask = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(segmented / "ice.nii.gz")))
    held = seg.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert mask.any()
    assert (held == mask).all()


def test_invalid_says_why_leaves_no_mask_and_ends_with_3(
    rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    text = (rendered / "case.toml").read_text()
    blind = re.sub(r"\[\[needle\]\].*?(?=\n\[)", "", text, flags=re.S)
    assert "[[needle]]" not in blind
    for name in ("rtstruct.dcm", "seg.dcm"):
        shutil.copy(rendered / name, tmp_path)
    (tmp_path / "case.toml").write_text(blind)
    kept = tmp_path / "ice.nii.gz"
    kept.write_bytes(b"of an earlier scan")
    assert segment(rendered, kept, "--seg", str(tmp_path / "ice.dcm"),
                   case=tmp_path / "case.toml") == 3  # fmt: skip
    said = json.loads(capsys.readouterr().out)
    assert said["status"] == "INVALID"
    assert said["reasons"][0]["code"]
    assert (said["volume_ml"], said["mask"], said["seg"]) == (None, None, None)
    assert not kept.exists()
    assert not (tmp_path / "ice.dcm").exists()


@pytest.mark.parametrize(
    ("paths", "out", "words"),
    [
        ({"scan": "truth"}, "ice.nii.gz", "truth: holds no CT volume"),
        ({"case": "nothing.toml"}, "ice.nii.gz", "nothing.toml"),
        (
            {"baseline": "scan_001", "scan": "scan_000"},
            "ice.nii.gz",
            "are they swapped, or the same?",
        ),
        ({"scan": "scan_000"}, "ice.nii.gz", "are they swapped, or the same?"),
        ({}, "ice.png", "expected a name ending in .nii"),
        ({}, "../case.toml/ice.nii.gz", "cannot be written"),
        ({}, "../scan_001/ice.nii.gz", "would overwrite or join what is read"),
    ],
)
def test_errors_are_one_message_and_2(
    rendered: Path, capfd: pytest.CaptureFixture, paths: dict[str, str], out: str, words: str
) -> None:
    where = rendered / "truth" if ".." in out else rendered
    assert segment(rendered, where / out, **{k: rendered / v for k, v in paths.items()}) == 2
    told = capfd.readouterr()
    assert told.out == ""
    assert told.err.startswith("iceball: ")
    assert words in told.err
    assert len(told.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("seg", "words"),
    [
        ("ice.nii.gz", "ending in .dcm"),
        ("seg.dcm", "would overwrite"),
        ("scan_001/0003.dcm", "would"),
    ],
)
def test_what_is_read_is_never_overwritten(
    rendered: Path, tmp_path: Path, capfd: pytest.CaptureFixture, seg: str, words: str
) -> None:
    before = {p: p.read_bytes() for p in rendered.rglob("*.dcm")}
    case = (rendered / "case.toml").read_text().replace('"rtstruct.dcm"', '"seg.dcm"')
    (rendered / "by_seg.toml").write_text(case)
    code = segment(rendered, tmp_path / "ice.nii.gz", "--seg", str(rendered / seg),
                   case=rendered / "by_seg.toml")  # fmt: skip
    assert code == 2
    assert words in capfd.readouterr().err
    assert {p: p.read_bytes() for p in rendered.rglob("*.dcm")} == before
    assert not (tmp_path / "ice.nii.gz").exists()


# ------------------------------------------------------------------ the benchmark


def test_the_benchmark_agrees_with_the_files(
    rendered: Path, segmented: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["benchmark", "imaging", str(rendered), "--out", str(tmp_path), "--plots"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert said == (tmp_path / "imaging.md").read_text()
    (scan,) = json.loads((tmp_path / "imaging.json").read_text())["scans"]
    mask = SimpleITK.ReadImage(str(segmented / "ice.nii.gz"))
    # The mask's pixels are 3 mm wide and its slices 5 mm apart, in which even the truth loses some;
    # the benchmark samples the surface.
    true_ice = truth(rendered)
    coarse = SimpleITK.Resample(
        true_ice, mask, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor
    )
    least = scan["dice"] * dice(coarse, true_ice) - 0.02
    assert least < dice(mask, true_ice) < scan["dice"] + 0.02
    assert (scan["scenario"], scan["scan"], scan["kind"]) == ("small", 1, "volume")
    assert scan["frozen_minutes"] == pytest.approx(3.0)
    true = json.loads((rendered / "truth" / "truth.json").read_text())["scans"][1]
    assert scan["margin_true_mm"] == true["min_margin_mm"]
    assert scan["margin_error_mm"] == pytest.approx(scan["margin_mm"] - true["min_margin_mm"])
    assert scan["registration_mm"] < 3.0
    assert "| small | 1 |" in said
    assert (tmp_path / "small.png").stat().st_size > 5000


def test_a_broken_scenario_is_one_error_before_anything_is_measured(
    rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(rendered, broken)
    (broken / "truth" / "frozen_fraction_001.nii.gz").unlink()
    assert main(["benchmark", "imaging", str(rendered), str(broken)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "frozen_fraction_001.nii.gz: missing" in told.err
    assert len(told.err.strip().splitlines()) == 1
    (broken / "truth" / "frozen_fraction_001.nii.gz").write_bytes(b"no NIfTI")
    assert main(["benchmark", "imaging", str(broken)]) == 2
    assert "frozen_fraction_001.nii.gz: cannot be read" in capsys.readouterr().err
