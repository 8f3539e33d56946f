"""Needles as sinks that do not depend on the grid. Millimetres, °C, watts; voxels (z, y, x) flat.

A needle is thinner than a voxel, so holding voxels at its temperature makes the answer depend on
the grid. Instead each short piece of the shaft draws heat through a Gaussian kernel and sees the
tissue through the same kernel. Around a line source in steady state the heat potential θ = ∫k dT
falls off as ln r, also across a front; so the kernel-averaged θ~ and the shaft's θ(T_p) are related
by q' = 2π(θ~ − θ(T_p))/ln(r_eq/r_p) with r_eq = 2σ·exp(−γ/2), since ⟨ln r⟩ over a plane Gaussian
of variance 2σ² per axis is ½(ln 4σ² − γ) (an immersed form of Peaceman's well model, SPE J. 1978).
The 7-point stencil's own Green function is deeper by (q'/2π)·Σ_i d_i²·⅜(1 − n_i²)²/24σ² for a
needle along n, which ``r_eq_mm`` takes into account (leading term of the stencil's symbol, averaged
over the needle's normal plane): with σ = 0.8 d that is 3–5 % of the draw.
Invariant: the weights of every piece sum to 1, wherever the needle lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_kernels.engine import Needle, Problem, TimeTable
from gpu_kernels.law import Table, heat_potential, interpolate

FloatArray = npt.NDArray[np.floating[Any]]

_EULER_GAMMA = 0.5772156649015329
# Pieces a σ apart make a line of Gaussians that ripples by 2·exp(−2π²) of its mean.
_PIECES_PER_SIGMA = 1.0
_REACH_SIGMA = 3.5
_LEAST_SIGMA_VOXELS = 0.8


@dataclass(frozen=True)
class Shafts:
    """Pieces of all shafts. ``start`` (pieces + 1,) delimits each piece's ``voxel`` (flat index) and
    ``weight``. Per piece: its ``needle``, its length ``metre``, ``shape`` 2π/ln(r_eq/r_p), the share
    of its weight in each tissue ``tissue`` (piece, tissue), and ``contact_w_m_k`` πd·h (0 without a
    cryogen)."""

    start: npt.NDArray[np.int64]
    voxel: npt.NDArray[np.int64]
    weight: FloatArray
    needle: npt.NDArray[np.int64]
    metre: FloatArray
    shape: FloatArray
    tissue: FloatArray
    contact_w_m_k: FloatArray


@dataclass(frozen=True)
class Touched:
    """The shafts seen from the voxels: ``voxel`` (n,) flat and ascending, ``start`` (n + 1,) delimits
    each one's ``piece`` and ``weight``; ``place`` is where each entry of ``Shafts.voxel`` stands in
    ``voxel``. Engines gather both ways, so that nothing has to be added atomically."""

    voxel: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    piece: npt.NDArray[np.int64]
    weight: FloatArray


def sigma_mm(problem: Problem, needle: Needle) -> float:
    """Wide enough for the grid to resolve and for r_eq to exceed the needle's radius. With a voxel
    instead of 0.8 the −40 °C radius on 2 mm voxels is 0.03 mm further off."""
    return max(_LEAST_SIGMA_VOXELS * max(problem.spacing_mm), 0.75 * needle.diameter_mm)


def r_eq_mm(problem: Problem, needle: Needle) -> float:
    """The radius at which a line's steady temperature equals the kernel-averaged one."""
    sigma = sigma_mm(problem, needle)
    across = 1.0 - np.square(needle.direction)
    stencil = float(np.sum(np.square(problem.spacing_mm) * 0.375 * across**2)) / (24.0 * sigma**2)
    return float(2.0 * sigma * np.exp(-_EULER_GAMMA / 2.0 - stencil))


