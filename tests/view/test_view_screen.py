"""The painted screen, read back as pixels: places, tones, blanks, keys, speed of redrawing.

Pixels at 1920 × 1080; colours as in palette.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import view_samples as samples
from PyQt5.QtCore import QEvent, QPoint, QPointF, Qt
from PyQt5.QtGui import QColor, QKeyEvent, QWheelEvent
from PyQt5.QtWidgets import QApplication, QWidget

from monitor.model import ArrayRef, NeedleLine, Snapshot
from monitor.view import style
from monitor.view.palette import COLOURS
from monitor.view.panels import Panel
from monitor.view.png import picture, save_png
from monitor.view.viewmodel import State

Make = Callable[..., Any]


def pixels(widget: Any) -> np.ndarray:
    """(row, column, RGB) of what a widget shows."""
    image = picture(widget)
    bits = image.bits()
    bits.setsize(image.byteCount())
    rows = np.frombuffer(bytes(bits), np.uint8).reshape(
        image.height(), image.bytesPerLine() // 4, 4
    )
    return rows[:, : image.width(), 2::-1].astype(int)


def like(shot: np.ndarray, name: str, tolerance: int = 30) -> np.ndarray:
    """Where the picture has a colour of the palette."""
    c = QColor(COLOURS[name])
    return np.abs(shot - [c.red(), c.green(), c.blue()]).max(-1) <= tolerance


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


# --------------------------------------------------------------------------- places


@pytest.mark.parametrize("size", [(1920, 1080), (3840, 2160), (1280, 720)])
def test_the_lesion_is_drawn_where_it_lies(
    normal: Snapshot, screen: Make, size: tuple[int, int]
) -> None:
    """The yellow contour alone (plan without ice or prediction), within a pixel of the sphere."""
    plain = replace(
        normal, ice_sdf=None, forecast_temperature=None, needles=(), margin_goal_mm=200.0
    )
    s = screen(plain, size=size)
    cursor = np.array(samples.WORST)
    for pane in s.window.panes.values():
        frame, across = pane.frame(), pane.plane.across
        depth = cursor[across] - samples.LESION[across]
        radius_px = np.sqrt(samples.LESION_RADIUS**2 - depth**2) * frame.px_per_mm
        rows, columns = np.nonzero(like(pixels(pane), "lesion", 60))
        assert len(rows) > 30
        centre = frame.to_px(np.array(samples.LESION))
        radii = np.hypot(columns + 0.5 - centre[0], rows + 0.5 - centre[1])
        width = 1.0 + 1.3 * s.window.panes["axial"].scale
        assert np.abs(radii - radius_px).max() <= width, pane.plane.name
        assert radii.mean() == pytest.approx(radius_px, abs=1.0)


def test_the_picture_and_the_contours_agree(normal: Snapshot, screen: Make, folder: Path) -> None:
    """A bright ball in the CT, as large as the lesion, fills the lesion's contour to a pixel."""
    geometry = samples.aligned_geometry((60, 200, 200), (1.0, 1.0, 1.0))
    p = samples.points(geometry)
    ball = np.linalg.norm(p - samples.LESION, axis=-1) < samples.LESION_RADIUS
    volume = samples.save(folder, "ball", np.where(ball, 1000, -1000).astype(np.int16))
    bare = replace(
        normal,
        volume=volume,
        volume_geometry=geometry,
        ice_sdf=None,
        lesion_sdf=None,
        structure_sdfs=(),
        forecast_temperature=None,
        needles=(),
        window_hu=(0.0, 200.0),
    )
    s = screen(bare)
    s.window.scene.chosen = samples.LESION
    s.window.scene.centre, s.window.scene.field_mm = samples.LESION, 60.0
    s.window.refresh()
    pane = s.window.panes["axial"]
    bright = pixels(pane).min(-1) > 128
    bright[:120], bright[-140:] = False, False
    bright[:, :90], bright[:, -90:] = False, False
    rows, columns = np.nonzero(bright)
    centre = pane.frame().to_px(np.array(samples.LESION))
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx(tuple(centre), abs=1.0)
    area_mm2 = len(rows) / pane.frame().px_per_mm ** 2
    assert area_mm2 == pytest.approx(np.pi * samples.LESION_RADIUS**2, rel=0.03)


