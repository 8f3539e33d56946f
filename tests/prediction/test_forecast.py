"""Times to coverage, needle tables, and a forecast that grows ice where the needles are."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from gpu_kernels.cpu import CpuEngine
from gpu_kernels.engine import Members
from monitor.case import load_case
from monitor.config import Config
from monitor.geometry import Grid
from monitor.imaging.distance import sample, signed_distance_mm
from monitor.model import Interval, PhaseKind
from monitor.prediction.ensemble import prior_of
from monitor.prediction.estimate import Estimate, first_estimate
from monitor.prediction.forecast import (
    Target,
    advance_forecast,
    begin_forecast,
    finish_forecast,
    interval_s,
)
from monitor.prediction.setup import make_problem, surface_table
from monitor.prediction.unexplained import spread

GRID = Grid((-34.0, -34.0, -34.0), (2.0, 2.0, 2.0), (35, 35, 35))
FREEZE = ((PhaseKind.FREEZE, 0.0, 1500.0),)
LABEL = np.zeros(GRID.shape_zyx, np.uint8)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    text = """
        patient = { id = "P" }
        organ = { preset = "abdominal_wall" }
        lesion = { centre_lps_mm = [0, 0, 0], radius_mm = 6 }
        needle = [{ number = 1, type = "icesphere_1_5", tip_lps_mm = [0, 11, 0], entry_lps_mm = [0, -80, 0] }]
    """
    path = tmp_path / "case.toml"
    path.write_text("\n".join(line.strip() for line in text.splitlines()), encoding="utf-8")
    return load_case(path)


def before_any_scan(config: Config, phases: tuple[Interval, ...]) -> Estimate:
    return first_estimate(
        prior_of(config), lambda m: make_problem(config, GRID, LABEL, phases, m), CpuEngine()
    )


@pytest.mark.requirement("REQ-FORECAST-HONEST")
def test_times_hold_the_middle_of_the_members() -> None:
    elapsed = np.array([0.0, 30.0, 60.0])
    least = np.array([[0.0, 0.0, 0.0], [0.25, 0.0, 0.0], [0.75, 1.0, 0.1]])
    assert interval_s(elapsed, least) == (45.0, np.inf)
    assert interval_s(elapsed, least[:, :2]) == (45.0, 45.0)
    assert interval_s(elapsed, least[:, 2:]) is None
    assert interval_s(elapsed, np.ones((3, 1))) == (0.0, 0.0)
    eleven = np.stack([np.zeros(11), np.linspace(0.5, 1.0, 11), np.ones(11)])
    crossing = 15.0 / np.linspace(0.5, 1.0, 11)
    assert interval_s(elapsed, eleven) == pytest.approx((crossing[9], crossing[1]))


def test_needles_are_driven_in_freezes_only(config: Config) -> None:
    table = surface_table(
        config.needles[0],
        (
            (PhaseKind.FREEZE, 0.0, 600.0),
            (PhaseKind.THAW, 600.0, 900.0),
            (PhaseKind.FREEZE, 900.0, 1800.0),
        ),
    )
    times = [t for t, _ in table]
    assert times == sorted(times)
    assert table[0] == (0.0, 37.0)
    assert np.isnan(dict(table)[600.0])
    assert dict(table)[960.0] == -140.0


def test_forecast_grows_and_says_when_the_lesion_is_in(config: Config) -> None:
    engine, estimate = CpuEngine(), before_any_scan(config, FREEZE)
    problem = make_problem(config, GRID, LABEL, FREEZE, estimate.members)
    points = np.array([[0.0, 0.0, 0.0], [6.0, 0.0, 0.0], [-6.0, 0.0, 0.0], [0.0, 0.0, 6.0]])
    near, far = np.array([[14.0, 0.0, 0.0]]), np.array([[30.0, 30.0, 30.0]])
    target = Target(
        points, points * 2.0, (("bowel", near), ("bone", far)), (near - [5.0, 0, 0], far)
    )
    job = begin_forecast(problem, estimate, GRID, target, PhaseKind.FREEZE)
    while not job.done:
        job = advance_forecast(job, engine, 5)
    forecast = finish_forecast(job, config, 1000.0, engine)
    assert (forecast.times_utc_s[0], forecast.times_utc_s[-1]) == (1000.0, 1900.0)
    volumes = [(t < forecast.edge_degc).sum() for t in forecast.temperature_degc]
    assert volumes == sorted(volumes)
    assert 3.0 < volumes[20] * 0.008 < 25.0  # ml after ten minutes of one needle
    low, high = forecast.time_to_lesion_s
    assert 20.0 < low < high < 600.0
    assert forecast.time_to_margin_s is None or forecast.time_to_margin_s[0] > low
    centre = sample(forecast.temperature_degc[20], GRID, points, np.nan)
    assert (centre < forecast.edge_degc).all()
    assert forecast.probability.shape == forecast.temperature_degc.shape
    share = [float(p.sum()) for p in forecast.probability]
    assert share == sorted(share)
    assert (forecast.probability.min(), forecast.probability.max()) == (0.0, 1.0)
    bowel, bone = forecast.structures
    assert bowel.time_to_contact_s is not None
    assert low < bowel.time_to_contact_s[0] < bowel.time_to_contact_s[1]
    assert bone.time_to_contact_s is None
    assert bowel.coldest_degc[0] < bowel.coldest_degc[1] < bone.coldest_degc[0]
    assert list(bowel.infringed) == sorted(bowel.infringed)
    assert len(bowel.infringed) == len(forecast.covered) == len(forecast.times_utc_s)
    elapsed = np.array(forecast.times_utc_s) - 1000.0
    at_limit = float(np.interp(0.5, bowel.infringed, elapsed))
    assert 30.0 < at_limit < bowel.time_to_contact_s[0]  # 5 mm before it is reached
    assert set(bone.infringed) == {0.0}


def test_bands_hold_the_middle_of_the_members_for_every_isotherm(config: Config) -> None:
    engine, estimate = CpuEngine(), before_any_scan(config, FREEZE)
    problem = make_problem(config, GRID, LABEL, FREEZE, estimate.members)
    target = Target(np.zeros((1, 3)), np.zeros((1, 3)))
    job = begin_forecast(problem, estimate, GRID, target, PhaseKind.FREEZE)
    job = advance_forecast(job, engine, 11)
    degc = np.asarray(engine.temperature_degc(problem, job.state), np.float32)
    elapsed_s, everywhere = job.state.time_s - job.times_s[0], np.ones(GRID.shape_zyx, bool)
    unexplained = spread(degc[1:], degc[0], elapsed_s, GRID, where=everywhere)
    assert (unexplained < 0.0).mean(0).max() == 1.0
    degc = unexplained
    colder, warmer = job.outputs[-1].band_degc
    for isotherm_degc in (0.0, -20.0, -40.0):
        share = (degc < isotherm_degc).mean(0)
        assert (share > 0.5).any()
        assert (share[colder < isotherm_degc] > 0.05).all()
        assert (share[warmer < isotherm_degc] > 0.85).all()
        assert (colder < isotherm_degc)[share > 0.15].all()
        assert (warmer < isotherm_degc)[share > 0.95].all()
        assert (warmer < isotherm_degc).sum() < (colder < isotherm_degc).sum()


def test_more_is_computed_just_after_a_phase_has_begun(config: Config) -> None:
    estimate = before_any_scan(config, FREEZE)
    problem = make_problem(config, GRID, LABEL, FREEZE, estimate.members)
    target = Target(np.zeros((1, 3)), np.zeros((1, 3)))

    def times(*began_s: float) -> tuple[float, ...]:
        job = begin_forecast(problem, estimate, GRID, target, PhaseKind.THAW, *began_s)
        return job.times_s

    assert times() == times(-400.0)
    assert times(42.0)[:9] == (0.0, 30.0, 42.0, 52.0, 60.0, 62.0, 72.0, 87.0, 90.0)
    assert times(0.0)[:7] == (0.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0)
    assert times(0.0)[-1] == 900.0


@pytest.mark.requirement("REQ-FORECAST-HONEST")
def test_what_these_needles_cannot_freeze_is_said(config: Config) -> None:
    engine, estimate = CpuEngine(), before_any_scan(config, FREEZE)
    problem = make_problem(config, GRID, LABEL, FREEZE, estimate.members)
    target = Target(np.zeros((1, 3)), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 31.0]]))
    job = begin_forecast(problem, estimate, GRID, target, PhaseKind.FREEZE)
    while not job.done:
        job = advance_forecast(job, engine, 31)
    forecast = finish_forecast(job, config, 0.0, engine)
    assert [r.code for r in forecast.reasons] == ["will_not_be_covered"]
    assert forecast.time_to_margin_s is None
    assert forecast.time_to_lesion_s is not None


def test_between_its_outputs_a_straight_line_is_the_engines_own_course(config: Config) -> None:
    """What the screen shows at any second; mm, by isotherm, in a freeze and in the thaw after it."""
    phases = ((PhaseKind.FREEZE, 0.0, 300.0), (PhaseKind.THAW, 300.0, 1500.0))
    engine, estimate = CpuEngine(), before_any_scan(config, phases)
    frozen = make_problem(config, GRID, LABEL, phases, Members())
    target = Target(np.zeros((1, 3)), np.zeros((1, 3)))
    off: dict[float, list[float]] = {}
    for start_s, began_s in ((0.0, 0.0), (270.0, 300.0)):
        state = engine.advance(frozen, engine.initial(frozen, 37.0), start_s)
        now = replace(estimate, state=replace(estimate.state, time_s=start_s))
        times_s = begin_forecast(frozen, now, GRID, target, PhaseKind.THAW, began_s).times_s
        for a, b in pairwise(times_s[:14]):
            state = engine.advance(frozen, state, a)
            ends = [engine.advance(frozen, state, t) for t in (a, 0.5 * (a + b), b)]
            first, middle, last = (engine.temperature_degc(frozen, x)[0] for x in ends)
            for level_degc in (-4.5, -20.0, -40.0):
                error_mm = _apart_mm(0.5 * (first + last), middle, level_degc)
                off.setdefault(level_degc, []).extend([] if error_mm is None else [error_mm])
    for level_degc, limit_mm in ((-4.5, 0.4), (-20.0, 0.6), (-40.0, 0.8)):
        assert len(off[level_degc]) > 10
        assert np.median(off[level_degc]) < 0.15
        assert max(off[level_degc]) < limit_mm


def _apart_mm(a: np.ndarray, b: np.ndarray, level_degc: float) -> float | None:
    """The mean distance of one isotherm in two fields."""
    mine, true = (signed_distance_mm((x - level_degc).astype(np.float32), GRID) for x in (a, b))
    near = np.abs(true) < 2.0
    return float(np.abs(mine - true)[near].mean()) if near.any() else None
