"""The reference engine: NumPy float64, explicit Euler. Slow, obvious, the specification.

SI units, °C, arrays (member, z, y, x). Invariant: every term of the equation is one line of
``rate_w_m3``; nothing here is tuned for speed.
"""

from __future__ import annotations

import numpy as np

from gpu_kernels import law
from gpu_kernels.engine import FloatArray, Problem, State
from gpu_kernels.fields import fraction_of, initial_enthalpy, spread, start_enthalpy, temperature_of
from gpu_kernels.needles import breakpoints_s, shafts, sink_per_s, surface_degc


class ReferenceEngine:
    """Explicit Euler at the stable step."""

    name = "reference"

    def __init__(self, why: str = "asked for by name") -> None:
        self.why = why

    def initial(
        self, problem: Problem, temperature_degc: float | FloatArray, time_s: float = 0.0
    ) -> State:
        return State(time_s, initial_enthalpy(problem, temperature_degc))

    def advance(self, problem: Problem, state: State, until_s: float) -> State:
        h = start_enthalpy(problem, state, until_s, float)
        law_here = _Law(problem)
        time_s = state.time_s
        for stop_s in [b for b in breakpoints_s(problem) if time_s < b < until_s] + [until_s]:
            count = int(np.ceil((stop_s - time_s) / (0.9 * law_here.euler_s)))
            for i in range(count):
                step_s = (stop_s - time_s) / count
                h += step_s * law_here.rate_w_m3(h, time_s + (i + 0.5) * step_s)
            time_s = stop_s
        if not np.isfinite(h).all():
            raise FloatingPointError("reference engine: the enthalpy is no longer finite")
        return State(until_s, h)

    def temperature_degc(self, problem: Problem, state: State) -> FloatArray:
        return temperature_of(problem, state)

    def frozen_fraction(self, problem: Problem, state: State) -> FloatArray:
        return fraction_of(problem, state)


def rate_w_m3(problem: Problem, state: State, time_s: float) -> FloatArray:
    """∂H/∂t of a state at a time: what every engine integrates."""
    return _Law(problem).rate_w_m3(start_enthalpy(problem, state, state.time_s, float), time_s)


class _Law:
    """∂H/∂t of a problem."""

    def __init__(self, problem: Problem) -> None:
        table = law.table(problem)
        self.problem, self.shafts = problem, shafts(problem)
        names = tuple(table.__dataclass_fields__)
        self.at = dict(zip(names, spread(problem, names), strict=True))
        self.euler_s = law.stable_step_s(problem, table, sink_per_s(problem, table, self.shafts))

    def rate_w_m3(self, h: FloatArray, time_s: float) -> FloatArray:
        """∂H/∂t of every voxel."""
        p = self.at
        t = law.temperature_degc(h, p["solidus"], p["width"], p["latent"], p["per_cf"], p["per_cu"])
        f = law.frozen_fraction(h, p["latent"])
        k = law.conductivity(f, p["k_frozen"], p["k_unfrozen"])
        q = law.heat_potential(t, p["solidus"], p["width"], p["k_frozen"], p["k_unfrozen"])
        rate = _divergence(self.problem, t, k, q)
        rate += law.source_w_m3(t, f, p["perfusion"], p["metabolic"], self.problem.blood.degc)
        self._draw(rate, q, time_s)
        rate *= self.shafts.may_change.reshape(self.problem.label_zyx.shape)
        return rate

    def _draw(self, rate: FloatArray, q: FloatArray, time_s: float) -> None:
        """The needles' heat, piece by piece: q' = cooling·shape·(θ~ − θ(T_surface))."""
        s, problem, p = self.shafts, self.problem, self.at
        cell_m3 = float(np.prod(problem.spacing_mm)) / 1e9
        for piece in range(len(s.needle)):
            surface = surface_degc(problem.needles[s.needle[piece]], time_s)
            if np.isnan(surface):
                continue
            part = slice(s.start[piece], s.start[piece + 1])
            voxel, weight = s.voxel[part], s.weight[part]
            names = ("solidus", "width", "k_frozen", "k_unfrozen")
            for m, cooling in enumerate(problem.members.cooling):
                at_shaft = law.heat_potential(
                    surface, *(p[name][m].reshape(-1)[voxel] for name in names)
                )
                seen_w_m = weight @ (q[m].reshape(-1)[voxel] - at_shaft)
                drawn_w = cooling * s.shape[piece] * seen_w_m * s.metre[piece]
                rate[m].reshape(-1)[voxel] -= drawn_w * weight / cell_m3


def _divergence(problem: Problem, t: FloatArray, k: FloatArray, q: FloatArray) -> FloatArray:
    """∇·(k∇T), nothing through the outer faces: ∇q within a tissue, two half-voxels in series
    between tissues."""
    rate = np.zeros_like(t)
    label = problem.label_zyx[None]
    for axis, spacing in zip((3, 2, 1), problem.spacing_mm, strict=True):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(4))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(4))
        across = law.face_conductivity(k[low], k[high]) * (t[high] - t[low])
        flux = np.where(label[low] == label[high], q[high] - q[low], across)
        flux /= (spacing / 1e3) ** 2
        rate[low] += flux
        rate[high] -= flux
    return rate
