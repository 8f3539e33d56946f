"""The console window, offscreen: the steps in order, both languages, nothing clipped, nothing unsafe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PyQt5.QtCore import QPoint, Qt
from PyQt5.QtGui import QFontMetrics
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import QApplication, QCheckBox, QComboBox, QLabel, QPushButton

from monitor.case import load_case
from monitor.config import ListenerConfig, ShapeFile
from monitor.model import Alarm, Phase, PhaseKind, Priority
from monitor.opening import open_case
from monitor.planning.draft import missing
from monitor.planning.drawn import DrawnBody
from monitor.snapshot import ReceivedVolume, Snapshot
from monitor.view.console.window import STEPS, ConsoleWindow

LISTENER = ListenerConfig("ICEBALL", "127.0.0.1", 0, ())
SIZES = ((1280, 800), (1920, 1080))
ALARMS = (
    Alarm("structure_near", Priority.HIGH, 0.0, {"name": "colon", "distance_mm": "3.4",
          "at_least_mm": "2.1", "limit_mm": "5.0"}, about="colon"),
    Alarm("image_stale", Priority.MEDIUM, 0.0, {"age_s": "300"}),
    Alarm("phase_ending", Priority.LOW, 0.0, {"seconds": "30"}),
)  # fmt: skip


# A window that Python collects while Qt still delivers to it takes the process with it.
_KEPT: list[Any] = []


class Desk:
    """A console whose clock and acts the test holds."""

    def __init__(self, folder: Path, language: str, size: tuple[int, int]) -> None:
        self.mono_s, self.acts = 100.0, list[dict[str, Any]]()
        self.window = ConsoleWindow(
            self.acts.append, language, folder / "plans", LISTENER, 210.0, 1.0, lambda: self.mono_s
        )
        self.window.resize(*size)
        self.window.show()
        QApplication.setActiveWindow(self.window)

    def finish_work(self) -> None:
        deadline = time.monotonic() + 60.0
        while self.window.worker.busy and time.monotonic() < deadline:
            QApplication.processEvents()
            time.sleep(0.005)
        assert not self.window.worker.busy


@pytest.fixture
def desk(app: QApplication, tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(
        snapshot: Snapshot | None, language: str = "en", size: tuple[int, int] = SIZES[0]
    ) -> Desk:
        made.append(Desk(tmp_path, language, size))
        if snapshot is not None:
            made[-1].window.show_snapshot(snapshot)
        return made[-1]

    yield make
    for one in made:
        one.window.close_for_good()
        _KEPT.append(one)


@pytest.fixture
def full(normal: Snapshot) -> Snapshot:
    return replace(
        normal,
        received=tuple(
            ReceivedVolume(v, 0.0, 40, "P1", normal.volume, normal.volume_geometry)
            for v in ("v001", "v003")
        ),
        ice_review="measured",
        needle_duties=((1, 1.0), (2, 0.5)),
        undo="needle",
        undo_of="2",
        alarms=ALARMS,
    )


@pytest.fixture
def first(full: Snapshot) -> Snapshot:
    """The baseline is there, a case is not."""
    return replace(
        full, draft=True, ice_sdf=None, ice_review=None, undo=None, needles=(), alarms=(),
        phase=Phase(PhaseKind.WAITING, 0, None, None), assessment=None, lesion_sdf=None,
    )  # fmt: skip


def click_mm(desk: Desk, x: float, y: float) -> QPoint:
    import numpy as np

    pane = desk.window.pane
    px = pane.frame().to_px(np.array([x, y, pane.cross[2]]))
    return QPoint(round(float(px[0])), round(float(px[1])))


def drag(desk: Desk, a: tuple[float, float], b: tuple[float, float]) -> None:
    pane = desk.window.pane
    QTest.mousePress(pane, Qt.LeftButton, Qt.NoModifier, click_mm(desk, *a))
    QTest.mouseMove(pane, click_mm(desk, *b))
    # QTest's move has no button held on every platform; the release ends the line where it is.
    pane._move_to((*b, pane.cross[2]))
    QTest.mouseRelease(pane, Qt.LeftButton, Qt.NoModifier, click_mm(desk, *b))


def alt(d: Desk, letter: str) -> None:
    """A letter with Alt: the button is seen to be pressed, a tenth of a second, before it acts."""
    QTest.keyClick(d.window, getattr(Qt, f"Key_{letter}"), Qt.AltModifier)
    QTest.qWait(200)
    deadline = time.monotonic() + 5.0  # of a machine that others use
    while time.monotonic() < deadline and any(
        b.isDown() for b in d.window.findChildren(QPushButton)
    ):
        QTest.qWait(20)


def press(button: QPushButton) -> None:
    assert button.isEnabled(), button.text()
    QTest.mouseClick(button, Qt.LeftButton)


# ------------------------------------------------------------------ the work


def plan_by_mouse(d: Desk) -> None:
    w = d.window
    pages = w.pages
    press(pages["baseline"].take)
    press(w.steps["lesion"])
    w.pane.go_to((20.0, -80.0, 12.0))
    press(pages["lesion"].strokes)
    drag(d, (8.0, -80.0), (32.0, -80.0))
    drag(d, (20.0, -90.0), (20.0, -70.0))
    press(w.steps["structures"])
    pages["structures"].name.setCurrentText("colon")
    press(pages["structures"].new)
    QTest.mouseClick(w.pane, Qt.LeftButton, Qt.NoModifier, click_mm(d, -22.0, -52.0))
    press(w.steps["needles"])
    press(pages["needles"].clicks)
    QTest.mouseClick(w.pane, Qt.LeftButton, Qt.NoModifier, click_mm(d, 16.0, -68.0))
    QTest.mouseClick(w.pane, Qt.LeftButton, Qt.NoModifier, click_mm(d, 8.0, -122.0))
    d.finish_work()
    press(w.steps["protocol"])
    pages["protocol"].organ.setCurrentIndex(1)
    pages["protocol"].organ.activated.emit(1)


def test_from_nothing_to_a_plan_by_mouse(desk: Any, first: Snapshot, tmp_path: Path) -> None:
    d = desk(first)
    w = d.window
    assert missing(w.draft)[0] == "baseline"
    assert "baseline" in w.missing.text()
    plan_by_mouse(d)
    assert not missing(w.draft)
    assert w.draft.needles[0].on_metal
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
        pane = w.pane
        QTest.keyClick(pane, Qt.Key_Space)
        for _ in range(abs(dx)):
            QTest.keyClick(pane, Qt.Key_Right if dx > 0 else Qt.Key_Left)
        for _ in range(abs(dy)):
            QTest.keyClick(pane, Qt.Key_Down if dy > 0 else Qt.Key_Up)
        QTest.keyClick(pane, Qt.Key_Space)

    alt(d, "B")
    alt(d, "2")
    w.pane.go_to((8.0, -80.0, 12.0))
    alt(d, "D")
    line(24, 0)
    w.pane.go_to((20.0, -90.0, 12.0))
    line(0, 20)
    assert isinstance(w.draft.lesion, DrawnBody)
    alt(d, "3")
    alt(d, "O")
    assert w.draft.no_structures
    alt(d, "4")
    alt(d, "T")
    w.pane.go_to((16.0, -68.0, 12.0))
    line(-8, -54)
    d.finish_work()
    assert len(w.draft.needles) == 1
    alt(d, "5")
    organ = w.pages["protocol"].organ
    organ.setFocus()
    QTest.keyClick(organ, Qt.Key_Down)
    assert w.draft.organ
    alt(d, "S")
    d.finish_work()
    assert d.acts[-1]["act"] == "open_case"
    assert load_case(Path(d.acts[-1]["params"]["path"])).patient_id == "P1"


def test_every_edit_is_undone_and_redone(desk: Any, first: Snapshot) -> None:
    d = desk(first)
    plan_by_mouse(d)
    made = d.window.draft
    while d.window.history.undoes is not None:
        QTest.keyClick(d.window, Qt.Key_Z, Qt.ControlModifier)
    assert missing(d.window.draft) == ("baseline", "lesion", "structures", "needles", "organ")
    while d.window.history.redoes is not None:
        QTest.keyClick(d.window, Qt.Key_Y, Qt.ControlModifier)
    assert d.window.draft == made


def test_growing_does_not_hold_up_the_window(desk: Any, first: Snapshot) -> None:
    """No turn of the event loop works for more than 50 ms; others' work is not counted."""
    d = desk(first)
    w = d.window
    plan_by_mouse(d)
    press(w.steps["lesion"])
    w.repaint()
    press(w.pages["lesion"].to_boundary)
    turns_s = []
    while w.worker.busy:
        began_s = time.thread_time()
        QApplication.processEvents()
        turns_s.append(time.thread_time() - began_s)
        time.sleep(0.002)
    assert len(turns_s) > 5
    assert max(turns_s) < 0.05
    assert "%" in w.missing.text() or "ellipsoid" in w.missing.text()


