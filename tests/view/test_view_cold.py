"""The predicted cold: its words at the console and its pane on the room's screen. °C, LPS mm, UTC s."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import view_samples as samples
from PyQt5.QtWidgets import QApplication
from view_pixels import pixels
from view_words import caught

from monitor.forecast_values import DoseAt
from monitor.model import Phase, PhaseKind
from monitor.snapshot import Snapshot
from monitor.view import cold
from monitor.view.cold import Trust
from monitor.view.dose_pane import CLASSES
from monitor.view.palette import COLOURS
from monitor.view.planes import SAGITTAL
from monitor.view.viewmodel import Inputs, screen_model
from monitor.view.views import Views

Make = Callable[..., Any]
NBSP, JOIN = "\u00a0", "\u2060"
# A plane through the middle of the ice, which has all three classes.
MIDDLE = samples.ICE_CENTRE


def model_of(s: Snapshot | None, language: str = "en", now_utc_s: float = samples.NOW) -> Any:
    return screen_model(Inputs(s, now_utc_s, 0.0, language))


def plain(said: str) -> str:
    return said.replace(JOIN, "").replace(NBSP, " ")


def doubted(s: Snapshot) -> Snapshot:
    return replace(s, forecast_doubtful=True)


# --------------------------------------------------------------------------- words


def test_shares_are_floored_and_temperatures_never_colder_than_predicted(normal: Snapshot) -> None:
    head, lesion, margin = (plain(x) for x in cold.lines(model_of(normal), normal))
    assert head == "Predicted (CT + 00:00), never measured:"
    assert lesion == ("Lesion: 72–85 % once below −20 °C, 0–20 % below −40 °C; "
                      "spared most: −17…−12 °C, frozen 1×")  # fmt: skip
    assert margin.startswith("Lesion + 5 mm: 41–52")
    assert margin.endswith("spared most: 2…5 °C, frozen 0×")


def test_seconds_are_said_where_there_are_any_and_what_is_unknown_is_a_dash(
    normal: Snapshot,
) -> None:
    nan = float("nan")
    held = DoseAt("lesion", samples.NOW, (1.0, 1.0), (nan, 0.5), (nan, -41.0), (59.9, 61.0),
                  (0.0, 7.0), (1.0, 1.9))  # fmt: skip
    s = replace(normal, dose=(held,))
    (_, said) = (plain(x) for x in cold.lines(model_of(s), s))
    assert "100 % once below −20 °C, — below −40 °C" in said
    assert "spared most: —, ≤ −20 °C for 59–61 s, ≤ −40 °C for 0–7 s, frozen 1×" in said


_WITH_COLD = (
    *("normal", "alarm", "degraded", "earlier_ct"),
    *("thaw", "replay", "core_silent", "no_ice"),
)


@pytest.mark.parametrize("language", ["en", "fr"])
def test_nothing_is_said_without_a_forecast_of_now(normal: Snapshot, language: str) -> None:
    for name, s in samples.states(normal).items():
        said = cold.lines(model_of(s, language), s)
        if name in _WITH_COLD:
            assert len(said) == 3, name
            assert ("earlier" in said[0] or "précédent" in said[0]) == (name == "earlier_ct"), name
            assert ("ncert" in said[0]) == (name == "degraded"), name
        elif name == "stale":
            assert len(said) == 1
            assert not any(c.isdigit() for c in said[0])
        else:
            assert said == (), name
    assert "ncert" in cold.lines(model_of(doubted(normal), language), doubted(normal))[0]
    silent = screen_model(Inputs(normal, samples.NOW, 3.0, language))
    assert cold.lines(silent, normal) == ()
    late = normal.forecast_times_utc_s[-1] + 1.0
    ahead = replace(normal, stale_after_s=1e6)
    assert cold.lines(model_of(ahead, language, late), ahead) == ()


# --------------------------------------------------------------------------- the pane


def shown(screen: Make, s: Snapshot | None, language: str = "en") -> Any:
    window = screen(s, language).window
    while window.scene.views.third != "dose":
        window.show_views(Views.next_third)
    window.scene.chosen = MIDDLE
    window.refresh()
    return window


def settled(window: Any) -> np.ndarray:
    while window.turns.waiting:
        QApplication.processEvents()
    x, y, w, h = window.layout_now.boxes["dose"]
    return pixels(window)[y : y + h, x : x + w]


def coloured(window: Any, degc: float) -> bool:
    """Whether the pane is coloured (not grey) at a point of the plane that has been that cold by the output
    it shows, far from every line."""
    image, pane = settled(window), window.dose
    room, frame = pane._room(), pane._frame()
    field = window.scene.lowest
    plane = np.asarray(field[pane.output()], float)
    s = window.scene.snapshot
    axes = s.forecast_grid.axes_lps_mm()
    k = int(np.argmin(np.abs(axes[0] - MIDDLE[0])))
    z, y = np.unravel_index(int(np.argmin(np.abs(plane[:, :, k] - degc))), plane[:, :, k].shape)
    assert abs(plane[z, y, k] - degc) < 4.0
    x_px, y_px = frame.to_px(np.array([axes[0][k], axes[1][y], axes[2][z]]))
    x0, y0 = round(x_px + room.x()), round(y_px + room.y())
    patch = image[y0 - 2 : y0 + 3, x0 - 2 : x0 + 3].reshape(-1, 3).astype(int)
    return bool(np.median(np.ptp(patch, axis=1)) > 20)


def test_what_was_cold_is_coloured_and_what_was_not_is_not(normal: Snapshot, screen: Make) -> None:
    window = shown(screen, normal)
    assert window.dose.plane is SAGITTAL
    assert window.dose.output() == 0, "48 s after the CT the output of a minute is still to come"
    for degc in (-70.0, -30.0, -10.0):
        assert coloured(window, degc), degc
    assert not coloured(window, 20.0)


def test_it_moves_on_with_time_and_never_ahead_of_it(normal: Snapshot, screen: Make) -> None:
    window = shown(screen, normal)
    for seconds, i in ((11.9, 0), (12.0, 1), (71.0, 1), (72.0, 2)):
        now_utc_s = samples.NOW + seconds
        window.show_snapshot(replace(normal, now_utc_s=now_utc_s, heartbeat_utc_s=now_utc_s))
        assert window.dose.output() == i, seconds


def test_a_colour_and_a_hatch_for_every_class() -> None:
    assert [(low, high) for low, high, _, _ in CLASSES] == [(None, -40), (-40, -20), (-20, 0)]
    assert len({hatch for *_, hatch in CLASSES}) == len({name for _, _, name, _ in CLASSES}) == 3
    assert all(name in COLOURS for _, _, name, _ in CLASSES)


def no_colour(window: Any) -> bool:
    """Nothing of the classes' colours in the picture, whose lesion and frame are yellow."""
    image, room = settled(window).astype(int), window.dose._room()
    inside = image[int(room.top()) + 10 : int(room.bottom()) - 10, 10:-10]
    bluish = inside[..., 2] - inside[..., 0] > 15
    return int(bluish.sum()) == 0


