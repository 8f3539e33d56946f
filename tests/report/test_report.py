"""A record's report: what it says is what the journal says, and what is missing is said."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monitor.cli import main
from monitor.record.account import account
from monitor.record.reading import Finding, read_journal
from monitor.report.pictures import Pictures, rgb
from monitor.view.translations import TABLES, text
from monitor.worked_out import work_out
from tests.replay.recorded import SETTLE, Room


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A baseline, a freeze with a scan of its ice, an image of another patient, and a patient's name that
    would be markup if nobody escaped it."""
    room = Room(tmp_path_factory.mktemp("reported"))
    case = room.case.read_text(encoding="utf-8")
    named = case.replace('id = "P1"', 'id = "P1"\nlabel = "<b>DOE & Co</b>"')
    room.case.write_text(named, encoding="utf-8")
    room.scan(0.0)
    room.wait(2.0)
    room.act("phase_next")
    room.wait(120.0)
    room.scan(9.0)
    room.script.append(SETTLE)
    room.slice(PatientID="P2")
    room.wait(1.0)
    room.run()
    return room.record


@pytest.fixture(scope="module")
def written(record: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    assert main(["report", str(record), "--out", str(out), "--language", "fr"]) == 0
    return out


def test_the_report_says_what_the_journal_says(record: Path, written: Path) -> None:
    page = (written / "report.html").read_text(encoding="utf-8")
    lines = read_journal(record, pytest.fail)
    measured = [x.fields for x in lines if x.kind == "assessment"][-1]
    assert measured["ice_volume_ml"] > 1.0
    assert f"{measured['ice_volume_ml']:.1f}".replace(".", ",") + " (" in page
    assert text("fr", "report.notice") in page
    assert text("fr", "report.missing.none") in page
    assert text("fr", "report.act.phase_next") in page
    assert text("fr", "report.phase.freeze", cycle="1") in page
    assert page.count("data:image/png;base64,") == 4  # over time, the legend, and two scans
    assert "http" not in page.replace("http-equiv", "")
    assert "nan" not in page.replace("data:image", "").split("base64,")[0].lower().split()


def test_what_comes_from_a_record_is_escaped(written: Path) -> None:
    page = (written / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;DOE &amp; Co&lt;/b&gt;" in page
    assert "<b>DOE" not in page


def test_the_pdf_is_one(written: Path) -> None:
    pdf = (written / "report.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert b"%%EOF" in pdf[-32:]
    if shutil.which("pdftotext"):
        done = subprocess.run(
            ["pdftotext", str(written / "report.pdf"), "-"], capture_output=True, check=True
        )
        assert "recherche" in done.stdout.decode("utf-8")


def test_a_damaged_record_gives_a_report_that_says_so(record: Path, tmp_path: Path) -> None:
    """The end torn off, a value that is no number, the case and the images gone."""
    broken = tmp_path / "record"
    broken.mkdir()
    lines = (record / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    changed = []
    for line in lines[:-1]:
        fields = json.loads(line)
        if fields["kind"] == "assessment":
            fields["min_margin_mm"] = "much"
        changed.append(json.dumps(fields))
    body = "\n".join(changed) + '\n{"seq": 1'
    (broken / "journal.jsonl").write_text(body, encoding="utf-8")
    out = tmp_path / "out"
    assert main(["report", str(broken), "--out", str(out), "--language", "en"]) == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "torn off" in page
    assert text("en", "report.running") in page
    assert "could not be worked out again" in page
    assert text("en", "report.picture.none") in page
    assert "much" not in page
    assert TABLES["en"]["report.unknown"] in page


def test_the_account_holds_alarms_until_they_are_over(record: Path) -> None:
    found: list[Finding] = []
    a = account(read_journal(record, found.append), found.append)
    assert found == []
    first = a.alarms[0]
    assert first.code == "no_baseline"
    assert first.cleared_utc_s is not None
    assert first.raised_utc_s < first.cleared_utc_s
    assert [s.volume_id for s in a.scans] == ["v001", "v002"]
    assert len(a.rejected) == 1


def test_a_picture_is_of_its_moment_on_a_machine_that_is_slow(record: Path, tmp_path: Path) -> None:
    """It would say that nothing is heard of the monitor, and how old the image has become meanwhile."""
    from PyQt5.QtCore import QTimer

    lines = read_journal(record, pytest.fail)
    shown = work_out(record, lines, tmp_path).scans["v002"].shown
    pictures = Pictures("en")
    quick = rgb(pictures.screen(replace(shown, replay=None)))
    QTimer.singleShot(0, lambda: time.sleep(2.5))
    assert np.array_equal(rgb(pictures.screen(replace(shown, replay=None))), quick)
    pictures.close()


def test_a_folder_without_a_journal_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "journal.jsonl" in capsys.readouterr().err
