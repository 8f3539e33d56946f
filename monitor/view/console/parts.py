"""The controls a page is made of, large enough for a gloved hand. Logical pixels, mm, minutes.

Invariant: what takes the keyboard shows it, and no sentence is set but through ``Words``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PyQt5.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from monitor.view.console.scale import sized
from monitor.view.console.words import Words
from monitor.view.qt import Qt


class Page(QWidget):
    """A column of controls. ``on`` are called by their names."""

    def __init__(self, words: Words, title: str) -> None:
        super().__init__()
        self.words = words
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(8, 4, 8, 4)
        self.column.setSpacing(5)
        if title:  # else the page needs the room, and its step says what it is
            heading = self.label("")
            heading.setProperty("role", "title")
            words.put(Untagged(heading.setText), title)

    def label(self, key: str, **params: str) -> QLabel:
        """A sentence that may take several lines."""
        label = QLabel()
        label.setWordWrap(True)
        label.setSizePolicy(QSizePolicy.Preferred, QSizePolicy.Minimum)
        if key:
            self.words.put(label.setText, key, **params)
        self.column.addWidget(label)
        return label

    def button(self, key: str, pressed: Callable[[], None], checkable: bool = False) -> QPushButton:
        button = QPushButton()
        button.setCheckable(checkable)
        button.setAutoDefault(False)
        button.clicked.connect(lambda *_: pressed())
        self.words.put(button.setText, key)
        self.column.addWidget(button)
        return button

    def listing(self, rows: int) -> QListWidget:
        made = QListWidget()
        sized(made, height=26 * rows + 12)
        made.setWordWrap(False)
        made.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        self.column.addWidget(made)
        return made

    def number(self, key: str, low: float, high: float, value: float, unit: str) -> QDoubleSpinBox:
        made = spin(low, high, value, unit)
        self._row(key, made)
        return made

    def choice(self, key: str) -> QComboBox:
        made = QComboBox()
        sized(made, least_width=180)
        self._row(key, made)
        return made

    def _row(self, key: str, made: QWidget) -> None:
        """A control behind its name."""
        label, row = QLabel(), QHBoxLayout()
        label.setWordWrap(True)
        label.setBuddy(made)
        self.words.put(label.setText, key)
        row.addWidget(label, 1)
        row.addWidget(made)
        self.column.addLayout(row)

    def side_by_side(self, *widgets: QWidget) -> None:
        """What was added last, in one row instead."""
        row = QHBoxLayout()
        for widget in widgets:
            self.column.removeWidget(widget)
            row.addWidget(widget)
        self.column.addLayout(row)


class _Number(QDoubleSpinBox):
    """Shows the decimal sign of its window's language, and takes a point as well: number pads have one."""

    def validate(self, text: str | None, position: int) -> tuple[Any, str, int]:
        sign = self.locale().decimalPoint()
        return super().validate((text or "").replace(".", sign), position)


def spin(low: float, high: float, value: float, unit: str) -> QDoubleSpinBox:
    made = _Number()
    made.setRange(low, high)
    made.setDecimals(1)
    made.setSingleStep(0.5)
    made.setValue(value)
    made.setSuffix(f"\u00a0{unit}")
    made.setButtonSymbols(QAbstractSpinBox.PlusMinus)
    sized(made, least_width=130)
    return made


class Untagged:
    """Shows a sentence without the mark of its Alt letter and without its number."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    def __call__(self, sentence: str) -> None:
        self._show(sentence.replace("&", ""))


def filled(listing: QListWidget, rows: list[str]) -> None:
    """Shows these rows, the selected one staying where it was."""
    items = [listing.item(i) for i in range(listing.count())]
    old = [item.text() for item in items if item is not None]
    if old == rows:
        return
    at = listing.currentRow()
    listing.clear()
    listing.addItems(rows)
    listing.setCurrentRow(min(max(at, 0), len(rows) - 1))


def enabled(widgets: dict[Any, bool]) -> None:
    for widget, on in widgets.items():
        if widget.isEnabled() != on:
            widget.setEnabled(on)
