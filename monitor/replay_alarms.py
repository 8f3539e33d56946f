"""The alarms of a recorded procedure raised once more, from the replayed states, beside those on record.
UTC seconds on the procedure clock.

What the machine did (a worker that was silent, a process that died, a clock that was set) no replay can know:
such alarms are taken from the record, and what depends on them follows. Invariant: an alarm that is on one
side only, or there at another time, is told, unless it stood for less than two times can be told apart.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from monitor.decision.alarm_states import (
    ACKNOWLEDGED,
    CLEARED,
    RAISED,
    Alarms,
    acknowledged,
    checked,
)
from monitor.decision.safety import causes
from monitor.model import Alarm
from monitor.procedure import Procedure
from monitor.record.comparing import ALARM_S
from monitor.record.reading import Finding, JournalLine, Tell
from monitor.replay import Step
from monitor.state import State
from monitor.watching import Machine, facts_of

# As the watch, in the machine's seconds; half as often.
_CHECK_S = 0.5
# What such an alarm says of the machine while it stands.
_MACHINE: dict[str, dict[str, Any]] = {
    "core_silent": {"heartbeat_age_s": 1e6},
    "core_fault": {"fault": "as recorded"},
    "intake_dead": {"intake_alive": False},
    "record_failing": {"record_ok": False},
    "clock_jump": {"clock_jump_s": 1e6},
    "restarted": {"down_s": 1e6},
    "record_damaged": {"record_damage": 1},
    "scanner_refused": {},  # nothing depends on it
    "images_refused": {},
}
# What an alarm is about, of its params: others are figures of the moment.
_ABOUT = ("name", "reason", "expected", "received", "where")

Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Change:
    """An alarm ``RAISED`` or ``CLEARED``; ``line`` is that of the record, or of the input it follows from.
    ``since_utc_s``: from when on it may be on record, since the watch sees a step's state before all of its
    results are on disk."""

    key: Key
    since_utc_s: float
    at_utc_s: float
    line: int


class AlarmReplay:
    """Takes a replay's steps one by one, then ``compare``s."""

    def __init__(self, lines: list[JournalLine]) -> None:
        self._lines = [x for x in lines if x.kind in (RAISED, CLEARED, ACKNOWLEDGED)]
        self._speed = float(lines[0].fields.get("clock_speed", 1.0))
        first = min((x.at_utc_s for x in self._lines), default=lines[0].at_utc_s)
        self._now = first
        self._gaps = _unwatched(lines, _CHECK_S * self._speed)
        self._unwatched_s = math.inf
        self._until = lines[-1].at_utc_s
        self._pending = list(self._lines)
        self._state: tuple[State, Procedure] | None = None
        self._machine: dict[str, dict[str, Any]] = {}
        self._alarms: Alarms = ()
        self._line = 1
        self._found: list[Change] = []
        self.compared = 0

    def begin(self, state: State, procedure: Procedure) -> None:
        """What stood before anything came in."""
        self._state = (state, procedure)

    def take(self, step: Step) -> None:
        """Up to when the step had its results, by what stood before it; then by what it left."""
        done = max([step.line.at_utc_s, *(x.at_utc_s for x in step.recorded[-1:])])
        self._go_on(done)
        self._state, self._line = (step.state, step.procedure), step.line.number
        self._check(step.line.at_utc_s)

    def compare(self, tell: Tell) -> None:
        """To the end of the record; what differs is told."""
        last_input = self._now
        self._go_on(self._until)
        tolerance_s = ALARM_S * self._speed
        sides = [_by_key(side) for side in (self._recorded(), self._found)]
        alone: list[tuple[int, Change]] = []
        for key in sides[0].keys() | sides[1].keys():
            pairs, left = _paired(sides[0].get(key, []), sides[1].get(key, []), tolerance_s)
            self.compared += pairs
            alone += left
        for side, change in _lasting(alone, tolerance_s):
            # What followed from the last input need not have been looked at before the end.
            if change.at_utc_s < max(last_input, self._until - tolerance_s):
                tell(_finding(side, change))

    # ------------------------------------------------------------------ the watch

    def _go_on(self, until_utc_s: float) -> None:
        while self._now + _CHECK_S * self._speed < until_utc_s:
            self._now += _CHECK_S * self._speed
            self._check(self._now)
        self._now = max(self._now, until_utc_s)

    def _check(self, since_utc_s: float) -> None:
        assert self._state is not None
        if any(began <= self._now < over for began, over in self._gaps):
            self._unwatched_s = min(self._unwatched_s, since_utc_s)
            return  # nobody watched: the program was being started again
        since_utc_s, self._unwatched_s = min(since_utc_s, self._unwatched_s), math.inf
        while self._pending and self._pending[0].at_utc_s <= self._now:
            self._heard(self._pending.pop(0))
        machine = Machine()
        for said in self._machine.values():
            machine = replace(machine, **said)
        found = causes(facts_of(*self._state, self._now, machine), self._now)
        self._alarms, changes = checked(self._alarms, found, self._now)
        self._found += [
            Change(_key(kind, alarm), since_utc_s, self._now, self._line)
            for kind, alarm in changes
            if alarm.code not in _MACHINE
        ]

    def _heard(self, line: JournalLine) -> None:
        """What the record says of the machine, and of what operators have seen."""
        code = str(line.fields.get("code"))
        if line.kind == ACKNOWLEDGED:
            for standing in self._alarms:
                if _key("", standing.alarm)[1:3] == _recorded_key(line)[1:3]:
                    self._alarms, _ = acknowledged(self._alarms, standing.cause.key)
        elif code in _MACHINE and line.kind == RAISED:
            self._machine[code] = _MACHINE[code]
        else:
            self._machine.pop(code, None)

    def _recorded(self) -> Iterator[Change]:
        for line in self._lines:
            if line.kind != ACKNOWLEDGED and line.fields.get("code") not in _MACHINE:
                yield Change(_recorded_key(line), line.at_utc_s, line.at_utc_s, line.number)


