"""The procedure over time as the strip draws it: tracks, phases, now. Pure; UTC seconds.

Values: ml, percent, mm. A point is measured and has the bounds that were measured with it; a band is
foreseen. Invariant: what is not known is no point, never a zero; what is foreseen begins no earlier
than now.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from monitor.forecast_values import CourseAt
from monitor.model import SDS_90, Assessment, PhaseKind, Status
from monitor.snapshot import PastScan, PhaseBand, Snapshot
from monitor.view import formats
from monitor.view.looking import Look, foreseen_until
from monitor.view.translations import text
from monitor.view.viewmodel import ScreenModel, State

_SHORTEST_S = 600.0
_BLANK = frozenset({State.NO_CORE, State.BLOCKED, State.VIEW_ERROR, State.WAITING})
_NOT_FORESEEN = _BLANK | {State.CORE_SILENT, State.BASELINE}
_ML_STEPS = (10, 20, 30, 50, 75, 100, 150, 200, 300)
_LEAST_MM, _MOST_MM = -12.0, 8.0


@dataclass(frozen=True)
class Point:
    """A scan's value with its bounds; ``sure`` where the measurement was OK."""

    at_utc_s: float
    value: float
    low: float
    high: float
    sure: bool


@dataclass(frozen=True)
class Track:
    """One row. ``second`` are points of a second value on the same scale; ``goal`` is a line, if any."""

    name: str
    low: float
    high: float
    points: tuple[Point, ...]
    band: tuple[tuple[float, float, float], ...]
    second: tuple[Point, ...] = ()
    goal: float | None = None


@dataclass(frozen=True)
class StripModel:
    """``looked_utc_s`` is the time that the planes show when it is not now."""

    start_utc_s: float
    end_utc_s: float
    now_utc_s: float
    phases: tuple[tuple[PhaseBand, str], ...]
    tracks: tuple[Track, ...]
    looked_utc_s: float | None
    back: str


def strip_model(
    s: Snapshot | None, model: ScreenModel, now_utc_s: float, look: Look | None
) -> StripModel | None:
    """None where the strip is blank: nothing known, or nothing that may be shown."""
    if s is None or model.state in _BLANK or not math.isfinite(now_utc_s):
        return None
    foreseen: tuple[CourseAt, ...] = ()
    if s.course is not None and model.state not in _NOT_FORESEEN:
        foreseen = _between(s.course.points, now_utc_s, foreseen_until(s, now_utc_s))
    start, end = _span(s, foreseen, now_utc_s)
    language = model.language
    return StripModel(
        start,
        end,
        now_utc_s,
        tuple((p, _phase_name(p, language)) for p in s.phases),
        tuple(_tracks(s, foreseen, language)),
        None if look is None else look.at_utc_s,
        "" if look is None else text(language, "look.return"),
    )


def _between(
    points: tuple[CourseAt, ...], from_utc_s: float, until_utc_s: float
) -> tuple[CourseAt, ...]:
    """What is foreseen from one time to another: between two of its times the forecast goes straight."""
    if not until_utc_s > from_utc_s:
        return ()
    inside = [p for p in points if from_utc_s < p.at_utc_s < until_utc_s]
    found = [_at_time(points, from_utc_s), *inside, _at_time(points, until_utc_s)]
    return tuple(p for p in found if p is not None)


def _at_time(points: tuple[CourseAt, ...], at_utc_s: float) -> CourseAt | None:
    """None outside the points' times."""
    later = [p for p in points if p.at_utc_s >= at_utc_s]
    before = [p for p in points if p.at_utc_s <= at_utc_s]
    if not later or not before:
        return None
    a, b = before[-1], later[0]
    span_s = b.at_utc_s - a.at_utc_s
    share = (at_utc_s - a.at_utc_s) / span_s if span_s > 0.0 else 0.0

    def between(low: tuple[float, float], high: tuple[float, float]) -> tuple[float, float]:
        x, y = (p + share * (q - p) for p, q in zip(low, high, strict=True))
        return x, y

    return CourseAt(
        at_utc_s,
        between(a.ice_volume_ml, b.ice_volume_ml),
        between(a.lesion_covered, b.lesion_covered),
        between(a.margin_covered, b.margin_covered),
        between(a.min_margin_mm, b.min_margin_mm),
    )


