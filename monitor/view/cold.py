"""What a forecast has of the cold by now, in words, and whether it may be shown. Pure; 0..1, °C, UTC s.

Always a prediction: CT shows no temperature inside the ice. Invariant: without a forecast of now, or beside a
measurement that is missing or too old, there is no figure and no colour; what is unsure says so.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from enum import Enum

from monitor.forecast_values import DoseAt, Range
from monitor.snapshot import Snapshot
from monitor.view import formats
from monitor.view.formats import NBSP, UNKNOWN
from monitor.view.translations import text
from monitor.view.viewmodel import ScreenModel, State, after_ct

# A line of several rows is not broken within a range or before a unit.
_JOINER = "\u2060"
_BODIES = {"lesion": "cold.lesion", "lesion and margin": "margin_covered"}


class Trust(Enum):
    """Whether the predicted cold may be shown: only ``SURE`` and ``UNSURE`` may."""

    SURE = "sure"
    UNSURE = "unsure"
    OLD = "old"
    NONE = "none"

    @property
    def shown(self) -> bool:
        return self in (Trust.SURE, Trust.UNSURE)


def trust(model: ScreenModel, s: Snapshot | None) -> Trust:
    if s is None or model.layers.predicted_at_utc_s is None:
        return Trust.NONE
    if model.state is State.STALE:
        return Trust.OLD
    if model.state not in (State.NORMAL, State.DEGRADED):
        return Trust.NONE
    unsure = model.state is State.DEGRADED or s.forecast_doubtful
    return Trust.UNSURE if unsure else Trust.SURE


def output_by(s: Snapshot, at_utc_s: float) -> int | None:
    """The last of the forecast's times that is not after ``at_utc_s``; None where it does not reach."""
    i = bisect_right(s.forecast_times_utc_s, at_utc_s) - 1
    return i if i >= 0 and at_utc_s <= s.forecast_times_utc_s[-1] else None


def lines(model: ScreenModel, s: Snapshot | None) -> tuple[str, ...]:
    """A heading and a line for each body; only why there is none, where the CT is too old."""
    trusted = trust(model, s)
    if s is None or not s.dose or trusted is Trust.NONE:
        return ()
    if trusted is Trust.OLD:
        return (text(model.language, "cold.head.old"),)
    head = text(
        model.language,
        f"cold.head.{trusted.value}",
        at=after_ct(s, s.dose[0].at_utc_s, model.language),
    )
    return (head, *(_line(d, model) for d in s.dose if d.name in _BODIES))


def _line(d: DoseAt, model: ScreenModel) -> str:
    language = model.language
    held = [
        text(language, f"cold.hold.{limit}", s=_whole(hold_s))
        for limit, hold_s in ((20, d.hold_20_s), (40, d.hold_40_s))
        if not hold_s[1] < 1.0
    ]
    spared = (
        _degc(d.warmest_degc, language),
        *held,
        text(language, "cold.frozen", n=_whole(d.cycles)),
    )
    said = text(
        language,
        "cold.line",
        body=text(language, _BODIES[d.name], margin=model.margin_text),
        share_20=_share(d.reached_20),
        share_40=_share(d.reached_40),
        spared=", ".join(spared),
    )
    return said.replace(" °C", f"{NBSP}°C").replace("–", f"–{_JOINER}").replace("…", f"…{_JOINER}")


def _share(ends: Range) -> str:
    low, high = (formats.percent(v) for v in ends)
    return low if low == high else formats.percent_range(*ends) or UNKNOWN


def _whole(ends: Range) -> str:
    """Rounded down: neither a second nor a freeze too many."""
    if not all(map(math.isfinite, ends)):
        return UNKNOWN
    low, high = (str(math.floor(v + 1e-6)) for v in ends)
    return low if low == high else f"{low}–{high}"


def _degc(ends: Range, language: str) -> str:
    """Rounded up: never colder than predicted."""
    if not all(map(math.isfinite, ends)):
        return UNKNOWN
    low, high = (formats.decimal(math.ceil(v - 1e-6), 0, language) for v in ends)
    return f"{low if low == high else f'{low}…{high}'}{NBSP}°C"
