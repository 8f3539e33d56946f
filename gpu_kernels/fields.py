"""From temperatures to enthalpy fields and back, for every engine. °C, J/m³, (member, z, y, x).

Invariant: what leaves here is C-contiguous, finite, and on a "fixed" boundary the outermost layer
is at its temperature, bodies of given temperature at theirs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_kernels import law
from gpu_kernels.engine import FloatArray, History, Problem, State
from gpu_kernels.validation import check, check_state, check_temperature

# Voxels that stay in the processor's cache with all their parameters.
_AT_ONCE = 1 << 14
_CURVE = ("solidus", "width", "latent", "per_cf", "per_cu")


def spread(
    problem: Problem, names: tuple[str, ...], dtype: npt.DTypeLike = float
) -> list[npt.NDArray[Any]]:
    """The law's parameters at every voxel, each (member, z, y, x)."""
    table = law.table(problem)
    return [
        np.ascontiguousarray(getattr(table, name).astype(dtype)[:, problem.label_zyx])
        for name in names
    ]


def initial_state(
    problem: Problem,
    temperature_degc: float | FloatArray,
    time_s: float,
    history: bool,
    dtype: npt.DTypeLike,
) -> State:
    """The state at a temperature: scalar, (z, y, x) or (member, z, y, x)."""
    h = initial_enthalpy(problem, temperature_degc, time_s, dtype)
    back_s, past = None, None
    if problem.stasis_s > 0.0:
        back_s = np.full(h.shape, -np.inf, np.float32)
        for m, frozen in enumerate(_frozen(problem, h)):
            back_s[m][frozen] = time_s + problem.stasis_s
    if history:
        degc = temperature_of(problem, State(time_s, h), np.float32)
        none = np.zeros(h.shape, np.float32)
        cycles = np.stack([f.astype(np.uint8) for f in _frozen(problem, h)])
        past = History(degc, none, none.copy(), cycles)
    return State(time_s, h, back_s, past)


def _frozen(problem: Problem, h: FloatArray) -> Iterator[npt.NDArray[np.bool_]]:
    latent = law.table(problem).latent
    return (h[m] <= 0.5 * latent[m][problem.label_zyx] for m in range(len(h)))


def own_companions(
    problem: Problem, state: State
) -> tuple[npt.NDArray[np.float32] | None, History | None]:
    """Copies of a state's stasis and history, to write in."""
    back_s = None
    if problem.stasis_s > 0.0:
        shape = state.enthalpy_j_m3.shape
        old = state.perfused_from_s
        back_s = np.full(shape, -np.inf, np.float32) if old is None else np.array(old, order="C")
    past = state.history
    if past is not None:
        past = History(*(np.array(getattr(past, name), order="C") for name in vars(past)))
    return back_s, past


def initial_enthalpy(
    problem: Problem,
    temperature_degc: float | FloatArray,
    time_s: float,
    dtype: npt.DTypeLike,
) -> FloatArray:
    """The enthalpy of a temperature: scalar, (z, y, x) or (member, z, y, x)."""
    check(problem)
    given = np.asarray(temperature_degc)
    check_temperature(problem, given)
    shape = (len(problem.members), *problem.label_zyx.shape)
    held, h = law.held_degc(problem, time_s), np.empty(shape, dtype)
    edge, table = rim(problem)[1], law.table(problem)
    # Plane by plane: the parameters at every voxel would take ten times the field's own memory.
    for m, z in np.ndindex(shape[:2]):
        degc, label_yx = np.array(np.broadcast_to(given, shape)[m, z], float), problem.label_zyx[z]
        if problem.boundary == "fixed":
            degc[edge[z]] = problem.edge_degc
        for label, value in held.items():
            degc[label_yx == label] = value
        h[m, z] = law.enthalpy(degc, *(getattr(table, n)[m][label_yx] for n in _CURVE))
    return h


def start_enthalpy(
    problem: Problem, state: State, until_s: float, dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """A copy of a state's enthalpy to advance, once problem and state are proved fine."""
    check(problem)
    check_state(problem, state, until_s)
    h = np.array(state.enthalpy_j_m3, dtype, order="C")
    table, label = law.table(problem), problem.label_zyx
    if problem.boundary == "fixed":
        rim_h = law.enthalpy(np.array(problem.edge_degc), *(getattr(table, n) for n in _CURVE))
        for face in (
            np.s_[0],
            np.s_[-1],
            np.s_[:, 0],
            np.s_[:, -1],
            np.s_[:, :, 0],
            np.s_[:, :, -1],
        ):
            h[(slice(None), *(face if isinstance(face, tuple) else (face,)))] = rim_h[
                :, label[face]
            ]
    for number, held in held_enthalpy(problem, table, state.time_s).items():
        h[:, label == number] = held[:, None]
    return h


def held_enthalpy(problem: Problem, table: law.Table, time_s: float) -> dict[int, FloatArray]:
    """The enthalpy of every tissue that is held at a time: label → (member,)."""
    return {
        label: law.enthalpy(np.array(degc), *(getattr(table, n)[:, label] for n in _CURVE))
        for label, degc in law.held_degc(problem, time_s).items()
    }


def rim(problem: Problem) -> tuple[slice, npt.NDArray[np.bool_]]:
    """Index of the outermost layer of voxels in (member, z, y, x)."""
    edge = np.ones(problem.label_zyx.shape, bool)
    edge[1:-1, 1:-1, 1:-1] = False
    return slice(None), edge


def temperature_of(problem: Problem, state: State, dtype: npt.DTypeLike = float) -> FloatArray:
    """(member, z, y, x) °C."""
    check_state(problem, state, state.time_s)
    return _by_member(problem, state, dtype, law.temperature_degc, _CURVE)


def fraction_of(problem: Problem, state: State, dtype: npt.DTypeLike = float) -> FloatArray:
    """(member, z, y, x), 0..1."""
    check_state(problem, state, state.time_s)
    return _by_member(problem, state, dtype, law.frozen_fraction, ("latent",))


def _by_member(
    problem: Problem,
    state: State,
    dtype: npt.DTypeLike,
    function: Callable[..., FloatArray],
    names: tuple[str, ...],
) -> FloatArray:
    """A function of enthalpy and parameters, some planes at a time: few calls, and little memory."""
    table, out = law.table(problem), np.empty(state.enthalpy_j_m3.shape, dtype)
    nz, ny, nx = problem.label_zyx.shape
    planes = max(1, _AT_ONCE // (ny * nx))
    for m, z in itertools.product(range(len(out)), range(0, nz, planes)):
        part = slice(z, z + planes)
        at = (getattr(table, n)[m].astype(dtype)[problem.label_zyx[part]] for n in names)
        out[m, part] = function(state.enthalpy_j_m3[m, part], *at)
    return out