def _span(s: Snapshot, foreseen: tuple[CourseAt, ...], now_utc_s: float) -> tuple[float, float]:
    starts = [p.start_utc_s for p in s.phases] + [_at(p) for p in s.history] + [now_utc_s]
    running = [p.end_utc_s for p in s.phases if p.start_utc_s <= now_utc_s]
    start = min(starts)
    end = max([now_utc_s, start + _SHORTEST_S, *running, *(p.at_utc_s for p in foreseen)])
    return start, end


def _tracks(s: Snapshot, foreseen: tuple[CourseAt, ...], language: str) -> Iterator[Track]:
    volumes = tuple(_points(s.history, _volume))
    most = max([p.high for p in volumes] + [p.ice_volume_ml[1] for p in foreseen], default=0.0)
    top = next((step for step in _ML_STEPS if step >= most), 50 * math.ceil(most / 50.0))
    yield Track(
        text(language, "strip.volume", most=str(top)),
        0.0,
        float(top),
        volumes,
        tuple((p.at_utc_s, *p.ice_volume_ml) for p in foreseen),
    )
    yield Track(
        text(language, "strip.coverage"),
        0.0,
        100.0,
        tuple(_points(s.history, _lesion)),
        tuple((p.at_utc_s, 100 * p.margin_covered[0], 100 * p.margin_covered[1]) for p in foreseen),
        tuple(_points(s.history, _margin)),
        100.0,
    )
    yield Track(
        text(language, "strip.margin"),
        _LEAST_MM,
        _MOST_MM,
        tuple(_points(s.history, _min_margin)),
        tuple((p.at_utc_s, *p.min_margin_mm) for p in foreseen),
        goal=0.0,
    )


Triple = tuple[float | None, float | None, float | None]


def _points(history: tuple[PastScan, ...], value: Callable[[PastScan], Triple]) -> Iterator[Point]:
    for scan in history:
        middle, low, high = value(scan)
        if middle is not None and math.isfinite(middle):
            low, high = (middle if v is None or not math.isfinite(v) else v for v in (low, high))
            yield Point(_at(scan), middle, low, high, scan.assessment.status is Status.OK)


def _volume(scan: PastScan) -> Triple:
    low, high = scan.volume_ml or (None, None)
    return scan.assessment.ice_volume_ml, low, high


def _percent(value: float | None, interval: tuple[float, float] | None) -> Triple:
    if value is None:
        return None, None, None
    low, high = interval or (value, value)
    return 100.0 * value, 100.0 * low, 100.0 * high


def _lesion(scan: PastScan) -> Triple:
    return _percent(scan.assessment.lesion_covered, scan.assessment.lesion_covered_interval)


def _margin(scan: PastScan) -> Triple:
    return _percent(scan.assessment.margin_covered, scan.assessment.margin_covered_interval)


def _min_margin(scan: PastScan) -> Triple:
    a: Assessment = scan.assessment
    if a.min_margin_mm is None:
        return None, None, None
    reach = SDS_90 * (a.margin_error_mm or 0.0)
    return a.min_margin_mm, a.min_margin_mm - reach, a.min_margin_mm + reach


def _at(scan: PastScan) -> float:
    return scan.assessment.as_of_utc_s


def _phase_name(phase: PhaseBand, language: str) -> str:
    name = text(language, f"strip.{phase.kind.value}")
    return f"{name}{formats.NBSP}{phase.cycle}" if phase.kind is PhaseKind.FREEZE else name
