"""How the patient's tissue has moved since the baseline, from the images alone. LPS mm, HU.

An affine motion of the surroundings is fitted first (Gauss-Newton, coarse to fine, from several
starts), then each place's own remainder (Lucas & Kanade 1981 in Gaussian windows, with a prior
that keeps it small where the image says nothing). What has turned dark around the needles, and
metal, carry no weight: ice is not motion.
Invariant: the template's gradients alone steer, so an edge that only the scan has cannot pull.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from monitor.config import NeedleConfig
from monitor.geometry import FloatArray, Grid
from monitor.imaging.anchors import NO_ANCHORS, Anchors
from monitor.imaging.needles import active_zone_distance_mm, shaft_distance_mm
from monitor.imaging.registration import Registration
from monitor.imaging.resampling import Reduced
from monitor.model import CtVolume, Float32Array, Reason, Status
from monitor.stages import stage


@dataclass(frozen=True)
class Settings:
    """Every number the registration depends on, with its reason."""

    # Breathing fields are smooth: a lattice of this spacing holds them.
    spacing_mm: float = 4.0
    # The surroundings that move with the target, beyond the analysis grid.
    beyond_mm: float = 14.0
    # Soft tissue is what shows motion; gas and bone beyond this only scale the steps.
    clip_hu: tuple[int, int] = (-200, 220)
    # Smoothing, coarse to fine: the first sees 20 mm of shift, the last the noise's limit.
    levels_mm: tuple[float, ...] = (7.0, 4.0, 2.5)
    steps: tuple[int, ...] = (6, 4, 4)
    # Differences beyond this are not motion but ice, bowel, contrast: their pull is bounded.
    outlier_hu: tuple[float, ...] = (60.0, 40.0, 25.0)
    # Near the target counts most: the chest wall does not move with the liver.
    near_mm: float = 30.0
    # Ice: darker than the baseline by this after smoothing, this near to an active zone.
    ice_hu: float = 14.0
    ice_reach_mm: float = 32.0
    metal_reach_mm: float = 4.0
    # The remainder after the affine motion: its window and how large it may be expected.
    window_mm: float = 16.0
    remainder_sd_mm: float = 2.5
    field_steps: int = 4
    # Lattice points closer than this share their noise.
    correlated_mm: float = 12.0
    # A needle is found to some tenths of a millimetre; it speaks for what is frozen to it.
    anchor_sd_mm: float = 0.35
    anchor_reach_mm: float = 18.0
    # So fast the picture's own error at the target fades as needles hold it.
    hold_strength: float = 2.0
    uneven_reach_mm: float = 40.0
    # Less of the template than this in the scan is no overlap.
    least_overlap: float = 0.05
    # What the model itself leaves (measured on the tuning scans), and when it is too much.
    model_error_mm: float = 0.4
    doubtful_mm: float = 1.5
    useless_mm: float = 4.0
    largest_shift_mm: float = 40.0


@dataclass(frozen=True)
class Template:
    """The baseline as the registration sees it: points of a lattice (n, 3), their weights, and per
    level values and gradients (n, 3) in HU per mm. ``weight`` is 0 where the baseline did not look."""

    lattice: Grid
    centre: FloatArray
    points: FloatArray
    weight: Float32Array
    to_active_mm: Float32Array
    values: tuple[Float32Array, ...]
    gradients: tuple[Float32Array, ...]


def make_template(
    volume: CtVolume, grid: Grid, needles: Sequence[NeedleConfig], s: Settings = Settings()
) -> Template:
    """The baseline, prepared once. ``grid`` is the analysis grid."""
    low = grid.to_lps_mm(np.zeros(3)) - s.beyond_mm
    high = grid.to_lps_mm(np.array(grid.shape_zyx) - 1) + s.beyond_mm
    lattice = Grid.around(low, high, s.spacing_mm)
    points = lattice.points_lps_mm()
    reduced = Reduced.of(volume, low, high, s.spacing_mm, s.clip_hu)
    seen = reduced.look(points.reshape(-1, 3))[1].reshape(lattice.shape_zyx)
    metal = shaft_distance_mm(lattice, needles) < s.metal_reach_mm if needles else ~seen & False
    values, gradients = [], []
    for level_mm in s.levels_mm:
        hu = reduced.smoothed(level_mm).look(points.reshape(-1, 3))[0].reshape(seen.shape)
        values.append(hu.ravel())
        slopes = np.gradient(hu, s.spacing_mm)  # z, y, x
        gradients.append(np.stack([g.ravel() for g in slopes[::-1]], -1).astype(np.float32))
    if needles:
        to_active = active_zone_distance_mm(lattice, needles)
    else:  # not known yet: the middle of the analysis grid is the lesion
        to_active = np.linalg.norm(points - 0.5 * (low + high), axis=-1).astype(np.float32)
    near = np.exp(-0.5 * (np.maximum(to_active - s.near_mm, 0.0) / s.near_mm) ** 2)
    inside = ndimage.binary_erosion(seen, iterations=1)
    return Template(
        lattice,
        0.5 * (low + high),
        points.reshape(-1, 3),
        (near * inside * ~metal).astype(np.float32).ravel(),
        to_active.ravel(),
        tuple(values),
        tuple(gradients),
    )


@stage("registration")
def register(
    volume: CtVolume,
    template: Template,
    starts_mm: Sequence[FloatArray] = (),
    anchors: Anchors = NO_ANCHORS,
    s: Settings = Settings(),
) -> Registration:
    """The motion from the baseline to the scan. ``starts_mm`` are shifts (3,) worth trying besides
    none (those of the needles, of the scan before). Never raises: no overlap is INVALID."""
    reach = s.beyond_mm + s.largest_shift_mm
    low, high = template.points.min(0) - reach, template.points.max(0) + reach
    reduced = Reduced.of(volume, low, high, s.spacing_mm, s.clip_hu)
    levels = [reduced.smoothed(mm) for mm in s.levels_mm]
    fit = _affine(levels, template, [np.zeros(3), *starts_mm], s)
    if fit is None:
        return _failed(template, s)
    return _remainder(levels[-1], template, fit, anchors, s)


# ------------------------------------------------------------------ one affine motion

_TURN_MM = 50.0  # in this unit of length a turn's numbers are about as large as a shift's


@dataclass(frozen=True)
class _Affine:
    """u(p) = shift + matrix @ (p − centre)."""

    centre: FloatArray
    shift_mm: FloatArray
    matrix: FloatArray

    def at(self, points: FloatArray) -> FloatArray:
        return self.shift_mm + (points - self.centre) @ self.matrix.T


@dataclass(frozen=True)
class _Level:
    """One level's scan, and what of the template is weighted: ``jacobian`` (n, 12) has how its value
    changes with the shift, and with the columns of the matrix (per ``_TURN_MM``)."""

    number: int
    scan: Reduced
    template: Template
    jacobian: Float32Array

    @staticmethod
    def of(number: int, scan: Reduced, template: Template) -> _Level:
        g = template.gradients[number]
        about = ((template.points - template.centre) / _TURN_MM).astype(np.float32)
        columns = [g, *(g * about[:, k, None] for k in range(3))]
        return _Level(number, scan, template, np.concatenate(columns, axis=1))


def _weighted(template: Template) -> Template:
    """Only the points that carry weight."""
    on = template.weight > 0
    return replace(
        template,
        points=template.points[on],
        weight=template.weight[on],
        to_active_mm=template.to_active_mm[on],
        values=tuple(v[on] for v in template.values),
        gradients=tuple(g[on] for g in template.gradients),
    )


def _affine(
    scans: Sequence[Reduced], template: Template, starts_mm: Sequence[FloatArray], s: Settings
) -> _Affine | None:
    """The best of several starts on the coarsest level, refined on the finer ones."""
    weighted = _weighted(template)
    coarsest, *finer = (_Level.of(k, scan, weighted) for k, scan in enumerate(scans))
    tried = []
    for start in starts_mm:
        fit = _refined(
            _Affine(template.centre, np.asarray(start, float), np.zeros((3, 3))), coarsest, s
        )
        cost, used = _cost(fit, coarsest, s)
        if used > s.least_overlap:
            tried.append((cost, fit))
    if not tried:
        return None
    best = min(tried, key=lambda t: t[0])[1]
    for level in finer:
        best = _refined(best, level, s)
    return best


def _refined(fit: _Affine, level: _Level, s: Settings) -> _Affine:
    for step in range(s.steps[level.number]):
        # Turning and stretching wait until the shift is about right.
        fit = _improved(fit, level, level.number > 0 or step >= 3, s)
    return fit


def _improved(fit: _Affine, level: _Level, whole: bool, s: Settings) -> _Affine:
    """One Gauss-Newton step."""
    residual, weight = _compared(
        fit.at(level.template.points), level.scan, level.template, level.number, s
    )
    jacobian = level.jacobian if whole else level.jacobian[:, :3]
    weighted = jacobian * weight[:, None]
    normal = (weighted.T @ jacobian).astype(float)
    normal += np.diag(np.full(len(normal), 1e-3 * np.trace(normal) / len(normal) + 1e-9))
    change = np.linalg.solve(normal, (weighted.T @ residual).astype(float))
    shift = np.clip(change[:3], -8.0, 8.0)
    turn = change[3:].reshape(3, 3).T / _TURN_MM if whole else 0.0
    return replace(fit, shift_mm=fit.shift_mm + shift, matrix=fit.matrix + turn)


def _cost(fit: _Affine, level: _Level, s: Settings) -> tuple[float, float]:
    """Mean bounded difference, and the share of the template that could be compared."""
    template = level.template
    residual, weight = _compared(fit.at(template.points), level.scan, template, level.number, s)
    total = float(weight.sum())
    whole = max(float(template.weight.sum()), 1e-6)
    bounded = np.minimum(np.abs(residual), s.outlier_hu[level.number])
    used = float((weight > 0) @ template.weight) / whole
    return float((template.weight * bounded)[weight > 0].sum() / max(used * whole, 1e-6)), (
        used if total > 0 else 0.0
    )


def _compared(
    displacement: FloatArray, scan: Reduced, template: Template, level: int, s: Settings
) -> tuple[Float32Array, Float32Array]:
    """(template − scan, weights); the scanner's drift is taken out, ice and outliers count less."""
    there, seen = scan.look(template.points + displacement)
    weight = template.weight * seen
    residual = template.values[level] - there
    usable = weight > 0
    if np.count_nonzero(usable) < 200:
        return residual * 0, weight * 0
    near = template.to_active_mm < s.ice_reach_mm
    far = usable & ~near
    drift = np.median(residual[far if np.count_nonzero(far) > 200 else usable])
    residual -= drift
    weight[(residual > s.ice_hu) & near] = 0.0
    weight /= (1.0 + (residual / np.float32(s.outlier_hu[level])) ** 2) ** 2
    return residual, weight


