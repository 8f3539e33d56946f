"""The console while a procedure runs: acts, alarms, and nothing unsafe to press."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from console_desk import ALARMS, SIZES, Desk, click_mm, press
from PyQt5.QtCore import Qt
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import QApplication, QLabel, QPushButton, QWidget
from test_console_words import check_fits

from monitor.config import ShapeFile
from monitor.forecast_values import Change, Outcome, WhatIf, WhatIfAnswer
from monitor.geometry import SliceGeometry
from monitor.model import Alarm, Phase, PhaseKind, Priority
from monitor.planning.draft import Draft, DraftNeedle
from monitor.snapshot import Delivered, NeedleLine, Snapshot
from monitor.view.console.window import STEPS
from monitor.view.images import Stack
from monitor.view.planes import AXIAL


def test_acts_while_freezing(desk: Any, full: Snapshot) -> None:
    d = desk(full)
    page = d.window.pages["monitor"]
    press(d.window.steps["monitor"])
    press(page.next)
    press(page.rows[0].button)
    press(page.accept)
    press(page.reject)
    press(page.undo)
    press(page.tabs[1])
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


def test_a_question_that_was_dropped_is_said_in_both_languages(desk: Any, full: Snapshot) -> None:
    d = desk(full)
    press(d.window.steps["monitor"])
    note = d.window.pages["monitor"].what_if.note
    assert note.text() == ""
    for by, key in (
        ("question", "question"),
        ("scan", "scan"),
        ("phase", "phase"),
        ("undo", "other"),
    ):
        d.window.show_snapshot(replace(full, what_if_dropped=by))
        assert note.text() == d.window.words.say(f"console.whatif.dropped.{key}")
    d.window.show_snapshot(full)
    assert note.text() == ""


ANSWER = WhatIfAnswer(
    WhatIf({1: 0.0, 2: 1.0}, 300.0),
    0.0,
    "v003",
    True,
    24,
    Outcome(300.0, (150.0, 260.0), None, (0.97, 1.0), (0.81, 0.9), (-0.6, 1.2)),
    Outcome(198.0, (60.0, 140.0), (170.0, 290.0), (1.0, 1.0), (0.93, 1.0), (2.1, 3.8)),
    Change(None, None, (-3.1, -2.2), ()),
    "cpu",
)


NEEDLES = tuple(NeedleLine(n, (20.0, -80.0, 4.0 * n), (0.0, -140.0, 4.0 * n)) for n in range(1, 7))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("needles", [2, 6])
def test_what_acts_is_seen_without_scrolling(
    desk: Any, full: Snapshot, language: str, size: tuple[int, int], needles: int
) -> None:
    """With three alarms, figures and what is predicted of the cold; and a question beside its answer."""
    d = desk(replace(full, needles=NEEDLES[:needles], what_if=ANSWER), language, size)
    page = d.window.pages["monitor"]
    area = d.window.stack.parentWidget()
    press(d.window.steps["monitor"])
    QApplication.processEvents()
    now = (page.next, *page.tabs, *(r.button for r in page.rows[:needles]), page.figures, page.scan,
           page.accept, page.reject, page.correct, page.use, page.undo, page.radius)  # fmt: skip
    check_seen(now, area)
    press(page.tabs[1])
    QApplication.processEvents()
    what_if = page.what_if
    assert "%" in what_if.cells[2, 1].text()
    asked = (what_if.minutes.slider, what_if.ask, *(s.slider for s in what_if.duties[:needles]))
    check_seen((page.next, *page.tabs, *asked, *what_if.cells.values(), what_if.note), area)
    assert not page.accept.isVisible()
    assert page.width() <= area.width(), "nothing is cut off at the side"


def check_seen(widgets: Sequence[QWidget], area: QWidget) -> None:
    for w in widgets:
        assert w.isVisible()
        top, bottom = (w.mapTo(area, p).y() for p in (w.rect().topLeft(), w.rect().bottomLeft()))
        assert 0 <= top < bottom <= area.height(), (type(w).__name__, top, bottom, area.height())


def test_the_correction_has_a_brush_of_its_own_size(desk: Any, full: Snapshot) -> None:
    d = desk(full)
    press(d.window.steps["monitor"])
    press(d.window.pages["monitor"].correct)
    assert d.window.shown.brush_mm == 5.0
    d.window.pages["monitor"].radius.setValue(3.0)
    d.window.pages["structures"].radius.setValue(9.0)
    d.window.refresh()
    assert d.window.shown.brush_mm == 3.0


def test_a_structure_never_measured_is_not_called_near(desk: Any, full: Snapshot) -> None:
    unknown = {"name": "colon", "distance_mm": "?", "at_least_mm": "?", "limit_mm": "5.0"}
    near = Alarm("structure_near", Priority.HIGH, 0.0, unknown, about="colon")
    for language, says in (
        ("en", "colon: DISTANCE TO THE ICE NOT MEASURED (limit 5.0 mm)"),
        ("fr", "côlon : DISTANCE À LA GLACE NON MESURÉE (limite 5,0 mm)"),
    ):
        d = desk(replace(full, alarms=(near,)), language)
        said = [w.text() for w in d.window.findChildren(QLabel)]
        assert any(says in text for text in said), said


def test_the_ice_is_corrected_by_brush(desk: Any, full: Snapshot) -> None:
    d = desk(full)
    press(d.window.steps["monitor"])
    page = d.window.pages["monitor"]
    assert not page.use.isEnabled()
    d.window.shown.go_to((22.0, -79.0, 12.0))
    press(page.correct)
    QTest.mouseClick(d.window.planes.main, Qt.LeftButton, Qt.NoModifier, click_mm(d, 40.0, -79.0))
    press(page.use)
    d.finish_work()
    assert d.acts[-1]["act"] == "correct_ice"
    assert d.acts[-1]["params"]["volume_id"] == "v003"
    assert Path(d.acts[-1]["params"]["path"]).is_file()


def test_a_stroke_that_begins_outside_the_ice_only_adds(desk: Any, full: Snapshot) -> None:
    d = desk(full)
    press(d.window.steps["monitor"])
    d.window.shown.go_to((22.0, -79.0, 12.0))
    press(d.window.pages["monitor"].correct)
    volumes_ml = []
    for x in (44.0, 36.0, 28.0, 22.0):  # into the middle of the ice
        d.window.editor._pointed((x, -79.0, 12.0), dragged=x < 44.0)
        volumes_ml.append(d.window.editor.correction.volume_ml)
    assert volumes_ml == sorted(volumes_ml)
    assert volumes_ml[-1] > volumes_ml[0]
    d.window.editor._pointed((22.0, -79.0, 12.0), dragged=False)
    assert d.window.editor.correction.volume_ml < volumes_ml[-1]


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
    assert d.window.shown.stack is None
    assert d.window.missing.text() == d.window.words.say("console.blocked")
    assert not any(b.isEnabled() for b in acting(d))
    press(d.window.clear)
    assert d.acts == []
    press(d.window.clear)
    assert d.acts == [{"act": "clear_block"}]


def test_a_case_given_at_the_start_is_not_said_to_miss_anything(desk: Any, full: Snapshot) -> None:
    d = desk(replace(full, phase=Phase(PhaseKind.WAITING, 0, None, None)))
    assert d.window.missing.text() == d.window.words.say("console.missing.given")


def test_the_plan_that_the_monitor_has_is_gone_on_with(desk: Any, full: Snapshot) -> None:
    """Of a case given at the start, and of a console that was started again."""
    d = desk(replace(full, draft=False))
    w = d.window
    lesion = ShapeFile(Path("lesion.nii.gz"), None)  # whose surface the monitor shows
    needle = DraftNeedle(1, "icerod_1_5", (10.0, -20.0, 30.0), (10.0, -120.0, 30.0))
    given = Draft("P1", "liver", 5.0, lesion, no_structures=True, needles=(needle,))
    w.begin(given)
    assert all(w.steps[s].text().startswith("✓ ") for s in STEPS[:-1])
    assert w.step == "monitor"
    assert not w.pages["protocol"].send.isEnabled()
    chosen = w.pages["baseline"].chosen.text()
    assert chosen == w.words.say("console.baseline.is", id=full.baseline_id)
    drawn = [o.colour for o in w.shown.outlines]
    assert drawn.count("lesion") == 1
    assert drawn.count("critical") == len(full.structure_sdfs)
    assert d.acts == []


def test_a_plan_without_a_baseline_is_not_ready(desk: Any, full: Snapshot) -> None:
    """A case names the patient before anything was scanned."""
    waiting = Phase(PhaseKind.WAITING, 0, None, None)
    before = replace(full, draft=False, phase=waiting, baseline_id=None, volume_id=None, alarms=())
    d = desk(before)
    w = d.window
    assert w.missing.text() == w.words.say("console.missing.scan")
    lesion = ShapeFile(Path("lesion.nii.gz"), None)
    needle = DraftNeedle(1, "icerod_1_5", (10.0, -20.0, 30.0), (10.0, -120.0, 30.0))
    w.begin(Draft("P1", "liver", 5.0, lesion, no_structures=True, needles=(needle,)))
    assert [w.steps[s].text().startswith("✓ ") for s in STEPS[:-1]] == [False, *[True] * 4]
    assert w.missing.text() == w.words.say("console.missing.scan")
    w.show_snapshot(replace(before, baseline_id="v001"))
    assert all(w.steps[s].text().startswith("✓ ") for s in STEPS[:-1])
    assert w.missing.text() == w.words.say("console.missing.none")


def test_while_it_runs_the_console_says_what_the_room_says(desk: Any, full: Snapshot) -> None:
    full = replace(full, alarms=())
    d = desk(full)
    w, page = d.window, d.window.pages["monitor"]
    press(w.steps["monitor"])
    assert w.phase.text().startswith("Cycle 1 · FREEZE  06:42 / ")
    assert "Next CT in" in w.missing.text()
    assert f"{w.model.lesion.label} {w.model.lesion.value}" in page.figures.text()
    assert page.figures.isEnabled()
    assert page.cold.text().startswith("Predicted (CT")
    assert page.cold.y() > page.figures.y(), "what is predicted, under what is measured"
    d.mono_s += 3.0
    w.refresh()
    assert page.cold.isHidden(), "a silent core's forecast is not of now"
    assert not page.figures.isEnabled(), "a silent core's are grey"
    w.show_snapshot(replace(full, phase=Phase(PhaseKind.ENDED, 2, full.now_utc_s, None)))
    assert w.missing.text() == w.words.say("console.ended")


def test_type_grows_with_the_window(desk: Any, full: Snapshot) -> None:
    small, large = desk(full, "en", (1280, 800)).window, desk(full, "en", (2560, 1600)).window
    heights = [w.steps["lesion"].fontMetrics().height() for w in (small, large)]
    assert heights[1] > 1.9 * heights[0]


def test_a_refusal_is_told(desk: Any, full: Snapshot) -> None:
    d = desk(replace(full, refused="needle: not one of this case"))
    assert "not one of this case" in d.window.missing.text()


CODES = ("sent", "sending", "refused", "failed", "no_connection", "rejected", "no_answer",
         "no_resources", "tls")  # fmt: skip


@pytest.mark.requirement("REQ-DELIVERY")
@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("code", CODES)
def test_how_the_sending_of_results_stands_is_told_and_is_no_alarm(
    desk: Any, full: Snapshot, code: str, language: str
) -> None:
    why = "status 0xC000 cannot understand what was sent to it"
    d = desk(replace(full, delivery=Delivered("PACS7", code, 11, 5, 3, why)), language, SIZES[0])
    w = d.window
    shown = w.delivery.text()
    assert not w.delivery.isHidden()
    assert "PACS7" in shown
    assert "console." not in shown
    named = {"sent": "11", "refused": "3", "failed": why, "tls": why}.get(code, "5")
    assert named in shown
    check_fits(w.delivery, code)
    alarms = w.alarms.findChildren(QLabel)
    assert not any("PACS7" in x.text() for x in alarms)
    w.show_snapshot(full)
    assert w.delivery.isHidden()


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


def test_the_cross_follows_a_volume_that_is_still_coming_until_a_hand_has_moved_it(
    desk: Any, first: Snapshot
) -> None:
    shown = desk(first).window.shown
    shown.show_stack(None)
    for slices in (10, 40):
        shown.show_stack(Stack(np.zeros((slices, 64, 64), np.int16), geometry(slices)))
        assert shown.cross[2] == pytest.approx(2.5 * (slices - 1) / 2)
    shown.change_slice(AXIAL, 3)
    there = shown.cross
    shown.show_stack(Stack(np.zeros((60, 64, 64), np.int16), geometry(60)))
    assert shown.cross == there


def geometry(slices: int) -> SliceGeometry:
    """Upright slices 2.5 mm apart from z = 0 on."""
    offsets = tuple(2.5 * k for k in range(slices))
    x, y, z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
    return SliceGeometry((0.0, 0.0, 0.0), x, y, z, 1.0, 1.0, offsets, 2.5, 64, 64)
