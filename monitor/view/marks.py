"""Marks on a plane that are not contours: needles, letters, scale bar, worst point, messages.

LPS mm onto pane pixels by ``Frame``; sizes in design units times ``scale``.
Invariant: a mark that does not lie near the plane is drawn fainter or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PyQt5.QtCore import QPointF, QRectF
from PyQt5.QtGui import QColor, QFontMetricsF, QPainter, QPainterPath

from monitor.geometry import FloatArray
from monitor.snapshot import NeedleLine
from monitor.view import formats, style
from monitor.view.layout import SMALL_DU
from monitor.view.planes import Frame, Point
from monitor.view.qt import Qt
from monitor.view.translations import text
from monitor.view.viewmodel import ScreenModel, State
from monitor.view.words import Places, Word

NEAR_MM = 4.0
_FAINT, _FAINT_NUMBER = 0.40, 0.60
_BAR_STEPS_MM = (5, 10, 20, 50, 100)
_TICK_DU = 8.0
RING_DU = 13.0
_OUTLINE_POINTS = 48
_MESSAGE_PAD_DU, _ROW_STEP = 40.0, 1.35


def draw_needles(
    painter: QPainter,
    needles: Sequence[NeedleLine],
    frame: Frame,
    cursor: Point,
    scale: float,
    places: Places,
) -> None:
    """Each needle from tip to entry: full where it runs near the plane, faint elsewhere."""
    ends = [(np.array(n.tip_lps_mm, float), np.array(n.entry_lps_mm, float)) for n in needles]
    if not ends:
        return
    among = np.mean([frame.to_px(np.stack(e)) for e in ends], axis=0)
    for needle, (tip, entry) in zip(needles, ends, strict=True):
        style.stroke(painter, _segment(frame, tip, entry), "needle", 2.4 * scale, alpha=_FAINT)
        near = _near_part(tip, entry, frame.plane.across, cursor)
        if near is not None:
            style.stroke(painter, _segment(frame, *near), "needle", 2.8 * scale)
        line = frame.to_px(np.stack([tip, entry]))
        alpha = 1.0 if near is not None else _FAINT_NUMBER
        number = places.choose(_numbers(needle.number, line, line - among, frame, scale, alpha))
        if number is not None:
            number.draw(painter)


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


def _numbers(
    number: int,
    line: FloatArray,
    apart: FloatArray,
    frame: Frame,
    scale: float,
    alpha: float,
) -> list[Word]:
    """Places of the number of the needle along ``line`` (tip, entry): beside it, best as far from the
    tip as can be, and on the side that lies ``apart`` from the middle of all needles, so that of two
    needles close together each has its own."""
    size, pad = 32 * scale, 40 * scale
    found = []
    for share in np.linspace(0.92, 0.0, 24):
        x, y = line[0] + share * (line[1] - line[0])
        if pad < x < frame.width_px - pad and 2.4 * pad < y < frame.height_px - 1.5 * pad:
            right, down = apart[0] + share * (apart[1] - apart[0])
            for across, along in _beside(right, down):
                at = QPointF(x + 0.3 * across * size, y + 1.1 * along * size)
                align = "left" if across > 0 else "right"
                found.append(Word(str(number), at, size, "needle", True, align, alpha))
    return found


def _beside(right: float, down: float) -> list[tuple[int, int]]:
    """(right or left, below or level or above) of a point, the best first."""
    side, row = (1 if right > -0.5 else -1), (1 if down > 0 else -1)
    return [(side, 0), (side, row), (-side, 0), (-side, row), (side, -row), (-side, -row)]


def worst_point(at: Point | None, frame: Frame, cursor: Point) -> QPointF | None:
    """Where the point of the smallest margin is marked, if the plane passes it."""
    if at is None or abs(at[frame.plane.across] - cursor[frame.plane.across]) > NEAR_MM:
        return None
    return QPointF(*frame.to_px(np.array(at)))


def ring(painter: QPainter, centre: QPointF, radius: float, scale: float) -> None:
    """The mark itself, for the planes and the legend."""
    path = QPainterPath()
    path.addEllipse(centre, radius, radius)
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        path.moveTo(centre + QPointF(dx, dy) * (0.55 * radius))
        path.lineTo(centre + QPointF(dx, dy) * (1.45 * radius))
    style.stroke(painter, path, "mark", 2.2 * scale)


def draw_name(
    painter: QPainter, name: str, outline: QPainterPath, pane: QRectF, size: float, places: Places
) -> None:
    """A structure's name: inside it where there is room, else on its outline."""
    visible = outline.boundingRect().intersected(pane)
    if outline.isEmpty() or visible.isEmpty():
        return
    pad = 0.5 * size
    room = pane.adjusted(pad, pad, -pad, -pad)
    down = QPointF(0.0, size / 3)
    chosen = places.choose(
        [
            Word(name, at + down, size, "critical", True, "centre").inside(room)
            for at in _name_points(outline, visible, size)
        ]
    )
    if chosen is not None:
        chosen.draw(painter)


