"""The alarm row: which alarm is shown, in which words, and how it flashes. Pure.

Priorities are shown as red ``***``, yellow ``**``, cyan ``*``; flashing rates are in hertz.
Invariant: if any alarm stands, the row shows one of the highest priority among those that nobody has
acknowledged, and then among all; one of low priority never hides a higher.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from monitor.model import Alarm, Priority
from monitor.view import formats
from monitor.view.translations import alarm_text, body_name, reason_text, text

_STARS = {Priority.HIGH: "***", Priority.MEDIUM: "**", Priority.LOW: "*"}
# 1.4-2.8 Hz high, 0.4-0.8 Hz medium, steady low (display.md, from memory of IEC 60601-1-8).
_FLASH_HZ = {Priority.HIGH: 2.0, Priority.MEDIUM: 0.6, Priority.LOW: 0.0}
# Within a priority: what blocks or blinds the screen first, as its cause explains the others.
_FIRST = ("patient_mismatch", "frame_of_reference_mismatch", "blocked", "view_error", "core_silent")
_LONGEST_ID = 20
# Those of which the graver case is another thing to say.
_GRAVER = {"segmentation_poor": "segmentation_invalid", "clock_offset": "clock_far_off"}


@dataclass(frozen=True)
class AlarmLine:
    """One line of the alarm row. ``flash_hz`` 0 is steady. ``key`` names the alarm to acknowledge."""

    key: tuple[str, str]
    acknowledged: bool
    code: str
    stars: str
    sentence: str
    priority: Priority
    flash_hz: float
    others: str


def alarm_line(alarms: Collection[Alarm], age_s: float | None, language: str) -> AlarmLine | None:
    """The first alarm to see to, in words. An acknowledged one stays, steady; one that is over and was
    not acknowledged goes on flashing, and says so."""
    if not alarms:
        return None
    first = min(alarms, key=_rank)
    others = text(language, "others", count=str(len(alarms) - 1)) if len(alarms) > 1 else ""
    return AlarmLine(
        (first.code, first.about),
        first.acknowledged,
        first.code,
        _STARS[first.priority],
        told(first, age_s, language),
        first.priority,
        0.0 if first.acknowledged else _FLASH_HZ[first.priority],
        others,
    )


def _rank(alarm: Alarm) -> tuple[bool, int, bool, int]:
    waits = not alarm.acknowledged and alarm.priority is not Priority.LOW
    first = _FIRST.index(alarm.code) if alarm.code in _FIRST else len(_FIRST)
    return not waits, list(Priority).index(alarm.priority), alarm.acknowledged, first


def told(alarm: Alarm, age_s: float | None, language: str) -> str:
    """The alarm in words; of one that is over, and waits to be acknowledged, that it is."""
    said = sentence(alarm, age_s, language)
    return text(language, "alarm_over", sentence=said) if alarm.latched else said


def sentence(alarm: Alarm, age_s: float | None, language: str) -> str:
    """The alarm in words, its numbers written as the language writes them."""
    params = {name: _shown(name, value, language) for name, value in alarm.params.items()}
    params["age"] = formats.clock(_age_s(alarm, age_s))
    if "seconds" in params:
        params["span"] = formats.span(_number(alarm.params["seconds"]), language)
    if "reason" in params:
        params["reason"] = reason_text(language, params["reason"], params["reason"])
    return alarm_text(language, _worded(alarm), params)


def _worded(alarm: Alarm) -> str:
    """The code of the sentence: some alarms have another one for a part of their cases."""
    if alarm.priority is not Priority.LOW and alarm.code in _GRAVER:
        return _GRAVER[alarm.code]
    unknown = [alarm.params.get(of) == "?" for of in ("distance_mm", "at_least_mm")]
    if alarm.code == "structure_near" and all(unknown):
        return "structure_unmeasured"
    return alarm.code


def _age_s(alarm: Alarm, age_s: float | None) -> float | None:
    """The view's own reckoning, which counts on; the alarm's where there is no scan."""
    if age_s is not None:
        return age_s
    return _number(alarm.params.get("age_s", ""))


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


def _shown(name: str, value: str, language: str) -> str:
    if name.endswith("_mm") or name == "seconds":
        value = value.replace("-", formats.MINUS)
        return value.replace(".", ",") if language == "fr" else value
    if name == "name":
        return body_name(language, value)
    if len(value) > _LONGEST_ID and name in ("expected", "received"):
        return value[:7] + "…" + value[-12:]
    return value
