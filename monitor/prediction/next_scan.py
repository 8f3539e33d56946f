"""The next scan worth taking: when the forecast says that a decision may be due. Seconds (UTC).

A decision rests on a probability: the share of the members that have lesion and margin covered, or
their ice closer to a structure than its limit. While it is sure, nobody needs to look; a scan is worth
its dose where one could act on it (covered: stop), where acting may be overdue (a structure), and where
waiting settles nothing. How unsure the ice itself is does not matter.
Invariant: what is not known asks for a scan at once; while freezing none is asked for later than the
age that the case allows an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from monitor.forecast_values import Forecast, NextScan
from monitor.model import Phase, PhaseKind


@dataclass(frozen=True)
class Settings:
    """From what probability on a decision is no longer sure not to be due, and from what on it is sure
    to be: the ends of the 80 % intervals that the forecast gives of everything."""

    unsure: float = 0.1
    sure: float = 0.9


_SETTINGS = Settings()


@dataclass(frozen=True)
class _Decision:
    at_utc_s: float
    what: str
    name: str = ""


def next_scan(
    forecast: Forecast, measured: bool, phase: Phase, stale_after_s: float, s: Settings = _SETTINGS
) -> NextScan:
    """From the forecast that runs on from the latest image, in the phase that runs. ``measured``: that
    image gave a measurement (or there is none yet)."""
    if not (measured and _whole(forecast) and stale_after_s >= 0.0):
        return NextScan(forecast.start_utc_s, "unmeasured")
    last = NextScan(forecast.times_utc_s[-1], "horizon")
    if phase.kind is PhaseKind.FREEZE and forecast.start_utc_s + stale_after_s < last.at_utc_s:
        last = NextScan(forecast.start_utc_s + stale_after_s, "image_age")
    first = min(_decisions(forecast, phase, s), key=lambda d: d.at_utc_s, default=None)
    if first is None:
        return last
    decided = replace(last, decision=first.what, decision_utc_s=first.at_utc_s, name=first.name)
    if first.at_utc_s > last.at_utc_s:
        return decided
    return replace(decided, at_utc_s=first.at_utc_s, asked_by="decision")


def _whole(f: Forecast) -> bool:
    curves = [f.covered, *(s.infringed for s in f.structures)]
    numbers = np.concatenate([[f.start_utc_s], f.times_utc_s, *curves])
    complete = all(len(c) == len(f.times_utc_s) for c in curves)
    return complete and len(f.times_utc_s) > 0 and bool(np.isfinite(numbers).all())


def _decisions(f: Forecast, phase: Phase, s: Settings) -> Iterator[_Decision]:
    for structure in f.structures:
        for level in (s.unsure, s.sure):
            at = _reached(f.times_utc_s, structure.infringed, level)
            if at is not None:
                yield _Decision(at, "limit", structure.name)
    if phase.kind is PhaseKind.FREEZE:
        yield from _of_coverage(f, phase, s)
    elif phase.ends_utc_s is not None:
        yield _Decision(phase.ends_utc_s, "phase_end")


def _of_coverage(f: Forecast, phase: Phase, s: Settings) -> Iterator[_Decision]:
    """Stop when it is covered; where that never gets sure, look when it may be; and at the planned end
    of the freeze, if it is unsure then whether to go on."""
    sure = _reached(f.times_utc_s, f.covered, s.sure)
    maybe = _reached(f.times_utc_s, f.covered, s.unsure)
    if sure is not None:
        yield _Decision(sure, "covered")
    elif maybe is not None:
        yield _Decision(maybe, "perhaps_covered")
    ends = phase.ends_utc_s
    if ends is not None and f.start_utc_s < ends <= f.times_utc_s[-1]:
        share = float(np.interp(ends, f.times_utc_s, f.covered))
        if s.unsure < share < s.sure:
            yield _Decision(ends, "phase_end")


def _reached(times: Sequence[float], share: Sequence[float], level: float) -> float | None:
    """When a share first passes a level, linear between the times; None if it has at the start (that
    scan has told it) or never does."""
    above = np.flatnonzero(np.asarray(share) >= level)
    if not above.size or above[0] == 0:
        return None
    n = int(above[0])
    part = (level - share[n - 1]) / (share[n] - share[n - 1])
    return float(times[n - 1] + part * (times[n] - times[n - 1]))
