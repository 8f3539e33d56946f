"""The engines against exact solutions (SI units, mm, °C)."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import erf, erfc, exp1

from gpu_kernels.cpu import CpuEngine
from gpu_kernels.engine import Engine, Needle, Problem, Tissue
from gpu_kernels.reference import ReferenceEngine
from tests.gpu_kernels.problems import cube

# The material of the exact solutions, its front nearly sharp at −1 °C.
RHO, K_S, K_L, C_S, C_L, LATENT, T_F, T_I = 1000.0, 2.0, 0.5, 1800.0, 3600.0, 250e3, -1.0, 37.0
SHARP = Tissue("sharp", RHO, C_L, C_S, K_L, K_S, LATENT, T_F - 0.1, T_F + 0.1, 0.0, 0.0)
A_S, A_L = K_S / (RHO * C_S), K_L / (RHO * C_L)
ENGINES: list[Engine] = [CpuEngine(), ReferenceEngine()]


def neumann_front_mm(wall_degc: float, time_s: float) -> float:
    def balance(lam: float) -> float:
        solid = np.exp(-(lam**2)) / erf(lam)
        ratio = (K_L / K_S) * np.sqrt(A_S / A_L) * (T_I - T_F) / (T_F - wall_degc)
        liquid = ratio * np.exp(-(lam**2) * A_S / A_L) / erfc(lam * np.sqrt(A_S / A_L))
        return float(solid - liquid - lam * LATENT * np.sqrt(np.pi) / (C_S * (T_F - wall_degc)))

    return 1e3 * 2 * brentq(balance, 1e-3, 3.0) * np.sqrt(A_S * time_s)


def test_the_formula_gives_the_published_front() -> None:
    assert neumann_front_mm(-140.0, 600.0) == pytest.approx(26.099, abs=0.01)


def beside_a_wall(tissue: Tissue, cells: int) -> Problem:
    """A row of 1 mm cells whose first is a wall: so much heat capacity and conductivity that its far
    face, half a millimetre from its centre, keeps the temperature it starts with."""
    wall = Tissue("wall", 1e6, 1e6, 1e6, 1e3, 1e3, 0.0, T_F - 0.1, T_F + 0.1, 0.0, 0.0)
    label = np.zeros((3, 3, cells), np.uint8)
    label[..., 0] = 1
    return Problem(
        label, (tissue, wall), (0.0, 0.0, 0.0), (1.0, 10.0, 10.0), (), boundary="insulated"
    )


def start(problem: Problem, wall_degc: float) -> np.ndarray:
    return np.where(problem.label_zyx == 1, wall_degc, T_I)


@pytest.mark.requirement("REQ-ENGINE")
@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)
@pytest.mark.parametrize("wall_degc", [-140.0, -60.0])
def test_plane_front(engine: Engine, wall_degc: float) -> None:
    problem = beside_a_wall(SHARP, 90)
    state = engine.advance(problem, engine.initial(problem, start(problem, wall_degc)), 300.0)
    fraction = engine.frozen_fraction(problem, state)[0, 1, 1]
    # A sharp front inside a cell shows as the share of the cell that is frozen.
    front_mm = float(fraction[1:].sum())
    assert front_mm == pytest.approx(neumann_front_mm(wall_degc, 300.0), abs=0.25)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)
def test_perfusion_holds_a_cold_plane_off(engine: Engine) -> None:
    """Steady Pennes beside a plane at 10 °C: T − T_b falls off as exp(−mx)."""
    problem = beside_a_wall(replace(SHARP, perfusion_per_s=0.02), 60)
    state = engine.advance(problem, engine.initial(problem, start(problem, 10.0)), 900.0)
    profile = engine.temperature_degc(problem, state)[0, 1, 1, 1:]
    m = np.sqrt(0.02 * problem.blood.rho_kg_m3 * problem.blood.c_j_kg_k / K_L)
    exact = 37.0 - 27.0 * np.exp(-m * 1e-3 * (np.arange(59) + 0.5))
    assert np.abs(profile - exact).max() < 0.5  # of 27; the grid's own error at m·dx = 0.4


def line_sink_lambda(power_w_m: float) -> float:
    def balance(lam: float) -> float:
        liquid = K_L * (T_I - T_F) * np.exp(-(lam**2) * A_S / A_L) / -exp1(lam**2 * A_S / A_L)
        return float(
            power_w_m / (4 * np.pi) * np.exp(-(lam**2)) + liquid - lam**2 * A_S * RHO * LATENT
        )

    return float(brentq(balance, 1e-3, 2.0))


def test_the_line_sink_formula_gives_the_published_radius() -> None:
    assert line_sink_lambda(500.0) == pytest.approx(0.247744, abs=1e-6)


def driven_like_a_line_sink(power_w_m: float, radius_mm: float = 0.75) -> Needle:
    """A long needle held at the temperature that the exact solution has at its surface."""
    lam, time_s = line_sink_lambda(power_w_m), np.geomspace(0.3, 700.0, 120)
    at = (radius_mm / 1e3) ** 2 / (4 * A_S * time_s)
    degc = T_F - power_w_m / (4 * np.pi * K_S) * (exp1(at) - exp1(lam**2))
    table = tuple((float(t), float(v)) for t, v in zip(time_s, np.minimum(degc, T_I), strict=True))
    return Needle((0.35, 0.5, -60.0), (0.0, 0.0, 1.0), 2 * radius_mm, 120.0, table)


@pytest.mark.requirement("REQ-ENGINE")
@pytest.mark.parametrize(("spacing_mm", "off_mm"), [(1.0, 0.2), (2.0, 0.35)])
def test_needle_grows_the_exact_cylinder(spacing_mm: float, off_mm: float) -> None:
    """Sharp front, off the voxels' centres. R(600 s) = 12.793 mm at 500 W/m (physics §4)."""
    n = round(90.0 / spacing_mm) | 1
    low_mm = -0.5 * (n - 1) * spacing_mm
    problem = Problem(
        np.zeros((3, n, n), np.uint8), (SHARP,), (low_mm, low_mm, -spacing_mm),
        (spacing_mm,) * 3, (driven_like_a_line_sink(500.0),), boundary="insulated",
    )  # fmt: skip
    engine, lam = CpuEngine(), line_sink_lambda(500.0)
    state = engine.initial(problem, T_I)
    for until_s in (200.0, 600.0):
        state = engine.advance(problem, state, until_s)
        area_mm2 = engine.frozen_fraction(problem, state)[0, 1].sum() * spacing_mm**2
        exact_mm = 2e3 * lam * np.sqrt(A_S * until_s)
        assert np.sqrt(area_mm2 / np.pi) == pytest.approx(exact_mm, abs=off_mm)
    lost_j = (engine.initial(problem, T_I).enthalpy_j_m3.astype(float) - state.enthalpy_j_m3).sum()
    power_w_m = lost_j * (spacing_mm / 1e3) ** 2 / 3 / 600.0
    assert power_w_m == pytest.approx(500.0, rel=0.04)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)
def test_insulated_tissue_keeps_its_heat(engine: Engine) -> None:
    problem = cube(24.0, 2.0, (), (SHARP,), "insulated")
    rng = np.random.default_rng(1)
    state = engine.initial(problem, rng.uniform(-60.0, 60.0, problem.label_zyx.shape))
    after = engine.advance(problem, state, 120.0)
    total = float(np.abs(state.enthalpy_j_m3.astype(float)).sum())
    change = float(
        after.enthalpy_j_m3.astype(float).sum() - state.enthalpy_j_m3.astype(float).sum()
    )
    assert abs(change) / total < 1e-5
    assert (
        engine.temperature_degc(problem, after).std()
        < 0.5 * engine.temperature_degc(problem, state).std()
    )