def _unwatched(lines: list[JournalLine], check_s: float) -> list[tuple[float, float]]:
    """From the last line that a program wrote before it died, or the check before, to where the next
    went on."""
    return [
        (before.at_utc_s - check_s, line.at_utc_s)
        for before, line in pairwise(lines)
        if line.kind == "procedure_resumed"
    ]


# ------------------------------------------------------------------ side by side


def _key(kind: str, alarm: Alarm) -> Key:
    return kind, alarm.code, _about(alarm.params), alarm.priority.value


def _about(params: Mapping[str, Any]) -> str:
    return ", ".join(str(params[name]) for name in _ABOUT if name in params)


def _recorded_key(line: JournalLine) -> Key:
    f = line.fields
    given = f.get("params")
    params: dict[str, Any] = given if isinstance(given, dict) else {}
    return line.kind, str(f.get("code")), _about(params), str(f.get("priority"))


def _by_key(changes: Iterable[Change]) -> dict[Key, list[Change]]:
    found: dict[Key, list[Change]] = defaultdict(list)
    for change in changes:
        found[change.key].append(change)
    return found


def _paired(
    recorded: list[Change], now: list[Change], tolerance_s: float
) -> tuple[int, list[tuple[int, Change]]]:
    """How many are on both sides at the same time, and those that are on one (0: recorded, 1: now)."""
    pairs, alone = 0, []
    a, b = list(recorded), list(now)
    while a and b:
        apart_s = a[0].at_utc_s - min(max(a[0].at_utc_s, b[0].since_utc_s), b[0].at_utc_s)
        if abs(apart_s) <= tolerance_s:
            pairs += 1
            a.pop(0), b.pop(0)
        else:
            alone.append((0, a.pop(0)) if apart_s < 0.0 else (1, b.pop(0)))
    return pairs, [*alone, *((0, x) for x in a), *((1, x) for x in b)]


def _lasting(alone: list[tuple[int, Change]], tolerance_s: float) -> Iterator[tuple[int, Change]]:
    """Without those that were raised and cleared within the tolerance."""
    for side, change in alone:
        kind, *rest = change.key
        brief = any(
            s == side and other.key[1:] == tuple(rest) and other.key[0] != kind
            and abs(other.at_utc_s - change.at_utc_s) <= tolerance_s
            for s, other in alone
        )  # fmt: skip
        if not brief:
            yield side, change


def _finding(side: int, change: Change) -> Finding:
    kind, code, about, priority = change.key
    what = f"{kind}: {code}{f' ({about})' if about else ''}, {priority}"
    if side == 0:
        text = f"{what}: recorded, but does not follow at that time"
        return Finding(change.line, "alarm_not_recomputed", text)
    text = f"{what}: follows after this line, but is not on record at that time"
    return Finding(change.line, "alarm_not_recorded", text)
