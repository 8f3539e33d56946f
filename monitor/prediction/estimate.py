"""What the scans have taught the model: parameters and state, after each of them. Seconds since the
first freeze began, mm, arrays (member, z, y, x).

Each scan's surface is compared with what every member predicts there; an ensemble smoother corrects
the parameters by all scans so far (``smoother``), and the members run again from the start. What the
parameters cannot explain (a vessel, another tissue) moves the state onto the measured surface
(``anchor``).
Invariant: the parameters come from measured surfaces only, and the same scans give the same estimate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from gpu_kernels.engine import Engine, Members, Problem, State
from monitor.geometry import Grid
from monitor.imaging.distance import resample, signed_distance_mm
from monitor.model import Float32Array, FloatArray, IceSegmentation, PhaseKind, Reason
from monitor.prediction import dose, ensemble
from monitor.prediction.anchor import MAX_SHIFT_MM, anchored_temperature_degc
from monitor.prediction.drift import Drift, observed
from monitor.prediction.ensemble import Prior
from monitor.prediction.observation import EdgePoints, beyond_mm, edge_points
from monitor.prediction.smoother import updated
from monitor.prediction.stopping import Stopped, halted, misfit_of, suspected

BODY_DEGC = 37.0

# The problem of this case for given members.
MakeProblem = Callable[[Members], Problem]


@dataclass(frozen=True)
class Settings:
    """Every number of the assimilation, with its reason."""

    prior: Prior = field(default_factory=Prior)
    # Two steps while the ensemble is wide: the model bends enough over the prior's width for one to
    # overshoot. Later scans change little, and each step costs a run through all.
    alphas: tuple[float, ...] = (2.0, 2.0)
    later_alphas: tuple[float, ...] = (1.0,)
    wide_scans: int = 2
    # Points of a surface. Their errors go together over some 10 mm, so each counts for less.
    points: int = 150
    together_mm: float = 10.0
    # What the model gets wrong whatever its parameters: vessels, tissue borders, the needles' profile.
    model_mm: float = 0.8
    # The spread never falls below this share of the prior's: a model that is wrong must not be sure.
    least_share: float = 0.25
    # Fewer points make no surface.
    least_points: int = 20
    # A needle has stopped when that explains the surfaces so much better (χ², in points that count for
    # themselves; and by this share), with the parameters learned either way. True failures of the tuning
    # scenarios: 118 and 89, three quarters; others at most 21, a tenth. Suspicion alone needs the former.
    stopped_gain: float = 30.0
    stopped_share: float = 0.3
    # Each member starts from a surface of its own, off by its share of the measurement's error.
    start_share: float = 1.0


_SETTINGS = Settings()


@dataclass(frozen=True)
class Seen:
    """One scan's surface, when, and the variance that each of its points counts with (mm²)."""

    at_s: float
    edge: EdgePoints
    variance_mm2: FloatArray


@dataclass(frozen=True)
class Estimate:
    """``theta`` is the ensemble; ``predicted`` (member, n) is what it says of each of ``seen``.
    ``free`` is its own course at the last scan, ``state`` the same with the measured surface: where a
    forecast starts, with a history that begins there. Both hold the mean first, then the members.
    ``stopped``: since when each needle no longer cools. ``past``: what the tissue had been through by the
    last measured scan. ``drifts``: what no parameter explained, in freezes and in thaws."""

    volume_id: str | None
    theta: FloatArray
    free: State
    state: State
    stopped: Stopped
    past: dose.Past
    seen: tuple[Seen, ...] = ()
    predicted: tuple[FloatArray, ...] = ()
    drifts: Mapping[PhaseKind, Drift] = field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()

    @property
    def members(self) -> Members:
        return ensemble.members(self.theta)

    def problem(self, make: MakeProblem) -> Problem:
        """With these members, and the needles that still cool."""
        return halted(make(self.members), self.stopped)


def first_estimate(
    needles: int, make: MakeProblem, engine: Engine, s: Settings = _SETTINGS
) -> Estimate:
    """Body temperature everywhere, the parameters as they are before any scan."""
    theta = ensemble.drawn(needles, s.prior)
    state = engine.initial(make(ensemble.members(theta)), BODY_DEGC, history=True)
    free = replace(state, history=None)
    return Estimate(None, theta, free, state, (math.inf,) * needles, dose.none(state))


