"""The view as a process: snapshots over a pipe, pictures per scan, an end when the core is gone."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import view_samples as samples
from PyQt5.QtGui import QImage

from monitor.snapshot import Snapshot
from monitor.view.process import ViewOptions, run_view

_SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def view(tmp_path: Path) -> Iterator[tuple[Connection, Any, Path]]:
    ours, theirs = _SPAWN.Pipe()
    options = ViewOptions(window=False, png_dir=str(tmp_path / "screens"), clock_speed=5.0)
    process = _SPAWN.Process(target=run_view, args=(theirs, options), daemon=True)
    process.start()
    theirs.close()
    yield ours, process, tmp_path
    if process.is_alive():
        process.terminate()
    process.join(10)


def as_scan(normal: Snapshot, volume_id: str) -> Snapshot:
    assert normal.assessment is not None
    return replace(
        normal, volume_id=volume_id, assessment=replace(normal.assessment, volume_id=volume_id)
    )


def test_a_picture_per_scan_and_a_final_one(view: Any, normal: Snapshot) -> None:
    conn, process, folder = view
    for volume_id in ("v002", "v003", "v004"):
        for _ in range(5):
            conn.send(("snapshot", as_scan(normal, volume_id)))
    conn.send(("render", str(folder / "asked.png")))
    assert conn.poll(20)
    assert conn.recv() == ("rendered", str(folder / "asked.png"))
    conn.send(("quit",))
    process.join(20)
    assert process.exitcode == 0
    names = sorted(p.name for p in (folder / "screens").iterdir())
    assert names == [
        "screen_final.png", "screen_v002.png", "screen_v003.png", "screen_v004.png",
    ]  # fmt: skip
    for path in (*(folder / "screens").iterdir(), folder / "asked.png"):
        image = QImage(str(path))
        assert (image.width(), image.height()) == (1920, 1080)


def test_a_headless_view_ends_with_its_core(view: Any, normal: Snapshot) -> None:
    conn, process, folder = view
    conn.send(("snapshot", normal))
    conn.send(("render", str(folder / "asked.png")))
    assert conn.poll(20)
    conn.close()
    process.join(20)
    assert process.exitcode == 0
    assert (folder / "screens" / "screen_final.png").exists()


def test_a_broken_snapshot_does_not_end_the_view(view: Any, normal: Snapshot) -> None:
    conn, process, folder = view
    conn.send(("snapshot", replace(normal, volume=samples.ArrayRef("/nonexistent.npy"))))
    conn.send(("snapshot", "not a snapshot"))
    conn.send(("render", str(folder / "asked.png")))
    assert conn.poll(20)
    conn.recv()
    conn.send(("snapshot", normal))
    conn.send(("render", str(folder / "again.png")))
    assert conn.poll(20)
    conn.recv()
    assert process.is_alive()
    assert (folder / "again.png").exists()


def test_starting_the_view_does_not_load_qt_into_the_core() -> None:
    code = "import sys, monitor.view.process; print('PyQt5' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.requirement("REQ-ALIVE")
def test_an_exception_in_a_slot_is_shown_and_survived(tmp_path: Path) -> None:
    """PyQt5 aborts the process unless sys.excepthook is replaced."""
    code = """
import os
os.environ["QT_QPA_PLATFORM"] = "offscreen"
from multiprocessing import Pipe
from PyQt5.QtCore import QTimer
from monitor.view import process, window
ours, theirs = Pipe()
init = window.RoomWindow.__init__
def remember(self, *a, **k):
    init(self, *a, **k)
    QTimer.singleShot(200, lambda: 1 / 0)
    QTimer.singleShot(600, lambda: finish(self))
def finish(self):
    self.refresh()
    print(self.model.state.value)
    ours.send(("quit",))
window.RoomWindow.__init__ = remember
process.run_view(theirs, process.ViewOptions(window=False))
print("lived on")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["view_error", "lived on"]
    assert "ZeroDivisionError" in done.stderr


def test_latest_wins(view: Any, normal: Snapshot) -> None:
    """A hundred snapshots of one scan waiting in the pipe do not take a hundred paintings."""
    conn, _, folder = view
    conn.send(("render", str(folder / "ready.png")))
    assert conn.poll(20)
    conn.recv()
    started = time.monotonic()
    for seq in range(100):
        conn.send(("snapshot", replace(normal, seq=seq)))
    conn.send(("render", str(folder / "asked.png")))
    assert conn.poll(20)
    assert time.monotonic() - started < 5.0
