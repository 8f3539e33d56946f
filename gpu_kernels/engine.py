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

# What may be asked for by name (``select``).
CHOICES = ("auto", "cpu", "reference", "gpu")

TimeTable = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Tissue:
    """``latent_heat_j_kg`` per kilogram of tissue, spread between solidus and liquidus (°C).

    ``held_degc`` makes it a body of given temperature: a large vessel, air, a wall. A table of
    (t_s, °C), linear between entries, held before the first and after the last. Towards other
    tissues it conducts with its own k, or through ``surface_h_w_m2k`` (heat-transfer coefficient
    at its surface, W/m²/K) where given: skin in air, the wall of a vessel."""

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
    held_degc: TimeTable = ()
    surface_h_w_m2k: float | None = None


@dataclass(frozen=True)
class Blood:
    degc: float = 37.0
    rho_kg_m3: float = 1050.0
    c_j_kg_k: float = 3617.0


@dataclass(frozen=True)
class Needle:
    """A cryoprobe: ``direction`` is the unit vector (x, y, z) from the tip towards the handle, the
    active zone runs ``active_length_mm`` from the tip. It is driven by one table of (t_s, value),
    linear between entries, held after the last, "not driven" (passive thaw) before the first and
    from a NaN entry on:

    - ``surface_degc``: the shaft's surface temperature; above 0 °C an active thaw;
    - ``cooling_w_per_m``: heat removed per length of shaft, ≥ 0;
    - ``cryogen_degc``: the cryogen's temperature behind a heat-transfer coefficient
      ``h_w_m2k``, a table of (mm from the tip, W/m²/K), linear and held beyond its ends.

    ``duty`` 0..1 scales the heat drawn (with a cryogen: h); a number, or a table over time."""

    tip_mm: tuple[float, float, float]
    direction: tuple[float, float, float]
    diameter_mm: float
    active_length_mm: float
    surface_degc: TimeTable = ()
    duty: float | TimeTable = 1.0
    cooling_w_per_m: TimeTable = ()
    cryogen_degc: TimeTable = ()
    h_w_m2k: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Members:
    """Ensemble members: multipliers of the nominal parameters, one entry per member. A member's
    ``cooling`` is one number for all needles, or one for each. ``blood_shift_degc`` is added to the
    blood's temperature in tissue, not at the rim; empty: 0 for all."""

    perfusion: tuple[float, ...] = (1.0,)
    latent_heat: tuple[float, ...] = (1.0,)
    k_frozen: tuple[float, ...] = (1.0,)
    cooling: tuple[float | tuple[float, ...], ...] = (1.0,)
    blood_shift_degc: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.perfusion)

    def cooling_by_needle(self, needles: int) -> FloatArray:
        """(member, needle)."""
        rows = [np.broadcast_to(np.asarray(c, float), (needles,)) for c in self.cooling]
        return np.array(rows).reshape(len(rows), needles)


@dataclass(frozen=True)
class Problem:
    """``label_zyx`` (uint8) picks the tissue of each voxel. ``origin_mm`` (x, y, z) is the centre of
    voxel (0, 0, 0); ``spacing_mm`` is (x, y, z). ``boundary``: "fixed" keeps the outermost layer of
    voxels at ``rim_degc`` (None: the blood's); "insulated" lets no heat through the outer faces.
    Blood and metabolism stay off for ``stasis_s`` after tissue has thawed (vascular stasis)."""

    label_zyx: npt.NDArray[np.uint8]
    tissues: tuple[Tissue, ...]
    origin_mm: tuple[float, float, float]
    spacing_mm: tuple[float, float, float]
    needles: tuple[Needle, ...]
    blood: Blood = Blood()
    boundary: str = "fixed"
    members: Members = Members()
    stasis_s: float = 0.0
    rim_degc: float | None = None

    @property
    def edge_degc(self) -> float:
        """What a "fixed" boundary is held at."""
        return self.blood.degc if self.rim_degc is None else self.rim_degc


@dataclass(frozen=True)
class History:
    """What tissue has been through, each (member, z, y, x): the lowest temperature, the time spent
    below −20 and below −40 °C, and the freezing cycles begun (uint8: frozen by more than half)."""

    min_degc: npt.NDArray[np.float32]
    below_20_s: npt.NDArray[np.float32]
    below_40_s: npt.NDArray[np.float32]
    cycles: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class State:
    """``enthalpy_j_m3`` is (member, z, y, x), zero for tissue at its solidus, fully frozen.
    ``perfused_from_s`` (same shape, float32) is when blood comes back, −inf where it never stopped;
    None where the problem has no stasis. ``history`` is None where nobody asked for it."""

    time_s: float
    enthalpy_j_m3: FloatArray
    perfused_from_s: npt.NDArray[np.float32] | None = None
    history: History | None = None


class EngineUnavailable(RuntimeError):
    """The engine asked for cannot run here; the message says why."""


@dataclass(frozen=True)
class Work:
    """What a run cost: steps, stages and voxel updates, summed over members."""

    steps: int
    stages: int
    voxel_updates: int


class Engine(Protocol):
    """A solver of ``Problem``. Pure: the same arguments give the same answer, nothing is kept but
    caches. Raises ``ValueError`` naming what is wrong with a problem."""

    name: str
    why: str  # one sentence: why this engine runs
    work: Work  # what the last ``advance`` cost

    def initial(
        self,
        problem: Problem,
        temperature_degc: float | FloatArray,
        time_s: float = 0.0,
        history: bool = False,
    ) -> State:
        """A state at a temperature: scalar, (z, y, x) or (member, z, y, x). ``history`` has it
        accumulated from here on."""
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
