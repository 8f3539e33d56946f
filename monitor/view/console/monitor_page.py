"""The console's last step: phases, needles, the review of a scan; what-if on a leaf of its own. Duty in per
cent, minutes.

Invariant: nothing here acts on what is measured by itself; a what-if is never shown but beside going on;
what acts on the procedure is seen without scrolling in the smallest window, of two needles or of six.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from PyQt5.QtWidgets import QGridLayout, QLabel, QPushButton, QSlider, QStackedWidget

from monitor.forecast_values import Outcome
from monitor.model import PhaseKind
from monitor.snapshot import Snapshot
from monitor.view import cold, formats
from monitor.view.console.pages import Desk
from monitor.view.console.parts import Page, enabled
from monitor.view.console.words import Words
from monitor.view.qt import Qt
from monitor.view.viewmodel import ScreenModel

_MOST_NEEDLES = 6
_LONGEST_MIN = 15


class MonitorPage(Page):
    """``leaves``: what is going on, and what if."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk.words, "")
        self.desk = desk
        self.next = self.button("console.monitor.start", lambda: desk.act("phase_next"))
        self.tabs = [
            self.button(f"console.monitor.{leaf}", partial(self.turn_to, i), True)
            for i, leaf in enumerate(("now", "what_if"))
        ]
        self.side_by_side(*self.tabs)
        self.leaves = QStackedWidget()
        now, what_if = _Leaf(desk.words), _Leaf(desk.words)
        for leaf in (now, what_if):
            self.leaves.addWidget(leaf)
        self.column.addWidget(self.leaves, 1)
        self._make_now(now, desk)
        self.what_if = _WhatIf(what_if, desk)
        for leaf in (now, what_if):
            leaf.column.addStretch(1)
        self.turn_to(0)

    def turn_to(self, leaf: int) -> None:
        self.leaves.setCurrentIndex(leaf)
        for i, tab in enumerate(self.tabs):
            tab.setChecked(i == leaf)

    def _make_now(self, leaf: Page, desk: Desk) -> None:
        self.rows = [_NeedleRow(leaf, desk) for _ in range(_MOST_NEEDLES)]
        self.figures = leaf.label("")
        self.figures.setProperty("role", "figure")
        self.cold = leaf.label("")
        self.scan = leaf.label("console.monitor.no_scan")
        self.accept = leaf.button("console.monitor.accept", lambda: self._review("accept_ice"))
        self.reject = leaf.button("console.monitor.reject", lambda: self._review("reject_ice"))
        leaf.side_by_side(self.accept, self.reject)
        self.correct = leaf.button(
            "console.monitor.correct", lambda: desk.editor.use("ice.add"), True
        )
        self.use = leaf.button("console.monitor.use", desk.send_correction)
        leaf.side_by_side(self.correct, self.use)
        self.undo = leaf.button("console.monitor.undo_none", lambda: desk.act("undo"))
        self.radius = leaf.number("console.brush.size", 1.0, 30.0, 5.0, "mm")

    def _review(self, act: str) -> None:
        s = self.desk.snapshot
        if s is not None and s.volume_id is not None:
            self.desk.act(act, volume_id=s.volume_id)

    def show_state(self, desk: Desk, may: bool, tool: str, corrected: bool) -> None:
        s, words = desk.snapshot, desk.words
        has_case = s is not None and not s.draft
        kind = s.phase.kind if s else PhaseKind.WAITING
        key = "start" if kind is PhaseKind.WAITING else "next"
        words.put(self.next.setText, f"console.monitor.{key}")
        review = s.ice_review if s else None
        if s is not None and review is not None and s.volume_id is not None:
            said = words.say(f"console.review.{review}")
            words.put(self.scan.setText, "console.monitor.scan", id=s.volume_id, review=said)
        else:
            words.put(self.scan.setText, "console.monitor.no_scan")
        self.figures.setText(_figures(desk.model))
        self.figures.setEnabled(desk.model.lesion.tone == "text")
        foreseen = cold.lines(desk.model, s)
        self.cold.setText("\n".join(foreseen))
        self.cold.setVisible(bool(foreseen))
        self.correct.setChecked(tool.startswith("ice."))
        baseline = s is not None and s.baseline_id is not None
        enabled(
            {
                self.next: may and has_case and baseline and kind is not PhaseKind.ENDED,
                self.accept: may and review == "measured",
                self.reject: may and review in ("measured", "accepted", "corrected"),
                self.correct: may
                and review is not None
                and s is not None
                and s.ice_sdf is not None,
                self.use: may and corrected,
                self.undo: may and s is not None and s.undo is not None,
            }
        )
        if s is not None and s.undo is not None:
            act = words.say(f"console.act.{s.undo}")
            words.put(self.undo.setText, "console.monitor.undo", act=act)
        else:
            words.put(self.undo.setText, "console.monitor.undo_none")
        duties = dict(s.needle_duties) if s else {}
        numbers = [n.number for n in s.needles] if s and has_case else []
        for i, row in enumerate(self.rows):
            row.show_state(numbers[i] if i < len(numbers) else None, duties, may)
        self.what_if.show_state(numbers, may and kind is PhaseKind.FREEZE, s)


