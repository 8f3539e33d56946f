"""Text: large enough for who stands three metres away, whole, inside its part, on nothing else. Colours:
contrast and distances for colour-blind eyes. Minutes of arc, pixels, WCAG ratios, CIEDE2000 differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import view_samples as samples
from PyQt5.QtCore import QRectF
from PyQt5.QtWidgets import QApplication
from view_words import Drawn, caught

from monitor.decision.safety import ALARMS
from monitor.model import Alarm, Priority
from monitor.snapshot import Snapshot
from monitor.view.layout import SMALL_DU, layout
from monitor.view.legibility import LEAST_ARCMIN, Viewing, arcmin_of, font_px
from monitor.view.palette import COLOURS
from monitor.view.panes import PREDICTED_LINES
from monitor.view.png import picture
from monitor.view.views import THIRD, Views

Make = Callable[..., Any]
SIZES = [(1920, 1080), (3840, 2160)]
ROOM = Viewing(55.0, 3.0)
# Of a letter's box into the next one's: what smoothing covers.
SLACK_PX = 1.5


@pytest.fixture(scope="module")
def states(normal: Snapshot) -> dict[str, Snapshot | None]:
    return samples.states(normal)


def words_of(window: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Drawn]]:
    """What each visible part writes, drawn anew."""
    found = {}
    for name, part in window._parts.items():
        if part.isVisible():
            with caught(monkeypatch) as drawn:
                if hasattr(part, "_key"):
                    part._key = None
                if window.model is not None and name != "strip":
                    part.show_model(part.model or window.model)
                picture(part)
            found[name] = list({(d.text, d.box.x(), d.box.y()): d for d in drawn}.values())
    return found


# --------------------------------------------------------------------------- the formula


def test_the_formula_and_its_inverse() -> None:
    """55 inches at 3 m, 1920 across: a pixel is 0.634 mm; 16 minutes of arc at 3 m are 13.96 mm."""
    assert font_px(ROOM, (1920, 1080)) == pytest.approx(13.963 / (0.6341 * 0.729), rel=1e-3)
    assert font_px(ROOM, (3840, 2160)) == pytest.approx(2 * font_px(ROOM, (1920, 1080)))
    for arcmin in (16.0, 22.0):
        px = font_px(ROOM, (1920, 1080), arcmin)
        assert arcmin_of(ROOM, (1920, 1080), px) == pytest.approx(arcmin)


@pytest.mark.parametrize("broken", [(0.0, 3.0), (55.0, -1.0), (float("nan"), 3.0), (55.0, 1e4)])
def test_a_monitor_that_cannot_be_is_refused(broken: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="monitor"):
        Viewing(*broken)


@pytest.mark.requirement("REQ-LEGIBLE")
@pytest.mark.parametrize(
    ("diagonal_in", "distance_m", "simple"),
    [
        (55.0, 3.0, False),
        (65.0, 3.5, False),
        (43.0, 2.0, False),
        (43.0, 3.0, True),
        (24.0, 2.0, True),
    ],
)
def test_the_screen_is_chosen_by_diagonal_and_distance(
    diagonal_in: float, distance_m: float, simple: bool
) -> None:
    viewing = Viewing(diagonal_in, distance_m)
    for size in SIZES:
        made = layout(size, size, viewing, None)
        assert made.simple is simple
        assert arcmin_of(viewing, size, SMALL_DU * made.scale) >= LEAST_ARCMIN - 0.01
        assert made.legible
    assert not layout((1920, 1080), (1920, 1080), Viewing(15.0, 5.0), None).legible
    assert not layout((1920, 1080), (1920, 1080), Viewing(24.0, 3.0), simple=False).legible


@pytest.mark.parametrize("size", [*SIZES, (1280, 720), (1600, 1200), (2560, 1080)])
@pytest.mark.parametrize("simple", [False, True])
def test_the_parts_cover_the_window_and_never_each_other(size: Any, simple: bool) -> None:
    boxes = [QRectF(*b) for b in layout(size, size, ROOM, simple).boxes.values()]
    window = QRectF(0, 0, *size)
    for a, b in itertools.combinations(boxes, 2):
        assert not a.intersects(b)
    assert all(window.contains(b) and b.width() > 0 and b.height() > 0 for b in boxes)
    assert sum(b.width() * b.height() for b in boxes) > 0.97 * size[0] * size[1]


# --------------------------------------------------------------------------- every state


@pytest.mark.requirement("REQ-LEGIBLE")
@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("size", SIZES)
def test_all_text_is_whole_large_and_in_its_own_place(
    states: Any, screen: Make, language: str, size: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = []
    for state, snapshot in states.items():
        window = screen(snapshot, language, size).window
        for part, drawn in words_of(window, monkeypatch).items():
            where = f"{state}, {part}"
            faults += [f"{where}: {f}" for f in _faults(drawn, window, part, size)]
    assert faults == []


@pytest.mark.parametrize("language", ["en", "fr"])
def test_so_it_is_when_the_planes_show_another_time_or_another_view(
    normal: Snapshot, screen: Make, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = SIZES[0]
    faults = []
    window = screen(normal, language, size).window
    for steps in (-1, -1, +5):
        window.look_on(steps)
        for part, drawn in words_of(window, monkeypatch).items():
            faults += [f"look, {part}: {f}" for f in _faults(drawn, window, part, size)]
    window.look_now()
    for change in (Views.other_subtraction, *(Views.next_third,) * (len(THIRD) - 1)):
        window.show_views(change)
        while window.turns.waiting:
            QApplication.processEvents()
        for part, drawn in words_of(window, monkeypatch).items():
            faults += [f"view, {part}: {f}" for f in _faults(drawn, window, part, size)]
    assert faults == []


@pytest.mark.requirement("REQ-LEGIBLE")
@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_simple_screen_is_legible_on_a_small_monitor(
    states: Any, screen: Make, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, viewing = SIZES[0], Viewing(32.0, 3.0)
    faults = []
    for state, snapshot in states.items():
        window = screen(snapshot, language, size, viewing=viewing).window
        assert window.layout_now.simple
        for part, drawn in words_of(window, monkeypatch).items():
            found = _faults(drawn, window, part, size, viewing)
            faults += [f"{state}, {part}: {f}" for f in found]
    assert faults == []


def _faults(
    drawn: list[Drawn],
    window: Any,
    part: str,
    size: tuple[int, int],
    viewing: Viewing = ROOM,
    overlaps: bool = True,
) -> list[str]:
    *_, w, h = window.layout_now.boxes[part]
    room = QRectF(0, 0, w, h).adjusted(-SLACK_PX, -SLACK_PX, SLACK_PX, SLACK_PX)
    found = []
    for d in drawn:
        arcmin = arcmin_of(viewing, size, d.size_px)
        if arcmin < LEAST_ARCMIN - 0.35:  # a pixel of rounding
            found.append(f"{d.text!r} is small: {arcmin:.1f}'")
        if not d.whole:
            found.append(f"{d.text!r} is cut short")
        if not room.contains(d.box):
            found.append(f"{d.text!r} sticks out: {d.box}")
    for a, b in itertools.combinations(drawn if overlaps else [], 2):
        common = a.box.intersected(b.box)
        if min(common.width(), common.height()) > SLACK_PX * size[0] / 1920:
            found.append(
                f"{a.text!r} and {b.text!r} overlap by {common.width():.0f}×{common.height():.0f}"
            )
    return found


@pytest.mark.requirement("REQ-ALARM-SEEN")
@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("code", sorted(ALARMS))
def test_every_alarm_is_whole_and_legible(
    normal: Snapshot, screen: Make, code: str, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = {
        "name": "gallbladder", "distance_mm": "-3.4", "at_least_mm": "-12.1", "limit_mm": "10.0",
        "minutes": "12", "seconds": "-120", "margin_mm": "10", "reason": "registration_doubtful",
        "expected": "00412-7", "received": "00981-3", "error": "FileNotFoundError", "where": "ice.sdf",
    }  # fmt: skip
    s = replace(normal, alarms=(Alarm(code, Priority.HIGH, 0.0, params, latched=False),) * 2)
    window = screen(s, language).window
    drawn = words_of(window, monkeypatch)["alarm"]
    assert _faults(drawn, window, "alarm", SIZES[0]) == []


# --------------------------------------------------------------------------- colours


def _linear(name: str) -> np.ndarray:
    value = COLOURS[name].lstrip("#")
    c = np.array([int(value[i : i + 2], 16) for i in (0, 2, 4)]) / 255.0
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def _contrast(a: str, b: str) -> float:
    """WCAG 2.1, relative luminance."""
    la, lb = (float(_linear(n) @ [0.2126, 0.7152, 0.0722]) for n in (a, b))
    return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)


@pytest.mark.requirement("REQ-COLOUR")
@pytest.mark.parametrize(
    ("ink", "ground", "least"),
    [
        ("text", "panel", 7.0), ("label", "panel", 7.0), ("dim", "panel", 4.5), ("old", "panel", 4.5),
        ("dim", "window", 4.5), ("text", "window", 7.0), ("look_text", "look", 7.0),
        ("alarm_high_text", "alarm_high", 4.5), ("alarm_medium_text", "alarm_medium", 7.0),
        ("alarm_high_dark", "window", 4.5), ("alarm_medium", "window", 7.0), ("alarm_low", "window", 7.0),
        ("text", "freeze", 4.5), ("replay_text", "replay", 7.0),
        ("lesion", "freeze", 4.5), ("ice", "freeze", 4.5),
        ("critical", "casing", 3.0), ("cold20", "casing", 3.0), ("cold40", "casing", 3.0),
        ("ice", "casing", 3.0), ("lesion", "casing", 3.0),
    ],
)  # fmt: skip
def test_contrast(ink: str, ground: str, least: float) -> None:
    """WCAG 2.1: 4.5 for text (1.4.3), 7 where it matters most (1.4.6), 3 for lines (1.4.11)."""
    assert _contrast(ink, ground) >= least


# Machado, Oliveira and Fernandes 2009 (doi:10.1109/TVCG.2009.113), severity 1.0, on linear RGB.
EYES = {
    "usual": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}  # fmt: skip


@pytest.mark.requirement("REQ-COLOUR")
def test_no_two_predicted_lines_are_broken_alike() -> None:
    assert len({dash for _, dash in PREDICTED_LINES}) == len(PREDICTED_LINES)
    assert "solid" not in {dash for _, dash in PREDICTED_LINES}


LINES = ("lesion", "ice", "cold20", "cold40", "critical", "needle")


def _lab(linear: np.ndarray) -> np.ndarray:
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = to_xyz @ np.clip(linear, 0, 1) / [0.9505, 1.0, 1.089]
    f = [v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def _ciede2000(a: np.ndarray, b: np.ndarray) -> float:
    """Sharma, Wu and Dalal 2005 (doi:10.1002/col.20070), of two colours in CIELAB."""
    chroma = (np.hypot(*a[1:]) + np.hypot(*b[1:])) / 2
    g = 0.5 * (1 - np.sqrt(chroma**7 / (chroma**7 + 25.0**7)))
    (x1, y1), (x2, y2) = ((1 + g) * a[1], a[2]), ((1 + g) * b[1], b[2])
    c1, c2 = np.hypot(x1, y1), np.hypot(x2, y2)
    h1, h2 = (np.degrees(np.arctan2(y, x)) % 360 for x, y in ((x1, y1), (x2, y2)))
    turn = 0.0 if c1 * c2 == 0 else (h2 - h1 + 180) % 360 - 180
    light, c = (a[0] + b[0]) / 2, (c1 + c2) / 2
    h = h1 + h2 if c1 * c2 == 0 else (h1 + turn / 2) % 360
    t = sum(
        k * np.cos(np.radians(n * h + at))
        for k, n, at in ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.20, 4, -63))
    )
    of_light = (b[0] - a[0]) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2))
    of_chroma = (c2 - c1) / (1 + 0.045 * c)
    of_hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * c * (1 + t))
    blue = 60 * np.exp(-(((h - 275) / 25) ** 2))
    turned = -np.sin(np.radians(blue)) * 2 * np.sqrt(c**7 / (c**7 + 25.0**7))
    squares = of_light**2 + of_chroma**2 + of_hue**2
    return float(np.sqrt(squares + turned * of_chroma * of_hue))


@pytest.mark.parametrize(
    ("a", "b", "between"),
    [
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 2.49, -0.001), (50.0, -2.49, 0.0011), 7.2195),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((90.8027, -2.0831, 1.4410), (91.1528, -1.6435, 0.0447), 1.4441),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_colour_differences_are_as_published(a: Any, b: Any, between: float) -> None:
    """Table 1 of the same paper."""
    assert _ciede2000(np.array(a), np.array(b)) == pytest.approx(between, abs=1e-4)


@pytest.mark.requirement("REQ-COLOUR")
@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize(("a", "b"), list(itertools.combinations(LINES, 2)))
def test_lines_are_told_apart_by_colour_blind_eyes(eye: str, a: str, b: str) -> None:
    assert _ciede2000(*(_lab(EYES[eye] @ _linear(n)) for n in (a, b))) >= 20.0
