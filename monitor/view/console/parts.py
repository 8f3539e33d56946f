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

from monitor.view.console.words import Words
from monitor.view.palette import COLOURS
from monitor.view.qt import Qt

SHEET = """
QWidget {{ background: {window}; color: {text}; font-family: "DejaVu Sans"; font-size: 14px; }}
QPushButton {{ background: #23282D; border: 2px solid #3A4148; border-radius: 4px; padding: 5px 9px;
  min-height: 22px; text-align: center; }}
QPushButton:focus, QComboBox:focus, QAbstractSpinBox:focus, QListWidget:focus, QLineEdit:focus,
QCheckBox:focus, QSlider:focus {{ border: 2px solid {text}; }}
QPushButton:checked {{ background: #2F4A5E; border-color: {ice}; }}
QPushButton:disabled, QLabel:disabled, QCheckBox:disabled {{ color: #6A7077; }}
QPushButton[step="true"] {{ text-align: left; font-size: 15px; min-height: 30px; }}
QLabel[role="title"] {{ font-size: 18px; font-weight: bold; }}
QLabel[role="missing"] {{ font-size: 16px; background: #15181B; padding: 7px; }}
QLabel[role="alarm"] {{ font-size: 15px; background: #15181B; padding: 3px; }}
QLabel[role="notice"] {{ color: {label}; font-size: 13px; }}
QListWidget, QComboBox, QAbstractSpinBox, QLineEdit {{ background: #15181B; border: 2px solid #3A4148;
  padding: 3px; min-height: 22px; }}
QSlider::groove:horizontal {{ height: 6px; background: #3A4148; border-radius: 3px; }}
QSlider::sub-page:horizontal {{ background: {ice}; border-radius: 3px; }}
QSlider::handle:horizontal {{ width: 16px; margin: -7px 0; background: {text}; border-radius: 4px; }}
QSlider::handle:horizontal:disabled {{ background: #6A7077; }}
QCheckBox::indicator {{ width: 20px; height: 20px; border: 2px solid {label}; background: #15181B; }}
QCheckBox::indicator:checked {{ background: {ice}; }}
QAbstractSpinBox::up-button, QAbstractSpinBox::down-button {{ width: 26px; }}
QScrollBar:vertical {{ width: 12px; background: #15181B; }}
QScrollBar::handle:vertical {{ background: #3A4148; min-height: 24px; }}
QScrollBar::add-line, QScrollBar::sub-line {{ height: 0px; }}
QListWidget::item:selected {{ background: #2F4A5E; color: {text}; }}
""".format(**COLOURS)


class Page(QWidget):
    """A column of controls. ``on`` are called by their names."""

    def __init__(self, words: Words, title: str) -> None:
        super().__init__()
        self.words = words
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(8, 4, 8, 4)
        self.column.setSpacing(5)
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
        made.setFixedHeight(26 * rows + 12)
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
        made.setMinimumWidth(180)
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


def spin(low: float, high: float, value: float, unit: str) -> QDoubleSpinBox:
    made = QDoubleSpinBox()
    made.setRange(low, high)
    made.setDecimals(1)
    made.setSingleStep(0.5)
    made.setValue(value)
    made.setSuffix(f"\u00a0{unit}")
    made.setButtonSymbols(QAbstractSpinBox.PlusMinus)
    made.setMinimumWidth(130)
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
