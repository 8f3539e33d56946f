"""A line that draws Q watts per metre out of an infinite medium: exact cylinders of ice.

Sharp front: Paterson 1952 (Carslaw & Jaeger §11.6). Mushy zone: the similarity solution in
η = r/√t (its form: Özışık & Uzzell 1979) for our own law, integrated here: with the heat potential θ,
dθ = k dT, and g = ηθ', the heat equation becomes g' = −(η/2)(C/k)g with g(0) = Q/2π, C = dH/dT.
SI units, mm, °C.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.ndimage import map_coordinates
from scipy.optimize import brentq

from gpu_kernels.cpu import CpuEngine
from gpu_kernels.engine import Needle, Problem, Tissue
from tests.analytic.test_exact_solutions import A_S, SHARP, T_I, line_sink_lambda

MUSHY = Tissue("mushy", 1000.0, 3600.0, 1800.0, 0.5, 2.0, 250e3, -8.0, -1.0, 0.0, 0.0)
POWER_W_M = 500.0


def _sink(tip_mm: tuple[float, float, float], direction: tuple[float, float, float]) -> Needle:
    d = np.array(direction) / np.linalg.norm(direction)
    unit = (float(d[0]), float(d[1]), float(d[2]))
    return Needle(tip_mm, unit, 1.5, 400.0, cooling_w_per_m=((0.0, POWER_W_M),))


def _slab(tissue: Tissue, spacing_mm: tuple[float, float, float], size_mm: float = 90.0) -> Problem:
    """Three voxels along the needle, insulated: an infinite line."""
    counts = [round(size_mm / d) | 1 for d in spacing_mm[:2]]
    low = [-0.5 * (n - 1) * d for n, d in zip(counts, spacing_mm, strict=False)]
    return Problem(
        np.zeros((3, counts[1], counts[0]), np.uint8),
        (tissue,),
        (low[0], low[1], -spacing_mm[2]),
        spacing_mm,
        (_sink((0.31, 0.47, -200.0), (0.0, 0.0, 1.0)),),
        boundary="insulated",
    )


def _fields(problem: Problem, until_s: float) -> tuple[np.ndarray, np.ndarray]:
    engine = CpuEngine()
    state = engine.advance(problem, engine.initial(problem, T_I), until_s)
    return engine.frozen_fraction(problem, state)[0], engine.temperature_degc(problem, state)[0]


@pytest.mark.parametrize(
    "spacing_mm", [(1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (1.0, 2.0, 2.0), (2.0, 0.8, 1.5)]
)
@pytest.mark.parametrize("until_s", [200.0, 600.0])
def test_sharp_front_is_the_exact_circle(
    spacing_mm: tuple[float, float, float], until_s: float
) -> None:
    """R(600 s) = 12.793 mm at 500 W/m (physics §4). Within half a percent or a quarter voxel."""
    fraction, _ = _fields(_slab(SHARP, spacing_mm), until_s)
    radius_mm = np.sqrt(fraction[1].sum() * spacing_mm[0] * spacing_mm[1] / np.pi)
    exact_mm = 2e3 * line_sink_lambda(POWER_W_M) * np.sqrt(A_S * until_s)
    assert radius_mm == pytest.approx(exact_mm, abs=max(0.005 * exact_mm, 0.25 * min(spacing_mm)))


def test_sharp_front_around_an_oblique_line() -> None:
    n = 61
    problem = Problem(
        np.zeros((n, n, n), np.uint8), (SHARP,), (-30.0,) * 3, (1.0,) * 3,
        (_sink((-70.0, -140.0, -91.0), (1.0, 2.0, 1.3)),), boundary="insulated",
    )  # fmt: skip
    fraction, _ = _fields(problem, 200.0)
    exact_mm = 2e3 * line_sink_lambda(POWER_W_M) * np.sqrt(A_S * 200.0)
    # The middle third, where the box's faces are far: ice per length of the line.
    d = np.array([1.0, 2.0, 1.3]) / np.linalg.norm([1.0, 2.0, 1.3])
    z, y, x = np.indices(fraction.shape) - 30.0
    along = x * d[0] + y * d[1] + z * d[2]
    middle = np.abs(along) < 8.0
    radius_mm = np.sqrt(fraction[middle].sum() / 16.0 / np.pi)
    assert radius_mm == pytest.approx(exact_mm, abs=0.25)


# ------------------------------------------------------------------ mushy zone


def _curves(t: np.ndarray, tissue: Tissue) -> tuple[np.ndarray, np.ndarray]:
    """C = dH/dT (J/m³/K) and k (W/m/K) of a temperature."""
    width = tissue.liquidus_degc - tissue.solidus_degc
    rho = tissue.rho_kg_m3
    mean_c = 0.5 * (tissue.c_frozen_j_kg_k + tissue.c_unfrozen_j_kg_k)
    c = np.where(t < tissue.solidus_degc, tissue.c_frozen_j_kg_k, tissue.c_unfrozen_j_kg_k)
    mushy = (t >= tissue.solidus_degc) & (t <= tissue.liquidus_degc)
    c = np.where(mushy, mean_c + tissue.latent_heat_j_kg / width, c)
    share = np.clip((t - tissue.solidus_degc) / width, 0.0, 1.0)
    k = tissue.k_frozen_w_m_k + share * (tissue.k_unfrozen_w_m_k - tissue.k_frozen_w_m_k)
    return rho * c, k


@functools.cache
def similarity() -> tuple[np.ndarray, np.ndarray]:
    """η (m/√s) and T of the mushy medium, by shooting on the temperature close to the line."""

    def slope(log_eta: float, y: np.ndarray) -> list[float]:
        eta, (t, g) = np.exp(log_eta), y
        c, k = _curves(np.array(t), MUSHY)
        return [float(g / k), float(-0.5 * eta**2 * c / k * g)]

    eta0, eta1 = np.log(2e-6), np.log(6e-3)

    def end(t0: float, dense: bool = False) -> object:
        return solve_ivp(slope, (eta0, eta1), [t0, POWER_W_M / (2 * np.pi)], rtol=1e-9, atol=1e-9,
                         max_step=0.01, dense_output=dense)  # fmt: skip

    t0 = brentq(lambda t: end(t).y[0, -1] - T_I, -400.0, -50.0, xtol=1e-6)  # type: ignore[attr-defined]
    at = np.linspace(eta0, eta1, 20_001)
    return np.exp(at), end(t0, dense=True).sol(at)[0]  # type: ignore[attr-defined]


def _exact_radius_mm(degc: float, until_s: float) -> float:
    eta, t = similarity()
    return float(1e3 * np.interp(degc, t, eta) * np.sqrt(until_s))


def test_similarity_solution_is_what_a_radial_run_tends_to() -> None:
    """Other numerics: finite volumes on radii, temperatures as unknowns, an implicit integrator."""
    edge = np.concatenate([[0.0], np.geomspace(2e-4, 0.09, 301)])
    centre, volume = 0.5 * (edge[1:] + edge[:-1]), 0.5 * np.diff(edge**2)

    def slope(_: float, t: np.ndarray) -> np.ndarray:
        c, k = _curves(t, MUSHY)
        at_edge = 0.5 * (k[1:] + k[:-1]) * np.diff(t) / np.diff(centre) * edge[1:-1]
        flux = np.concatenate([[0.0], at_edge, [0.0]])
        gain = np.diff(flux)
        gain[0] -= POWER_W_M / (2 * np.pi)
        return np.asarray(gain / volume / c)

    run = solve_ivp(slope, (0.0, 300.0), np.full(301, T_I), method="LSODA", lband=1, uband=1,
                    rtol=1e-5, atol=1e-4)  # fmt: skip
    for degc in (-20.0, -8.0, -1.0, 10.0):
        radius_mm = 1e3 * np.interp(degc, run.y[:, -1], centre)
        assert radius_mm == pytest.approx(_exact_radius_mm(degc, 300.0), rel=0.02)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (1.0, 1.8, 2.5)])
def test_mushy_front_is_the_similarity_solution(spacing_mm: tuple[float, float, float]) -> None:
    problem = _slab(MUSHY, spacing_mm)
    _, degc = _fields(problem, 600.0)
    angle = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)
    reach = np.linspace(2.0, 30.0, 1121)
    x = 0.31 + reach[:, None] * np.cos(angle)
    y = 0.47 + reach[:, None] * np.sin(angle)
    index = [(y - problem.origin_mm[1]) / spacing_mm[1], (x - problem.origin_mm[0]) / spacing_mm[0]]
    profiles = map_coordinates(degc[1].astype(float), index, order=1)
    for level in (-20.0, -8.0, -1.0):
        found = np.mean([np.interp(level, p, reach) for p in profiles.T])
        exact = _exact_radius_mm(level, 600.0)
        assert found == pytest.approx(exact, abs=max(0.005 * exact, 0.25 * min(spacing_mm))), level


def test_half_the_duty_is_half_the_power() -> None:
    full = _slab(SHARP, (2.0, 2.0, 2.0))
    half = replace(full, needles=(replace(full.needles[0], duty=0.5),))
    engine, lost = CpuEngine(), []
    for problem in (full, half):
        start = engine.initial(problem, T_I)
        end = engine.advance(problem, start, 200.0)
        lost.append((start.enthalpy_j_m3.astype(float) - end.enthalpy_j_m3).sum())
    assert lost[1] / lost[0] == pytest.approx(0.5, rel=1e-4)