@pytest.mark.parametrize(
    "name", ["stale", "invalid", "blocked", "baseline", "waiting", "ended", "no_core"]
)
def test_what_may_not_be_shown_is_not(
    normal: Snapshot, screen: Make, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not no_colour(shown(screen, normal)), "else this could not fail"
    s = samples.states(normal)[name]
    window = shown(screen, s)
    assert window.dose.output() is None
    if s is not None:
        assert no_colour(window)
    with caught(monkeypatch) as drawn:
        window.dose._make()
    assert not any("PREDICTED" in d.text or "≤" in d.text for d in drawn)


@pytest.mark.parametrize(("language", "word"), [("en", "PREDICTED"), ("fr", "PRÉDIT")])
def test_it_says_that_it_is_predicted_of_when_and_whether_it_is_unsure(
    normal: Snapshot, screen: Make, language: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for s, unsure in (
        (normal, False),
        (doubted(normal), True),
        (samples.states(normal)["degraded"], True),
    ):
        window = shown(screen, s, language)
        with caught(monkeypatch) as drawn:
            window.dose._make()
        (title,) = (d.text for d in drawn if word in d.text)
        assert title.endswith(f"CT{NBSP}+{NBSP}00:00")
        assert ("?" in title) == unsure
        assert sum("≤" in d.text for d in drawn) == 3


def test_another_time_is_said_and_an_earlier_scan_has_no_prediction(
    normal: Snapshot, screen: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = shown(screen, normal)
    window.look_on(4)
    at_utc_s = window.look.at_utc_s
    assert normal.forecast_times_utc_s[window.dose.output()] <= at_utc_s
    with caught(monkeypatch) as drawn:
        window.dose._make()
    said = [d.text for d in drawn]
    assert any("coldest by then" in x for x in said)
    assert any("FORECAST +" in x for x in said)
    window.look_now()
    window.look_on(-1)
    assert window.dose.output() is None
    with caught(monkeypatch) as drawn:
        window.dose._make()
    assert "no prediction" in [d.text for d in drawn]


def test_a_field_that_is_not_of_these_times_or_not_a_number_is_not_shown(
    normal: Snapshot, screen: Make, folder: Any
) -> None:
    assert normal.forecast_lowest is not None
    field = np.load(normal.forecast_lowest.path)
    short = samples.save(folder, "short", field[:3])
    assert shown(screen, replace(normal, forecast_lowest=short)).dose.output() is None
    assert shown(screen, replace(normal, forecast_lowest=None)).dose.output() is None
    field = np.full_like(field, np.nan)
    assert no_colour(
        shown(screen, replace(normal, forecast_lowest=samples.save(folder, "n", field)))
    )
    nothing_yet = samples.save(folder, "inf", np.full_like(field, np.inf))
    assert no_colour(shown(screen, replace(normal, forecast_lowest=nothing_yet)))


def test_before_the_freeze_there_is_none(normal: Snapshot) -> None:
    s = replace(normal, phase=Phase(PhaseKind.WAITING, 0, None, None))
    assert cold.trust(model_of(s), s) is Trust.NONE