def _name_points(outline: QPainterPath, visible: QRectF, size: float) -> list[QPointF]:
    """Its middle, rows above and below, then points of the outline, the nearest to the middle first.
    The middle of a thin, bent structure (skin) is not in it."""
    middle = visible.center()
    rows = [middle + QPointF(0.0, 1.3 * size * row) for row in (0, -1, 1, -2, 2, -3, 3)]
    inside = [p for p in rows if visible.contains(p) and outline.contains(p)]
    steps = np.linspace(0, outline.elementCount() - 1, _OUTLINE_POINTS).astype(int)
    edge = [QPointF(outline.elementAt(int(i))) for i in steps]
    edge.sort(key=lambda p: math.hypot(p.x() - middle.x(), p.y() - middle.y()))
    return inside + [p for p in edge if visible.contains(p)] or [middle]


def letters(frame: Frame, scale: float, language: str) -> list[Word]:
    """Orientation letters in the middle of each edge."""
    left, right, top, bottom = (text(language, f"letter.{c}") for c in frame.plane.letters)
    size, w, h = 40 * scale, frame.width_px, frame.height_px
    middle = h / 2 + 0.36 * size
    return [
        Word(letter, QPointF(x, y), size, "text", True, align)
        for letter, x, y, align in (
            (left, 14 * scale, middle, "left"),
            (right, w - 14 * scale, middle, "right"),
            (top, w / 2, 1.05 * size, "centre"),
            (bottom, w / 2, h - 0.35 * size, "centre"),
        )
    ]


def draw_scale_bar(painter: QPainter, frame: Frame, scale: float) -> None:
    """The bar whose length ``scale_caption`` says."""
    _, left, right, y = _scale_bar(frame, scale)
    tick = _TICK_DU * scale
    path = QPainterPath(QPointF(left, y - tick))
    for point in (QPointF(left, y), QPointF(right, y), QPointF(right, y - tick)):
        path.lineTo(point)
    style.stroke(painter, path, "text", 2.4 * scale)


def scale_caption(frame: Frame, scale: float) -> Word:
    length_mm, left, right, y = _scale_bar(frame, scale)
    at = QPointF((left + right) / 2, y - 1.2 * _TICK_DU * scale)
    size = SMALL_DU * scale
    pane = QRectF(0.0, 0.0, frame.width_px - 6.0 * scale, float(frame.height_px))
    return Word(f"{length_mm}{formats.NBSP}mm", at, size, align="centre").inside(pane)


def _scale_bar(frame: Frame, scale: float) -> tuple[int, float, float, float]:
    """(mm, left, right, bottom): the longest round length that takes at most a quarter of the pane."""
    fitting = [mm for mm in _BAR_STEPS_MM if mm * frame.px_per_mm <= 0.25 * frame.width_px]
    length_mm = fitting[-1] if fitting else _BAR_STEPS_MM[0]
    right, y = frame.width_px - 18 * scale, frame.height_px - 18 * scale
    return length_mm, right - length_mm * frame.px_per_mm, right, y


