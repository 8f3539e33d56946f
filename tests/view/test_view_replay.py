"""A record that is played cannot be taken for a patient in the room, nor be changed from the screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import view_samples as samples
from console_desk import Desk
from PyQt5.QtCore import Qt
from PyQt5.QtGui import QColor
from PyQt5.QtTest import QTest
from view_pixels import pixels

from monitor.snapshot import Replayed, Snapshot
from monitor.view import replaying, style
from monitor.view.layout import SMALL_DU
from monitor.view.palette import COLOURS
from monitor.view.viewmodel import State
from monitor.view.views import Views

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def played(normal: Snapshot) -> Snapshot:
    found = samples.states(normal)["replay"]
    assert found is not None
    return found


def ground(image: np.ndarray) -> np.ndarray:
    """Which pixels are of the replay's colour."""
    c = QColor(COLOURS["replay"])
    return (np.abs(image - [c.red(), c.green(), c.blue()]).max(-1) < 4).astype(bool)


@pytest.mark.requirement("REQ-REPLAY-MARKED")
@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("name", ["normal", "stale", "blocked", "waiting", "baseline"])
@pytest.mark.parametrize("third", ["sagittal", "map", "dose"])
def test_every_plane_is_bordered_in_every_state(
    normal: Snapshot, played: Snapshot, screen: Make, language: str, name: str, third: str
) -> None:
    s = samples.states(normal)[name]
    assert s is not None
    window = screen(replace(s, replay=played.replay), language).window
    while window.scene.views.third != third:
        window.show_views(Views.next_third)
    image = ground(pixels(window))
    for plane in ("axial", "coronal", third):
        x, y, w, h = window.layout_now.boxes[plane]
        for edge in (image[y - 1, x : x + w], image[y + h, x : x + w], image[y : y + h, x - 1],
                     image[y : y + h, x + w]):  # fmt: skip
            assert edge.mean() > 0.95, plane
        border = window.borders[plane]
        assert border.isVisible()
        words = image[border.y() : y, border.x() : border.x() + border.width()]
        assert 0.5 < words.mean() < 0.97, f"{plane}: no words on the ground"
    assert image[: window.header.height()].mean() > 0.5


def test_a_live_screen_has_nothing_of_it(normal: Snapshot, played: Snapshot, screen: Make) -> None:
    window = screen(normal).window
    assert ground(pixels(window)).sum() == 0
    boxes = window.layout_now.boxes
    window.show_snapshot(played)
    assert ground(pixels(window)).mean() > 0.05
    window.show_snapshot(normal)
    assert ground(pixels(window)).sum() == 0
    assert window.layout_now.boxes == boxes


def test_the_words_name_the_date_and_that_it_is_not_live() -> None:
    r = Replayed(1_800_000_000.0, 0.5, False, 2, 9)
    english, french = replaying.said(r, "en"), replaying.said(r, "fr")
    assert english.title == "REPLAY — NOT LIVE"
    assert french.title == "RELECTURE — PAS EN DIRECT"
    assert "2027-01-15 08:00 UTC" in english.playing
    assert "CT\u00a02/9" in english.playing
    assert "0,5" in french.playing
    assert english.short == "REPLAY 2027-01-15"
    assert "paused" in replaying.said(replace(r, paused=True), "en").playing
    assert "working out" in replaying.said(replace(r, working=True), "en").playing
    assert "cannot" in replaying.said(replace(r, broken=True), "en").playing


def test_an_alarm_of_then_is_marked_and_does_not_flash(played: Snapshot, screen: Make) -> None:
    model = screen(played).window.model
    assert model.alarm.sentence.startswith("REPLAY · ")
    assert model.alarm.flash_hz == 0.0
    assert model.patient.startswith("REPLAY · ")
    assert model.state is State.NORMAL


def test_time_goes_at_the_pace_of_the_replay_and_stands_when_it_is_paused(
    played: Snapshot, screen: Make
) -> None:
    s = screen(played)
    s.mono_s += 0.5
    assert s.window.now_utc_s() == pytest.approx(played.now_utc_s + 2.0)
    assert played.replay is not None
    s.window.show_snapshot(replace(played, replay=replace(played.replay, paused=True)))
    s.mono_s += 0.5
    assert s.window.now_utc_s() == pytest.approx(played.now_utc_s)