def shafts(problem: Problem) -> Shafts:
    """The pieces of a problem's needles; what lies outside the grid draws nothing."""
    label, label_shape = problem.label_zyx.ravel(), problem.label_zyx.shape
    starts, voxels, weights, owners, lengths, shapes = [0], [], [], [], [], []
    tissues, contacts = [], []
    for number, needle in enumerate(problem.needles):
        sigma = sigma_mm(problem, needle)
        log = np.log(r_eq_mm(problem, needle) / (0.5 * needle.diameter_mm))
        along_mm, length_mm = _pieces(problem, needle, sigma)
        for along in along_mm:
            centre = np.array(needle.tip_mm) + along * np.array(needle.direction)
            voxel, weight = _kernel(
                tuple(centre), sigma, problem.origin_mm, problem.spacing_mm, label_shape
            )
            voxels.append(voxel)
            weights.append(weight)
            starts.append(starts[-1] + len(voxel))
            owners.append(number)
            lengths.append(length_mm / 1e3)
            shapes.append(2.0 * np.pi / log)
            tissues.append(np.bincount(label[voxel], weight, len(problem.tissues)))
            contacts.append(_contact_w_m_k(needle, along))
    return Shafts(
        np.array(starts, np.int64),
        np.concatenate(voxels) if voxels else np.zeros(0, np.int64),
        np.concatenate(weights) if weights else np.zeros(0),
        np.array(owners, np.int64),
        np.array(lengths, float),
        np.array(shapes, float),
        np.array(tissues, float).reshape(-1, len(problem.tissues)),
        np.array(contacts, float),
    )


def touched(s: Shafts) -> Touched:
    """The same weights, by voxel."""
    voxel, place = np.unique(s.voxel, return_inverse=True)
    piece = np.repeat(np.arange(len(s.needle)), np.diff(s.start))
    order = np.argsort(place, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(place, minlength=len(voxel)))])
    return Touched(
        voxel, place.astype(np.int64), start.astype(np.int64), piece[order], s.weight[order]
    )


def _contact_w_m_k(needle: Needle, along_mm: float) -> float:
    if not needle.cryogen_degc:
        return 0.0
    at_mm, h = np.array(needle.h_w_m2k).T
    return float(np.pi * needle.diameter_mm / 1e3 * np.interp(along_mm, at_mm, h))


def sink_per_s(problem: Problem, parameters: Table, s: Shafts) -> float:
    """A bound on the rate at which needles change a voxel's temperature: the row sum of the draw's
    matrix (a piece's weights sum to 1). The kernel keeps it below the grid's own conduction rate,
    so that the stiff sink needs no implicit step."""
    if not len(s.voxel):
        return 0.0
    per_entry = np.repeat(s.shape * s.metre, np.diff(s.start)) * s.weight
    voxel, place = np.unique(s.voxel, return_inverse=True)
    density_per_m = np.bincount(place, per_entry) / (float(np.prod(problem.spacing_mm)) / 1e9)
    tissue = np.unique(problem.label_zyx.ravel()[voxel])
    k = np.maximum(parameters.k_frozen, parameters.k_unfrozen)[:, tissue].max()
    per_c = np.maximum(parameters.per_cf, parameters.per_cu)[:, tissue].max()
    cooling = problem.members.cooling_by_needle(len(problem.needles))
    return float(density_per_m.max() * k * per_c * cooling.max(initial=0.0))


def _pieces(problem: Problem, needle: Needle, sigma: float) -> tuple[FloatArray, float]:
    """How far from the tip the centres of the pieces of a needle's active zone in the box lie, and
    their length, mm."""
    first_mm, last_mm = _inside(problem, needle)
    if not last_mm > first_mm:
        return np.zeros(0), 0.0
    count = int(np.ceil((last_mm - first_mm) * _PIECES_PER_SIGMA / sigma))
    length_mm = (last_mm - first_mm) / count
    return first_mm + (np.arange(count) + 0.5) * length_mm, length_mm


def _inside(problem: Problem, needle: Needle) -> tuple[float, float]:
    """From where to where along the shaft, from its tip, the active zone lies in the box that the
    voxels fill; first > last when it misses the box."""
    first, last = 0.0, needle.active_length_mm
    sizes = problem.label_zyx.shape[::-1]
    for tip, n, o, d, count in zip(
        needle.tip_mm, needle.direction, problem.origin_mm, problem.spacing_mm, sizes, strict=True
    ):
        low, high = o - 0.5 * d - tip, o + (count - 0.5) * d - tip
        if abs(n) > 1e-12:
            first, last = max(first, min(low / n, high / n)), min(last, max(low / n, high / n))
        elif not low <= 0.0 <= high:
            return 1.0, 0.0
    return first, last


