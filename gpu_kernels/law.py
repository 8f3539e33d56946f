"""The tissue law, written once: enthalpy ↔ temperature, conductivity, perfusion, stable steps.

SI units, temperatures in °C, enthalpy in J/m³ measured from fully frozen tissue at its solidus.
The functions take numbers or arrays and hold no branch, so that the CPU engine compiles these very
functions. Invariant: temperature and frozen fraction are continuous and monotone in enthalpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_kernels.engine import Problem

FloatArray = npt.NDArray[np.floating[Any]]

# ------------------------------------------------------------------ pointwise law

# As float32 they leave float64 arrays what they are, and do not turn the compiled float32 kernels
# into float64 ones, which halves their speed.
_ZERO, _HALF, _ONE, _TWO = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(2.0)


def temperature_degc(
    h: Any, solidus: Any, width: Any, latent: Any, per_cf: Any, per_cu: Any
) -> Any:
    """T(H): frozen, mushy and unfrozen branches as one sum. ``latent`` is the enthalpy at the
    liquidus, ``per_cf`` and ``per_cu`` are 1/(ρc)."""
    frozen = np.minimum(h, _ZERO) * per_cf
    mushy = np.minimum(np.maximum(h, _ZERO), latent) * (width / latent)
    return solidus + frozen + mushy + np.maximum(h - latent, _ZERO) * per_cu


def frozen_fraction(h: Any, latent: Any) -> Any:
    """Share of the freezable water that is ice, linear across the mushy zone."""
    return _ONE - np.minimum(np.maximum(h, _ZERO), latent) / latent


def conductivity(fraction: Any, k_frozen: Any, k_unfrozen: Any) -> Any:
    """k across the mushy zone, linear in the frozen fraction."""
    return k_unfrozen + fraction * (k_frozen - k_unfrozen)


def heat_potential(t: Any, solidus: Any, width: Any, k_frozen: Any, k_unfrozen: Any) -> Any:
    """∫k dT from the solidus, W/m (Kirchhoff). Within one tissue its difference between neighbours
    is the flux, and around a needle it falls off as ln r even across the front. A mean of the two
    neighbours' k instead holds the front back by half a voxel (k jumps fourfold there)."""
    above = t - solidus
    x = np.minimum(np.maximum(above, _ZERO), width)
    mushy = x * (k_frozen + _HALF * (x / width) * (k_unfrozen - k_frozen))
    return (
        k_frozen * np.minimum(above, _ZERO) + mushy + k_unfrozen * np.maximum(above - width, _ZERO)
    )


def face_conductivity(a: Any, b: Any) -> Any:
    """Harmonic mean, between two tissues: the flux through two half-voxels in series."""
    return _TWO * a * b / (a + b)


def source_w_m3(t: Any, fraction: Any, perfusion: Any, metabolic: Any, blood_degc: Any) -> Any:
    """Blood and metabolism, which stop as the water freezes. ``perfusion`` is w·ρ_b·c_b."""
    return (_ONE - fraction) * (perfusion * (blood_degc - t) + metabolic)


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
    return Table(
        solidus=column([t.solidus_degc for t in ts]),
        width=column(list(width)),
        latent=column([t.rho_kg_m3 * t.latent_heat_j_kg for t in ts], m.latent_heat) + sensible,
        per_cf=column([1.0 / (t.rho_kg_m3 * t.c_frozen_j_kg_k) for t in ts]),
        per_cu=column([1.0 / (t.rho_kg_m3 * t.c_unfrozen_j_kg_k) for t in ts]),
        k_frozen=column([t.k_frozen_w_m_k for t in ts], m.k_frozen),
        k_unfrozen=column([t.k_unfrozen_w_m_k for t in ts]),
        perfusion=column([t.perfusion_per_s * blood for t in ts], m.perfusion),
        metabolic=column([t.metabolic_w_m3 for t in ts]),
    )


def enthalpy(
    t_degc: FloatArray,
    solidus: FloatArray,
    width: FloatArray,
    latent: FloatArray,
    per_cf: FloatArray,
    per_cu: FloatArray,
) -> FloatArray:
    """H(T), the inverse of ``temperature_degc``."""
    above = t_degc - solidus
    frozen = np.minimum(above, 0.0) / per_cf
    mushy = np.clip(above, 0.0, width) * (latent / width)
    return np.asarray(frozen + mushy + np.maximum(above - width, 0.0) / per_cu)


# ------------------------------------------------------------------ time steps


def stable_step_s(problem: Problem, parameters: Table, sink_per_s: float) -> float:
    """The longest stable explicit Euler step: Gershgorin's bound on the heat operator plus
    ``sink_per_s``, that of the needles. A face conducts at most twice its worse half."""
    inverse_square = float(sum((1e3 / d) ** 2 for d in problem.spacing_mm))
    k_own = np.maximum(parameters.k_frozen, parameters.k_unfrozen)
    k_face = np.minimum(2.0 * k_own, k_own.max())
    # In the mushy zone the latent heat makes T(H) flatter than either branch.
    per_c = np.maximum(parameters.per_cf, parameters.per_cu)
    rate = (4.0 * k_face * inverse_square + parameters.perfusion) * per_c
    return 2.0 / (float(rate.max()) + sink_per_s)


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