def assimilated(
    e: Estimate,
    ice: IceSegmentation,
    at_s: float,
    kind: PhaseKind,
    make: MakeProblem,
    grid: Grid,
    engine: Engine,
    s: Settings = _SETTINGS,
) -> Estimate:
    """The estimate after a scan in a phase of that kind. One without a measurement only moves time on."""
    problem = e.problem(make)
    free = engine.advance(problem, e.free, max(at_s, e.free.time_s))
    if ice.sdf_mm is None:
        return replace(e, free=free, state=engine.advance(problem, e.state, free.time_s))
    before = e
    e = replace(_with_drift(e, ice, free.time_s, kind, problem, grid, engine), free=free)
    e = replace(e, volume_id=ice.volume_id)
    edge = edge_points(ice, s.points, seed=len(e.seen)) if np.isfinite(ice.sdf_mm).all() else None
    if edge is not None and len(edge.points_lps_mm) >= s.least_points:
        e = _learned(e, Seen(free.time_s, edge, _variance_mm2(edge, s)), make, grid, engine, s)
        problem = e.problem(make)
    e = _anchored(e, ice, problem, grid, engine, s)
    return _with_dose(e, before, ice, kind, make, grid, engine)


def _with_drift(
    e: Estimate,
    ice: IceSegmentation,
    at_s: float,
    kind: PhaseKind,
    problem: Problem,
    grid: Grid,
    engine: Engine,
) -> Estimate:
    """How the forecast from the scan before missed this one; nothing before the second."""
    if e.volume_id is None:
        return e
    state = engine.advance(problem, e.state, max(at_s, e.state.time_s))
    nominal = _fraction(problem, state, engine)[0]
    forecast_mm = signed_distance_mm(0.5 - nominal, grid)
    drift = observed(_measured_on(ice, grid), forecast_mm, at_s - e.state.time_s, grid)
    return e if drift is None else replace(e, drifts={**e.drifts, kind: drift})


def _variance_mm2(edge: EdgePoints, s: Settings) -> FloatArray:
    independent = max(edge.area_mm2 / s.together_mm**2, 4.0)
    share = max(len(edge.points_lps_mm) / independent, 1.0)
    return np.asarray((edge.variance_mm2 + s.model_mm**2) * share)


# ------------------------------------------------------------------ parameters


def _learned(
    e: Estimate, scan: Seen, make: MakeProblem, grid: Grid, engine: Engine, s: Settings
) -> Estimate:
    """The parameters by all scans so far, and the ensemble's course with them."""
    now = beyond_mm(_fraction(e.problem(make), e.free, engine)[1:], grid, scan.edge)
    before = replace(e, seen=(*e.seen, scan), predicted=(*e.predicted, now))
    running = _smoothed(before, make, grid, engine, s)
    stopped = _suspected(before, make, grid, engine, s)
    if stopped is None:
        return running
    other = _run(replace(before, stopped=stopped), make, grid, engine)
    other = _smoothed(other, make, grid, engine, s)
    least = max(s.stopped_gain, s.stopped_share * _misfit(running))
    return other if _misfit(running) - _misfit(other) > least else running


def _misfit(e: Estimate) -> float:
    return misfit_of([p.mean(0) for p in e.predicted], [x.variance_mm2 for x in e.seen])


def _suspected(
    e: Estimate, make: MakeProblem, grid: Grid, engine: Engine, s: Settings
) -> Stopped | None:
    """By the nominal course alone, before this scan has taught anything."""
    mean = make(ensemble.mean(e.theta))

    def misfit(stopped: Stopped) -> float:
        _, predicted = _course(halted(mean, stopped), e.seen, grid, engine)
        return misfit_of([p[0] for p in predicted], [x.variance_mm2 for x in e.seen])

    return suspected(e.stopped, [x.at_s for x in e.seen], misfit, s.stopped_gain)


def _smoothed(e: Estimate, make: MakeProblem, grid: Grid, engine: Engine, s: Settings) -> Estimate:
    rng = np.random.default_rng(len(e.seen))
    for alpha in s.alphas if len(e.seen) <= s.wide_scans else s.later_alphas:
        predicted = np.concatenate(e.predicted, axis=1)
        variance = np.concatenate([x.variance_mm2 for x in e.seen])
        nothing = np.zeros(predicted.shape[1])
        theta = updated(e.theta, predicted, nothing, variance, alpha, rng)
        e = _run(replace(e, theta=_not_too_sure(theta, s)), make, grid, engine)
    return e


def _not_too_sure(theta: FloatArray, s: Settings) -> FloatArray:
    first = ensemble.drawn(theta.shape[1] - ensemble.TISSUE_PARAMETERS, s.prior)
    mean, sd = theta.mean(0), theta.std(0)
    least = s.least_share * first.std(0)
    stretch = np.maximum(least / np.maximum(sd, 1e-9), 1.0)
    return np.asarray(mean + (theta - mean) * stretch)


