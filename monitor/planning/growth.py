"""A lesion grown from an ellipsoid to its boundary in the CT: a random walker. LPS mm, HU.

Random walks for image segmentation (Grady 2006, doi:10.1109/TPAMI.2006.233): a walker that steps less
easily where HU change is more likely to meet the core first, or the far shell. Seeds are two ellipsoids
of the same shape, at such sizes that without any boundary the two are equally likely on the ellipsoid
itself. So where the CT shows a boundary the surface lies on it, and elsewhere stays where it was drawn.
Invariant: the surface lies between the seeds, whatever the CT holds; ``shown`` says how much of it lies
on a boundary, and with too little of that the ellipsoid stands. Where the CT shows none, or only one at which
something else begins, the surface is the drawn ellipsoid's. That an organ's boundary is not the lesion's,
which does not show in it, no CT tells: then it is followed, within the seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg

from monitor.geometry import FloatArray, Grid
from monitor.imaging.distance import signed_distance_mm
from monitor.imaging.resampling import hu_on_grid
from monitor.model import CtVolume
from monitor.planning.drawn import DrawnBody, Ellipsoid, drawn, ellipsoid_grid, from_ellipsoid

# Between concentric spheres of radius a and b the potential is one half at 2ab / (a + b): at 1.
_INNER = 0.70
_OUTER = _INNER / (2.0 * _INNER - 1.0)
# What the lesion looks like is read within this: needles leave little of a smaller core.
_CORE = 0.85
# Enough for the noise of an interventional CT; more blurs the edge, and the surface falls inside it.
_SMOOTH_MM = 0.8
# Needles, and streaks as bright: not tissue.
_METAL_HU, _BESIDE_METAL_MM = 200.0, 2.0
# HU beyond this from the core's are all equally unlike it: metal and gas drown nothing else.
_UNLIKE_HU = 100.0
# A step of so many standard deviations of what the core's own noise does is a boundary.
_STEP_SDS = 2.0
_LEAST_NOISE_HU = 0.5
# The least that passes: keeps the equations well-conditioned.
_LEAST = 1e-4
_TOLERANCE = 1e-3
_ROUNDS = 1500
# A boundary shows at a point when HU on both sides differ by so much over twice this.
_BESIDE_MM = 2.5
# (Streaks of needles count as noise: among them the ellipsoid stands.)
_SHOWN_HU, _SHOWN_SDS = 8.0, 3.0
# A surface goes over from one to the other within this.
_GOES_OVER_MM = 2.5
# A place follows the boundary where it shows on so much of what is around it, and wholly from the second on.
_FOLLOWS = (0.5, 0.8)
# With less of its surface on a boundary, a grown body says little that was not drawn.
LEAST_SHOWN = 0.35

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Grown:
    """``body`` is the ellipsoid's where it was not ``grown``. ``shown``: the share of the surface at
    which the CT shows a boundary."""

    body: DrawnBody
    grown: bool
    shown: float


def grow(volume: CtVolume, e: Ellipsoid) -> Grown:
    """The body around which the CT's boundary runs, near an ellipsoid. Takes about a second."""
    grid = ellipsoid_grid(e, _OUTER)
    radius = e.scaled_radius(grid.points_lps_mm())
    hu = hu_on_grid(volume, grid)
    tissue = np.isfinite(hu) & ~_metal(hu, grid)
    core = (radius <= _CORE) & tissue
    if not core.any():
        return Grown(from_ellipsoid(e), False, 0.0)
    smooth = _smoothed(hu - float(np.median(hu[core])), tissue, grid)
    share = _walked(smooth, radius, _noise(smooth, core))
    share = ndimage.gaussian_filter(share, 0.8)
    # The seeds hold also where the filter has rounded the corner.
    share = np.where(radius <= _INNER, 1.0, np.where(radius >= _OUTER, 0.0, share))
    walked = signed_distance_mm(0.5 - share, grid)
    walked = signed_distance_mm(_largest(walked), grid)
    strokes = signed_distance_mm((radius - 1.0) * e.semi_axes_mm.min(), grid)
    boundary = _boundary(walked, smooth, grid, _spread(smooth[core]))
    shown = float(boundary.shows.mean()) if len(boundary.shows) else 0.0
    if shown < LEAST_SHOWN:
        return Grown(from_ellipsoid(e), False, shown)
    followed = _followed(boundary, grid)
    return Grown(drawn(grid, followed * walked + (1.0 - followed) * strokes), True, shown)


def _metal(hu: FloatArray, grid: Grid) -> Mask:
    """Needles, with what they make bright around them."""
    steps = max(1, round(_BESIDE_METAL_MM / grid.spacing_mm[0]))
    return np.asarray(ndimage.binary_dilation(hu > _METAL_HU, iterations=steps))


def _smoothed(unlike_hu: FloatArray, tissue: Mask, grid: Grid) -> FloatArray:
    """Averaged differences from the core; where there is no tissue, what lies around it."""
    sigma = _SMOOTH_MM / grid.spacing_mm[0]
    counted = np.clip(np.where(tissue, unlike_hu, 0.0), -_UNLIKE_HU, _UNLIKE_HU)
    weight = ndimage.gaussian_filter(tissue.astype(float), sigma)
    return np.asarray(ndimage.gaussian_filter(counted, sigma) / np.maximum(weight, 0.02))


