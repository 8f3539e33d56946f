"""The reference engine: NumPy float64, explicit Euler. Slow, obvious, the specification.

SI units, °C, arrays (member, z, y, x). Invariant: every term of the equation is one line of
``_rate_w_m3``; nothing here is tuned for speed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_kernels import law
from gpu_kernels.engine import FloatArray, Problem, State
from gpu_kernels.needles import Shafts, breakpoints_s, shafts, surface_degc


class ReferenceEngine:
    """Explicit Euler at the stable step."""

    name = "reference"
    why = "asked for"

    def initial(
        self, problem: Problem, temperature_degc: float | FloatArray, time_s: float = 0.0
    ) -> State:
        return State(time_s, initial_enthalpy(problem, temperature_degc))

    def advance(self, problem: Problem, state: State, until_s: float) -> State:
        law.check(problem)
        fields = _Fields(problem)
        h = np.array(state.enthalpy_j_m3, float)
        time_s = state.time_s
        stops = [b for b in breakpoints_s(problem) if time_s < b < until_s] + [until_s]
        for stop_s in stops:
            count = int(np.ceil((stop_s - time_s) / (0.9 * fields.euler_s)))
            for i in range(count):
                step_s = (stop_s - time_s) / count
                h += step_s * fields.rate_w_m3(h, time_s + (i + 0.5) * step_s)
            time_s = stop_s
        if not np.isfinite(h).all():
            raise FloatingPointError("reference engine: the enthalpy is no longer finite")
        return State(until_s, h)

    def temperature_degc(self, problem: Problem, state: State) -> FloatArray:
        return temperature_of(problem, state)

    def frozen_fraction(self, problem: Problem, state: State) -> FloatArray:
        return fraction_of(problem, state)


class _Fields:
    """A problem's parameters spread over its voxels, (member, z, y, x)."""

    def __init__(self, problem: Problem) -> None:
        table = law.table(problem)
        self.problem = problem
        self.at = {
            name: getattr(table, name)[:, problem.label_zyx] for name in table.__dataclass_fields__
        }
        self.shafts: Shafts = shafts(problem)
        sink = self.shafts.sink_per_w_m_k * float((table.k_frozen * table.per_cf).max())
        self.euler_s = law.stable_step_s(problem, table, sink * max(problem.members.cooling))

    def rate_w_m3(self, h: FloatArray, time_s: float) -> FloatArray:
        """∂H/∂t of every voxel."""
        p = self.at
        t = law.temperature_degc(h, p["solidus"], p["width"], p["latent"], p["per_cf"], p["per_cu"])
        f = law.frozen_fraction(h, p["latent"])
        k = law.conductivity(f, p["k_frozen"], p["k_unfrozen"])
        rate = _divergence(t, k, self.problem.spacing_mm)
        rate += law.source_w_m3(t, f, p["perfusion"], p["metabolic"], self.problem.blood.degc)
        self._draw(rate, t, k, time_s)
        if self.problem.boundary == "fixed":
            rate[:, [0, -1]] = rate[:, :, [0, -1]] = rate[:, :, :, [0, -1]] = 0.0
        return rate

    def _draw(self, rate: FloatArray, t: FloatArray, k: FloatArray, time_s: float) -> None:
        s, problem = self.shafts, self.problem
        cell_m3 = float(np.prod(problem.spacing_mm)) / 1e9
        for piece in range(len(s.needle)):
            surface = surface_degc(problem.needles[s.needle[piece]], time_s)
            if np.isnan(surface):
                continue
            part = slice(s.start[piece], s.start[piece + 1])
            voxel, weight = s.voxel[part], s.weight[part]
            for m, cooling in enumerate(problem.members.cooling):
                seen_degc = weight @ t[m].ravel()[voxel]
                k_seen = weight @ k[m].ravel()[voxel]
                drawn_w = cooling * s.shape[piece] * k_seen * (seen_degc - surface) * s.metre[piece]
                rate[m].reshape(-1)[voxel] -= drawn_w * weight / cell_m3


def _divergence(t: FloatArray, k: FloatArray, spacing_mm: tuple[float, float, float]) -> FloatArray:
    """∇·(k∇T), nothing through the outer faces."""
    rate = np.zeros_like(t)
    for axis, spacing in zip((3, 2, 1), spacing_mm, strict=True):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(4))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(4))
        flux = law.face_conductivity(k[low], k[high]) * (t[high] - t[low]) / (spacing / 1e3) ** 2
        rate[low] += flux
        rate[high] -= flux
    return rate


# ------------------------------------------------------------------ shared by the engines


def initial_enthalpy(problem: Problem, temperature_degc: float | FloatArray) -> FloatArray:
    """The enthalpy (member, z, y, x) of a temperature: scalar, (z, y, x) or (member, z, y, x)."""
    law.check(problem)
    t = np.asarray(temperature_degc, float)
    shape = (len(problem.members), *problem.label_zyx.shape)
    if not np.isfinite(t).all():
        raise ValueError("temperature_degc: not finite")
    p = _at(problem)
    return law.enthalpy(
        np.broadcast_to(t, shape), p["solidus"], p["width"], p["latent"], p["per_cf"], p["per_cu"]
    )


def temperature_of(problem: Problem, state: State) -> FloatArray:
    """(member, z, y, x) °C."""
    p = _at(problem)
    h = state.enthalpy_j_m3
    return np.asarray(
        law.temperature_degc(h, p["solidus"], p["width"], p["latent"], p["per_cf"], p["per_cu"])
    )


def fraction_of(problem: Problem, state: State) -> FloatArray:
    """(member, z, y, x), 0..1."""
    return np.asarray(law.frozen_fraction(state.enthalpy_j_m3, _at(problem)["latent"]))


def _at(problem: Problem) -> dict[str, npt.NDArray[Any]]:
    table = law.table(problem)
    names = ("solidus", "width", "latent", "per_cf", "per_cu")
    return {n: getattr(table, n).astype(np.float32)[:, problem.label_zyx] for n in names}
