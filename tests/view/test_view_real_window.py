"""The view's process on a real X server, its window typed at by xdotool. Skips where either is missing.

Invariant: what the operator types in a real window arrives, and what is painted there is what is rendered.
"""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from desktop import until
from PIL import Image
from x_server import x_server

from monitor.snapshot import Snapshot
from monitor.view.process import ViewOptions, run_view

pytestmark = pytest.mark.skipif(
    not (shutil.which("Xvfb") and shutil.which("xdotool")), reason="needs Xvfb and xdotool"
)
_SPAWN = multiprocessing.get_context("spawn")
PATIENCE_S = 60.0


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with x_server() as server:
        monkeypatch.setenv("DISPLAY", server.name)
        monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
        yield server.name


@pytest.fixture
def view(display: str) -> Iterator[Connection]:
    ours, theirs = _SPAWN.Pipe()
    options = ViewOptions(size=(1920, 1080))
    process = _SPAWN.Process(target=run_view, args=(theirs, options), daemon=True)
    process.start()
    theirs.close()
    yield ours
    if process.is_alive():
        ours.send(("quit",))
        process.join(20)
    if process.is_alive():
        process.terminate()


def received(conn: Connection, kind: Any) -> Any:
    while True:
        assert conn.poll(PATIENCE_S)
        message = conn.recv()
        if (isinstance(message, dict) and message.get("act") == kind) or message[0:1] == (kind,):
            return message


def type_keys(*keys: str) -> None:
    found = until(
        lambda: subprocess.run(
            ["xdotool", "search", "--name", "iceball-monitor"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.split(),
        "window called iceball-monitor",
    )
    subprocess.run(["xdotool", "windowfocus", "--sync", found[0]], check=False, timeout=20)
    subprocess.run(["xdotool", "key", "--delay", "150", *keys], check=True, timeout=20)


def render(conn: Connection, normal: Snapshot, path: Path) -> np.ndarray:
    conn.send(("snapshot", replace(normal, seq=99)))
    conn.send(("render", str(path)))
    assert received(conn, "rendered")[1] == str(path)
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_keys_typed_at_a_real_window_act_and_look_back(
    view: Connection, normal: Snapshot, tmp_path: Path
) -> None:
    before = render(view, normal, tmp_path / "before.png")
    assert before.shape == (1080, 1920, 3)
    type_keys("f")
    assert received(view, "phase_next") == {"act": "phase_next"}
    type_keys("Left")
    looking = render(view, normal, tmp_path / "back.png")
    banner = looking[645:715, 100:800]
    assert (banner > 200).all(-1).mean() > 0.4, "the planes say that they do not show now"
    type_keys("End")
    after = render(view, normal, tmp_path / "after.png")
    assert (np.abs(after[80:600, :900] - before[80:600, :900]).max(-1) > 40).mean() < 0.002