class _Leaf(Page):
    """A part of the page, as wide as it."""

    def __init__(self, words: Words) -> None:
        super().__init__(words, "")
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(3)


class _NeedleRow:
    """One needle: how hard it freezes; stopped and started again by one button."""

    def __init__(self, page: Page, desk: Desk) -> None:
        self._desk, self._number, self._duty = desk, 0, 1.0
        self.label, self.slider, self.button = QLabel(), slider(0, 100, 100), QPushButton()
        self.button.setProperty("tight", True)  # six of them have room in the smallest window
        self.button.clicked.connect(self._toggle)
        self.slider.sliderReleased.connect(lambda: self._set(self.slider.value() / 100.0))
        self.slider.actionTriggered.connect(self._by_key)
        grid = QGridLayout()
        for column, widget in enumerate((self.label, self.slider, self.button)):
            grid.addWidget(widget, 0, column)
        page.column.addLayout(grid)

    def show_state(self, number: int | None, duties: dict[int, float], may: bool) -> None:
        for widget in (self.label, self.slider, self.button):
            widget.setVisible(number is not None)
        if number is None:
            enabled({self.slider: False, self.button: False})
            return
        self._number, self._duty = number, duties.get(number, 1.0)
        percent = round(100 * self._duty)
        words = self._desk.words
        words.put(
            self.label.setText, "console.monitor.needle", number=str(number), percent=str(percent)
        )
        key = "stop" if self._duty > 0 else "go"
        words.put(self.button.setText, f"console.monitor.{key}", number=str(number))
        if not self.slider.isSliderDown():
            self.slider.setValue(percent)
        enabled({self.slider: may, self.button: may})

    def _toggle(self) -> None:
        self._set(0.0 if self._duty > 0 else 1.0)

    def _by_key(self, *_: Any) -> None:
        if not self.slider.isSliderDown():
            self._set(self.slider.sliderPosition() / 100.0)

    def _set(self, duty: float) -> None:
        self._desk.act("needle", number=self._number, duty=duty)


