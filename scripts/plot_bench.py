"""Draws docs/images/bench_scaling.png from the JSON of `iceball bench --scaling --json FILE`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

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
        plot.setLogMode(x=True, y=True)
        plot.setLabel("bottom", unit)
        plot.setLabel("left", "wall time, s")
        plot.showGrid(x=True, y=True, alpha=0.3)
        rows = scaling[key]
        plot.plot([r[name] for r in rows], [r["wall_s"] for r in rows], pen=pg.mkPen("b", width=2),
                  symbol="o")  # fmt: skip
    layout.show()
    pg.QtWidgets.QApplication.processEvents()
    ImageExporter(layout.scene()).export(str(picture))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
