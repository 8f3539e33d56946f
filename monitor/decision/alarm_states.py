"""The life of an alarm: raised, acknowledged, over. One transition table. Pure.

In the words of IEC 60601-1-8 a ``Cause`` is an alarm condition, what the screen does about it the alarm
signal; a latching alarm's signal outlives its condition until an operator acknowledges it. Seconds
(UTC, procedure clock); levels in units of their rule, the higher the worse.
Invariant: a latching alarm leaves the screen only acknowledged, and an acknowledgement holds only
for the condition it was given for: one that comes back, or grows worse, sounds again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

from monitor.model import Alarm, Priority

# What makes two alarms the same one: the code and what it is about.
Key = tuple[str, str]
# A line for the journal: its kind and the alarm.
Change = tuple[str, Alarm]


class AlarmState(Enum):
    INACTIVE = auto()
    UNACKNOWLEDGED = auto()
    ACKNOWLEDGED = auto()
    LATCHED = auto()


class AlarmEvent(Enum):
    """What a check or an operator tells an alarm: its cause stands, or is worse than it was, or is gone;
    or somebody has seen it."""

    STANDS = auto()
    WORSENS = auto()
    ENDS = auto()
    ACKNOWLEDGE = auto()


RAISED, ACKNOWLEDGED, CLEARED = "alarm_raised", "alarm_acknowledged", "alarm_cleared"
_S, _E = AlarmState, AlarmEvent

# (state, event): what it becomes, and what the journal says of it. LATCHED is for alarms that latch;
# the others are INACTIVE then.
TRANSITIONS: dict[tuple[AlarmState, AlarmEvent], tuple[AlarmState, str | None]] = {
    (_S.INACTIVE, _E.STANDS): (_S.UNACKNOWLEDGED, RAISED),
    (_S.INACTIVE, _E.WORSENS): (_S.UNACKNOWLEDGED, RAISED),
    (_S.INACTIVE, _E.ENDS): (_S.INACTIVE, None),
    (_S.INACTIVE, _E.ACKNOWLEDGE): (_S.INACTIVE, None),
    (_S.UNACKNOWLEDGED, _E.STANDS): (_S.UNACKNOWLEDGED, None),
    (_S.UNACKNOWLEDGED, _E.WORSENS): (_S.UNACKNOWLEDGED, RAISED),
    (_S.UNACKNOWLEDGED, _E.ENDS): (_S.LATCHED, CLEARED),
    (_S.UNACKNOWLEDGED, _E.ACKNOWLEDGE): (_S.ACKNOWLEDGED, ACKNOWLEDGED),
    (_S.ACKNOWLEDGED, _E.STANDS): (_S.ACKNOWLEDGED, None),
    (_S.ACKNOWLEDGED, _E.WORSENS): (_S.UNACKNOWLEDGED, RAISED),
    (_S.ACKNOWLEDGED, _E.ENDS): (_S.INACTIVE, CLEARED),
    (_S.ACKNOWLEDGED, _E.ACKNOWLEDGE): (_S.ACKNOWLEDGED, None),
    (_S.LATCHED, _E.STANDS): (_S.UNACKNOWLEDGED, RAISED),
    (_S.LATCHED, _E.WORSENS): (_S.UNACKNOWLEDGED, RAISED),
    (_S.LATCHED, _E.ENDS): (_S.LATCHED, None),
    (_S.LATCHED, _E.ACKNOWLEDGE): (_S.INACTIVE, ACKNOWLEDGED),
}
_UNSEEN = (AlarmState.UNACKNOWLEDGED, AlarmState.LATCHED)
_PRIORITIES = list(Priority)


@dataclass(frozen=True)
class Cause:
    """Something that is wrong now. ``about`` tells apart what has the same code (a structure, a
    reason); one step of ``level`` is worse enough to sound again; never NaN."""

    code: str
    priority: Priority
    params: dict[str, str] = field(default_factory=dict)
    about: str = ""
    level: float = 0.0
    latching: bool = False

    @property
    def key(self) -> Key:
        return self.code, self.about


@dataclass(frozen=True)
class Standing:
    """An alarm on the screen. ``cause`` is its last; ``level`` the mildest since it was raised or
    acknowledged; ``latching`` whether anything that nobody has acknowledged yet would latch."""

    cause: Cause
    state: AlarmState
    since_utc_s: float
    level: float
    latching: bool

    @property
    def alarm(self) -> Alarm:
        c, state = self.cause, self.state
        return Alarm(
            c.code,
            c.priority,
            self.since_utc_s,
            c.params,
            latched=state is AlarmState.LATCHED,
            acknowledged=state is AlarmState.ACKNOWLEDGED,
            about=c.about,
        )


Alarms = tuple[Standing, ...]


def checked(
    before: Alarms, causes: Iterable[Cause], now_utc_s: float
) -> tuple[Alarms, tuple[Change, ...]]:
    """The alarms after a check, worst first, and what changed."""
    # Of two causes with one key the worse counts.
    worst_last = sorted(causes, key=lambda c: (-_rank(c.priority), c.level))
    now = {c.key: c for c in worst_last}
    alarms = {s.cause.key: s for s in before}
    for key, cause in now.items():
        alarms.setdefault(key, _new(cause, now_utc_s))
    return _settled([_told(s, _event(s, now.get(key)), now.get(key)) for key, s in alarms.items()])


def acknowledged(before: Alarms, key: Key | None) -> tuple[Alarms, tuple[Change, ...]]:
    """After an operator has acknowledged one alarm, or (None) all of them."""
    event = AlarmEvent.ACKNOWLEDGE
    return _settled(
        [_told(s, event, None) if key is None or s.cause.key == key else (s, None) for s in before]
    )


def _rank(priority: Priority) -> int:
    return _PRIORITIES.index(priority)


def _new(cause: Cause, now_utc_s: float) -> Standing:
    return Standing(cause, AlarmState.INACTIVE, now_utc_s, cause.level, cause.latching)


def _event(s: Standing, cause: Cause | None) -> AlarmEvent:
    if cause is None:
        return AlarmEvent.ENDS
    # The difference of two infinite levels is NaN: as bad as can be is not worse than that.
    worse = _rank(cause.priority) < _rank(s.cause.priority) or cause.level - s.level >= 1.0
    return AlarmEvent.WORSENS if worse else AlarmEvent.STANDS


def _told(s: Standing, event: AlarmEvent, cause: Cause | None) -> tuple[Standing, str | None]:
    state, said = TRANSITIONS[s.state, event]
    if state is AlarmState.LATCHED and not s.latching:
        state = AlarmState.INACTIVE
    cause = cause or s.cause
    level = cause.level if said else min(s.level, cause.level)
    latching = cause.latching or (s.latching and s.state in _UNSEEN)
    return Standing(cause, state, s.since_utc_s, level, latching), said


def _settled(told: list[tuple[Standing, str | None]]) -> tuple[Alarms, tuple[Change, ...]]:
    """What is left on the screen, worst first, and what the journal gets."""
    left = [s for s, _ in told if s.state is not AlarmState.INACTIVE]
    changes = tuple((said, s.alarm) for s, said in told if said)
    return tuple(sorted(left, key=lambda s: _rank(s.cause.priority))), changes
