"""The reference engine: NumPy float64, explicit Euler. Slow, obvious, the specification.

SI units, °C, arrays (member, z, y, x). Invariant: every term of the equation is one line of
``rate_w_m3``; nothing here is tuned for speed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpu_kernels import law
from gpu_kernels.engine import FloatArray, History, Problem, State, Work
from gpu_kernels.fields import (
    fraction_of,
    held_enthalpy,
    initial_state,
    own_companions,
    spread,
    start_enthalpy,
    temperature_of,
)
from gpu_kernels.needles import (
    COOLING,
    CRYOGEN,
    breakpoints_s,
    drive,
    driven_at,
    may_change,
    shafts,
    sink_per_s,
    surface_of_cryogen_degc,
)


class ReferenceEngine:
    """Explicit Euler at the stable step."""

    name = "reference"

    def __init__(self, why: str = "asked for by name") -> None:
        self.why = why
        self.work = Work(0, 0, 0)

    def initial(
        self,
        problem: Problem,
        temperature_degc: float | FloatArray,
        time_s: float = 0.0,
        history: bool = False,
    ) -> State:
        return initial_state(problem, temperature_degc, time_s, history, float)

    def advance(self, problem: Problem, state: State, until_s: float) -> State:
        h = start_enthalpy(problem, state, until_s, float)
        back_s, past = own_companions(problem, state)
        law_here = Law(problem)
        time_s, steps = state.time_s, 0
        for stop_s in [b for b in breakpoints_s(problem) if time_s < b < until_s] + [until_s]:
            count = int(np.ceil((stop_s - time_s) / (0.9 * law_here.euler_s)))
            step_s = (stop_s - time_s) / max(count, 1)
            for i in range(count):
                before = h.copy()
                h += step_s * law_here.rate_w_m3(h, time_s + (i + 0.5) * step_s, back_s)
                law_here.hold(h, time_s + (i + 1) * step_s)
                law_here.remember(before, h, time_s + (i + 1) * step_s, step_s, back_s, past)
            time_s, steps = stop_s, steps + count
        if not np.isfinite(h).all():
            raise FloatingPointError("reference engine: the enthalpy is no longer finite")
        self.work = Work(steps, steps, steps * h.size)
        return State(until_s, h, back_s, past)

    def temperature_degc(self, problem: Problem, state: State) -> FloatArray:
        return temperature_of(problem, state)

    def frozen_fraction(self, problem: Problem, state: State) -> FloatArray:
        return fraction_of(problem, state)


def rate_w_m3(problem: Problem, state: State, time_s: float) -> FloatArray:
    """∂H/∂t of a state at a time: what every engine integrates."""
    h = start_enthalpy(problem, state, state.time_s, float)
    return Law(problem).rate_w_m3(h, time_s, state.perfused_from_s)


class Law:
    """∂H/∂t of a problem, and what is remembered of its past."""

    def __init__(self, problem: Problem) -> None:
        self.table = law.table(problem)
        self.problem, self.shafts = problem, shafts(problem)
        self.cooling = problem.members.cooling_by_needle(len(problem.needles))
        every = np.arange(problem.label_zyx.size)
        self.free = may_change(problem, every).reshape(problem.label_zyx.shape)
        names = tuple(self.table.__dataclass_fields__)
        self.at = dict(zip(names, spread(problem, names), strict=True))
        sinks = sink_per_s(problem, self.table, self.shafts)
        self.euler_s = law.stable_step_s(problem, self.table, sinks)

    def rate_w_m3(
        self, h: FloatArray, time_s: float, back_s: npt.NDArray[np.float32] | None = None
    ) -> FloatArray:
        """∂H/∂t of every voxel, 0 where the boundary or a held body rules."""
        p = self.at
        t, f = self._temperature(h), law.frozen_fraction(h, p["latent"])
        k = law.conductivity(f, p["k_frozen"], p["k_unfrozen"])
        q = law.heat_potential(t, p["solidus"], p["width"], p["k_frozen"], p["k_unfrozen"])
        rate = self._divergence(t, k, q)
        blood = law.source_w_m3(t, f, p["perfusion"], p["metabolic"], self.problem.blood.degc)
        rate += blood if back_s is None else blood * (time_s >= back_s)
        self._draw(rate, q, time_s)
        rate *= self.free
        return rate

    def hold(self, h: FloatArray, time_s: float) -> None:
        """Sets the bodies of given temperature."""
        for label, held in held_enthalpy(self.problem, self.table, time_s).items():
            h[:, self.problem.label_zyx == label] = held[:, None]

    def remember(
        self,
        before: FloatArray,
        after: FloatArray,
        time_s: float,
        step_s: float,
        back_s: npt.NDArray[np.float32] | None,
        past: History | None,
    ) -> None:
        """Notes what a step that ended at ``time_s`` did to the tissue."""
        frozen = law.frozen_fraction(after, self.at["latent"]) >= 0.5
        if back_s is not None:
            back_s[frozen] = time_s + self.problem.stasis_s
        if past is not None:
            t0, t1 = self._temperature(before), self._temperature(after)
            np.minimum(past.min_degc, t1, out=past.min_degc, casting="same_kind")
            past.below_20_s[:] += step_s * law.share_below(-20.0, t0, t1)
            past.below_40_s[:] += step_s * law.share_below(-40.0, t0, t1)
            past.cycles[:] += frozen & (law.frozen_fraction(before, self.at["latent"]) < 0.5)

    def _temperature(self, h: FloatArray) -> FloatArray:
        p = self.at
        curve = (p["solidus"], p["width"], p["latent"], p["per_cf"], p["per_cu"])
        return np.asarray(law.temperature_degc(h, *curve))

    def _draw(self, rate: FloatArray, q: FloatArray, time_s: float) -> None:
        """The needles' heat, piece by piece, spread over the voxels by its weights."""
        s = self.shafts
        cell_m3 = float(np.prod(self.problem.spacing_mm)) / 1e9
        for piece in range(len(s.needle)):
            part = slice(s.start[piece], s.start[piece + 1])
            voxel, weight = s.voxel[part], s.weight[part]
            for m in range(len(rate)):
                seen_w_m = float(weight @ q[m].reshape(-1)[voxel])
                drawn_w = self.per_length_w_m(piece, m, seen_w_m, time_s) * s.metre[piece]
                rate[m].reshape(-1)[voxel] -= drawn_w * weight / cell_m3

    def per_length_w_m(self, piece: int, member: int, seen_w_m: float, time_s: float) -> float:
        """Heat drawn per length of shaft: q' = shape·(θ~ − θ(T_surface)), or as given."""
        s, m = self.shafts, member
        needle = self.problem.needles[s.needle[piece]]
        value, duty = driven_at(needle, time_s)
        effort = duty * self.cooling[m, s.needle[piece]]
        if np.isnan(value) or effort == 0.0:
            return 0.0
        kind = drive(needle).kind
        if kind == COOLING:
            return effort * value
        names = ("solidus", "width", "k_frozen", "k_unfrozen")
        curves = np.stack([s.tissue[piece], *(getattr(self.table, n)[m] for n in names)], axis=-1)
        shape = float(s.shape[piece])
        if kind == CRYOGEN:
            contact = effort * float(s.contact_w_m_k[piece])
            surface = surface_of_cryogen_degc(seen_w_m, value, contact, shape, curves)
            return contact * (surface - value)
        theta = sum(w * law.heat_potential(value, *curve) for w, *curve in curves)
        return float(effort * shape * (seen_w_m - theta))

    def _divergence(self, t: FloatArray, k: FloatArray, q: FloatArray) -> FloatArray:
        """∇·(k∇T), nothing through the outer faces: ∇q within a tissue, two half-voxels in series
        between tissues."""
        rate = np.zeros_like(t)
        label = self.problem.label_zyx[None]
        for axis, spacing in zip((3, 2, 1), self.problem.spacing_mm, strict=True):
            low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(4))
            high = tuple(slice(1, None) if a == axis else slice(None) for a in range(4))
            k_axis = self._with_surfaces(k, spacing)
            across = law.face_conductivity(k_axis[low], k_axis[high]) * (t[high] - t[low])
            flux = np.where(label[low] == label[high], q[high] - q[low], across)
            flux *= (1e3 / spacing) ** 2
            rate[low] += flux
            rate[high] -= flux
        return rate

    def _with_surfaces(self, k: FloatArray, spacing_mm: float) -> FloatArray:
        """k, but in bodies with a surface coefficient h what makes its half-voxel conduct h."""
        for label, tissue in enumerate(self.problem.tissues):
            if tissue.surface_h_w_m2k is not None:
                k = np.where(
                    self.problem.label_zyx == label, law.half_voxel_k(tissue, spacing_mm), k
                )
        return k
