"""Every state of the screen, in both languages, beside a picture of it that somebody has looked at.

The pictures in ``references/`` are a quarter as wide as the screen. Tolerance: one pixel in a thousand may
differ by more than 24 grey levels. After a change that is meant: ICEBALL_NEW_REFERENCES=1 pytest
tests/view/test_view_references.py, then look at them before they are committed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import view_samples as samples
from PIL import Image
from PyQt5.QtWidgets import QApplication
from view_pixels import pixels

from monitor.snapshot import Snapshot
from monitor.view.legibility import Viewing
from monitor.view.views import Views

Make = Callable[..., Any]
REFERENCES = Path(__file__).parent / "references"
SIZE = (480, 270)
LEVELS, SHARE = 24, 0.001
STATES = (
    "normal", "alarm", "stale", "degraded", "invalid", "blocked", "baseline", "waiting", "thaw", "ended",
    "core_silent", "no_core", "no_ice", "error", "back", "ahead", "subtraction", "map", "solid", "dose",
    "simple", "replay",
)  # fmt: skip


def shown(name: str, normal: Snapshot, screen: Make, language: str) -> Any:
    """The window in that state, its clock standing still."""
    states = samples.states(normal)
    viewing = Viewing(32.0, 3.0) if name == "simple" else None
    s = screen(states.get(name, normal), language, viewing=viewing)
    window = s.window
    if name == "core_silent":
        s.mono_s += 3.0
    elif name == "error":
        window.show_error("ZeroDivisionError")
    elif name in ("back", "ahead"):
        window.look_on(-1 if name == "back" else 4)
    elif name == "subtraction":
        window.show_views(Views.other_subtraction)
    elif name in ("map", "solid", "dose"):
        while window.scene.views.third != name:
            window.show_views(Views.next_third)
        while window.turns.waiting:
            QApplication.processEvents()
    window.refresh()
    return window


def small(window: Any) -> np.ndarray:
    image = Image.fromarray(pixels(window).astype(np.uint8))
    return np.asarray(image.resize(SIZE, Image.Resampling.BOX)).astype(int)


def differing(a: np.ndarray, b: np.ndarray) -> float:
    return float((np.abs(a - b).max(-1) > LEVELS).mean())


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("name", STATES)
def test_the_state_looks_as_it_did(
    name: str, language: str, normal: Snapshot, screen: Make, tmp_path: Path
) -> None:
    made = small(shown(name, normal, screen, language))
    path = REFERENCES / f"{name}_{language}.png"
    if os.environ.get("ICEBALL_NEW_REFERENCES"):
        Image.fromarray(made.astype(np.uint8)).save(path, optimize=True)
    share = differing(made, np.asarray(Image.open(path).convert("RGB")).astype(int))
    if share > SHARE:
        Image.fromarray(made.astype(np.uint8)).save(tmp_path / path.name)
    assert share <= SHARE, f"{share:.2%} of {path.name} differ: {tmp_path / path.name}"


def test_one_digit_or_a_line_that_is_missing_would_be_seen(normal: Snapshot, screen: Make) -> None:
    """The gate closes: one percent less, a contour that is not drawn, a frame that is missing."""
    good = small(shown("normal", normal, screen, "en"))
    assert normal.assessment is not None
    less = replace(normal, assessment=replace(normal.assessment, lesion_covered=0.958))
    for worse in (less, replace(normal, lesion_sdf=None), replace(normal, ice_sdf=None)):
        assert differing(good, small(screen(worse).window)) > SHARE
    stale = samples.states(normal)["stale"]
    assert differing(good, small(screen(stale).window)) > SHARE
