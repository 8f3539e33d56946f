"""What a procedure says at a terminal: one plain line for each thing an operator wants to know.

Fractions 0..1, mm; English, in characters that can be searched for. Invariants: as on the screen, no
number is rounded towards the safe side; no line holds patient data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from monitor.model import Alarm, Priority
from monitor.view import formats
from monitor.view.alarms import alarm_line

_LANGUAGE = "en"
# Their own sentences name the patients.
_BLOCKING = frozenset({"patient_mismatch", "frame_of_reference_mismatch"})
_Fields = Mapping[str, Any]


def line(kind: str, fields: _Fields) -> str | None:
    """The line of a journal entry; None for what only programs need."""
    made = _LINES.get(kind)
    said = None if made is None else made(fields)
    return None if said is None else plain(said)


def plain(text: str) -> str:
    """Typography that a terminal, grep or a spreadsheet takes for what it means."""
    return text.replace(formats.NBSP, " ").replace(formats.MINUS, "-")


# ------------------------------------------------------------------ intake


def _listening(f: _Fields) -> str:
    return f"Listening: {f['ae_title']}@{f['address']}:{f['port']}"


def _volume(f: _Fields) -> str:
    return f"{f['volume_id']}: {f['slices']} slices received{_trust(f)}"


def _rejected(f: _Fields) -> str:
    return f"Rejected: {f['reason']}: {f['path']}"


def _trust(f: _Fields) -> str:
    """Nothing when all is well, else the status and every reason."""
    if f["status"] == "OK":
        return ""
    return f"; {f['status']}: {_reasons(f)}"


def _reasons(f: _Fields) -> str:
    return " ".join(r["text"] for r in f["reasons"])


# ------------------------------------------------------------------ results


def _assessment(f: _Fields) -> str:
    if f["lesion_covered"] is None:
        return f"{f['volume_id']}: no measurement: {_reasons(f)}"
    return (
        f"{f['volume_id']}: lesion covered {formats.percent(f['lesion_covered'])}, with "
        f"{f['margin_goal_mm']:g} mm margin {formats.percent(f['margin_covered'])}, "
        f"minimal margin {_margin(f)}{_time_left(f)}{_trust(f)}"
    )


def _forecast(f: _Fields) -> str | None:
    """When to scan next, and what the cold has done: by the model, never measured."""
    due, start = f["next_scan"], datetime.fromisoformat(f["start"])
    if due is None:
        return None

    def after(at: str) -> str:
        return formats.clock(max((datetime.fromisoformat(at) - start).total_seconds(), 0.0))

    decided = due["decision"] and _DECISIONS[due["decision"]].format(due["structure"])
    asked_by = decided if due["asked_by"] == "decision" else _ASKED_BY[due["asked_by"]]
    then = f"; {decided} at {after(due['decision_at'])}" if decided and asked_by != decided else ""
    lesion = next((b for b in f["dose"] if b["body"] == "lesion"), None)
    cold = "" if lesion is None else f"; predicted so far, of the lesion: {_reached(lesion)}"
    when = "now" if due["asked_by"] == "unmeasured" else f"{after(due['at'])} after it"
    return f"{f['from_volume_id'] or 'start'}: next scan {when} ({asked_by}){then}{cold}"


def _reached(body: _Fields) -> str:
    """Shares at the low and the high end of their intervals."""
    return ", ".join(
        f"{formats.percent_range(*body['so_far'][name]) or 'unknown'} below {limit} °C once"
        for name, limit in (("reached_20", "-20"), ("reached_40", "-40"))
    )


_ASKED_BY = {
    "image_age": "the image is too old then",
    "unmeasured": "the last one told nothing",
    "horizon": "nothing to decide before",
}
_DECISIONS = {
    "covered": "margin covered?",
    "perhaps_covered": "margin ever covered?",
    "limit": "ice at the limit of {}?",
    "phase_end": "end of the phase",
}


def _margin(f: _Fields) -> str:
    if f["min_margin_mm"] is None:
        return "not known"
    margin_mm = formats.signed_mm(f["min_margin_mm"], _LANGUAGE)
    return f"{margin_mm} {formats.error_mm(f['margin_error_mm'], _LANGUAGE)} mm"


def _time_left(f: _Fields) -> str:
    """From the scan on, as the journal has it; the screen counts down."""
    if f["time_to_margin_s"] is None:
        return ""
    left = formats.remaining(*f["time_to_margin_s"])
    return "" if left == formats.UNKNOWN else f", margin covered {left} after this scan"


# ------------------------------------------------------------------ alarms, phases, faults


def _alarm(f: _Fields) -> str:
    code = "blocked" if f["code"] in _BLOCKING else f["code"]
    alarm = Alarm(code, Priority(f["priority"]), 0.0, f["params"])
    shown = alarm_line([alarm], None, _LANGUAGE)
    return "" if shown is None else f"{shown.stars} {shown.sentence}"


def _unseen(f: _Fields) -> str:
    return ", not acknowledged" if f["latched"] else ""


def _phase(f: _Fields) -> str:
    if f["phase"] == "ended":
        return "Phase: ended"
    return f"Phase: {f['phase']}, cycle {f['cycle']}"


def _operator(f: _Fields) -> str | None:
    """What was done shows by itself; what could not be done would not."""
    return f"Refused: {f['act']}: {f['refused']}" if "refused" in f else None


def _restarted(f: _Fields) -> str:
    return f"Restarted: the {f['process']} process, which had ended with status {f['exit']}"


_LINES: dict[str, Callable[[_Fields], str | None]] = {
    "listening": _listening,
    "volume_completed": _volume,
    "instance_rejected": _rejected,
    "assessment": _assessment,
    "forecast": _forecast,
    "alarm_raised": lambda f: f"Alarm: {_alarm(f)}",
    "alarm_acknowledged": lambda f: f"Alarm acknowledged: {_alarm(f)}",
    "alarm_cleared": lambda f: f"Alarm over{_unseen(f)}: {_alarm(f)}",
    "phase": _phase,
    "fault": lambda f: f"Fault while handling {f['event']}: {f['error']}",
    "record_failing": lambda f: f"Record failing: {f['error']}",
    "operator": _operator,
    "process_restarted": _restarted,
}