# ------------------------------------------------------------------ the remainder


def _remainder(
    scan: Reduced, template: Template, fit: _Affine, anchors: Anchors, s: Settings
) -> Registration:
    """Each place's own motion on top of the affine one, with its uncertainty."""
    level, shape = len(template.values) - 1, template.lattice.shape_zyx
    sigma = s.window_mm / s.spacing_mm
    g = np.ascontiguousarray(template.gradients[level].T)
    outer = _outer(g)
    displacement = fit.at(template.points)
    independent = (2.0 * np.sqrt(np.pi) * s.window_mm / s.correlated_mm) ** 3
    own = np.zeros_like(displacement)
    uneven_mm = _unevenness_mm(displacement, template, s)
    held, moved = anchors.held(fit.at, uneven_mm).pull(template.points, s.anchor_reach_mm)
    for _ in range(s.field_steps):
        residual, weight = _compared(displacement + own, scan, template, level, s)
        spread = _spread(residual, weight)
        prior = (spread / s.remainder_sd_mm) ** 2 / independent
        summed = _windowed(np.concatenate([outer * weight, g * (residual * weight)]), shape, sigma)
        hold = (spread / s.anchor_sd_mm) ** 2 / independent * held
        inverse = _inverse(summed[:6], prior + hold)
        push = summed[6:].T - prior * own + hold[:, None] * (moved - displacement - own)
        own = own + np.einsum("nij,nj->ni", inverse, push)
    covariance = inverse * (spread**2 / independent)
    return _registration(displacement + own, covariance, held, template, s)


