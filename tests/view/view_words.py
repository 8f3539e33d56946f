"""Every text that is drawn, caught on its way to the painter: where it is, how large, whether whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from PyQt5.QtCore import QPointF, QRectF, Qt
from PyQt5.QtGui import QFontMetricsF

from monitor.view import style


@dataclass(frozen=True)
class Drawn:
    """``box`` is what its letters cover, in pixels of the part it is drawn on."""

    text: str
    box: QRectF
    size_px: float
    whole: bool
    cased: bool


@contextmanager
def caught(monkeypatch: Any) -> Iterator[list[Drawn]]:
    """Texts drawn within the block, by the very functions that draw them."""
    found: list[Drawn] = []
    draw_text, draw_cased = style.draw_text, style.draw_cased

    def text(
        painter: Any,
        rect: QRectF,
        words: str,
        size_px: float,
        name: str,
        bold: bool = False,
        align: int = Qt.AlignLeft | Qt.AlignVCenter,
    ) -> float:
        shown, chosen = style.fitted(words, size_px, bold, rect.width())
        metrics = QFontMetricsF(chosen)
        line = metrics.boundingRect(rect, int(align) | int(Qt.TextSingleLine), shown)
        tight = metrics.tightBoundingRect(shown)
        box = QRectF(
            line.left(), line.top() + metrics.ascent() + tight.top(), tight.width(), tight.height()
        )
        if shown.strip():
            found.append(Drawn(words, box, chosen.pixelSize(), shown == words, False))
        return draw_text(painter, rect, words, size_px, name, bold, align)

    def cased(
        painter: Any, at: QPointF, words: str, size_px: float, *how: Any, **named: Any
    ) -> Any:
        box = draw_cased(painter, at, words, size_px, *how, **named)
        if words.strip():
            found.append(Drawn(words, box, style.font(size_px).pixelSize(), True, True))
        return box

    with monkeypatch.context() as patched:
        patched.setattr(style, "draw_text", text)
        patched.setattr(style, "draw_cased", cased)
        yield found
