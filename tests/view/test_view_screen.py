"""The painted screen, read back as pixels: tones, blanks, keys, speed of redrawing. 1920 × 1080."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import view_samples as samples
from PyQt5.QtCore import QEvent, QPoint, QPointF, Qt
from PyQt5.QtGui import QKeyEvent, QWheelEvent
from PyQt5.QtWidgets import QApplication, QWidget
from view_pixels import like, pixels

from monitor.snapshot import ArrayRef, Snapshot
from monitor.view import style
from monitor.view.panels import Panel
from monitor.view.png import picture, save_png
from monitor.view.viewmodel import State

Make = Callable[..., Any]


def press(screen: Any, key: Any, repeat: bool = False, release: bool = False) -> None:
    kind = QEvent.KeyRelease if release else QEvent.KeyPress
    QApplication.sendEvent(screen.window, QKeyEvent(kind, key, Qt.NoModifier, "", repeat))


def wheel(screen: Any, pane: str, notches: int) -> None:
    at = QPointF(50, 50)
    event = QWheelEvent(
        at,
        at,
        QPoint(),
        QPoint(0, 120 * notches),
        Qt.NoButton,
        Qt.NoModifier,
        Qt.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(screen.window.panes[pane], event)


@pytest.fixture(scope="module")
def states(normal: Snapshot) -> dict[str, Snapshot | None]:
    return samples.states(normal)


# --------------------------------------------------------------------------- states


@pytest.mark.requirement("REQ-IMAGE-AGE")
def test_stale_numbers_are_grey_and_the_planes_framed(states: Any, screen: Make) -> None:
    fresh, stale = screen(states["normal"]).window, screen(states["stale"]).window
    assert like(pixels(fresh.readouts)[:200], "text").sum() > 2000
    assert like(pixels(stale.readouts)[:200], "text").sum() == 0
    assert like(pixels(stale.readouts)[:200], "old").sum() > 2000
    for name, pane in stale.panes.items():
        assert like(pixels(pane)[2], "alarm_medium").mean() > 0.9, name
        assert like(pixels(fresh.panes[name])[2], "alarm_medium").mean() < 0.1


def test_blocked_is_blank(states: Any, screen: Make) -> None:
    s = screen(states["normal"])
    s.window.show_snapshot(states["blocked"])
    for name in ("coronal", "sagittal"):
        assert pixels(s.window.panes[name])[12:-12, 12:-12].max() == 0
    axial = pixels(s.window.panes["axial"])[12:-12, 12:-12]
    assert np.ptp(axial, axis=-1).max() <= 3, "words only, in grey"
    assert like(pixels(s.window.alarm_row), "alarm_high").mean() > 0.5


@pytest.mark.requirement("REQ-PATIENT")
def test_nothing_of_the_last_patient_comes_back_with_a_blocked_then_waiting_core(
    states: Any, screen: Make
) -> None:
    s = screen(states["normal"])
    s.window.show_snapshot(states["waiting"])
    assert s.window.scene.stack is None
    assert s.window.scene.forecast is None
    assert s.window.scene.ice is None


@pytest.mark.requirement("REQ-FORECAST-APART")
def test_prediction_moves_between_scans_and_measurement_does_not(
    normal: Snapshot, screen: Make
) -> None:
    s = screen(normal, speed=10.0)
    pane = s.window.panes["axial"]
    pixels(pane)
    overlay, before = pane._overlay, pane._prediction
    s.mono_s += 12.0
    now = normal.now_utc_s + 120.0
    s.window.show_snapshot(replace(normal, seq=8, now_utc_s=now, heartbeat_utc_s=now))
    pixels(pane)
    assert pane._prediction is not before
    assert pane._prediction[0].boundingRect().width() > before[0].boundingRect().width() + 5
    assert pane._overlay is overlay


def test_the_core_falls_silent_and_comes_back(normal: Snapshot, screen: Make) -> None:
    s = screen(normal, speed=10.0)
    s.mono_s += 0.9
    s.window.refresh()
    assert s.window.model.state is State.NORMAL
    assert s.window.now_utc_s() == pytest.approx(normal.now_utc_s + 9.0)
    s.mono_s += 0.2
    s.window.refresh()
    assert s.window.model.state is State.CORE_SILENT
    s.window.show_snapshot(normal)
    assert s.window.model.state is State.NORMAL
    s.window.core_gone()
    assert s.window.model.state is State.CORE_SILENT


def test_a_missing_file_blanks_the_numbers_and_says_so(
    normal: Snapshot, screen: Make, capsys: Any
) -> None:
    s = screen(normal)
    s.window.show_snapshot(replace(normal, ice_sdf=ArrayRef("/nonexistent/ice.npy")))
    assert s.window.model.state is State.VIEW_ERROR
    assert s.window.model.lesion.value == "—"
    assert "FileNotFoundError" in s.window.model.alarm.sentence
    s.window.show_snapshot(normal)
    assert s.window.model.state is State.NORMAL


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("size", [(1920, 1080), (3840, 2160)])
def test_every_state_fits_its_place(
    states: Any, screen: Make, language: str, size: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No text is shrunk below 70 % or elided, in any state, language or resolution."""
    squeezed: list[str] = []
    real = style.fitted

    def watching(text: str, size_px: float, bold: bool, width_px: float) -> Any:
        shown, chosen = real(text, size_px, bold, width_px)
        if shown != text or chosen.pixelSize() < 0.70 * size_px:
            squeezed.append(text)
        return shown, chosen

    monkeypatch.setattr(style, "fitted", watching)
    for snapshot in states.values():
        picture(screen(snapshot, language, size).window)
    assert squeezed == []