def _run(e: Estimate, make: MakeProblem, grid: Grid, engine: Engine) -> Estimate:
    """The ensemble from the first freeze through all scans."""
    state, predicted = _course(e.problem(make), e.seen, grid, engine)
    return replace(e, free=state, predicted=tuple(p[1:] for p in predicted))


def _course(
    problem: Problem, seen: tuple[Seen, ...], grid: Grid, engine: Engine
) -> tuple[State, list[FloatArray]]:
    """All members of a problem from body temperature through the scans: the state at the last, and how
    far beyond each surface they lie."""
    state = engine.initial(problem, BODY_DEGC)
    predicted = []
    for scan in seen:
        state = engine.advance(problem, state, scan.at_s)
        predicted.append(beyond_mm(_fraction(problem, state, engine), grid, scan.edge))
    return state, predicted


def _fraction(problem: Problem, state: State, engine: Engine) -> Float32Array:
    return np.asarray(engine.frozen_fraction(problem, state), np.float32)


# ------------------------------------------------------------------ state


def _anchored(
    e: Estimate, ice: IceSegmentation, problem: Problem, grid: Grid, engine: Engine, s: Settings
) -> Estimate:
    """Every member's ice edge moved onto the measured one, each off by its share of the error."""
    measured_mm = _measured_on(ice, grid)
    temperature = np.asarray(engine.temperature_degc(problem, e.free), np.float32)
    fraction = _fraction(problem, e.free, engine)
    thawed_degc = problem.tissues[0].liquidus_degc + 0.1
    offsets_mm = _offsets_mm(len(temperature), s.start_share * ice.edge_error_mm, len(e.seen))
    moved = [
        anchored_temperature_degc(t, f, measured_mm + o, grid, thawed_degc)
        for t, f, o in zip(temperature, fraction, offsets_mm, strict=True)
    ]
    degc = np.stack([m[0] for m in moved])
    state = engine.initial(problem, degc, e.free.time_s, history=True)
    if e.free.perfused_from_s is not None and state.perfused_from_s is not None:
        # Where the model has thawed and the scan shows no ice, blood stays off.
        still_off = np.maximum(e.free.perfused_from_s, state.perfused_from_s)
        state = replace(state, perfused_from_s=still_off)
    return replace(e, state=state, reasons=_disagreement(moved[0][1]))


def _with_dose(
    e: Estimate,
    before: Estimate,
    ice: IceSegmentation,
    kind: PhaseKind,
    make: MakeProblem,
    grid: Grid,
    engine: Engine,
) -> Estimate:
    """What the tissue has been through since the scan ``before``, from its measured surface on with the
    needles that are now known to cool; up to the first scan, all of it with what that has taught."""
    if before.volume_id is None:
        problem = e.problem(make)
        start = engine.initial(problem, BODY_DEGC, history=True)
    else:
        problem, start = halted(make(before.members), e.stopped), before.state
    reached = dose.advanced(engine, problem, start, e.state.time_s)
    fraction, measured_mm = _fraction(problem, reached, engine), _measured_on(ice, grid)
    past = dose.at_scan(before.past, reached, fraction, e.state, measured_mm, kind, grid)
    return replace(e, past=past)


def _offsets_mm(count: int, sd_mm: float, seed: int) -> Float32Array:
    """0 for the mean; for the members, spread evenly with that SD, in an order by chance."""
    if not np.isfinite(sd_mm) or count < 3:
        return np.zeros(count, np.float32)
    z = np.random.default_rng(1000 + seed).normal(size=count - 1)
    z = (z - z.mean()) / z.std()
    return np.concatenate([[0.0], sd_mm * z]).astype(np.float32)


def _measured_on(ice: IceSegmentation, grid: Grid) -> Float32Array:
    assert ice.sdf_mm is not None
    if not np.isfinite(ice.sdf_mm).all():
        return np.full(grid.shape_zyx, np.inf, np.float32)
    rim_mm = float(np.nanmax(ice.sdf_mm))
    return np.asarray(resample(ice.sdf_mm, ice.grid, grid, outside=rim_mm), np.float32)


def _disagreement(shift_mm: float) -> tuple[Reason, ...]:
    if np.isnan(shift_mm) or abs(shift_mm) < MAX_SHIFT_MM / 2:
        return ()
    text = f"The measured ice edge lies {shift_mm:+.1f} mm from the predicted one."
    return (Reason("forecast_disagrees", text),)
