"""A record as a screen shows it: what was known when, and the head that plays it. UTC s of the procedure.

The recorded events go through the same ``step`` and the same ``Publisher`` as in life, each result at the
time that its own line has; the alarms are those that the journal says were raised. Fields and volumes are
written into a scratch folder.
Invariant: nothing is written into the record, and whatever is shown is marked as replayed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gpu_kernels.engine import Engine
from monitor.decision.alarm_states import ACKNOWLEDGED, CLEARED, RAISED
from monitor.model import Alarm, CtVolume, Int16Array, Priority, scan_of
from monitor.procedure import Procedure
from monitor.publish import Publisher, snapshot
from monitor.record.reading import JournalLine, Tell
from monitor.record.store import Store
from monitor.replay import Step, first_procedure, replay
from monitor.snapshot import ArrayRef, Replayed, Snapshot
from monitor.state import KeepVolume, State, initial_state

PACES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_AlarmsAt = tuple[float, tuple[Alarm, ...]]


@dataclass(frozen=True)
class Moment:
    """What the screen shows from ``at_utc_s`` on. ``scan``: the volume that was assessed then, for the first
    time. ``shown`` is None where nothing new has come of the input: time has passed, that is all."""

    at_utc_s: float
    shown: Snapshot | None
    scan: str | None = None


# ------------------------------------------------------------------ worked out


def moments(
    record: Path, lines: list[JournalLine], engine: Engine, scratch: Path, tell: Tell
) -> Iterator[Moment]:
    """Every moment of the record, in order. Raises ``RecordError`` where a case cannot be opened."""
    for moment, _ in worked_moments(record, lines, engine, scratch, tell):
        yield moment


def worked_moments(
    record: Path, lines: list[JournalLine], engine: Engine, scratch: Path, tell: Tell
) -> Iterator[tuple[Moment, Step | None]]:
    """The same, each with the step of which it came; the first, before anything came in, has none."""
    store = Store(scratch, scratch, generations=None)
    publisher = Publisher(store)

    def kept(volume: CtVolume) -> Int16Array:
        ref = _pixels(record, store, volume)
        publisher.volume_kept(volume.volume_id, ref)
        return np.load(ref.path, mmap_mode="r")

    procedure = first_procedure(record, lines, lambda _: None)
    state, seen = initial_state(procedure), set[str]()
    first = _shown(lines[0].at_utc_s, state, procedure, publisher)
    yield Moment(lines[0].at_utc_s, first), None
    for step in replay(record, lines, engine, tell, kept):
        at = max([step.line.at_utc_s, *(x.at_utc_s for x in step.recorded)])
        if not step.outputs and step.line.kind != "operator":
            yield Moment(at, None), step
            continue
        scan = _assessed(step, seen)
        seen |= {scan} if scan else set()
        yield Moment(at, _shown(at, step.state, step.procedure, publisher), scan), step


def _shown(at: float, state: State, procedure: Procedure, publisher: Publisher) -> Snapshot:
    shared = publisher.share(state, procedure)
    return snapshot(0, at, at, state, shared, procedure, ())


def _assessed(step: Step, seen: set[str]) -> str | None:
    """A volume that came for the first time; a revision of one is the same scan. A baseline is one, too."""
    for output in step.outputs:
        if isinstance(output, KeepVolume) and scan_of(output.volume.volume_id) not in seen:
            return scan_of(output.volume.volume_id)
    return None


def _pixels(record: Path, store: Store, volume: CtVolume) -> ArrayRef:
    """The record's own file where it holds these pixels, else a file of the scratch folder."""
    path = record / "volumes" / f"{volume.volume_id}.npy"
    try:
        same = np.array_equal(np.load(path, mmap_mode="r", allow_pickle=False), volume.hu)
    except (OSError, ValueError, EOFError):
        same = False
    return ArrayRef(str(path)) if same else store.keep_volume(volume)


def scans_in(lines: Sequence[JournalLine]) -> int:
    """How many scans the record says were received."""
    completed = (x for x in lines if x.kind == "volume_completed")
    return len({scan_of(str(x.fields.get("volume_id"))) for x in completed})


def alarms_over_time(lines: Sequence[JournalLine]) -> list[_AlarmsAt]:
    """Which alarms stood from when on, by the journal's lines. A line that cannot be read is passed over."""
    standing: dict[tuple[str, str], Alarm] = {}
    found: list[_AlarmsAt] = []
    for line in lines:
        if line.kind not in (RAISED, ACKNOWLEDGED, CLEARED):
            continue
        alarm = _alarm(line)
        key = (alarm.code, alarm.about)
        standing.pop(key, None)
        if line.kind != CLEARED or alarm.latched:
            standing[key] = replace(alarm, acknowledged=line.kind == ACKNOWLEDGED)
        found.append((line.at_utc_s, tuple(standing.values())))
    return found


