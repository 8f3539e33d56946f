"""A folder of DICOM files as volumes: by the listener's own reading, whatever the files are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from monitor.intake.folder import FolderError, soft_volume, volumes_in
from monitor.model import Reason
from tests.intake.intake_helpers import ct_dataset


def save(d: Dataset, folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True)
    d.save_as(folder / name, enforce_file_format=True)


def sweep(
    series: str,
    count: int = 4,
    *,
    noise: int = 0,
    kernel: str = "B",
    minute: int = 0,
    seed: int = 1,
) -> list[Dataset]:
    """Slices of a pass: muscle of 60 HU with so much noise, acquired in that minute."""
    rng = np.random.default_rng(seed)
    slices = []
    for k in range(count):
        d = ct_dataset(k, series=series)
        d.ConvolutionKernel = [kernel]
        d.AcquisitionTime = f"12{minute:02d}{k:02d}.5"
        stored = 1084 + rng.integers(-noise, noise + 1, (d.Rows, d.Columns))
        d.PixelData = stored.astype("<u2").tobytes()
        slices.append(d)
    return slices


def save_all(slices: list[Dataset], folder: Path, first: int = 0) -> None:
    """Under names that go against the order of the slices."""
    for n, d in enumerate(slices):
        save(d, folder, f"{900 - first - n}.img")


def test_a_folder_yields_the_stack_that_its_slices_make(tmp_path: Path) -> None:
    save_all([ct_dataset(k) for k in range(5)], tmp_path)
    (volume,) = volumes_in(tmp_path, "P1")
    assert volume.geometry.slice_positions_lps_mm()[:, 2].tolist() == [0.0, 2.5, 5.0, 7.5, 10.0]
    assert [i.path for i in volume.instances] == [f"{900 - n}.img" for n in range(5)]
    assert volume.hu[:, 0, 0].tolist() == [k - 1024 for k in range(5)]
    assert (volume.patient_id, volume.status.value) == ("P1", "OK")
    assert len({i.sha256 for i in volume.instances}) == 5


def test_what_is_no_slice_does_not_spoil_the_volume(tmp_path: Path) -> None:
    save_all([ct_dataset(k) for k in range(3)], tmp_path)
    (tmp_path / "README.txt").write_text("not DICOM")
    (tmp_path / "deeper").mkdir()
    scout = ct_dataset(7)
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(scout, tmp_path, "scout.dcm")
    save(ct_dataset(8, patient="P2"), tmp_path, "stranger.dcm")
    assert [len(v.hu) for v in volumes_in(tmp_path, "P1")] == [3]


def test_passes_over_the_same_places_come_apart_and_in_order(tmp_path: Path) -> None:
    later, sooner = sweep("1.2.9", minute=5), sweep("1.2.9", minute=3)
    for n, d in enumerate(later):  # one series, as fluoroscopy is sent
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = f"1.2.9.{n}"
    save_all(later, tmp_path)
    save_all(sooner, tmp_path, first=100)
    first, last = volumes_in(tmp_path, "P1")
    assert (len(first.hu), len(last.hu)) == (4, 4)
    assert last.acquired_utc_s - first.acquired_utc_s == pytest.approx(120.0)
    assert soft_volume([first, last]) is last


def test_passes_a_second_apart_are_not_mixed_whatever_the_files_are_called(tmp_path: Path) -> None:
    """Fluoroscopy under names in no order: every volume is of one pass."""
    frames = []
    for number in range(3):
        for k in range(4):
            d = ct_dataset(k, series="1.2.9")
            d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = f"1.2.9.{number}.{k}"
            d.AcquisitionTime = f"12000{2 * number}.{k}"
            d.PixelData = np.full((d.Rows, d.Columns), 1000 + number, "<u2").tobytes()
            frames.append(d)
    for n, at in enumerate(np.random.default_rng(3).permutation(len(frames))):
        save(frames[at], tmp_path, f"{n:03d}")
    found = volumes_in(tmp_path, "P1")
    assert [np.unique(v.hu).tolist() for v in found] == [[-24], [-23], [-22]]
    assert soft_volume(found) is found[2]


def test_a_pass_that_was_thought_complete_too_soon_counts_once_and_whole(tmp_path: Path) -> None:
    """The second pass reaches the places of the first, and then has one slice more: a revision."""
    save_all(sweep("1.2.1", 4), tmp_path)
    later = sweep("1.2.1", 5, minute=5)
    for k, d in enumerate(later):
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = f"1.2.9.{k}"
    save_all(later, tmp_path, first=100)
    found = volumes_in(tmp_path, "P1")
    assert [(v.volume_id, len(v.hu)) for v in found] == [("v001", 4), ("v002r2", 5)]


@pytest.mark.parametrize("kernels", [("Br38f", "Br59f"), ("STANDARD", "BONE"), ("B", "YB"),
                                     ("FC08", "FC30"), ("Z", "A")])  # fmt: skip
@pytest.mark.parametrize("soft_first", [True, False])
def test_of_two_kernels_the_softer_is_taken_whatever_its_name(
    tmp_path: Path, kernels: tuple[str, str], soft_first: bool
) -> None:
    names = ("1.2.1", "1.2.2") if soft_first else ("1.2.2", "1.2.1")
    save_all(sweep(names[0], noise=10, kernel=kernels[0]), tmp_path)
    save_all(sweep(names[1], noise=40, kernel=kernels[1]), tmp_path, first=100)
    found = volumes_in(tmp_path, "P1")
    assert len(found) == 2
    assert soft_volume(found).series_uid == names[0]


def test_more_slices_go_before_a_softer_kernel(tmp_path: Path) -> None:
    save_all(sweep("1.2.1", 3, noise=5), tmp_path)
    save_all(sweep("1.2.2", 6, noise=40), tmp_path, first=100)
    assert len(soft_volume(volumes_in(tmp_path, "P1")).hu) == 6


def test_another_frame_of_reference_is_turned_away_when_one_is_given(tmp_path: Path) -> None:
    save_all([ct_dataset(k, frame="1.2.3.9") for k in range(3)], tmp_path)
    assert volumes_in(tmp_path, "P1", "1.2.3.9")
    with pytest.raises(FolderError, match=r"3 file\(s\): frame_of_reference_mismatch"):
        volumes_in(tmp_path, "P1", "1.2.3.8")


# ------------------------------------------------------------------ errors


def failure(folder: Path) -> str:
    with pytest.raises(FolderError) as caught:
        volumes_in(folder, "P1")
    return str(caught.value)


def test_a_folder_without_a_volume_is_one_error_that_says_what_is_in_it(tmp_path: Path) -> None:
    for k in range(2):
        scout = ct_dataset(k)
        scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        save(scout, tmp_path, f"s{k}")
    (tmp_path / "notes.txt").write_text("nothing")
    said = failure(tmp_path)
    assert said.startswith(f"{tmp_path}: holds no CT volume")
    assert "2 file(s): localizer" in said
    assert "1 file(s): undecodable" in said


def test_a_single_slice_is_no_volume(tmp_path: Path) -> None:
    save(ct_dataset(0), tmp_path, "one")
    assert "A single slice makes no volume" in failure(tmp_path)


@pytest.mark.requirement("REQ-PRIVACY")
def test_another_patient_is_said_but_not_named(tmp_path: Path) -> None:
    save_all([ct_dataset(k, patient="SECRET-7") for k in range(3)], tmp_path)
    said = failure(tmp_path)
    assert "3 file(s): patient_mismatch" in said
    assert "SECRET" not in said


def test_an_empty_or_missing_folder_is_said(tmp_path: Path) -> None:
    assert "it is empty" in failure(tmp_path)
    assert "cannot be read" in failure(tmp_path / "nowhere")


def test_it_is_the_listeners_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither decoding nor assembly has a second implementation: break either, and this breaks."""
    save_all([ct_dataset(k) for k in range(3)], tmp_path)
    assert len(volumes_in(tmp_path, "P1")) == 1
    with monkeypatch.context() as broken:
        reason = Reason("broken", "Stacking is broken.")
        broken.setattr("monitor.intake.assembly.stack", lambda *_: reason)
        assert "Stacking is broken." in failure(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr("monitor.intake.decode.hounsfield", lambda *_: 1 / 0)
        assert "ZeroDivisionError" in failure(tmp_path)
