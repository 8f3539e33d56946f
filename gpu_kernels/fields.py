"""From temperatures to enthalpy fields and back, for every engine. °C, J/m³, (member, z, y, x).

Invariant: what leaves here is C-contiguous, finite, and on a "fixed" boundary the outermost layer
is at the blood's temperature.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_kernels import law
from gpu_kernels.engine import FloatArray, Problem, State
from gpu_kernels.validation import check, check_state, check_temperature

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


def initial_enthalpy(problem: Problem, temperature_degc: float | FloatArray) -> FloatArray:
    """The float64 enthalpy of a temperature: scalar, (z, y, x) or (member, z, y, x)."""
    check(problem)
    t = np.asarray(temperature_degc, float)
    check_temperature(problem, t)
    t = np.array(np.broadcast_to(t, (len(problem.members), *problem.label_zyx.shape)), order="C")
    if problem.boundary == "fixed":
        t[rim(problem)] = problem.blood.degc
    return law.enthalpy(t, *spread(problem, _CURVE))


def start_enthalpy(
    problem: Problem, state: State, until_s: float, dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """A copy of a state's enthalpy to advance, once problem and state are proved fine."""
    check(problem)
    check_state(problem, state, until_s)
    h = np.array(state.enthalpy_j_m3, dtype, order="C")
    if problem.boundary == "fixed":
        edge = rim(problem)
        table = law.table(problem)
        curve = [getattr(table, name)[:, problem.label_zyx[edge[1]]] for name in _CURVE]
        h[edge] = law.enthalpy(np.array(problem.blood.degc), *curve)
    return h


def rim(problem: Problem) -> tuple[slice, npt.NDArray[np.bool_]]:
    """Index of the outermost layer of voxels in (member, z, y, x)."""
    edge = np.ones(problem.label_zyx.shape, bool)
    edge[1:-1, 1:-1, 1:-1] = False
    return slice(None), edge


def temperature_of(problem: Problem, state: State, dtype: npt.DTypeLike = float) -> FloatArray:
    """(member, z, y, x) °C."""
    check_state(problem, state, state.time_s)
    return np.asarray(law.temperature_degc(state.enthalpy_j_m3, *spread(problem, _CURVE, dtype)))


def fraction_of(problem: Problem, state: State, dtype: npt.DTypeLike = float) -> FloatArray:
    """(member, z, y, x), 0..1."""
    check_state(problem, state, state.time_s)
    (latent,) = spread(problem, ("latent",), dtype)
    return np.asarray(law.frozen_fraction(state.enthalpy_j_m3, latent))