def test_a_file_is_imported(desk: Any, first: Snapshot) -> None:
    d = desk(first)
    d.window.take_file("lesion", Path("/x/rtstruct.dcm"))
    assert d.window.draft.lesion == ShapeFile(Path("/x/rtstruct.dcm"), "Lesion")
    d.window.take_file("structure", Path("/x/bowel.nii.gz"))
    assert d.window.draft.structures[0].shape == ShapeFile(Path("/x/bowel.nii.gz"), None)


def test_no_lesion_of_a_slip_of_the_hand(desk: Any, first: Snapshot) -> None:
    d = desk(first)
    press(d.window.steps["lesion"])
    d.window.pane.go_to((20.0, -80.0, 12.0))
    press(d.window.pages["lesion"].strokes)
    drag(d, (20.0, -80.0), (21.0, -80.0))
    drag(d, (20.0, -80.0), (20.0, -81.0))
    assert d.window.draft.lesion is None


# ------------------------------------------------------------------ while it runs


def test_acts_while_freezing(desk: Any, full: Snapshot) -> None:
    d = desk(full)
    page = d.window.pages["monitor"]
    press(d.window.steps["monitor"])
    press(page.next)
    press(page.rows[0].button)
    press(page.accept)
    press(page.reject)
    press(page.undo)
    page.what_if.duties[1].slider.setValue(0)
    press(page.what_if.ask)
    assert d.acts == [
        {"act": "phase_next"},
        {"act": "needle", "params": {"number": 1, "duty": 0.0}},
        {"act": "accept_ice", "params": {"volume_id": "v003"}},
        {"act": "reject_ice", "params": {"volume_id": "v003"}},
        {"act": "undo"},
        {"act": "what_if", "params": {"duty": {"1": 1.0, "2": 0.0}, "remaining_s": 300.0}},
    ]


