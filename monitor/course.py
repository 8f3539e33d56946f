"""What a forecast's band comes to over time: ice volume, coverage, minimal margin. ml, 0..1, mm, UTC s.

Each is a pair: as if the edge lay where one member in ten has it on the warm side, and on the cold one.
Invariant: nothing here was measured, and no pair is tighter than the band it comes from.
"""

from __future__ import annotations

import numpy as np

from monitor.decision.assessment import Plan
from monitor.decision.bodies import Body
from monitor.forecast_values import Course, CourseAt, Forecast
from monitor.geometry import FloatArray, Grid
from monitor.imaging.distance import sample, signed_distance_mm, volume_ml
from monitor.model import Float32Array

# The strip is a few hundred pixels wide: finer tells nobody more, and takes the worker's time.
EVERY_S = 60.0
_MOST_POINTS = 4000


def course(forecast: Forecast, plan: Plan) -> Course | None:
    """None without a band."""
    warmer, colder = forecast.warmer_degc, forecast.colder_degc
    if warmer is None or colder is None or not np.isfinite(forecast.edge_degc):
        return None
    found = []
    last_utc_s = -np.inf
    for i, at_utc_s in enumerate(forecast.times_utc_s):
        if at_utc_s - last_utc_s >= EVERY_S:
            last_utc_s = at_utc_s
            ends = [_extent(field[i], forecast, plan) for field in (warmer, colder)]
            ml, lesion, margin, depth_mm = zip(*ends, strict=True)
            found.append(CourseAt(at_utc_s, ml, lesion, margin, depth_mm))
    return Course(tuple(found))


def _extent(degc: np.ndarray, forecast: Forecast, plan: Plan) -> tuple[float, float, float, float]:
    """(ml, lesion covered, with its margin, minimal margin); -inf mm without ice."""
    level = np.nan_to_num(np.asarray(degc, np.float32) - np.float32(forecast.edge_degc), nan=1.0)
    sdf_mm = signed_distance_mm(level, forecast.grid)
    depth_mm = -_distance_mm(sdf_mm, forecast.grid, plan.lesion)
    lesion = _share(depth_mm)
    margin = _share(-_distance_mm(sdf_mm, forecast.grid, plan.lesion_and_margin))
    return (
        volume_ml(sdf_mm, forecast.grid),
        lesion,
        min(lesion, margin),
        float(depth_mm.min(initial=np.inf)),
    )


def _distance_mm(sdf_mm: Float32Array, grid: Grid, body: Body) -> FloatArray:
    """Of some thousand of its points, spread over its volume and its surface alike."""
    points = body.points_lps_mm
    step = max(1, len(points) // _MOST_POINTS)
    if not np.isfinite(sdf_mm).any():
        return np.full(len(points[::step]), float(sdf_mm.flat[0]))
    return np.asarray(sample(sdf_mm, grid, points[::step], outside=np.inf), float)


def _share(depth_mm: FloatArray) -> float:
    """1 only where every point is inside."""
    inside = depth_mm >= 0
    if inside.all():
        return 1.0
    return float(min(inside.mean(), np.nextafter(1.0, 0.0)))
