"""Looking at another time than now: back at a scan, or forward into the forecast. Pure; UTC seconds.

Only the planes look elsewhere; numbers, alarms and clocks stay those of now, always.
Invariant: what the planes show of another time says so, and a measurement of another time is never
drawn together with a prediction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from monitor.forecast_values import CourseAt
from monitor.geometry import Grid
from monitor.model import Assessment, Status
from monitor.snapshot import NeedleLine, PastScan, Snapshot
from monitor.view import formats
from monitor.view.translations import text
from monitor.view.viewmodel import Layers, ScreenModel, State

# Forward by key: as far apart as the forecast's own outputs are told.
STEP_S = 60.0
_BLIND = frozenset({State.NO_CORE, State.BLOCKED, State.VIEW_ERROR, State.WAITING})
_Point = tuple[float, float, float]


@dataclass(frozen=True)
class Look:
    """At ``scan``, or, without one, at the forecast for ``at_utc_s``."""

    at_utc_s: float
    scan: PastScan | None = None


def look_at(s: Snapshot | None, at_utc_s: float, now_utc_s: float) -> Look | None:
    """What there is to see at a time: the nearest scan before now, the forecast after; None is now."""
    if s is None:
        return None
    if at_utc_s > now_utc_s:
        until_utc_s = foreseen_until(s, now_utc_s)
        return Look(min(at_utc_s, until_utc_s)) if until_utc_s > now_utc_s else None
    scan = min(s.history, key=lambda p: abs(_time(p) - at_utc_s), default=None)
    if scan is None or scan is s.history[-1] or now_utc_s - at_utc_s < abs(_time(scan) - at_utc_s):
        return None
    return Look(_time(scan), scan)


def foreseen_until(s: Snapshot, now_utc_s: float) -> float:
    """A forecast has the phase that runs go on; what lies past its planned end will not come so. -inf
    without a forecast."""
    times, ends_utc_s = s.forecast_times_utc_s, s.phase.ends_utc_s
    last = times[-1] if times else -math.inf
    return last if ends_utc_s is None or not ends_utc_s > now_utc_s else min(last, ends_utc_s)


def stepped(s: Snapshot | None, look: Look | None, steps: int, now_utc_s: float) -> Look | None:
    """One scan back or on, or, beyond the last, a minute of the forecast."""
    if s is None:
        return look
    past = list(s.history[:-1])
    if look is not None and look.scan is None:
        at = look.at_utc_s + steps * STEP_S
        return look_at(s, at, now_utc_s) if at > now_utc_s else None
    where = len(past) if look is None else _index(past, look)
    if where + steps > len(past):
        return look_at(s, now_utc_s + STEP_S * (where + steps - len(past)), now_utc_s)
    where = max(0, where + steps)
    return None if where >= len(past) else Look(_time(past[where]), past[where])


def still_there(s: Snapshot | None, look: Look | None, now_utc_s: float) -> Look | None:
    """The look in a newer snapshot: forward until time has caught up, back while the scan is kept."""
    if s is None or look is None or s.blocked:
        return None
    if look.scan is None:
        return look_at(s, look.at_utc_s, now_utc_s) if look.at_utc_s > now_utc_s else None
    kept = [p for p in s.history[:-1] if p.assessment.volume_id == look.scan.assessment.volume_id]
    return Look(_time(kept[0]), kept[0]) if kept else None


def seen_then(s: Snapshot, look: Look | None) -> Snapshot:
    """What the planes draw: the scan's own picture, ice and place, with no forecast; else ``s`` itself."""
    if look is None or look.scan is None:
        return s
    scan = look.scan
    moved = _between(s.analysis_grid, scan.analysis_grid)
    return replace(
        s.without_forecast(),
        assessment=scan.assessment,
        volume_id=scan.assessment.volume_id,
        volume=scan.volume,
        volume_geometry=scan.volume_geometry,
        analysis_grid=scan.analysis_grid,
        ice_sdf=scan.ice_sdf,
        ice_inner_sdf=scan.ice_inner_sdf,
        ice_outer_sdf=scan.ice_outer_sdf,
        ice_edge_error_mm=scan.ice_edge_error_mm,
        structure_grids=tuple(_moved_grid(g, moved) for g in s.structure_grids),
        needles=tuple(
            NeedleLine(n.number, _moved(n.tip_lps_mm, moved), _moved(n.entry_lps_mm, moved))
            for n in s.needles
        ),
    )