@dataclass(frozen=True)
class Message:
    """What the state has to say: (words, size, bold) of each row, from ``top`` down. ``box`` is what
    it covers of a picture; None on a blank plane."""

    rows: list[tuple[str, float, bool]]
    top: float
    box: QRectF | None


def message(pane: QRectF, model: ScreenModel, scale: float) -> Message | None:
    """The message of a state, in the middle of a blank plane or at the foot of a picture."""
    if not model.message:
        return None
    blank = not model.layers.image
    rows = _rows(
        model.message,
        (46 if blank else 34) * scale,
        (34 if blank else SMALL_DU) * scale,
        pane.width() - 2 * _MESSAGE_PAD_DU * scale,
        model.state is not State.DEGRADED,
    )
    height = sum(_ROW_STEP * size for _, size, _ in rows)
    top = pane.center().y() - height / 2 if blank else pane.bottom() - height - 76 * scale
    return Message(rows, top, None if blank else _box(rows, pane, top, height, scale))


@dataclass(frozen=True)
class Banner:
    """Another time than now, at the foot of a plane: dark on light, all of it on the main plane."""

    rows: list[str]
    size: float
    box: QRectF


def banner(pane: QRectF, looking: Sequence[str], scale: float, main: bool) -> Banner | None:
    if not looking:
        return None
    size = (35 if main else SMALL_DU) * scale
    said = looking[1:] if main else looking[:1]
    rows = [row for words in said for row in wrapped(words, size, True, pane.width() - 24 * scale)]
    height = _ROW_STEP * size * len(rows) + 8 * scale
    return Banner(rows, size, QRectF(pane.left(), pane.bottom() - height, pane.width(), height))


def draw_banner(painter: QPainter, said: Banner, scale: float) -> None:
    painter.fillRect(said.box, style.colour("look"))
    step = _ROW_STEP * said.size
    for i, row in enumerate(said.rows):
        top = said.box.top() + 4 * scale + step * i
        box = QRectF(said.box.left(), top, said.box.width(), step)
        style.draw_text(painter, box, row, said.size, "look_text", True, Qt.AlignCenter)


def draw_frame(painter: QPainter, pane: QRectF, model: ScreenModel, scale: float) -> None:
    """The state's frame around a plane, broken where it shows another time than now."""
    if model.frame is None:
        return
    inset = 4.0 * scale
    dash = "dashed" if model.frame == "look" else "solid"
    painter.setPen(style.line_pen(model.frame, 2 * inset, dash))
    painter.setBrush(Qt.NoBrush)
    painter.drawRect(pane.adjusted(inset, inset, -inset, -inset))


def draw_message(painter: QPainter, pane: QRectF, said: Message, scale: float) -> None:
    if said.box is not None:
        painter.setPen(Qt.NoPen)
        painter.setBrush(QColor(10, 12, 14, 205))
        painter.drawRoundedRect(said.box, 8 * scale, 8 * scale)
    pad, top = _MESSAGE_PAD_DU * scale, said.top
    for row, size, bold in said.rows:
        rect = QRectF(pane.left() + pad, top, pane.width() - 2 * pad, _ROW_STEP * size)
        style.draw_text(painter, rect, row, size, "text", bold, Qt.AlignCenter)
        top += _ROW_STEP * size


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
    rows: list[tuple[str, float, bool]], pane: QRectF, top: float, height: float, scale: float
) -> QRectF:
    wide = (
        max(QFontMetricsF(style.font(s, b)).horizontalAdvance(t) for t, s, b in rows) + 44 * scale
    )
    wide = min(wide, pane.width() - 40 * scale)
    return QRectF(pane.center().x() - wide / 2, top - 8 * scale, wide, height + 16 * scale)


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
