"""From the PACS at the console: a real Orthanc, the real ``iceball fetch``, a window that goes on."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from console_desk import press
from pydicom.uid import generate_uid
from PyQt5.QtCore import Qt
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import QApplication

from monitor.commands.windows import console_fetch
from monitor.config import ShapeFile
from monitor.record.spool import Spool
from monitor.sending import Receiver, send_all
from monitor.snapshot import Snapshot
from monitor.view.translations import TABLES
from tests.intake.test_structures import rtstruct
from tests.wire.test_sending import free_port, orthanc

_ROOT = Path(__file__).parents[2]


def until(fine: Callable[[], bool], limit_s: float = 60.0) -> float:
    """The longest that the window's own loop took for a turn, seconds."""
    longest_s, end = 0.0, time.monotonic() + limit_s
    while not fine():
        assert time.monotonic() < end
        began = time.monotonic()
        QApplication.processEvents()
        longest_s = max(longest_s, time.monotonic() - began)
        time.sleep(0.005)
    return longest_s


def workstation(folder: Path, pacs_port: int, own: int, timeout_s: float = 30.0) -> tuple[str, ...]:
    path = folder / "workstation.toml"
    path.write_text(
        f'[fetch]\nfrom = "PACS@127.0.0.1:{pacs_port}"\nport = {own}\ntimeout_s = {timeout_s}\n',
        encoding="utf-8",
    )
    return console_fetch(path)


def drawing(folder: Path) -> Path:
    path = rtstruct(folder / "rtstruct.dcm", 2.0)
    d = pydicom.dcmread(path)
    d.StudyInstanceUID, d.SeriesInstanceUID = generate_uid(), generate_uid()
    d.SeriesDescription, d.SeriesDate = "Plan of Tuesday", "20260303"
    d.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.requirement("REQ-FETCH")
@pytest.mark.parametrize("language", ["en", "fr"])
def test_a_lesion_comes_from_the_pacs_while_the_window_goes_on(
    desk: Any, first: Snapshot, tmp_path: Path, language: str
) -> None:
    dicom, http, own = free_port(), free_port(), free_port()
    known = {"ICEBALL": ["ICEBALL", "127.0.0.1", own]}
    (tmp_path / "pacs").mkdir()
    d = desk(first, language, fetch=workstation(tmp_path, dicom, own))
    w = d.window
    press(w.steps["lesion"])
    press(w.pages["lesion"].from_pacs)
    assert w.missing.text() == w.words.say("console.pacs.whose")
    assert not w.pacs.busy
    press(w.steps["baseline"])
    press(w.pages["baseline"].take)
    assert w.editor.draft.patient_id == "P1"
    press(w.steps["lesion"])
    with orthanc(tmp_path / "pacs", dicom, http, DicomModalities=known):
        spool = Spool(tmp_path / "spool")
        spool.add(drawing(tmp_path))
        assert send_all(spool, Receiver("PACS", "127.0.0.1", dicom), lambda *_: None, 20.0)
        press(w.pages["lesion"].from_pacs)
        assert w.pages["lesion"].from_pacs.text() == w.words.say("console.pacs.stop")
        assert not w.pages["lesion"].from_file.isEnabled()
        longest_s = until(lambda: not w.pacs.busy)
        assert [w.pages["lesion"].parts.item(0).text()] == ["2026-03-03  RTSTRUCT  Plan of Tuesday"]
        press(w.pages["lesion"].take_part)
        longest_s = max(longest_s, until(lambda: not w.pacs.busy))
    assert longest_s < 1.0, "the window stood still"
    d.finish_work()
    offered = w.editor.offered
    assert [p.name for p in offered.parts] == ["GTV 1", "Ring"]
    press(w.pages["lesion"].take_part)
    d.finish_work()
    lesion = w.editor.draft.lesion
    assert isinstance(lesion, ShapeFile)
    assert lesion.roi == "GTV 1"
    assert lesion.path.parent == tmp_path / "plans" / "pacs"


