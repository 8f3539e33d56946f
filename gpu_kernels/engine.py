"""What every bioheat engine promises. SI units, temperatures in °C, points in mm, arrays (z, y, x).

Pennes with phase change in enthalpy form on a regular grid; the law itself is in ``law.py``.
Invariant: engines differ in speed and rounding only; parity tests hold them to the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Tissue:
    """``latent_heat_j_kg`` per kilogram of tissue, spread between solidus and liquidus (°C)."""

    name: str
    rho_kg_m3: float
    c_unfrozen_j_kg_k: float
    c_frozen_j_kg_k: float
    k_unfrozen_w_m_k: float
    k_frozen_w_m_k: float
    latent_heat_j_kg: float
    solidus_degc: float
    liquidus_degc: float
    perfusion_per_s: float
    metabolic_w_m3: float


@dataclass(frozen=True)
class Blood:
    degc: float = 37.0
    rho_kg_m3: float = 1050.0
    c_j_kg_k: float = 3617.0


@dataclass(frozen=True)
class Needle:
    """A cryoprobe: ``direction`` is the unit vector (x, y, z) from the tip towards the handle, the
    active zone runs ``active_length_mm`` from the tip. ``surface_degc`` is a table of (t_s, °C),
    linear between entries and held after the last; NaN entries mean "not driven from here on"
    (passive thaw). ``duty`` 0..1 scales the heat drawn at a given temperature difference."""

    tip_mm: tuple[float, float, float]
    direction: tuple[float, float, float]
    diameter_mm: float
    active_length_mm: float
    surface_degc: tuple[tuple[float, float], ...]
    duty: float = 1.0


@dataclass(frozen=True)
class Members:
    """Ensemble members: multipliers of the nominal parameters, one entry per member."""

    perfusion: tuple[float, ...] = (1.0,)
    latent_heat: tuple[float, ...] = (1.0,)
    k_frozen: tuple[float, ...] = (1.0,)
    cooling: tuple[float, ...] = (1.0,)

    def __len__(self) -> int:
        return len(self.perfusion)


@dataclass(frozen=True)
class Problem:
    """``label_zyx`` (uint8) picks the tissue of each voxel. ``origin_mm`` (x, y, z) is the centre of
    voxel (0, 0, 0); ``spacing_mm`` is (x, y, z). ``boundary``: "fixed" keeps the outermost layer of
    voxels at ``blood.degc``; "insulated" lets no heat through the outer faces."""

    label_zyx: npt.NDArray[np.uint8]
    tissues: tuple[Tissue, ...]
    origin_mm: tuple[float, float, float]
    spacing_mm: tuple[float, float, float]
    needles: tuple[Needle, ...]
    blood: Blood = Blood()
    boundary: str = "fixed"
    members: Members = Members()


@dataclass(frozen=True)
class State:
    """``enthalpy_j_m3`` is (member, z, y, x), zero for tissue at its solidus, fully frozen."""

    time_s: float
    enthalpy_j_m3: FloatArray


class Engine(Protocol):
    """A solver of ``Problem``. Pure: the same arguments give the same answer, nothing is kept but
    caches. Raises ``ValueError`` naming what is wrong with a problem."""

    name: str
    why: str  # one sentence: why this engine runs

    def initial(
        self, problem: Problem, temperature_degc: float | FloatArray, time_s: float = 0.0
    ) -> State:
        """A state at a temperature: scalar, (z, y, x) or (member, z, y, x)."""
        ...

    def advance(self, problem: Problem, state: State, until_s: float) -> State:
        """The state at ``until_s`` ≥ ``state.time_s``."""
        ...

    def temperature_degc(self, problem: Problem, state: State) -> FloatArray:
        """(member, z, y, x)."""
        ...

    def frozen_fraction(self, problem: Problem, state: State) -> FloatArray:
        """(member, z, y, x), 0..1: the share of freezable water that is ice."""
        ...
