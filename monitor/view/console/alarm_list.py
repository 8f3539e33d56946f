"""The alarms, each with a button of its own to acknowledge it. No units.

Invariant: every alarm that stands can be read, the gravest first; none is acknowledged with another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PyQt5.QtWidgets import QHBoxLayout, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget

from monitor.model import Alarm, Priority
from monitor.view.console.scale import sized
from monitor.view.console.words import Words
from monitor.view.palette import COLOURS

_STARS = {Priority.HIGH: "***", Priority.MEDIUM: "**", Priority.LOW: "*"}
_COLOURS = {
    Priority.HIGH: "alarm_high_dark", Priority.MEDIUM: "alarm_medium", Priority.LOW: "alarm_low",
}  # fmt: skip
_HEIGHT = 118


class AlarmList(QScrollArea):
    """Three are seen at once; more by scrolling."""

    def __init__(self, words: Words, acknowledge: Callable[[tuple[str, str]], None]) -> None:
        super().__init__()
        self._words, self._acknowledge = words, acknowledge
        self._rows: dict[tuple[str, str], tuple[QWidget, QLabel, QPushButton]] = {}
        inner = QWidget()
        self._column = QVBoxLayout(inner)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(2)
        self._none = QLabel()
        words.put(self._none.setText, "console.alarms.none")
        self._column.addWidget(self._none)
        self._column.addStretch(1)
        self.setWidget(inner)
        self.setWidgetResizable(True)
        sized(self, height=_HEIGHT)
        self.setFrameShape(QScrollArea.NoFrame)

    def show_alarms(self, alarms: Sequence[Alarm], say: Callable[[Alarm], str], may: bool) -> None:
        ordered = sorted(alarms, key=lambda a: (list(Priority).index(a.priority), a.acknowledged))
        keys = [(a.code, a.about) for a in ordered]
        for key in [k for k in self._rows if k not in keys]:
            row = self._rows.pop(key)[0]
            self._column.removeWidget(row)
            row.hide()  # it goes when Qt next comes to it, and would lie over the others until then
            row.deleteLater()
        self._none.setVisible(not keys)
        for place, (key, alarm) in enumerate(zip(keys, ordered, strict=True)):
            row, label, button = self._rows.get(key) or self._made(key)
            if self._column.indexOf(row) != place:
                self._column.insertWidget(place, row)
            label.setText(f"{_STARS[alarm.priority]} {say(alarm)}")
            label.setStyleSheet(f"color: {COLOURS[_COLOURS[alarm.priority]]}")
            button.setVisible(not alarm.acknowledged)
            button.setEnabled(may)
            button.setText(self._words.say("console.alarms.seen"))

    def _made(self, key: tuple[str, str]) -> tuple[QWidget, QLabel, QPushButton]:
        row, label, button = QWidget(), QLabel(), QPushButton()
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        label.setWordWrap(True)
        label.setProperty("role", "alarm")
        line.addWidget(label, 1)
        line.addWidget(button)
        button.clicked.connect(lambda *_: self._acknowledge(key))
        self._rows[key] = (row, label, button)
        return self._rows[key]
