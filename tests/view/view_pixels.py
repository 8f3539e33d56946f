"""A painted widget read back as pixels. (row, column, RGB); colours as in palette.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from PyQt5.QtGui import QColor

from monitor.view.palette import COLOURS
from monitor.view.png import picture


def pixels(widget: Any) -> np.ndarray:
    """(row, column, RGB) of what a widget shows."""
    image = picture(widget)
    bits = image.bits()
    bits.setsize(image.byteCount())
    rows = np.frombuffer(bytes(bits), np.uint8).reshape(
        image.height(), image.bytesPerLine() // 4, 4
    )
    return rows[:, : image.width(), 2::-1].astype(int)


def like(shot: np.ndarray, name: str, tolerance: int = 30) -> np.ndarray:
    """Where the picture has a colour of the palette."""
    c = QColor(COLOURS[name])
    return np.abs(shot - [c.red(), c.green(), c.blue()]).max(-1) <= tolerance
