"""Needles as sinks that do not depend on the grid. Millimetres, °C, watts; voxels (z, y, x) flat.

A needle is thinner than a voxel, so holding voxels at its temperature makes the answer depend on
the grid. Instead each short piece of the shaft draws heat through a Gaussian kernel and sees the
tissue through the same kernel. Around a line source in steady state the heat potential θ = ∫k dT
falls off as ln r, also across a front; so the kernel-averaged θ~ and the shaft's θ(T_p) are related
by q' = 2π(θ~ − θ(T_p))/ln(r_eq/r_p) with r_eq = 2σ·exp(−γ/2), since ⟨ln r⟩ over a plane Gaussian
of variance 2σ² per axis is ½(ln 4σ² − γ) (an immersed form of Peaceman's well model, SPE J. 1978).
The 7-point stencil's own Green function is deeper by (q'/2π)·Σ_i d_i²·⅜(1 − n_i²)²/24σ² for a
needle along n, which ``r_eq_mm`` takes into account (leading term of the stencil's symbol, averaged
over the needle's normal plane): with σ = d that is 2–3 % of the draw.
Invariant: the weights of every piece sum to 1, wherever the needle lies.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_kernels.engine import Needle, Problem
from gpu_kernels.law import Table

FloatArray = npt.NDArray[np.floating[Any]]

_EULER_GAMMA = 0.5772156649015329
# Pieces a σ apart make a line of Gaussians that ripples by 2·exp(−2π²) of its mean.
_PIECES_PER_SIGMA = 1.0
_REACH_SIGMA = 3.5


@dataclass(frozen=True)
class Shafts:
    """Pieces of all shafts. ``start`` (pieces + 1,) delimits each piece's ``voxel`` (flat index) and
    ``weight``; ``needle`` is the piece's needle; ``metre`` its length; ``shape`` is 2π/ln(r_eq/r_p)
    times the needle's duty. ``may_change`` (voxels,) is False where the boundary holds."""

    start: npt.NDArray[np.int64]
    voxel: npt.NDArray[np.int64]
    weight: FloatArray
    needle: npt.NDArray[np.int64]
    metre: FloatArray
    shape: FloatArray
    may_change: npt.NDArray[np.bool_]


def sigma_mm(problem: Problem, needle: Needle) -> float:
    """Wide enough for the grid to resolve and for r_eq to exceed the needle's radius."""
    return max(max(problem.spacing_mm), 0.75 * needle.diameter_mm)


def r_eq_mm(problem: Problem, needle: Needle) -> float:
    """The radius at which a line's steady temperature equals the kernel-averaged one."""
    sigma = sigma_mm(problem, needle)
    across = 1.0 - np.square(needle.direction)
    stencil = float(np.sum(np.square(problem.spacing_mm) * 0.375 * across**2)) / (24.0 * sigma**2)
    return float(2.0 * sigma * np.exp(-_EULER_GAMMA / 2.0 - stencil))


def shafts(problem: Problem) -> Shafts:
    """The pieces of a problem's needles; what lies outside the grid draws nothing."""
    starts, voxels, weights, owners, lengths, shapes = [0], [], [], [], [], []
    for number, needle in enumerate(problem.needles):
        sigma = sigma_mm(problem, needle)
        log = np.log(r_eq_mm(problem, needle) / (0.5 * needle.diameter_mm))
        centres, length_mm = _pieces(problem, needle, sigma)
        for centre in centres:
            voxel, weight = _kernel(problem, centre, sigma)
            voxels.append(voxel)
            weights.append(weight)
            starts.append(starts[-1] + len(voxel))
            owners.append(number)
            lengths.append(length_mm / 1e3)
            shapes.append(needle.duty * 2.0 * np.pi / log)
    return Shafts(
        np.array(starts, np.int64),
        np.concatenate(voxels) if voxels else np.zeros(0, np.int64),
        np.concatenate(weights) if weights else np.zeros(0),
        np.array(owners, np.int64),
        np.array(lengths, float),
        np.array(shapes, float),
        _may_change(problem),
    )


