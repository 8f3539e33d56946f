"""The tissue law against itself and its limits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_kernels import law
from gpu_kernels.cpu import CpuEngine
from gpu_kernels.engine import Blood, Engine, Members, State
from gpu_kernels.reference import ReferenceEngine
from gpu_kernels.stepping import MOST_LATENT, next_change, step_s
from gpu_kernels.validation import check
from tests.gpu_kernels.problems import FAT, SOFT, cube, needle

P = law.table(cube(8.0, 2.0, tissues=(SOFT, FAT)))
ONE = [getattr(P, n)[0, 0] for n in ("solidus", "width", "latent", "per_cf", "per_cu")]


@given(st.floats(-190.0, 60.0))
def test_temperature_inverts_enthalpy(t_degc: float) -> None:
    h = law.enthalpy(np.array([t_degc]), *ONE)
    assert law.temperature_degc(h, *ONE)[0] == pytest.approx(t_degc, abs=1e-6)


def test_latent_heat_is_what_thawing_takes() -> None:
    frozen, thawed = law.enthalpy(np.array([-8.0, -1.0]), *ONE)
    sensible = 1050.0 * 0.5 * (1900.0 + 3600.0) * 7.0
    assert thawed - frozen == pytest.approx(1050.0 * 250e3 + sensible)
    assert law.frozen_fraction(np.array([frozen, thawed]), ONE[2]).tolist() == [1.0, 0.0]


def test_face_between_two_tissues_is_two_resistances_in_series() -> None:
    assert law.face_conductivity(2.0, 0.5) == pytest.approx(1 / (0.5 / 2.0 + 0.5 / 0.5))


def test_heat_potential_is_the_integral_of_the_conductivity() -> None:
    t = np.linspace(-60.0, 40.0, 200_001)
    h = law.enthalpy(t, *ONE)
    k = law.conductivity(law.frozen_fraction(h, ONE[2]), 2.0, 0.5)
    integral = np.concatenate([[0.0], np.cumsum(0.5 * (k[1:] + k[:-1]) * np.diff(t))])
    potential = law.heat_potential(t, ONE[0], ONE[1], 2.0, 0.5)
    assert np.abs(potential - potential[0] - integral).max() < 1e-6


def amplification(stages: int, z: float) -> float:
    """The scheme on y' = λy, z = λτ, from y = 1."""
    c = law.rkl2(stages)
    before, now = 1.0, 1.0 + c.first * z
    for j in range(stages - 1):
        stage = c.mu[j] * now + c.nu[j] * before + c.rest[j] + z * (c.rate[j] * now + c.rate0[j])
        before, now = now, float(stage)
    return now


@pytest.mark.parametrize("stages", [3, 7, 15])
def test_super_time_step_is_of_second_order_and_stable_to_its_limit(stages: int) -> None:
    z = 1e-3
    assert amplification(stages, z) == pytest.approx(1.0 + z + z * z / 2.0, abs=1e-9)
    limit = (stages**2 + stages - 2) / 2.0
    assert all(abs(amplification(stages, -x)) <= 1.0 + 1e-9 for x in np.linspace(0, limit, 200))
    assert abs(amplification(stages, -1.5 * limit)) > 1.0


@pytest.mark.parametrize("stages", [3, 9])
def test_stages_sit_at_their_times(stages: int) -> None:
    """y' = t from y = 0 to τ = 1 gives ½."""
    c = law.rkl2(stages)
    before, now = 0.0, 0.0
    for j in range(stages - 1):
        before, now = now, float(c.mu[j] * now + c.nu[j] * before + c.rate[j] * c.at[j])
    assert now == pytest.approx(0.5, abs=0.5 / stages**2)


def test_more_stages_as_the_step_grows() -> None:
    for step in (0.1, 1.0, 5.0, 30.0):
        s = law.stages_for(step, 0.15)
        assert s % 2 == 1
        assert step <= 0.15 * (s * s + s - 2) / 4 or s == 3
    assert law.stages_for(30.0, 0.15) > law.stages_for(1.0, 0.15)