def may_change(problem: Problem, voxel: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """For flat voxels: False where the outer boundary or a body of given temperature rules."""
    free = ~np.array([bool(t.held_degc) for t in problem.tissues])[problem.label_zyx.ravel()[voxel]]
    if problem.boundary == "fixed":
        shape = problem.label_zyx.shape
        for index, count in zip(np.unravel_index(voxel, shape), shape, strict=True):
            free &= (index > 0) & (index < count - 1)
    return free


# A run in stretches asks for the same pieces again and again.
@lru_cache(maxsize=1024)
def _kernel(
    centre_mm: tuple[float, ...],
    sigma: float,
    origin_mm: tuple[float, ...],
    spacing_mm: tuple[float, ...],
    shape_zyx: tuple[int, ...],
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Flat indices and normalised Gaussian weights of the voxels around a point inside the grid."""
    nz, ny, nx = shape_zyx
    axes = []
    for c, o, d, n in zip(centre_mm, origin_mm, spacing_mm, (nx, ny, nz), strict=True):
        low = int(np.ceil((c - _REACH_SIGMA * sigma - o) / d))
        high = int(np.floor((c + _REACH_SIGMA * sigma - o) / d))
        index = np.arange(max(low, 0), min(high, n - 1) + 1)
        axes.append((index, np.exp(-0.5 * ((o + index * d - c) / sigma) ** 2)))
    (ix, wx), (iy, wy), (iz, wz) = axes
    weight = (wz[:, None, None] * wy[None, :, None] * wx[None, None, :]).ravel()
    voxel = ((iz[:, None, None] * ny + iy[None, :, None]) * nx + ix[None, None, :]).ravel()
    return voxel.astype(np.int64), weight / weight.sum()


@dataclass(frozen=True)
class Drive:
    """How a needle is driven: which of the three tables, and its entries."""

    kind: int
    table: TimeTable


SURFACE, COOLING, CRYOGEN = 0, 1, 2


def drive(needle: Needle) -> Drive:
    """The one table that drives a needle."""
    if needle.cooling_w_per_m:
        return Drive(COOLING, needle.cooling_w_per_m)
    if needle.cryogen_degc:
        return Drive(CRYOGEN, needle.cryogen_degc)
    return Drive(SURFACE, needle.surface_degc)


def driven_at(needle: Needle, time_s: float) -> tuple[float, float]:
    """The value of a needle's table (NaN: not driven) and its duty."""
    value = interpolate(drive(needle).table, time_s)
    if isinstance(needle.duty, tuple):
        return value, interpolate(needle.duty, time_s, before=needle.duty[0][1])
    return value, needle.duty


def surface_of_cryogen_degc(
    seen_w_m: float, cryogen_degc: float, contact_w_m_k: float, shape: float, curves: FloatArray
) -> float:
    """The shaft's temperature T that balances what the cryogen takes and what the tissue brings:
    contact·(T − T_c) = shape·(seen − θ(T)), θ the mean over ``curves`` (tissue; weight, solidus,
    width, k_frozen, k_unfrozen). Newton within a bracket that shrinks: θ has two kinks."""
    low, high = -273.15, 1000.0
    t = cryogen_degc
    for _ in range(20):
        theta, slope = 0.0, 0.0
        for i in range(len(curves)):
            c = curves[i]
            weight, solidus, width, k_frozen, k_unfrozen = c[0], c[1], c[2], c[3], c[4]
            theta += weight * heat_potential(t, solidus, width, k_frozen, k_unfrozen)
            share = min(max((t - solidus) / width, 0.0), 1.0)
            slope += weight * (k_frozen + share * (k_unfrozen - k_frozen))
        excess = contact_w_m_k * (t - cryogen_degc) - shape * (seen_w_m - theta)
        if excess > 0.0:
            high = t
        else:
            low = t
        t = t - excess / (contact_w_m_k + shape * slope)
        if not low <= t <= high:
            t = 0.5 * (low + high)
    return t


def breakpoints_s(problem: Problem) -> list[float]:
    """The times at which anything that is driven changes its course."""
    tables = [drive(n).table for n in problem.needles]
    tables += [n.duty for n in problem.needles if isinstance(n.duty, tuple)]
    tables += [t.held_degc for t in problem.tissues if len(t.held_degc) > 1]
    return sorted({t for table in tables for t, _ in table})
