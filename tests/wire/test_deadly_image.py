"""An image that ends the process that decodes it, as a fault in a codec's C code would."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.intake.intake_helpers import ct_dataset
from tests.wire.live import LiveProcess, sphere_case, unaccounted

pytestmark = [pytest.mark.timeout(300), pytest.mark.requirement("REQ-RESUME")]

# No public file is known that does this to the codecs that are pinned: it is done where they are called, in
# every process of Python's.
_CODEC = """
import ctypes, time
from monitor.intake import decode
right = decode.hounsfield
def hounsfield(dataset):
    if dataset.InstanceNumber == 12:
        HOW
    return right(dataset)
decode.hounsfield = hounsfield
"""
_CRASH, _NO_END = "ctypes.string_at(0)", "time.sleep(1e6)"
_SOONER = """
from monitor import runtime
from monitor.intake import trial
runtime.DECODES_S = trial.DECODES_S = 3.0
"""


LESION = (12.0, 5.0, 14.0)


def pushed(dcmtk: dict[str, str], port: int, folder: Path, series: str) -> None:
    folder.mkdir(exist_ok=True)
    for k in range(12):
        d = ct_dataset(k, series=series, rows=64, columns=64)
        d.PatientID, d.InstanceNumber = "P1", k + 1
        d.save_as(folder / f"{k:02d}.dcm", enforce_file_format=True)
    command = [dcmtk["storescu"], "-aec", "ICEBALL", "127.0.0.1", str(port)]
    files = [str(p) for p in sorted(folder.iterdir())]
    subprocess.run([*command, *files], check=False, capture_output=True)


def died(lines: list[dict[str, Any]]) -> list[str]:
    return [x["sha256"] for x in lines if x.get("reason") == "decoder_died"]


@pytest.fixture
def codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def made(text: str) -> None:
        (tmp_path / "sitecustomize.py").write_text(text, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return made


def test_it_ends_the_core_once_and_is_in_quarantine_from_then_on(
    dcmtk: dict[str, str], tmp_path: Path, codec: Callable[[str], None]
) -> None:
    codec(_CODEC.replace("HOW", _CRASH))
    case, record = sphere_case(tmp_path, "P1", LESION), tmp_path / "record"
    with LiveProcess(case, record) as room:
        pushed(dcmtk, room.port, tmp_path / "one", "1.2.3.1")
        (port,) = room.wait(
            lambda lines: [x["port"] for x in lines if x["kind"] == "listening"][1:]
        )
        room.wait(lambda lines: len(died(lines)) == 1)
        room.wait(lambda lines: [x for x in lines if x["kind"] == "baseline_set"])
        pushed(dcmtk, port, tmp_path / "two", "1.2.3.2")  # its like, and then itself, once more
        room.wait(lambda lines: len(died(lines)) == 2)
        pushed(dcmtk, port, tmp_path / "one", "1.2.3.1")
        room.wait(lambda lines: len([x for x in lines if x["kind"] == "instance_received"]) == 36)
        room.wait(lambda lines: unaccounted(lines) <= 0)
        room.wait(lambda lines: len([x for x in lines if x["kind"] == "assessment"]) >= 2)
    lines = room.journal()
    assert len([x for x in lines if x["kind"] == "procedure_resumed"]) == 1
    assert f"was killed (signal {int(signal.SIGSEGV)})" in room.output
    volumes = [x for x in lines if x["kind"] == "volume_completed"]
    assert [len(x["sop_instance_uids"]) for x in volumes] == [11, 11]
    for sha256 in died(lines):
        assert (record / "quarantine" / f"{sha256}.dcm").exists()
    replay = [sys.executable, "-m", "monitor.cli", "replay", str(record)]
    assert subprocess.run(replay, check=False).returncode == 0  # which decodes it no more


@pytest.mark.long
def test_one_whose_decoding_has_no_end_does_not_hold_the_core(
    dcmtk: dict[str, str], tmp_path: Path, codec: Callable[[str], None]
) -> None:
    codec(_CODEC.replace("HOW", _NO_END) + _SOONER)
    with LiveProcess(sphere_case(tmp_path, "P1", LESION), tmp_path / "record") as room:
        pushed(dcmtk, room.port, tmp_path / "one", "1.2.3.1")
        room.wait(lambda lines: len(died(lines)) == 1)
        room.wait(lambda lines: [x for x in lines if x["kind"] == "baseline_set"])
    assert len([x for x in room.journal() if x["kind"] == "procedure_resumed"]) == 1
    assert "decoding_has_no_end" in (tmp_path / "record/logs/core.jsonl").read_text("utf-8")
    assert room.process.returncode == 0


@pytest.mark.long
def test_a_record_that_was_cut_off_at_it_can_be_read(
    dcmtk: dict[str, str], tmp_path: Path, codec: Callable[[str], None]
) -> None:
    codec(_CODEC.replace("HOW", _CRASH))
    record = tmp_path / "record"
    with LiveProcess(sphere_case(tmp_path, "P1", LESION), record, "--unsupervised") as room:
        pushed(dcmtk, room.port, tmp_path / "one", "1.2.3.1")
        assert room.process.wait(60) == -signal.SIGSEGV
    assert not died(room.journal())
    for reading in (["replay"], ["report"], ["export", "--deidentified", str(tmp_path / "out")]):
        command = [sys.executable, "-m", "monitor.cli", reading[0], str(record), *reading[1:]]
        ran = subprocess.run(command, check=False, capture_output=True, text=True)
        assert ran.returncode in (0, 1), ran.stderr
        assert "Traceback" not in ran.stderr
    assert (record / "report" / "report.html").exists()
    assert (tmp_path / "out" / "record" / "journal.jsonl").exists()
