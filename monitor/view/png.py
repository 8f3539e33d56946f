"""The screen as a PNG file, pixel for pixel what a window of that size shows. Sizes in pixels.

Invariant: a file with the wanted name is always a whole picture (written beside, then renamed).
"""

from __future__ import annotations

import os
from pathlib import Path

from PyQt5.QtCore import QPoint
from PyQt5.QtGui import QImage
from PyQt5.QtWidgets import QWidget


def picture(widget: QWidget) -> QImage:
    """What the widget shows now."""
    image = QImage(widget.size(), QImage.Format_RGB32)
    widget.render(image, QPoint())
    return image


def save_png(widget: QWidget, path: Path) -> None:
    """Writes the widget's picture. Raises OSError naming what could not be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    if not picture(widget).save(str(part), "PNG"):
        raise OSError(f"{path}: the picture could not be written")
    os.replace(part, path)
