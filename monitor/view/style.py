"""Fonts, pens and text on Qt painters. Sizes in design units (du), times ``scale`` to pixels.

The fonts are bundled, so that a machine without any draws the same screen.
Invariant: every text is drawn within the width it was given: it is shrunk, then elided.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PyQt5.QtCore import QPointF, QRectF
from PyQt5.QtGui import (
    QBrush,
    QColor,
    QFont,
    QFontDatabase,
    QFontMetricsF,
    QImage,
    QPainter,
    QPainterPath,
    QPen,
    QPolygonF,
    QTransform,
)

from monitor.view.palette import COLOURS
from monitor.view.qt import Qt

_FONTS = Path(__file__).parent / "fonts"
FAMILY = "DejaVu Sans"
# Dash patterns in units of the pen's width.
DASHES: dict[str, list[float]] = {
    "solid": [],
    "dashed": [4.0, 2.6],
    "dashdot": [6.0, 2.2, 1.2, 2.2],
    "dotted": [0.01, 1.9],
}
SMALLEST_SHRINK = 0.6


def load_fonts() -> None:
    """Registers the bundled fonts. Needs a QGuiApplication."""
    for path in sorted(_FONTS.glob("*.ttf")):
        if QFontDatabase.addApplicationFont(str(path)) < 0:
            raise RuntimeError(f"{path}: not a font Qt can read")


def colour(name: str, alpha: float = 1.0) -> QColor:
    value = QColor(COLOURS[name])
    value.setAlphaF(alpha)
    return value


def font(size_px: float, bold: bool = False) -> QFont:
    result = QFont(FAMILY)
    result.setPixelSize(max(1, round(size_px)))
    result.setBold(bold)
    result.setHintingPreference(QFont.PreferNoHinting)
    return result


def line_pen(name: str, width_px: float, dash: str = "solid", alpha: float = 1.0) -> QPen:
    # Contours bend so little at each of their points that a round join costs time and shows nothing.
    pen = QPen(colour(name, alpha), width_px)
    pen.setJoinStyle(Qt.BevelJoin)
    pen.setCapStyle(Qt.RoundCap if dash == "dotted" else Qt.FlatCap)
    if DASHES[dash]:
        pen.setDashPattern(DASHES[dash])
    return pen


def hatched(name: str, alpha: float, scale: float, pattern: Any = Qt.BDiagPattern) -> QBrush:
    """Thin lines, diagonal unless said, as far apart on any screen as they look on the first."""
    brush = QBrush(colour(name, alpha), pattern)
    brush.setTransform(QTransform.fromScale(0.9 * scale, 0.9 * scale))
    return brush


def casing_pen(width_px: float, alpha: float = 0.75) -> QPen:
    pen = QPen(colour("casing", alpha), 2.0 * width_px)
    pen.setJoinStyle(Qt.BevelJoin)
    return pen


def stroke(
    painter: QPainter,
    path: QPainterPath,
    name: str,
    width_px: float,
    dash: str = "solid",
    alpha: float = 1.0,
) -> None:
    """A line on its black casing."""
    if path.isEmpty():
        return
    painter.setBrush(Qt.NoBrush)
    painter.setPen(casing_pen(width_px, 0.75 * alpha))
    painter.drawPath(path)
    painter.setPen(line_pen(name, width_px * (1.35 if dash == "dotted" else 1.0), dash, alpha))
    painter.drawPath(path)


def polygon(points_px: npt.NDArray[Any]) -> QPolygonF:
    """Points (n, 2) as a polygon, copied at once."""
    result = QPolygonF(len(points_px))
    buffer: Any = result.data()
    buffer.setsize(16 * len(points_px))
    np.frombuffer(buffer, np.float64)[:] = np.ascontiguousarray(points_px, np.float64).ravel()
    return result


def path_of(lines_px: Sequence[npt.NDArray[Any]], closed: bool = False) -> QPainterPath:
    """Polylines as one path, odd-even where filled."""
    path = QPainterPath()
    path.setFillRule(Qt.OddEvenFill)
    for line in lines_px:
        path.addPolygon(polygon(line))
        if closed:
            path.closeSubpath()
    return path


def width_of(text: str, size_px: float, bold: bool = False) -> float:
    """Pixels that the text takes when nothing shrinks it."""
    return float(QFontMetricsF(font(size_px, bold)).horizontalAdvance(text))


def fitted(text: str, size_px: float, bold: bool, width_px: float) -> tuple[str, QFont]:
    """The text and font that fit the width: shrunk to 60 %, then elided in the middle."""
    chosen = font(size_px, bold)
    wanted = QFontMetricsF(chosen).horizontalAdvance(text)
    if wanted <= width_px:
        return text, chosen
    chosen = font(np.floor(size_px * max(SMALLEST_SHRINK, 0.995 * width_px / wanted)), bold)
    return QFontMetricsF(chosen).elidedText(text, Qt.ElideMiddle, width_px), chosen


def draw_text(
    painter: QPainter,
    rect: QRectF,
    text: str,
    size_px: float,
    name: str,
    bold: bool = False,
    align: int = Qt.AlignLeft | Qt.AlignVCenter,
) -> float:
    """Text in a rectangle, fitted to it. Returns the width it took."""
    shown, chosen = fitted(text, size_px, bold, rect.width())
    painter.setFont(chosen)
    painter.setPen(colour(name))
    painter.drawText(rect, int(align) | int(Qt.TextSingleLine), shown)
    return QFontMetricsF(chosen).horizontalAdvance(shown)


def draw_cased(
    painter: QPainter,
    at: QPointF,
    text: str,
    size_px: float,
    name: str,
    bold: bool = False,
    align: str = "left",
    alpha: float = 1.0,
) -> QRectF:
    """Text with a black outline, readable on any picture; ``at`` is on its baseline. Returns what its
    letters cover."""
    drawn, width, covered = _cased(text, round(size_px), name, bold, round(alpha, 2))
    pad = _pad(size_px)
    x = at.x() - {"left": 0.0, "centre": width / 2, "right": width}[align]
    painter.drawImage(round(x) - pad, round(at.y() - 1.1 * round(size_px)) - pad, drawn)
    return covered.translated(x, at.y())


def _pad(size_px: float) -> int:
    return 2 + round(0.1 * size_px)


@lru_cache(maxsize=400)
def _cased(
    text: str, size_px: int, name: str, bold: bool, alpha: float
) -> tuple[QImage, float, QRectF]:
    """The picture of a word, its width, and what it covers around its origin. Kept: stroking letters costs
    more than all else on a plane."""
    chosen, pad = font(size_px, bold), _pad(size_px)
    width = float(QFontMetricsF(chosen).horizontalAdvance(text))
    image = QImage(
        int(width) + 3 + 2 * pad, int(1.5 * size_px) + 2 * pad, QImage.Format_ARGB32_Premultiplied
    )
    image.fill(0)
    path = QPainterPath()
    path.addText(QPointF(pad, pad + 1.1 * size_px), chosen, text)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.Antialiasing)
    painter.setBrush(Qt.NoBrush)
    painter.setPen(casing_pen(max(1.5, size_px * 0.08), 0.9 * alpha))
    painter.drawPath(path)
    painter.fillPath(path, colour(name, alpha))
    painter.end()
    return image, width, path.boundingRect().translated(-pad, -pad - 1.1 * size_px)