def sink_per_s(problem: Problem, parameters: Table, s: Shafts) -> float:
    """A bound on the rate at which needles change a voxel's temperature: the row sum of the draw's
    matrix (a piece's weights sum to 1). The kernel keeps it below the grid's own conduction rate,
    so that the stiff sink needs no implicit step."""
    if not len(s.voxel):
        return 0.0
    per_entry = np.repeat(s.shape * s.metre, np.diff(s.start)) * s.weight
    touched, place = np.unique(s.voxel, return_inverse=True)
    density_per_m = np.bincount(place, per_entry) / (float(np.prod(problem.spacing_mm)) / 1e9)
    tissue = np.unique(problem.label_zyx.ravel()[touched])
    k = np.maximum(parameters.k_frozen, parameters.k_unfrozen)[:, tissue].max()
    per_c = np.maximum(parameters.per_cf, parameters.per_cu)[:, tissue].max()
    return float(density_per_m.max() * k * per_c * max(problem.members.cooling))


def _pieces(problem: Problem, needle: Needle, sigma: float) -> tuple[FloatArray, float]:
    """The centres (piece, xyz) and the length of the pieces of a needle's active zone in the box."""
    first_mm, last_mm = _inside(problem, needle)
    if not last_mm > first_mm:
        return np.zeros((0, 3)), 0.0
    count = int(np.ceil((last_mm - first_mm) * _PIECES_PER_SIGMA / sigma))
    length_mm = (last_mm - first_mm) / count
    along_mm = first_mm + (np.arange(count) + 0.5) * length_mm
    return np.array(needle.tip_mm) + along_mm[:, None] * np.array(needle.direction), length_mm


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


def _may_change(problem: Problem) -> npt.NDArray[np.bool_]:
    free = np.ones(problem.label_zyx.shape, bool)
    if problem.boundary == "fixed":
        free[:] = False
        free[1:-1, 1:-1, 1:-1] = True
    return free.ravel()


def _kernel(
    problem: Problem, centre_mm: FloatArray, sigma: float
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Flat indices and normalised Gaussian weights of the voxels around a point inside the grid."""
    nz, ny, nx = problem.label_zyx.shape
    axes = []
    for c, o, d, n in zip(
        centre_mm, problem.origin_mm, problem.spacing_mm, (nx, ny, nz), strict=True
    ):
        low = int(np.ceil((c - _REACH_SIGMA * sigma - o) / d))
        high = int(np.floor((c + _REACH_SIGMA * sigma - o) / d))
        index = np.arange(max(low, 0), min(high, n - 1) + 1)
        axes.append((index, np.exp(-0.5 * ((o + index * d - c) / sigma) ** 2)))
    (ix, wx), (iy, wy), (iz, wz) = axes
    weight = (wz[:, None, None] * wy[None, :, None] * wx[None, None, :]).ravel()
    voxel = ((iz[:, None, None] * ny + iy[None, :, None]) * nx + ix[None, None, :]).ravel()
    return voxel.astype(np.int64), weight / weight.sum()


def surface_degc(needle: Needle, time_s: float) -> float:
    """The shaft's temperature at a time: linear between entries, held after the last, NaN where the
    needle is not driven (also before its first entry). An entry before a NaN one holds until it."""
    table = needle.surface_degc
    if time_s < table[0][0]:
        return float("nan")
    for (t0, v0), (t1, v1) in itertools.pairwise(table):
        if t0 <= time_s < t1:
            return (
                v0 if np.isnan(v0) or np.isnan(v1) else v0 + (v1 - v0) * (time_s - t0) / (t1 - t0)
            )
    return table[-1][1]


def breakpoints_s(problem: Problem) -> list[float]:
    """The times at which any needle's drive changes its course."""
    return sorted({t for needle in problem.needles for t, _ in needle.surface_degc})
