"""The tissue law, written once: enthalpy ↔ temperature, conductivity, perfusion, stable steps.

SI units, temperatures in °C, enthalpy in J/m³ measured from fully frozen tissue at its solidus.
The functions take numbers or arrays and hold no branch, so that the CPU engine compiles these very
functions. Invariant: temperature and frozen fraction are continuous and monotone in enthalpy.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_kernels.engine import Problem, TimeTable, Tissue

FloatArray = npt.NDArray[np.floating[Any]]

# ------------------------------------------------------------------ pointwise law

# As float32 they leave float64 arrays what they are, and do not turn the compiled float32 kernels
# into float64 ones, which halves their speed.
_ZERO, _HALF, _ONE, _TWO = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(2.0)
_TINY = np.float32(1e-6)


def least(a: Any, b: Any) -> Any:
    """The smaller; compiled as one instruction (see ``cpu_kernels``)."""
    return np.minimum(a, b)


def most(a: Any, b: Any) -> Any:
    """The larger."""
    return np.maximum(a, b)


def temperature_degc(
    h: Any, solidus: Any, width: Any, latent: Any, per_cf: Any, per_cu: Any
) -> Any:
    """T(H): frozen, mushy and unfrozen branches as one sum. ``latent`` is the enthalpy at the
    liquidus, ``per_cf`` and ``per_cu`` are 1/(ρc)."""
    frozen = least(h, _ZERO) * per_cf
    mushy = least(most(h, _ZERO), latent) * (width / latent)
    return solidus + frozen + mushy + most(h - latent, _ZERO) * per_cu


def frozen_fraction(h: Any, latent: Any) -> Any:
    """Share of the freezable water that is ice, linear across the mushy zone."""
    return _ONE - least(most(h, _ZERO), latent) / latent


def conductivity(fraction: Any, k_frozen: Any, k_unfrozen: Any) -> Any:
    """k across the mushy zone, linear in the frozen fraction."""
    return k_unfrozen + fraction * (k_frozen - k_unfrozen)


def heat_potential(t: Any, solidus: Any, width: Any, k_frozen: Any, k_unfrozen: Any) -> Any:
    """∫k dT from the solidus, W/m (Kirchhoff). Within one tissue its difference between neighbours
    is the flux, and around a needle it falls off as ln r even across the front. A mean of the two
    neighbours' k instead holds the front back by half a voxel (k jumps fourfold there)."""
    above = t - solidus
    x = least(most(above, _ZERO), width)
    mushy = x * (k_frozen + _HALF * (x / width) * (k_unfrozen - k_frozen))
    return k_frozen * least(above, _ZERO) + mushy + k_unfrozen * most(above - width, _ZERO)


def face_conductivity(a: Any, b: Any) -> Any:
    """Harmonic mean, between two tissues: the flux through two half-voxels in series."""
    return _TWO * a * b / (a + b)


def half_voxel_k(tissue: Tissue, spacing_mm: float) -> float:
    """The k of a body with a surface coefficient h that makes its half-voxel conduct h; a hair above
    0 for h = 0, since the harmonic mean divides by it."""
    assert tissue.surface_h_w_m2k is not None
    return max(0.5 * tissue.surface_h_w_m2k * spacing_mm / 1e3, 1e-12)


def source_w_m3(t: Any, fraction: Any, perfusion: Any, metabolic: Any, blood_degc: Any) -> Any:
    """Blood and metabolism, which stop as the water freezes. ``perfusion`` is w·ρ_b·c_b."""
    return (_ONE - fraction) * (perfusion * (blood_degc - t) + metabolic)


def share_below(limit: Any, before: Any, after: Any) -> Any:
    """The share of a step in which a temperature, linear over it, lies below a limit."""
    cold = least(before, after)
    span = most(before, after) - cold + _TINY
    return least(most((limit - cold) / span, _ZERO), _ONE)


# The same law as polynomials of the enthalpy, folded so that a voxel costs no division. ``x`` is the
# enthalpy within the mushy zone, ``above`` what exceeds it.


