"""Enhanced CT: the same slices and volumes as of classic images, or one reason for the whole instance."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from monitor.intake import assembly
from monitor.intake.assembly import Expectation
from monitor.intake.decode import decode
from monitor.model import CtFrames, CtSlice, CtVolume, Rejected
from tests.intake.intake_helpers import ct_dataset, enhanced_dataset, store

COUNT = 6


def images(count: int = COUNT) -> list[Dataset]:
    return [ct_dataset(k) for k in range(count)]


def frames(d: Dataset, record: Path) -> CtFrames:
    result = decode(store(d, record), record)
    assert isinstance(result, CtFrames), result
    return result


def refused(d: Dataset, record: Path) -> str:
    result = decode(store(d, record), record)
    assert isinstance(result, Rejected), result
    assert "Doe" not in result.reason.text
    return f"{result.reason.code}: {result.reason.text}"


def assembled(*all_frames: CtFrames, patient: str = "P1") -> list[assembly.Outcome]:
    state = assembly.initial(Expectation(patient, None))
    outcomes: list[assembly.Outcome] = []
    for one in all_frames:
        state, more = assembly.add_frames(state, one)
        outcomes += more
    return outcomes + assembly.finish(state)[1]


def test_each_frame_is_what_a_classic_image_would_be(tmp_path: Path) -> None:
    together = frames(enhanced_dataset(images()), tmp_path)
    assert [s.frame for s in together.slices] == [1, 2, 3, 4, 5, 6]
    for one, image in zip(together.slices, images(), strict=True):
        alone = decode(store(image, tmp_path, "classic"), tmp_path)
        assert isinstance(alone, CtSlice)
        for name in ("position_lps_mm", "row_direction", "column_direction", "hu"):
            assert np.array_equal(getattr(one, name), getattr(alone, name)), name
        for name in (
            *("patient_id", "series_uid", "frame_of_reference_uid", "pixel_spacing_mm"),
            *("slice_thickness_mm", "kernel", "acquired_utc_s", "image_type", "patient_name"),
        ):
            assert getattr(one, name) == getattr(alone, name), name


def test_a_stack_is_a_volume_as_soon_as_it_is_there(tmp_path: Path) -> None:
    d = enhanced_dataset(images())
    (volume,) = assembled(frames(d, tmp_path))
    assert isinstance(volume, CtVolume)
    assert (volume.completed_by, len(volume.hu), volume.status.value) == ("expected_count", 6, "OK")
    assert volume.geometry.slice_spacing_mm == pytest.approx(2.5)


def test_what_a_frame_says_of_itself_goes_before_what_is_shared(tmp_path: Path) -> None:
    d = enhanced_dataset(images())
    own = Dataset()
    own.RescaleSlope, own.RescaleIntercept, own.RescaleType = "2", "-1000", "HU"
    d.PerFrameFunctionalGroupsSequence[2].PixelValueTransformationSequence = [own]
    hu = frames(d, tmp_path).slices[2].hu
    assert hu[0, 0] == 2 * 2 - 1000


def test_stacks_and_points_in_time_are_volumes_of_their_own(tmp_path: Path) -> None:
    stacks = enhanced_dataset(images(12), ["1"] * 6 + ["2"] * 6)
    assert [len(v.hu) for v in assembled(frames(stacks, tmp_path))] == [6, 6]
    times = enhanced_dataset([i for i in images(5) for _ in range(2)])
    for number, groups in enumerate(times.PerFrameFunctionalGroupsSequence):
        content = groups.FrameContentSequence[0]
        content.TemporalPositionIndex = number % 2 + 1
        content.InStackPositionNumber = number // 2 + 1
    volumes = assembled(frames(times, tmp_path))
    assert [(len(v.hu), v.status.value) for v in volumes] == [(5, "OK"), (5, "OK")]


def test_a_concatenation_is_one_volume(tmp_path: Path) -> None:
    parts = []
    for number in range(2):
        d = enhanced_dataset(images()[3 * number : 3 * number + 3])
        d.ConcatenationUID, d.InConcatenationNumber = "1.2.9", number + 1
        d.InConcatenationTotalNumber, d.ConcatenationFrameOffsetNumber = 2, 3 * number
        parts.append(decode(store(d, tmp_path, f"part{number}"), tmp_path))
    (volume,) = assembled(*parts)
    assert len(volume.hu) == 6


def test_the_whole_instance_again_is_one_duplicate(tmp_path: Path) -> None:
    one = frames(enhanced_dataset(images()), tmp_path)
    outcomes = assembled(one, one)
    assert [type(o) for o in outcomes] == [CtVolume, Rejected]
    assert outcomes[1].reason.code == "duplicate_instance"


def test_of_another_patient_it_is_rejected_once(tmp_path: Path) -> None:
    (only,) = assembled(frames(enhanced_dataset(images()), tmp_path), patient="P2")
    assert isinstance(only, Rejected)
    assert only.reason.code == "patient_mismatch"


@pytest.mark.parametrize("tool", [["dcmcrle"], ["dcmcjpeg", "+e1"], ["dcmcjpls"]], ids=str)
def test_compressed_frames(tool: list[str], tmp_path: Path, dcmtk: dict[str, str]) -> None:
    d = enhanced_dataset(images())
    plain = frames(d, tmp_path)
    source = tmp_path / "blobs" / "a.dcm"
    target = tmp_path / "blobs" / "b.dcm"
    subprocess.run([*tool, str(source), str(target)], check=True, capture_output=True)
    target.rename(source)
    packed = decode(plain.instance, tmp_path)
    assert isinstance(packed, CtFrames), packed
    for a, b in zip(plain.slices, packed.slices, strict=True):
        assert np.array_equal(a.hu, b.hu)


def _delete_one_group(d: Dataset) -> None:
    del d.PerFrameFunctionalGroupsSequence[3]


def _no_position(d: Dataset) -> None:
    del d.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence


def _projection(d: Dataset) -> None:
    kind = Dataset()
    kind.FrameType = ["DERIVED", "PRIMARY", "VOLUME", "MAX_IP"]
    d.PerFrameFunctionalGroupsSequence[1].CTImageFrameTypeSequence = [kind]


def _set(**attributes: object):
    return lambda d: [setattr(d, k, v) for k, v in attributes.items()]


_BROKEN = [
    (_delete_one_group, "bad_frames: 6 frames, but functional groups of 5."),
    (_no_position, "missing_attribute: Frame 4: ImagePositionPatient is missing."),
    (_projection, "projection: Frame 2"),
    (_set(NumberOfFrames=2_000_000_000), "bad_frames"),
    (_set(NumberOfFrames=0), "bad_frames"),
    (_set(Rows=65535, Columns=65535), "bad_frames"),
    (_set(PixelData=b"\0" * 400), "pixel_data_unreadable"),
    (_set(SharedFunctionalGroupsSequence=[]), "missing_attribute: Frame 1"),
]


@pytest.mark.parametrize(("change", "reason"), _BROKEN, ids=[r for _, r in _BROKEN])
def test_refusals(tmp_path: Path, change, reason: str) -> None:
    d = enhanced_dataset(images())
    change(d)
    assert refused(d, tmp_path).startswith(reason)


def test_fewer_compressed_frames_than_said(tmp_path: Path) -> None:
    d = enhanced_dataset(images())
    d.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.5"
    d.PixelData = encapsulate([b"\0" * 64] * 3)
    d["PixelData"].is_undefined_length = True
    assert refused(d, tmp_path).startswith("pixel_data_unreadable")
