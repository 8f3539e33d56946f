"""How large the console's type and controls are: in proportion to its window. Logical pixels.

What is written here is for a window of 1280 x 800, in which every page just fits; a larger window, on a
larger or finer monitor, is not left with small type in it. Invariant: nothing is smaller than written here.
"""

from __future__ import annotations

import math
import re
from typing import Any

from PyQt5.QtWidgets import QWidget

from monitor.view.palette import COLOURS

BASE = (1280, 800)
_LARGEST, _STEP = 4.0, 0.05
_SIZE = "size at scale 1"

_SHEET = """
QWidget {{ background: {window}; color: {text}; font-family: "DejaVu Sans"; font-size: 14px; }}
QPushButton {{ background: #23282D; border: 2px solid #3A4148; border-radius: 4px; padding: 5px 9px;
  min-height: 22px; text-align: center; }}
QPushButton:focus, QComboBox:focus, QAbstractSpinBox:focus, QListWidget:focus, QLineEdit:focus,
QCheckBox:focus, QSlider:focus {{ border: 2px solid {text}; }}
QPushButton:checked {{ background: #2F4A5E; border-color: {ice}; }}
QPushButton:disabled, QLabel:disabled, QCheckBox:disabled {{ color: #6A7077; }}
QPushButton[tight="true"] {{ min-height: 18px; padding: 3px 9px; }}
QPushButton[step="true"] {{ text-align: left; font-size: 15px; min-height: 30px; }}
QLabel[role="title"] {{ font-size: 18px; font-weight: bold; }}
QLabel[role="missing"] {{ font-size: 16px; background: #15181B; padding: 7px; }}
QLabel[role="alarm"] {{ font-size: 15px; background: #15181B; padding: 3px; }}
QLabel[role="figure"] {{ font-size: 16px; font-weight: bold; }}
QLabel[role="notice"] {{ color: {label}; font-size: 13px; }}
QListWidget, QComboBox, QAbstractSpinBox, QLineEdit {{ background: #15181B; border: 2px solid #3A4148;
  padding: 3px; min-height: 22px; }}
QSlider {{ min-height: 24px; }}
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


def scale_of(width: int, height: int) -> float:
    """Of a window, in steps, so that dragging its edge does not lay it out anew at every pixel."""
    fits = min(width / BASE[0], height / BASE[1], _LARGEST)
    return max(1.0, math.floor(fits / _STEP + 1e-6) * _STEP)


def sheet(scale: float) -> str:
    """The style sheet with its pixels so many times as large."""
    return re.sub(r"(\d+)px", lambda m: f"{round(int(m[1]) * scale)}px", _SHEET)


def sized(widget: QWidget, width: int = 0, height: int = 0, least_width: int = 0) -> None:
    """A size that ``rescale`` keeps in proportion; 0: as it comes."""
    widget.setProperty(_SIZE, [width, height, least_width])
    _apply(widget, 1.0)


def rescale(window: QWidget, scale: float) -> None:
    """All that the window holds."""
    window.setStyleSheet(sheet(scale))
    for widget in window.findChildren(QWidget):
        _apply(widget, scale)


def _apply(widget: Any, scale: float) -> None:
    size = widget.property(_SIZE)
    if size is None:
        return
    width, height, least_width = (round(scale * value) for value in size)
    if width:
        widget.setFixedWidth(width)
    if height:
        widget.setFixedHeight(height)
    if least_width:
        widget.setMinimumWidth(least_width)
