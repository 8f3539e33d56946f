"""The CPU engine against the reference engine. °C, mm, s; arrays (member, z, y, x).

Invariant: the two share the law, never the numerics, so that agreement means both are right.
"""

import numpy as np
import pytest

from gpu_kernels.cpu import CpuEngine, rate_of
from gpu_kernels.engine import Members, Needle, Problem, Tissue
from gpu_kernels.overlap import states
from gpu_kernels.reference import ReferenceEngine, rate_w_m3

NAN = float("nan")
ORGAN = Tissue("organ", 1060.0, 3600.0, 1900.0, 0.52, 2.0, 240e3, -8.0, -1.0, 4e-3, 900.0)
FAT = Tissue("fat", 911.0, 2348.0, 1900.0, 0.21, 0.35, 50e3, -10.0, -2.0, 5e-4, 400.0)
GAS = Tissue("gas", 394.0, 3886.0, 1900.0, 0.18, 0.5, 91e3, -5.0, -0.6, 2.6e-3, 0.0)
MEMBERS = Members((1.0, 1.6, 0.6), (1.0, 1.15, 0.85), (1.0, 0.9, 1.1), (1.0, 0.8, 1.2))
FREEZE_THAW_FREEZE = (
    (0.0, 37.0), (30.0, -140.0), (150.0, -140.0), (150.0, NAN),
    (210.0, 0.0), (230.0, -140.0), (300.0, -140.0), (300.0, NAN),
)  # fmt: skip


def labels(shape: tuple[int, int, int]) -> np.ndarray:
    """Organ with a slanted layer of fat, gas in a corner and single voxels of either."""
    z, y, x = np.indices(shape)
    label = np.zeros(shape, np.uint8)
    label[x + 0.5 * y + 0.3 * z > 0.75 * sum(shape) * 0.6] = 1
    label[(x < 5) & (y < 6)] = 2
    rng = np.random.default_rng(1)
    label[rng.random(shape) < 0.02] = 1
    return label


def oblique(direction: tuple[float, float, float]) -> tuple[float, float, float]:
    d = np.array(direction) / np.linalg.norm(direction)
    return float(d[0]), float(d[1]), float(d[2])


def two_needles() -> tuple[Needle, ...]:
    return (
        Needle((-5.3, -3.1, -9.7), oblique((0.3, 0.2, 1.0)), 1.5, 18.0, FREEZE_THAW_FREEZE),
        Needle((6.1, 4.4, 7.2), oblique((-0.2, 0.5, -0.8)), 2.4, 15.0, FREEZE_THAW_FREEZE[:4], 0.7),
    )


def problem(boundary: str, spacing_mm: tuple[float, float, float]) -> Problem:
    shape = (19, 17, 21)
    origin = tuple(-0.5 * (n - 1) * d for n, d in zip(shape[::-1], spacing_mm, strict=True))
    return Problem(
        labels(shape),
        (ORGAN, FAT, GAS),
        (origin[0], origin[1], origin[2]),
        spacing_mm,
        two_needles(),
        boundary=boundary,
        members=MEMBERS,
    )


@pytest.mark.parametrize(
    ("boundary", "spacing_mm"), [("fixed", (2.0, 2.0, 2.0)), ("insulated", (1.8, 2.2, 2.6))]
)
def test_freeze_thaw_freeze_in_three_tissues(boundary, spacing_mm):
    p = problem(boundary, spacing_mm)
    cpu, reference = CpuEngine(), ReferenceEngine()
    fast, slow = cpu.initial(p, 37.0), reference.initial(p, 37.0)
    assert np.abs(fast.enthalpy_j_m3 - slow.enthalpy_j_m3).max() < 40.0  # float32 of 4e8
    for until_s in (100.0, 150.0, 205.0, 300.0, 340.0):
        fast, slow = cpu.advance(p, fast, until_s), reference.advance(p, slow, until_s)
        difference = cpu.temperature_degc(p, fast) - reference.temperature_degc(p, slow)
        assert np.sqrt((difference**2).mean()) < 0.3
        ice = [e.frozen_fraction(p, s).sum((1, 2, 3)) for e, s in ((cpu, fast), (reference, slow))]
        assert ice[1].min() > 5.0
        np.testing.assert_allclose(ice[0], ice[1], rtol=5e-3, atol=0.5)


@pytest.mark.parametrize("boundary", ["fixed", "insulated"])
def test_the_same_rate_of_change(boundary):
    """The law alone, with no step in it: ∂H/∂t of one state, needles driven and not, to float32."""
    p = problem(boundary, (1.8, 2.2, 2.6))
    reference = ReferenceEngine()
    state = reference.advance(p, reference.initial(p, 37.0), 140.0)
    for time_s in (140.0, 150.0, 220.0):
        compiled = rate_of(p, state, time_s)
        exact = rate_w_m3(p, state, time_s)
        assert np.abs(exact).max() > 1e5
        assert np.abs(compiled - exact).max() < 2e-5 * np.abs(exact).max()


def test_states_computed_beside_their_reading_are_those_of_advance() -> None:
    p, engine, times_s = problem("fixed", (3.0, 3.0, 3.0)), CpuEngine(), (20.0, 35.0, 80.0)
    alone = CpuEngine()
    state = start = alone.initial(p, 37.0)
    for until_s, found in zip(times_s, states(engine, p, start, times_s), strict=True):
        state = alone.advance(p, state, until_s)
        assert found.time_s == until_s
        np.testing.assert_array_equal(found.enthalpy_j_m3, state.enthalpy_j_m3)
        # Read while the next one is under way.
        np.testing.assert_array_equal(
            engine.temperature_degc(p, found), alone.temperature_degc(p, state)
        )
    assert list(states(engine, p, start, ())) == []
    with pytest.raises(ValueError, match="time"):
        list(states(engine, p, state, (10.0,)))
