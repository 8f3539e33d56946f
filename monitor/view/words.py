"""Words on a plane: what is written where, and where there is room for one more. Pane pixels.

Invariant: a word that can be moved never covers one that was there before while it has a place that
covers none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from PyQt5.QtCore import QPointF, QRectF
from PyQt5.QtGui import QFontMetricsF, QPainter

from monitor.view import style

# The black outline of a word, and a little air, as a share of its size.
_AIR = 0.15


@dataclass(frozen=True)
class Word:
    """``at`` is on the baseline: the word's left end, its right one or its centre, as ``align`` says."""

    text: str
    at: QPointF
    size_px: float
    colour: str = "text"
    bold: bool = False
    align: str = "left"
    alpha: float = 1.0

    def box(self) -> QRectF:
        """What it covers, its outline included."""
        width, tight = _measured(self.text, self.size_px, self.bold)
        x = self.at.x() - {"left": 0.0, "centre": width / 2, "right": width}[self.align]
        air = _AIR * self.size_px
        return tight.translated(x, self.at.y()).adjusted(-air, -air, air, air)

    def inside(self, pane: QRectF) -> Word:
        """The same word, moved as little as brings it into ``pane``."""
        box = self.box()
        dx = max(pane.left() - box.left(), 0.0) - max(box.right() - pane.right(), 0.0)
        dy = max(pane.top() - box.top(), 0.0) - max(box.bottom() - pane.bottom(), 0.0)
        return replace(self, at=self.at + QPointF(dx, dy))

    def right_of(self, boxes: Iterable[QRectF]) -> Word:
        """The same word, moved to the right until it covers none of these."""
        word = self
        for box in sorted(boxes, key=lambda b: b.right()):
            if not box.intersected(word.box()).isEmpty():
                word = replace(word, at=word.at + QPointF(box.right() - word.box().left(), 0.0))
        return word

    def draw(self, painter: QPainter) -> None:
        style.draw_cased(
            painter,
            self.at,
            self.text,
            self.size_px,
            self.colour,
            self.bold,
            self.align,
            self.alpha,
        )


@lru_cache(maxsize=512)
def _measured(text: str, size_px: float, bold: bool) -> tuple[float, QRectF]:
    """Its width, and what its letters cover around the origin: asked for many places of one word."""
    metrics = QFontMetricsF(style.font(size_px, bold))
    return metrics.horizontalAdvance(text), metrics.tightBoundingRect(text)


class Places:
    """What of a pane must not be written over."""

    def __init__(self, taken: Iterable[QRectF] = ()) -> None:
        self._taken = list(taken)

    def take(self, box: QRectF) -> None:
        self._taken.append(box)

    def choose(self, words: Sequence[Word]) -> Word | None:
        """The first of these places of a word that covers nothing, or the one that covers least; it
        is taken from now on. None when there is no place at all."""
        if not words:
            return None
        chosen, least = words[0], float("inf")
        for word in words:
            covered = self._covered(word.box())
            if covered < least:
                chosen, least = word, covered
            if covered == 0.0:
                break
        self.take(chosen.box())
        return chosen

    def _covered(self, box: QRectF) -> float:
        overlaps = (box.intersected(taken) for taken in self._taken)
        return sum(o.width() * o.height() for o in overlaps if not o.isEmpty())
