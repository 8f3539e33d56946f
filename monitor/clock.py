"""The procedure clock: UTC in life, faster in a rehearsal. Seconds since the Unix epoch.

It advances with the monotonic clock, so a step of the machine's wall clock cannot make an old
image young. Invariant: readings in different processes of one machine agree, because Linux's
monotonic clock is shared by them all. It is read to the microsecond, as the journal keeps it: what a
replay is given is what was worked with.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class ProcedureClock:
    """``epoch_utc_s`` is what the clock showed when the monotonic clock showed ``anchor_mono_s`` and
    the machine's wall clock ``anchor_wall_s``."""

    epoch_utc_s: float
    anchor_mono_s: float
    speed: float = 1.0
    anchor_wall_s: float = math.nan

    @staticmethod
    def start(speed: float = 1.0, epoch_utc_s: float | None = None) -> ProcedureClock:
        """The clock of this procedure. With ``epoch_utc_s``, both ends of a rehearsal agree: the
        clock shows that epoch plus ``speed`` times what has passed since it."""
        wall, mono = time.time(), time.monotonic()
        shown = wall if epoch_utc_s is None else epoch_utc_s + speed * (wall - epoch_utc_s)
        return ProcedureClock(shown, mono, speed, wall)

    def now_utc_s(self) -> float:
        return round(self.epoch_utc_s + self.speed * (time.monotonic() - self.anchor_mono_s), 6)

    def jump_s(self) -> float:
        """By how much, in real seconds, the wall clock has run ahead of the monotonic one since the
        start: it was set, or the machine slept. The procedure clock did not follow."""
        return (time.time() - self.anchor_wall_s) - (time.monotonic() - self.anchor_mono_s)

    @staticmethod
    def mono_s() -> float:
        return round(time.monotonic(), 6)
