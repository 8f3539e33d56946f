"""Has a needle stopped cooling? Nobody says so in the room; the ice does. Seconds since the first freeze.

``Stopped`` has for each driven needle the time from which it no longer cools, inf while it does. A
needle is suspected when the nominal course without it explains the surfaces so much better that no
change of parameters is likely to do as well. Invariant: suspicion changes nothing by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from gpu_kernels.engine import Problem
from gpu_kernels.law import interpolate
from monitor.model import FloatArray

Stopped = tuple[float, ...]


def halted(problem: Problem, stopped: Stopped) -> Problem:
    """The problem with needles that are not driven from their time on."""
    needles = []
    for needle, at_s in zip(problem.needles, stopped, strict=True):
        if math.isfinite(at_s):
            before = tuple(entry for entry in needle.surface_degc if entry[0] < at_s)
            # On a ramp it had come so far by then.
            last = (at_s, interpolate(needle.surface_degc, at_s))
            needle = replace(needle, surface_degc=(*before, last, (at_s, float("nan"))))
        needles.append(needle)
    return replace(problem, needles=tuple(needles))


def candidates(stopped: Stopped, times_s: Sequence[float]) -> Iterator[Stopped]:
    """One needle stopped, or found to cool after all. ``times_s``: the scans' so far, the last one's
    last; a needle may have stopped at the start of the last two intervals between them, or half-way."""
    before = [0.0, *times_s]
    for n, at_s in enumerate(stopped):
        others = stopped[:n], stopped[n + 1 :]
        if math.isfinite(at_s):
            yield (*others[0], math.inf, *others[1])
            continue
        for start_s, end_s in list(pairwise(before))[-2:]:
            for when_s in (start_s, 0.5 * (start_s + end_s)):
                if when_s > 0.0:
                    yield (*others[0], when_s, *others[1])


def suspected(
    stopped: Stopped,
    times_s: Sequence[float],
    misfit: Callable[[Stopped], float],
    least_gain: float,
) -> Stopped | None:
    """The candidate that fits best, if it fits better than ``stopped`` by ``least_gain``."""
    best, least = None, misfit(stopped) - least_gain
    for candidate in candidates(stopped, times_s):
        value = misfit(candidate)
        if value < least:
            best, least = candidate, value
    return best


def misfit_of(beyond: Sequence[FloatArray], variances: Sequence[FloatArray]) -> float:
    """Squared distances over their variances, summed over the scans' points."""
    return float(sum(np.sum(b**2 / v) for b, v in zip(beyond, variances, strict=True)))
