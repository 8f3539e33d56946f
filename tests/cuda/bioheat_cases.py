"""A small problem with everything in it, and steps of it: by NumPy, and by the GPU engine.

SI units, °C, arrays (member, z, y, x). ``check_source`` runs every kernel of a kernel text through
the engine over the stand-in for cupy and compares with NumPy in float64: what is wrong in a text
shows as an AssertionError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np

from gpu_kernels import gpu, law
from gpu_kernels.engine import Members, Needle, Problem, State, Tissue
from gpu_kernels.fields import initial_state
from gpu_kernels.needles import shafts
from gpu_kernels.reference import Law

ORGAN = Tissue("organ", 1060.0, 3600.0, 1900.0, 0.52, 2.0, 240e3, -8.0, -1.0, 4e-3, 900.0)
FAT = Tissue("fat", 911.0, 2348.0, 1900.0, 0.21, 0.35, 50e3, -10.0, -2.0, 0.0, 400.0)
VESSEL = replace(ORGAN, name="vessel", held_degc=((0.0, 37.0), (400.0, 30.0)))
AIR = replace(FAT, name="air", held_degc=((0.0, 20.0),), surface_h_w_m2k=25.0)
SHAPE = (23, 27, 37)  # no multiple of a block or of a chunk
TAU_S, STAGES = 3.0, 5


def _needles() -> tuple[Needle, ...]:
    d = np.array([0.3, 0.2, 1.0]) / np.linalg.norm([0.3, 0.2, 1.0])
    along = (float(d[0]), float(d[1]), float(d[2]))
    table = ((0.0, 37.0), (30.0, -140.0), (300.0, -150.0))
    return (
        Needle((-9.3, 4.9, -14.7), along, 1.5, 18.0, table, 0.8),
        Needle((8.1, 4.4, 12.2), (0.0, 0.6, -0.8), 2.4, 15.0, cooling_w_per_m=((0.0, 400.0),)),
        Needle((0.0, 0.0, 0.0), along, 1.5, 9.0, ((0.0, float("nan")),)),  # not driven
        # Warmer than the solidus: what it draws follows the mushy zone's curve.
        Needle((-2.0, 5.0, 3.0), (0.0, 1.0, 0.0), 1.5, 6.0, ((0.0, -4.0),)),
        Needle((4.0, 5.0, -3.0), (0.0, 1.0, 0.0), 1.5, 6.0, ((0.0, 15.0),)),  # an active thaw
        Needle(
            (12.0, -6.0, 0.0),
            (-1.0, 0.0, 0.0),
            2.1,
            12.0,
            duty=((0.0, 1.0), (100.0, 0.5)),
            cryogen_degc=((0.0, -150.0), (200.0, -120.0)),
            h_w_m2k=((0.0, 4e3), (12.0, 9e3)),
        ),
    )


def problem(boundary: str = "fixed", stasis_s: float = 30.0) -> Problem:
    """Two members; organ, fat, a vessel and air; one needle of each kind."""
    z, y, x = np.indices(SHAPE)
    label = np.zeros(SHAPE, np.uint8)
    label[x + 0.5 * y + 0.3 * z > 40] = 1
    label[(y - 5) ** 2 + (z - 8) ** 2 < 5] = 2
    label[y > 23] = 3
    label[np.random.default_rng(1).random(SHAPE) < 0.02] = 1
    spacing = (1.6, 1.9, 2.3)
    low = [-0.5 * (n - 1) * d for n, d in zip(SHAPE[::-1], spacing, strict=True)]
    return Problem(
        label,
        (ORGAN, FAT, VESSEL, AIR),
        (low[0], low[1], low[2]),
        spacing,
        _needles(),
        boundary=boundary,
        members=Members((1.0, 1.7), (1.0, 0.8), (1.0, 1.1), (1.0, (0.7, 1.1, 0.9, 0.6, 1.0, 0.8))),
        stasis_s=stasis_s,
    )


def start(p: Problem, time_s: float = 120.0) -> State:
    """A field with cold, mushy and warm tissue in it, and places where blood is still off."""
    t = 37.0 - 90.0 * np.random.default_rng(2).random((2, *SHAPE)) ** 3
    # A block at rest but for blood and metabolism.
    t[:, :20, :13, :35] = 36.0 + 0.003 * np.random.default_rng(4).random((2, 20, 13, 35))
    state = initial_state(p, t, time_s, history=True, dtype=float)
    # Half frozen, which counts as frozen, and a little less than half.
    h, half = state.enthalpy_j_m3, 0.5 * law.table(p).latent[0, 0]
    for i, at in enumerate(np.argwhere(p.label_zyx[2:-2, 12:-2, 2:30] == 0)[::23] + [2, 12, 2]):
        h[(0, *at)] = half * (1.0 if i % 2 else 1.0002)
    if state.perfused_from_s is not None:
        off = np.random.default_rng(3).random(state.perfused_from_s.shape) < 0.2
        state.perfused_from_s[off] = time_s + 1.0
        just = np.random.default_rng(5).random(state.perfused_from_s.shape) < 0.1
        state.perfused_from_s[just] = time_s + TAU_S
    return state


@dataclass(frozen=True)
class Outcome:
    """The field's rate, what the survey of it found by blocks, the state a step
    later with what blood did to voxels that heat had not reached, and where blood then flows."""

    rate: np.ndarray
    fastest_per_s: np.ndarray
    flow_degc_s: np.ndarray
    state: State
    open: np.ndarray


def box_of(p: Problem) -> gpu.Box:
    """With stasis all that the needles touch, and not all of the grid; else all of it."""
    nz, ny, nx = SHAPE
    if p.stasis_s == 0.0:
        return gpu.Box(0, nx, 0, ny, 0, nz)
    box = gpu.Box(0, 33, 3, 25, 2, 21)
    seen = np.unravel_index(shafts(p).voxel, p.label_zyx.shape)
    assert _inside(p, box)[seen].all()
    return box


def by_numpy(p: Problem, state: State) -> Outcome:
    """The same step as ``by_engine`` takes, written with the reference engine's law."""
    here, c = Law(p), law.rkl2(STAGES)
    time_s, back = state.time_s, state.perfused_from_s
    inside = _inside(p, box_of(p))
    h0 = state.enthalpy_j_m3.copy()
    rate0 = here.rate_w_m3(h0, time_s, back)
    free = here.free
    a, b = h0 + c.first * TAU_S * rate0, h0.copy()
    here.hold(a, time_s + float(c.at[0]) * TAU_S)
    a = np.where(inside, a, h0)
    for j in range(STAGES - 1):
        # Blood comes back between steps only.
        rate = here.rate_w_m3(a, time_s + float(c.at[j]) * TAU_S, _as_at(back, time_s))
        change = c.mu[j] * (a - h0) + c.nu[j] * (b - h0)
        new = h0 + change + TAU_S * (c.rate[j] * rate + c.rate0[j] * rate0)
        after = np.where(free, new, h0)
        ends = [*c.at, 1.0][j + 1]
        here.hold(after, time_s + float(ends) * TAU_S)
        a, b = np.where(inside, after, h0), a
    companions = replace(state, perfused_from_s=None if back is None else back.copy())
    past = state.history
    assert past is not None
    mine = type(past)(*(getattr(past, n).copy() for n in vars(past)))
    here.remember(h0, a, time_s + TAU_S, TAU_S, companions.perfused_from_s, mine)
    _only(inside, past, mine)
    if back is not None and companions.perfused_from_s is not None:
        companions.perfused_from_s[:, ~inside] = back[:, ~inside]
    settled = _settled(p, here, a, companions.perfused_from_s, inside, time_s + TAU_S)
    still = np.where(h0 > here.at["latent"], _blood(p, here, h0, back, time_s), 0.0)
    per_c = np.array([1.0 / (t.rho_kg_m3 * t.c_unfrozen_j_kg_k) for t in p.tissues])[p.label_zyx]
    flow = np.where((rate0 != 0) & inside, np.abs(rate0 - still) * per_c, 0.0)
    per_latent = 1.0 / np.maximum(here.at["latent"], 4e7)
    after = State(time_s + TAU_S, settled, companions.perfused_from_s, mine)
    opened = np.ones_like(inside) if back is None else _opened(after, back, inside, time_s)
    return Outcome(
        np.where(inside, rate0, 0.0),
        _by_block((np.abs(rate0) * per_latent * inside).max(0), box_of(p)),
        _by_block(flow.max(0), box_of(p)),
        after,
        opened,
    )