def _spread(residual: Float32Array, weight: Float32Array) -> float:
    """Weighted SD of the differences, HU."""
    total = max(float(weight.sum()), 1e-6)
    return float(np.sqrt(max(float((weight * residual**2).sum()) / total, 1.0)))


# Of a symmetric matrix, in the order of ``_outer``: xx, xy, xz, yy, yz, zz.
_ROWS = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])


def _outer(g: Float32Array) -> Float32Array:
    """The products (6, n) of gradients (3, n): xx, xy, xz, yy, yz, zz."""
    return np.stack([g[a] * g[b] for a in range(3) for b in range(a, 3)])


def _inverse(products: FloatArray, diagonal: FloatArray) -> FloatArray:
    """The inverses (n, 3, 3) of the symmetric matrices with these products (6, n) and so much more
    on the diagonal: by cofactors, which for thousands of small ones is faster than a solver."""
    xx, xy, xz, yy, yz, zz = products
    xx, yy, zz = xx + diagonal, yy + diagonal, zz + diagonal
    cofactors = np.stack(
        [
            yy * zz - yz * yz,
            xz * yz - xy * zz,
            xy * yz - xz * yy,
            xx * zz - xz * xz,
            xy * xz - xx * yz,
            xx * yy - xy * xy,
        ]
    )
    determinant = xx * cofactors[0] + xy * cofactors[1] + xz * cofactors[2]
    return np.moveaxis((cofactors / determinant)[_ROWS], -1, 0)