def planes_model(
    model: ScreenModel, s: Snapshot | None, look: Look | None, now_utc_s: float
) -> ScreenModel:
    """What is written on the planes; the very model when they show now."""
    if s is None or look is None or model.state in _BLIND:
        return model
    if look.scan is None and model.layers.predicted_at_utc_s is None:
        return model  # what may not be foreseen for now may not be for later
    frame = model.frame if model.frame == "alarm_high" else "look"
    if look.scan is None:
        layers = Layers(True, True, False, False, look.at_utc_s)
        at = _course_at(s, look.at_utc_s)
        clock = formats.clock(look.at_utc_s - now_utc_s)
        ahead = text(model.language, "look.ahead", clock=clock)
        short = text(model.language, "look.ahead.short", clock=clock)
        said = (short, ahead, *(() if at is None else (_expected(at, model.language),)))
        return replace(model, layers=layers, frame=frame, message=(), simulation="", looking=said)
    a = look.scan.assessment
    ice = look.scan.ice_sdf is not None and a.lesion_covered is not None
    unsure = ice and a.status is not Status.OK
    banded = unsure and (look.scan.ice_edge_error_mm > 0 or look.scan.ice_inner_sdf is not None)
    clock = formats.clock(now_utc_s - look.at_utc_s)
    return replace(
        model,
        layers=Layers(True, True, ice, banded, None),
        frame=frame,
        message=(),
        simulation="",
        looking=(
            text(model.language, "look.back.short", clock=clock),
            text(model.language, "look.back", clock=clock),
            _measured(a, model.language),
        ),
    )


def _measured(a: Assessment, language: str) -> str:
    if a.lesion_covered is None:
        return text(language, "look.unmeasured")
    doubt = "" if a.status is Status.OK else f"?{formats.NBSP}"
    return doubt + text(
        language,
        "look.figures",
        lesion=formats.percent(a.lesion_covered),
        goal=formats.decimal(a.margin_goal_mm, 0, language),
        margin=formats.percent(a.margin_covered),
        mm=f"{formats.signed_mm(a.min_margin_mm, language)}{formats.NBSP}mm",
    )


def _expected(at: CourseAt, language: str) -> str:
    low, high = (formats.signed_mm(v, language) for v in at.min_margin_mm)
    return text(
        language,
        "look.expected",
        lesion=formats.percent_range(*at.lesion_covered) or formats.UNKNOWN,
        mm=f"{low}…{high}{formats.NBSP}mm",
    )


def _course_at(s: Snapshot, at_utc_s: float) -> CourseAt | None:
    points = s.course.points if s.course else ()
    near = min(points, key=lambda p: abs(p.at_utc_s - at_utc_s), default=None)
    return near if near is not None and abs(near.at_utc_s - at_utc_s) <= STEP_S else None


def _time(scan: PastScan) -> float:
    return scan.assessment.as_of_utc_s


def _index(past: list[PastScan], look: Look) -> int:
    return min(range(len(past)), key=lambda i: abs(_time(past[i]) - look.at_utc_s), default=0)


def _between(now: Grid | None, then: Grid) -> _Point:
    if now is None:
        return (0.0, 0.0, 0.0)
    x, y, z = (b - a for a, b in zip(now.origin_lps_mm, then.origin_lps_mm, strict=True))
    return (x, y, z)


def _moved(p: _Point, by: _Point) -> _Point:
    return (p[0] + by[0], p[1] + by[1], p[2] + by[2])


def _moved_grid(grid: Grid, by: _Point) -> Grid:
    return replace(grid, origin_lps_mm=_moved(grid.origin_lps_mm, by))
