"""The CPU engine: numba, float32, RKL1 super-time-stepping. SI units, °C, (member, z, y, x).

The tissue law is ``law``'s own functions, compiled. Invariant: same answer as the reference engine
within the parity tests' tolerance. Not to be entered from two threads at once: numba's workqueue
layer, which does not stall on a busy machine, does not allow it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba import njit, prange

from gpu_kernels import law
from gpu_kernels.engine import FloatArray, Problem, State
from gpu_kernels.needles import Shafts, breakpoints_s, shafts, surface_degc
from gpu_kernels.reference import fraction_of, initial_enthalpy, temperature_of
from gpu_kernels.stepping import steps

numba.config.THREADING_LAYER = "workqueue"  # type: ignore[attr-defined]


def _cache_folder() -> Path:
    """Compiled kernels are kept per version of their sources: numba watches only the file that a
    kernel stands in, and would run yesterday's law."""
    here = Path(__file__).parent
    sources = b"".join((here / name).read_bytes() for name in ("law.py", "cpu.py"))
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "iceball-monitor" / hashlib.sha256(sources).hexdigest()[:16]


numba.config.CACHE_DIR = str(_cache_folder())  # type: ignore[attr-defined]

_temperature = njit(inline="always")(law.temperature_degc)
_fraction = njit(inline="always")(law.frozen_fraction)
_conductivity = njit(inline="always")(law.conductivity)
_face = njit(inline="always")(law.face_conductivity)
_source = njit(inline="always")(law.source_w_m3)

Float32Array = npt.NDArray[np.float32]


_FAST = {"contract", "arcp", "nsz"}


@njit(parallel=True, cache=True, fastmath=_FAST, nogil=True)
def _thermal(h: Any, label: Any, par: Any, t: Any, k: Any) -> None:  # pragma: no cover - compiled
    """Temperature and conductivity of every voxel."""
    members, nz, ny, nx = h.shape
    for plane in prange(members * nz):
        m, z = plane // nz, plane % nz
        for y in range(ny):
            h_row, t_row, k_row, l_row = h[m, z, y], t[m, z, y], k[m, z, y], label[z, y]
            for x in range(nx):
                p = par[m, l_row[x]]
                t_row[x] = _temperature(h_row[x], p[0], p[1], p[2], p[3], p[4])
                k_row[x] = _conductivity(_fraction(h_row[x], p[2]), p[5], p[6])


@njit(inline="always")
def _flux(t_here: Any, k_here: Any, t_there: Any, k_there: Any, per_square: Any) -> Any:
    return per_square * _face(k_here, k_there) * (t_there - t_here)


@njit(parallel=True, cache=True, fastmath=_FAST, nogil=True)
def _stage(  # pragma: no cover - compiled
    h: Any,
    older: Any,
    t: Any,
    k: Any,
    label: Any,
    par: Any,
    per_square: Any,
    blood: Any,
    mu: Any,
    nu: Any,
    scale: Any,
    fixed: Any,
) -> None:
    """older ← μ·h + ν·older + scale·M(h) away from the needles. At an outer face the neighbour is
    the voxel itself: no flux; a fixed rim keeps its value."""
    members, nz, ny, nx = h.shape
    gx, gy, gz = per_square[0], per_square[1], per_square[2]
    for plane in prange(members * nz):
        m, z = plane // nz, plane % nz
        za, zb = max(z - 1, 0), min(z + 1, nz - 1)
        for y in range(ny):
            ya, yb = max(y - 1, 0), min(y + 1, ny - 1)
            h_row, out, l_row = h[m, z, y], older[m, z, y], label[z, y]
            if fixed and (z == 0 or z == nz - 1 or y == 0 or y == ny - 1):
                out[:] = h_row
                continue
            t_row, k_row = t[m, z, y], k[m, z, y]
            t_ya, k_ya, t_yb, k_yb = t[m, z, ya], k[m, z, ya], t[m, z, yb], k[m, z, yb]
            t_za, k_za, t_zb, k_zb = t[m, za, y], k[m, za, y], t[m, zb, y], k[m, zb, y]
            for x in range(nx):
                xa, xb = max(x - 1, 0), min(x + 1, nx - 1)
                tc, kc = t_row[x], k_row[x]
                rate = _flux(tc, kc, t_row[xa], k_row[xa], gx) + _flux(
                    tc, kc, t_row[xb], k_row[xb], gx
                )
                rate += _flux(tc, kc, t_ya[x], k_ya[x], gy) + _flux(tc, kc, t_yb[x], k_yb[x], gy)
                rate += _flux(tc, kc, t_za[x], k_za[x], gz) + _flux(tc, kc, t_zb[x], k_zb[x], gz)
                p = par[m, l_row[x]]
                rate += _source(tc, _fraction(h_row[x], p[2]), p[7], p[8], blood)
                out[x] = mu * h_row[x] + nu * out[x] + scale * rate
            if fixed:
                out[0], out[nx - 1] = h_row[0], h_row[nx - 1]


