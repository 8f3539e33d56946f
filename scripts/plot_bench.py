"""Draws docs/images/bench_scaling.png from the JSON of `iceball bench --scaling --json FILE`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
import pyqtgraph as pg
from pyqtgraph.exporters import ImageExporter


def main(result: Path, picture: Path) -> None:
    scaling: dict[str, Any] = json.loads(result.read_text())["scaling"]
    pg.mkQApp()
    pg.setConfigOptions(background="w", foreground="k", antialias=True)
    layout = pg.GraphicsLayoutWidget(size=(1100, 420))
    for key, name, unit in (("grids", "voxels", "voxels along each side (2 mm)"),
                            ("members", "members", "ensemble members (48³)")):  # fmt: skip
        plot = layout.addPlot(title="10 minutes of freezing")
        rows = scaling[key]
        sizes, walls = [r[name] for r in rows], [r["wall_s"] for r in rows]
        plot.plot(np.log10(sizes), np.log10(walls), pen=pg.mkPen("b", width=2), symbol="o")
        plot.setLabel("bottom", unit)
        plot.setLabel("left", "wall time, s")
        plot.getAxis("bottom").setTicks([[(float(np.log10(v)), str(v)) for v in sizes]])
        marks = [v for v in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
                 if 0.8 * min(walls) < v < 1.2 * max(walls)]  # fmt: skip
        plot.getAxis("left").setTicks([[(float(np.log10(v)), f"{v:g}") for v in marks]])
        plot.showGrid(x=True, y=True, alpha=0.3)
    layout.show()
    pg.QtWidgets.QApplication.processEvents()
    ImageExporter(layout.scene()).export(str(picture))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
