"""The benchmark's peer: P1 by Devito, a compiler of finite-difference stencils (optional).

Explicit Euler at its stable step, float32, OpenMP, in two forms: with the harmonic mean of the two
voxels' conductivities at each face, which is what the equation ∇·(k∇T) leads its user to, and with our
own heat potential of the enthalpy, which needs no conductivity at all. The two converge to different
radii on one grid (the first holds the front back). °C, SI units.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import time
from typing import Any

import numpy as np

from gpu_kernels import law
from gpu_kernels.engine import FloatArray, Problem

_SAFETY = 0.9


def peer_available() -> bool:
    """Whether Devito is installed."""
    return importlib.util.find_spec("devito") is not None


def run_peer(
    problem: Problem, duration_s: float, runs: int, harmonic: bool
) -> tuple[float, FloatArray]:
    """Median seconds of a run after the one that compiles, and the temperatures (z, y, x).
    ``problem`` is homogeneous but for one held body with a ramp, "fixed", of one member."""
    os.environ.setdefault("DEVITO_LANGUAGE", "openmp")
    os.environ.setdefault("DEVITO_LOGGING", "ERROR")
    table = law.table(problem)
    step_s = _SAFETY * law.stable_step_s(problem, table, 0.0)
    steps = int(np.ceil(duration_s / step_s))
    operator, h = _operator(problem, table, duration_s / steps, harmonic)
    seconds = []
    for _ in range(runs + 1):
        h.data[:] = _enthalpy(table, problem.blood.degc)
        started = time.perf_counter()
        operator.apply(time_m=0, time_M=steps - 1)
        seconds.append(time.perf_counter() - started)
    degc = law.temperature_degc(np.array(h.data[steps % 2], float), *_curve(table))
    return statistics.median(seconds[1:]), np.asarray(degc)


def _enthalpy(table: law.Table, degc: float) -> float:
    return float(law.enthalpy(degc, *_curve(table)))


def _operator(problem: Problem, table: law.Table, step_s: float, harmonic: bool) -> tuple[Any, Any]:
    import devito

    shape = problem.label_zyx.shape
    extent = tuple((n - 1) * d / 1e3 for n, d in zip(shape, problem.spacing_mm[::-1], strict=True))
    grid = devito.Grid(shape, extent, subdomains=_subdomains(devito, problem), dtype=np.float32)
    h = devito.TimeFunction(name="h", grid=grid, space_order=2, time_order=1)
    form = _harmonic if harmonic else _potential
    first, divergence = form(devito, grid, h, law.folded(problem, table)[0, 0], table)
    (t0, v0), (t1, v1) = problem.tissues[1].held_degc
    degc = devito.Max(v1, v0 + (v1 - v0) * ((grid.time_dim + 1) * step_s - t0) / (t1 - t0))
    inner, needle = grid.subdomains["inner"], grid.subdomains["needle"]
    equations = [
        *first,
        devito.Eq(h.forward, h + step_s * divergence, subdomain=inner),
        devito.Eq(h.forward, _enthalpy_expression(devito, degc, *_curve(table)), subdomain=needle),
    ]
    return devito.Operator(equations), h


def _potential(
    devito: Any, grid: Any, h: Any, f: FloatArray, table: law.Table
) -> tuple[list[Any], Any]:
    """What is worked out first, and ∂H/∂t: the heat potential and its Laplacian."""
    q = devito.Function(name="q", grid=grid, space_order=2)
    latent, frozen, linear, square, unfrozen, one, two, three = (float(v) for v in f)
    x = devito.Max(devito.Min(h, latent), 0.0)
    above = devito.Max(h - latent, 0.0)
    potential = frozen * devito.Min(h, 0.0) + x * (linear + square * x) + unfrozen * above
    return [devito.Eq(q, potential)], q.laplace + x * (one - two * x - three * above)


def _harmonic(
    devito: Any, grid: Any, h: Any, f: FloatArray, table: law.Table
) -> tuple[list[Any], Any]:
    """Temperature and conductivity first; then fluxes through two half-voxels in series."""
    t, k = (devito.Function(name=n, grid=grid, space_order=2) for n in ("t", "k"))
    solidus, width, latent, per_cf, per_cu = _curve(table)
    k_frozen, k_unfrozen = (float(getattr(table, n)[0, 0]) for n in ("k_frozen", "k_unfrozen"))
    x = devito.Max(devito.Min(h, latent), 0.0)
    above = devito.Max(h - latent, 0.0)
    degc = solidus + devito.Min(h, 0.0) * per_cf + x * (width / latent) + above * per_cu
    conductivity = k_unfrozen + (1.0 - x / latent) * (k_frozen - k_unfrozen)
    divergence = x * (float(f[5]) - float(f[6]) * x - float(f[7]) * above)
    for d in grid.dimensions:
        for there in (d + d.spacing, d - d.spacing):
            k_there, t_there = k.subs(d, there), t.subs(d, there)
            divergence += 2.0 * k * k_there / (k + k_there) * (t_there - t) / d.spacing**2
    return [devito.Eq(t, degc), devito.Eq(k, conductivity)], divergence


def _curve(table: law.Table) -> list[float]:
    names = ("solidus", "width", "latent", "per_cf", "per_cu")
    return [float(getattr(table, n)[0, 0]) for n in names]


def _enthalpy_expression(
    devito: Any,
    degc: Any,
    solidus: float,
    width: float,
    latent: float,
    per_cf: float,
    per_cu: float,
) -> Any:
    above = degc - solidus
    mushy = devito.Max(devito.Min(above, width), 0.0) * (latent / width)
    return devito.Min(above, 0.0) / per_cf + mushy + devito.Max(above - width, 0.0) / per_cu


def _subdomains(devito: Any, problem: Problem) -> tuple[Any, Any]:
    shape = problem.label_zyx.shape
    low, high = (
        np.argwhere(problem.label_zyx == 1).min(0),
        np.argwhere(problem.label_zyx == 1).max(0),
    )

    class Needle(devito.SubDomain):  # type: ignore[misc]
        name = "needle"

        def define(self, dimensions: Any) -> Any:
            return {
                d: ("middle", int(a), int(n - 1 - b))
                for d, a, b, n in zip(dimensions, low, high, shape, strict=True)
            }

    class Inner(devito.SubDomain):  # type: ignore[misc]
        name = "inner"

        def define(self, dimensions: Any) -> Any:
            return dict.fromkeys(dimensions, ("middle", 1, 1))

    return Needle(), Inner()
