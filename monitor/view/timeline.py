"""A procedure over time as one picture: coverage, minimal margin, ice volume. Minutes, %, mm, ml.

Measured values are points at the time of their scan; a reference (a simulator's truth) is a dashed
line, labelled as such. Invariant: a value that was not measured leaves a gap, never a zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitor.view.palette import COLOURS
from monitor.view.platform import prepare

SIZE = (1280, 900)
_NUMBERS_PX = 60


@dataclass(frozen=True)
class Series:
    """One plot: ``measured`` and, where there is one, ``reference``, both with NaN for unknown, and what
    to call them."""

    title: str
    minutes: Sequence[float]
    measured: Sequence[float]
    reference: Sequence[float] | None = None
    names: tuple[str, str] = ("measured", "simulator's truth")


def save_timeline(path: Path, heading: str, plots: Sequence[Series]) -> None:
    """Draws the plots below each other into a PNG, without a display."""
    prepare(window=False)
    import pyqtgraph
    from PyQt5.QtWidgets import QApplication

    from monitor.view.style import load_fonts

    app = QApplication.instance() or QApplication([])
    load_fonts()
    pyqtgraph.setConfigOptions(background="#15181B", foreground="#E8E8E8", antialias=True)
    widget = pyqtgraph.GraphicsLayoutWidget(size=SIZE)
    widget.addLabel(heading, size="16pt")
    for plot in plots:
        widget.nextRow()
        _draw(widget.addPlot(title=plot.title), plot)
    widget.show()
    app.processEvents()
    saved = widget.grab().save(str(path), "PNG")
    widget.close()
    if not saved:
        raise OSError(f"{path}: cannot be written")


def _draw(axes: Any, plot: Series) -> None:
    import pyqtgraph

    minutes = np.asarray(plot.minutes, float)
    axes.addLegend(offset=(-10, -10))
    axes.showGrid(x=True, y=True, alpha=0.3)
    axes.setLabel("bottom", "minutes since the baseline")
    axes.getAxis("left").setWidth(
        _NUMBERS_PX
    )  # grown by itself it would be too late for the picture
    if plot.reference is not None:
        dashed = pyqtgraph.mkPen("#E69F00", width=2, style=2)
        axes.plot(
            minutes,
            np.asarray(plot.reference, float),
            pen=dashed,
            connect="finite",
            name=plot.names[1],
        )
    axes.plot(
        minutes,
        np.asarray(plot.measured, float),
        pen=pyqtgraph.mkPen(COLOURS["ice"], width=2),
        connect="finite",
        symbol="o",
        symbolBrush=COLOURS["ice"],
        name=plot.names[0],
    )
