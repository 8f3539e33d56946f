"""Needles: the same ice whatever the grid and the direction."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from gpu_kernels.cpu import CpuEngine
from gpu_kernels.engine import Problem
from gpu_kernels.needles import driven_at, shafts
from tests.gpu_kernels.problems import cube, needle

ENGINE = CpuEngine()
OBLIQUE = (1.0, 2.0, 1.3)


@functools.cache
def after_ten_minutes(
    size_mm: float, spacing_mm: float, direction: tuple[float, float, float]
) -> tuple[Problem, np.ndarray]:
    problem = cube(size_mm, spacing_mm, (needle(direction),))
    state = ENGINE.advance(problem, ENGINE.initial(problem, 37.0), 600.0)
    return problem, ENGINE.temperature_degc(problem, state)[0]


def radius_mm(
    spacing_mm: float, direction: tuple[float, float, float], degc: float, size_mm: float = 56.0
) -> float:
    """Radius of an isotherm across the middle of the needle, averaged around it."""
    problem, field = after_ten_minutes(size_mm, spacing_mm, direction)
    d = np.array(direction) / np.linalg.norm(direction)
    first = np.cross(d, [0.3, 0.5, 0.81])
    first /= np.linalg.norm(first)
    second = np.cross(d, first)
    reach = np.linspace(1.0, 30.0, 581)
    found = []
    for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        ray = np.cos(angle) * first + np.sin(angle) * second
        points = np.array([0.13, 0.21, 0.3]) + reach[:, None] * ray
        index = (points - np.array(problem.origin_mm)) / problem.spacing_mm
        values = map_coordinates(field, index[:, ::-1].T, order=1)
        found.append(np.interp(degc, values, reach))
    return float(np.mean(found))


@pytest.mark.parametrize("degc", [-0.99, -4.5, -20.0, -40.0])
def test_direction_does_not_matter(degc: float) -> None:
    along = radius_mm(2.0, (0.0, 0.0, 1.0), degc)
    oblique = radius_mm(2.0, OBLIQUE, degc)
    assert oblique == pytest.approx(along, abs=0.3)


@pytest.mark.parametrize(
    "direction", [pytest.param((0.0, 0.0, 1.0), marks=pytest.mark.long), OBLIQUE]
)
def test_spacing_does_not_matter(direction: tuple[float, float, float]) -> None:
    for degc in (-0.99, -4.5, -20.0, -40.0):
        radii = [radius_mm(spacing_mm, direction, degc) for spacing_mm in (0.5, 1.0, 2.0)]
        assert max(radii) - min(radii) < 0.3, (degc, radii)


def test_weights_of_every_piece_sum_to_one_even_at_the_rim() -> None:
    s = shafts(cube(20.0, 2.0, (needle(OBLIQUE, length_mm=40.0),)))
    sums = [s.weight[a:b].sum() for a, b in zip(s.start[:-1], s.start[1:], strict=True)]
    assert len(sums) > 5
    np.testing.assert_allclose(sums, 1.0)


def test_surface_temperature_follows_its_table() -> None:
    n = needle()
    assert np.isnan(driven_at(n, -1.0)[0])
    assert driven_at(n, 30.0)[0] == pytest.approx(-51.5)
    assert driven_at(n, 1e4)[0] == -140.0


def test_a_needle_that_is_not_driven_leaves_tissue_alone() -> None:
    passive = needle().__class__(**{**needle().__dict__, "surface_degc": ((0.0, float("nan")),)})
    problem = cube(20.0, 2.0, (passive,))
    start = ENGINE.initial(problem, 37.0)
    end = ENGINE.advance(problem, start, 60.0)
    np.testing.assert_allclose(ENGINE.temperature_degc(problem, end), 37.0, atol=1e-3)


def test_a_needle_longer_than_the_box_draws_as_much_per_length_as_a_longer_box() -> None:
    """What lies outside draws nothing, and the ends of what lies inside are cut exactly."""
    long = needle(length_mm=200.0)
    short = replace(cube(24.0, 2.0, (long,), boundary="insulated"), origin_mm=(-12.0, -12.0, -5.0))
    short = replace(short, label_zyx=short.label_zyx[:5])
    tall = replace(short, label_zyx=np.zeros((9, 13, 13), np.uint8))
    drawn = []
    for problem in (short, tall):
        start = ENGINE.initial(problem, 37.0)
        end = ENGINE.advance(problem, start, 120.0)
        lost = start.enthalpy_j_m3.astype(float) - end.enthalpy_j_m3
        drawn.append(lost.sum() / len(problem.label_zyx))
    assert drawn[0] == pytest.approx(drawn[1], rel=1e-3)
    assert shafts(short).metre.sum() == pytest.approx(5 * 2e-3)


def test_half_the_duty_draws_less() -> None:
    full = cube(24.0, 2.0, (needle(),))
    half = replace(full, needles=(replace(needle(), duty=0.5),))
    lost = []
    for problem in (full, half):
        start = ENGINE.initial(problem, 37.0)
        end = ENGINE.advance(problem, start, 120.0)
        lost.append((start.enthalpy_j_m3.astype(float) - end.enthalpy_j_m3).sum())
    assert 0.4 < lost[1] / lost[0] < 0.9
