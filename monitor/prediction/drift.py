"""Where the ice grows otherwise than the model says: beside a vessel, in another tissue. mm, s, (z, y, x).

What no parameter explains at one scan is mostly there at the next. The distance by which a measured
surface missed its forecast, less what it missed by everywhere, is a local rate; the next forecast of
the same kind of phase moves on with half of it. What it missed by everywhere is carried on only when
it did so twice to the same side: ice that stalls, and not the noise of one scan.
Invariant: a forecast that came true has no drift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from monitor.geometry import Grid
from monitor.model import Float32Array, FloatArray
from monitor.prediction.sampling import sampled_at

# Half: the rest is the measurement's error and change (tuning scenarios: 0.3 to 0.7 are alike).
_SHARE = 0.5
# Wider than the noise of a surface, narrower than a lesion.
_SMOOTH_MM = 4.0
_FARTHEST_MM = 3.0
# It was seen over so much time and not more.
_LONGEST = 1.5


@dataclass(frozen=True)
class Drift:
    """``local_mm`` (z, y, x): how much farther in (positive) the surface lay than forecast, where, after
    ``seconds``, beside what it did everywhere: ``everywhere_mm``, of which ``lasting_mm`` was so at the
    scan before; ``normal_zyx`` (3, z, y, x) points out of the ice."""

    local_mm: Float32Array
    everywhere_mm: float
    lasting_mm: float
    normal_zyx: Float32Array
    seconds: float


def observed(
    measured_mm: Float32Array,
    forecast_mm: Float32Array,
    seconds: float,
    grid: Grid,
    before: Drift | None = None,
) -> Drift | None:
    """From signed distances to a surface as measured and as forecast ``seconds`` before; None where one
    of them is not there. ``before``: the drift last seen in such a phase."""
    near = np.abs(measured_mm) < max(grid.spacing_mm)
    if seconds <= 0.0 or not (near.any() and np.isfinite(forecast_mm).all()):
        return None
    miss = np.clip(measured_mm - forecast_mm, -2 * _FARTHEST_MM, 2 * _FARTHEST_MM)
    sigma = _SMOOTH_MM / np.array(grid.spacing_mm[::-1])
    everywhere_mm = float(np.median(miss[near]))
    local = ndimage.gaussian_filter(miss - everywhere_mm, sigma)
    slopes = np.array(np.gradient(measured_mm, *grid.spacing_mm[::-1]))
    normal = slopes / np.maximum(np.sqrt((slopes**2).sum(0)), 0.3)
    return Drift(
        local.astype(np.float32),
        everywhere_mm,
        _lasting_mm(everywhere_mm, before),
        normal.astype(np.float32),
        seconds,
    )


def _lasting_mm(everywhere_mm: float, before: Drift | None) -> float:
    """The smaller of two misses to the same side."""
    if before is None or everywhere_mm * before.everywhere_mm <= 0.0:
        return 0.0
    least_mm = min(abs(everywhere_mm), abs(before.everywhere_mm))
    return float(np.copysign(least_mm, everywhere_mm))


def moved(
    field: Float32Array,
    drift: Drift | None,
    elapsed_s: float,
    grid: Grid,
    where: npt.NDArray[np.bool_] | None = None,
) -> Float32Array:
    """A field of the forecast ``elapsed_s`` on, (..., z, y, x), where the drift takes it; with
    ``where`` (z, y, x) it is taken there only: the rest has no ice to move."""
    if drift is None:
        return field
    inside = np.ones(field.shape[-3:], bool) if where is None else where
    step = (_offset_mm(drift, elapsed_s) * drift.normal_zyx)[:, inside]
    index = np.array(np.nonzero(inside), np.float32)
    index += step / np.array(grid.spacing_mm[::-1])[:, None]
    out = np.array(field, np.float32)
    for n in np.ndindex(field.shape[:-3]):
        out[n][inside] = ndimage.map_coordinates(field[n], index, order=1, mode="nearest")
    return out


def asked_at(
    points_lps_mm: FloatArray, drift: Drift | None, elapsed_s: float, grid: Grid
) -> FloatArray:
    """Where the forecast without drift has what it has at these points with it."""
    if drift is None or not len(points_lps_mm):
        return points_lps_mm
    step = _offset_mm(drift, elapsed_s) * drift.normal_zyx
    return np.asarray(points_lps_mm + sampled_at(step, points_lps_mm, grid)[:, ::-1])


def _offset_mm(drift: Drift, elapsed_s: float) -> Float32Array:
    share = min(max(elapsed_s / drift.seconds, 0.0), _LONGEST)
    offset_mm = share * (_SHARE * drift.local_mm + drift.lasting_mm)
    return np.clip(offset_mm, -_FARTHEST_MM, _FARTHEST_MM).astype(np.float32)