def test_a_player_that_is_silent_is_told_as_a_silent_core(played: Snapshot, screen: Make) -> None:
    s = screen(played)
    s.mono_s += 1.5
    s.window.refresh()
    assert s.window.model.state is State.CORE_SILENT


@pytest.mark.parametrize(
    ("key", "act"),
    [
        (Qt.Key_Space, "replay_pause"), (Qt.Key_Return, "replay_step"), (Qt.Key_Backspace, "replay_back"),
        (Qt.Key_N, "replay_next"), (Qt.Key_B, "replay_previous"), (Qt.Key_Greater, "replay_faster"),
        (Qt.Key_Less, "replay_slower"),
    ],
)  # fmt: skip
def test_keys_of_the_player(
    played: Snapshot, normal: Snapshot, screen: Make, key: int, act: str
) -> None:
    s = screen(played)
    QTest.keyClick(s.window, key)
    assert s.acts == [{"act": act}]
    live = screen(normal)
    QTest.keyClick(live.window, key)
    assert live.acts == [], "of no meaning while a patient is in the room"


def test_a_digit_goes_to_that_scan(played: Snapshot, screen: Make) -> None:
    s = screen(played)
    QTest.keyClick(s.window, Qt.Key_3)
    assert s.acts == [{"act": "replay_scan", "params": {"number": 3}}]


@pytest.mark.requirement("REQ-REPLAY-MARKED")
@pytest.mark.parametrize("key", [Qt.Key_F, Qt.Key_A, Qt.Key_C])
def test_keys_that_act_on_a_procedure_do_nothing_and_say_why(
    played: Snapshot, screen: Make, key: int
) -> None:
    s = screen(replace(played, blocked=key == Qt.Key_C))
    QTest.keyClick(s.window, key)
    QTest.keyClick(s.window, key)
    assert s.acts == []
    assert "cannot be changed" in s.window.footer.said


def test_help_lists_the_players_keys_instead(
    played: Snapshot, screen: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monitor.view import style

    drawn: list[str] = []
    draw = style.draw_text
    monkeypatch.setattr(
        style, "draw_text", lambda p, r, words, *a, **k: (drawn.append(words), draw(p, r, words, *a, **k))[1]
    )  # fmt: skip
    window = screen(played).window
    QTest.keyClick(window, Qt.Key_H)
    pixels(window)
    assert "Space" in drawn
    assert "start the freeze, or the next phase" not in drawn


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("size", [(1920, 1080), (3840, 2160)])
def test_its_words_fit_their_border_at_a_legible_size(
    played: Snapshot, screen: Make, language: str, size: tuple[int, int]
) -> None:
    window = screen(played, language, size).window
    replay = replace(played.replay, pace=0.25, scan=88, scans=88)  # type: ignore[type-var]
    words, small = replaying.said(replay, language), SMALL_DU * window.layout_now.scale
    for plane, said in (
        ("axial", words.playing),
        ("coronal", words.short),
        ("sagittal", words.short),
    ):
        room = window.borders[plane].width() - 20 * window.layout_now.scale
        assert style.width_of(said, small, plane != "axial") <= room, said
    assert style.width_of(words.title, 1.2 * small, True) <= window.borders["axial"].width()


# --------------------------------------------------------------------------- the console beside it


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_console_says_so_too_and_nothing_on_it_acts(
    played: Snapshot, desk: Callable[..., Desk], language: str
) -> None:
    d = desk(played, language)
    w = d.window
    assert not w.may_act()
    said = replaying.said(played.replay, language)  # type: ignore[arg-type]
    assert said.title in w.patient.text()
    assert said.title in w.shown.banner
    w.act("phase_next")
    assert d.acts == []
    assert ground(pixels(w)).mean() > 0.01


def test_a_live_console_has_nothing_of_it(
    played: Snapshot, normal: Snapshot, desk: Callable[..., Desk]
) -> None:
    w = desk(played).window
    w.show_snapshot(normal)
    assert w.may_act()
    assert w.shown.banner == ""
    assert "REPLAY" not in w.patient.text()
    assert ground(pixels(w)).sum() == 0
