"""The console: from nothing to a plan that is sent, by mouse and by keys; every edit taken back."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from console_desk import alt, drag, plan_by_mouse, press
from PyQt5.QtCore import Qt
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import QApplication

from monitor.case import load_case
from monitor.config import ShapeFile
from monitor.opening import open_case
from monitor.planning.draft import missing
from monitor.planning.drawn import DrawnBody
from monitor.snapshot import Snapshot


def test_from_nothing_to_a_plan_by_mouse(desk: Any, first: Snapshot, tmp_path: Path) -> None:
    d = desk(first)
    w = d.window
    assert missing(w.editor.draft)[0] == "baseline"
    assert "baseline" in w.missing.text()
    plan_by_mouse(d)
    assert not missing(w.editor.draft)
    assert w.editor.draft.needles[0].on_metal
    press(w.pages["protocol"].send)
    d.finish_work()
    assert d.acts[0] == {"act": "pick_baseline", "params": {"volume_id": "v003"}}
    assert d.acts[-1]["act"] == "open_case"
    config, procedure = open_case(Path(d.acts[-1]["params"]["path"]))
    assert config.patient_id == "P1"
    assert [s.name for s in procedure.structures] == ["lesion", "colon"]
    assert w.missing.text() == w.words.say("console.protocol.sent")
    assert not w.pages["protocol"].send.isEnabled(), "what the monitor has is not sent twice"


def test_from_nothing_to_a_plan_by_keyboard_alone(desk: Any, first: Snapshot) -> None:
    d = desk(first)
    w = d.window

    def line(dx: int, dy: int) -> None:
        """From here by so many mm, and back to the middle."""
        pane = w.planes.main
        QTest.keyClick(pane, Qt.Key_Space)
        for _ in range(abs(dx)):
            QTest.keyClick(pane, Qt.Key_Right if dx > 0 else Qt.Key_Left)
        for _ in range(abs(dy)):
            QTest.keyClick(pane, Qt.Key_Down if dy > 0 else Qt.Key_Up)
        QTest.keyClick(pane, Qt.Key_Space)

    alt(d, "B")
    alt(d, "2")
    w.shown.go_to((8.0, -80.0, 12.0))
    alt(d, "D")
    line(24, 0)
    w.shown.go_to((20.0, -90.0, 12.0))
    line(0, 20)
    assert isinstance(w.editor.draft.lesion, DrawnBody)
    alt(d, "3")
    alt(d, "O")
    assert w.editor.draft.no_structures
    alt(d, "4")
    alt(d, "T")
    w.shown.go_to((16.0, -68.0, 12.0))
    line(-8, -54)
    d.finish_work()
    assert len(w.editor.draft.needles) == 1
    alt(d, "5")
    organ = w.pages["protocol"].organ
    organ.setFocus()
    QTest.keyClick(organ, Qt.Key_Down)
    assert w.editor.draft.organ
    alt(d, "S")
    d.finish_work()
    assert d.acts[-1]["act"] == "open_case"
    assert load_case(Path(d.acts[-1]["params"]["path"])).patient_id == "P1"


def test_a_plan_that_was_refused_can_be_sent_again(desk: Any, first: Snapshot) -> None:
    d = desk(first)
    plan_by_mouse(d)
    send = d.window.pages["protocol"].send
    press(send)
    d.finish_work()
    assert not send.isEnabled()
    d.window.show_snapshot(replace(first, refused="open_case: another patient"))
    assert "another patient" in d.window.missing.text()
    press(send)
    d.finish_work()
    first_path, second_path = (a["params"]["path"] for a in d.acts if a["act"] == "open_case")
    assert first_path != second_path


def test_every_edit_is_undone_and_redone(desk: Any, first: Snapshot) -> None:
    d = desk(first)
    plan_by_mouse(d)
    made = d.window.editor.draft
    while d.window.editor.history.undoes is not None:
        QTest.keyClick(d.window, Qt.Key_Z, Qt.ControlModifier)
    assert missing(d.window.editor.draft) == (
        "baseline",
        "lesion",
        "structures",
        "needles",
        "organ",
    )
    while d.window.editor.history.redoes is not None:
        QTest.keyClick(d.window, Qt.Key_Y, Qt.ControlModifier)
    assert d.window.editor.draft == made


@pytest.mark.usefixtures("only_our_garbage")
def test_growing_does_not_hold_up_the_window(desk: Any, first: Snapshot) -> None:
    """No turn of the event loop works for more than 50 ms; others' work is not counted."""
    d = desk(first)
    w = d.window
    plan_by_mouse(d)
    press(w.steps["lesion"])
    w.repaint()
    press(w.pages["lesion"].to_boundary)
    turns_s = []
    while w.editor.worker.busy:
        began_s = time.thread_time()
        QApplication.processEvents()
        turns_s.append(time.thread_time() - began_s)
        time.sleep(0.002)
    assert len(turns_s) > 5
    assert max(turns_s) < 0.05
    assert "%" in w.missing.text() or "ellipsoid" in w.missing.text()


