"""How long the screen takes to redraw, in milliseconds: `python tests/view/bench_view.py`.

Three planes of a 40 × 512 × 512 volume with all overlays, software rendering. Medians of 20, of the time
on the clock and of the processor's time in this process, which others on the machine take less from.
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

from monitor.view.planes import SAGITTAL
from monitor.view.style import load_fonts
from monitor.view.views import Views
from monitor.view.window import RoomWindow

_RUNS = 20


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

    def nothing_new() -> None:
        window.show_snapshot(replace(normal, seq=count[0]))

    def repaint() -> None:
        window.render(image)

    def predict() -> None:
        window.show_snapshot(replace(normal, now_utc_s=normal.now_utc_s + 3.0 * count[0]))

    def scroll() -> None:
        window.scroll_plane(1 if count[0] % 2 else -1)

    def language() -> None:
        """Every layer of every part anew, words and all."""
        window.switch_language()

    def new_scan() -> None:
        window.show_snapshot(next(scans))

    def bodies() -> None:
        window.solid.turn(1)

    scans = iter([_scan(normal, folder, f"{size[0]}_{i}") for i in range(_RUNS)])
    for name, act in (
        ("nothing new (no repaint)", nothing_new),
        ("whole window painted", repaint),
        ("prediction moves", predict),
        ("axial scroll", scroll),
        ("all layers and words anew", language),
        ("new scan, all contours", new_scan),
    ):
        wall_ms, cpu_ms = _medians(act, count, app, window)
        print(f"{size[0]}x{size[1]} {name:26s} {wall_ms:6.1f} ms, {cpu_ms:6.1f} ms of CPU")
    while window.scene.views.third != "dose":
        window.show_views(Views.next_third)
    for name, act in (
        ("cold, prediction moves", predict),
        ("cold, sagittal scroll", lambda: window.scroll_plane(2 * (count[0] % 2) - 1, SAGITTAL)),
    ):
        count[0] = 0  # a scan that is too old shows no cold
        wall_ms, cpu_ms = _medians(act, count, app, window)
        print(f"{size[0]}x{size[1]} {name:26s} {wall_ms:6.1f} ms, {cpu_ms:6.1f} ms of CPU")
    while window.scene.views.third != "solid":
        window.show_views(Views.next_third)
    _medians(bodies, count, app, window)
    wall_ms, cpu_ms = _medians(bodies, count, app, window)
    longest = max(_longest_turn(bodies, app, window) for _ in range(_RUNS))
    print(f"{size[0]}x{size[1]} {'3-D turned':26s} {wall_ms:6.1f} ms, {cpu_ms:6.1f} ms of CPU; "
          f"longest of its turns {longest:.1f} ms")  # fmt: skip
    window.close_for_good()


def _scan(normal: samples.Snapshot, folder: Path, name: str) -> samples.Snapshot:
    """The same again, in files that nobody has opened."""
    names = ("ice_sdf", "ice_inner_sdf", "ice_outer_sdf", "volume")
    files = {n: samples.save(folder, f"{n}{name}", np.load(getattr(normal, n).path)) for n in names}
    return replace(normal, **files)


def _longest_turn(act: Callable[[], None], app: QApplication, window: RoomWindow) -> float:
    """Milliseconds on the clock of the longest turn of the event loop: what a key may have to wait for."""
    act()
    longest = 0.0
    while window.turns.waiting:
        began = time.perf_counter()
        app.processEvents()
        longest = max(longest, time.perf_counter() - began)
    return 1000.0 * longest


def _medians(
    act: Callable[[], None], count: list[int], app: QApplication, window: RoomWindow
) -> tuple[float, float]:
    """(on the clock, of the processor), until nothing is left to be painted."""
    wall, cpu = [], []
    for _ in range(_RUNS):
        count[0] += 1
        started, began = time.perf_counter(), time.process_time()
        act()
        while window.turns.waiting:
            app.processEvents()
        app.processEvents()
        app.processEvents()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - began)
    return float(1000 * np.median(wall)), float(1000 * np.median(cpu))


if __name__ == "__main__":
    main()
