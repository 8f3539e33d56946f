"""Every page of the console, in both languages, beside a picture of it that somebody has looked at.

As ``test_view_references``, which says the tolerance and how the pictures are made anew.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from console_desk import ALARMS, plan_by_mouse, press
from PIL import Image
from PyQt5.QtWidgets import QApplication
from test_view_references import REFERENCES, SHARE, differing, small

from monitor.snapshot import Snapshot
from monitor.view.console.window import STEPS

PAGES = (*STEPS, "what_if", "silent", "blocked")


def shown(name: str, desk: Any, full: Snapshot, first: Snapshot, language: str) -> np.ndarray:
    """The window on that page or in that state: a plan just drawn, or a freeze with three alarms."""
    running = name in ("monitor", "what_if", "silent", "blocked")
    d = desk(full if running else first, language, (1920, 1080))
    w = d.window
    if running:
        press(w.steps["monitor"])
        w.shown.go_to((20.0, -80.0, 12.0))
        w.pages["monitor"].turn_to(int(name == "what_if"))
    else:
        plan_by_mouse(d)
        press(w.steps[name])
    if name == "silent":
        d.mono_s += 5.0
    if name == "blocked":
        w.show_snapshot(replace(full, blocked=True, alarms=ALARMS[:1]))
    w.refresh()
    QApplication.processEvents()
    return small(w)


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("name", PAGES)
def test_the_page_looks_as_it_did(
    name: str, language: str, desk: Any, full: Snapshot, first: Snapshot, tmp_path: Path
) -> None:
    made = shown(name, desk, full, first, language)
    path = REFERENCES / f"console_{name}_{language}.png"
    if os.environ.get("ICEBALL_NEW_REFERENCES"):
        Image.fromarray(made.astype(np.uint8)).save(path, optimize=True)
    share = differing(made, np.asarray(Image.open(path).convert("RGB")).astype(int))
    if share > SHARE:
        Image.fromarray(made.astype(np.uint8)).save(tmp_path / path.name)
    assert share <= SHARE, f"{share:.2%} of {path.name} differ: {tmp_path / path.name}"