def mask(path: Path, *labels: int) -> Path:
    """A box for each label."""
    array = np.zeros((10, 10, 12), np.uint8)
    for i, label in enumerate(labels):
        array[3:7, 3:7, 4 * i + 1 : 4 * i + 3] = label
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))
    return path


def test_a_file_that_holds_one_is_taken_without_a_question(
    desk: Any, first: Snapshot, tmp_path: Path
) -> None:
    d = desk(first)
    path = mask(tmp_path / "bowel.nii.gz", 3)
    d.window.editor.take_file("lesion", path)
    d.finish_work()
    assert d.window.editor.draft.lesion == ShapeFile(path, None)
    assert not d.window.pages["lesion"].parts.isVisible()
    d.window.editor.take_file("structure", path)
    d.finish_work()
    assert d.window.editor.draft.structures[0].shape == ShapeFile(path, None)


@pytest.mark.parametrize("how", ["mouse", "keys"])
@pytest.mark.parametrize("step", ["lesion", "structures"])
def test_of_several_in_a_file_one_is_chosen(
    desk: Any, first: Snapshot, tmp_path: Path, how: str, step: str
) -> None:
    d = desk(first)
    page, path = d.window.pages[step], mask(tmp_path / "three.nrrd", 2, 5, 6)
    press(d.window.steps[step])
    d.window.editor.take_file(page.target, path)
    d.finish_work()
    assert d.window.editor.draft.lesion is None
    assert "three.nrrd" in page.which.text()
    assert [page.parts.item(i).text() for i in range(3)] == ["Number 2", "Number 5", "Number 6"]
    if how == "keys":
        assert page.parts.hasFocus()
        QTest.keyClick(page.parts, Qt.Key_Down)
        QTest.keyClick(page.parts, Qt.Key_Return)
    else:
        row = page.parts.visualItemRect(page.parts.item(1)).center()
        QTest.mouseClick(page.parts.viewport(), Qt.LeftButton, Qt.NoModifier, row)
        press(page.take_part)
    d.finish_work()
    draft = d.window.editor.draft
    shape = draft.lesion if step == "lesion" else draft.structures[0].shape
    assert shape == ShapeFile(path, "5")
    assert not page.parts.isVisible()


def test_a_file_that_cannot_be_read_is_said_at_once(
    desk: Any, first: Snapshot, tmp_path: Path
) -> None:
    d = desk(first, "fr")
    (tmp_path / "bad.nii").write_bytes(b"no image")
    d.window.editor.take_file("lesion", tmp_path / "bad.nii")
    d.finish_work()
    assert d.window.editor.draft.lesion is None
    assert "bad.nii : ne peut être lu" in d.window.missing.text()


def test_no_lesion_of_a_slip_of_the_hand(desk: Any, first: Snapshot) -> None:
    d = desk(first)
    press(d.window.steps["lesion"])
    d.window.shown.go_to((20.0, -80.0, 12.0))
    press(d.window.pages["lesion"].strokes)
    drag(d, (20.0, -80.0), (21.0, -80.0))
    drag(d, (20.0, -80.0), (20.0, -81.0))
    assert d.window.editor.draft.lesion is None
