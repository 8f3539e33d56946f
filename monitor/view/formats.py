"""Numbers as the screen writes them. Pure; fractions 0..1, mm, seconds.

Typography: U+2212 for minus, a comma for French decimals, a no-break space before units. Exports
and logs never use this module (dot decimals, ISO dates there).
Invariant: what is not a finite number is written "—"; nothing is ever rounded up to a better value.
"""

from __future__ import annotations

import math

UNKNOWN = "—"
NBSP = "\u00a0"
MINUS = "\u2212"
# Longer than this is not estimated closer: the forecast's horizon is 15 minutes.
LONG_MIN = 12
_ROUNDING = 1e-9


def known(value: float | None) -> bool:
    """Whether ``value`` is a finite number."""
    return value is not None and math.isfinite(value)


def decimal(value: float, digits: int, language: str) -> str:
    """A number with a fixed count of decimals; never "−0.0"."""
    text = f"{abs(value):.{digits}f}"
    if value < 0 and float(text) != 0.0:
        text = MINUS + text
    return text.replace(".", ",") if language == "fr" else text


def percent(fraction: float | None) -> str:
    """An integer percentage, floored: 0.996 is 99 %, and only 1.0 is 100 %."""
    value = percent_floor(fraction)
    return UNKNOWN if value is None else f"{value}{NBSP}%"


def percent_floor(fraction: float | None) -> int | None:
    """The floored percentage; None when not known or not a fraction."""
    if fraction is None or not math.isfinite(fraction) or not 0.0 <= fraction <= 1.0:
        return None
    if fraction >= 1.0:
        return 100
    return min(99, math.floor(100.0 * fraction + _ROUNDING))


def percent_tenths(fraction: float | None) -> str:
    """A percentage at 0.1, without its sign, floored: 0.9996 is 99.9, and only 1.0 is 100.0."""
    if fraction is None or not math.isfinite(fraction) or not 0.0 <= fraction <= 1.0:
        return UNKNOWN
    tenths = math.floor(1000.0 * fraction + _ROUNDING)
    return f"{(1000 if fraction >= 1.0 else min(999, tenths)) / 10.0:.1f}"


def percent_range(low: float, high: float) -> str | None:
    """ "88–97 %"; None when either is not known."""
    low_percent, high_percent = percent_floor(low), percent_floor(high)
    if low_percent is None or high_percent is None:
        return None
    return f"{low_percent}–{high_percent}{NBSP}%"


def signed_mm(value: float | None, language: str) -> str:
    """A signed length at 0.1 mm, rounded towards the worse (down): +2.99 is +2.9, −0.01 is −0.1.

    Rounding down keeps "uncovered" and a negative margin the same statement.
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    tenths = math.floor(10.0 * value + _ROUNDING) / 10.0
    if value < 0:
        tenths = min(tenths, -0.1)
    return ("+" if tenths >= 0 else "") + decimal(tenths, 1, language)


def error_mm(value: float | None, language: str) -> str:
    """ " ± 1.5", rounded up; "± ?" when not known."""
    if value is None or not math.isfinite(value) or value < 0:
        return f"±{NBSP}?"
    return f"±{NBSP}{decimal(math.ceil(10.0 * value - _ROUNDING) / 10.0, 1, language)}"


def distance_mm(value: float | None, language: str) -> str:
    """A distance at 0.1 mm, rounded down (nearer); negative when inside."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{decimal(math.floor(10.0 * value + _ROUNDING) / 10.0, 1, language)}{NBSP}mm"


def clock(seconds: float | None) -> str:
    """mm:ss, whole seconds elapsed; hours above 60 minutes."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return UNKNOWN
    whole = int(seconds)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes:02d}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def span(seconds: float, language: str) -> str:
    """Whole days and hours between two times, whichever is the earlier: "3 d 4 h"."""
    if not math.isfinite(seconds):
        return UNKNOWN
    days, hours = divmod(int(abs(seconds)) // 3600, 24)
    day = "j" if language == "fr" else "d"
    shown = [f"{n}{NBSP}{unit}" for n, unit in ((days, day), (hours, "h")) if n]
    return " ".join(shown) or f"<{NBSP}1{NBSP}h"


def remaining(earliest_s: float, latest_s: float) -> str:
    """A time still to go, as a range of minutes that holds both ends: "≈ 3–5 min", "> 12 min"."""
    if math.isnan(earliest_s) or math.isnan(latest_s) or latest_s < earliest_s:
        return UNKNOWN
    low = max(0, math.floor(earliest_s / 60.0)) if math.isfinite(earliest_s) else LONG_MIN
    if low >= LONG_MIN:
        return f">{NBSP}{LONG_MIN}{NBSP}min"
    if latest_s > LONG_MIN * 60.0:
        return f">{NBSP}{low}{NBSP}min" if low else UNKNOWN
    high = max(low + 1, math.ceil(latest_s / 60.0))
    if high <= 1:
        return f"<{NBSP}1{NBSP}min"
    return f"≈{NBSP}{low}–{high}{NBSP}min"