@njit(cache=True, nogil=True)
def _draw(  # pragma: no cover - compiled
    target: Any,
    t: Any,
    k: Any,
    start: Any,
    voxel: Any,
    weight: Any,
    strength: Any,
    surface: Any,
    scale: Any,
) -> None:
    """The needles' heat, taken through each piece's kernel: target −= scale · drawn. ``strength`` is
    (member, piece) shape·metre/cell volume; ``surface`` (piece,) NaN when not driven."""
    members, pieces = strength.shape
    for m in range(members):
        tm, km, out = t[m].ravel(), k[m].ravel(), target[m].ravel()
        for piece in range(pieces):
            if np.isnan(surface[piece]):
                continue
            seen, k_seen = 0.0, 0.0
            for i in range(start[piece], start[piece + 1]):
                seen += weight[i] * tm[voxel[i]]
                k_seen += weight[i] * km[voxel[i]]
            drawn = scale * strength[m, piece] * k_seen * (seen - surface[piece])
            for i in range(start[piece], start[piece + 1]):
                out[voxel[i]] -= np.float32(drawn * weight[i])


class CpuEngine:
    """RKL1 with as many stages as each step needs."""

    name = "cpu"
    why = "asked for"

    def initial(
        self, problem: Problem, temperature_degc: float | FloatArray, time_s: float = 0.0
    ) -> State:
        return State(time_s, initial_enthalpy(problem, temperature_degc).astype(np.float32))

    def advance(self, problem: Problem, state: State, until_s: float) -> State:
        law.check(problem)
        run = _Run(problem, np.array(state.enthalpy_j_m3, np.float32, order="C"))
        for time_s, step_s in steps(state.time_s, until_s, breakpoints_s(problem)):
            run.step(time_s, step_s)
        if not np.isfinite(run.h).all():
            raise FloatingPointError("cpu engine: the enthalpy is no longer finite")
        return State(until_s, run.h)

    def temperature_degc(self, problem: Problem, state: State) -> FloatArray:
        return temperature_of(problem, state)

    def frozen_fraction(self, problem: Problem, state: State) -> FloatArray:
        return fraction_of(problem, state)


class _Run:
    """Buffers and constants of one ``advance``."""

    def __init__(self, problem: Problem, h: Float32Array) -> None:
        table = law.table(problem)
        self.problem = problem
        self.h, self.older = h, np.zeros_like(h)
        self.t, self.k = np.empty_like(h), np.empty_like(h)
        self.label = np.ascontiguousarray(problem.label_zyx)
        self.par = table.stacked().astype(np.float32)
        self.per_square = np.array([(1e3 / d) ** 2 for d in problem.spacing_mm], np.float32)
        self.blood = np.float32(problem.blood.degc)
        self.shafts: Shafts = shafts(problem)
        cooling = np.array(problem.members.cooling)[:, None]
        cell_m3 = float(np.prod(problem.spacing_mm)) / 1e9
        self.strength = cooling * (self.shafts.shape * self.shafts.metre)[None, :] / cell_m3
        sink = self.shafts.sink_per_w_m_k * float((table.k_frozen * table.per_cf).max())
        self.euler_s = 0.95 * law.stable_step_s(problem, table, sink * max(problem.members.cooling))
        self.fixed = problem.boundary == "fixed"

    def step(self, time_s: float, step_s: float) -> None:
        """One RKL1 step; stage j's sink sits at t + τ(j² + j)/(s² + s)."""
        s = law.stages_for(step_s, self.euler_s)
        mu, nu, w1 = law.rkl1(s)
        for j in range(1, s + 1):
            factor, before = (1.0, 0.0) if j == 1 else (float(mu[j]), float(nu[j]))
            scale = np.float32(factor * w1 * step_s)
            _thermal(self.h, self.label, self.par, self.t, self.k)
            _stage(
                self.h,
                self.older,
                self.t,
                self.k,
                self.label,
                self.par,
                self.per_square,
                self.blood,
                np.float32(factor),
                np.float32(before),
                scale,
                self.fixed,
            )
            at_s = time_s + step_s * (j * j - j) / (s * s + s)
            self._draw(at_s, float(scale))
            self.h, self.older = self.older, self.h

    def _draw(self, time_s: float, scale: float) -> None:
        s = self.shafts
        surfaces = [surface_degc(n, time_s) for n in self.problem.needles]
        surface = np.array([surfaces[n] for n in s.needle], float)
        if len(surface) and not np.isnan(surface).all():
            _draw(
                self.older,
                self.t,
                self.k,
                s.start,
                s.voxel,
                s.weight,
                self.strength,
                surface,
                scale,
            )