def _noise(smooth: FloatArray, core: Mask) -> float:
    """The standard deviation of neighbours' differences within the core, robustly."""
    steps = [np.diff(smooth, axis=a)[_both(core, a)] for a in range(3) if _both(core, a).any()]
    if not steps:
        return 1.0
    return max(1.4826 * float(np.median(np.abs(np.concatenate(steps)))), _LEAST_NOISE_HU)


def _spread(values: FloatArray) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _both(mask: Mask, axis: int) -> Mask:
    low, high = _ends(axis)
    return np.asarray(mask[low] & mask[high])


def _ends(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
    high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
    return low, high


def _walked(smooth: FloatArray, radius: FloatArray, noise_hu: float) -> FloatArray:
    """The probability of meeting the core before the shell, at every voxel: the solution of the
    weighted Laplace equation between them."""
    free = (radius > _INNER) & (radius < _OUTER)
    number = np.full(smooth.shape, -1, np.int64)
    number[free] = np.arange(int(free.sum()))
    count = int(free.sum())
    rows, columns, weights = [], [], []
    diagonal, inflow = np.zeros(count), np.zeros(count)
    for axis in range(3):
        low, high = _ends(axis)
        step = (smooth[high] - smooth[low]) / (_STEP_SDS * noise_hu)
        w = np.maximum(np.exp(-(step**2)), _LEAST)
        for here, there in ((low, high), (high, low)):
            i, j = number[here], number[there]
            known = i >= 0
            diagonal += np.bincount(i[known], w[known], count)
            inner = known & (j < 0) & (radius[there] <= _INNER)
            inflow += np.bincount(i[inner], w[inner], count)
            both = known & (j >= 0)
            rows.append(i[both])
            columns.append(j[both])
            weights.append(-w[both])
    matrix = sparse.csr_matrix(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))),
        shape=(count, count),
    ) + sparse.diags(diagonal)
    start = np.clip((_OUTER / radius[free] - 1.0) / (_OUTER / _INNER - 1.0), 0.0, 1.0)
    precondition = sparse.diags(1.0 / diagonal)
    found, _ = cg(matrix, inflow, x0=start, rtol=_TOLERANCE, maxiter=_ROUNDS, M=precondition)
    share = np.where(radius <= _INNER, 1.0, 0.0)
    share[free] = found
    return share


def _largest(sdf: FloatArray) -> FloatArray:
    """Without pieces that do not hang together with the largest."""
    pieces, count = ndimage.label(sdf < 0)
    if count < 2:
        return sdf
    largest = int(np.argmax(np.bincount(pieces.ravel())[1:])) + 1
    return np.where((pieces == largest) | (sdf > 0), sdf, np.maximum(-sdf, 0.1))


@dataclass(frozen=True)
class _Boundary:
    """At each of the surface's voxels (n, 3), whether the CT shows the lesion's boundary there."""

    at_zyx: npt.NDArray[np.intp]
    shows: Mask


def _boundary(sdf: FloatArray, smooth: FloatArray, grid: Grid, core_sd_hu: float) -> _Boundary:
    """Where HU differ across the surface by more than noise does, and are the core's on its inside: else what
    shows is where something else begins."""
    spacing = grid.spacing_mm[0]
    normal = np.stack(list(np.gradient(sdf, spacing)))
    normal /= np.maximum(np.linalg.norm(normal, axis=0), 1e-6)
    at_zyx = np.argwhere(np.abs(sdf) < 0.6 * spacing)
    surface = at_zyx.T.astype(float)
    step = normal[(slice(None), *at_zyx.T)] * (_BESIDE_MM / spacing)
    inside, outside = (
        ndimage.map_coordinates(smooth, surface + sign * step, order=1, mode="nearest")
        for sign in (-1.0, 1.0)
    )
    needed = max(_SHOWN_HU, _SHOWN_SDS * core_sd_hu)
    differs = np.abs(outside - inside) > needed
    own = np.abs(inside) < np.abs(outside)
    return _Boundary(at_zyx, differs & own)


def _followed(boundary: _Boundary, grid: Grid) -> FloatArray:
    """How far each place follows the boundary rather than the strokes, 0 to 1: of what shows around the
    nearest of the surface's voxels."""
    sigma = _GOES_OVER_MM / grid.spacing_mm[0]
    there, shows = np.zeros(grid.shape_zyx), np.zeros(grid.shape_zyx)
    index = tuple(boundary.at_zyx.T)
    there[index], shows[index] = 1.0, boundary.shows
    around = (
        ndimage.gaussian_filter(shows, sigma)[index] / ndimage.gaussian_filter(there, sigma)[index]
    )
    low, high = _FOLLOWS
    there[index] = np.clip((around - low) / (high - low), 0.0, 1.0)
    surface = np.zeros(grid.shape_zyx, bool)
    surface[index] = True
    nearest = ndimage.distance_transform_edt(~surface, return_distances=False, return_indices=True)
    return np.asarray(ndimage.gaussian_filter(there[tuple(nearest)], sigma / 2.0))
