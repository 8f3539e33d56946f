"""The console's words: both languages, nothing clipped, every control by the keyboard."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from console_desk import SIZES, alt, plan_by_mouse, press
from PyQt5.QtCore import Qt
from PyQt5.QtGui import QFontMetrics
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QPushButton,
)

from monitor.snapshot import Snapshot
from monitor.view.console.window import STEPS, ConsoleWindow


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


@pytest.mark.requirement("REQ-LANGUAGE")
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


@pytest.mark.requirement("REQ-INFORMS")
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


def test_numbers_have_the_decimal_sign_of_the_language_and_take_a_point(
    desk: Any, first: Snapshot
) -> None:
    d = desk(first, "fr")
    plan_by_mouse(d)
    window = d.window
    for sign, language in ((",", "fr"), (".", "en"), (",", "fr")):
        assert window.spoken() == language
        boxes = window.findChildren(QDoubleSpinBox)
        assert len(boxes) >= 5
        assert all(sign in box.text() for box in boxes)
        press(window.steps["protocol"])
        typed = [box for box in boxes if box.isVisible() and box.isEnabled()]
        assert typed
        for box in typed:
            box.setFocus()
            box.selectAll()
            QTest.keyClicks(box, "3.5")
            assert box.value() == 3.5
        window.switch_language()
