"""How long the screen takes to redraw, in milliseconds: `python tests/view/bench_view.py`.

Three planes of a 40 × 512 × 512 volume, 15 contours, software rendering. Medians of 20.
"""

from __future__ import annotations

import os

os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["QT_FONT_DPI"] = "96"

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import view_samples as samples
from PyQt5.QtGui import QImage
from PyQt5.QtWidgets import QApplication

from monitor.view.style import load_fonts
from monitor.view.window import RoomWindow


def main() -> None:
    app = QApplication([])
    load_fonts()
    folder = Path(tempfile.mkdtemp())
    geometry = samples.aligned_geometry((40, 512, 512), (3.0, 0.7, 0.7))
    normal = samples.snapshot(folder, geometry)
    for size in ((1920, 1080), (3840, 2160)):
        _measure(app, normal, size, folder)


def _measure(
    app: QApplication, normal: samples.Snapshot, size: tuple[int, int], folder: Path
) -> None:
    mono = [0.0]
    window = RoomWindow(lambda act: None, mono=lambda: mono[0])
    window.resize(*size)
    window.show()
    image = QImage(window.size(), QImage.Format_RGB32)
    count = [0]

    def paint() -> None:
        app.processEvents()
        window.render(image)

    def nothing_new() -> None:
        window.show_snapshot(replace(normal, seq=count[0]))
        app.processEvents()

    def repaint() -> None:
        window.show_snapshot(replace(normal, seq=count[0]))
        paint()

    def predict() -> None:
        window.show_snapshot(replace(normal, now_utc_s=normal.now_utc_s + 3.0 * count[0]))
        paint()

    def scroll() -> None:
        window.scroll_plane(1 if count[0] % 2 else -1)
        paint()

    def new_scan() -> None:
        ice = samples.save(folder, f"ice{size[0]}_{count[0]}", np.load(normal.ice_sdf.path))
        volume = samples.save(folder, f"v{size[0]}_{count[0]}", np.load(normal.volume.path))
        started = time.perf_counter()
        window.show_snapshot(replace(normal, ice_sdf=ice, volume=volume))
        paint()
        os.remove(volume.path)
        spent.append(time.perf_counter() - started)

    spent: list[float] = []
    for name, act in (("nothing new (no repaint)", nothing_new), ("whole repaint", repaint),
                      ("prediction moves", predict), ("axial scroll", scroll)):  # fmt: skip
        print(f"{size[0]}x{size[1]} {name:26s} {_median(act, count):6.1f} ms")
    _median(new_scan, count)
    print(f"{size[0]}x{size[1]} {'new scan, all contours':26s} {1000 * np.median(spent):6.1f} ms")
    window.close_for_good()


def _median(act: Callable[[], None], count: list[int]) -> float:
    times = []
    for _ in range(20):
        count[0] += 1
        started = time.perf_counter()
        act()
        times.append(time.perf_counter() - started)
    return float(1000 * np.median(times))


if __name__ == "__main__":
    main()