# --------------------------------------------------------------------------- the operator


def test_scrolling_and_home(normal: Snapshot, screen: Make) -> None:
    s = screen(normal)
    scene = s.window.scene
    assert scene.cursor() == samples.WORST
    wheel(s, "axial", 1)
    press(s, Qt.Key_PageUp, repeat=True)
    assert scene.cursor() == pytest.approx((10.0, -84.0, 18.0))
    wheel(s, "sagittal", -2)
    assert scene.cursor() == pytest.approx((8.0, -84.0, 18.0))
    press(s, Qt.Key_Home)
    assert scene.cursor() == samples.WORST
    unmeasured = replace(normal, assessment=None)
    s.window.show_snapshot(unmeasured)
    assert scene.cursor() == pytest.approx(samples.LESION)


def test_phase_key_acts_once(normal: Snapshot, screen: Make) -> None:
    s = screen(normal)
    press(s, Qt.Key_F)
    press(s, Qt.Key_F, repeat=True)
    press(s, Qt.Key_F)
    assert s.acts == [{"act": "phase_next"}]
    s.mono_s += 2.5
    press(s, Qt.Key_F)
    assert len(s.acts) == 2


@pytest.mark.requirement("REQ-PATIENT")
def test_clearing_a_block_takes_two_presses_and_only_when_blocked(
    states: Any, screen: Make
) -> None:
    s = screen(states["normal"])
    press(s, Qt.Key_C)
    press(s, Qt.Key_C)
    assert s.acts == []
    s.window.show_snapshot(states["blocked"])
    press(s, Qt.Key_C)
    press(s, Qt.Key_C, repeat=True)
    assert s.acts == []
    press(s, Qt.Key_Escape)
    press(s, Qt.Key_C)
    assert s.acts == []
    s.mono_s += 10.0
    press(s, Qt.Key_C)
    assert s.acts == []
    press(s, Qt.Key_C)
    assert s.acts == [{"act": "clear_block"}]


@pytest.mark.requirement("REQ-ACTS")
def test_quit_asks_and_close_button_too(normal: Snapshot, screen: Make) -> None:
    s = screen(normal)
    press(s, Qt.Key_Q)
    assert s.acts == []
    assert not s.window.close()
    assert s.acts == [{"act": "quit"}]
    assert s.window.isVisible()


def test_the_alarm_in_the_row_is_acknowledged_and_the_core_says_when_it_is(
    states: Any, screen: Make
) -> None:
    s = screen(states["alarm"])
    press(s, Qt.Key_A)
    assert s.acts == [{"act": "acknowledge", "alarm": ("structure_near", "colon")}]
    assert s.window.model.alarm.flash_hz == 2.0
    near, poor = states["alarm"].alarms
    s.window.show_snapshot(
        replace(states["alarm"], alarms=(replace(near, acknowledged=True), poor))
    )
    assert s.window.model.alarm.flash_hz == 0.0
    press(s, Qt.Key_A)
    assert len(s.acts) == 1


def test_without_an_alarm_there_is_nothing_to_acknowledge(states: Any, screen: Make) -> None:
    s = screen(states["normal"])
    press(s, Qt.Key_A)
    assert s.acts == []


def test_language_switches_while_running(normal: Snapshot, screen: Make) -> None:
    s = screen(normal)
    before = pixels(s.window.readouts)
    press(s, Qt.Key_L)
    assert s.window.model.language == "fr"
    assert (pixels(s.window.readouts) != before).any()


def test_png_is_whole_or_absent(normal: Snapshot, screen: Make, folder: Path) -> None:
    s = screen(normal)
    save_png(s.window, folder / "shots" / "one.png")
    assert [p.name for p in (folder / "shots").iterdir()] == ["one.png"]
    with pytest.raises(OSError, match=r"written|exists|directory"):
        save_png(s.window, folder / "shots" / "one.png" / "two.png")


# --------------------------------------------------------------------------- panels


def test_a_panel_must_say_what_it_shows_and_paint_it(app: QApplication) -> None:
    class Half(Panel):
        def content(self, model: Any) -> tuple[object, ...]:
            return ()

    parent = QWidget()
    with pytest.raises(TypeError, match="paint"):
        Half(parent)
