"""A record without its patient: nothing of what was planted in it is left, and it replays as before."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset

from monitor.cli import main
from monitor.deidentified.identity import Identity
from monitor.deidentified.images import KEPT
from monitor.deidentified.lines import Lines
from monitor.deidentified.searching import search
from monitor.deidentified.substitutes import Substitutes
from tests.replay.recorded import CASE, SETTLE, Room, bowel

MARK, NAME, PATIENT = "quokka", "Zephyrine^Wombatson", "QUOKKA-4711"
FORBIDDEN = ("quokka", "zephyrine", "wombatson")
REAL_DATES = ("19511231", "20270115", "2027-01-15", "2027.01.15")
_TEXT = {"LO", "SH", "ST", "LT", "UT", "UC", "UR", "AE", "CS", "PN"}
# An image is none without them, or another.
_NEEDED = {"ImageType", "Modality", "PhotometricInterpretation", "SpecificCharacterSet", "PatientID",
           "RescaleType", "BurnedInAnnotation", "TimezoneOffsetFromUTC"}  # fmt: skip


def planted() -> Dataset:
    """Every element of text of the dictionary, each with words that must not come out."""
    d = Dataset()
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        if vr not in _TEXT or retired or keyword in _NEEDED or tag < 0x00080000:
            continue
        if vr == "PN":
            d.add_new(tag, vr, NAME)
        elif keyword in KEPT:  # may tell what made the image, but not whose it is
            d.add_new(tag, vr, "WOMBATSON")
        else:
            d.add_new(tag, vr, MARK.upper() if vr in ("CS", "AE") else f"{MARK} {tag:x}"[:16])
    return d


def dressed(d: Any) -> None:
    """An image of Zephyrine Wombatson's, with all that a scanner, a RIS and an operator may have added."""
    d.PatientID, d.ConvolutionKernel = PATIENT, "WOMBATSON"
    if float(d.ImagePositionPatient[2]) < -40:  # the first of a scan, which is enough
        d.update(planted())
    d.PatientName, d.PatientBirthDate, d.StudyDate = NAME, "19511231", "20270115"
    d.AccessionNumber, d.InstitutionName = "QUOKKA7", "Hôpital Quokka"
    d.SpecificCharacterSet = "ISO_IR 100"
    block = d.private_block(0x0011, "QUOKKA CORP", create=True)
    block.add_new(1, "LO", "quokka private")
    block.add_new(2, "UN", b"quokka bytes")
    block.add_new(3, "DA", "19511231")
    inner = Dataset()
    inner.ScheduledProcedureStepDescription = "quokka step"
    inner.private_block(0x0013, "QUOKKA CORP", create=True).add_new(1, "ST", "quokka deep")
    item = Dataset()
    item.ReferringPhysicianName, item.ScheduledProtocolCodeSequence = NAME, [inner]
    d.RequestAttributesSequence = [item]
    block.add_new(4, "SQ", [item])
    d.add_new(0x60003000, "OW", b"quokka overlay" + b"\0" * 2)


