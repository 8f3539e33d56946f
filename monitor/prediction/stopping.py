"""Has a needle stopped cooling? Nobody says so in the room; the ice does. Seconds since the first freeze.

``Stopped`` has for each needle the time from which it no longer cools, inf while it does. A
needle is suspected when the nominal course without it explains the surfaces so much better that no
change of parameters is likely to do as well. Invariant: suspicion changes nothing by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from gpu_kernels.engine import Engine, Members, Needle, Problem, State
from gpu_kernels.law import interpolate
from monitor.geometry import Grid
from monitor.model import FloatArray
from monitor.prediction.observation import Seen, beyond_mm
from monitor.prediction.reading import ice_of

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


def duty_at(needle: Needle, time_s: float) -> float:
    """As the needle is set then."""
    if not isinstance(needle.duty, tuple):
        return needle.duty
    return interpolate(needle.duty, time_s, before=needle.duty[0][1])


def candidates(
    stopped: Stopped, times_s: Sequence[float], off: Sequence[bool] = ()
) -> Iterator[Stopped]:
    """One needle stopped, or found to cool after all. ``times_s``: the scans' so far, the last one's
    last; a needle may have stopped at the start of the last two intervals between them, or half-way,
    unless it is ``off`` as an operator has set it."""
    before = [0.0, *times_s]
    for n, at_s in enumerate(stopped):
        others = stopped[:n], stopped[n + 1 :]
        if math.isfinite(at_s):
            yield (*others[0], math.inf, *others[1])
            continue
        if off and off[n]:
            continue
        for start_s, end_s in list(pairwise(before))[-2:]:
            for when_s in (start_s, 0.5 * (start_s + end_s)):
                if when_s > 0.0:
                    yield (*others[0], when_s, *others[1])


def first_difference_s(options: Sequence[Stopped]) -> float:
    """The first time at which they are not all the same; inf where there is but one."""
    columns = zip(*options, strict=True)
    return min((min(at) for at in columns if len(set(at)) > 1), default=math.inf)


def misfits(
    options: Sequence[Stopped],
    nominal: Members,
    make: Callable[[Members], Problem],
    start: State,
    scans: Sequence[Seen],
    grid: Grid,
    engine: Engine,
) -> FloatArray:
    """(option,): how badly the nominal course fits the scans since ``start`` (one member) with needles
    stopped as in each option: members of one run, whose needles draw nothing from their time on."""
    state = _repeated(start, len(options))
    stops_s = np.array(options)
    turns_s = {float(at) for at in stops_s.ravel() if state.time_s < at < scans[-1].at_s}
    seen = {scan.at_s: scan for scan in scans}
    total = np.zeros(len(options))
    for until_s in sorted(turns_s | seen.keys()):
        problem = make(_cooling_still(nominal, stops_s > state.time_s))
        state = engine.advance(problem, state, until_s)
        if until_s in seen:
            beyond = beyond_mm(ice_of(problem, state, engine), grid, seen[until_s].edge)
            total += (beyond**2 / seen[until_s].variance_mm2).sum(axis=1)
    return total


def _cooling_still(nominal: Members, cools: npt.NDArray[np.bool_]) -> Members:
    """The nominal member once for each option (rows of ``cools``: option, needle)."""
    count, needles = cools.shape
    cooling = nominal.cooling_by_needle(needles)[0] * cools
    return Members(
        nominal.perfusion * count,
        nominal.latent_heat * count,
        nominal.k_frozen * count,
        tuple(tuple(map(float, row)) for row in cooling),
        nominal.blood_shift_degc * count,
    )


def first_of(state: State) -> State:
    """The first member's."""
    back = state.perfused_from_s
    return State(state.time_s, state.enthalpy_j_m3[:1], None if back is None else back[:1])


def _repeated(state: State, count: int) -> State:
    back = state.perfused_from_s
    return State(
        state.time_s,
        np.repeat(state.enthalpy_j_m3, count, axis=0),
        None if back is None else np.repeat(back, count, axis=0),
    )


def misfit_of(beyond: Sequence[FloatArray], variances: Sequence[FloatArray]) -> float:
    """Squared distances over their variances, summed over the scans' points."""
    return float(sum(np.sum(b**2 / v) for b, v in zip(beyond, variances, strict=True)))
