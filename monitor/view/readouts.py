"""The numbers beside the planes: each a label, a value, a note and a tone. Pure.

Fractions 0..1, mm, seconds on the procedure clock. An assessment of None is one that may not be
shown. Invariant: a number in the normal tone without "?" or "≥" rests on a measurement that is OK.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from monitor.forecast_values import NextScan
from monitor.model import Assessment, Status, StructureDistance
from monitor.snapshot import Snapshot
from monitor.view import formats
from monitor.view.formats import UNKNOWN
from monitor.view.translations import body_name, text


@dataclass(frozen=True)
class Readout:
    """A label, its value and a smaller note below. ``tone``: "text", "old" or "dim"."""

    label: str
    value: str
    note: str = ""
    tone: str = "text"


def margin_text(s: Snapshot | None, language: str) -> str:
    if s is None or not formats.known(s.margin_goal_mm):
        return UNKNOWN
    whole = s.margin_goal_mm == int(s.margin_goal_mm)
    return formats.decimal(s.margin_goal_mm, 0 if whole else 1, language)


def coverage(
    a: Assessment | None, what: str, label: str, tone: str, ago: str, language: str
) -> Readout:
    """Coverage as measured when sure; the low end of its interval, or "?", when not."""
    covered = None if a is None else (a.lesion_covered if what == "lesion" else a.margin_covered)
    value = formats.percent(covered)
    if a is None or value == UNKNOWN:
        return Readout(label, UNKNOWN, tone="dim")
    if a.status is Status.OK:
        return Readout(label, value, ago, tone)
    interval = a.lesion_covered_interval if what == "lesion" else a.margin_covered_interval
    shown = formats.percent_range(*interval) if interval else None
    if interval is None or shown is None or interval[0] >= 1.0:
        return Readout(label, f"?{formats.NBSP}{value}", ago or text(language, "unsure"), tone)
    value = _least(formats.percent(interval[0]))
    return Readout(label, value, ago or text(language, "interval", range=shown), tone)


def min_margin(a: Assessment | None, tone: str, language: str) -> Readout:
    label = text(language, "min_margin")
    if a is None or not formats.known(a.min_margin_mm):
        return Readout(label, UNKNOWN, tone="dim")
    value = (
        f"{formats.signed_mm(a.min_margin_mm, language)} "
        f"{formats.error_mm(a.margin_error_mm, language)}{formats.NBSP}mm"
    )
    unsure = a.status is not Status.OK or not formats.known(a.margin_error_mm)
    return Readout(label, f"?{formats.NBSP}{value}" if unsure else value, tone=tone)


def time_left(
    a: Assessment | None, freezing: bool, now_utc_s: float, goal: str, language: str
) -> Readout:
    """A range, only while freezing and from a fresh, valid measurement (None otherwise)."""
    label = text(language, "time_to_margin", margin=goal)
    unknown = Readout(label, UNKNOWN, tone="dim")
    if a is None or not freezing:
        return unknown
    if formats.percent_floor(a.margin_covered) == 100:
        return Readout(label, text(language, "reached")) if a.status is Status.OK else unknown
    if a.time_to_margin_s is None:
        return unknown
    since_s = now_utc_s - a.as_of_utc_s
    earliest_s, latest_s = (t - since_s for t in a.time_to_margin_s)
    if latest_s <= 0:
        return Readout(label, text(language, "confirm"))
    value = formats.remaining(earliest_s, latest_s)
    return unknown if value == UNKNOWN else Readout(label, _doubted(a, value))


def structure(a: Assessment | None, tone: str, language: str) -> Readout:
    if a is None:
        return Readout(text(language, "structure_none"), UNKNOWN, tone="dim")
    nearest = _nearest(a.structures)
    if nearest is None:
        return Readout(
            text(language, "structure_none"), text(language, "structure_none_value"), tone="dim"
        )
    label = text(language, "structure", name=body_name(language, nearest.name))
    if nearest.distance_mm == math.inf:
        return Readout(label, text(language, "no_ice"), tone="dim" if tone == "text" else tone)
    value = formats.distance_mm(nearest.distance_mm, language)
    if value == UNKNOWN:
        return Readout(label, UNKNOWN, tone="dim")
    if a.status is Status.OK:
        return Readout(label, value, tone=tone)
    surely = formats.distance_mm(nearest.at_least_mm, language)
    return Readout(label, _doubted(a, value) if surely == UNKNOWN else _least(surely), tone=tone)


def next_ct(due: NextScan | None, now_utc_s: float, language: str) -> Readout:
    """When a scan is next worth taking, and for what; a time that is not known or is past is now."""
    if due is None:
        return Readout("", text(language, "next_ct_off"), tone="dim")
    decided = due.asked_by == "decision"
    why = _decision(due, language) if decided else text(language, f"next.{due.asked_by}")
    if not decided and due.decision_utc_s is not None:
        clock = formats.clock(due.decision_utc_s - now_utc_s)
        # Kept together, so that a row that is too short is broken before it.
        decision = _decision(due, language)
        then = text(language, "next.then", decision=decision, clock=clock)
        then = then.replace(" ", formats.NBSP)
        why = f"{why} · {then}"
    left_s = due.at_utc_s - now_utc_s
    if not left_s > 0.0:
        return Readout("", text(language, "next_ct_now"), why)
    return Readout("", text(language, "next_ct", clock=formats.clock(left_s)), why)


def _least(value: str) -> str:
    """The worst bound of what is not sure."""
    return f"≥{formats.NBSP}{value}"


def _decision(due: NextScan, language: str) -> str:
    return text(language, f"next.{due.decision}", name=body_name(language, due.name))


def _doubted(a: Assessment, value: str) -> str:
    """A number that rests on an uncertain measurement says so."""
    return value if a.status is Status.OK else f"?{formats.NBSP}{value}"


def _nearest(structures: tuple[StructureDistance, ...]) -> StructureDistance | None:
    """The one with the least room to its limit; one of unknown distance comes first."""
    return min(structures, key=lambda s: s.room_mm, default=None)