def _windowed(values: Float32Array, shape: tuple[int, int, int], sigma: float) -> FloatArray:
    """Gaussian-weighted means of rows (m, n) on the lattice."""
    smooth = ndimage.gaussian_filter(
        values.reshape(-1, *shape), sigma, truncate=2.5, axes=(1, 2, 3)
    )
    return smooth.reshape(values.shape).astype(float)


# ------------------------------------------------------------------ what came of it


def _registration(
    displacement: FloatArray,
    covariance: FloatArray,
    held: FloatArray,
    template: Template,
    s: Settings,
) -> Registration:
    """With the error at the target: that of the lattice points around the active zones."""
    shape = template.lattice.shape_zyx
    target = template.to_active_mm < max(float(template.to_active_mm.min()) + 12.0, 15.0)
    variance = float(np.median(np.trace(covariance[target], axis1=1, axis2=2)))
    loose = float(np.exp(-s.hold_strength * np.median(held[target])))
    sliding_mm = loose * _unevenness_mm(displacement, template, s)
    error_mm = float(np.sqrt(variance + s.model_error_mm**2 + sliding_mm**2))
    shift = np.median(displacement[target], axis=0)
    shift_mm = float(np.linalg.norm(shift))
    field = np.moveaxis(displacement.reshape(*shape, 3), -1, 0).astype(np.float32)
    reasons: list[Reason] = []
    status = Status.OK
    if not np.isfinite(error_mm) or error_mm > s.useless_mm or shift_mm > s.largest_shift_mm:
        status = Status.INVALID
        reasons.append(Reason("registration_failed", "The scan cannot be matched to the baseline."))
    elif error_mm > s.doubtful_mm:
        status = Status.DEGRADED
        text = f"The scan matches the baseline to {error_mm:.1f} mm only."
        reasons.append(Reason("registration_doubtful", text))
    quality = float(np.clip(1.0 - error_mm / s.useless_mm, 0.0, 1.0))
    return Registration(
        template.lattice,
        field,
        error_mm,
        quality,
        (float(shift[0]), float(shift[1]), float(shift[2])),
        status,
        tuple(reasons),
    )


def _unevenness_mm(displacement: FloatArray, template: Template, s: Settings) -> float:
    """How differently the surroundings have moved (weighted RMS). Where organs slide along the wall
    a smooth motion fits neither, and is wrong at the target by about as much (tuning scans)."""
    weight = template.weight * (template.to_active_mm < s.uneven_reach_mm)
    total = max(float(weight.sum()), 1e-6)
    off = displacement - weight @ displacement / total
    return float(np.sqrt(weight @ (off**2).sum(axis=1) / total))


def _failed(template: Template, s: Settings) -> Registration:
    still = np.zeros((3, *template.lattice.shape_zyx), np.float32)
    reason = Reason("registration_failed", "The scan and the baseline share too little to match.")
    return Registration(
        template.lattice, still, float("inf"), 0.0, (0.0, 0.0, 0.0), Status.INVALID, (reason,)
    )
