"""What is wrong now, from the last results and the clock. Pure: no GPU, no Qt, no clock of its own.

Seconds (UTC, procedure clock), mm. Every rule asks "is it proved fine?" and negates, so that NaN,
None, stale and a clock that jumped all alarm; a rule that fails is an alarm of its own.
Invariant: the same facts give the same causes; what becomes of them is ``alarm_states``' business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from monitor.decision.alarm_states import Cause
from monitor.decision.not_a_number import first_nan
from monitor.forecast_values import Forecast, StructureForecast
from monitor.model import Assessment, Phase, PhaseKind, Priority, Status, StructureDistance

# The core beats several times a second; this long without a beat it hangs.
SILENT_AFTER_S = 3.0
# Work that takes long is announced by a beat ahead of time, by at most this.
GRACE_S = 60.0
# Scanner and monitor clocks further apart than this are said to differ.
CLOCK_OFFSET_LIMIT_S = 30.0
# No time zone, and no clock that somebody looks at, is further off: the first scan may be an old one.
CLOCK_FAR_OFF_S = 14.0 * 3600.0
# A scan may be stamped this far ahead by a clock that is not quite ours.
CLOCK_SLACK_S = 5.0
# The machine's wall clock is trimmed by less in hours; one that was set, or a machine that slept, is
# off by more, and then the scanner's stamps are no longer on our clock.
_CLOCK_JUMP_S = 5.0
# An old image that was acknowledged is said again after so much longer.
_OLDER_S = 120.0
# Ice that may reach a structure before the next scan has been looked at is said now.
AHEAD_S = 300.0
# From a freeze's beginning, or from a scan received, to its forecast: 4.1 s at worst on two free cores
# (docs/forecast.md), and a machine may be several times busier. Later than this there is none.
FORECAST_NEEDS_S = 60.0
# Two times this close are the same one, reckoned differently.
_SAME_S = 0.01
# A share of the members that is not to be ignored: the lower end of all intervals.
_LIKELY = 0.1
# So long before a phase ends by itself.
_ENDING_S = 30.0
# Thawing an adrenal lets its hormones into the blood (clinical.md): the pressure may surge.
_SURGING_ORGAN = "adrenal"

_HIGH, _MEDIUM, _LOW = Priority.HIGH, Priority.MEDIUM, Priority.LOW

# Every alarm there is: its priority, or (when less grave, when graver). docs/decision.md explains them.
ALARMS: Mapping[str, tuple[Priority, ...]] = {
    "patient_mismatch": (_HIGH,),
    "frame_of_reference_mismatch": (_HIGH,),
    "core_silent": (_HIGH,),
    "core_fault": (_HIGH,),
    "not_a_number": (_HIGH,),
    "intake_dead": (_HIGH,),
    "restarted": (_HIGH,),
    "record_failing": (_MEDIUM,),
    "record_damaged": (_MEDIUM,),
    "scanner_refused": (_MEDIUM,),
    "images_refused": (_MEDIUM,),
    "scan_unusable": (_MEDIUM,),
    "no_baseline": (_LOW, _MEDIUM),
    "baseline_frozen": (_MEDIUM,),
    "ice_unannounced": (_MEDIUM,),
    "no_plan": (_LOW, _MEDIUM),
    "needles_unknown": (_LOW, _MEDIUM),
    "clock_offset": (_LOW, _MEDIUM),
    "clock_jump": (_MEDIUM,),
    "image_time_wrong": (_MEDIUM,),
    "image_stale": (_MEDIUM,),
    "registration_poor": (_LOW, _MEDIUM),
    "segmentation_poor": (_LOW, _MEDIUM),
    "structure_near": (_HIGH,),
    "structure_ahead": (_MEDIUM,),
    "forecast_missing": (_MEDIUM,),
    "needle_failing": (_HIGH,),
    "will_not_be_covered": (_MEDIUM,),
    "forecast_disagrees": (_LOW,),
    "phase_ending": (_LOW,),
    "adrenal_thaw": (_MEDIUM,),
    "margin_reached": (_LOW,),
}
# An operator ended these by clearing the block: there is nothing left to acknowledge.
_CLEARED_BY_HAND = frozenset({"patient_mismatch", "frame_of_reference_mismatch"})
# Why a measurement is not OK: these say that scan and baseline do not lie on each other.
_REGISTRATION = frozenset(
    {"registration_failed", "registration_doubtful", "scan_elsewhere", "baseline_mismatch"}
)
# Of the baseline, and with an alarm of its own.
_FROZEN_BEFORE = "baseline_frozen"
_FORECAST = ("needle_failing", "will_not_be_covered", "forecast_disagrees")


@dataclass(frozen=True)
class Block:
    """Images of another patient or frame of reference came; the screen stays blank until cleared."""

    code: str
    expected: str
    received: str
    since_utc_s: float


@dataclass(frozen=True)
class Facts:
    """All that alarms depend on. ``heartbeat_age_s`` is real time since the worker last answered (less
    than 0 while it has announced long work); ``structures`` are the distances last known
    (``last_known``); ``planned``: the case says what is to be frozen; ``clock_jump_s`` is by how much the
    machine's wall clock has run away from its monotonic one; ``clock_offset_s`` is None before the first
    volume; ``shut_out``: peers that are expected and were turned away when they called last, each with a
    reason; ``not_kept``: those of which the last images could not be kept, likewise; ``unused``: of images
    that came since the last volume and are in none, why, and from when on that is said; ``received_utc_s`` is
    when the last slice of the scan that was assessed came. ``down_s``: so long nobody watched, because the
    program was being started again; 0 when it was not. ``record_damage``: how
    much of the record could not be read when it was gone on with."""

    phase: Phase
    baseline_id: str | None
    planned: bool
    needles_known: bool
    assessment: Assessment | None
    received_utc_s: float | None
    structures: tuple[StructureDistance, ...]
    block: Block | None
    stale_after_s: float
    heartbeat_age_s: float
    intake_alive: bool
    record_ok: bool
    clock_offset_s: float | None
    clock_jump_s: float
    fault: str | None
    shut_out: tuple[tuple[str, str], ...]
    not_kept: tuple[tuple[str, str], ...]
    unused: tuple[str, float] | None
    forecast: Forecast | None
    organ: str
    down_s: float
    record_damage: int


_Rule = Callable[[Facts, float], Iterator[Cause]]


def latches(code: str) -> bool:
    """Whether an alarm of this code stays until it is acknowledged when its cause goes by itself:
    one of high priority must not come and go unseen."""
    return Priority.HIGH in ALARMS[code] and code not in _CLEARED_BY_HAND


def last_known(
    before: tuple[StructureDistance, ...], a: Assessment
) -> tuple[StructureDistance, ...]:
    """The distances of ``a``; where it measured nothing, what was known ``before``: ice that can no
    longer be measured has not gone away, and what was never measured is not far. A structure that the
    plan no longer has is dropped."""
    if a.status is not Status.INVALID:
        return a.structures
    known = {s.name: s for s in before}
    return tuple(replace(known.get(s.name, s), limit_mm=s.limit_mm) for s in a.structures)


def causes(facts: Facts, now_utc_s: float) -> tuple[Cause, ...]:
    """Everything that is wrong now. Never raises: a rule that fails silences only itself, and not
    without saying so."""
    found: list[Cause] = []
    for rule in _RULES:
        try:
            found.extend(rule(facts, now_utc_s))
        except Exception as error:
            what = f"{type(error).__name__} in the check {rule.__name__}"
            found.append(_cause("core_fault", what, error=what))
    return tuple(found)


def _cause(
    code: str, about: str = "", level: float = 0.0, grave: bool = False, **params: str
) -> Cause:
    level = math.inf if math.isnan(level) else level
    return Cause(code, ALARMS[code][grave], params, about, level, latches(code))


def _blocked(f: Facts, now: float) -> Iterator[Cause]:
    b = f.block
    if b is not None:
        yield _cause(b.code, f"{b.since_utc_s}", expected=b.expected, received=b.received)


def _core(f: Facts, now: float) -> Iterator[Cause]:
    if not -GRACE_S <= f.heartbeat_age_s <= SILENT_AFTER_S:
        yield _cause("core_silent")
    if f.fault is not None:
        yield _cause("core_fault", f.fault, error=f.fault)
    if not f.intake_alive:
        yield _cause("intake_dead")
    if f.down_s != 0.0:
        yield _cause("restarted", seconds=_rounded(f.down_s))
    if not f.record_ok:
        yield _cause("record_failing")
    if f.record_damage != 0:
        yield _cause("record_damaged", count=str(f.record_damage))


def _scanner(f: Facts, now: float) -> Iterator[Cause]:
    """Whose images cannot come: an old CT would tell of it only minutes later."""
    for peer, reason in f.shut_out:
        yield _cause("scanner_refused", f"{peer} {reason}", peer=peer, reason=reason)
    for peer, reason in f.not_kept:
        yield _cause("images_refused", f"{peer} {reason}", peer=peer, reason=reason)
    if f.unused is not None and not now < f.unused[1]:
        yield _cause("scan_unusable", f.unused[0], reason=f.unused[0])


def _numbers(f: Facts, now: float) -> Iterator[Cause]:
    """The last net: whatever a rule below makes of a NaN, that there is one is a fault."""
    where = first_nan(f, "facts") or first_nan(now, "now")
    if where is not None:
        yield _cause("not_a_number", where=where)


def _set_up(f: Facts, now: float) -> Iterator[Cause]:
    if f.baseline_id is None:
        yield _cause("no_baseline", grave=_active(f))
    if not f.planned:
        yield _cause("no_plan", grave=_active(f))
    if not f.needles_known:
        yield _cause("needles_unknown", grave=_active(f))


def _begun(f: Facts, now: float) -> Iterator[Cause]:
    """What was frozen before the freeze was told of: in the baseline it is never counted, and in a scan
    nothing is forecast of it."""
    codes = () if f.assessment is None else tuple(r.code for r in f.assessment.reasons)
    if _FROZEN_BEFORE in codes:
        yield _cause(_FROZEN_BEFORE)
    a = _measured(f)
    waiting = f.phase.kind is PhaseKind.WAITING and f.planned
    if waiting and a is not None and a.ice_volume_ml != 0.0:
        yield _cause("ice_unannounced")


def _clocks(f: Facts, now: float) -> Iterator[Cause]:
    offset_s = f.clock_offset_s
    if offset_s is None and f.baseline_id is not None:
        offset_s = math.nan
    if offset_s is not None and not abs(offset_s) <= CLOCK_OFFSET_LIMIT_S:
        far_off = not abs(offset_s) <= CLOCK_FAR_OFF_S
        yield _cause("clock_offset", grave=far_off, seconds=_rounded(offset_s))
    if not abs(f.clock_jump_s) <= _CLOCK_JUMP_S:
        level = abs(f.clock_jump_s) / _CLOCK_JUMP_S
        yield _cause("clock_jump", level=level, seconds=_rounded(f.clock_jump_s))


def _image(f: Facts, now: float) -> Iterator[Cause]:
    """The newest image's time must be possible, and while freezing young; before there is any, the
    freeze itself."""
    newest = f.assessment.as_of_utc_s if f.assessment else f.phase.started_utc_s
    age_s = math.nan if newest is None else now - newest
    possible = -CLOCK_SLACK_S <= age_s < math.inf
    if f.assessment is not None and not possible:
        yield _cause("image_time_wrong")
    elif f.phase.kind is PhaseKind.FREEZE and not (possible and age_s <= f.stale_after_s):
        yield _cause("image_stale", level=age_s / _OLDER_S, age_s=_rounded(age_s))


def _measurement(f: Facts, now: float) -> Iterator[Cause]:
    """Why the measurement is not to be trusted: the match with the baseline, and all else, each by its
    last reason."""
    a = _measured(f)
    if a is None or a.status is Status.OK or not (f.needles_known and f.planned):
        return
    invalid = a.status is not Status.DEGRADED
    codes = [r.code for r in a.reasons] or ["unknown"]
    for alarm, said in (
        ("registration_poor", [c for c in codes if c in _REGISTRATION]),
        ("segmentation_poor", [c for c in codes if c not in _REGISTRATION and c != _FROZEN_BEFORE]),
    ):
        if said:
            yield _cause(alarm, said[-1], grave=invalid, reason=said[-1])


def _structures(f: Facts, now: float) -> Iterator[Cause]:
    """Whatever the phase: ice does not melt because the protocol is over. Unknown is not far. One
    millimetre nearer than when it was acknowledged is new: about what two scans can tell apart."""
    for s in f.structures:
        if not s.room_mm >= 0.0:
            yield _cause(
                "structure_near",
                s.name,
                level=-s.room_mm,
                name=s.name,
                distance_mm=_floored_mm(s.distance_mm),
                at_least_mm=_floored_mm(s.at_least_mm),
                limit_mm=_floored_mm(s.limit_mm),
            )


def _ahead(f: Facts, now: float) -> Iterator[Cause]:
    """What the forecast of a freeze has coming while the needles freeze: a structure reached, or its limit
    passed. Without one nothing is said here: that the CT is old, or poor, is said elsewhere. A time that
    has come is worse than one that will."""
    forecast = f.forecast
    if forecast is None or not forecast.kind is f.phase.kind is PhaseKind.FREEZE:
        return
    for s in forecast.structures:
        left_s = _reached_s(s, forecast) - (now - forecast.start_utc_s)
        if not left_s > AHEAD_S:
            due = float(not left_s > 0.0)
            yield _cause("structure_ahead", s.name, due, name=s.name, minutes=_minutes(left_s))
    for reason in forecast.reasons:
        if reason.code in _FORECAST:
            yield _cause(reason.code)


def _foreseen(f: Facts, now: float) -> Iterator[Cause]:
    """While the needles freeze there is a forecast of this freeze, from the last scan on, that reaches now.
    Where nothing can be forecast, that there is no baseline or plan is said elsewhere."""
    if f.phase.kind is not PhaseKind.FREEZE or f.baseline_id is None or not f.planned:
        return
    changed = (f.phase.started_utc_s, f.received_utc_s)
    ages_s = [now - t for t in changed if t is not None]
    coming = any(-CLOCK_SLACK_S <= age_s <= FORECAST_NEEDS_S for age_s in ages_s)
    if not (coming or _reaches(f, now)):
        yield _cause("forecast_missing")


def _reaches(f: Facts, now: float) -> bool:
    """Whether the forecast is of the phase that runs and of the last scan, and holds now."""
    forecast, phase = f.forecast, f.phase
    if forecast is None:
        return False
    began_utc_s, of_utc_s = phase.started_utc_s, forecast.phase_started_utc_s
    scan_utc_s = -math.inf if f.assessment is None else f.assessment.as_of_utc_s
    return (
        forecast.kind is phase.kind
        and began_utc_s is not None
        and of_utc_s is not None
        and abs(began_utc_s - of_utc_s) <= _SAME_S
        and forecast.start_utc_s >= scan_utc_s - _SAME_S
        and forecast.start_utc_s - CLOCK_SLACK_S <= now <= forecast.times_utc_s[-1]
    )


def _reached_s(s: StructureForecast, forecast: Forecast) -> float:
    """From the forecast's start to when one member in ten is nearer than the limit, or touches; inf if
    that is not foreseen, NaN if nobody knows."""
    contact_s = math.inf if s.time_to_contact_s is None else s.time_to_contact_s[0]
    shares = s.infringed or (0.0,) * len(forecast.times_utc_s)  # of a structure without a limit
    pairs = zip(forecast.times_utc_s, shares, strict=True)
    passed = [t - forecast.start_utc_s for t, share in pairs if not share < _LIKELY]
    limit_s = min(passed, default=math.inf)
    return math.nan if math.isnan(contact_s) else min(limit_s, contact_s)


def _protocol(f: Facts, now: float) -> Iterator[Cause]:
    """A step that is due, and what to watch in this one."""
    left_s = math.nan if f.phase.ends_utc_s is None else f.phase.ends_utc_s - now
    if _active(f) and not left_s > _ENDING_S:
        yield _cause("phase_ending", seconds=_rounded(max(left_s, 0)))
    if f.phase.kind in (PhaseKind.THAW, PhaseKind.ENDED) and f.organ == _SURGING_ORGAN:
        yield _cause("adrenal_thaw")


def _margin(f: Facts, now: float) -> Iterator[Cause]:
    """Good news: only where everything it rests on is proved, by the inner bound of the measured ice, by an
    image that is young whatever the phase, and with no graver word on any of it."""
    a = _measured(f)
    if a is None or a.status is not Status.OK:
        return
    if not now - a.as_of_utc_s <= f.stale_after_s:
        return
    if any(c.priority is not _LOW for rule in _RESTS_ON for c in rule(f, now)):
        return
    if _surely(a.lesion_covered_interval) and _surely(a.margin_covered_interval):
        yield _cause("margin_reached", margin_mm=f"{a.margin_goal_mm:g}")


def _surely(interval: tuple[float, float] | None) -> bool:
    """Whether all is covered even at the lower end."""
    return interval is not None and interval[0] == 1.0


def _measured(f: Facts) -> Assessment | None:
    """The assessment, unless it is the baseline's, in which there is nothing to measure."""
    baseline = f.assessment is None or f.assessment.volume_id == f.baseline_id
    return None if baseline else f.assessment


def _active(f: Facts) -> bool:
    return f.phase.kind in (PhaseKind.FREEZE, PhaseKind.THAW)


def _floored_mm(value: float | None) -> str:
    """To 0.1 mm, never rounded to farther than it is."""
    if value is None or not math.isfinite(value):
        return "?"
    return f"{math.floor(10.0 * value + 1e-9) / 10.0:.1f}"


def _minutes(left_s: float) -> str:
    """Whole minutes, rounded down; never more than there are."""
    return f"{max(math.floor(left_s / 60.0), 0)}" if math.isfinite(left_s) else "?"


def _rounded(seconds: float) -> str:
    return f"{seconds:.0f}" if math.isfinite(seconds) else "?"


# What good news rests on.
_RESTS_ON: tuple[_Rule, ...] = (
    _blocked,
    _core,
    _numbers,
    _set_up,
    _begun,
    _clocks,
    _image,
    _measurement,
)
_RULES: tuple[_Rule, ...] = (
    *_RESTS_ON,
    _scanner,
    _structures,
    _foreseen,
    _ahead,
    _protocol,
    _margin,
)