def folded_potential(
    below: Any, x: Any, above: Any, frozen: Any, linear: Any, square: Any, unfrozen: Any
) -> Any:
    """``heat_potential`` of an enthalpy."""
    return frozen * below + x * (linear + square * x) + unfrozen * above


def folded_source(x: Any, above: Any, first: Any, second: Any, third: Any) -> Any:
    """``source_w_m3`` of an enthalpy."""
    return x * (first - second * x - third * above)


# ------------------------------------------------------------------ parameters


@dataclass(frozen=True)
class Table:
    """The law's parameters, each (member, tissue) float64."""

    solidus: FloatArray
    width: FloatArray
    latent: FloatArray
    per_cf: FloatArray
    per_cu: FloatArray
    k_frozen: FloatArray
    k_unfrozen: FloatArray
    perfusion: FloatArray
    metabolic: FloatArray

    def stacked(self) -> FloatArray:
        """(member, tissue, 9) in the order of the fields."""
        return np.stack([getattr(self, name) for name in self.__dataclass_fields__], axis=-1)


def table(problem: Problem) -> Table:
    """The parameters of every member and tissue of a problem."""
    m = problem.members

    def column(values: list[float], scale: tuple[float, ...] | None = None) -> FloatArray:
        scales = np.array(scale if scale is not None else [1.0] * len(m))
        return scales[:, None] * np.array(values)[None, :]

    ts = problem.tissues
    blood = problem.blood.rho_kg_m3 * problem.blood.c_j_kg_k
    width = np.array([t.liquidus_degc - t.solidus_degc for t in ts])
    sensible = (
        np.array([t.rho_kg_m3 * 0.5 * (t.c_frozen_j_kg_k + t.c_unfrozen_j_kg_k) for t in ts])
        * width
    )
    perfusion = column([t.perfusion_per_s * blood for t in ts], m.perfusion)
    # w·ρ·c·(T_b + δ − T) + q = w·ρ·c·(T_b − T) + (q + w·ρ·c·δ).
    shift = np.array(m.blood_shift_degc or (0.0,) * len(m))
    return Table(
        solidus=column([t.solidus_degc for t in ts]),
        width=column(list(width)),
        latent=column([t.rho_kg_m3 * t.latent_heat_j_kg for t in ts], m.latent_heat) + sensible,
        per_cf=column([1.0 / (t.rho_kg_m3 * t.c_frozen_j_kg_k) for t in ts]),
        per_cu=column([1.0 / (t.rho_kg_m3 * t.c_unfrozen_j_kg_k) for t in ts]),
        k_frozen=column([t.k_frozen_w_m_k for t in ts], m.k_frozen),
        k_unfrozen=column([t.k_unfrozen_w_m_k for t in ts]),
        perfusion=perfusion,
        metabolic=column([t.metabolic_w_m3 for t in ts]) + perfusion * shift[:, None],
    )


def enthalpy(t_degc: Any, solidus: Any, width: Any, latent: Any, per_cf: Any, per_cu: Any) -> Any:
    """H(T), the inverse of ``temperature_degc``."""
    above = t_degc - solidus
    frozen = least(above, _ZERO) / per_cf
    mushy = least(most(above, _ZERO), width) * (latent / width)
    return frozen + mushy + most(above - width, _ZERO) / per_cu


def folded(problem: Problem, p: Table) -> FloatArray:
    """(member, tissue, 8): latent, then the coefficients of ``folded_potential`` (frozen, linear,
    square, unfrozen) and of ``folded_source``."""
    per_latent = 1.0 / p.latent
    slope = p.width * per_latent
    gain = p.perfusion * (problem.blood.degc - p.solidus) + p.metabolic
    return np.stack(
        [
            p.latent,
            p.k_frozen * p.per_cf,
            slope * p.k_frozen,
            0.5 * slope * (p.k_unfrozen - p.k_frozen) * per_latent,
            p.k_unfrozen * p.per_cu,
            gain * per_latent,
            p.perfusion * slope * per_latent,
            p.perfusion * p.per_cu * per_latent,
        ],
        axis=-1,
    )