def test_a_pacs_that_is_away_and_a_patient_it_does_not_know_are_said(
    desk: Any, first: Snapshot, tmp_path: Path
) -> None:
    dicom, http, own = free_port(), free_port(), free_port()
    (tmp_path / "pacs").mkdir()
    d = desk(first, "fr", fetch=workstation(tmp_path, dicom, own))
    w = d.window
    press(w.pages["baseline"].take)
    press(w.steps["structures"])
    press(w.pages["structures"].from_pacs)
    until(lambda: not w.pacs.busy)
    about = f"PACS@127.0.0.1:{dicom}"
    assert w.missing.text() == w.words.say("console.pacs.no_connection", about=about)
    with orthanc(tmp_path / "pacs", dicom, http, DicomAlwaysAllowFind=True):
        press(w.pages["structures"].from_pacs)
        until(lambda: not w.pacs.busy)
    assert w.missing.text() == w.words.say("console.pacs.no_patient")
    assert w.editor.draft.structures == ()


@pytest.mark.requirement("REQ-FETCH")
def test_what_comes_after_the_patient_has_changed_is_not_used(
    desk: Any, first: Snapshot, tmp_path: Path
) -> None:
    d = desk(first, fetch=("nothing",))
    w = d.window
    press(w.pages["baseline"].take)
    w.pacs.patient_id = "P1"
    w.editor.edit("baseline", patient_id="P2")
    w.pacs.fetched.emit("lesion", str(drawing(tmp_path)))
    d.finish_work()
    assert w.editor.draft.lesion is None
    assert w.missing.text() == w.words.say("console.pacs.other_patient")


def test_it_is_given_up_at_the_second_press(desk: Any, first: Snapshot, tmp_path: Path) -> None:
    """The PACS takes the connection and says nothing."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        d = desk(first, fetch=workstation(tmp_path, port, free_port(), 300.0))
        w = d.window
        press(w.pages["baseline"].take)
        press(w.steps["lesion"])
        press(w.pages["lesion"].from_pacs)
        threading.Thread(target=silent.accept, daemon=True).start()
        until(lambda: w.pages["lesion"].from_pacs.isEnabled())
        time.sleep(0.5)
        QTest.mouseClick(w.pages["lesion"].from_pacs, Qt.LeftButton)
        began = time.monotonic()
        until(lambda: not w.pacs.busy)
        assert time.monotonic() - began < 7.0, "it had to be killed"
    assert w.missing.text() == w.words.say("console.pacs.cancelled")
    assert w.editor.draft.lesion is None


def test_without_a_pacs_the_choice_is_not_there(desk: Any, first: Snapshot) -> None:
    w = desk(first).window
    for step in ("lesion", "structures"):
        press(w.steps[step])
        assert not w.pages[step].from_pacs.isVisible()
        assert w.pages[step].from_file.isVisible()


@pytest.mark.requirement("REQ-LANGUAGE")
def test_every_error_of_fetching_has_a_sentence() -> None:
    codes: set[str] = set()
    for path in (
        *(_ROOT / "monitor" / "fetching").glob("*.py"),
        _ROOT / "monitor/commands/fetching.py",
    ):
        text = path.read_text(encoding="utf-8")
        codes |= set(re.findall(r'FetchError\(\s*"([a-z_]+)"', text))
        codes |= set(re.findall(r'code or "([a-z_]+)"', text))
        codes |= set(re.findall(r'"([a-z_]+)" if self\._given_up', text))
        codes |= set(re.findall(r'else "(timed_out)"', text))
    assert len(codes) >= 15
    assert {f"console.pacs.{code}" for code in codes} <= TABLES["fr"].keys()


def test_nothing_is_clipped_with_it(desk: Any, full: Snapshot) -> None:
    from test_console_words import check_fits, shown

    for language in ("en", "fr"):
        d = desk(replace(full), language, fetch=("nothing",))
        for step in ("lesion", "structures"):
            press(d.window.steps[step])
            QApplication.processEvents()
            for widget in shown(d.window):
                check_fits(widget, step)
            page = d.window.pages[step]
            assert page.width() <= d.window.stack.parentWidget().width()
            letters = [
                x.text()[x.text().find("&") + 1].lower() for x in shown(d.window) if "&" in x.text()
            ]
            assert len(letters) == len(set(letters)), letters
