"""Whether a scan shows the ice that had been forecast for it, before anything was learned from it. mm, ml.

The forecast allows every edge between the ice that all but one member in ten have and that which one in ten
has; the measurement allows its own bounds. What lies between the two is a local miss, of the measured
surface, and of ice that was forecast where none was measured. Invariant: a scan whose bounds meet those of
its forecast everywhere misses by nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from monitor.geometry import Grid
from monitor.imaging.distance import sample, signed_distance_mm, volume_ml
from monitor.model import (
    SDS_90,
    Float32Array,
    FloatArray,
    IceSegmentation,
    PhaseKind,
    Reason,
)
from monitor.prediction.drift import Drift, moved
from monitor.prediction.observation import EdgePoints
from monitor.prediction.unexplained import spread

# The middle 80 % of the members, as everywhere.
_LOW, _HIGH = 0.1, 0.9
# Voxels around the ice of any member: farther than the drift takes it.
_RIM = 2


@dataclass(frozen=True)
class Limits:
    """From where on a scan disagrees, as seen on 33 rendered procedures (docs/forecast.md). A thaw is worse
    foreseen than a freeze, in fat above all. Less ice than ``apart_ml`` may hide where it shows badly."""

    median_mm: float = 0.5
    worst_mm: float = 1.5
    worst_in_thaw_mm: float = 2.5
    gone_mm: float = 3.5
    apart_ml: float = 1.0

    def worst_in_mm(self, kind: PhaseKind) -> float:
        return self.worst_mm if kind is PhaseKind.FREEZE else self.worst_in_thaw_mm


_LIMITS = Limits()


@dataclass(frozen=True)
class Miss:
    """``median_mm`` and ``worst_mm`` (nine in ten are less) of the local misses along the measured surface;
    ``gone_mm``: how far ice that was surely forecast reaches out of what was measured; volumes, least and
    most, as measured and as forecast."""

    median_mm: float
    worst_mm: float
    gone_mm: float
    measured_ml: tuple[float, float]
    forecast_ml: tuple[float, float]

    @property
    def text(self) -> str:
        measured, forecast = (
            f"{low:.1f} to {high:.1f}" for low, high in (self.measured_ml, self.forecast_ml)
        )
        return (
            f"the scan shows {measured} ml of ice, {forecast} ml had been forecast for it; half of its edge "
            f"lies {self.median_mm:.1f} mm or more beyond what both allow, a tenth {self.worst_mm:.1f} mm, "
            f"and ice is missing by up to {self.gone_mm:.1f} mm."
        )

    @property
    def apart_ml(self) -> float:
        """Between the two, where they do not overlap."""
        low, high = sorted((self.measured_ml, self.forecast_ml))
        return max(high[0] - low[1], 0.0)


def reasons(m: Miss, kind: PhaseKind, limits: Limits = _LIMITS) -> tuple[Reason, ...]:
    """What there is to be said of a miss in a phase of that kind: nothing within the limits; NaN is not
    within."""
    found = (m.median_mm, m.worst_mm, m.gone_mm, m.apart_ml)
    within = (limits.median_mm, limits.worst_in_mm(kind), limits.gone_mm, limits.apart_ml)
    if all(value < limit for value, limit in zip(found, within, strict=True)):
        return ()
    return (Reason("forecast_disagrees", m.text[0].upper() + m.text[1:]),)


def as_forecast(
    ices: Float32Array,
    nominal_degc: Float32Array,
    elapsed_s: float,
    drift: Drift | None,
    grid: Grid,
) -> Float32Array:
    """(2, z, y, x): the ice (``reading``) that nine in ten members have at least, and one in ten at least,
    as the forecast had them ``elapsed_s`` after the scan that it runs on from. ``ices`` are theirs
    (member, z, y, x), the mean first, by parameters alone."""
    members = ices[1:] if len(ices) > 1 else ices
    members = spread(members, nominal_degc, elapsed_s, grid)
    near = ndimage.binary_dilation((members > 0.0).any(axis=0), iterations=_RIM)
    ends = np.zeros((2, *grid.shape_zyx), np.float32)
    ends[:, near] = np.quantile(members[:, near], [_LOW, _HIGH], axis=0)
    return moved(ends, drift, elapsed_s, grid, near)


def miss(ends: Float32Array, grid: Grid, ice: IceSegmentation, edge: EdgePoints | None) -> Miss:
    """``ends``: of the forecast (``as_forecast``); ``edge``: points of the measured surface, None where
    there is none."""
    sdfs_mm = [signed_distance_mm(0.5 - end, grid) for end in ends]
    outside = _outside_mm(sdfs_mm, grid, edge) if edge is not None else np.zeros(1)
    least_ml, most_ml = (volume_ml(sdf, grid) for sdf in sdfs_mm)
    return Miss(
        float(np.median(outside)),
        float(np.quantile(outside, _HIGH, method="higher")),
        _gone_mm(ends[0] >= 0.5, grid, ice),
        _measured_ml(ice),
        (least_ml, most_ml),
    )


def _outside_mm(sdfs_mm: list[Float32Array], grid: Grid, edge: EdgePoints) -> FloatArray:
    """(n,): at each point of the surface, how far it lies from the band of the forecast, less its own bound;
    0 where none was forecast: that the volumes tell."""
    if not np.isfinite(sdfs_mm[1]).all():
        return np.zeros(1)
    sure, perhaps = (sample(sdf, grid, edge.points_lps_mm, outside=np.inf) for sdf in sdfs_mm)
    bound_mm = SDS_90 * np.sqrt(edge.variance_mm2)
    return np.asarray(np.maximum(np.maximum(-sure, perhaps) - bound_mm, 0.0))


def _gone_mm(frozen: npt.NDArray[np.bool_], grid: Grid, ice: IceSegmentation) -> float:
    """0 where no ice was measured at all: that the volumes tell."""
    bound = ice.outer_sdf_mm if ice.outer_sdf_mm is not None else ice.sdf_mm
    assert bound is not None
    points = grid.points_lps_mm()[frozen]
    known = sample(ice.known.astype(np.float32), ice.grid, points, outside=0.0) >= 0.5
    if not (known.any() and np.isfinite(bound).all()):
        return 0.0
    return float(max(sample(bound, ice.grid, points[known], outside=0.0).max(), 0.0))


def _measured_ml(ice: IceSegmentation) -> tuple[float, float]:
    inner, outer = (ice.sdf_mm if b is None else b for b in (ice.inner_sdf_mm, ice.outer_sdf_mm))
    assert inner is not None
    assert outer is not None
    return volume_ml(inner, ice.grid), volume_ml(outer, ice.grid)
