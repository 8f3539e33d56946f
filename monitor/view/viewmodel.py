"""What the screen says, decided without Qt: Snapshot + now → strings, tones, states, layers.

Times are seconds on the procedure clock (``now_utc_s``), except ``silent_s``: real seconds since
the core's last message, by the view's own monotonic clock. Points are LPS mm.
Invariant: a number is written in the normal tone only when it is proved valid, of the right
patient, and young enough; everything else is "—" or grey with its age.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from monitor.model import Alarm, Assessment, PhaseKind, Priority, Status
from monitor.snapshot import Snapshot
from monitor.view import beginning, formats, readouts
from monitor.view.alarms import AlarmLine, alarm_line
from monitor.view.formats import UNKNOWN
from monitor.view.readouts import Readout
from monitor.view.translations import reason_text, text

# The core speaks four times a second; this long without a word, real time, it is gone.
SILENT_AFTER_S = 1.0
# As decision/safety.py has it, and a little more: this is the second pair of eyes.
WORKER_SILENT_AFTER_S = 4.0
# Before its first word it may take this long to start: an engine may have to be compiled on a busy machine.
# As long as decision/safety.py grants it; a core that has died is told at once.
STARTING_S = 60.0
# Clocks of scanner and monitor agree to this; an image from farther in the future is wrong.
FUTURE_TOLERANCE_S = 5.0


class State(Enum):
    """What the screen is in, the gravest first."""

    VIEW_ERROR = "view_error"
    NO_CORE = "no_core"
    BLOCKED = "blocked"
    CORE_SILENT = "core_silent"
    WAITING = "waiting"
    BASELINE = "baseline"
    INVALID = "invalid"
    STALE = "stale"
    DEGRADED = "degraded"
    NORMAL = "normal"


_BLANK = frozenset({State.VIEW_ERROR, State.NO_CORE, State.BLOCKED})
_WITHOUT_NUMBERS = _BLANK | {State.WAITING, State.BASELINE, State.INVALID}
_GREY = frozenset({State.STALE, State.CORE_SILENT})


@dataclass(frozen=True)
class Layers:
    """What the planes may draw. ``predicted_at_utc_s`` None: no prediction."""

    image: bool
    plan: bool
    ice: bool
    band: bool
    predicted_at_utc_s: float | None


@dataclass(frozen=True)
class ScreenModel:
    """Everything that is written on the screen, and what may be drawn. ``looking``: what the planes have to
    say when they show another time than now: in few words for the small ones, then all of it. ``replayed``:
    nothing of it is live."""

    state: State
    language: str
    patient: str
    phase: str
    clock: str
    clock_of: str
    lesion: Readout
    margin: Readout
    min_margin: Readout
    time_left: Readout
    structure: Readout
    last_ct: Readout
    next_ct: Readout
    simulation: str
    alarm: AlarmLine | None
    frame: str | None
    layers: Layers
    message: tuple[str, ...]
    margin_text: str
    looking: tuple[str, ...] = ()
    replayed: bool = False


@dataclass(frozen=True)
class Inputs:
    """What a screen is made from."""

    snapshot: Snapshot | None
    now_utc_s: float
    silent_s: float
    language: str
    error: str | None = None
    speed: float = 1.0


def screen_model(inputs: Inputs) -> ScreenModel:
    """The screen of one moment."""
    state = screen_state(inputs)
    snapshot, language = inputs.snapshot, inputs.language
    a = None if snapshot is None or state in _BLANK else snapshot.assessment
    shown = None if state in _WITHOUT_NUMBERS else a
    age_s = image_age_s(a, inputs.now_utc_s)
    goal = readouts.margin_text(snapshot, language)
    tone = "old" if state in _GREY else "text"
    ago = text(language, "measured_ago", age=formats.clock(age_s)) if tone == "old" else ""
    clock, clock_of = _phase_clock(snapshot, inputs.now_utc_s, state)
    layers = _layers(inputs, state, shown)
    return ScreenModel(
        state=state,
        language=language,
        patient=(snapshot.patient_label if snapshot else "") or text(language, "no_patient"),
        phase=_phase_text(snapshot, language),
        clock=clock,
        clock_of=clock_of,
        lesion=readouts.coverage(
            shown, "lesion", text(language, "lesion_covered"), tone, ago, language
        ),
        margin=readouts.coverage(
            shown, "margin", text(language, "margin_covered", margin=goal), tone, ago, language
        ),
        min_margin=readouts.min_margin(shown, tone, language),
        time_left=_time_left(inputs, state, shown, goal),
        structure=readouts.structure(shown, tone, language),
        last_ct=Readout(
            "",
            text(language, "last_ct", age=formats.clock(age_s)),
            tone="alarm_medium" if tone == "old" else "text",
        ),
        next_ct=_next_ct(inputs, state),
        simulation=_simulation(snapshot, layers, language),
        alarm=alarm_line(_alarms(inputs, state, age_s), age_s, language),
        frame=_frame(state),
        layers=layers,
        message=_message(inputs, state),
        margin_text=goal,
    )


# --------------------------------------------------------------------------- states


def image_age_s(assessment: Assessment | None, now_utc_s: float) -> float | None:
    """Seconds since the scan was acquired; NaN when its time is impossible, None without a scan."""
    if assessment is None:
        return None
    age_s = now_utc_s - assessment.as_of_utc_s
    if not age_s >= -FUTURE_TOLERANCE_S or not math.isfinite(age_s):
        return math.nan
    return max(age_s, 0.0)


def screen_state(inputs: Inputs) -> State:
    """The gravest state that holds."""
    s = inputs.snapshot
    if inputs.error is not None:
        return State.VIEW_ERROR
    if s is None:
        return State.NO_CORE
    if s.blocked:
        return State.BLOCKED
    if not inputs.silent_s <= SILENT_AFTER_S:
        return State.CORE_SILENT
    if s.baseline_id is None:
        return State.WAITING
    return _measured_state(inputs, s, s.assessment)


def _measured_state(inputs: Inputs, s: Snapshot, a: Assessment | None) -> State:
    if a is None or a.volume_id is None or a.volume_id == s.baseline_id:
        return State.BASELINE
    if a.status not in (Status.OK, Status.DEGRADED):
        return State.INVALID
    if _stale(inputs, s, a):
        return State.STALE
    return State.NORMAL if a.status is Status.OK else State.DEGRADED


def _stale(inputs: Inputs, s: Snapshot, a: Assessment) -> bool:
    """Old while freezing, of an impossible time, or from a core whose worker hangs."""
    age_s = image_age_s(a, inputs.now_utc_s)
    impossible = age_s is None or math.isnan(age_s)
    told = any(a.code in ("core_silent", "image_stale") and not a.latched for a in s.alarms)
    return impossible or told or worker_hangs(s, inputs.speed) or _old(s, age_s)


def _old(s: Snapshot, age_s: float | None) -> bool:
    """Older, while freezing, than the case allows; an unknown age is."""
    return s.phase.kind is PhaseKind.FREEZE and not (age_s is not None and age_s <= s.stale_after_s)


def worker_hangs(s: Snapshot, speed: float) -> bool:
    """The core still speaks but its worker had not answered for too long (real time)."""
    return not (s.now_utc_s - s.heartbeat_utc_s) / speed <= WORKER_SILENT_AFTER_S


def _frame(state: State) -> str | None:
    if state in (State.BLOCKED, State.CORE_SILENT, State.VIEW_ERROR):
        return "alarm_high"
    return "alarm_medium" if state is State.STALE else None


def _layers(inputs: Inputs, state: State, shown: Assessment | None) -> Layers:
    s = inputs.snapshot
    if s is None or state in _BLANK:
        return Layers(False, False, False, False, None)
    ice = shown is not None and s.ice_sdf is not None
    degraded = shown is not None and shown.status is not Status.OK
    return Layers(
        True,
        True,
        ice,
        ice and degraded and _has_band(s),
        _predicted_at(s, state, inputs.now_utc_s),
    )


def _has_band(s: Snapshot) -> bool:
    return s.ice_edge_error_mm > 0 or None not in (s.ice_inner_sdf, s.ice_outer_sdf)


def _predicted_at(s: Snapshot, state: State, now_utc_s: float) -> float | None:
    """When the prediction is for: now, if the forecast reaches it and the needles run."""
    times = s.forecast_times_utc_s
    if state is State.CORE_SILENT or s.forecast_temperature is None or not times:
        return None
    if s.phase.kind not in (PhaseKind.FREEZE, PhaseKind.THAW):
        return None
    return now_utc_s if times[0] - FUTURE_TOLERANCE_S <= now_utc_s <= times[-1] else None


def _message(inputs: Inputs, state: State) -> tuple[str, ...]:
    """What stands in the axial plane: a title, then smaller lines."""
    language, s = inputs.language, inputs.snapshot
    if state in (State.NO_CORE, State.CORE_SILENT, State.VIEW_ERROR):
        return (text(language, f"state.{state.value}"),)
    if state is State.BLOCKED and s is not None:
        return (
            text(language, "state.blocked"),
            *_block_ids(s.alarms, language),
            text(language, "state.blocked.hint"),
        )
    if state is State.WAITING:
        return beginning.without_baseline(s, language)
    if state is State.BASELINE:
        return beginning.with_baseline(s, language)
    if s is not None and s.assessment is not None and state in (State.INVALID, State.DEGRADED):
        title = (text(language, "state.invalid"),) if state is State.INVALID else ()
        return (*title, *reasons(s.assessment, language)[:3])
    return ()


def _block_ids(alarms: tuple[Alarm, ...], language: str) -> tuple[str, ...]:
    for alarm in alarms:
        if "expected" in alarm.params and "received" in alarm.params:
            return tuple(text(language, "state.blocked.patient", **alarm.params).split("\n"))
    return ()


def reasons(assessment: Assessment, language: str) -> tuple[str, ...]:
    """Why the assessment is not OK, translated, each once."""
    said = [reason_text(language, r.code, r.text) for r in assessment.reasons]
    return tuple(dict.fromkeys(said)) or (text(language, "reason.unknown"),)


# --------------------------------------------------------------------------- header


def _phase_text(s: Snapshot | None, language: str) -> str:
    if s is None:
        return ""
    name = text(language, f"phase.{s.phase.kind.value}")
    if s.phase.cycle < 1 or s.phase.kind is PhaseKind.ENDED:
        return name
    return f"{text(language, 'cycle', cycle=str(s.phase.cycle))} · {name}"


def _phase_clock(s: Snapshot | None, now_utc_s: float, state: State) -> tuple[str, str]:
    """Time within the phase, and the phase's length."""
    if s is None or state in (State.CORE_SILENT, State.VIEW_ERROR) or s.phase.started_utc_s is None:
        return UNKNOWN, ""
    if s.phase.kind not in (PhaseKind.FREEZE, PhaseKind.THAW):
        return UNKNOWN, ""
    of = (
        ""
        if s.phase.ends_utc_s is None
        else formats.clock(s.phase.ends_utc_s - s.phase.started_utc_s)
    )
    return formats.clock(now_utc_s - s.phase.started_utc_s), of


