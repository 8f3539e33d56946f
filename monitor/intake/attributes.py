"""Typed reading of DICOM attributes that a sender may have got wrong. LPS mm, UTC seconds.

Invariant: a value that is returned is present, finite and of the right count; everything else is a
``Refusal`` that names the attribute, never its value (a value may identify a patient).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from monitor.model import FloatArray, Reason


class Refusal(Exception):
    """Carries the reason for which an instance is not a CT slice."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.reason = Reason(code, text)


def values(d: Dataset, name: str) -> list[Any]:
    """All values of an attribute; none when it is absent or empty."""
    try:
        value = d.get(name)
    except Exception:  # pydicom converts lazily and raises whatever the conversion does
        raise Refusal("missing_attribute", f"{name} is malformed.") from None
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return [value]
    return list(value)


def text(d: Dataset, name: str) -> str:
    """Of an attribute that has one value, without padding; empty when absent. Several are one text with
    backslashes, as they were sent, and so nobody's name."""
    return "\\".join(texts(d, name))


def texts(d: Dataset, name: str) -> tuple[str, ...]:
    return tuple(str(v).strip(" \0") for v in values(d, name))


def required_text(d: Dataset, name: str) -> str:
    found = text(d, name)
    if not found:
        raise Refusal("missing_attribute", f"{name} is missing.")
    return found


def numbers(d: Dataset, name: str, count: int) -> FloatArray:
    """Exactly ``count`` finite numbers."""
    try:
        found = np.array([float(v) for v in values(d, name)])
    except (TypeError, ValueError, OverflowError):
        raise Refusal("missing_attribute", f"{name} is malformed.") from None
    if len(found) != count or not np.isfinite(found).all():
        problem = f"not {count} finite number(s)" if len(found) else "missing"
        raise Refusal("missing_attribute", f"{name} is {problem}.")
    return found


def whole(d: Dataset, name: str) -> int | None:
    """An integer that is nice to have."""
    try:
        return int(values(d, name)[0])
    except (Refusal, IndexError, TypeError, ValueError, OverflowError):
        return None


def required_whole(d: Dataset, name: str) -> int:
    found = whole(d, name)
    if found is None:
        raise Refusal("missing_attribute", f"{name} is missing or malformed.")
    return found


def positive(d: Dataset, name: str) -> float | None:
    """A positive length that is nice to have."""
    try:
        found = float(numbers(d, name, 1)[0])
    except Refusal:
        return None
    return found if found > 0 else None


# ------------------------------------------------------------------ time

# DT and TM may stop after any component (PS3.5 6.2); older files write TM with colons.
_STAMP = re.compile(r"(\d{8})(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?([+-]\d{4})?")


def acquired_utc_s(d: Dataset) -> float | None:
    """When the slice was acquired; None when it does not say. Content date and time, written by
    reconstruction, stand in for a missing acquisition stamp."""
    for candidate in (
        text(d, "AcquisitionDateTime"),
        _joined(d, "AcquisitionDate", "AcquisitionTime"),
        _joined(d, "ContentDate", "ContentTime"),
    ):
        utc_s = _utc_s(candidate, text(d, "TimezoneOffsetFromUTC"))
        if utc_s is not None:
            return utc_s
    return None


def _joined(d: Dataset, date: str, time: str) -> str:
    day, clock = text(d, date), text(d, time)
    if re.match(r"\d\d:\d\d(:\d\d|$)", clock):
        clock = clock.replace(":", "")
    return day + clock if len(day) == 8 and clock else ""


def _utc_s(stamp: str, zone: str) -> float | None:
    match = _STAMP.fullmatch(stamp)
    if match is None:
        return None
    date, hour, minute, second, fraction, own_zone = match.groups()
    # 60 is allowed for a leap second, which POSIX time does not have.
    parts = (int(hour), int(minute or 0), min(int(second or 0), 59))
    try:
        when = datetime(
            int(date[:4]),
            int(date[4:6]),
            int(date[6:]),
            *parts,
            int((fraction or "0").ljust(6, "0")),
        )
        return _in_zone(when, own_zone or zone).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _in_zone(when: datetime, zone: str) -> datetime:
    """Local time of this machine unless the image names its offset (PS3.3 C.12.1.1.8)."""
    if re.fullmatch(r"[+-]\d{4}", zone) is None:
        return when.astimezone(UTC)
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
    return when.replace(tzinfo=timezone(offset if zone[0] == "+" else -offset))