def test_patient_right_is_on_the_screens_left(normal: Snapshot, screen: Make, folder: Path) -> None:
    geometry = samples.aligned_geometry()
    x = samples.points(geometry)[..., 0]
    volume = samples.save(
        folder, "right", np.where(x < samples.LESION[0], 500, -900).astype(np.int16)
    )
    s = screen(replace(normal, volume=volume, volume_geometry=geometry))
    for name in ("axial", "coronal"):
        shot = pixels(s.window.panes[name]).mean(-1)
        quarter = shot.shape[1] // 5
        assert shot[:, :quarter].mean() > 200
        assert shot[:, -quarter:].mean() < 60


def test_a_tilted_stack_lands_where_the_aligned_one_does(
    normal: Snapshot, screen: Make, folder: Path
) -> None:
    t = np.deg2rad(15.0)
    aligned = samples.aligned_geometry((90, 220, 220), (1.5, 1.0, 1.0))
    tilted = replace(
        aligned,
        column_direction=(0.0, float(np.cos(t)), float(-np.sin(t))),
        origin_lps_mm=(aligned.origin_lps_mm[0], -170.0, -25.0),
    )
    shots = []
    for name, geometry in (("aligned", aligned), ("tilted", tilted)):
        ball = (
            np.linalg.norm(samples.points(geometry) - samples.LESION, axis=-1)
            < samples.LESION_RADIUS
        )
        ref = samples.save(folder, name, np.where(ball, 300, -300).astype(np.int16))
        s = screen(
            replace(
                normal,
                volume=ref,
                volume_geometry=geometry,
                ice_sdf=None,
                lesion_sdf=None,
                structure_sdfs=(),
                forecast_temperature=None,
                needles=(),
            )
        )
        s.window.scene.chosen = s.window.scene.centre = samples.LESION
        s.window.refresh()
        shots.append({n: pixels(p).mean(-1) for n, p in s.window.panes.items()})
    for pane in shots[0]:
        a, b = (np.argwhere(shot[pane] > 150).mean(0) for shot in shots)
        assert a == pytest.approx(b, abs=2.0), pane


def test_a_structure_off_its_grid_is_not_drawn_under_anothers_name(
    normal: Snapshot, screen: Make, folder: Path
) -> None:
    wrong = samples.save(folder, "wrong", np.zeros((3, 3, 3), np.float32))
    s = screen(replace(normal, structure_sdfs=(("skin", wrong), *normal.structure_sdfs)))
    assert [x[0] for x in s.window.scene.structures] == ["colon"]


# --------------------------------------------------------------------------- states


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


def test_nothing_of_the_last_patient_comes_back_with_a_blocked_then_waiting_core(
    states: Any, screen: Make
) -> None:
    s = screen(states["normal"])
    s.window.show_snapshot(states["waiting"])
    assert s.window.scene.stack is None
    assert s.window.scene.forecast is None
    assert s.window.scene.ice is None


def test_prediction_moves_between_scans_and_measurement_does_not(
    normal: Snapshot, screen: Make
) -> None:
    s = screen(normal, speed=10.0)
    pane = s.window.panes["axial"]
    overlay, before = pane._overlay, pane._prediction
    s.mono_s += 12.0
    now = normal.now_utc_s + 120.0
    s.window.show_snapshot(replace(normal, seq=8, now_utc_s=now, heartbeat_utc_s=now))
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


# --------------------------------------------------------------------------- words on the planes