def _alarm(line: JournalLine) -> Alarm:
    """The name in a line's params is what its alarm is about."""
    f = line.fields
    params = {str(k): str(v) for k, v in dict(f.get("params") or {}).items()}
    named = {p.value: p for p in Priority}
    priority = named.get(str(f.get("priority")), Priority.HIGH)
    about = params.get("name", "")
    latched = f.get("latched") is True
    return Alarm(str(f.get("code")), priority, line.at_utc_s, params, latched, False, about)


# ------------------------------------------------------------------ played


class Head:
    """Where the playing is. ``add`` as the moments are worked out; it never runs ahead of them. Not for
    several threads at once: who owns it locks."""

    def __init__(
        self,
        began_utc_s: float,
        ends_utc_s: float,
        alarms: list[_AlarmsAt],
        scans: int,
        pace: float,
    ) -> None:
        self.at_utc_s, self.pace, self.paused = began_utc_s, pace, False
        self.broken = self.whole = False
        self._began_utc_s, self._ends_utc_s, self._recorded = began_utc_s, ends_utc_s, scans
        self._alarms, self._alarm_times = alarms, [at for at, _ in alarms]
        self._moments: list[Moment] = []
        self._times: list[float] = []
        self._scans: list[float] = []
        self._reached_utc_s = began_utc_s
        self._goal: int | None = None
        self._seq = 0

    def add(self, moment: Moment) -> None:
        self._reached_utc_s = max(self._reached_utc_s, moment.at_utc_s)
        if moment.shown is not None:
            self._moments.append(moment)
            self._times.append(self._reached_utc_s)
        if moment.scan is not None:
            self._scans.append(self._reached_utc_s)
            if self._goal == len(self._scans):
                self._jump(self._goal)

    def complete(self, broken: bool = False) -> None:
        """No moment will come any more; ``broken``: though the record goes on."""
        self.whole, self.broken, self._goal = True, broken, None

    @property
    def horizon_utc_s(self) -> float:
        """Up to here it can be played."""
        return self._ends_utc_s if self.whole and not self.broken else self._reached_utc_s

    @property
    def working(self) -> bool:
        waits = self.at_utc_s >= self.horizon_utc_s and not self.paused
        return not self.whole and (waits or self._goal is not None)

    def pass_time(self, real_s: float) -> None:
        """Plays on for so many seconds of life, as far as there is something to play."""
        if not self.paused:
            self.at_utc_s += self.pace * real_s
        self.at_utc_s = min(self.at_utc_s, self.horizon_utc_s)
        if self.whole and self.at_utc_s >= self.horizon_utc_s:
            self.paused = True

    # ------------------------------------------------------------------ what an operator may do

    def act(self, name: str, number: int | None = None) -> bool:
        """Whether it is an act of the player; every other one would change what was."""
        if name == "replay_pause":
            self.paused = not self.paused
        elif name in ("replay_step", "replay_back"):
            self._step(1 if name == "replay_step" else -1)
        elif name in ("replay_next", "replay_previous"):
            self._to_scan(self.scan + (1 if name == "replay_next" else -1))
        elif name == "replay_scan" and number is not None:
            self._to_scan(number)
        elif name in ("replay_faster", "replay_slower"):
            self._change_pace(1 if name == "replay_faster" else -1)
        else:
            return False
        return True

    @property
    def scan(self) -> int:
        """The number of the latest scan, from 1; 0 before the first."""
        return bisect_right(self._scans, self.at_utc_s)

    def _to_scan(self, number: int) -> None:
        number = max(1, number)
        if number <= len(self._scans):
            self._jump(number)
        elif not self.whole:
            self._goal = number

    def _jump(self, number: int) -> None:
        self.at_utc_s, self._goal = self._scans[number - 1], None

    def _step(self, by: int) -> None:
        """To the moment at which something changed, and stays there."""
        self.paused = True
        here = bisect_right(self._times, self.at_utc_s) - 1
        while 0 <= here + by < len(self._times):
            here += by
            if self._times[here] != self.at_utc_s:
                break
        if self._times:
            self.at_utc_s = self._times[max(0, here)]

    def _change_pace(self, by: int) -> None:
        near = min(range(len(PACES)), key=lambda i: abs(PACES[i] - self.pace))
        self.pace = PACES[min(len(PACES) - 1, max(0, near + by))]

    # ------------------------------------------------------------------ what is shown

    def shown(self, refused: str | None = None) -> Snapshot | None:
        """What the screen showed at this point of the record, marked as replayed."""
        here = bisect_right(self._times, self.at_utc_s) - 1
        found = self._moments[here].shown if here >= 0 else None
        if found is None:
            return None
        self._seq += 1
        of = bisect_right(self._alarm_times, self.at_utc_s) - 1
        return replace(
            found,
            seq=self._seq,
            now_utc_s=self.at_utc_s,
            heartbeat_utc_s=self.at_utc_s,
            alarms=self._alarms[of][1] if of >= 0 else (),
            refused=refused or found.refused,
            replay=self._replayed(),
        )

    def _replayed(self) -> Replayed:
        return Replayed(
            self._began_utc_s,
            self.pace,
            self.paused or self.working,
            self.scan,
            max(self._recorded, len(self._scans)),
            self.working,
            self.broken and self.at_utc_s >= self.horizon_utc_s,
        )
