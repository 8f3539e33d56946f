"""Another time than now: the strip, looking back at scans and forward into the forecast. UTC seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import view_samples as samples
from PyQt5.QtCore import QEvent, QPointF, Qt
from PyQt5.QtGui import QKeyEvent, QMouseEvent
from PyQt5.QtWidgets import QApplication
from view_pixels import like, pixels

from monitor.model import SDS_90, Alarm, Assessment, PhaseKind, Priority
from monitor.snapshot import Snapshot
from monitor.view.looking import look_at, seen_then, stepped
from monitor.view.strip_model import StripModel, strip_model
from monitor.view.viewmodel import Inputs, State, screen_model

Make = Callable[..., Any]
NOW = samples.NOW


def strip(s: Snapshot, silent_s: float = 0.1) -> StripModel | None:
    model = screen_model(Inputs(s, s.now_utc_s, silent_s, "en"))
    return strip_model(s, model, s.now_utc_s, None)


def press(screen: Any, key: Any, repeat: bool = False) -> None:
    event = QKeyEvent(QEvent.KeyPress, key, Qt.NoModifier, "", repeat)
    QApplication.sendEvent(screen.window, event)


def drag(screen: Any, at_utc_s: float) -> None:
    """Presses the mouse on the strip at a time."""
    area = screen.window.strip
    at = QPointF(area.x_of(at_utc_s), area.height() / 2)
    for kind in (QEvent.MouseButtonPress, QEvent.MouseMove):
        QApplication.sendEvent(
            area, QMouseEvent(kind, at, Qt.LeftButton, Qt.LeftButton, Qt.NoModifier)
        )


# --------------------------------------------------------------------------- what the strip says


def test_scans_are_points_with_their_bounds_and_the_unmeasured_are_none(normal: Snapshot) -> None:
    shown = strip(normal)
    assert shown is not None
    volume, coverage, margin = shown.tracks
    assert [p.at_utc_s for p in volume.points] == [NOW - 228.0, NOW - 48.0], (
        "no point of the baseline"
    )
    assert (volume.points[0].low, volume.points[0].value, volume.points[0].high) == (7.2, 8.1, 9.3)
    assert coverage.points[0].value == pytest.approx(71.0)
    assert (coverage.points[0].low, coverage.points[0].high) == pytest.approx((64.0, 78.0))
    assert coverage.second[0].value == pytest.approx(48.0)
    assert margin.points[0].low == pytest.approx(-5.4 - SDS_90 * 1.1)


@pytest.mark.requirement("REQ-FORECAST-APART")
def test_the_forecast_is_a_band_that_begins_now_and_never_earlier(normal: Snapshot) -> None:
    shown = strip(normal)
    assert shown is not None
    for track in shown.tracks:
        times = [t for t, _, _ in track.band]
        assert times[0] == normal.now_utc_s
        assert times == sorted(times)
        assert all(low <= high for _, low, high in track.band)
    assert strip(replace(normal, course=None)).tracks[0].band == ()  # type: ignore[union-attr]
    assert strip(normal, silent_s=9.0).tracks[0].band == (), "a dead core foresees nothing"  # type: ignore[union-attr]


def test_phases_stand_in_order_and_planned_ones_follow(normal: Snapshot) -> None:
    shown = strip(normal)
    assert shown is not None
    assert [name for _, name in shown.phases] == ["Freeze\u00a01", "Thaw", "Freeze\u00a02"]
    assert shown.start_utc_s == NOW - 520.0
    assert shown.end_utc_s >= NOW + 198.0


@pytest.mark.parametrize("name", ["blocked", "no_core", "waiting"])
def test_nothing_of_a_patient_is_on_a_blank_strip(normal: Snapshot, name: str) -> None:
    s = samples.states(normal)[name]
    model = screen_model(Inputs(s, NOW, 0.1, "en"))
    assert strip_model(s, model, NOW, None) is None


# --------------------------------------------------------------------------- looking, without Qt


def test_before_now_the_nearest_scan_after_it_the_forecast(normal: Snapshot) -> None:
    back = look_at(normal, NOW - 250.0, NOW)
    assert back is not None
    assert back.scan is not None
    assert back.scan.assessment.volume_id == "v002"
    ahead = look_at(normal, NOW + 180.0, NOW)
    assert ahead is not None
    assert ahead.scan is None
    assert ahead.at_utc_s == NOW + 180.0
    assert look_at(replace(normal, forecast_times_utc_s=()), NOW + 180.0, NOW) is None
    assert look_at(normal, NOW - 1.0, NOW) is None, "the latest scan is what is shown now"


def test_nothing_is_foreseen_past_the_planned_end_of_the_phase(normal: Snapshot) -> None:
    """The forecast has the freeze go on; the plan has a thaw follow."""
    end = normal.phase.ends_utc_s
    assert end is not None
    assert NOW < end < normal.forecast_times_utc_s[-1]
    assert look_at(normal, NOW + 9000.0, NOW).at_utc_s == end  # type: ignore[union-attr]
    for track in strip(normal).tracks:  # type: ignore[union-attr]
        times = [t for t, _, _ in track.band]
        assert (times[0], times[-1]) == (NOW, end)
        assert times == sorted(times)
    endless = replace(normal, phase=replace(normal.phase, ends_utc_s=None))
    last = normal.forecast_times_utc_s[-1]
    assert look_at(endless, NOW + 9000.0, NOW).at_utc_s == last  # type: ignore[union-attr]


def test_steps_go_over_the_scans_and_into_the_forecast(normal: Snapshot) -> None:
    one = stepped(normal, None, -1, NOW)
    two = stepped(normal, one, -1, NOW)
    assert one.scan.assessment.volume_id == "v002"  # type: ignore[union-attr]
    assert two.scan.assessment.volume_id == "v001"  # type: ignore[union-attr]
    assert stepped(normal, two, -5, NOW) == two
    assert stepped(normal, one, +1, NOW) is None
    ahead = stepped(normal, None, +1, NOW)
    assert ahead.at_utc_s == NOW + 60.0  # type: ignore[union-attr]
    assert stepped(normal, ahead, +1, NOW).at_utc_s == NOW + 120.0  # type: ignore[union-attr]
    assert stepped(normal, ahead, -1, NOW) is None


def test_a_past_scan_is_drawn_where_the_target_lay_then_and_without_forecast(
    normal: Snapshot,
) -> None:
    past = normal.history[1]
    grid = replace(past.analysis_grid, origin_lps_mm=(-37.0, -140.0, -52.0))
    history = (normal.history[0], replace(past, analysis_grid=grid), normal.history[2])
    s = replace(normal, history=history, structure_grids=(samples.GRID,))
    seen = seen_then(s, look_at(s, NOW - 228.0, NOW))
    moved = np.array(seen.needles[0].tip_lps_mm) - s.needles[0].tip_lps_mm
    assert moved == pytest.approx([3.0, 0.0, -4.0])
    assert seen.structure_grids[0].origin_lps_mm == (-37.0, -140.0, -52.0)
    assert seen.forecast_temperature is None
    assert seen.ice_sdf == past.ice_sdf


# --------------------------------------------------------------------------- the window


def test_dragging_back_changes_the_planes_and_not_the_numbers(
    normal: Snapshot, screen: Make
) -> None:
    s = screen(normal)
    numbers = pixels(s.window.readouts)
    drag(s, NOW - 228.0)
    assert s.window.scene.snapshot.volume_id == "v002"
    # Qt smooths a large glyph's edge a few levels differently the first time it draws it.
    assert np.abs(pixels(s.window.readouts) - numbers).max() <= 16
    for name, pane in s.window.panes.items():
        assert "−03:48" in pane.model.looking[0], name
        assert like(pixels(pane)[-40:], "look", 6).mean() > 0.5, "the banner is at its foot"
        assert pane.model.layers.predicted_at_utc_s is None
        assert pane._prediction == []
    press(s, Qt.Key_End)
    assert s.window.scene.snapshot.volume_id == "v003"
    assert all(pane.model.looking == () for pane in s.window.panes.values())


@pytest.mark.requirement("REQ-FORECAST-APART")
def test_forward_shows_no_measured_ice(normal: Snapshot, screen: Make) -> None:
    s = screen(normal)
    drag(s, NOW + 150.0)
    pane = s.window.panes["axial"]
    assert not pane.model.layers.ice
    assert pane.model.layers.predicted_at_utc_s == pytest.approx(NOW + 150.0, abs=5.0)
    assert "NOT MEASURED" in pane.model.looking[1]
    assert pane._prediction[0].boundingRect().width() > 0


@pytest.mark.requirement("REQ-ALARM-SEEN")
def test_a_new_alarm_is_in_the_row_whatever_is_looked_at(normal: Snapshot, screen: Make) -> None:
    s = screen(normal)
    press(s, Qt.Key_Left)
    assert s.window.look is not None
    near = Alarm("structure_near", Priority.HIGH, NOW, {"name": "colon"}, about="colon")
    s.window.show_snapshot(replace(normal, seq=8, alarms=(near,)))
    assert s.window.look is not None
    assert s.window.model.alarm.code == "structure_near"
    assert like(pixels(s.window.alarm_row), "alarm_high").mean() > 0.5


@pytest.mark.requirement("REQ-IMAGE-AGE")
def test_a_new_scan_or_a_minute_or_a_block_brings_now_back(normal: Snapshot, screen: Make) -> None:
    s = screen(normal)
    press(s, Qt.Key_Left)
    s.window.show_snapshot(replace(normal, seq=8, volume_id="v004"))
    assert s.window.look is None
    press(s, Qt.Key_Left)
    s.window.show_snapshot(replace(normal, seq=9, volume_id="v004", blocked=True))
    assert s.window.look is None
    assert s.window.model.state is State.BLOCKED
    s.window.show_snapshot(replace(normal, seq=10, volume_id="v004"))
    press(s, Qt.Key_Left)
    s.mono_s += 61.0
    s.window.show_snapshot(replace(normal, seq=11, volume_id="v004"))
    s.window.refresh()
    assert s.window.look is None


def test_a_silent_core_frames_in_red_whatever_is_looked_at(normal: Snapshot, screen: Make) -> None:
    s = screen(normal)
    press(s, Qt.Key_Left)
    s.mono_s += 3.0
    s.window.refresh()
    assert s.window.model.state is State.CORE_SILENT
    assert s.window.panes["axial"].model.frame == "alarm_high"


def test_a_silent_core_is_not_asked_about_the_future(normal: Snapshot, screen: Make) -> None:
    s = screen(normal)
    press(s, Qt.Key_Right)
    assert s.window.panes["axial"].model.looking
    s.mono_s += 3.0
    s.window.refresh()
    assert s.window.panes["axial"].model.looking == ()
    assert s.window.panes["axial"].model.layers.predicted_at_utc_s is None
    assert s.window.strip.shown.looked_utc_s is None


def test_bands_of_the_protocol() -> None:
    from monitor.config import PhaseConfig, ProtocolConfig
    from monitor.decision.protocol import Progress
    from monitor.publish import phase_bands

    rules = ProtocolConfig(
        phases=(
            PhaseConfig(PhaseKind.FREEZE, 600.0),
            PhaseConfig(PhaseKind.THAW, 300.0),
            PhaseConfig(PhaseKind.FREEZE, 360.0),
        ),
        start_after_baseline_s=None,
    )
    assert phase_bands(Progress(), rules) == ()
    bands = phase_bands(Progress((100.0, 500.0)), rules)
    assert [(b.start_utc_s, b.end_utc_s) for b in bands] == [(100, 500), (500, 800), (800, 1160)]
    assert [b.cycle for b in bands] == [1, 1, 2]
    over = phase_bands(Progress((100.0, 500.0), 650.0), rules)
    assert [(b.start_utc_s, b.end_utc_s) for b in over] == [(100, 500), (500, 650)]


def test_the_assessments_of_the_samples_obey_the_house_rule(normal: Snapshot) -> None:
    """Coverage below 1 and a negative margin are the same statement, also in what the strip is fed."""
    for scan in normal.history:
        a: Assessment = scan.assessment
        if a.min_margin_mm is not None and a.lesion_covered is not None:
            assert (a.lesion_covered < 1.0) == (a.min_margin_mm < 0.0)