# --------------------------------------------------------------------------- readouts


def _time_left(inputs: Inputs, state: State, shown: Assessment | None, goal: str) -> Readout:
    s = inputs.snapshot
    freezing = s is not None and s.phase.kind is PhaseKind.FREEZE
    fresh = None if state in _GREY else shown
    return readouts.time_left(fresh, freezing, inputs.now_utc_s, goal, inputs.language)


def _next_ct(inputs: Inputs, state: State) -> Readout:
    s = inputs.snapshot
    told = None if s is None or state in _BLANK | {State.CORE_SILENT} else s.next_scan
    return readouts.next_ct(told, inputs.now_utc_s, inputs.language)


def _simulation(s: Snapshot | None, layers: Layers, language: str) -> str:
    """The prediction's own clock."""
    if s is None or layers.predicted_at_utc_s is None:
        return ""
    return text(language, "simulation", clock=after_ct(s, layers.predicted_at_utc_s, language))


def after_ct(s: Snapshot, at_utc_s: float, language: str) -> str:
    """How far a prediction has run on from the scan it started from. Until the one from the scan that is
    shown comes, that is an earlier one, and said."""
    began_utc_s, shown = s.forecast_times_utc_s[0], s.assessment
    earlier = shown is not None and began_utc_s < shown.as_of_utc_s - FUTURE_TOLERANCE_S
    ct = text(language, "ct.earlier") if earlier else "CT"
    return f"{ct} + {formats.clock(max(0.0, at_utc_s - began_utc_s))}".replace(" ", formats.NBSP)


