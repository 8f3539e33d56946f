"""What the tissue has been through since the first freeze began: lowest temperature, seconds below −20
and below −40 °C, freezes. °C, s, mm, arrays (member, z, y, x), the mean first, or (n, member) at points.

The engine accumulates it step by step (``History``); a scan then moves what was accumulated since the
scan before by as much as the ice was measured to lie elsewhere, and joins it to what came before.
Always a prediction: CT shows no temperature inside the ice.
Invariant: joining never raises a lowest temperature and never takes away seconds or freezes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_kernels.engine import Engine, History, Problem, State
from monitor.forecast_values import BodyDose, Dose
from monitor.geometry import Grid
from monitor.imaging.distance import signed_distance_mm
from monitor.model import Float32Array, FloatArray, PhaseKind
from monitor.prediction.anchor import source_index
from monitor.prediction.sampling import sampled, sampled_at

# Members' ice reaches this far beyond the nominal one's at most; what lies farther has been through nothing.
_REACH_MM = 8.0
# The engine's own steps suit the ice's edge and are up to a minute: seconds below −20 and −40 °C would be 32
# and 24 s off in ten minutes, in the mean over the cold voxels. With these they are 13 and 8 s off (tests).
_STEP_S = 30.0
# The row of a summary that can only fall.
_WARMEST = 2


@dataclass(frozen=True)
class Past:
    """``joined`` is the dose up to the last measured scan, ``frozen`` where the freeze that runs, or the
    last one, is counted already: an engine's history counts what is ice at its start once more."""

    joined: History
    frozen: npt.NDArray[np.bool_]


def none(state: State) -> Past:
    """Before anything: ``state`` has a history that begins with it."""
    assert state.history is not None
    return Past(state.history, state.history.cycles > 0)


def advanced(engine: Engine, problem: Problem, state: State, until_s: float) -> State:
    """The state at a time, in steps that the seconds below a temperature can be told by."""
    while state.time_s < until_s:
        state = engine.advance(problem, state, min(state.time_s + _STEP_S, until_s))
    return state


def since_scan(past: Past, state: State) -> History:
    """What came after the last measured scan, of a state that runs on from it."""
    assert state.history is not None
    cycles = np.maximum(state.history.cycles, past.frozen) - past.frozen
    return replace(state.history, cycles=cycles.astype(np.uint8))


def joined(before: History, since: History) -> History:
    """Both, one after the other."""
    return History(
        np.minimum(before.min_degc, since.min_degc),
        before.below_20_s + since.below_20_s,
        before.below_40_s + since.below_40_s,
        before.cycles + since.cycles,
    )


def mapped(history: History, change: Callable[[Any], Any]) -> History:
    """The same done to each field."""
    return History(*(change(getattr(history, name)) for name in vars(history)))


def at_scan(
    past: Past,
    reached: State,
    ice: Float32Array,
    anchored: State,
    measured_mm: Float32Array,
    kind: PhaseKind,
    grid: Grid,
) -> Past:
    """The dose up to a scan in a phase of that kind: the model has ``reached`` it from the scan before,
    with this ``ice`` (``reading``); ``anchored`` is where it starts again, at the measured surface, whose
    signed distance is ``measured_mm`` (z, y, x). Both states have a history.

    In a freeze, ice that lies elsewhere grew there since the scan before: what was accumulated moves
    with it (unmoved, the seconds below −20 and −40 °C are more than twice as far off, of two needles
    to be learned). In a thaw it melted otherwise, and what was frozen before stays."""
    assert anchored.history is not None
    frozen = anchored.history.cycles > 0
    since = since_scan(past, reached)
    made_up = (ice >= 0.5) & ~frozen & ~past.frozen
    cycles = np.where(made_up, 0, since.cycles)
    if kind is PhaseKind.FREEZE:
        cycles = cycles + (frozen & ~past.frozen & (cycles == 0))  # what the model has missed
        frozen |= past.frozen  # an edge that comes and goes by its error does not freeze twice
        since = _moved(since, ice[0], measured_mm, grid)
    whole = joined(past.joined, replace(since, cycles=cycles.astype(np.uint8)))
    lowest = np.minimum(whole.min_degc, anchored.history.min_degc)
    return Past(replace(whole, min_degc=lowest), frozen)


def _moved(since: History, nominal: Float32Array, measured_mm: Float32Array, grid: Grid) -> History:
    if not np.isfinite(measured_mm).all():  # a freeze without ice has done nothing
        return mapped(
            since, lambda field: np.full_like(field, np.inf if field is since.min_degc else 0)
        )
    model_mm = signed_distance_mm(0.5 - nominal, grid)
    if not np.isfinite(model_mm).all():
        return since
    near = np.minimum(measured_mm, model_mm) < _REACH_MM
    index = source_index(model_mm, measured_mm, grid)[:, near].T

    def there(field: Any) -> Any:
        out = field.astype(np.float32)
        out[:, near] = sampled(field, index).T
        return out

    return mapped(since, there)


# ------------------------------------------------------------------ at points, and summed up


def at_points(history: History, points_lps_mm: FloatArray, grid: Grid) -> History:
    """(n, member) of a history (member, z, y, x), at n points."""
    return mapped(history, lambda field: sampled_at(field, points_lps_mm, grid))


def summary(points: History, solidus_degc: float) -> FloatArray:
    """(row, member) of points (n, member) that stand for equal volumes: the shares that have reached −20
    and −40 °C; then of the point spared most: its lowest temperature, the times below, the freezes. What
    has been colder than the solidus has been frozen, however few of the voxels around it are counted."""
    lowest = points.min_degc
    freezes = np.maximum(np.rint(points.cycles), lowest <= solidus_degc)
    return np.stack(
        [
            (lowest <= -20.0).mean(0),
            (lowest <= -40.0).mean(0),
            lowest.max(0),
            points.below_20_s.min(0),
            points.below_40_s.min(0),
            freezes.min(0),
        ]
    )


def body_dose(name: str, summaries: Sequence[FloatArray], low: float, high: float) -> BodyDose:
    """Summaries (row, member), one a time, as intervals of the members; as in ``map_of``, nothing is
    taken away."""
    rows = np.stack(summaries)
    so_far = np.maximum.accumulate(rows)
    so_far[:, _WARMEST] = np.minimum.accumulate(rows[:, _WARMEST])
    bounds = np.quantile(so_far, [low, high], axis=2)  # (bound, time, row)
    return BodyDose(name, *(bounds[:, :, row].T for row in range(bounds.shape[2])))


def map_of(histories: Sequence[History]) -> Dose:
    """Of histories (z, y, x), one a time. Seconds are rounded down, so that none is too long. A drift
    that moves the forecast's ice back takes nothing away."""
    lowest = np.minimum.accumulate([h.min_degc for h in histories])
    below_20_s, below_40_s, cycles = (
        np.maximum.accumulate([getattr(h, name) for h in histories])
        for name in ("below_20_s", "below_40_s", "cycles")
    )
    return Dose(
        lowest.astype(np.float16),
        below_20_s.astype(np.uint16),
        below_40_s.astype(np.uint16),
        np.rint(cycles).astype(np.uint8),
    )