def test_the_ice_is_corrected_by_brush(desk: Any, full: Snapshot) -> None:
    d = desk(full)
    press(d.window.steps["monitor"])
    page = d.window.pages["monitor"]
    assert not page.use.isEnabled()
    d.window.pane.go_to((22.0, -79.0, 12.0))
    press(page.correct)
    QTest.mouseClick(d.window.pane, Qt.LeftButton, Qt.NoModifier, click_mm(d, 40.0, -79.0))
    press(page.use)
    d.finish_work()
    assert d.acts[-1]["act"] == "correct_ice"
    assert d.acts[-1]["params"]["volume_id"] == "v003"
    assert Path(d.acts[-1]["params"]["path"]).is_file()


def test_alarms_are_acknowledged_one_by_one(desk: Any, full: Snapshot) -> None:
    d = desk(full)
    rows = d.window.alarms._rows
    assert len(rows) == 3
    press(rows["image_stale", ""][2])
    assert d.acts == [{"act": "acknowledge", "alarm": ("image_stale", "")}]
    seen = tuple(replace(a, acknowledged=a.code == "image_stale") for a in ALARMS)
    d.window.show_snapshot(replace(full, alarms=seen))
    QApplication.processEvents()
    assert not rows["image_stale", ""][2].isVisible()
    assert rows["structure_near", "colon"][2].isVisible()


def acting(d: Desk) -> list[QPushButton]:
    """What acts on the procedure."""
    pages = d.window.pages
    m = pages["monitor"]
    return [pages["baseline"].take, pages["protocol"].send, m.next, m.accept, m.reject, m.correct,
            m.use, m.undo, m.what_if.ask, *(r.button for r in m.rows)]  # fmt: skip


def test_a_silent_core_is_told_and_nothing_can_be_sent(desk: Any, full: Snapshot) -> None:
    d = desk(full)
    assert any(b.isEnabled() for b in acting(d))
    d.mono_s += 5.0
    d.window.refresh()
    assert d.window.missing.text() == d.window.words.say("console.silent")
    assert not any(b.isEnabled() for b in acting(d))
    d.window.act("phase_next")
    assert d.acts == []


def test_a_wrong_patient_blanks_and_is_cleared_by_two_presses(desk: Any, full: Snapshot) -> None:
    d = desk(full)
    assert not d.window.clear.isVisible()
    d.window.show_snapshot(replace(full, blocked=True))
    assert d.window.pane.stack is None
    assert d.window.missing.text() == d.window.words.say("console.blocked")
    assert not any(b.isEnabled() for b in acting(d))
    press(d.window.clear)
    assert d.acts == []
    press(d.window.clear)
    assert d.acts == [{"act": "clear_block"}]


def test_a_case_given_at_the_start_is_not_said_to_miss_anything(desk: Any, full: Snapshot) -> None:
    d = desk(full)
    assert d.window.missing.text() == d.window.words.say("console.missing.given")


def test_a_refusal_is_told(desk: Any, full: Snapshot) -> None:
    d = desk(replace(full, refused="needle: not one of this case"))
    assert "not one of this case" in d.window.missing.text()


