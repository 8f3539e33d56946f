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
from scipy.linalg import block_diag

from gpu_kernels.engine import Engine, Members, Problem, State
from gpu_kernels.overlap import states
from monitor.config import NeedleConfig
from monitor.geometry import Grid
from monitor.imaging.distance import resample, signed_distance_mm
from monitor.model import Float32Array, FloatArray, IceSegmentation, PhaseKind, Reason
from monitor.prediction import dose, ensemble
from monitor.prediction.anchor import MAX_SHIFT_MM, anchored_temperature_degc
from monitor.prediction.drift import Drift, observed
from monitor.prediction.ensemble import Prior
from monitor.prediction.observation import EdgePoints, Seen, beyond_mm, edge_points
from monitor.prediction.smoother import updated
from monitor.prediction.stopping import (
    Stopped,
    candidates,
    duty_at,
    first_difference_s,
    first_of,
    halted,
    misfit_of,
    misfits,
)

BODY_DEGC = 37.0
# Ice that forecast and scan both see when it is there: younger ice may hide.
_SURE_ML = 1.0

# The problem of this case for given members.
MakeProblem = Callable[[Members], Problem]


@dataclass(frozen=True)
class Settings:
    """Every number of the assimilation, with its reason."""

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
    # All points of a scan err together by what its registration leaves (docs/imaging.md: 0.2 mm in the
    # median, more with the breath).
    registration_mm: float = 0.5
    # The spread never falls below this share of the prior's: a model that is wrong must not be sure.
    least_share: float = 0.25
    # An ensemble draws lines on without end: ice that no parameter explains is said, not explained.
    farthest_sds: float = 4.0
    # Fewer points make no surface.
    least_points: int = 20
    # A needle has stopped when that explains the surfaces so much better (χ², in points that count for
    # themselves; and by this share of the misfit since then), with the parameters learned either way. Of all
    # misfit, true failures of the tuning scenarios explained 118 and 89, three quarters; others at most 21,
    # a tenth. Suspicion alone needs the former.
    stopped_gain: float = 30.0
    stopped_share: float = 0.3
    # Each member starts from a surface of its own, off by its share of the measurement's error.
    start_share: float = 1.0


_SETTINGS = Settings()


@dataclass(frozen=True)
class Estimate:
    """``theta`` is the ensemble, ``prior`` what it began as; ``predicted`` (member, n) is what it says of
    each of ``seen``.
    ``free`` is its own course at the last scan, ``state`` the same with the measured surface: where a
    forecast starts, with a history that begins there. Both hold the mean first, then the members.
    ``nominal``: the mean's own course at each of ``seen``. ``stopped``: since when each needle no longer
    cools. ``past``: what the tissue had been through by the last measured scan. ``drifts``: what no
    parameter explained, in freezes and in thaws. ``needles``: where they have frozen since the first of
    ``seen``; ``taught`` is False from when one was moved that had taught something: what the scans teach
    then would be wrong, and the parameters stay."""

    volume_id: str | None
    prior: Prior
    theta: FloatArray
    free: State
    state: State
    stopped: Stopped
    past: dose.Past
    seen: tuple[Seen, ...] = ()
    predicted: tuple[FloatArray, ...] = ()
    nominal: tuple[State, ...] = ()
    drifts: Mapping[PhaseKind, Drift] = field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()
    needles: tuple[NeedleConfig, ...] = ()
    taught: bool = True

    @property
    def members(self) -> Members:
        return ensemble.members(self.theta)

    def problem(self, make: MakeProblem) -> Problem:
        """With these members, and the needles that still cool."""
        return halted(make(self.members), self.stopped)


def first_estimate(
    prior: Prior, make: MakeProblem, engine: Engine, needles: tuple[NeedleConfig, ...] = ()
) -> Estimate:
    """Body temperature everywhere, the parameters as they are before any scan."""
    theta = ensemble.drawn(prior)
    state = engine.initial(make(ensemble.members(theta)), BODY_DEGC, history=True)
    free, running = replace(state, history=None), (math.inf,) * len(prior.cooling)
    return Estimate(None, prior, theta, free, state, running, dose.none(state), needles=needles)


def replaced(
    e: Estimate, needles: tuple[NeedleConfig, ...], make: MakeProblem, engine: Engine
) -> Estimate:
    """The estimate when the needles are seen to freeze in these places. A needle that is frozen to the tissue
    cannot be moved: it was moved before the first freeze, or in a thaw. In the first case all begins
    anew with its true place; in the second what the scans have taught stays, and the ice they have shown."""
    if needles == e.needles:
        return e
    if not e.seen:
        return first_estimate(e.prior, make, engine, needles)
    free = replace(e.state, history=None)
    return replace(e, free=free, needles=needles, taught=False, drifts={})


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
    before, e = e, replace(e, free=free, volume_id=ice.volume_id)
    edge = edge_points(ice, s.points, seed=len(e.seen)) if np.isfinite(ice.sdf_mm).all() else None
    if e.taught and edge is not None and len(edge.points_lps_mm) >= s.least_points:
        e = _learned(e, Seen(free.time_s, edge, _variance_mm2(edge, s)), make, grid, engine, s)
    e = _with_drift(e, before, ice, kind, make, grid, engine)
    e = _anchored(e, ice, e.problem(make), grid, engine, s)
    return _with_dose(e, before, ice, kind, make, grid, engine)


