"""Marks on a plane that are not contours: needles, letters, scale bar, worst point, messages.

LPS mm onto pane pixels by ``Frame``; sizes in design units times ``scale``.
Invariant: a mark that does not lie near the plane is drawn fainter or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PyQt5.QtCore import QPointF, QRectF
from PyQt5.QtGui import QColor, QFontMetricsF, QPainter, QPainterPath

from monitor.model import NeedleLine
from monitor.view import formats, style
from monitor.view.planes import Frame, Point
from monitor.view.qt import Qt
from monitor.view.translations import text
from monitor.view.viewmodel import ScreenModel, State

NEAR_MM = 4.0
_FAINT = 0.40
_BAR_STEPS_MM = (5, 10, 20, 50, 100)


def draw_needles(
    painter: QPainter, needles: Sequence[NeedleLine], frame: Frame, cursor: Point, scale: float
) -> None:
    """Each needle from tip to entry: full where it runs near the plane, faint elsewhere."""
    for needle in needles:
        tip, entry = np.array(needle.tip_lps_mm, float), np.array(needle.entry_lps_mm, float)
        style.stroke(painter, _segment(frame, tip, entry), "needle", 2.4 * scale, alpha=_FAINT)
        near = _near_part(tip, entry, frame.plane.across, cursor)
        if near is not None:
            style.stroke(painter, _segment(frame, *near), "needle", 2.8 * scale)
        _number(painter, needle.number, frame, tip, entry, scale, near is not None)


def _segment(frame: Frame, a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> QPainterPath:
    ends = frame.to_px(np.stack([a, b]))
    path = QPainterPath(QPointF(*ends[0]))
    path.lineTo(QPointF(*ends[1]))
    return path


def _near_part(
    tip: npt.NDArray[np.float64], entry: npt.NDArray[np.float64], axis: int, cursor: Point
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """The part of a needle within ``NEAR_MM`` of the plane."""
    start, end = tip[axis] - cursor[axis], entry[axis] - cursor[axis]
    if abs(end - start) < 1e-9:
        return (tip, entry) if abs(start) <= NEAR_MM else None
    t = np.sort((np.array([-NEAR_MM, NEAR_MM]) - start) / (end - start))
    low, high = max(0.0, float(t[0])), min(1.0, float(t[1]))
    if low >= high:
        return None
    return tip + low * (entry - tip), tip + high * (entry - tip)


def _number(
    painter: QPainter,
    number: int,
    frame: Frame,
    tip: npt.NDArray[np.float64],
    entry: npt.NDArray[np.float64],
    scale: float,
    near: bool,
) -> None:
    """The needle's number beside it, as far from the tip as the pane allows."""
    size, pad = 28 * scale, 40 * scale
    a, b = frame.to_px(np.stack([tip, entry]))
    for share in np.linspace(0.92, 0.0, 24):
        x, y = a + share * (b - a)
        if pad < x < frame.width_px - pad and 2.4 * pad < y < frame.height_px - 1.5 * pad:
            style.draw_cased(
                painter,
                QPointF(x + 0.3 * size, y),
                str(number),
                size,
                "needle",
                True,
                alpha=1.0 if near else 0.6,
            )
            return


def draw_worst(
    painter: QPainter, at: Point | None, frame: Frame, cursor: Point, scale: float
) -> None:
    """A ring around the point of the smallest margin, where the plane passes it."""
    if at is None or abs(at[frame.plane.across] - cursor[frame.plane.across]) > NEAR_MM:
        return
    ring(painter, QPointF(*frame.to_px(np.array(at))), 13 * scale, scale)


def ring(painter: QPainter, centre: QPointF, radius: float, scale: float) -> None:
    """The mark itself, for the planes and the legend."""
    path = QPainterPath()
    path.addEllipse(centre, radius, radius)
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        path.moveTo(centre + QPointF(dx, dy) * (0.55 * radius))
        path.lineTo(centre + QPointF(dx, dy) * (1.45 * radius))
    style.stroke(painter, path, "mark", 2.2 * scale)


