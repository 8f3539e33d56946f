"""The CPU engine: numba, float32, RKL2 super-time-stepping. SI units, °C, (member, z, y, x).

Invariant: same answer as the reference engine within the parity tests' tolerance. Calls from
several threads wait for each other: numba's workqueue layer aborts the process when entered twice.
"""

from __future__ import annotations

import threading
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from gpu_kernels import law
from gpu_kernels.cpu_kernels import PLANES, first_rate, super_step
from gpu_kernels.engine import FloatArray, Problem, State
from gpu_kernels.fields import fraction_of, initial_enthalpy, start_enthalpy, temperature_of
from gpu_kernels.needles import Shafts, breakpoints_s, shafts, sink_per_s, surface_degc
from gpu_kernels.stepping import per_latent, step_s

Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_ONE_AT_A_TIME = threading.Lock()


class CpuEngine:
    """RKL2, the step bounded by how fast the front moves, with as many stages as it needs."""

    name = "cpu"

    def __init__(self, why: str = "asked for by name") -> None:
        self.why = why

    def initial(
        self, problem: Problem, temperature_degc: float | FloatArray, time_s: float = 0.0
    ) -> State:
        return State(time_s, initial_enthalpy(problem, temperature_degc).astype(np.float32))

    def advance(self, problem: Problem, state: State, until_s: float) -> State:
        run = _Run(problem, start_enthalpy(problem, state, until_s, np.float32))
        with _ONE_AT_A_TIME:
            time_s = state.time_s
            while until_s - time_s > 1e-9:
                time_s += run.step(time_s, until_s)
        if not np.isfinite(run.h).all():
            raise FloatingPointError("cpu engine: the enthalpy is no longer finite")
        return State(until_s, run.h)

    def temperature_degc(self, problem: Problem, state: State) -> FloatArray:
        return temperature_of(problem, state, np.float32)

    def frozen_fraction(self, problem: Problem, state: State) -> FloatArray:
        return fraction_of(problem, state, np.float32)


def rate_of(problem: Problem, state: State, time_s: float) -> Float32Array:
    """∂H/∂t of a state at a time, W/m³: what parity tests compare."""
    run = _Run(problem, start_enthalpy(problem, state, state.time_s, np.float32))
    with _ONE_AT_A_TIME:
        run.first_rate(time_s)
    return run.rate.reshape(run.shape)


class _Run:
    """Buffers and constants of one ``advance``."""

    def __init__(self, problem: Problem, h: Float32Array) -> None:
        table = law.table(problem)
        members, nz, ny, nx = h.shape
        planes = h.reshape(members * nz, ny * nx)
        self.problem, self.planes = problem, planes
        self.rate, self.a, self.b = (np.zeros_like(planes) for _ in range(3))
        self.breakpoints_s, self.per_latent = breakpoints_s(problem), _float32(per_latent(table))
        self.shape = h.shape
        self.shafts = shafts(problem)
        self.euler_s = 0.95 * law.stable_step_s(
            problem, table, sink_per_s(problem, table, self.shafts)
        )
        label = np.ascontiguousarray(problem.label_zyx)
        workers = min(numba.get_num_threads(), len(planes))
        self.tissue = (
            nx,
            label.ravel(),
            *runs(label.reshape(nz, ny * nx)),
            *mixed_faces(label),
            _float32(table.stacked()),
            _float32([(1e3 / d) ** 2 for d in problem.spacing_mm]),
            np.float32(problem.blood.degc),
            problem.boundary == "fixed",
            np.zeros((workers, PLANES, (ny + 1) * nx), np.float32),
        )
        self.sinks = _sinks(problem, self.shafts)

    def first_rate(self, time_s: float) -> float:
        """∂H/∂t into ``rate``; returns its largest size per latent heat, 1/s."""
        drive = self._surfaces(np.array([time_s]))[0]
        return float(
            first_rate(self.planes, self.rate, self.per_latent, drive, *self.tissue, *self.sinks)
        )

    def step(self, time_s: float, until_s: float) -> float:
        """One step towards ``until_s``; returns its length."""
        fastest_per_s = self.first_rate(time_s)
        tau = step_s(time_s, until_s, self.breakpoints_s, fastest_per_s, self.euler_s)
        c = law.rkl2(law.stages_for(tau, self.euler_s))
        stages = [c.mu, c.nu, c.rate * tau, c.rate0 * tau, np.ones_like(c.mu)]
        new, spare = super_step(
            self.planes,
            self.rate,
            self.a,
            self.b,
            np.float32(c.first * tau),
            _float32(np.stack(stages, axis=1)),
            self._surfaces(time_s + tau * c.at),
            *self.tissue,
            *self.sinks,
        )
        self.planes, self.a, self.b = new, spare, self.planes
        return tau

    @property
    def h(self) -> Float32Array:
        return self.planes.reshape(self.shape)

    def _surfaces(self, at_s: FloatArray) -> FloatArray:
        """(stage, piece) °C."""
        per_needle = [[surface_degc(n, float(t)) for n in self.problem.needles] for t in at_s]
        table = np.array(per_needle, float).reshape(len(at_s), -1)
        return np.ascontiguousarray(table[:, self.shafts.needle])


def _float32(values: npt.ArrayLike) -> Float32Array:
    return np.ascontiguousarray(values, np.float32)


def runs(label: npt.NDArray[np.uint8]) -> tuple[IntArray, IntArray, IntArray]:
    """The labels (plane, voxel) as runs: where each plane's runs start in the list (planes + 1,),
    where each run ends in its plane, its label."""
    last = np.ones(label.shape, bool)
    last[:, :-1] = label[:, 1:] != label[:, :-1]
    start = np.concatenate([[0], np.cumsum(last.sum(1))]).astype(np.int64)
    return start, (np.nonzero(last)[1] + 1).astype(np.int64), label[last].astype(np.int64)


def mixed_faces(label_zyx: npt.NDArray[np.uint8]) -> tuple[IntArray, IntArray]:
    """Faces between two tissues: where each plane's begin, (axis x y z, planes + 1), in the list of
    places (in the plane, of the voxel before the face)."""
    nz = len(label_zyx)
    starts, places, total = [], [], 0
    for axis in (2, 1, 0):
        differs = np.zeros(label_zyx.shape, bool)
        before = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        differs[before] = np.diff(label_zyx.astype(int), axis=axis) != 0
        plane, place = np.nonzero(differs.reshape(nz, -1))
        starts.append(total + np.searchsorted(plane, np.arange(nz + 1)))
        places.append(place)
        total += len(place)
    return np.stack(starts).astype(np.int64), np.concatenate(places).astype(np.int64)


def _sinks(problem: Problem, s: Shafts) -> tuple[npt.NDArray[Any], ...]:
    """What ``super_step`` needs of the needles: voxels touched, pieces as places among them with
    weights, which voxels may change, strength (member, piece) per cell volume."""
    touched, place = np.unique(s.voxel, return_inverse=True)
    cell_m3 = float(np.prod(problem.spacing_mm)) / 1e9
    strength = np.array(problem.members.cooling)[:, None] * (s.shape * s.metre)[None, :] / cell_m3
    free = s.may_change.astype(float)[touched]
    return touched, s.start, place.astype(np.int64), s.weight, free, strength