def _with_drift(
    e: Estimate,
    before: Estimate,
    ice: IceSegmentation,
    kind: PhaseKind,
    make: MakeProblem,
    grid: Grid,
    engine: Engine,
) -> Estimate:
    """How the nominal course from the scan before would have missed this one, with the parameters that
    this one taught; nothing before the second."""
    if before.volume_id is None:
        return e
    old, new = (halted(make(ensemble.mean(x.theta)), x.stopped) for x in (before, e))
    start = _taken_over(first_of(before.state), old, new, engine)
    state = engine.advance(new, start, max(e.free.time_s, start.time_s))
    forecast_mm = signed_distance_mm(0.5 - _fraction(new, state, engine)[0], grid)
    elapsed_s = state.time_s - start.time_s
    drift = observed(_measured_on(ice, grid), forecast_mm, elapsed_s, grid, before.drifts.get(kind))
    return e if drift is None else replace(e, drifts={**e.drifts, kind: drift})


def _taken_over(state: State, old: Problem, new: Problem, engine: Engine) -> State:
    """The same temperatures and stasis with other parameters: an enthalpy means another temperature."""
    taken = engine.initial(new, engine.temperature_degc(old, state), state.time_s)
    return replace(taken, perfused_from_s=state.perfused_from_s)


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
    since_s = first_difference_s([running.stopped, other.stopped])
    least = max(s.stopped_gain, s.stopped_share * _misfit(running, since_s))
    return other if _misfit(running) - _misfit(other) > least else running


def _misfit(e: Estimate, since_s: float = 0.0) -> float:
    after = [n for n, scan in enumerate(e.seen) if scan.at_s > since_s]
    return misfit_of(
        [e.predicted[n].mean(0) for n in after], [e.seen[n].variance_mm2 for n in after]
    )


def _suspected(
    e: Estimate, make: MakeProblem, grid: Grid, engine: Engine, s: Settings
) -> Stopped | None:
    """By nominal courses alone, before this scan has taught anything."""
    times_s = [x.at_s for x in e.seen]
    off = [duty_at(n, times_s[-1]) == 0.0 for n in make(e.members).needles]
    options = [e.stopped, *candidates(e.stopped, times_s, off)]
    since_s = first_difference_s(options)
    known = [state for state in e.nominal if state.time_s <= since_s]
    nominal = halted(make(ensemble.mean(e.theta)), e.stopped)
    start = known[-1] if known else engine.initial(nominal, BODY_DEGC)
    found = misfits(options, nominal.members, make, start, e.seen[len(known) :], grid, engine)
    best = int(np.argmin(found))
    return options[best] if found[0] - found[best] > s.stopped_gain else None


def _smoothed(e: Estimate, make: MakeProblem, grid: Grid, engine: Engine, s: Settings) -> Estimate:
    rng = np.random.default_rng(len(e.seen))
    for alpha in s.alphas if len(e.seen) <= s.wide_scans else s.later_alphas:
        predicted = np.concatenate(e.predicted, axis=1)
        variance = np.concatenate([x.variance_mm2 for x in e.seen])
        theta = updated(e.theta, predicted, variance, alpha, rng, _shifts(e.seen, s))
        e = _run(replace(e, theta=_plausible(theta, e.prior, s)), make, grid, engine)
    return e


def _shifts(seen: tuple[Seen, ...], s: Settings) -> FloatArray:
    """(n, 3 per scan): by how much each distance grows if a scan's registration is off by one standard
    deviation along each axis."""
    blocks = [s.registration_mm * x.edge.normals for x in seen]
    return np.asarray(block_diag(*blocks))


def _plausible(theta: FloatArray, prior: Prior, s: Settings) -> FloatArray:
    """Not surer than a model may be that is wrong, and not where no patient is."""
    first = ensemble.drawn(prior)
    mean, sd = theta.mean(0), theta.std(0)
    stretch = np.maximum(s.least_share * first.std(0) / np.maximum(sd, 1e-9), 1.0)
    farthest = s.farthest_sds * first.std(0)
    wide = mean + (theta - mean) * stretch
    return np.asarray(np.clip(wide, first.mean(0) - farthest, first.mean(0) + farthest))


def _run(e: Estimate, make: MakeProblem, grid: Grid, engine: Engine) -> Estimate:
    """The ensemble from the first freeze through all scans."""
    problem = e.problem(make)
    state = engine.initial(problem, BODY_DEGC)
    nominal, predicted = [], []
    course = states(engine, problem, state, [scan.at_s for scan in e.seen])
    for scan, state in zip(e.seen, course, strict=True):
        nominal.append(first_of(state))
        predicted.append(beyond_mm(_fraction(problem, state, engine)[1:], grid, scan.edge))
    return replace(e, free=state, nominal=tuple(nominal), predicted=tuple(predicted))


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
    return replace(
        e, state=state, reasons=_disagreement(moved[0][1], fraction[0], measured_mm, grid)
    )


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


def _disagreement(
    shift_mm: float, fraction: Float32Array, measured_mm: Float32Array, grid: Grid
) -> tuple[Reason, ...]:
    """Whether the nominal ice (z, y, x) and the measured one are far apart; or only one of them is there."""
    predicted_ml = float((fraction >= 0.5).sum()) * grid.voxel_ml
    measured_ml = float((measured_mm <= 0.0).sum()) * grid.voxel_ml
    if max(predicted_ml, measured_ml) > _SURE_ML and min(predicted_ml, measured_ml) == 0.0:
        text = (
            f"The scan shows {measured_ml:.1f} ml of ice, the forecast had {predicted_ml:.1f} ml."
        )
    elif abs(shift_mm) >= MAX_SHIFT_MM / 2:
        text = f"The measured ice edge lies {shift_mm:+.1f} mm from the predicted one."
    else:
        return ()
    return (Reason("forecast_disagrees", text),)
