"""The ice's surface from evidence that is noisy, patchy or missing. mm, HU, arrays (z, y, x).

The ice is everything nearer to an active zone than a radius R (as freezing counts near, see
``freezing_distance_mm``), and R varies smoothly in space:
balls that merge, a failed needle, a bite beside a vessel are all such a field, and where ice does
not show, R goes on as it was. The CT number falls by plateau · contrast · S((R − distance)/width);
R is fitted by Gauss-Newton in Gaussian windows, wide ones first, each holding on to the one before
as far as the evidence lets it. So every place has an R, and a standard deviation that says how much of
it was seen.
Invariant: without evidence R is what the wider windows say, and its deviation is their allowance.

NumPy or cupy arrays go through alike: ``ndimage`` follows the array.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_kernels.arrays import ndimage_of
from monitor.model import Float32Array, FloatArray


@dataclass(frozen=True)
class Level:
    """One pass: its window (Gaussian sigma), the width of the edge that it looks for, how far R may
    stray from the level before (SD), its steps, and whether half the resolution is enough."""

    window_mm: float
    width_mm: float
    stray_mm: float
    steps: int
    half: bool


@dataclass(frozen=True)
class Settings:
    """Every number of the fit, with its reason."""

    # A freeze changes its radius over some 10 mm along the needles; the last window is as fine as
    # the noise lets a surface be seen. Widths: wide to find the edge, at last the scanner's blur.
    # Those at half the resolution come first.
    levels: tuple[Level, ...] = (
        Level(14.0, 4.0, 3.0, 4, True),
        Level(8.0, 2.8, 2.0, 4, True),
        Level(4.5, 2.0, 1.5, 3, True),
        Level(2.5, 1.8, 0.8, 2, False),
        Level(1.5, 1.6, 0.6, 2, False),
    )
    # Voxels of 1 mm³ that share their noise: the soft kernel's correlation, in slices of 2.5 mm.
    correlated_ml: float = 0.006
    # The largest ice that one needle makes is 25 mm from its active zone.
    reach_mm: float = 30.0
    # A gap: so many millimetres in which ice would hardly gain anything (no ice at all gains 0 to 4).
    gap_mm: int = 5
    least_shown: float = 24.0
    # Beyond this a difference is no ice: its pull is bounded.
    outlier_hu: float = 60.0
    # The plateau, as a share of the expected fall: what tissue reaches some mm inside the ice, here
    # and there; its mean and spread between patients, tissues and phases (half thawed ice has less).
    plateau_mean: float = 0.97
    plateau_sd: float = 0.15
    plateau_local_sd: float = 0.12
    plateau_window_mm: float = 8.0
    plateau_range: tuple[float, float] = (0.4, 1.5)
    plateau_depth_mm: tuple[float, float] = (1.0, 8.0)
    # A narrow window and edge see nothing of what is farther from the surface.
    beside_mm: float = 7.0
    # The fall where half of the water is frozen, as a share of the expected one: half the usual plateau.
    # A lower plateau than 0.72 is more often that of streaks.
    half_frozen: float = 0.445
    most_frozen: float = 0.62
    # Position of a half-way edge in a blurred picture: what no fit can know better.
    least_sd_mm: float = 0.3


@dataclass(frozen=True)
class Evidence:
    """What is known voxel by voxel: ``distance_mm`` as ``freezing_distance_mm`` has it, ``drop_hu`` from the
    baseline, ``contrast_hu`` that full freezing would cause, ``weight`` in 1/HU² (0: nothing)."""

    spacing_mm: float
    distance_mm: Float32Array
    drop_hu: Float32Array
    contrast_hu: Float32Array
    weight: Float32Array

    def within(self, box: tuple[slice, ...]) -> Evidence:
        distance, drop, contrast, weight = (
            a[box] for a in (self.distance_mm, self.drop_hu, self.contrast_hu, self.weight)
        )
        return Evidence(self.spacing_mm, distance, drop, contrast, weight)


@dataclass(frozen=True)
class Edge:
    """``radius_mm``, and the standard deviation ``sd_mm`` of the surface's place, everywhere; ``gain``
    is how much better ice explains the evidence than none (log-likelihood, noise taken as
    independent per ``correlated_ml``)."""

    radius_mm: Float32Array
    sd_mm: Float32Array
    plateau: Float32Array
    gain: float


def fit_edge(e: Evidence, s: Settings = Settings()) -> Edge:
    """The surface that explains the evidence best."""
    on = _halved(e)
    start_mm, plateau = _start(e, s)
    fit = _Fit(
        np.full_like(on.distance_mm, start_mm),
        np.full_like(on.distance_mm, s.least_sd_mm**2),
        np.full_like(on.distance_mm, plateau),
    )
    with ThreadPoolExecutor(2) as pool:
        for level in s.levels:
            if level.half:
                fit = _fitted(on, fit, level, s, pool)
        shape = e.distance_mm.shape
        fit = _Fit(*(_doubled(a, shape) for a in fit.fields))
        for level in s.levels:
            if not level.half:
                fit = _fitted_beside(e, fit, level, s, pool)
    sd_mm = np.sqrt(fit.variance_mm2) / _doubled(_steepness(on), shape)
    return Edge(
        fit.radius_mm - _deeper_mm(fit.plateau, s),
        sd_mm.astype(np.float32, copy=False),
        fit.plateau,
        _gain(e, fit, s),
    )


def _deeper_mm(plateau: Float32Array, s: Settings) -> Float32Array:
    """How far inside the fitted edge, where the fall is half of its plateau's, half of the water is
    frozen: ice that thaws is half thawed throughout, and half of its fall lies outside it."""
    share = np.clip(s.half_frozen / plateau, 0.5, s.most_frozen)
    return (0.5 * s.levels[-1].width_mm * np.log(share / (1.0 - share))).astype(np.float32)


def _steepness(e: Evidence) -> Float32Array:
    """How much the distance grows per mm: 1 beside an active zone, more past its ends. So much less
    than its radius does the surface move there."""
    slopes = np.gradient(e.distance_mm, e.spacing_mm)
    return np.clip(np.sqrt(sum(g * g for g in slopes)), 1.0, None).astype(np.float32)


@dataclass(frozen=True)
class _Fit:
    """Where the fit stands; ``plateau`` is the local share of the expected fall."""

    radius_mm: Float32Array
    variance_mm2: Float32Array
    plateau: Float32Array

    @property
    def fields(self) -> tuple[Float32Array, Float32Array, Float32Array]:
        return self.radius_mm, self.variance_mm2, self.plateau


# ------------------------------------------------------------------ the start


def _start(e: Evidence, s: Settings) -> tuple[float, float]:
    """One radius for everything, by likelihood over whole millimetres, and the plateau for it. Ice
    grows from the needles: what darkens beyond a gap that shows nothing is not taken for it."""
    plateau, radius = s.plateau_mean, 0.0
    drop = np.clip(e.drop_hu, -s.outlier_hu, 2.0 * s.outlier_hu)
    count = int(s.reach_mm)
    shell = np.minimum(e.distance_mm, count).astype(np.int32).ravel()
    shows = e.weight * (s.plateau_mean * e.contrast_hu) ** 2
    last = _before_gap(_per_shell(shows, shell, count) * _samples(e, s), s)
    for _ in range(2):
        expected = plateau * e.contrast_hu
        gain = e.weight * expected * (2.0 * drop - expected)
        total = np.cumsum(_per_shell(gain, shell, count)[:last])
        best = int(np.argmax(total))
        radius = best + 1.0 if total[best] > 0 else 0.0
        core = e.weight * (e.distance_mm < max(radius - 2.0, 2.0))
        plateau = _ratio(core, e, s)
    return radius, plateau


def _per_shell(values: Float32Array, shell: npt.NDArray[np.int32], count: int) -> FloatArray:
    """Sums over the voxels of each whole millimetre."""
    return np.bincount(shell, values.ravel(), count + 1)[:count].astype(np.float64)


def _before_gap(shows: FloatArray, s: Settings) -> int:
    """How many millimetres from the needles the evidence goes on; ``shows``: the gain of a frozen shell."""
    across = np.convolve(shows, np.ones(s.gap_mm), "valid")
    across[: s.gap_mm] = np.inf  # metal hides the middle
    blind = np.flatnonzero(across < s.least_shown)
    return int(blind[0]) + 1 if len(blind) else len(shows)


def _samples(e: Evidence, s: Settings) -> float:
    """Independent samples per voxel."""
    return e.spacing_mm**3 / 1000.0 / s.correlated_ml


def _ratio(weight: Float32Array, e: Evidence, s: Settings) -> float:
    """The plateau by least squares over weighted voxels, held to what is usual."""
    independent = _samples(e, s)
    hold = 1.0 / s.plateau_sd**2
    seen = float((weight * e.contrast_hu * e.drop_hu).sum()) * independent
    whole = float((weight * e.contrast_hu**2).sum()) * independent
    return float(np.clip((seen + hold * s.plateau_mean) / (whole + hold), *s.plateau_range))


# ------------------------------------------------------------------ one level


def _fitted_beside(e: Evidence, fit: _Fit, level: Level, s: Settings, pool: Executor) -> _Fit:
    """One level in the box around the surface; beyond it, nothing is seen."""
    box = _box(abs(e.distance_mm - fit.radius_mm) < s.beside_mm)
    fine = _fitted(e.within(box), _Fit(*(a[box] for a in fit.fields)), level, s, pool)
    whole = _Fit(fit.radius_mm, fit.variance_mm2 + np.float32(level.stray_mm**2), fit.plateau)
    for field, found in zip(whole.fields, fine.fields, strict=True):
        field[box] = found
    return whole


def _box(where: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest that holds what is true; all, where nothing is."""
    if not where.any():
        return (slice(None),) * where.ndim
    index = [np.flatnonzero(where.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return tuple(slice(int(i[0]), int(i[-1]) + 1) for i in index)


def _fitted(e: Evidence, fit: _Fit, level: Level, s: Settings, pool: Executor) -> _Fit:
    """One level: its radius, and what it could not resolve added to the variance."""
    hold = np.float32(1.0 / (level.stray_mm**2 * _independent(level.window_mm, s)))
    radius, plateau = fit.radius_mm, fit.plateau
    known = np.zeros_like(radius)
    for step in range(level.steps):
        if level.half and step % 2 == 0:  # it varies slowly: the finer grid takes it over
            plateau = _plateau(e, radius, s, pool)
        expected = plateau * e.contrast_hu
        inside = _inside(e, radius, level)
        residual = e.drop_hu - expected * inside
        slope = expected * np.float32(2.0 / level.width_mm) * inside * (1.0 - inside)
        pull = e.weight / (1.0 + (residual / np.float32(s.outlier_hu)) ** 2) ** 2
        push, known = _windowed(
            [pull * slope * residual, pull * slope * slope], level.window_mm, e.spacing_mm, pool
        )
        change = (push - hold * (radius - fit.radius_mm)) / (known + hold)
        radius = radius + np.clip(change, -3.0, 3.0)
    unresolved = np.float32(level.stray_mm**2) * hold / (known + hold)
    return _Fit(radius, fit.variance_mm2 + unresolved, plateau)


def _inside(e: Evidence, radius: Float32Array, level: Level) -> Float32Array:
    """From 1 in the ice to 0 outside: what blur makes of the surface."""
    u = np.clip((radius - e.distance_mm) * (2.0 / level.width_mm), -20.0, 20.0)
    return (1.0 / (1.0 + np.exp(-u))).astype(np.float32)


def _plateau(e: Evidence, radius: Float32Array, s: Settings, pool: Executor) -> Float32Array:
    """The fall of the CT number some mm inside the ice, as a share of the expected one."""
    depth = radius - e.distance_mm
    near, deep = s.plateau_depth_mm
    inside = np.clip((depth - near) / 1.5, 0.0, 1.0) * np.clip((deep - depth) / 2.0, 0.0, 1.0)
    weight = (e.weight * inside).astype(np.float32)
    seen, whole = _windowed(
        [weight * e.contrast_hu * e.drop_hu, weight * e.contrast_hu**2],
        s.plateau_window_mm,
        e.spacing_mm,
        pool,
    )
    hold = np.float32(1.0 / (s.plateau_local_sd**2 * _independent(s.plateau_window_mm, s)))
    mean = np.float32(_ratio(weight, e, s))
    return np.clip((seen + hold * mean) / (whole + hold), *s.plateau_range).astype(np.float32)


def _independent(window_mm: float, s: Settings) -> float:
    """How many independent noise samples a Gaussian window holds."""
    return float((2.0 * np.sqrt(np.pi) * window_mm) ** 3 / 1000.0 / s.correlated_ml)


def _windowed(
    fields: Iterable[FloatArray], window_mm: float, spacing_mm: float, pool: Executor
) -> list[Float32Array]:
    """Gaussian-weighted means, side by side."""
    sigma = window_mm / spacing_mm

    def smooth(field: FloatArray) -> Float32Array:
        values = field.astype(np.float32, copy=False)
        return ndimage_of(field).gaussian_filter(values, sigma, truncate=2.5)

    return list(pool.map(smooth, fields))


def _gain(e: Evidence, fit: _Fit, s: Settings) -> float:
    expected = fit.plateau * e.contrast_hu * (e.distance_mm < fit.radius_mm)
    drop = np.clip(e.drop_hu, -s.outlier_hu, 2.0 * s.outlier_hu)
    total = float((0.5 * e.weight * expected * (2.0 * drop - expected)).sum())
    return total * _samples(e, s)


# ------------------------------------------------------------------ resolution


def _halved(e: Evidence) -> Evidence:
    """Blocks of 2³ voxels: mean weight, weighted means of the rest."""
    weight = _blocks(e.weight)
    safe = np.maximum(weight, 1e-12)
    return replace(
        e,
        spacing_mm=2.0 * e.spacing_mm,
        distance_mm=_blocks(e.distance_mm),
        drop_hu=(_blocks(e.drop_hu * e.weight) / safe).astype(np.float32),
        contrast_hu=(_blocks(e.contrast_hu * e.weight) / safe).astype(np.float32),
        weight=weight,
    )


def _blocks(a: Float32Array) -> Float32Array:
    """Means of 2³ voxels; an odd last layer is repeated."""
    a = np.pad(a, [(0, n % 2) for n in a.shape], mode="edge")
    pairs = a[::2] + a[1::2]
    pairs = pairs[:, ::2] + pairs[:, 1::2]
    return (pairs[:, :, ::2] + pairs[:, :, 1::2]) * np.float32(1 / 8)


def _doubled(a: Float32Array, shape: tuple[int, ...]) -> Float32Array:
    """Trilinear back to the full resolution: half voxels lie between two of the full ones."""
    at = [(np.arange(n, dtype=np.float32) - 0.5) / 2.0 for n in shape]
    for axis, points in enumerate(at):
        low = np.clip(np.floor(points).astype(int), 0, a.shape[axis] - 1)
        high = np.minimum(low + 1, a.shape[axis] - 1)
        share = np.clip(points - low, 0.0, 1.0).astype(np.float32)
        share = share.reshape([-1 if d == axis else 1 for d in range(3)])
        low_values, high_values = _taken(a, low, axis), _taken(a, high, axis)
        a = low_values + share * (high_values - low_values)
    return a


def _taken(a: Any, index: npt.NDArray[np.int_], axis: int) -> Any:
    return a[tuple(index if d == axis else slice(None) for d in range(3))]