def _by_block(flow: np.ndarray, box: gpu.Box) -> np.ndarray:
    """The largest in each block of 16 × 8 × 32 voxels of a box."""
    part = flow[box.z0 : box.z1, box.y0 : box.y1, box.x0 : box.x1]
    sizes = (16, 8, 32)
    part = np.pad(part, [(0, -n % size) for n, size in zip(part.shape, sizes, strict=True)])
    z, y, x = (n // size for n, size in zip(part.shape, sizes, strict=True))
    return part.reshape(z, 16, y, 8, x, 32).max((1, 3, 5))


def _opened(after: State, back: np.ndarray, inside: np.ndarray, time_s: float) -> np.ndarray:
    assert after.perfused_from_s is not None
    return np.where(inside, after.time_s >= after.perfused_from_s, time_s >= back)


def _only(inside: np.ndarray, before: Any, after: Any) -> None:
    """Outside the box nothing is remembered."""
    for name, array in vars(after).items():
        array[:, ~inside] = getattr(before, name)[:, ~inside]


def _as_at(back: np.ndarray | None, time_s: float) -> np.ndarray | None:
    return None if back is None else np.where(time_s >= back, -np.inf, np.inf)


def _inside(p: Problem, box: gpu.Box) -> np.ndarray:
    inside = np.zeros(SHAPE, bool)
    inside[box.z0 : box.z1, box.y0 : box.y1, box.x0 : box.x1] = True
    return inside


def _blood(
    p: Problem, here: Law, h: np.ndarray, back: np.ndarray | None, time_s: float
) -> np.ndarray:
    at = here.at
    curve = [at[n] for n in ("solidus", "width", "latent", "per_cf", "per_cu")]
    t, f = law.temperature_degc(h, *curve), law.frozen_fraction(h, at["latent"])
    blood = law.source_w_m3(t, f, at["perfusion"], at["metabolic"], p.blood.degc)
    return np.asarray(blood * (1.0 if back is None else time_s >= back))


def _settled(
    p: Problem,
    here: Law,
    h: np.ndarray,
    back: np.ndarray | None,
    inside: np.ndarray,
    until_s: float,
) -> np.ndarray:
    """Outside the box thawed tissue relaxes towards what blood and metabolism hold it at, for as
    long as the run has lasted."""
    at, lasting_s = here.at, TAU_S
    per_s = at["perfusion"] * at["per_cu"]
    flows = per_s > 0.0
    blood_degc = p.blood.degc + at["metabolic"] / np.where(flows, at["perfusion"], 1.0)
    warm = (at["solidus"] + at["width"]) + (h - at["latent"]) * at["per_cu"]
    relaxed = blood_degc + (warm - blood_degc) * np.exp(-per_s * lasting_s)
    heated = warm + lasting_s * at["metabolic"] * at["per_cu"]
    new = (
        at["latent"]
        + (np.where(flows, relaxed, heated) - at["solidus"] - at["width"]) / (at["per_cu"])
    )
    free = here.free & ~inside & (h > at["latent"])
    if back is not None:
        # Outside the box nothing notices that blood has come back.
        free = free & (until_s - TAU_S >= back)
    return np.where(free, new, h)


def by_engine(p: Problem, state: State, real: Any) -> Outcome:
    """One step of the GPU engine in a box, with every kernel in it."""
    engine = gpu.GpuEngine(real=real)
    back, past = state.perfused_from_s, state.history
    assert past is not None
    with engine.stream:
        run = gpu._Run(engine, p, state.enthalpy_j_m3.astype(real), back, past, state.time_s)
        run.box = box_of(p)
        run._rate(state.time_s)
        peak, flow = run.peak, run.flow
        rate = run._host(run.rate)
        run._stages(state.time_s, TAU_S, law.rkl2(STAGES))
        run._remember(state.time_s + TAU_S, TAU_S)
        run.h, run.a = run.a, run.h
        run._grow(run.everything, state.time_s + TAU_S)
        h, back, past = run.result()
    after = State(state.time_s + TAU_S, h, back, past)
    opened = run._host(run.open) if run.has_back else np.ones(SHAPE)
    return Outcome(rate, peak, flow, after, opened)


def assert_same(got: Outcome, expected: Outcome, of_largest: float) -> None:
    """Fields to ``of_largest`` of the largest enthalpy; rates, in which differences of neighbours
    stand, to a hundred times that of the largest rate."""
    h, exact = got.state.enthalpy_j_m3, expected.state.enthalpy_j_m3
    assert np.abs(h - exact).max() <= of_largest * np.abs(exact).max()
    largest = np.abs(expected.rate).max()
    assert np.abs(got.rate - expected.rate).max() <= 100 * of_largest * largest
    np.testing.assert_allclose(got.fastest_per_s, expected.fastest_per_s, rtol=100 * of_largest)
    np.testing.assert_allclose(got.flow_degc_s, expected.flow_degc_s, rtol=100 * of_largest)
    np.testing.assert_array_equal(got.open, np.broadcast_to(expected.open, got.open.shape))
    assert got.state.history is not None
    assert expected.state.history is not None
    for name, exact in vars(expected.state.history).items():
        found = getattr(got.state.history, name).astype(float)
        np.testing.assert_allclose(found, exact, atol=2e-4, rtol=2e-6, err_msg=name)
    if expected.state.perfused_from_s is not None:
        np.testing.assert_array_equal(got.state.perfused_from_s, expected.state.perfused_from_s)


CASES: tuple[Callable[[], Problem], ...] = (
    problem,
    lambda: problem("insulated", stasis_s=0.0),
    lambda: problem("fixed", stasis_s=0.0),
)


def check_source(source: str, order: int = 0, real: Any = np.float64) -> None:
    """Runs all cases with a kernel text. Raises AssertionError where NumPy disagrees."""
    from tests.cuda import fake_cupy

    for make in CASES:
        p = make()
        state = start(p)
        with (
            fake_cupy.install(order=order),
            mock.patch.object(gpu, "kernel_source", return_value=source),
        ):
            got = by_engine(p, state, real)
        assert_same(got, by_numpy(p, state), 1e-12 if real == np.float64 else 1e-6)


def check_own_source() -> None:
    """For a process of its own, with the sanitizers loaded."""
    check_source(gpu.kernel_source())
