"""The procedure clock: UTC in life, faster in a rehearsal. Seconds since the Unix epoch.

It advances with the monotonic clock, so a step of the machine's wall clock cannot make an old
image young. Invariant: readings in different processes of one machine agree, because Linux's
monotonic clock is shared by them all. It is read to the microsecond, as the journal keeps it: what a
replay is given is what was worked with.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ProcedureClock:
    """``epoch_utc_s`` is what the clock showed when the monotonic clock showed ``anchor_mono_s`` and
    the machine's wall clock ``anchor_wall_s``. ``mono_ahead_s``: what is added to the monotonic clock in
    ``mono_s``, so that it goes on where that of the procedure stood before the machine was started anew."""

    epoch_utc_s: float
    anchor_mono_s: float
    speed: float = 1.0
    anchor_wall_s: float = math.nan
    mono_ahead_s: float = 0.0

    @staticmethod
    def start(speed: float = 1.0, epoch_utc_s: float | None = None) -> ProcedureClock:
        """The clock of this procedure. With ``epoch_utc_s``, both ends of a rehearsal agree: the
        clock shows that epoch plus ``speed`` times what has passed since it."""
        wall, mono = time.time(), time.monotonic()
        shown = wall if epoch_utc_s is None else epoch_utc_s + speed * (wall - epoch_utc_s)
        return ProcedureClock(shown, mono, speed, wall)

    @staticmethod
    def resumed(told: Mapping[str, Any], last_utc_s: float, last_mono_s: float) -> ProcedureClock:
        """The clock that wrote ``told`` (``anchors``), gone on: since the machine was started anew, if it
        was, by its wall clock, but never back behind the last that was recorded. Raises ``KeyError``,
        ``TypeError`` or ``ValueError`` where it was not told."""
        epoch, anchor, speed, anchor_wall = (
            float(told[name]) for name in ("epoch_utc_s", "anchor_mono_s", "speed", "anchor_wall_s")
        )
        ahead_s = float(told.get("mono_ahead_s", 0.0))
        if told["boot_id"] and told["boot_id"] == boot_id():
            return ProcedureClock(epoch, anchor, speed, anchor_wall, ahead_s)
        wall, mono = time.time(), time.monotonic()
        shown = max(epoch + speed * (wall - anchor_wall), last_utc_s)
        gone_s = (shown - last_utc_s) / speed
        return ProcedureClock(shown, mono, speed, wall, last_mono_s + gone_s - mono)

    def anchors(self) -> dict[str, Any]:
        """What ``resumed`` needs, for the journal."""
        return {**asdict(self), "boot_id": boot_id()}

    def now_utc_s(self) -> float:
        return round(self.epoch_utc_s + self.speed * (time.monotonic() - self.anchor_mono_s), 6)

    def of_wall(self, wall_s: float) -> float:
        """What this clock showed when the wall clock showed ``wall_s``; not later than now."""
        shown = self.epoch_utc_s + self.speed * (wall_s - self.anchor_wall_s)
        return min(round(shown, 6), self.now_utc_s())

    def jump_s(self) -> float:
        """By how much, in real seconds, the wall clock has run ahead of the monotonic one since the
        start: it was set, or the machine slept. The procedure clock did not follow."""
        return (time.time() - self.anchor_wall_s) - (time.monotonic() - self.anchor_mono_s)

    def mono_s(self) -> float:
        return round(time.monotonic() + self.mono_ahead_s, 6)


def boot_id() -> str:
    """Another one each time the machine is started; "" where the system tells none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
