"""What a journal says happened, gathered by scan, phase, alarm and act. UTC seconds; units as in the journal.

Pure: lines in, an ``Account`` out. Invariant: a value that is missing, of another type or not finite is
None; nothing is filled in, and a line that cannot be understood is passed over and told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from monitor.model import scan_of
from monitor.record.reading import Finding, JournalLine, Tell

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class ScanAccount:
    """A scan in its last revision. ``volume`` is the line of its completion; ``ice``, ``assessment`` and
    ``registered`` are the last of it, {} where there is none. ``first`` is its first assessment.
    ``review``: the operator's last verdict, "" without one. ``revises``: earlier revisions. ``known_utc_s``:
    when its first assessment was there, which may be long after it was acquired."""

    volume_id: str
    volume: Fields
    registered: Fields = field(default_factory=dict)
    ice: Fields = field(default_factory=dict)
    assessment: Fields = field(default_factory=dict)
    not_measured: str = ""
    review: str = ""
    revises: tuple[str, ...] = ()
    known_utc_s: float | None = None

    @property
    def acquired_utc_s(self) -> float | None:
        """By the monitor's clock where it was assessed, else by the scanner's."""
        return time_of(self.assessment, "as_of") or time_of(self.volume, "acquired_at")


@dataclass(frozen=True)
class PhaseAccount:
    """``end_utc_s`` None: it had not ended when the journal did."""

    kind: str
    cycle: int
    start_utc_s: float
    end_utc_s: float | None


@dataclass(frozen=True)
class AlarmAccount:
    """One time that an alarm stood. ``cleared_utc_s``: its cause was gone; None: it still stood. ``changes``:
    what it became meanwhile (when, priority, params)."""

    code: str
    about: str
    priority: str
    params: Fields
    raised_utc_s: float
    acknowledged_utc_s: float | None = None
    cleared_utc_s: float | None = None
    changes: tuple[tuple[float, str, Fields], ...] = ()


@dataclass(frozen=True)
class ActAccount:
    """What an operator asked for; ``refused``: why it was not done, "" if it was."""

    at_utc_s: float
    act: str
    params: Fields
    refused: str = ""


@dataclass(frozen=True)
class Event:
    """Something of the machine or of what came in that did not go as it should."""

    at_utc_s: float
    kind: str
    fields: Fields


@dataclass(frozen=True)
class Account:
    """``started`` is the first line; ``ended_utc_s`` None: the journal does not say that it ended."""

    started: Fields
    began_utc_s: float
    last_utc_s: float
    ended_utc_s: float | None
    baseline_id: str | None
    scans: tuple[ScanAccount, ...]
    phases: tuple[PhaseAccount, ...]
    alarms: tuple[AlarmAccount, ...]
    acts: tuple[ActAccount, ...]
    forecasts: tuple[Fields, ...]
    rejected: tuple[Event, ...]
    events: tuple[Event, ...]
    cases: tuple[str, ...]


_EVENTS = frozenset(
    {
        "fault", "listener_failed", "process_restarted", "procedure_resumed", "association_refused",
        "images_refused",
    }
)  # fmt: skip


def account(lines: Sequence[JournalLine], tell: Tell) -> Account:
    """Of the lines of one record, the first of which is ``procedure_started``."""
    ended = [x.at_utc_s for x in lines if x.kind == "procedure_ended"]
    baselines = [x.fields.get("volume_id") for x in lines if x.kind == "baseline_set"]
    return Account(
        started=lines[0].fields,
        began_utc_s=lines[0].at_utc_s,
        last_utc_s=max(x.at_utc_s for x in lines),
        ended_utc_s=ended[-1] if ended else None,
        baseline_id=str(baselines[-1]) if baselines else None,
        scans=_scans(lines),
        phases=_phases(lines, ended[-1] if ended else None, tell),
        alarms=_alarms(lines),
        acts=_acts(lines),
        forecasts=tuple(x.fields for x in lines if x.kind == "forecast"),
        rejected=tuple(
            Event(x.at_utc_s, x.kind, x.fields) for x in lines if x.kind == "instance_rejected"
        ),
        events=_events(lines),
        cases=tuple(
            str(kept.get("path"))
            for x in lines
            if isinstance(kept := x.fields.get("kept_case"), Mapping)
        ),
    )


# ------------------------------------------------------------------ values that may be anything


def number(fields: Fields, name: str) -> float | None:
    """A finite number; None for whatever else is there."""
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def interval(fields: Fields, name: str) -> tuple[float, float] | None:
    """Two finite numbers, or None."""
    value = fields.get(name)
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = (number({"x": v}, "x") for v in value)
    return None if low is None or high is None else (low, high)


def rows(fields: Fields, name: str) -> list[Fields]:
    """A list of objects; what is not an object is left out."""
    value = fields.get(name)
    return [x for x in value if isinstance(x, Mapping)] if isinstance(value, list) else []


def time_of(fields: Fields, name: str) -> float | None:
    """ISO 8601 as UTC seconds, or None."""
    try:
        return datetime.fromisoformat(str(fields[name])).timestamp()
    except (KeyError, ValueError):
        return None


# ------------------------------------------------------------------ gathered


def _events(lines: Sequence[JournalLine]) -> tuple[Event, ...]:
    """A program that went on has been away until it had caught up, which only the alarm knew: that is told,
    not how long it was until it began."""
    found: list[Event] = []
    for line in lines:
        if line.kind in _EVENTS:
            found.append(Event(line.at_utc_s, line.kind, line.fields))
        resumed = [i for i, x in enumerate(found) if x.kind == "procedure_resumed"]
        if resumed and line.kind == "alarm_raised" and line.fields.get("code") == "restarted":
            last = found[resumed[-1]]
            away = _seconds(line.fields.get("params"))
            if away is not None:
                found[resumed[-1]] = replace(last, fields={**last.fields, "down_s": away})
    return tuple(found)


def _seconds(params: Any) -> float | None:
    try:
        return float(params["seconds"])
    except (KeyError, TypeError, ValueError):
        return None


def _scans(lines: Sequence[JournalLine]) -> tuple[ScanAccount, ...]:
    found: dict[str, ScanAccount] = {}
    part = {"registered": "registered", "ice_segmented": "ice", "assessment": "assessment"}
    for line in lines:
        volume_id = str(line.fields.get("volume_id") or "")
        scan = found.get(scan_of(volume_id))
        if line.kind == "volume_completed" and volume_id:
            before = () if scan is None else (*scan.revises, scan.volume_id)
            found[scan_of(volume_id)] = ScanAccount(volume_id, line.fields, revises=before)
        elif scan is None or scan.volume_id != volume_id:
            continue
        elif line.kind in part:
            changed: dict[str, Any] = {part[line.kind]: line.fields}
            if line.kind == "assessment" and scan.known_utc_s is None:
                changed["known_utc_s"] = line.at_utc_s
            found[scan_of(volume_id)] = replace(scan, **changed)
        elif line.kind == "volume_not_measured":
            found[scan_of(volume_id)] = replace(
                scan, not_measured=str(line.fields.get("reason") or "")
            )
        elif line.kind == "ice_reviewed":
            found[scan_of(volume_id)] = replace(scan, review=str(line.fields.get("verdict") or ""))
    return tuple(found.values())


def _phases(
    lines: Sequence[JournalLine], ended_utc_s: float | None, tell: Tell
) -> tuple[PhaseAccount, ...]:
    found: list[PhaseAccount] = []
    for line in lines:
        if line.kind != "phase":
            continue
        start, cycle = number(line.fields, "started_utc_s"), number(line.fields, "cycle")
        if start is None or cycle is None:
            tell(Finding(line.number, "unreadable_line", "phase: without its beginning or cycle"))
            continue
        if found and found[-1].end_utc_s is None:
            found[-1] = replace(found[-1], end_utc_s=start)
        if line.fields.get("phase") in ("freeze", "thaw"):
            kind = str(line.fields["phase"])
            found.append(PhaseAccount(kind, int(cycle), start, None))
    if found and found[-1].end_utc_s is None and ended_utc_s is not None:
        found[-1] = replace(found[-1], end_utc_s=max(ended_utc_s, found[-1].start_utc_s))
    return tuple(found)


def _alarms(lines: Sequence[JournalLine]) -> tuple[AlarmAccount, ...]:
    """In the order in which they came; one that grew worse while it stood is one."""
    found: list[AlarmAccount] = []
    for line in lines:
        if not line.kind.startswith("alarm_"):
            continue
        f = line.fields
        raw = f.get("params")
        params = raw if isinstance(raw, Mapping) else {}
        code, about = str(f.get("code")), str(params.get("name", ""))
        at = next(
            (
                i
                for i in reversed(range(len(found)))
                if (found[i].code, found[i].about) == (code, about)
            ),
            None,
        )
        last = None if at is None else found[at]
        if line.kind == "alarm_raised":
            if last is not None and at is not None and last.cleared_utc_s is None:
                change = (line.at_utc_s, str(f.get("priority")), params)
                found[at] = replace(last, changes=(*last.changes, change))
            else:
                found.append(
                    AlarmAccount(code, about, str(f.get("priority")), params, line.at_utc_s)
                )
        elif last is not None and at is not None and line.kind == "alarm_acknowledged":
            found[at] = replace(last, acknowledged_utc_s=line.at_utc_s)
        elif last is not None and at is not None and line.kind == "alarm_cleared":
            found[at] = replace(last, cleared_utc_s=last.cleared_utc_s or line.at_utc_s)
    return tuple(found)


def _acts(lines: Sequence[JournalLine]) -> tuple[ActAccount, ...]:
    found: list[ActAccount] = []
    for line in lines:
        f = line.fields
        if line.kind == "operator":
            raw = f.get("params")
            params = raw if isinstance(raw, Mapping) else {}
            act = str(f.get("act"))
            found.append(ActAccount(line.at_utc_s, act, params, str(f.get("refused") or "")))
        elif line.kind in ("act_refused", "what_if_refused") and found:
            found[-1] = replace(found[-1], refused=str(f.get("reason") or "?"))
    return tuple(found)