CASE_OF_HERS = CASE.replace(
    'id = "P1"', f'id = "{PATIENT}"\nlabel = "Zephyrine Wombatson"  # quokka'
).replace('name = "bowel"', 'name = "wombatson bowel"').replace("bowel.mhd", "zephyrine.mhd")  # fmt: skip


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = Room(tmp_path_factory.mktemp("quokka"))
    room.dress = dressed
    bowel(room.case.parent.parent / "plan" / "zephyrine.mhd")
    room.case.write_text(CASE_OF_HERS, encoding="utf-8")
    room.scan(0.0)
    room.wait(2.0)
    room.act("phase_next")
    room.wait(120.0)
    room.scan(9.0)
    room.script.append(SETTLE)
    room.duplicate()
    room.slice(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    room.act("accept_ice", {"volume_id": "v001"})
    room.wait(1.0)
    room.run()
    (room.record / "screens").mkdir(exist_ok=True)
    (room.record / "screens" / "quokka.png").write_bytes(b"quokka")
    return room.record


@pytest.fixture(scope="module")
def out(record: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given") / "out"
    assert main(["export", str(record), "--deidentified", str(folder)]) == 0
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """By name, unpacked, in lower case; UTF-16 would show with its zeros taken out."""
    found = {}
    for path in (p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        found[str(path.relative_to(folder))] = data.lower()
    return found


def lines(record: Path) -> list[dict[str, Any]]:
    text = (record / "journal.jsonl").read_text(encoding="utf-8")
    return [json.loads(x) for x in text.splitlines()]


@pytest.mark.requirement("REQ-DEIDENTIFIED")
def test_nothing_that_was_planted_comes_out(record: Path, out: Path) -> None:
    before = b"".join(contents(record).values())
    assert all(word.encode() in before for word in FORBIDDEN)
    for name, data in contents(out).items():
        for word in FORBIDDEN:
            assert word not in name.lower()
            for encoding in ("utf-8", "utf-16-le"):
                assert word.encode(encoding) not in data, (name, word)
    everything = b"\n".join(contents(out).values())
    real = {str(pydicom.dcmread(p).SOPInstanceUID) for p in (record / "blobs").glob("*.dcm")}
    assert len(real) == 56
    for said in (*real, *REAL_DATES):
        assert said.encode() not in everything


@pytest.mark.requirement("REQ-DEIDENTIFIED")
def test_only_listed_elements_are_in_the_images(out: Path) -> None:
    made = {
        "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber",
        "ReferringPhysicianName", "DeidentificationMethod", "PatientIdentityRemoved",
    }  # fmt: skip
    images = [pydicom.dcmread(p) for p in (out / "record" / "blobs").glob("*.dcm")]
    for d in images:
        assert {e.keyword for e in d} <= KEPT | made
        assert not any(e.tag.is_private for e in d)
    assert len({(d.PatientID, str(d.PatientName)) for d in images}) == 1
    case = (out / "record" / "cases" / "001" / "case.toml").read_text(encoding="utf-8")
    assert f'id = "{images[0].PatientID}"' in case


def test_dates_are_moved_by_the_same_days_everywhere(record: Path, out: Path) -> None:
    old, new = lines(record), lines(out / "record")
    a, b = (datetime.fromisoformat(x[0]["at"]) for x in (old, new))
    days = (a - b).days
    assert days >= 62
    assert (a - b).seconds == 0

    def received(found: list[dict[str, Any]]) -> list[float]:
        return [x["received_utc_s"] for x in found if x["kind"] == "instance_received"]

    apart = {x - y for x, y in zip(received(old), received(new), strict=False)}
    assert apart == {days * 86400.0}

    def acquired(folder: Path) -> list[datetime]:
        found = (pydicom.dcmread(p) for p in (folder / "blobs").glob("*.dcm"))
        return sorted(datetime.strptime(d.AcquisitionDate + d.AcquisitionTime, "%Y%m%d%H%M%S.%f")
                      for d in found)  # fmt: skip

    moved = acquired(out / "record")
    assert [t.timestamp() for t in moved] == pytest.approx(
        [t.timestamp() - days * 86400.0 for t in acquired(record)], abs=3600.0
    )
    assert {(x - y).days for x, y in zip(acquired(record), moved, strict=True)} == {days}


@pytest.mark.requirement("REQ-DEIDENTIFIED")
def test_it_replays_as_the_original_does(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(out / "record")]) == 0
    assert "largest difference: none" in capsys.readouterr().out


def test_results_are_the_same_to_the_last_digit(record: Path, out: Path, tmp_path: Path) -> None:
    def assessed(folder: Path) -> list[Any]:
        return [(x["min_margin_mm"], x["ice_volume_ml"], x["lesion_covered"], x["status"])
                for x in lines(folder) if x["kind"] == "assessment"]  # fmt: skip

    assert assessed(record) == assessed(out / "record")
    assert main(["export", str(record), "--dicom", str(tmp_path)]) == 0
    for name in ("v002_ice_seg.dcm", "v002_predicted_seg.dcm"):
        old, new = (highdicom.seg.segread(f / name) for f in (tmp_path, out / "dicom"))
        assert np.array_equal(old.pixel_array, new.pixel_array)
        assert old.PatientID == PATIENT != new.PatientID


def test_the_manifest_says_what_is_not_there(out: Path) -> None:
    said = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert said["left_out"]["screens/"] == 1
    assert said["left_out"]["images that were no CT slices, or another patient's"] == 1
    assert "secondary captures of the screen" in said["outputs_not_made"]
    assert {"part of a name", "PatientID", "AccessionNumber", "InstitutionName"} <= set(
        said["searched_for"]
    )


# Without the time, which would give each worker of the suite another test.
MASK = gzip.compress(b"\0" * 108 + b"\0\0\xb0\x43wombatson" + b"\0" * 300, mtime=0)


@pytest.mark.requirement("REQ-DEIDENTIFIED")
@pytest.mark.parametrize(
    ("name", "hidden", "kind"),
    [
        ("a.txt", b"of Mrs WOMBATSON", "part of a name"),
        ("b.nii.gz", MASK, "part of a name"),
        ("wombatson.bin", b"", "part of a name"),
        ("c.bin", "Wombatson".encode("utf-16-le"), "part of a name"),
        ("d.json", b'{"id": "quokka-4711"}', "PatientID"),
        ("e.bin", b"\x08\0 \0DA\x08\0" b"20270115", "date"),
        ("f.csv", b"15/01/2027;1", "date"),
        ("g.json", b'{"at_utc_s": 1800000100.5}', "date (seconds since 1970)"),
        ("h.bin", b"1.2.826.0.1.77\0", "UID"),
        ("i.txt", b"Dr Liu said", "part of a name"),
    ],
)  # fmt: skip
def test_the_search_finds_what_was_left(
    tmp_path: Path, name: str, hidden: bytes, kind: str
) -> None:
    identity = Identity()
    identity.add_name(NAME)
    identity.add_name("Liu")
    identity.add_identifier(PATIENT, "PatientID")
    identity.add_moment(1_800_000_000.0)
    identity.uids.add("1.2.826.0.1.77")
    (tmp_path / "innocent.txt").write_text("fallius 1.2.826.0.1.777 2027-01-25 1700000000")
    assert search(tmp_path, identity) == []
    (tmp_path / name).write_bytes(hidden)
    assert [(f.path, f.kind) for f in search(tmp_path, identity)] == [(name, kind)]


def test_the_clock_of_a_line_is_moved_and_the_machine_is_not_named() -> None:
    to = Substitutes("secret", 100)
    made = Lines(to, {}, {})
    clock = {"epoch_utc_s": 1_800_000_000.25, "anchor_wall_s": 1_800_000_001.0, "anchor_mono_s": 5.0,
             "speed": 1.0, "boot_id": "0b7f-wombatson"}  # fmt: skip
    line = {"seq": 1, "at": "2027-01-15T08:00:00.000Z", "mono_s": 5.0, "kind": "procedure_resumed",
            "clock": clock, "engine": "cpu", "note": "by Wombatson"}  # fmt: skip
    found = made.line(line)
    assert found["at"] == "2026-10-07T08:00:00.000Z"
    assert found["clock"] == {**clock, "epoch_utc_s": 1_791_360_000.25,
                              "anchor_wall_s": 1_791_360_001.0, "boot_id": ""}  # fmt: skip
    assert (found["engine"], found["note"]) == ("cpu", "")
    assert made.left_out == {"procedure_resumed.boot_id": 1, "procedure_resumed.note": 1}


def small(tmp_path: Path, **changed: Any) -> Path:
    """A record of a few images, quickly made."""
    room = Room(tmp_path / "room")
    room.dress = lambda d: [setattr(d, k, v) for k, v in changed.items()]  # type: ignore[assignment, return-value]
    room.scan(0.0, slices=6)
    room.script.append(SETTLE)
    room.run()
    return room.record


@pytest.mark.requirement("REQ-DEIDENTIFIED")
def test_burned_in_annotations_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, out = small(tmp_path, BurnedInAnnotation="YES"), tmp_path / "out"
    assert main(["export", str(record), "--deidentified", str(out)]) == 2
    assert "BurnedInAnnotation YES" in capsys.readouterr().err
    assert not out.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["room"]


@pytest.mark.requirement("REQ-DEIDENTIFIED")
def test_what_is_found_at_the_end_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody whose name is a word of the manifest: not to be told from what must not be there."""
    record, out = small(tmp_path, PatientName="Tattoo"), tmp_path / "out"
    assert main(["export", str(record), "--deidentified", str(out)]) == 2
    said = capsys.readouterr().err
    assert "manifest.json: part of a name" in said
    assert "attoo" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["room"]


@pytest.mark.parametrize(
    "command", [["export", "--deidentified", "out"], ["report", "--out", "out"]]
)
def test_a_request_to_end_leaves_nothing_behind(
    record: Path, tmp_path: Path, command: list[str]
) -> None:
    """Half of a record's patient, in a hidden folder or among the temporary ones."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "monitor.cli", command[0], str(record), *command[1:]],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    until = time.monotonic() + 60.0
    while not (list(tmp_path.glob(".part-out/record/*")) or list(scratch.iterdir())):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    process.terminate()
    assert process.wait(60.0) == 143
    assert [p.name for p in tmp_path.iterdir()] == ["tmp"]
    assert list(scratch.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(
    record: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(record), "--deidentified", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (out / "manifest.json").exists()
