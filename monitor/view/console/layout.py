"""How the console's window is put together: orders above, steps left, a plane, pages right. Logical pixels.

Invariant: nothing here knows what a button does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from PyQt5.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from monitor.view.console.scale import sized
from monitor.view.console.words import Words
from monitor.view.qt import Qt

_PAGES_WIDTH, _STEPS_WIDTH = 430, 240


def button(words: Words, key: str, pressed: Callable[[], None]) -> QPushButton:
    made = QPushButton()
    made.clicked.connect(lambda *_: pressed())
    words.put(made.setText, key)
    return made


def step_button(words: Words, step: str, go: Callable[[str], None]) -> QPushButton:
    made = button(words, f"console.step.{step}", lambda: go(step))
    made.setCheckable(True)
    made.setProperty("step", True)
    sized(made, width=_STEPS_WIDTH)  # a tick that comes does not move the picture
    return made


def label(role: str = "") -> QLabel:
    """A sentence that may take several lines."""
    made = QLabel()
    made.setWordWrap(True)
    made.setProperty("role", role)
    return made


def put_together(
    window: QWidget,
    titles: Iterable[QWidget],
    orders: Iterable[QWidget],
    steps: Iterable[QWidget],
    picture: Iterable[QWidget],
    pages: QWidget,
    below: Iterable[QWidget],
) -> None:
    """``picture``: the plane, then what is said of it."""
    whole = QVBoxLayout(window)
    whole.setContentsMargins(8, 6, 8, 6)
    whole.setSpacing(5)
    top = QHBoxLayout()
    for widget in titles:
        top.addWidget(widget, 1)
        top.addSpacing(6)
    middle, left = QHBoxLayout(), QVBoxLayout()
    for widget in orders:
        top.addWidget(widget)
    for widget in steps:
        left.addWidget(widget)
    left.addStretch(1)
    centre = QVBoxLayout()
    for stretch, widget in zip((1, 0), picture, strict=True):
        centre.addWidget(widget, stretch)
    middle.addLayout(left)
    middle.addLayout(centre, 1)
    middle.addWidget(pages)
    whole.addLayout(top)
    whole.addLayout(middle, 1)
    for widget in below:
        whole.addWidget(widget)


def stacked(pages: Mapping[str, QWidget]) -> tuple[QStackedWidget, QScrollArea]:
    """One page at a time, and what it scrolls in."""
    stack, area = QStackedWidget(), QScrollArea()
    for page in pages.values():
        stack.addWidget(page)
    area.setWidgetResizable(True)
    area.setWidget(stack)
    sized(area, width=_PAGES_WIDTH)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
    area.setFrameShape(QScrollArea.NoFrame)
    return stack, area