def draw_letters(painter: QPainter, frame: Frame, scale: float, language: str) -> None:
    """Orientation letters in the middle of each edge."""
    left, right, top, bottom = (text(language, f"letter.{c}") for c in frame.plane.letters)
    size, w, h = 40 * scale, frame.width_px, frame.height_px
    middle = h / 2 + 0.36 * size
    for letter, x, y, align in (
        (left, 14 * scale, middle, "left"),
        (right, w - 14 * scale, middle, "right"),
        (top, w / 2, 1.05 * size, "centre"),
        (bottom, w / 2, h - 0.35 * size, "centre"),
    ):
        style.draw_cased(painter, QPointF(x, y), letter, size, "text", True, align)


def draw_scale_bar(painter: QPainter, frame: Frame, scale: float, main: bool) -> None:
    """The longest round length that takes at most a quarter of the pane."""
    fitting = [mm for mm in _BAR_STEPS_MM if mm * frame.px_per_mm <= 0.25 * frame.width_px]
    length_mm = fitting[-1] if fitting else _BAR_STEPS_MM[0]
    size = (26 if main else 21) * scale
    right, y = frame.width_px - 18 * scale, frame.height_px - 18 * scale
    left, tick = right - length_mm * frame.px_per_mm, 8 * scale
    path = QPainterPath(QPointF(left, y - tick))
    for point in (QPointF(left, y), QPointF(right, y), QPointF(right, y - tick)):
        path.lineTo(point)
    style.stroke(painter, path, "text", 2.4 * scale)
    caption = f"{length_mm}{formats.NBSP}mm"
    style.draw_cased(
        painter, QPointF((left + right) / 2, y - 1.2 * tick), caption, size, "text", align="centre"
    )


def draw_message(painter: QPainter, pane: QRectF, model: ScreenModel, scale: float) -> None:
    """What the state has to say, in the middle of a blank plane or at the foot of a picture."""
    if not model.message:
        return
    blank = not model.layers.image
    width = pane.width() - 2 * 40 * scale
    rows = _rows(
        model.message,
        (46 if blank else 34) * scale,
        (32 if blank else 28) * scale,
        width,
        model.state is not State.DEGRADED,
    )
    height = sum(1.35 * size for _, size, _ in rows)
    top = pane.center().y() - height / 2 if blank else pane.bottom() - height - 76 * scale
    if not blank:
        _box(painter, rows, pane, top, height, scale)
    for row, size, bold in rows:
        rect = QRectF(pane.left() + 40 * scale, top, width, 1.35 * size)
        style.draw_text(painter, rect, row, size, "text", bold, Qt.AlignCenter)
        top += 1.35 * size


def _rows(
    message: Sequence[str], first_px: float, other_px: float, width: float, titled: bool
) -> list[tuple[str, float, bool]]:
    """(words, size, bold) of each row: a bold title if there is one, smaller lines, all wrapped."""
    sizes = [first_px if titled else other_px] + [other_px] * (len(message) - 1)
    return [
        (row, size, i == 0 and titled)
        for i, (words, size) in enumerate(zip(message, sizes, strict=True))
        for row in wrapped(words, size, i == 0 and titled, width)
    ]


def _box(
    painter: QPainter,
    rows: list[tuple[str, float, bool]],
    pane: QRectF,
    top: float,
    height: float,
    scale: float,
) -> None:
    wide = (
        max(QFontMetricsF(style.font(s, b)).horizontalAdvance(t) for t, s, b in rows) + 44 * scale
    )
    wide = min(wide, pane.width() - 40 * scale)
    box = QRectF(pane.center().x() - wide / 2, top - 8 * scale, wide, height + 16 * scale)
    painter.setPen(Qt.NoPen)
    painter.setBrush(QColor(10, 12, 14, 205))
    painter.drawRoundedRect(box, 8 * scale, 8 * scale)


def wrapped(message: str, size_px: float, bold: bool, width_px: float) -> list[str]:
    """The message in rows no wider than ``width_px`` (a longer word is left to be shrunk)."""
    metrics, rows = QFontMetricsF(style.font(size_px, bold)), [""]
    for word in message.split(" "):
        longer = f"{rows[-1]} {word}".strip()
        if rows[-1] and metrics.horizontalAdvance(longer) > width_px:
            rows.append(word)
        else:
            rows[-1] = longer
    return rows
