"""The simulator's own freezing, and what it does to the CT numbers. mm, °C, seconds, ml."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from scanner_sim import scenario as scenarios
from scanner_sim.frame import Frame, on_axes
from scanner_sim.freezing import heat as heat_module
from scanner_sim.freezing.heat import Heat, output_frame, resampled, volumes_m3
from scanner_sim.freezing.ice import State, changed_hu
from scanner_sim.patient.anatomy import Anatomy
from scanner_sim.scenario import Body, Ice, Scenario, tissue_names
from tests.scanner_sim.blocks import AWE, block, nearest_voxel

# The simulator's ice changes seldom, and is slow to grow.
pytestmark = pytest.mark.long


def bare(needles: int = 1, **changes: object) -> Scenario:
    """One phase of freezing from 0 s on, without bodies or motion."""
    s = scenarios.load(AWE)
    plain = {"bodies": (), "start_after_baseline_s": 0.0, "needles": s.needles[:needles]}
    return replace(s, **{**plain, **changes})


def ice_ml(heat: Heat) -> float:
    return float(volumes_m3(heat.frame)[heat.frozen_fraction() >= 0.5].sum() * 1e6)


def frozen(scenario: Scenario, tissue: str, until_s: float, step_s: float = 2.0) -> Heat:
    heat = Heat(scenario, block(scenario, tissue), step_s)
    heat.advance(until_s)
    return heat


def test_a_plane_front_follows_the_equation() -> None:
    """A slab with one cold face against an independent solver (method of lines, BDF, 0.4 mm) of the
    same law: freezing-point depression, conductivity by frozen share."""
    rho_cu, rho_cf, latent, tl, ku, kf = 3.6e6, 1.9e6, 2.4e8, -0.6, 0.5, 2.0
    wall, n, fine = -80.0, 60, 120

    def law(h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        b = rho_cf * tl + latent + np.minimum(h, 0.0)
        cold = (b - np.sqrt(b * b - 4.0 * rho_cf * latent * tl)) / (2.0 * rho_cf)
        t = np.where(h >= 0, tl + h / rho_cu, cold)
        return t, ku + np.where(t < tl, 1.0 - tl / np.minimum(t, tl), 0.0) * (kf - ku)

    def rate(_: float, h: np.ndarray) -> np.ndarray:
        t, k = law(h)
        dx = 48e-3 / fine
        flux = 2.0 * k[1:] * k[:-1] / (k[1:] + k[:-1]) * np.diff(t) / dx
        left = k[0] * (t[0] - wall) / (0.5 * dx)
        return np.diff(np.concatenate([[left], flux, [0.0]])) / dx

    start = np.full(fine, rho_cu * (37.0 - tl))
    exact, _ = law(solve_ivp(rate, (0.0, 300.0), start, "BDF", rtol=1e-5, atol=10.0).y[:, -1])

    shape = (1, 1, n)
    full = lambda v: np.full(shape, v, np.float32)  # noqa: E731
    h, dx = full(rho_cu * (37.0 - tl)), 48e-3 / n
    gaps = [np.full((2, m), dx, np.float32) for m in shape]
    props = [full(v) for v in (rho_cu, rho_cf, latent, tl, ku, kf)]
    for _ in range(300):
        guess = h
        for _ in range(2):
            t, c, k = heat_module._coefficients(h, guess, *props)
            rate_w, towards = full(0.0), full(0.0)
            rate_w[0, 0, 0] = k[0, 0, 0] / (0.5 * dx) / dx
            towards[0, 0, 0] = rate_w[0, 0, 0] * wall
            change = heat_module._residual(t, k, c, rate_w, towards, *gaps, np.float32(1.0))
            heat_module._solve(change, k, c, rate_w, *gaps, np.float32(1.0))
            guess = h + c * change
        h = guess
    ours = law(h[0, 0].astype(float))[0]
    x, xf = (np.arange(n) + 0.5) * dx * 1e3, (np.arange(fine) + 0.5) * 48.0 / fine
    fronts = [np.interp(-1.2, t, at) for t, at in ((ours, x), (exact, xf))]
    assert fronts[0] == pytest.approx(fronts[1], abs=0.3 * dx * 1e3)
    assert np.abs(np.interp(xf, x, ours) - exact)[2:-2].max() < 2.0


def test_the_answer_does_not_hang_on_the_step() -> None:
    volumes = [ice_ml(frozen(bare(2), "muscle", 300.0, step_s)) for step_s in (2.0, 0.5)]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.01)


def test_one_needle_freezes_a_ball_of_published_size() -> None:
    """One 1.5 mm argon needle, ten minutes: 25-45 mm long and 16-40 mm across (human lung 25 × 16,
    the maker's gel 37 × 32, swine kidney 50 × 40 mm)."""
    scenario = bare()
    heat = frozen(scenario, "muscle", 600.0)
    even = output_frame(block(scenario, "muscle"))
    ice = resampled(heat.frozen_fraction(), heat.frame, even) >= 0.5
    extent = [np.ptp(np.flatnonzero(ice.any(axis=axes))) + 1 for axes in ((0, 1), (0, 2), (1, 2))]
    assert 25 <= extent[0] <= 45  # the needle runs along x
    assert all(16 <= e <= 40 for e in extent[1:])
    assert -156.0 < heat.temperature_degc().min() < -60.0


def test_freezing_moves_exactly_the_heat_it_takes() -> None:
    """Without needles, blood or air the enthalpy of the box does not change."""
    scenario = bare(needles=0)
    still = replace(scenario.tissues["muscle"], perfusion_per_s=0.0)
    scenario = replace(scenario, tissues={**scenario.tissues, "muscle": still})
    heat = Heat(scenario, block(scenario, "muscle"))
    heat._h[20:30, 20:30, 15:30] = -2.0e8  # a frozen block in warm tissue
    volumes = volumes_m3(heat.frame)
    before = float((heat._h * volumes).sum())
    coldest = float(heat.temperature_degc().min())
    heat.advance(60.0)
    assert abs(float((heat._h * volumes).sum()) - before) < 2e-4 * abs(before)
    assert float(heat.temperature_degc().min()) > coldest + 0.3


def test_blood_keeps_ice_small() -> None:
    sizes = {t: ice_ml(frozen(bare(), t, 600.0)) for t in ("muscle", "kidney")}
    assert sizes["kidney"] < 0.85 * sizes["muscle"]


def test_a_vessel_stays_warm_and_bites_into_the_ice() -> None:
    scenario = bare(2)
    free = block(scenario, "liver", 60.0)
    x, y, z = free.frame.grid()
    cx, cy, cz = scenario.lesion.centre_lps_mm
    vessel = ((y - cy - 12.0) ** 2 + (z - cz) ** 2 < 49.0) & (np.abs(x - cx) < 60)
    label = free.label.copy()
    label[np.broadcast_to(vessel, label.shape)] = tissue_names().index("blood")
    volumes = []
    for anatomy in (free, replace(free, label=label)):
        heat = Heat(scenario, anatomy)
        heat.advance(400.0)
        volumes.append(ice_ml(heat))
    inside = heat._vessel & (heat._label == tissue_names().index("blood"))
    assert heat.temperature_degc()[inside].mean() > 33.0
    assert volumes[1] < 0.93 * volumes[0]


def test_a_failed_needle_draws_no_more_heat() -> None:
    scenario = bare(2)
    failing = replace(scenario.needles[1], fails_at_s=120.0)
    sick = replace(scenario, needles=(scenario.needles[0], failing))
    same, less = (ice_ml(frozen(s, "muscle", 120.0)) for s in (scenario, sick))
    assert same == pytest.approx(less)
    assert ice_ml(frozen(sick, "muscle", 480.0)) < 0.8 * ice_ml(frozen(scenario, "muscle", 480.0))


def test_thawed_lung_fills_with_blood_around_the_ice() -> None:
    lung = bare(ice=Ice(bleeding_mm=5.0))
    anatomy = block(lung, "lung")
    heat = Heat(lung, anatomy)
    heat.advance(599.0)
    assert not heat.wet.any()
    ice = heat.frozen_fraction() >= 0.5
    heat.advance(610.0)
    wet_ml = float(volumes_m3(heat.frame)[heat.wet].sum() * 1e6)
    assert (heat.wet[ice]).all()
    around = heat_module._distance_mm(ice, heat.frame) < 5.0
    assert wet_ml == pytest.approx(float(volumes_m3(heat.frame)[around].sum() * 1e6), rel=0.3)
    assert (heat._label[heat.wet] == tissue_names().index("lung_wet")).all()


def state_of(scenario: Scenario, anatomy: Anatomy, until_s: float) -> State:
    heat = Heat(scenario, anatomy)
    heat.advance(until_s)
    even = output_frame(anatomy)
    fields = (heat.frozen_fraction(), heat.temperature_degc(), heat.wet.astype(np.float32))
    return State(even, *(resampled(f, heat.frame, even) for f in fields))


@pytest.mark.parametrize(
    ("tissue", "low_hu", "high_hu"),
    [("muscle", 50, 85), ("liver", 50, 85), ("kidney", 50, 85), ("fat", 4, 15), ("bone", 1, 8)],
)
def test_ct_numbers_fall_as_published(tissue: str, low_hu: float, high_hu: float) -> None:
    """85 HU in water, 50-85 in water-rich tissue, little in fat and bone (Sandison 1998)."""
    scenario = bare()
    anatomy = block(scenario, tissue, 60.0)
    state = state_of(scenario, anatomy, 400.0)
    window, hu = changed_hu(scenario, anatomy, state, 400.0)
    parts = (a[w] for a, w in zip((anatomy.frame.z, anatomy.frame.y, anatomy.frame.x), window,
                                  strict=True))  # fmt: skip
    share = on_axes(state.fraction, state.frame, *parts)
    drop = anatomy.hu[window] - hu
    assert low_hu < np.median(drop[share > 0.9]) < high_hu
    assert np.abs(drop[share == 0.0]).max() < 1e-3


def test_ice_cracks_and_saline_show_where_and_when_they_should() -> None:
    pocket = Body("saline", "fluid", ((36.0, -70.0, 30.0),), (6.0, 6.0, 6.0), appears_at_s=200.0)
    scenario = bare(bodies=(pocket,), ice=Ice(cracks=3, cracks_at_s=300.0))
    anatomy = block(scenario, "muscle", 60.0)
    frame = anatomy.frame
    fine = Frame(*(np.arange(a[0], a[-1], 1.0) for a in (frame.x, frame.y, frame.z)))
    hu = np.full(fine.shape, 56.0, np.float32)
    label = np.full(fine.shape, tissue_names().index("muscle"), np.uint8)
    anatomy = replace(anatomy, frame=fine, hu=hu, label=label)
    state = state_of(scenario, anatomy, 320.0)
    lowest, saline = [], []
    for time_s in (150.0, 250.0, 320.0):
        window, now = changed_hu(scenario, anatomy, state, time_s)
        lowest.append(float(now.min()))
        whole = hu.copy()
        whole[window] = now
        saline.append(float(whole[nearest_voxel(fine, (36.0, -70.0, 30.0))]))
    assert saline[0] == pytest.approx(56.0, abs=1.0)
    assert saline[1] == saline[2] == pytest.approx(scenario.tissues["fluid"].hu, abs=1.0)
    assert lowest[0] == pytest.approx(lowest[1], abs=1.0)
    assert lowest[2] < -60.0 < lowest[1]
