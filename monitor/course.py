"""What a forecast's band comes to over time: ice volume, coverage, minimal margin; and the cold by now. ml,
0..1, mm, °C, UTC s.

Of the course each is a pair: as if the edge lay where one member in ten has it on the warm side, and on the
cold one.
Invariant: nothing here was measured, and no pair is tighter than the band it comes from.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from monitor.decision.assessment import Plan
from monitor.decision.bodies import Body
from monitor.forecast_values import BodyDose, Course, CourseAt, DoseAt, Forecast, Range
from monitor.geometry import FloatArray, Grid
from monitor.imaging.distance import sample, signed_distance_mm, volume_ml
from monitor.model import Float32Array, Status

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


def dose_by(forecast: Forecast, at_utc_s: float) -> tuple[DoseAt, ...]:
    """What each body has been through by the last of the forecast's times that is not after ``at_utc_s``.
    Nothing before the first of them, after the last, or of a forecast that is not to be used."""
    times = forecast.times_utc_s
    i = bisect_right(times, at_utc_s) - 1
    if i < 0 or not at_utc_s <= times[-1] or forecast.status not in (Status.OK, Status.DEGRADED):
        return ()
    return tuple(_dose_at(b, i, times[i]) for b in forecast.bodies)


def _dose_at(b: BodyDose, i: int, at_utc_s: float) -> DoseAt:
    def ends(rows: FloatArray) -> Range:
        return float(rows[i, 0]), float(rows[i, 1])

    return DoseAt(
        b.name,
        at_utc_s,
        reached_20=ends(b.reached_20),
        reached_40=ends(b.reached_40),
        warmest_degc=ends(b.warmest_degc),
        hold_20_s=ends(b.hold_20_s),
        hold_40_s=ends(b.hold_40_s),
        cycles=ends(b.cycles),
    )


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
