"""What a scan teaches the parameters, by all scans so far. Seconds since the first freeze began, mm, arrays
(member, z, y, x).

Its surface is compared with what every member predicts there, and an ensemble smoother corrects the
parameters (``smoother``). Nobody should wait for what runs through all scans: with the corrected
parameters the members go on from the scan before, and what they would have had at earlier ones is
corrected as the parameters are. ``caught_up`` runs them from the first freeze on, when there is time.
Invariant: the parameters come from measured surfaces only, and the same scans give the same estimate,
whenever it is caught up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import block_diag

from gpu_kernels.engine import Engine, State
from gpu_kernels.overlap import states
from monitor.geometry import Grid
from monitor.model import FloatArray, IceSegmentation
from monitor.prediction import ensemble
from monitor.prediction.ensemble import Prior
from monitor.prediction.estimate import (
    BODY_DEGC,
    Estimate,
    MakeProblem,
    taken_over,
)
from monitor.prediction.observation import EdgePoints, Seen, beyond_mm, edge_points
from monitor.prediction.reading import ice_of
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
from monitor.stages import stage

# States that are kept of a course: a needle is suspected of the last two intervals between scans, and each
# state is 10 MB.
_KEPT = 3


@dataclass(frozen=True)
class Settings:
    """Every number of the learning, with its reason."""

    # Two steps while the ensemble is wide: the model bends enough over the prior's width for one to
    # overshoot. Later scans change little, and each step but the last costs a run through all.
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


SETTINGS = Settings()


SETTINGS = Settings()


def learned(
    e: Estimate,
    ice: IceSegmentation,
    make: MakeProblem,
    grid: Grid,
    engine: Engine,
    s: Settings = SETTINGS,
) -> Estimate:
    """The estimate with what a measured scan teaches, which its members (``free``) have reached with what was
    known before; as it was where that is nothing. It must be caught up."""
    assert ice.sdf_mm is not None
    if not (e.taught and np.isfinite(ice.sdf_mm).all()):
        return e
    if e.free.time_s <= (e.seen[-1].at_s if e.seen else 0.0):
        return e  # taken as the freeze began, or another reconstruction of the scan before: no course since
    edge = edge_points(ice, s.points, seed=len(e.seen))
    if len(edge.points_lps_mm) < s.least_points:
        return e
    now = beyond_mm(ice_of(e.problem(make), e.free, engine)[1:], grid, edge)
    scan = Seen(e.free.time_s, edge, _variance_mm2(edge, s))
    return _taught(
        replace(e, seen=(*e.seen, scan), predicted=(*e.predicted, now)), make, grid, engine, s
    )


@stage("learning")
def caught_up(e: Estimate, make: MakeProblem, grid: Grid, engine: Engine) -> Estimate:
    """The members' own course from the first freeze on, with all that is known by now. ``state``, and a
    forecast that runs on from it, stay."""
    return _run(e, e, -math.inf, make, grid, engine) if e.due else e


def _variance_mm2(edge: EdgePoints, s: Settings) -> FloatArray:
    independent = max(edge.area_mm2 / s.together_mm**2, 4.0)
    share = max(len(edge.points_lps_mm) / independent, 1.0)
    return np.asarray((edge.variance_mm2 + s.model_mm**2) * share)


def _taught(e: Estimate, make: MakeProblem, grid: Grid, engine: Engine, s: Settings) -> Estimate:
    """Either with the needles as they are known to cool, or with one that has stopped."""
    last_s = e.seen[-2].at_s if len(e.seen) > 1 else 0.0
    running = _smoothed(e, last_s, make, grid, engine, s)
    stopped = _suspected(e, make, grid, engine, s)
    if stopped is None:
        return running
    since_s = first_difference_s([e.stopped, stopped])
    from_s = min(since_s, last_s)
    other = _run(replace(e, stopped=stopped), e, from_s, make, grid, engine)
    other = _smoothed(other, from_s, make, grid, engine, s)
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
    nominal = halted(make(ensemble.mean(e.theta)), e.stopped)
    known = _last(e.course, first_difference_s(options))
    start = engine.initial(nominal, BODY_DEGC) if known is None else first_of(known)
    after = [scan for scan in e.seen if scan.at_s > start.time_s]
    found = misfits(options, nominal.members, make, start, after, grid, engine)
    best = int(np.argmin(found))
    return options[best] if found[0] - found[best] > s.stopped_gain else None


def _smoothed(
    e: Estimate, from_s: float, make: MakeProblem, grid: Grid, engine: Engine, s: Settings
) -> Estimate:
    """After the last step only what comes after ``from_s`` is run."""
    rng = np.random.default_rng(len(e.seen))
    alphas = s.alphas if len(e.seen) <= s.wide_scans else s.later_alphas
    for step, alpha in enumerate(alphas, 1):
        predicted = np.concatenate(e.predicted, axis=1)
        variance = np.concatenate([x.variance_mm2 for x in e.seen])
        both = np.hstack([e.theta, predicted])
        both = updated(both, predicted, variance, alpha, rng, _shifts(e.seen, s))
        theta, predicted = np.hsplit(both, [e.theta.shape[1]])
        ends = np.cumsum([x.variance_mm2.size for x in e.seen])[:-1]
        better = replace(
            e,
            theta=_plausible(theta, e.prior, s),
            predicted=tuple(np.split(predicted, ends, axis=1)),
        )
        e = _run(better, e, from_s if step == len(alphas) else -math.inf, make, grid, engine)
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


# ------------------------------------------------------------------ the members' course


def _last(course: tuple[State, ...], until_s: float) -> State | None:
    return next((state for state in reversed(course) if state.time_s <= until_s), None)


def _run(
    e: Estimate, before: Estimate, from_s: float, make: MakeProblem, grid: Grid, engine: Engine
) -> Estimate:
    """The members on from the last state of ``before`` by ``from_s``, else from the first freeze, through all
    scans; what they predict of earlier scans stays."""
    problem, known = e.problem(make), _last(before.course, from_s)
    if known is None:
        start = engine.initial(problem, BODY_DEGC)
    else:
        start = taken_over(known, before.problem(make), problem, engine)
    after = [scan for scan in e.seen if scan.at_s > start.time_s]
    predicted = list(e.predicted[: len(e.seen) - len(after)])
    course: list[State] = []
    for state in states(engine, problem, start, [scan.at_s for scan in after]):
        edge = after[len(course)].edge
        predicted.append(beyond_mm(ice_of(problem, state, engine)[1:], grid, edge))
        course.append(state)
    kept = (
        tuple(x for x in before.course if x.time_s <= from_s) if known else tuple(course[-_KEPT:])
    )
    return replace(
        e, free=course[-1], course=kept, due=known is not None, predicted=tuple(predicted)
    )