@pytest.fixture
def crowded(normal: Snapshot, folder: Path) -> Snapshot:
    """Two needles side by side that leave the picture at its letter, a thin bent skin before the
    ice, and a message over the bowel."""
    p = samples.GRID.points_lps_mm()
    skin = np.abs(np.linalg.norm(p - np.array((20.0, -30.0, 12.0)), axis=-1) - 72.0) - 1.0
    bowel = np.linalg.norm(p - np.array((20.0, -52.0, 12.0)), axis=-1) - 9.0
    uncertain = samples.states(normal)["degraded"]
    assert uncertain is not None
    return replace(
        uncertain,
        needles=tuple(
            NeedleLine(n, (18.0, -80.0 + n, 12.0), (90.0, -81.0 + n, 12.0)) for n in (1, 2)
        ),
        structure_sdfs=(
            ("skin", samples.save(folder, "skin", skin.astype(np.float32))),
            ("bowel", samples.save(folder, "bowel", bowel.astype(np.float32))),
        ),
        structure_grids=(samples.GRID, samples.GRID),
    )


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("pane", ["axial", "coronal", "sagittal"])
def test_no_word_on_a_plane_covers_another(
    crowded: Snapshot, screen: Make, monkeypatch: pytest.MonkeyPatch, language: str, pane: str
) -> None:
    s = screen(crowded, language=language)
    words = words_drawn(s.window.panes[pane], monkeypatch)
    assert {"skin", "peau"} & {text for text, _ in words}
    for (text, box), (other, covered) in itertools.combinations(words, 2):
        assert not box.intersects(covered), (text, other)


def test_the_name_of_a_thin_structure_stands_on_it(
    crowded: Snapshot, screen: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = screen(crowded)
    pane = s.window.panes["axial"]
    (box,) = (box for text, box in words_drawn(pane, monkeypatch) if text == "skin")
    right_mm, vertical_mm = pane.frame().to_mm(box.center().x(), box.center().y())
    at = np.array((right_mm, vertical_mm, samples.WORST[2]))
    assert np.linalg.norm(at - (20.0, -30.0, 12.0)) == pytest.approx(72.0, abs=2.5)


def words_drawn(pane: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Each word of a plane with what it covers, as its picture is drawn anew."""
    found: list[tuple[str, Any]] = []
    draw = style.draw_cased

    def seen(painter: Any, at: Any, text: str, *how: Any, **more: Any) -> Any:
        box = draw(painter, at, text, *how, **more)
        found.append((text, box))
        return box

    monkeypatch.setattr(style, "draw_cased", seen)
    pane._key = None
    pane.show_model(pane.model)
    return found


def test_predicted_bands_are_drawn_where_the_members_disagree_and_nowhere_else(
    normal: Snapshot, screen: Make
) -> None:
    """The sample's members lie 4 °C to both sides of its nominal field, which rises 3.6 °C a millimetre."""
    with_bands = pixels(screen(normal).window.panes["axial"]).astype(int)
    s = screen(replace(normal, forecast_band=None))
    pane = s.window.panes["axial"]
    changed = np.abs(with_bands - pixels(pane).astype(int)).max(-1) > 6
    rows, columns = np.nonzero(changed)
    assert len(rows) > 1000
    frame, cursor = pane.frame(), np.array(samples.WORST)
    where = np.tile(cursor, (len(rows), 1))
    x, y = np.array([frame.to_mm(c + 0.5, r + 0.5) for r, c in zip(rows, columns, strict=True)]).T
    where[:, pane.plane.right], where[:, pane.plane.vertical] = x, y
    times = normal.forecast_times_utc_s
    degc = -2.0 + 3.6 * (samples.ice_sdf(where) - 0.011 * (samples.NOW - times[0]))
    apart = np.min([np.abs(degc - level) for level in (-2.0, -20.0, -40.0)], axis=0)
    assert apart.max() < 4.0 + 3.6 * 0.7
    only_without = screen(replace(normal, forecast_temperature=None)).window.panes["axial"]
    assert not only_without._prediction_bands