def test_an_error_in_a_slot_is_told_and_the_window_lives_on(desk: Any, full: Snapshot) -> None:
    d = desk(full)
    d.window.show_error("ZeroDivisionError")
    assert "ZeroDivisionError" in d.window.missing.text()
    d.window.show_snapshot(full)
    assert d.window.isVisible()


def test_closing_the_window_asks_first(desk: Any, full: Snapshot) -> None:
    d = desk(full)
    d.window.close()
    assert d.window.isVisible()
    assert d.acts == []
    d.window.close()
    assert d.acts == [{"act": "quit"}]


# ------------------------------------------------------------------ words


def shown(window: ConsoleWindow) -> list[Any]:
    kinds = (QLabel, QPushButton, QCheckBox)
    return [w for kind in kinds for w in window.findChildren(kind) if w.isVisible() and w.text()]


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("size", SIZES)
def test_no_text_is_clipped(
    desk: Any, full: Snapshot, language: str, size: tuple[int, int]
) -> None:
    d = desk(full, language, size)
    for step in STEPS:
        press(d.window.steps[step])
        QApplication.processEvents()
        assert len(shown(d.window)) > 12
        for widget in shown(d.window):
            check_fits(widget, step)
        for box in d.window.findChildren(QComboBox):
            if box.isVisible():
                assert (
                    QFontMetrics(box.font()).horizontalAdvance(box.currentText()) < box.width() - 30
                )
        page = d.window.pages[step]
        assert page.width() <= d.window.stack.parentWidget().width(), (step, "wider than its place")


def check_fits(widget: Any, step: str) -> None:
    metrics, text = QFontMetrics(widget.font()), widget.text().replace("&", "")
    room = widget.contentsRect()
    if isinstance(widget, QLabel):
        flags = int(Qt.TextWordWrap) if widget.wordWrap() else 0
        need = metrics.boundingRect(0, 0, room.width(), 9999, flags, text)
        assert need.height() <= room.height() + 2, (step, text, need.height(), room.height())
        assert need.width() <= room.width() + 2, (step, text, need.width(), room.width())
    else:
        side = 34 if isinstance(widget, QCheckBox) else 8
        assert metrics.horizontalAdvance(text) + side <= widget.width(), (step, text)
        assert metrics.height() <= widget.height(), (step, text)


def test_the_check_of_clipping_can_fail(app: QApplication) -> None:
    label = QLabel("a sentence that does not fit in so narrow a place")
    label.resize(60, 20)
    with pytest.raises(AssertionError):
        check_fits(label, "")


def words_of(window: ConsoleWindow) -> dict[Any, str]:
    found = {}
    for step in STEPS:
        window.go(step)
        QApplication.processEvents()
        found |= {(step, id(w)): w.text() for w in shown(window)}
    return found


def test_every_sentence_changes_with_the_language(desk: Any, full: Snapshot) -> None:
    d = desk(full)
    english = words_of(d.window)
    alt(d, "L")
    french = words_of(d.window)
    assert english.keys() == french.keys()
    same = {t for k, t in english.items() if french[k] == t and any(c.isalpha() for c in t)}
    assert not same, same
    alt(d, "L")
    assert words_of(d.window) == english


def test_the_notice_is_always_there(desk: Any, full: Snapshot) -> None:
    for snapshot in (None, full, replace(full, blocked=True)):
        d = desk(snapshot)
        for step in STEPS:
            d.window.go(step)
            said = [w.text() for w in shown(d.window)]
            assert any("not for diagnosis" in t for t in said)


@pytest.mark.parametrize("language", ["en", "fr"])
def test_no_letter_means_two_things_on_a_page(desk: Any, full: Snapshot, language: str) -> None:
    d = desk(full, language)
    for step in STEPS:
        d.window.go(step)
        QApplication.processEvents()
        letters: dict[str, str] = {}
        for w in (*d.window.findChildren(QPushButton), *d.window.findChildren(QCheckBox)):
            at = w.text().find("&")
            if w.isVisible() and at >= 0:
                letter = w.text()[at + 1].lower()
                assert letters.setdefault(letter, w.text()) == w.text(), (step, letter)


def test_everything_is_reached_by_tab(desk: Any, full: Snapshot) -> None:
    d = desk(full)
    for step in STEPS:
        d.window.go(step)
        QApplication.processEvents()
        reached, widget = set(), d.window
        for _ in range(400):
            widget = widget.nextInFocusChain()
            reached.add(widget)
        for button in d.window.findChildren(QPushButton):
            if button.isVisible() and button.isEnabled():
                assert button in reached
                assert button.focusPolicy() & Qt.TabFocus
