"""What a procedure says at a terminal: one plain line for each thing an operator wants to know.

Fractions 0..1, mm; English, in characters that can be searched for. Invariants: as on the screen, no
number is rounded towards the safe side; no line holds patient data.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from monitor.model import Alarm, Priority
from monitor.prediction.forecast import HORIZON_S
from monitor.view import formats
from monitor.view.alarms import alarm_line
from monitor.view.translations import body_name, reason_text

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
    return f"{rejected(f['reason'], 1)}: {f['path']}"


def rejected(code: str, count: int) -> str:
    """So many images for that reason, in words."""
    images = "1 image" if count == 1 else f"{count} images"
    return f"Rejected, and kept in quarantine: {images}, {reason_text(_LANGUAGE, code, code)}"


def _delivery(f: _Fields) -> str:
    reason = f": {f['reason']}" if f["reason"] else ""
    refused = f", {f['refused']} refused" if f["refused"] else ""
    return f"PACS {f['ae_title']}: {f['sent']} sent, {f['waiting']} waiting{refused}{reason}"


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
        f"{f['volume_id']}: lesion covered {_covered(f, 'lesion')}, with "
        f"{f['margin_goal_mm']:g} mm margin {_covered(f, 'margin')}, "
        f"minimal margin {_margin(f)}{_time_left(f)}{_trust(f)}"
    )


def _forecast(f: _Fields) -> str | None:
    """When to scan next, and what the cold has done: by the model, never measured."""
    due, start = f["next_scan"], datetime.fromisoformat(f["start"])
    if due is None:
        return None

    def after(at: str) -> str:
        return formats.clock(max((datetime.fromisoformat(at) - start).total_seconds(), 0.0))

    this = "this one" if f["from_volume_id"] else "the start"
    decided = due["decision"] and _DECISIONS[due["decision"]].format(due["structure"])
    by_decision = due["asked_by"] == "decision"
    why = f"to see: {decided}" if by_decision else _ASKED_BY[due["asked_by"]]
    then = ""
    if decided and not by_decision:
        then = f"; at {after(due['decision_at'])} after {this}, to see: {decided}"
    when = "now" if due["asked_by"] == "unmeasured" else f"due {after(due['at'])} after {this}"
    return f"{f['from_volume_id'] or 'start'}: next scan {when} ({why}){then}{_cold(f)}"


def _cold(f: _Fields) -> str:
    """What the lesion has been through: shares at the low and the high end of their intervals. Nothing before
    any of it can have been that cold."""
    lesion = next((b["so_far"] for b in f["dose"] if b["body"] == "lesion"), None)
    said = [
        f"{formats.percent_range(*lesion[name]) or 'an unknown share'} has been below {limit} °C"
        for name, limit in (("reached_20", "-20"), ("reached_40", "-40"))
        if lesion is not None and formats.percent_floor(lesion[name][1]) != 0
    ]
    return f"; of the lesion, predicted and not measured: {', '.join(said)}" if said else ""


_ASKED_BY = {
    "image_age": "the image is too old by then",
    "unmeasured": "the last one told nothing",
    "horizon": "nothing to decide before",
}
_DECISIONS = {
    "covered": "margin covered?",
    "perhaps_covered": "margin ever covered?",
    "limit": "ice at the limit of {}?",
    "phase_end": "end of the phase",
}


def _covered(f: _Fields, what: str) -> str:
    """The worst bound, then the interval: one line is read without what the screen has beside its figure."""
    interval = f.get(f"{what}_covered_interval")
    if interval is None:
        return formats.percent(f[f"{what}_covered"])
    least, most = (formats.percent(x) for x in interval)
    if least == most:
        return least
    return f"at least {least} (90 % interval {formats.percent_range(*interval)})"


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


# ------------------------------------------------------------------ what if

_HOW = "what if NEEDLE=PERCENT ... [for MINUTES], for instance: what if 2=0, what if all=50 for 5"
_NEEDLE_HOW = "needle NUMBER=PERCENT, for instance: needle 2=0"
_WORD = re.compile(r"(\w+)=(\S+?)%?")


def what_if_params(typed: str) -> dict[str, Any]:
    """The question of a typed "what if 2=0 3=50 for 5" (percent of full cooling, minutes to the freeze's
    end) as the pipeline takes it. Raises ``ValueError`` saying what was expected."""
    asked, _, minutes = typed.strip().lower().removeprefix("what if").partition("for ")
    params: dict[str, Any] = {"duty": {}}
    for word in asked.replace(",", " ").split():
        found = _WORD.fullmatch(word)
        if found is None or found[1] in params["duty"]:
            raise ValueError(f"{word!r}: expected {_HOW}")
        params["duty"][found[1]] = _finite(found[2], 0.01)
    if minutes:
        params["remaining_s"] = _finite(minutes.strip().removesuffix("min").strip(), 60.0)
    return params


def needle_params(typed: str) -> dict[str, Any]:
    """Of a typed "needle 2=0" (percent of full cooling). Raises ``ValueError`` saying what was expected."""
    found = _WORD.fullmatch(typed.strip().lower().removeprefix("needle").strip())
    if found is None or not found[1].isdecimal():
        raise ValueError(f"{typed!r}: expected {_NEEDLE_HOW}")
    return {"number": int(found[1]), "duty": _finite(found[2], 0.01, _NEEDLE_HOW)}


def _finite(typed: str, unit: float, how: str = _HOW) -> float:
    try:
        value = float(typed) * unit
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{typed!r}: expected a number: {how}")
    return value


def _what_if(f: _Fields) -> str:
    by = f"all {f['members']} members" if f["refined"] else f"{f['members']} members, first answer"
    asked, going_on, change = f["asked"], f["going_on"], f["change"]
    rows = [
        f"What if {_question(f)} ({by}; only a calculation; times also past the end of the freeze)"
        f"{_trust(f)}",
        f"  lesion covered in {_beside('time_to_lesion_s', f, _time)}{_minutes(change['lesion_later_s'])}",
        f"  with margin covered in {_beside('time_to_margin_s', f, _time)}"
        f"{_minutes(change['margin_later_s'])}",
        f"  when the freeze ends, in {_ends_in(asked)}: {_end(asked)}; going on, in "
        f"{_ends_in(going_on)}: {_end(going_on)}; difference {_mm(change['min_margin_mm'])}",
    ]
    for s, other in zip(asked["structures"], going_on["structures"], strict=True):
        name = body_name(_LANGUAGE, s["name"])
        rows.append(
            f"  {name}: ice no nearer than {_nearest(s)}, going on {_nearest(other)}, difference "
            f"{_mm(change['distance_mm'][s['name']])}; contact {_time(s['time_to_contact_s'])}; "
            f"coldest {_coldest(s)}, going on {_coldest(other)}"
        )
    return "\n".join(rows)


def _question(f: _Fields) -> str:
    set_otherwise = [f"needle {n} at {100.0 * duty:g} %" for n, duty in f["duty"].items()]
    if f["remaining_s"] is not None:
        set_otherwise.append(f"the freeze ends in {f['remaining_s'] / 60.0:g} min")
    return ", ".join(set_otherwise) or "it goes on as now"


def _beside(field: str, f: _Fields, said: Callable[[Any], str]) -> str:
    return f"{said(f['asked'][field])}, going on {said(f['going_on'][field])}"


def _time(ends: list[float | None] | None) -> str:
    if ends is None or ends[0] is None:
        return f"> {HORIZON_S / 60.0:.0f} min or never"
    left = formats.remaining(ends[0], math.inf if ends[1] is None else ends[1])
    return f"< 1 to > {formats.LONG_MIN} min" if left == formats.UNKNOWN else left


def _minutes(ends: list[float | None] | None) -> str:
    """Nothing where one of the two courses does not get there: the times say so."""
    if ends is None or ends[0] is None or ends[1] is None:
        return ""
    return f", difference {ends[0] / 60.0:+.1f} to {ends[1] / 60.0:+.1f} min"


def _ends_in(outcome: _Fields) -> str:
    return f"{outcome['freeze_ends_s'] / 60.0:.1f} min"


def _end(outcome: _Fields) -> str:
    return (
        f"lesion {_percent(*outcome['lesion_covered'])}, with margin "
        f"{_percent(*outcome['margin_covered'])}, minimal margin {_mm(outcome['min_margin_mm'])}"
    )


def _percent(low: float, high: float) -> str:
    ends = formats.percent(low), formats.percent(high)
    return ends[0] if ends[0] == ends[1] else str(formats.percent_range(low, high))


def _mm(ends: list[float | None] | None) -> str:
    if ends is None or ends == [None, None]:
        return "not known"
    low, high = (formats.signed_mm(x, _LANGUAGE) for x in ends)
    return f"{low} to {high} mm"


def _nearest(s: _Fields) -> str:
    return formats.distance_mm((s["distance_mm"] or [None])[0], _LANGUAGE)


def _coldest(s: _Fields) -> str:
    low = (s["coldest_degc"] or [None])[0]
    return formats.UNKNOWN if low is None else f"{math.floor(low)} °C"


def _what_if_over(f: _Fields) -> str | None:
    if f["by"] == "question":
        return (
            None if f["answered"] else "The what-if before is dropped unanswered (newer question)."
        )
    return f"The what-if no longer holds (newer {f['by']}); ask again."


# ------------------------------------------------------------------ alarms, phases, faults


def _alarm(f: _Fields) -> str:
    code = "blocked" if f["code"] in _BLOCKING else f["code"]
    alarm = Alarm(code, Priority(f["priority"]), 0.0, f["params"])
    shown = alarm_line([alarm], None, _LANGUAGE)
    return "" if shown is None else f"{shown.stars} {shown.sentence}"


def _unseen(f: _Fields) -> str:
    return ", not acknowledged" if f["latched"] else ""


def _standing(f: _Fields) -> str:
    """Of an alarm from before this program began; no line of the journal."""
    if f["latched"]:
        return f"over{_unseen(f)}"
    return "stands, acknowledged" if f["acknowledged"] else "stands"


def _phase(f: _Fields) -> str:
    if f["phase"] == "ended":
        return "Phase: ended"
    return f"Phase: {f['phase']}, cycle {f['cycle']}"


def _operator(f: _Fields) -> str | None:
    """What was done shows by itself; what could not be done would not."""
    return f"Refused: {f['act']}: {f['refused']}" if "refused" in f else None


_NOT_MEASURED = {
    "older_than_latest": "older than the latest scan",
    "lesion_not_shown": "it shows too little of the lesion to be the baseline",
    "baseline_picked": "before the freeze, and another volume was picked as the baseline",
}


def _needle_set(f: _Fields) -> str:
    return (
        f"Needle {f['number']}: {100.0 * f['duty']:g} % from now on (was {100.0 * f['before']:g} %)"
    )


def _restarted(f: _Fields) -> str:
    how = "" if f["exit"] is None else f", which had ended with status {f['exit']}"
    return f"Restarted: the {f['process']} process{how}"


_LINES: dict[str, Callable[[_Fields], str | None]] = {
    "listening": _listening,
    "volume_completed": _volume,
    "instance_rejected": _rejected,
    "assessment": _assessment,
    "forecast": _forecast,
    "alarm_raised": lambda f: f"Alarm: {_alarm(f)}",
    "alarm_stands": lambda f: f"Alarm {_standing(f)}: {_alarm(f)}",
    "alarm_acknowledged": lambda f: f"Alarm acknowledged: {_alarm(f)}",
    "alarm_cleared": lambda f: f"Alarm over{_unseen(f)}: {_alarm(f)}",
    "phase": _phase,
    "fault": lambda f: f"Fault while handling {f['event']}: {f['error']}",
    "record_failing": lambda f: f"Record failing: {f['error']}",
    "operator": _operator,
    "what_if": _what_if,
    "baseline_set": lambda f: f"{f['volume_id']}: the baseline",
    "what_if_refused": lambda f: f"Refused: what if: {f['reason']}",
    "what_if_over": _what_if_over,
    "process_restarted": _restarted,
    "delivery": _delivery,
    "needle_set": _needle_set,
    "ice_reviewed": lambda f: f"{f['volume_id']}: the measured ice was {f['verdict']}",
    "volume_not_measured": lambda f: (
        f"{f['volume_id']}: not measured ({_NOT_MEASURED[f['reason']]})"
    ),
    "undone": lambda f: f"Undone: {f['act']} {f['of']}",
    "act_refused": lambda f: f"Refused: {f['act']}: {f['reason']}",
}
