"""Which alarms stand, from the last results and the clock. Pure: no GPU, no Qt, no clock of its own.

Seconds (UTC, procedure clock), mm. Every rule asks "is it proved fine?" and negates, so that NaN,
None, stale and a clock that jumped back all alarm.
Invariant: the same facts give the same alarms; nothing is remembered here. What must outlive its
cause until an operator acts (a wrong patient) is a fact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from monitor.model import (
    Alarm,
    Assessment,
    Forecast,
    Phase,
    PhaseKind,
    Priority,
    Status,
    StructureDistance,
)

# The core beats several times a second; this long without a beat it hangs.
SILENT_AFTER_S = 3.0
# A scan may be stamped this far ahead by a clock that is not quite ours.
_CLOCK_SLACK_S = 5.0
# Ice that may reach a structure before the next scan has been looked at is said now.
AHEAD_S = 300.0
# So long before a phase ends by itself.
_ENDING_S = 30.0
# Thawing an adrenal lets its hormones into the blood (clinical.md): the pressure may surge.
_SURGING_ORGAN = "adrenal"


@dataclass(frozen=True)
class Block:
    """Images of another patient or frame of reference came; the screen stays blank until cleared."""

    code: str
    expected: str
    received: str
    since_utc_s: float


@dataclass(frozen=True)
class Facts:
    """All that alarms depend on. ``heartbeat_age_s`` is real time since the worker last answered;
    ``structures`` are the distances last known (``last_known``)."""

    phase: Phase
    baseline_id: str | None
    needles_known: bool
    assessment: Assessment | None
    structures: tuple[StructureDistance, ...]
    block: Block | None
    stale_after_s: float
    heartbeat_age_s: float
    intake_alive: bool
    record_ok: bool
    clock_offset_s: float | None
    fault: str | None = None
    forecast: Forecast | None = None
    organ: str = ""


# Scanner and monitor clocks further apart than this are said to differ.
CLOCK_OFFSET_LIMIT_S = 30.0

_Rule = Callable[[Facts, float], Iterator[tuple[str, Priority, dict[str, str]]]]


def last_known(
    before: tuple[StructureDistance, ...], a: Assessment
) -> tuple[StructureDistance, ...]:
    """The distances of ``a``; where it measured nothing, what was known ``before``: ice that can no
    longer be measured has not gone away. A structure that the plan no longer has is dropped."""
    if a.status is not Status.INVALID:
        return a.structures
    known = {s.name: s for s in before}
    return tuple(
        replace(known[s.name], limit_mm=s.limit_mm) for s in a.structures if s.name in known
    )


def standing_alarms(
    facts: Facts, now_utc_s: float, before: tuple[Alarm, ...] = ()
) -> tuple[Alarm, ...]:
    """The alarms that stand now, worst first; one that stood ``before`` keeps its start."""
    since = {_key(a.code, a.params): a.since_utc_s for a in before}
    order = list(Priority)
    alarms = [
        Alarm(code, priority, since.get(_key(code, params), now_utc_s), params, code in _LATCHED)
        for rule in _RULES
        for code, priority, params in rule(facts, now_utc_s)
    ]
    return tuple(sorted(alarms, key=lambda a: order.index(a.priority)))


def alarm_key(alarm: Alarm) -> tuple[str, str]:
    """What makes two alarms the same one: the code, and for a structure its name."""
    return _key(alarm.code, alarm.params)


def _key(code: str, params: object) -> tuple[str, str]:
    return code, str(params.get("name", "")) if isinstance(params, dict) else ""


_LATCHED = frozenset({"patient_mismatch", "frame_of_reference_mismatch"})


def _blocked(f: Facts, now: float) -> Iterator[tuple[str, Priority, dict[str, str]]]:
    if f.block:
        yield (
            f.block.code,
            Priority.HIGH,
            {"expected": f.block.expected, "received": f.block.received},
        )


def _core(f: Facts, now: float) -> Iterator[tuple[str, Priority, dict[str, str]]]:
    if not f.heartbeat_age_s <= SILENT_AFTER_S:
        yield "core_silent", Priority.HIGH, {}
    if f.fault is not None:
        yield "core_fault", Priority.HIGH, {"error": f.fault}
    if not f.intake_alive:
        yield "intake_dead", Priority.HIGH, {}
    if not f.record_ok:
        yield "record_failing", Priority.MEDIUM, {}


def _set_up(f: Facts, now: float) -> Iterator[tuple[str, Priority, dict[str, str]]]:
    if f.baseline_id is None:
        yield "no_baseline", Priority.MEDIUM if _active(f) else Priority.LOW, {}
    if not f.needles_known:
        yield "needles_unknown", Priority.MEDIUM if _active(f) else Priority.LOW, {}
    if f.clock_offset_s is not None and not abs(f.clock_offset_s) <= CLOCK_OFFSET_LIMIT_S:
        yield "clock_offset", Priority.LOW, {"seconds": f"{f.clock_offset_s:.0f}"}


def _stale(f: Facts, now: float) -> Iterator[tuple[str, Priority, dict[str, str]]]:
    """While freezing, the newest image must be young; before there is any, the freeze itself."""
    if f.phase.kind is not PhaseKind.FREEZE:
        return
    started = f.phase.started_utc_s
    newest = f.assessment.as_of_utc_s if f.assessment else started
    age_s = math.nan if newest is None else now - newest
    if not -_CLOCK_SLACK_S <= age_s <= f.stale_after_s:
        yield "image_stale", Priority.MEDIUM, {"age_s": f"{age_s:.0f}"}


def _measurement(f: Facts, now: float) -> Iterator[tuple[str, Priority, dict[str, str]]]:
    a = _measured(f)
    if a and a.status is not Status.OK and f.needles_known:
        priority = Priority.MEDIUM if a.status is Status.INVALID else Priority.LOW
        yield (
            "segmentation_poor",
            priority,
            {"reason": a.reasons[-1].code if a.reasons else "unknown"},
        )


def _structures(f: Facts, now: float) -> Iterator[tuple[str, Priority, dict[str, str]]]:
    """Whatever the phase: ice does not melt because the protocol is over. Unknown is not far."""
    for s in f.structures:
        if s.limit_mm is not None and not s.room_mm >= 0.0:
            params = {
                "name": s.name,
                "distance_mm": _floored_mm(s.distance_mm),
                "at_least_mm": _floored_mm(s.at_least_mm),
                "limit_mm": f"{s.limit_mm:.1f}",
            }
            yield "structure_near", Priority.HIGH, params


def _floored_mm(value: float | None) -> str:
    """To 0.1 mm, never rounded to farther than it is."""
    if value is None or not math.isfinite(value):
        return "?"
    return f"{math.floor(10.0 * value + 1e-9) / 10.0:.1f}"


def _margin(f: Facts, now: float) -> Iterator[tuple[str, Priority, dict[str, str]]]:
    a = f.assessment
    if a and a.status is Status.OK and a.margin_covered == 1.0:
        yield "margin_reached", Priority.LOW, {"margin_mm": f"{a.margin_goal_mm:g}"}


def _ahead(f: Facts, now: float) -> Iterator[tuple[str, Priority, dict[str, str]]]:
    """What the forecast of a freeze has coming while the needles freeze. Without one nothing is said
    here: that the CT is old, or poor, is said elsewhere."""
    forecast = f.forecast
    if forecast is None or not forecast.kind is f.phase.kind is PhaseKind.FREEZE:
        return
    for s in forecast.structures:
        if s.time_to_contact_s is None:
            continue
        left_s = s.time_to_contact_s[0] - (now - forecast.start_utc_s)
        if not left_s > AHEAD_S:
            yield "structure_ahead", Priority.MEDIUM, {"name": s.name, "minutes": _minutes(left_s)}
    for reason in forecast.reasons:
        if reason.code in _FORECAST_ALARMS:
            yield reason.code, _FORECAST_ALARMS[reason.code], {}


_FORECAST_ALARMS = {
    "needle_failing": Priority.HIGH,
    "will_not_be_covered": Priority.MEDIUM,
    "forecast_disagrees": Priority.LOW,
}


def _minutes(left_s: float) -> str:
    """Whole minutes, rounded down; never more than there are."""
    return f"{max(math.floor(left_s / 60.0), 0)}" if math.isfinite(left_s) else "?"


def _protocol(f: Facts, now: float) -> Iterator[tuple[str, Priority, dict[str, str]]]:
    """A step that is due, and what to watch in this one."""
    ends_utc_s = f.phase.ends_utc_s
    if _active(f) and ends_utc_s is not None and not ends_utc_s - now > _ENDING_S:
        yield "phase_ending", Priority.LOW, {"seconds": f"{max(ends_utc_s - now, 0.0):.0f}"}
    if f.phase.kind is PhaseKind.THAW and f.organ == _SURGING_ORGAN:
        yield "adrenal_thaw", Priority.MEDIUM, {}


def _measured(f: Facts) -> Assessment | None:
    """The assessment, unless it is the baseline's, in which there is nothing to measure."""
    baseline = f.assessment is None or f.assessment.volume_id == f.baseline_id
    return None if baseline else f.assessment


def _active(f: Facts) -> bool:
    return f.phase.kind in (PhaseKind.FREEZE, PhaseKind.THAW)


_RULES: tuple[_Rule, ...] = (
    _blocked,
    _core,
    _set_up,
    _stale,
    _measurement,
    _structures,
    _ahead,
    _protocol,
    _margin,
)