def held_degc(problem: Problem, time_s: float) -> dict[int, float]:
    """The temperature of every tissue that is held, by label."""
    return {
        label: interpolate(t.held_degc, time_s, before=t.held_degc[0][1])
        for label, t in enumerate(problem.tissues)
        if t.held_degc
    }


def interpolate(entries: TimeTable, time_s: float, before: float = float("nan")) -> float:
    """A table at a time: linear between entries, held after the last, ``before`` before the first.
    Of two entries at one time the later holds from then on; next to a NaN nothing is drawn out."""
    if time_s < entries[0][0]:
        return before
    for (t0, v0), (t1, v1) in itertools.pairwise(entries):
        if t0 <= time_s < t1:
            share = (time_s - t0) / (t1 - t0)
            return v0 if np.isnan(v0) or np.isnan(v1) else v0 + (v1 - v0) * share
    return entries[-1][1]


# ------------------------------------------------------------------ time steps


def stable_step_s(problem: Problem, parameters: Table, sink_per_s: float) -> float:
    """The longest stable explicit Euler step: Gershgorin's bound on the heat operator plus
    ``sink_per_s``, that of the needles. A face conducts at most twice its worse half."""
    inverse_square = float(sum((1e3 / d) ** 2 for d in problem.spacing_mm))
    k_own = np.maximum(parameters.k_frozen, parameters.k_unfrozen)
    coefficients = [t for t in problem.tissues if t.surface_h_w_m2k is not None]
    k_most = max([k_own.max(), *(half_voxel_k(t, max(problem.spacing_mm)) for t in coefficients)])
    k_face = np.minimum(2.0 * k_own, k_most)
    # In the mushy zone the latent heat makes T(H) flatter than either branch.
    per_c = np.maximum(parameters.per_cf, parameters.per_cu)
    rate = (4.0 * k_face * inverse_square + parameters.perfusion) * per_c
    free = [i for i, t in enumerate(problem.tissues) if not t.held_degc]
    return 2.0 / (float(rate[:, free].max(initial=1e-9)) + sink_per_s)


@dataclass(frozen=True)
class Stages:
    """Coefficients of the stages j = 2..s of a super-time-step τ, each (s − 1,), after
    Y₁ = Y₀ + first·τ·M₀: Y_j = mu·Y_{j−1} + nu·Y_{j−2} + rest·Y₀ + rate·τ·M(Y_{j−1}) + rate0·τ·M₀,
    M(Y_{j−1}) at time t + at·τ."""

    first: float
    mu: FloatArray
    nu: FloatArray
    rest: FloatArray
    rate: FloatArray
    rate0: FloatArray
    at: FloatArray


def rkl2(s: int) -> Stages:
    """The s-stage second-order Runge-Kutta-Legendre scheme (Meyer, Balsara & Aslam, J. Comput. Phys.
    257 (2014) 594, eq. 16-18). Its error at the front is an eighth of RKL1's at equal work."""
    w = 4.0 / (s * s + s - 2.0)
    j = np.arange(s + 1, dtype=float)
    b = np.full(s + 1, 1.0 / 3.0)
    b[3:] = (j[3:] ** 2 + j[3:] - 2.0) / (2.0 * j[3:] * (j[3:] + 1.0))
    now, before, earlier = slice(2, s + 1), slice(1, s), slice(0, s - 1)
    mu = (2.0 * j[now] - 1.0) / j[now] * b[now] / b[before]
    nu = -(j[now] - 1.0) / j[now] * b[now] / b[earlier]
    at = (j**2 + j - 2.0) / (s * s + s - 2.0)
    at[1] = w / 3.0
    rate = mu * w
    return Stages(w / 3.0, mu, nu, 1.0 - mu - nu, rate, -(1.0 - b[before]) * rate, at[before])


def stages_for(step_s: float, euler_s: float) -> int:
    """The fewest stages that keep a step of ``step_s`` stable: step ≤ euler·(s² + s − 2)/4; odd,
    which damps the highest modes, and no fewer than 3."""
    s = int(np.ceil(0.5 * (np.sqrt(9.0 + 16.0 * step_s / euler_s) - 1.0)))
    return max(3, s + 1 - s % 2)
