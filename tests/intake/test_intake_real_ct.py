"""Real CT through a real listener: DCMTK sends, decoding and assembly account for everything.

Checked against the files themselves: geometry to 0.01 mm, Hounsfield units to 1.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage

from monitor.intake import assembly
from monitor.model import AssociationEnded, CtVolume, Instance, Rejected
from tests.intake.intake_helpers import Running, listening


@pytest.fixture(scope="module")
def sources(ct_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    folder = tmp_path_factory.mktemp("sources")
    philips = ct_data / "dcm_qa_ct" / "Philips"
    return {
        "body": [
            _with_class(p, folder) for p in sorted((ct_data / "totalseg_body_ct").glob("CT.*"))
        ],
        "ge": sorted((ct_data / "dcm_qa_ct" / "GE").glob("*.dcm")),
        "scout": sorted((philips / "S21570" / "S1000").glob("I*")),
        "straight": sorted((philips / "S21570" / "S2010").glob("I*")),
        "dose": sorted((philips / "S21570" / "S4010").glob("I*")),
        "tilted": sorted((philips / "S21610" / "S2010").glob("I*")),
    }


def _with_class(source: Path, folder: Path) -> Path:
    """The series was de-identified to the point of having no class."""
    d = pydicom.dcmread(source)
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = CTImageStorage
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID
    path = folder / f"{source.name}.dcm"
    d.save_as(path)
    return path


def push(
    dcmtk: dict[str, str],
    running: Running,
    files: list[Path],
    *options: str,
    tool: str = "storescu",
) -> None:
    command = [dcmtk[tool], "-aec", "ICEBALL", *options, "127.0.0.1", str(running.port)]
    subprocess.run([*command, *map(str, files)], check=True, capture_output=True, timeout=60)


def assemble(running: Running, patient: str) -> tuple[list[CtVolume], list[Rejected]]:
    """All that was received, in the order of its messages, with silence at the end."""
    state = assembly.initial(assembly.Expectation(patient, None))
    outcomes: list[CtVolume | Rejected] = []
    slices = iter(running.decoded())
    for message in running.messages:
        more: list[CtVolume | Rejected] = []
        if isinstance(message, AssociationEnded):
            state, more = assembly.association_ended(state, message)
        elif isinstance(message, Instance):
            decoded = next(slices)
            if isinstance(decoded, Rejected):
                more = [decoded]
            else:
                state, more = assembly.add_slice(state, decoded)
        outcomes += more
    state, more = assembly.finish(state)
    outcomes += more
    volumes = [o for o in outcomes if isinstance(o, CtVolume)]
    rejected = [o for o in outcomes if isinstance(o, Rejected)]
    accounted = [i for v in volumes for i in v.instances] + [r.instance for r in rejected]
    assert sorted(i.received_mono_s for i in accounted) == sorted(
        i.received_mono_s for i in running.of(Instance)
    )
    return volumes, rejected


def check(volume: CtVolume, files: list[Path]) -> None:
    """Against the files' own positions, orientations and pixels."""
    by_uid = {str(d.SOPInstanceUID): d for d in map(pydicom.dcmread, files)}
    geometry = volume.geometry
    assert len(volume.instances) == len(volume.hu)
    for k, instance in enumerate(volume.instances):
        d = by_uid[instance.sop_instance_uid]
        position, iop = (
            np.array(d.ImagePositionPatient, float),
            np.array(d.ImageOrientationPatient, float),
        )
        far = (
            position
            + iop[:3] * float(d.PixelSpacing[1]) * (d.Columns - 1)
            + iop[3:] * float(d.PixelSpacing[0]) * (d.Rows - 1)
        )
        corners = geometry.to_lps_mm(np.array([[k, 0, 0], [k, d.Rows - 1, d.Columns - 1]]))
        np.testing.assert_allclose(corners, [position, far], atol=0.01)
        expected = d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept)
        assert np.abs(volume.hu[k] - np.clip(expected, -32768, 32767)).max() <= 1.0
    assert (np.diff(geometry.slice_offsets_mm) > 0).all()


def test_body_ct_in_jpeg_2000(
    sources: dict[str, list[Path]], dcmtk: dict[str, str], tmp_path: Path
) -> None:
    with listening(tmp_path) as running:
        push(dcmtk, running, sources["body"], "-xv")
        running.instances(20)
        volumes, rejected = assemble(running, "")
    (volume,) = volumes
    assert (rejected, volume.hu.shape) == ([], (20, 512, 512))
    assert volume.completed_by == "association_end"
    assert volume.geometry.slice_spacing_mm == pytest.approx(2.0, abs=0.001)
    check(volume, sources["body"])


def test_a_tilted_head_in_two_sweeps(
    sources: dict[str, list[Path]], dcmtk: dict[str, str], tmp_path: Path
) -> None:
    with listening(tmp_path) as running:
        push(dcmtk, running, sources["ge"][::-1])
        running.instances(28)
        volumes, rejected = assemble(running, "QMNx85rKkkg")
    assert rejected == []
    assert sorted(len(v.instances) for v in volumes) == [14, 14]
    for volume in volumes:
        assert volume.geometry.tilt_deg == pytest.approx(18.5, abs=0.05)
        assert [r.code for r in volume.reasons] == ["acquisition_time_missing"]
        check(volume, sources["ge"])


def test_a_study_with_scout_and_dose_pages_and_a_second_tilted_one(
    sources: dict[str, list[Path]], dcmtk: dict[str, str], tmp_path: Path
) -> None:
    with listening(tmp_path) as running:
        push(dcmtk, running, sources["scout"] + sources["straight"] + sources["dose"])
        push(dcmtk, running, sources["tilted"], tool="dcmsend")
        running.instances(1 + 28 + len(sources["dose"]) + 54, ended=2)
        volumes, rejected = assemble(running, "PLASTIC")
    codes = sorted(r.reason.code for r in rejected)
    assert codes == ["localizer"] + ["secondary_capture"] * len(sources["dose"])
    straight, tilted = volumes
    assert (len(straight.instances), len(tilted.instances)) == (28, 54)
    assert straight.geometry.slice_spacing_mm == pytest.approx(5.0, abs=0.001)
    assert straight.geometry.tilt_deg == pytest.approx(0.0, abs=0.01)
    assert tilted.geometry.tilt_deg == pytest.approx(18.5, abs=0.05)
    check(straight, sources["straight"])
    check(tilted, sources["tilted"])


def test_one_association_per_image(
    sources: dict[str, list[Path]], dcmtk: dict[str, str], tmp_path: Path
) -> None:
    with listening(tmp_path) as running:
        for file in sources["straight"][:12]:
            push(dcmtk, running, [file])
        running.instances(12, ended=12)
        volumes, rejected = assemble(running, "PLASTIC")
    (volume,) = volumes
    assert (rejected, len(volume.instances), volume.completed_by) == ([], 12, "end")


def test_another_patient_is_in_no_volume(
    sources: dict[str, list[Path]], dcmtk: dict[str, str], tmp_path: Path
) -> None:
    with listening(tmp_path) as running:
        push(dcmtk, running, sources["ge"][:6] + sources["straight"][:6])
        running.instances(12)
        volumes, rejected = assemble(running, "PLASTIC")
    assert [len(v.instances) for v in volumes] == [6]
    assert {v.patient_id for v in volumes} == {"PLASTIC"}
    assert {r.mismatch for r in rejected} == {("PLASTIC", "QMNx85rKkkg")}
