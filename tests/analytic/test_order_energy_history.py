"""Order of convergence, energy to rounding, and what is remembered of tissue. SI units, mm, °C."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from gpu_kernels.cpu import CpuEngine
from gpu_kernels.engine import Engine, Problem
from gpu_kernels.reference import ReferenceEngine
from tests.analytic.test_exact_solutions import SHARP
from tests.gpu_kernels.problems import FAT, SOFT, cube, needle

ENGINES: list[Engine] = [CpuEngine(), ReferenceEngine()]


def _mode_error(engine: Engine, cells: int, axis: int) -> float:
    """A cosine in an insulated rod decays by exp(−α(π/L)²t); its largest error, as a share."""
    length_mm, until_s = 16.0, 60.0
    spacing = [3.0, 3.0, 3.0]
    spacing[axis] = length_mm / cells
    shape = [3, 3, 3]
    shape[2 - axis] = cells
    problem = Problem(
        np.zeros(shape, np.uint8), (SHARP,), (0.0,) * 3, (spacing[0], spacing[1], spacing[2]), (),
        boundary="insulated",
    )  # fmt: skip
    x = np.moveaxis(np.indices(shape).astype(float), 0, -1)[..., 2 - axis]
    mode = np.cos(np.pi * (x + 0.5) / cells)
    state = engine.advance(problem, engine.initial(problem, 60.0 + 40.0 * mode), until_s)
    rate = 0.5 / 3.6e6 * (np.pi / (length_mm / 1e3)) ** 2
    exact = 60.0 + 40.0 * mode * np.exp(-rate * until_s)
    return float(np.abs(engine.temperature_degc(problem, state)[0] - exact).max()) / 40.0


@pytest.mark.parametrize(
    "engine", [CpuEngine(most_latent=0.05), ReferenceEngine()], ids=lambda e: e.name
)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_second_order_in_space(engine: Engine, axis: int) -> None:
    errors = [_mode_error(engine, cells, axis) for cells in (6, 12, 24)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert errors[0] > 1e-3  # not a constant
    assert orders.min() > 1.8


def test_error_falls_with_the_error_target() -> None:
    problem = cube(40.0, 2.0, (needle(),), (SOFT,))

    def field(most_latent: float) -> np.ndarray:
        engine = CpuEngine(most_latent=most_latent)
        state = engine.advance(problem, engine.initial(problem, 37.0), 240.0)
        return engine.temperature_degc(problem, state)

    fine = field(0.02)
    errors = [float(np.sqrt(np.mean((field(m) - fine) ** 2))) for m in (1.6, 0.8, 0.4, 0.2)]
    assert all(a > 1.3 * b for a, b in itertools.pairwise(errors)), errors
    assert errors[0] > 0.01


@pytest.mark.parametrize(
    ("engine", "share"),
    [(CpuEngine(whole=True), 2e-6), (CpuEngine(), 3e-5), (ReferenceEngine(), 1e-11)],
    ids=["cpu-whole", "cpu", "reference"],
)
@pytest.mark.parametrize("spacing_mm", [(2.0, 2.0, 2.0), (1.0, 2.0, 3.0)])
def test_what_a_needle_draws_is_what_the_tissue_loses(
    engine: Engine, share: float, spacing_mm: tuple[float, float, float]
) -> None:
    """Two tissues, insulated, no blood: to rounding of the field's whole enthalpy; where only what heat
    has reached is computed, what trickles over its edge in a step is lost as well."""
    drive = ((0.0, 0.0), (50.0, 400.0), (120.0, 400.0), (120.0, 0.0))
    shaft = replace(needle((1.0, 2.0, 1.3), 16.0), surface_degc=(), cooling_w_per_m=drive)
    dry = tuple(replace(t, perfusion_per_s=0.0, metabolic_w_m3=0.0) for t in (SOFT, FAT))
    problem = replace(cube(40.0, 2.0, (shaft,), dry, "insulated"), spacing_mm=spacing_mm)
    low = tuple(-0.5 * 20 * d for d in spacing_mm)
    label = problem.label_zyx.copy()
    label[:, :, 12:] = 1
    problem = replace(problem, label_zyx=label, origin_mm=(low[0], low[1], low[2]))
    start = engine.initial(problem, 37.0)
    end = engine.advance(problem, start, 200.0)
    cell_m3 = float(np.prod(spacing_mm)) / 1e9
    lost_j = (start.enthalpy_j_m3.astype(float) - end.enthalpy_j_m3).sum() * cell_m3
    # The kernels integrate the ramp by their own stages: second order, exact for a straight line.
    drawn_j = 0.016 * (0.5 * 50.0 * 400.0 + 70.0 * 400.0)
    whole_j = float(np.abs(start.enthalpy_j_m3.astype(float)).sum()) * cell_m3
    assert drawn_j > 1e-3 * whole_j
    assert abs(lost_j - drawn_j) < share * whole_j


def _freeze_twice(stasis_s: float) -> Problem:
    nan = float("nan")
    table = ((0.0, 37.0), (20.0, -140.0), (120.0, -140.0), (120.0, nan), (400.0, nan),
             (400.0, 0.0), (420.0, -140.0), (520.0, -140.0), (520.0, nan))  # fmt: skip
    tissue = replace(SOFT, perfusion_per_s=0.02)
    shaft = replace(needle(length_mm=14.0), surface_degc=table)
    return replace(cube(36.0, 2.0, (shaft,), (tissue,)), stasis_s=stasis_s)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)
def test_history_is_what_dense_outputs_show(engine: Engine) -> None:
    problem = _freeze_twice(0.0)
    state = engine.initial(problem, 37.0, history=True)
    fields, every_s = [], 2.0
    for until_s in np.arange(every_s, 160.0, every_s):
        state = engine.advance(problem, state, float(until_s))
        fields.append(engine.temperature_degc(problem, state)[0])
    assert state.history is not None
    dense = np.array(fields)
    deeper = dense.min(0) - state.history.min_degc[0]  # between outputs it may have been colder
    assert deeper.min() > -1e-3
    assert deeper.max() < 0.3
    # Counting whole intervals is off by up to one at either end.
    for name, limit in (("below_20_s", -20.0), ("below_40_s", -40.0)):
        counted = (dense < limit).sum(0) * every_s
        assert counted.max() > 50.0
        assert np.abs(getattr(state.history, name)[0] - counted).max() <= 2 * every_s


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)
def test_two_freezes_are_two_cycles(engine: Engine) -> None:
    problem = _freeze_twice(0.0)
    state = engine.initial(problem, 37.0, history=True)
    thawed = engine.advance(problem, state, 400.0)
    assert engine.frozen_fraction(problem, thawed).max() == 0.0
    twice = engine.advance(problem, thawed, 520.0)
    assert thawed.history is not None
    assert twice.history is not None
    assert set(np.unique(thawed.history.cycles)) == {0, 1}
    frozen = engine.frozen_fraction(problem, twice) >= 0.5
    assert frozen.sum() > 50
    assert (twice.history.cycles[frozen & (thawed.history.cycles == 1)] == 2).all()
    # The first cycle's history is still in the second's.
    assert (twice.history.min_degc <= thawed.history.min_degc).all()


@pytest.mark.parametrize("engine", ENGINES, ids=lambda e: e.name)
def test_blood_stays_off_after_the_thaw_and_comes_back(engine: Engine) -> None:
    """Tissue that has thawed warms slower without blood; when it is back, it catches up."""
    soon, late = _freeze_twice(0.0), _freeze_twice(150.0)
    middle = (0, 9, 9, 12)  # 6 mm from the needle: frozen, and thawed soon
    at = []
    for problem in (soon, late):
        state = engine.advance(problem, engine.initial(problem, 37.0), 120.0)
        assert engine.frozen_fraction(problem, state)[middle] > 0.5
        state = engine.advance(problem, state, 230.0)
        first = engine.temperature_degc(problem, state)[middle]
        assert engine.frozen_fraction(problem, state)[middle] == 0.0
        state = engine.advance(problem, state, 399.0)
        at.append((float(first), float(engine.temperature_degc(problem, state)[middle])))
    assert at[1][0] < at[0][0] - 2.0
    assert at[0][1] - at[1][1] < 0.7 * (at[0][0] - at[1][0])