class _WhatIf:
    """A question by sliders, its answer beside going on as now."""

    def __init__(self, page: Page, desk: Desk) -> None:
        self._desk = desk
        title = page.label("console.whatif.title")
        title.setProperty("role", "title")
        self.duties = [
            _Slid(page, desk, "console.whatif.needle", 100, 100) for _ in range(_MOST_NEEDLES)
        ]
        self.minutes = _Slid(page, desk, "console.whatif.minutes", _LONGEST_MIN, 5)
        self.ask = page.button("console.whatif.ask", self._ask)
        grid = QGridLayout()
        self.cells: dict[tuple[int, int], QLabel] = {}
        for row in range(5):
            for column in range(3):
                cell = self.cells[row, column] = QLabel()
                cell.setWordWrap(True)
                grid.addWidget(cell, row, column)
        words = desk.words
        words.put(self.cells[0, 1].setText, "console.whatif.asked")
        words.put(self.cells[0, 2].setText, "console.whatif.going_on")
        for row, name in enumerate(("ends", "margin", "min_margin", "time"), 1):
            words.put(self.cells[row, 0].setText, f"console.whatif.{name}")
        page.column.addLayout(grid)
        self.note = QLabel()
        self.note.setWordWrap(True)
        page.column.addWidget(self.note)

    def show_state(self, numbers: list[int], may: bool, s: Snapshot | None) -> None:
        for i, slid in enumerate(self.duties):
            slid.show_state(numbers[i] if i < len(numbers) else None, may)
        self.minutes.show_state(0, may)
        enabled({self.ask: may})
        answer = s.what_if if s is not None else None
        for column, outcome in enumerate(
            (answer.asked, answer.going_on) if answer else (None,) * 2, 1
        ):
            for row, said in enumerate(_said(outcome, self._desk.words.language), 1):
                self.cells[row, column].setText(said)
        dropped = s.what_if_dropped if s is not None else None
        if dropped is not None:
            self._desk.words.put(
                self.note.setText, f"console.whatif.dropped.{_dropped_by(dropped)}"
            )
        else:
            self.note.setText("")

    def _ask(self) -> None:
        duty = {
            str(s.number): s.slider.value() / 100.0 for s in self.duties if s.number is not None
        }
        self._desk.act("what_if", duty=duty, remaining_s=60.0 * self.minutes.slider.value())


class _Slid:
    """A slider that says what it is at."""

    def __init__(self, page: Page, desk: Desk, key: str, most: int, value: int) -> None:
        self._desk, self._key = desk, key
        self.number: int | None = None
        self.label, self.slider = QLabel(), slider(0 if most == 100 else 1, most, value)
        if most != 100:
            self.slider.setSingleStep(1)
            self.slider.setPageStep(1)
        self.slider.valueChanged.connect(lambda *_: self._say())
        grid = QGridLayout()
        grid.addWidget(self.label, 0, 0)
        grid.addWidget(self.slider, 0, 1)
        grid.setColumnStretch(1, 1)
        page.column.addLayout(grid)

    def show_state(self, number: int | None, may: bool) -> None:
        self.number = number
        for widget in (self.label, self.slider):
            widget.setVisible(number is not None)
        enabled({self.slider: may})
        self._say()

    def _say(self) -> None:
        if self.number is None:
            return
        value = str(self.slider.value())
        params = (
            {"minutes": value}
            if self.number == 0
            else {"number": str(self.number), "percent": value}
        )
        self._desk.words.put(self.label.setText, self._key, **params)


def _figures(m: ScreenModel) -> str:
    """What the room's screen says of the scan measured last, in its words and with its doubts."""
    shown = (m.lesion, m.margin, m.min_margin, m.structure)
    known = [f"{r.label} {r.value}" for r in shown if r.value != formats.UNKNOWN]
    return "\n".join((m.last_ct.value, *known))


def _dropped_by(by: str) -> str:
    return by if by in ("question", "scan", "phase") else "other"


def _said(outcome: Outcome | None, language: str) -> tuple[str, str, str, str]:
    """Coverage and margin are those of when the freeze ends; the time also counts beyond that."""
    if outcome is None:
        return (formats.UNKNOWN,) * 4
    return (
        f"{formats.decimal(outcome.freeze_ends_s / 60.0, 1, language)} min",
        percent_range(outcome.margin_covered),
        mm_range(outcome.min_margin_mm, language),
        time_range(outcome.time_to_margin_s),
    )


def slider(low: int, high: int, value: int) -> QSlider:
    made = QSlider(Qt.Horizontal)
    made.setRange(low, high)
    made.setPageStep(10)
    made.setSingleStep(5)
    made.setValue(value)
    return made


def percent_range(ends: tuple[float, float]) -> str:
    low, high = (formats.percent(v) for v in ends)
    return low if low == high else str(formats.percent_range(*ends))


def mm_range(ends: tuple[float, float] | None, language: str) -> str:
    if ends is None or not all(map(math.isfinite, ends)):
        return formats.UNKNOWN
    low, high = (formats.signed_mm(v, language) for v in ends)
    return f"{low} … {high} mm"


def time_range(ends: tuple[float, float] | None) -> str:
    return formats.UNKNOWN if ends is None else formats.remaining(*ends)