# --------------------------------------------------------------------------- alarms of the view


def _alarms(inputs: Inputs, state: State, age_s: float | None) -> list[Alarm]:
    """The core's alarms, and those that the view raises: alone, or as a second pair of eyes."""
    now = inputs.now_utc_s
    alarms = list(inputs.snapshot.alarms) if inputs.snapshot else []
    codes = {a.code for a in alarms if not a.latched}

    def add(code: str, priority: Priority, **params: str) -> None:
        if code not in codes:
            alarms.append(Alarm(code, priority, now, params))

    if inputs.error is not None:
        add("view_error", Priority.HIGH, error=inputs.error)
    patience_s = STARTING_S if inputs.snapshot is None else SILENT_AFTER_S
    hangs = inputs.snapshot is not None and worker_hangs(inputs.snapshot, inputs.speed)
    if hangs or not inputs.silent_s <= patience_s:
        add("core_silent", Priority.HIGH)
    if (
        inputs.snapshot is not None
        and inputs.snapshot.blocked
        and not codes & {"patient_mismatch", "frame_of_reference_mismatch"}
    ):
        add("blocked", Priority.HIGH)
    if age_s is not None and math.isnan(age_s):
        add("image_time_wrong", Priority.MEDIUM)
    elif state is State.STALE and inputs.snapshot is not None and _old(inputs.snapshot, age_s):
        add("image_stale", Priority.MEDIUM)
    return alarms
