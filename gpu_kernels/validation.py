"""Problems and states that no engine should start on. Units as in ``engine``.

Invariant: every test asks "proved fine?" and negates it, so that NaN fails; the ``ValueError`` names
the field.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from gpu_kernels.engine import Blood, FloatArray, Members, Needle, Problem, State, Tissue
from gpu_kernels.needles import r_eq_mm, sigma_mm

_UNIT_ERROR = 1e-4


def check(problem: Problem) -> None:
    """Raises ``ValueError`` naming what is wrong with a problem."""
    _check_grid(problem)
    if not problem.tissues or int(problem.label_zyx.max()) >= len(problem.tissues):
        highest = int(problem.label_zyx.max())
        raise ValueError(f"label_zyx: label {highest} but {len(problem.tissues)} tissue(s)")
    if problem.boundary not in ("fixed", "insulated"):
        raise ValueError(f'boundary: expected "fixed" or "insulated", got {problem.boundary!r}')
    for i, tissue in enumerate(problem.tissues):
        _check_tissue(f"tissues[{i}] ({tissue.name})", tissue)
    if problem.rim_degc is not None:
        _check_numbers("rim_degc", (problem.rim_degc,), 1, least=-273.15)
    _check_numbers("stasis_s", (problem.stasis_s,), 1, least=0.0)
    _check_blood(problem.blood)
    _check_members(problem.members, len(problem.needles))
    for i, needle in enumerate(problem.needles):
        _check_needle(f"needles[{i}]", needle, problem)


def check_state(problem: Problem, state: State, until_s: float) -> None:
    """Raises ``ValueError`` when a state does not belong to a problem or time would run back."""
    if not (math.isfinite(state.time_s) and math.isfinite(until_s) and until_s >= state.time_s):
        raise ValueError(f"until_s: expected a time from {state.time_s} s on, got {until_s}")
    shape = (len(problem.members), *problem.label_zyx.shape)
    h = state.enthalpy_j_m3
    if h.shape != shape or h.dtype.kind != "f":
        raise ValueError(
            f"state.enthalpy_j_m3: expected floats of shape {shape}, got {h.dtype} {h.shape}"
        )
    # A member at a time: the answer for all would take a quarter of the field again.
    if not all(np.isfinite(member).all() for member in h):
        raise ValueError("state.enthalpy_j_m3: not finite")
    _check_companions(state, shape)


def _check_companions(state: State, shape: tuple[int, ...]) -> None:
    arrays = {"perfused_from_s": state.perfused_from_s}
    if state.history is not None:
        arrays |= {f"history.{f}": getattr(state.history, f) for f in vars(state.history)}
    for name, array in arrays.items():
        if array is not None and array.shape != shape:
            raise ValueError(f"state.{name}: expected shape {shape}, got {array.shape}")


def check_temperature(problem: Problem, t: FloatArray) -> None:
    """Raises ``ValueError`` when an initial temperature does not fit a problem."""
    grid = problem.label_zyx.shape
    if t.shape not in ((), grid, (len(problem.members), *grid)):
        raise ValueError(f"temperature_degc: expected a number or {grid} voxels, got {t.shape}")
    if not np.isfinite(t).all():
        raise ValueError("temperature_degc: not finite")


def _check_grid(problem: Problem) -> None:
    label = problem.label_zyx
    if label.ndim != 3 or min(label.shape) < 3 or label.dtype != np.uint8:
        raise ValueError(
            f"label_zyx: expected uint8, at least 3×3×3 voxels, got {label.dtype} {label.shape}"
        )
    _check_numbers("spacing_mm", problem.spacing_mm, 3, above=0.0)
    _check_numbers("origin_mm", problem.origin_mm, 3)


def _check_tissue(where: str, tissue: Tissue) -> None:
    for name in ("rho_kg_m3", "c_unfrozen_j_kg_k", "c_frozen_j_kg_k"):
        _check_numbers(f"{where}.{name}", (getattr(tissue, name),), 1, above=0.0)
    for name in ("k_unfrozen_w_m_k", "k_frozen_w_m_k"):
        _check_numbers(f"{where}.{name}", (getattr(tissue, name),), 1, above=0.0)
    for name in ("latent_heat_j_kg", "perfusion_per_s", "metabolic_w_m3"):
        _check_numbers(f"{where}.{name}", (getattr(tissue, name),), 1, least=0.0)
    if tissue.held_degc:
        _check_table(f"{where}.held_degc", tissue.held_degc, -273.15, 1000.0, passive=False)
    if tissue.surface_h_w_m2k is not None:
        _check_numbers(f"{where}.surface_h_w_m2k", (tissue.surface_h_w_m2k,), 1, least=0.0)
        if not tissue.held_degc:
            raise ValueError(f"{where}.surface_h_w_m2k: only for a tissue with held_degc")
    _check_numbers(f"{where}.solidus_degc", (tissue.solidus_degc,), 1)
    _check_numbers(f"{where}.liquidus_degc", (tissue.liquidus_degc,), 1)
    if not tissue.solidus_degc < tissue.liquidus_degc:
        raise ValueError(f"{where}.solidus_degc: must lie below liquidus_degc")


def _check_blood(blood: Blood) -> None:
    _check_numbers("blood.degc", (blood.degc,), 1)
    _check_numbers("blood.rho_kg_m3", (blood.rho_kg_m3,), 1, above=0.0)
    _check_numbers("blood.c_j_kg_k", (blood.c_j_kg_k,), 1, above=0.0)


def _check_members(members: Members, needles: int) -> None:
    if len(members) == 0:
        raise ValueError("members.perfusion: expected at least one member")
    for name in ("perfusion", "latent_heat"):
        _check_numbers(f"members.{name}", getattr(members, name), len(members), least=0.0)
    if len(members.cooling) != len(members):
        raise ValueError(
            f"members.cooling: expected {len(members)} entries, got {len(members.cooling)}"
        )
    for m, cooling in enumerate(members.cooling):
        each = cooling if isinstance(cooling, tuple) else (cooling,) * needles
        _check_numbers(f"members.cooling[{m}]", each, needles, least=0.0)
    _check_numbers("members.k_frozen", members.k_frozen, len(members), above=0.0)
    if members.blood_shift_degc:
        _check_numbers("members.blood_shift_degc", members.blood_shift_degc, len(members))


def _check_needle(where: str, needle: Needle, problem: Problem) -> None:
    _check_numbers(f"{where}.tip_mm", needle.tip_mm, 3)
    _check_numbers(f"{where}.direction", needle.direction, 3)
    if not abs(math.hypot(*needle.direction) - 1.0) <= _UNIT_ERROR:
        raise ValueError(f"{where}.direction: expected a unit vector, got {needle.direction}")
    _check_numbers(f"{where}.diameter_mm", (needle.diameter_mm,), 1, above=0.0)
    _check_numbers(f"{where}.active_length_mm", (needle.active_length_mm,), 1, above=0.0)
    duties = needle.duty if isinstance(needle.duty, tuple) else ((0.0, needle.duty),)
    _check_table(f"{where}.duty", duties, 0.0, 1.0, passive=False)
    if not r_eq_mm(problem, needle) > 0.5 * needle.diameter_mm:
        sigma = sigma_mm(problem, needle)
        raise ValueError(f"{where}.diameter_mm: too thick for a kernel of {sigma:g} mm")
    _check_drive(where, needle)


def _check_drive(where: str, needle: Needle) -> None:
    given = [n for n in ("surface_degc", "cooling_w_per_m", "cryogen_degc") if getattr(needle, n)]
    if len(given) != 1:
        raise ValueError(
            f"{where}: expected one of surface_degc, cooling_w_per_m, cryogen_degc, got {given}"
        )
    least, most = (0.0, 1e5) if given[0] == "cooling_w_per_m" else (-273.15, 1000.0)
    _check_table(f"{where}.{given[0]}", getattr(needle, given[0]), least, most)
    if bool(needle.h_w_m2k) != bool(needle.cryogen_degc):
        raise ValueError(f"{where}.h_w_m2k: belongs to cryogen_degc, and that to h_w_m2k")
    if needle.h_w_m2k:
        _check_table(f"{where}.h_w_m2k", needle.h_w_m2k, 0.0, 1e7, passive=False)


def _check_table(
    where: str,
    table: Sequence[tuple[float, float]],
    least: float,
    most: float,
    passive: bool = True,
) -> None:
    """Ascending places or times; values in a range, or NaN where ``passive`` allows it."""
    times = [t for t, _ in table]
    ascending = all(a <= b for a, b in itertools.pairwise(times))
    if not (times and ascending and all(math.isfinite(t) for t in times)):
        raise ValueError(f"{where}: expected ascending entries, got {times}")
    for _, value in table:
        if not ((passive and math.isnan(value)) or least <= value <= most):
            raise ValueError(f"{where}: expected {least:g} to {most:g}, got {value}")


def _check_numbers(
    where: str,
    values: Sequence[float],
    count: int,
    above: float = -math.inf,
    least: float = -math.inf,
) -> None:
    fine = len(values) == count and all(
        math.isfinite(v) and v > above and v >= least for v in values
    )
    if not fine:
        kind = (
            f" > {above:g}" if above > -math.inf else f" ≥ {least:g}" if least > -math.inf else ""
        )
        shown = values[0] if count == 1 and len(values) == 1 else tuple(values)
        raise ValueError(f"{where}: expected {count} finite number(s){kind}, got {shown}")
