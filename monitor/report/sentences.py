"""Alarms, acts and events of an account, each as a sentence of the report's language. Pure; times UTC.

Invariant: what has no word in the language is said as the journal has it, rather than not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from monitor.model import Alarm, Priority
from monitor.record.account import ActAccount, AlarmAccount, Event, Fields
from monitor.view import formats
from monitor.view.alarms import sentence
from monitor.view.refusals import failure_text
from monitor.view.translations import TABLES, reason_text, text

_STARS = {"high": "***", "medium": "**", "low": "*"}
# The names of files, which a reader of the report does not have.
_HIDDEN = ("path", "sha256")
_EVENT_FIELDS = ("error", "process", "exit", "peer", "reason", "untold", "event", "down_s")


def clock_text(utc_s: float) -> str:
    return datetime.fromtimestamp(utc_s, UTC).strftime("%H:%M:%S")


def offset_text(local: datetime) -> str:
    """ "UTC+01:00"."""
    z = f"{local:%z}"
    return f"UTC{z[:3]}:{z[3:5]}"


def alarm_text(x: AlarmAccount, language: str) -> str:
    """As it came, and as it was at last where it had changed while it stood."""
    said = _alarm(x, x.priority, x.params, language)
    if not x.changes:
        return said
    at_utc_s, priority, params = x.changes[-1]
    last = _alarm(x, priority, params, language)
    if last == said:
        return said
    return text(language, "report.alarm.then", first=said, time=clock_text(at_utc_s), last=last)


def _alarm(x: AlarmAccount, priority: str, params: Fields, language: str) -> str:
    known = next((p for p in Priority if p.value == priority), Priority.HIGH)
    said = {str(k): str(v) for k, v in params.items()}
    words = sentence(Alarm(x.code, known, x.raised_utc_s, said), None, language)
    return f"{_STARS.get(priority, '?')} {words}"


def act_text(x: ActAccount, language: str) -> str:
    said = _named(language, f"report.act.{x.act}", x.act)
    given = ", ".join(_given(x.params, language))
    if given:
        said = f"{said}{_colon(language)}{given}"
    if x.refused:
        why = failure_text(language, x.refused)
        said = f"{said} — {text(language, 'report.act.refused', why=why)}"
    return said


def _given(params: Mapping[str, Any], language: str) -> list[str]:
    rest = {k: v for k, v in params.items() if k not in _HIDDEN}
    duties = rest.pop("duty", None)
    if not isinstance(duties, Mapping):
        duties = {rest.pop("number", "?"): duties} if duties is not None else {}
    found = [str(rest.pop("volume_id"))] if "volume_id" in rest else []
    for number, duty in duties.items():
        said = _written(duty, formats.percent)
        found.append(text(language, "report.act.needle_at", number=str(number), duty=said))
    if "remaining_s" in rest:
        said = _written(rest.pop("remaining_s"), formats.clock)
        found.append(text(language, "report.act.remaining", time=said))
    return found + [f"{k} {v}" for k, v in rest.items()]


def _written(value: Any, write: Callable[[float], str]) -> str:
    """An operator may have asked for anything; what is no number was refused, and stands as it was asked."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    said = write(float(value)) if known else formats.UNKNOWN
    return str(value) if said == formats.UNKNOWN else said


def event_text(x: Event, language: str) -> str:
    said = _named(language, f"report.event.{x.kind}", x.kind)
    given = [
        f"{_named(language, f'report.given.{k}', k)}{_colon(language)}{_value(x, k, language)}"
        for k in _EVENT_FIELDS
        if x.fields.get(k) is not None
    ]
    return f"{said} ({', '.join(given)})" if given else said


def rejection_text(x: Event, language: str) -> str:
    """Why an image was rejected."""
    code = str(x.fields.get("reason"))
    return reason_text(language, code, str(x.fields.get("text") or ""))


def _value(x: Event, key: str, language: str) -> str:
    value = str(x.fields[key])
    if key == "down_s":
        return _written(x.fields[key], lambda v: formats.decimal(v, 0, language))
    if key != "reason":
        return value
    # An older journal has a code only of who was shut out.
    code = x.fields.get("code") or x.fields.get("shut_out")
    return reason_text(language, str(code or value), value)


def _named(language: str, key: str, otherwise: str) -> str:
    return text(language, key) if key in TABLES[language] else otherwise


def _colon(language: str) -> str:
    return "\u00a0: " if language == "fr" else ": "
