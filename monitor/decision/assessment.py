"""What the operator decides on: coverage, margin, distances. Pure; LPS mm, fractions 0..1.

Definitions. Lesion covered: the share of the lesion's volume inside the ice. Minimal margin: the
smallest depth of the lesion's points inside the ice edge (negative: how far the farthest uncovered
point lies outside). Margin covered: the share of lesion plus margin inside the ice, and never more
than the share of the lesion itself: a margin around an uncovered lesion is worth nothing.
Invariants: coverage < 1 ⇔ minimal margin < 0; margin covered ≤ lesion covered; whatever is not
proved known is None, and None is never green.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from monitor.decision.bodies import Body
from monitor.decision.not_a_number import first_nan
from monitor.forecast_values import Forecast
from monitor.geometry import FloatArray
from monitor.imaging.distance import sample
from monitor.model import (
    SDS_90,
    Assessment,
    Float32Array,
    IceSegmentation,
    Reason,
    Status,
    StructureDistance,
    worst,
)
from monitor.stages import stage

# Margins of 3 and 6 mm cannot be told apart with a larger one (one sigma).
_LARGEST_ERROR_MM = 1.5
_UNPROVED = Reason("not_proved", "The measurement contradicts itself or holds what is no number.")


# The most that is said to be covered where not all is: what is made of the journal, which has six decimals,
# would say 100 % beside a negative margin.
_NOT_ALL = 1.0 - 1e-6


@dataclass(frozen=True)
class Plan:
    """What has to freeze and what must not, as points."""

    lesion: Body
    lesion_and_margin: Body
    structures: tuple[Body, ...]
    margin_goal_mm: float


@stage("assessment")
def assess(ice: IceSegmentation, plan: Plan, forecast: Forecast | None) -> Assessment:
    """The assessment of one measured scan. ``forecast`` only lends its times, and only when it
    runs on from this very scan."""
    if not _proved(ice) or first_nan((ice, plan), "") is not None:
        reasons = ice.reasons or (_UNPROVED,)
        return unknown(plan, ice.volume_id, ice.acquired_utc_s, reasons)
    unseen = _unseen_reasons(ice, plan)
    if any(r.code == "lesion_outside_scan" for r in unseen):
        return unknown(plan, ice.volume_id, ice.acquired_utc_s, (*ice.reasons, *unseen))
    depth_mm = -_ice_distance_mm(ice, ice.sdf_mm, plan.lesion.points_lps_mm)
    worst_point = int(np.argmin(depth_mm))
    lesion_covered = _covered(depth_mm, plan.lesion.weights)
    margin_depth_mm = -_ice_distance_mm(ice, ice.sdf_mm, plan.lesion_and_margin.points_lps_mm)
    margin_covered = min(lesion_covered, _covered(margin_depth_mm, plan.lesion_and_margin.weights))
    has_ice = bool(np.isfinite(depth_mm).all())
    lesion_interval = _interval(ice, plan.lesion)
    margin_interval = _interval(ice, plan.lesion_and_margin)
    error_mm = _error_mm(ice, plan.lesion.points_lps_mm[worst_point]) if has_ice else None
    doubts = (*unseen, *_margin_doubt(error_mm))
    at = plan.lesion.points_lps_mm[worst_point]
    return Assessment(
        volume_id=ice.volume_id,
        as_of_utc_s=ice.acquired_utc_s,
        status=worst(ice.status, Status.DEGRADED if doubts else Status.OK),
        reasons=(*ice.reasons, *doubts),
        lesion_covered=lesion_covered,
        margin_covered=margin_covered,
        margin_goal_mm=plan.margin_goal_mm,
        min_margin_mm=float(depth_mm[worst_point]) if has_ice else None,
        min_margin_at_lps_mm=(float(at[0]), float(at[1]), float(at[2])) if has_ice else None,
        margin_error_mm=ice.edge_error_mm if error_mm is None else error_mm,
        ice_volume_ml=ice.volume_ml,
        structures=tuple(_structure_distance(ice, s) for s in plan.structures),
        time_to_margin_s=_time_to_margin_s(ice, forecast),
        lesion_covered_interval=lesion_interval,
        margin_covered_interval=(
            min(lesion_interval[0], margin_interval[0]),
            min(lesion_interval[1], margin_interval[1]),
        ),
    )


def unknown(
    plan: Plan, volume_id: str | None, as_of_utc_s: float, reasons: tuple[Reason, ...]
) -> Assessment:
    """An assessment that knows nothing and says why."""
    unmeasured = tuple(StructureDistance(s.name, None, s.limit_mm) for s in plan.structures)
    return replace(
        unplanned(plan.margin_goal_mm, volume_id, as_of_utc_s, reasons), structures=unmeasured
    )


def unplanned(
    margin_goal_mm: float, volume_id: str | None, as_of_utc_s: float, reasons: tuple[Reason, ...]
) -> Assessment:
    """As ``unknown``, where there is no plan either."""
    return Assessment(
        volume_id,
        as_of_utc_s,
        Status.INVALID,
        reasons,
        None,
        None,
        margin_goal_mm,
        None,
        None,
        None,
        None,
        (),
        None,
    )


def _proved(ice: IceSegmentation) -> bool:
    """Whether the measurement can be used at all: valid, every number a number, ice or no ice everywhere,
    since a distance to half a surface may be far too long, and the edge between its bounds: swapped, they
    would have the ice surely cover what it may not reach."""
    if ice.status is Status.INVALID or ice.sdf_mm is None:
        return False
    numbers = (ice.volume_ml, ice.edge_error_mm, ice.quality, ice.acquired_utc_s)
    if not np.isfinite(numbers).all() or ice.edge_error_mm < 0.0:
        return False
    fields = [f for f in (ice.sdf_mm, ice.inner_sdf_mm, ice.outer_sdf_mm) if f is not None]
    if np.isposinf(ice.sdf_mm).all():
        return ice.volume_ml == 0.0 and all(bool(np.isposinf(f).all()) for f in fields)
    finite = all(bool(np.isfinite(f).all()) for f in fields)
    return finite and _bracketed(ice.sdf_mm, ice.inner_sdf_mm, ice.outer_sdf_mm)


def _bracketed(edge: Float32Array, inner: Float32Array | None, outer: Float32Array | None) -> bool:
    """Whether the edge lies nowhere beyond its outer bound or within its inner one."""
    inside = inner is None or bool((inner >= edge).all())
    return inside and (outer is None or bool((outer <= edge).all()))


def _unseen_reasons(ice: IceSegmentation, plan: Plan) -> tuple[Reason, ...]:
    """The lesion must have been scanned whole; an unscanned part of its margin is said."""
    if not _seen(ice, plan.lesion.points_lps_mm):
        return (Reason("lesion_outside_scan", "Part of the lesion was not scanned."),)
    if not _seen(ice, plan.lesion_and_margin.points_lps_mm):
        return (
            Reason("margin_outside_scan", "Part of the margin around the lesion was not scanned."),
        )
    return ()


def _seen(ice: IceSegmentation, points_lps_mm: FloatArray) -> bool:
    index = np.round(ice.grid.to_index_zyx(points_lps_mm)).astype(int)
    inside = (index >= 0) & (index < ice.known.shape)
    return bool(inside.all()) and bool(ice.known[tuple(index.T)].all())


def _covered(depth_mm: FloatArray, weights: FloatArray) -> float:
    """The covered share; 1 only when every point is inside, also where it is written with six decimals."""
    uncovered = weights[~(depth_mm >= 0)]
    if not len(uncovered):
        return 1.0
    return float(np.clip(1.0 - uncovered.sum(), 0.0, _NOT_ALL))


def _interval(ice: IceSegmentation, body: Body) -> tuple[float, float]:
    """Coverage if the whole edge lay on its inner bound, or on its outer one."""
    inner_mm, outer_mm = (
        _bound_distance_mm(ice, body.points_lps_mm, outer) for outer in (False, True)
    )
    return _covered(-inner_mm, body.weights), _covered(-outer_mm, body.weights)


def _bound_distance_mm(ice: IceSegmentation, points_lps_mm: FloatArray, outer: bool) -> FloatArray:
    """As ``_ice_distance_mm``, to the outer bound of the ice or to its inner one."""
    bound = ice.outer_sdf_mm if outer else ice.inner_sdf_mm
    if bound is not None:
        return _ice_distance_mm(ice, bound, points_lps_mm)
    to_edge_mm = _ice_distance_mm(ice, ice.sdf_mm, points_lps_mm)
    reach_mm = SDS_90 * ice.edge_error_mm
    return to_edge_mm - reach_mm if outer else to_edge_mm + reach_mm


def _error_mm(ice: IceSegmentation, point_lps_mm: FloatArray) -> float:
    """One-sigma error of the edge near a point: half of what lies between its bounds."""
    if ice.inner_sdf_mm is None or ice.outer_sdf_mm is None:
        return ice.edge_error_mm
    band = ice.inner_sdf_mm - ice.outer_sdf_mm
    inner_to_outer_mm = float(sample(band, ice.grid, point_lps_mm[None], outside=np.nan)[0])
    local_mm = inner_to_outer_mm / (2.0 * SDS_90)
    return local_mm if np.isfinite(local_mm) else ice.edge_error_mm


def _margin_doubt(error_mm: float | None) -> tuple[Reason, ...]:
    """States at 3 and at 6 mm cannot be told apart when the error is more than this."""
    if error_mm is None or error_mm <= _LARGEST_ERROR_MM:
        return ()
    text = f"Where the margin is smallest the ice edge is uncertain by {error_mm:.1f} mm."
    return (Reason("margin_uncertain", text),)


def _ice_distance_mm(
    ice: IceSegmentation, sdf_mm: Float32Array | None, points_lps_mm: FloatArray
) -> FloatArray:
    """Signed distance of points to the ice, or to a bound of it; inf without ice. Beyond the grid, to
    the nearest point of the surface; NaN where the ice itself goes on beyond the grid there."""
    distance = _on_grid_mm(ice, sdf_mm, points_lps_mm)
    beyond = np.isnan(distance)
    distance[beyond] = _beyond_mm(ice, sdf_mm, points_lps_mm[beyond], np.inf)
    return distance


def _nearest_mm(
    ice: IceSegmentation, sdf_mm: Float32Array | None, points_lps_mm: FloatArray
) -> float:
    """The least of these distances. Beyond the grid only what may be nearer than on it is searched: to
    search all takes 0.1 s a structure."""
    distance = _on_grid_mm(ice, sdf_mm, points_lps_mm)
    beyond = np.isnan(distance)
    on_it_mm = float(distance[~beyond].min(initial=np.inf))
    beyond_it = _beyond_mm(ice, sdf_mm, points_lps_mm[beyond], max(on_it_mm, 0.0))
    return float(beyond_it.min(initial=on_it_mm))


def _on_grid_mm(
    ice: IceSegmentation, sdf_mm: Float32Array | None, points_lps_mm: FloatArray
) -> FloatArray:
    """NaN beyond the grid, unless there is no ice at all."""
    assert sdf_mm is not None
    if np.isposinf(sdf_mm).all():
        return np.full(len(points_lps_mm), np.inf)
    return np.asarray(sample(sdf_mm, ice.grid, points_lps_mm, outside=np.nan), float)


def _beyond_mm(
    ice: IceSegmentation, sdf_mm: Float32Array | None, points_lps_mm: FloatArray, within_mm: float
) -> FloatArray:
    """Of points beyond the grid; inf for what is not ``within_mm``."""
    if not len(points_lps_mm):
        return np.zeros(0)
    assert sdf_mm is not None
    grid = ice.grid
    # The ice surface as the voxels nearest to it (within half a voxel).
    surface = np.argwhere(np.abs(sdf_mm) <= 0.5 * max(grid.spacing_mm))
    if not len(surface):
        return np.full(len(points_lps_mm), np.nan)
    axes = grid.axes_lps_mm()
    low, high = [axis[0] for axis in axes], [axis[-1] for axis in axes]
    at_rim_mm = sample(sdf_mm, grid, np.clip(points_lps_mm, low, high), outside=np.nan)
    tree = cKDTree(grid.to_lps_mm(surface))
    to_surface_mm = tree.query(points_lps_mm, distance_upper_bound=within_mm)[0]
    return np.where(at_rim_mm > 0, to_surface_mm, np.nan)


def _structure_distance(ice: IceSegmentation, structure: Body) -> StructureDistance:
    points = structure.points_lps_mm
    if not len(points):
        return StructureDistance(structure.name, None, structure.limit_mm)
    nearest_mm = _nearest_mm(ice, ice.sdf_mm, points)
    if ice.outer_sdf_mm is None:
        outer_mm = nearest_mm - SDS_90 * ice.edge_error_mm
    else:
        outer_mm = _nearest_mm(ice, ice.outer_sdf_mm, points)
    if np.isnan([nearest_mm, outer_mm]).any():
        return StructureDistance(structure.name, None, structure.limit_mm)
    return StructureDistance(
        structure.name, nearest_mm, structure.limit_mm, min(nearest_mm, outer_mm)
    )


def _time_to_margin_s(
    ice: IceSegmentation, forecast: Forecast | None
) -> tuple[float, float] | None:
    if forecast is None or forecast.from_volume_id != ice.volume_id:
        return None
    return forecast.time_to_margin_s
