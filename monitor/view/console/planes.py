"""The console's three planes: a large one over two small ones, any of them the large one. Logical pixels.

Invariant: each plane is shown once, and each can be drawn on.
"""

from __future__ import annotations

from PyQt5.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from monitor.view.console.pane import EditPane
from monitor.view.console.shown import Shown
from monitor.view.planes import PLANES

_LARGE, _SMALL = 13, 8
_LEAST = ((320, 200), (150, 120))


class Planes(QWidget):
    """``panes``: the large one first."""

    def __init__(self, shown: Shown) -> None:
        super().__init__()
        self.panes = [EditPane(shown, plane, plane is PLANES[0], self) for plane in PLANES]
        column, row = QVBoxLayout(self), QHBoxLayout()
        for box in (column, row):
            box.setContentsMargins(0, 0, 0, 0)
            box.setSpacing(4)
        column.addWidget(self.panes[0], _LARGE)
        column.addLayout(row, _SMALL)
        for pane in self.panes:
            pane.setMinimumSize(*_LEAST[not pane.main])
            pane.turned.connect(lambda of=pane: self.enlarge(of))
            if not pane.main:
                row.addWidget(pane, 1)

    @property
    def main(self) -> EditPane:
        return self.panes[0]

    def enlarge(self, pane: EditPane) -> None:
        """Its plane becomes the large one; of the large one itself the next."""
        at = max(self.panes.index(pane), 1)
        planes = [p.plane for p in self.panes]
        planes[0], planes[at] = planes[at], planes[0]
        if pane.main:  # so that all come in turn
            planes[1:] = planes[:0:-1]
        for p, plane in zip(self.panes, planes, strict=True):
            p.plane = plane
            p.update()
        self.take_keys()

    def take_keys(self) -> None:
        self.main.setFocus()

    def rescale(self, scale: float) -> None:
        for pane in self.panes:
            pane.scale = scale
