"""The CPU engine: numba, float32, RKL2 super-time-stepping. SI units, °C, (member, z, y, x).

One member is run by all cores together, several members each by a core of its own, with steps of
its own. Invariant: same answer as the reference engine within the parity tests' tolerance.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_kernels import law
from gpu_kernels.cpu_kernels import SLACK
from gpu_kernels.cpu_readings import CURVE, fractions, temperatures
from gpu_kernels.cpu_solver import Arrays, Constants, advance, rate_only
from gpu_kernels.cpu_tables import Layout, constants_of, layout_of, pitch_of, scratch_of
from gpu_kernels.engine import FloatArray, History, Problem, State, Work
from gpu_kernels.fields import initial_state, own_companions, start_enthalpy
from gpu_kernels.stepping import MOST_LATENT
from gpu_kernels.validation import check_state

Float32Array = npt.NDArray[np.float32]

_NONE = np.zeros(0, np.float32)


class CpuEngine:
    """RKL2, the step bounded by how fast the front moves, with as many stages as it needs, where
    heat has reached. ``workers`` threads at most; ``whole`` computes every voxel all the time;
    ``most_latent`` is the error target: the share of its latent heat a voxel may change by in a
    step (see ``stepping``)."""

    name = "cpu"

    def __init__(
        self,
        why: str = "asked for by name",
        workers: int | None = None,
        whole: bool = False,
        most_latent: float = MOST_LATENT,
    ) -> None:
        self.why = why
        self.whole, self.most_latent = whole, most_latent
        self.workers = workers or len(os.sched_getaffinity(0))
        self.work = Work(0, 0, 0)
        self._known: tuple[Problem, Layout, tuple[Constants, ...]] | None = None
        # Workers of one member wait for each other, so all of them have to run: one run at a time.
        self._pool = ThreadPoolExecutor(self.workers)
        # A state may be read while the next one is computed (``overlap``).
        self._readers = ThreadPoolExecutor(self.workers)
        self._one_at_a_time = threading.Lock()

    def initial(
        self,
        problem: Problem,
        temperature_degc: float | FloatArray,
        time_s: float = 0.0,
        history: bool = False,
    ) -> State:
        return initial_state(problem, temperature_degc, time_s, history, np.float32)

    def advance(self, problem: Problem, state: State, until_s: float) -> State:
        """The state at ``until_s``; what it cost is then in ``work``."""
        start = start_enthalpy(problem, state, until_s, np.float32)
        back_s, past = own_companions(problem, state)
        with self._one_at_a_time:
            layout, constants = self._tables(problem)
            run = _Run(layout, constants, start, back_s, past, state.time_s, until_s, self.whole)
            members = len(start)
            if members == 1:
                work = _gang(self._pool, self.workers, run.member(0, self.workers))
            else:
                counted = self._pool.map(lambda m: run.member(m, 1)(0), range(members))
                work = np.sum(list(counted), axis=0)
        self.work = Work(*(int(n) for n in work))
        if not all(np.isfinite(member).all() for member in run.h):
            raise FloatingPointError("cpu engine: the enthalpy is no longer finite")
        return State(until_s, run.h, back_s, past)

    def _tables(self, problem: Problem) -> tuple[Layout, tuple[Constants, ...]]:
        """Those of the last problem are kept: a forecast goes on in short stretches."""
        if self._known is None or self._known[0] is not problem:
            layout = layout_of(problem)
            self._known = problem, layout, constants_of(problem, layout, self.most_latent)
        return self._known[1:]

    def temperature_degc(self, problem: Problem, state: State) -> FloatArray:
        check_state(problem, state, state.time_s)
        return self._each(problem, state, temperatures)

    def frozen_fraction(self, problem: Problem, state: State) -> FloatArray:
        check_state(problem, state, state.time_s)
        return self._each(problem, state, fractions)

    def _each(self, problem: Problem, state: State, loop: Callable[..., None]) -> Float32Array:
        """A compiled law over the voxels of every member."""
        table, label = law.table(problem), problem.label_zyx.ravel()
        curves = np.stack([getattr(table, n) for n in CURVE], axis=-1).astype(np.float32)
        h = np.ascontiguousarray(state.enthalpy_j_m3, np.float32)
        out = np.empty_like(h)

        def member(m: int) -> None:
            loop(h[m].ravel(), label, curves[m], out[m].reshape(-1))

        list(self._readers.map(member, range(len(h))))
        return out


def rate_of(problem: Problem, state: State, time_s: float) -> Float32Array:
    """∂H/∂t of a state at a time, W/m³: what parity tests compare."""
    start = start_enthalpy(problem, state, state.time_s, np.float32)
    back_s, past = own_companions(problem, state)
    layout = layout_of(problem)
    constants = constants_of(problem, layout)
    run = _Run(layout, constants, start, back_s, past, time_s, time_s, True)
    return np.stack([run.rate(m) for m in range(len(start))])


def _padded(h: Float32Array) -> Float32Array:
    """(z, y, x) as flat rows of whole chunks, with slack at the end."""
    nz, ny, nx = h.shape
    flat = np.empty(nz * ny * pitch_of(nx) + SLACK, np.float32)
    rows = flat[:-SLACK].reshape(nz, ny, -1)
    rows[:, :, :nx] = h
    rows[:, :, nx:] = h[:, :, -1:]
    flat[-SLACK:] = 0.0
    return flat


def _gang(pool: ThreadPoolExecutor, workers: int, work: Callable[[int], FloatArray]) -> FloatArray:
    """All workers at once; what worker 0 counted. None of them is the caller's thread, on which Ctrl-C may
    come between the start of one and of the next: those that have started would wait for ever."""

    def lead() -> FloatArray:
        others = [pool.submit(work, worker) for worker in range(1, workers)]
        counted = work(0)
        for other in others:
            other.result()
        return counted

    leader = pool.submit(lead)
    try:
        return leader.result()
    finally:
        wait([leader])


class _Run:
    """The arrays of one ``advance``; members share what does not depend on them."""

    def __init__(
        self,
        layout: Layout,
        constants: tuple[Constants, ...],
        start: Float32Array,
        back_s: Float32Array | None,
        past: History | None,
        from_s: float,
        until_s: float,
        whole: bool,
    ) -> None:
        self.layout, self.constants, self.back_s, self.past = layout, constants, back_s, past
        self.from_s, self.until_s, self.whole = from_s, until_s, whole
        # ``start`` is this run's own; each member writes its result over its start.
        self.h = start

    def member(self, m: int, workers: int) -> Callable[[int], FloatArray]:
        """What each worker has to do for a member."""
        k = self.constants[m]
        w = self._arrays(m, k, workers)
        h = _padded(self.h[m])
        a, b = h.copy(), h.copy()
        field = (h, a, b, np.zeros_like(h))

        def work(worker: int) -> FloatArray:
            scratch = scratch_of(self.layout)
            counted = advance(
                k, w, field, worker, workers, self.from_s, self.until_s, self.whole, scratch
            )
            if worker == 0:
                nz, ny, nx = self.h[m].shape
                rows = field[counted[0] % 2][:-SLACK].reshape(nz, ny, -1)
                self.h[m] = rows[:, :, :nx]
            return np.array(counted)

        return work

    def rate(self, m: int) -> Float32Array:
        """∂H/∂t of a member at the run's start."""
        k = self.constants[m]
        h = _padded(self.h[m])
        field = (h, h.copy(), h.copy(), np.zeros_like(h))
        rate_only(k, self._arrays(m, k, 1), field, self.from_s, scratch_of(self.layout))
        nz, ny, nx = self.h[m].shape
        return np.array(field[3][:-SLACK].reshape(nz, ny, -1)[:, :, :nx])

    def _arrays(self, m: int, k: Constants, workers: int) -> Arrays:
        grid, pieces = self.layout.grid, len(k.needle)
        rows = int(grid.nz * grid.ny)
        back_s = _NONE if self.back_s is None else self.back_s[m].reshape(-1)
        nothing = np.zeros(0, np.uint8)
        past: Any = (_NONE, _NONE, _NONE, nothing)
        if self.past is not None:
            past = tuple(getattr(self.past, n)[m].reshape(-1) for n in vars(self.past))
        reach = [np.zeros(rows, np.uint64) for _ in range(8)]
        return Arrays(
            back_s=back_s,
            open_=np.ones(rows * int(grid.pitch) if back_s.size else 0, np.float32),
            past=past,
            active=(*reach[:4], np.zeros((int(grid.nz), 2), np.uint64)),
            reach_begin=reach[4],
            reach_end=reach[5],
            grown_begin=reach[6],
            grown_end=reach[7],
            touched=np.zeros(len(k.sinks.voxel), np.float32),
            seen=np.zeros(pieces, np.float32),
            heat=np.zeros(pieces, np.float32),
            planes=np.zeros(workers + 1, np.uint64),
            numbers=np.zeros(3 + workers),
            gates=np.zeros(8 * workers, np.int64),
        )