def test_steps_stop_at_changes_and_shorten_where_the_front_is_fast() -> None:
    changes = [0.0, 60.0, 600.0]
    time_s, ends = 0.0, []
    while time_s < 700.0 - 1e-6:
        end_s, since_s = next_change(changes, time_s, 700.0)
        time_s += step_s(time_s, end_s, since_s, 1e-3, 0.15, 400.0)
        ends.append(time_s)
    assert min(abs(e - 60.0) for e in ends) < 1e-9
    assert min(abs(e - 600.0) for e in ends) < 1e-9
    assert ends[-1] == pytest.approx(700.0)
    assert step_s(400.0, 600.0, 340.0, 0.2, 0.15, 400.0) <= MOST_LATENT / 0.2
    assert step_s(400.0, 600.0, 340.0, 1e-3, 0.15, 400.0) > 20.0


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"spacing_mm": (2.0, 0.0, 2.0)}, "spacing_mm"),
        ({"spacing_mm": (2.0, float("nan"), 2.0)}, "spacing_mm"),
        ({"origin_mm": (float("nan"), 0.0, 0.0)}, "origin_mm"),
        ({"boundary": "open"}, "boundary"),
        ({"blood": Blood(degc=float("nan"))}, "blood.degc"),
        ({"label_zyx": np.full((5, 5, 5), 3, np.uint8)}, "label_zyx"),
        ({"label_zyx": np.zeros((5, 5), np.uint8)}, "label_zyx"),
        ({"label_zyx": np.zeros((5, 5, 5))}, "label_zyx"),
        ({"tissues": ()}, "label_zyx"),
        ({"tissues": (replace(SOFT, rho_kg_m3=float("nan")),)}, "rho_kg_m3"),
        ({"tissues": (replace(SOFT, perfusion_per_s=-1.0),)}, "perfusion_per_s"),
        ({"tissues": (replace(SOFT, solidus_degc=0.0),)}, "solidus_degc"),
        ({"tissues": (replace(SOFT, solidus_degc=float("nan")),)}, "solidus_degc"),
        ({"members": Members((1.0, 1.0), (1.0,), (1.0,), (1.0,))}, "members.latent_heat"),
        ({"members": Members(cooling=((1.0, -0.1),))}, "members.cooling"),
        ({"needles": (replace(needle(), direction=(0.0, 0.0, 2.0)),)}, "direction"),
        ({"needles": (replace(needle(), direction=(0.0, 0.0, float("nan"))),)}, "direction"),
        ({"needles": (replace(needle(), tip_mm=(0.0, 0.0, float("nan"))),)}, "tip_mm"),
        ({"needles": (replace(needle(), duty=1.5),)}, "duty"),
        ({"needles": (replace(needle(), diameter_mm=0.0),)}, "diameter_mm"),
        ({"needles": (replace(needle(), surface_degc=((5.0, 0.0), (1.0, 0.0))),)}, "surface_degc"),
        ({"needles": (replace(needle(), surface_degc=((0.0, -400.0),)),)}, "surface_degc"),
    ],
)
def test_impossible_problems_are_named(change: dict, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        check(replace(cube(8.0, 2.0), **change))


@pytest.mark.parametrize("engine", [CpuEngine(), ReferenceEngine()], ids=lambda e: e.name)
def test_a_state_that_does_not_fit_is_refused(engine: Engine) -> None:
    problem = cube(8.0, 2.0)
    good = engine.initial(problem, 37.0, time_s=5.0)
    broken = good.enthalpy_j_m3.copy()
    broken[0, 2, 2, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        engine.advance(problem, State(5.0, broken), 10.0)
    with pytest.raises(ValueError, match="shape"):
        engine.advance(problem, State(5.0, good.enthalpy_j_m3[:, 1:]), 10.0)
    with pytest.raises(ValueError, match="until_s"):
        engine.advance(problem, good, 4.0)
    with pytest.raises(ValueError, match="temperature_degc"):
        engine.initial(problem, float("nan"))


@pytest.mark.parametrize("engine", [CpuEngine(), ReferenceEngine()], ids=lambda e: e.name)
def test_a_fixed_rim_stays_at_the_temperature_of_blood(engine: Engine) -> None:
    """Even where a needle crosses it and the tissue starts elsewhere."""
    problem = cube(16.0, 2.0, (needle((1.0, 0.4, 0.2), length_mm=40.0),))
    state = engine.advance(problem, engine.initial(problem, 20.0), 90.0)
    t = engine.temperature_degc(problem, state)[0]
    assert t[1:-1, 1:-1, 1:-1].min() < 0.0
    for face in (t[0], t[-1], t[:, 0], t[:, -1], t[:, :, 0], t[:, :, -1]):
        np.testing.assert_allclose(face, 37.0, atol=1e-4)
