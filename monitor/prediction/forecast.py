"""The forecast: bioheat run on from the last scan. Seconds, °C, LPS mm, arrays (member, z, y, x).

Problem time starts with the first freeze. Invariant: a forecast runs on from exactly one estimate
(the ensemble at the last measured scan, or body temperature before the first), which it does not
change: the same estimate gives the same forecast.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gpu_kernels.engine import Engine, History, Problem, State
from gpu_kernels.overlap import states
from monitor.config import Config
from monitor.forecast_values import Forecast, StructureForecast
from monitor.geometry import FloatArray, Grid
from monitor.model import Float32Array, PhaseKind, Reason, Status
from monitor.prediction import dose
from monitor.prediction.drift import Drift, asked_at, moved
from monitor.prediction.estimate import Estimate
from monitor.prediction.reading import read
from monitor.prediction.sampling import sampled_at
from monitor.prediction.stopping import duty_at
from monitor.prediction.unexplained import spread
from monitor.stages import stage

HORIZON_S = 900.0
# Outputs as far as the next scan, and half as many beyond.
OUTPUT_EVERY_S, NEAR_S = 30.0, 300.0
# And so long after a phase began: cold that comes or goes in seconds does so on no straight line.
_AFTER_CHANGE_S = (0.0, 10.0, 20.0, 30.0, 45.0)
# Intervals hold the middle 80 % of the members.
_LOW, _HIGH = 0.1, 0.9
# What fewer members than this reach within the horizon is said not to be reached.
_HARDLY_ANY = 0.1
# A body is asked at so many of its points: what lies farthest from the needles, or nearest to them, is
# missed by 0.7 mm at most, by 0.07 mm in the median (bodies of the tuning scenarios).
_MOST_POINTS = 4000


# The surface at a limit: points 2 to 3 mm apart, between which a ball of ice hides a quarter of a millimetre.
_LIMIT_POINTS = 1500
# Volumes are asked at fewer: a share of them is then known to 2 %.
_VOLUME_POINTS = 800
# What a body without points has; tissue at body temperature has more.
_NO_ICE = -10.0
# Nowhere warmer than this, in no member, is there an isotherm of interest: bands and drift stop there.
_OF_INTEREST_DEGC = 12.0


Named = tuple[tuple[str, FloatArray], ...]


@dataclass(frozen=True)
class Target:
    """Points (n, 3) LPS mm that have to freeze: the lesion's, and those of lesion plus margin; by name
    those of structures that must not; for each of these the surface at its limit around it; points that
    stand for equal volumes of the lesion, and of lesion plus margin; and of each body in the order of
    ``bodies_lps_mm`` its surface."""

    lesion_lps_mm: FloatArray
    margin_lps_mm: FloatArray
    structures_lps_mm: Named = ()
    limits_lps_mm: tuple[FloatArray, ...] = ()
    volumes_lps_mm: Named = ()
    surfaces_lps_mm: tuple[FloatArray, ...] = ()

    @property
    def bodies_lps_mm(self) -> tuple[FloatArray, ...]:
        structures = (points for _, points in self.structures_lps_mm)
        return self.lesion_lps_mm, self.margin_lps_mm, *structures

    def mapped(self, change: Callable[[FloatArray], FloatArray]) -> Target:
        """The same done to the points of each."""

        def named(points: Named) -> Named:
            return tuple((name, change(p)) for name, p in points)

        return Target(
            change(self.lesion_lps_mm),
            change(self.margin_lps_mm),
            named(self.structures_lps_mm),
            tuple(change(p) for p in self.limits_lps_mm),
            named(self.volumes_lps_mm),
            tuple(change(p) for p in self.surfaces_lps_mm),
        )


@dataclass(frozen=True)
class Reached:
    """By member, at one time: the least frozen point of lesion and margin, and of each structure the
    most frozen and the coldest."""

    least_lesion: FloatArray
    least_margin: FloatArray
    most_structure: tuple[FloatArray, ...]
    coldest_degc: tuple[FloatArray, ...]


@dataclass(frozen=True)
class Output(Reached):
    """One time of a forecast; also the nominal temperature, the share of the members that are frozen there,
    the middle 80 % of their temperatures, what the nominal one has been through (z, y, x); and by member:
    of what lies at each structure's limit the most frozen, and of each volume what it has been through
    (``dose.summary``)."""

    nominal_degc: Float32Array
    probability: Float32Array
    band_degc: npt.NDArray[np.float16]
    dose: History
    most_limit: tuple[FloatArray, ...]
    volumes: tuple[FloatArray, ...]


@dataclass(frozen=True)
class Job:
    """A forecast being computed, a few outputs at a time, so that a new scan never waits for it.
    ``past``: the dose of the nominal member up to the last scan (z, y, x); ``volumes_past``: every
    member's at the points of the target's volumes (n, member)."""

    problem: Problem
    grid: Grid
    target: Target
    estimate: Estimate
    state: State
    times_s: tuple[float, ...]
    kind: PhaseKind
    past: History
    volumes_past: tuple[History, ...]
    drift: Drift | None = None
    outputs: tuple[Output, ...] = ()

    @property
    def done(self) -> bool:
        return len(self.outputs) == len(self.times_s)


@stage("forecast")
def begin_forecast(
    problem: Problem,
    estimate: Estimate,
    grid: Grid,
    target: Target,
    kind: PhaseKind,
    began_s: float = -math.inf,
) -> Job:
    """Outputs from the estimate's time to ``HORIZON_S`` past it. ``problem`` has its members; ``kind`` is
    the phase that runs, since ``began_s``."""
    times_s = _times_s(estimate.state.time_s, began_s)
    target, before = _thinned(target), estimate.past.joined
    members = dose.mapped(before, lambda field: field[_members(field)])
    return Job(
        problem,
        grid,
        target,
        estimate,
        estimate.state,
        times_s,
        kind,
        past=dose.mapped(before, lambda field: field[0]),
        volumes_past=tuple(
            dose.at_points(members, points, grid) for _, points in target.volumes_lps_mm
        ),
        drift=estimate.drifts.get(kind),
    )


def _times_s(start_s: float, began_s: float) -> tuple[float, ...]:
    near = np.arange(0.0, NEAR_S, OUTPUT_EVERY_S)
    far = np.arange(NEAR_S, HORIZON_S + 1.0, 2.0 * OUTPUT_EVERY_S)
    changing = began_s - start_s + np.array(_AFTER_CHANGE_S)
    changing = changing[(changing > 0.0) & (changing < HORIZON_S)]
    return tuple(float(start_s + t) for t in np.unique([*near, *far, *changing]))


def _thinned(target: Target) -> Target:
    """What a forecast asks: of surfaces by themselves nothing."""
    thinned = replace(target, surfaces_lps_mm=()).mapped(lambda p: evenly(p, _MOST_POINTS))
    return replace(
        thinned,
        limits_lps_mm=tuple(evenly(p, _LIMIT_POINTS) for p in target.limits_lps_mm),
        volumes_lps_mm=tuple((n, evenly(p, _VOLUME_POINTS)) for n, p in target.volumes_lps_mm),
    )


def evenly(points: FloatArray, most: int) -> FloatArray:
    """Every so many-th, so that there are ``most`` at most."""
    return points[:: max(1, -(-len(points) // most))]


@stage("forecast")
def advance_forecast(job: Job, engine: Engine, outputs: int) -> Job:
    """The job with up to ``outputs`` more times computed."""
    first = len(job.outputs)
    times_s = job.times_s[first : first + outputs]
    for state in states(engine, job.problem, job.state, times_s):
        job = replace(job, state=state, outputs=(*job.outputs, _output(job, state, engine)))
    return job


def _output(job: Job, state: State, engine: Engine) -> Output:
    degc, ice = read(job.problem, state, engine)
    members = _members(ice)
    elapsed_s = state.time_s - job.times_s[0]
    ice = spread(ice[members], degc[0], elapsed_s, job.grid)
    since = dose.since_scan(job.estimate.past, state)
    cold = _cold(since)
    cooled = spread(degc[members], degc[0], elapsed_s, job.grid, where=cold)

    def there(field: Float32Array) -> Float32Array:
        return moved(field, job.drift, elapsed_s, job.grid, cold)

    target = drifted(job.target, job.drift, elapsed_s, job.grid)
    through = dose.mapped(since, lambda field: field[members])
    solidus_degc = job.problem.tissues[0].solidus_degc
    probability = (ice >= 0.5).mean(0, dtype=np.float32)
    return Output(
        **vars(at_target(ice, cooled, target, job.grid)),
        nominal_degc=there(degc[0]),
        probability=there(probability),
        band_degc=there(_band_degc(cooled, cold)).astype(np.float16),
        dose=dose.joined(job.past, dose.mapped(since, lambda field: there(field[0]))),
        most_limit=tuple(
            sampled_at(ice, points, job.grid).max(axis=0, initial=_NO_ICE)
            for points in target.limits_lps_mm
        ),
        volumes=tuple(
            dose.summary(
                dose.joined(past, dose.at_points(through, points, job.grid)),
                solidus_degc,
            )
            for (_, points), past in zip(target.volumes_lps_mm, job.volumes_past, strict=True)
        ),
    )


def drifted(target: Target, drift: Drift | None, elapsed_s: float, grid: Grid) -> Target:
    """The target where a course without drift has what it has at the target with it."""
    return target.mapped(lambda points: asked_at(points, drift, elapsed_s, grid))


def at_target(ice: Float32Array, degc: Float32Array, target: Target, grid: Grid) -> Reached:
    """What members (member, z, y, x) have at the target."""
    structures = [points for _, points in target.structures_lps_mm]
    return Reached(
        least_lesion=sampled_at(ice, target.lesion_lps_mm, grid).min(axis=0),
        least_margin=sampled_at(ice, target.margin_lps_mm, grid).min(axis=0),
        most_structure=tuple(
            sampled_at(ice, points, grid).max(axis=0, initial=_NO_ICE) for points in structures
        ),
        coldest_degc=tuple(
            sampled_at(degc, points, grid).min(axis=0, initial=np.inf) for points in structures
        ),
    )


def _members(field: npt.NDArray[Any]) -> slice:
    """All but the mean, which is alone where there are no others."""
    return slice(1, None) if len(field) > 1 else slice(None)


def _cold(since: History) -> npt.NDArray[np.bool_]:
    """Where any member has been cold enough to matter, and one voxel around."""
    cold = (since.min_degc < _OF_INTEREST_DEGC).any(axis=0)
    return np.asarray(ndimage.binary_dilation(cold))


def _band_degc(degc: Float32Array, where: npt.NDArray[np.bool_]) -> Float32Array:
    """(2, z, y, x): the middle 80 % of the members; elsewhere their mean."""
    band = np.repeat(degc.mean(0, keepdims=True), 2, axis=0)
    band[:, where] = np.quantile(degc[:, where], [_LOW, _HIGH], axis=0)
    return band


@stage("forecast")
def finish_forecast(
    job: Job, config: Config, freeze_started_utc_s: float, engine: Engine
) -> Forecast:
    """The forecast of a job that is done."""
    elapsed_s = np.array(job.times_s) - job.times_s[0]
    doubts = (*job.estimate.reasons, *failing(job.estimate, job.problem, config))
    margin = np.array([o.least_margin for o in job.outputs])
    return Forecast(
        from_volume_id=job.estimate.volume_id,
        start_utc_s=freeze_started_utc_s + job.times_s[0],
        grid=job.grid,
        times_utc_s=tuple(freeze_started_utc_s + t for t in job.times_s),
        temperature_degc=np.stack([o.nominal_degc for o in job.outputs]),
        edge_degc=edge_degc(config),
        time_to_lesion_s=interval_s(elapsed_s, np.array([o.least_lesion for o in job.outputs])),
        time_to_margin_s=interval_s(elapsed_s, margin),
        engine=engine.name,
        status=Status.DEGRADED if doubts else Status.OK,
        reasons=(*doubts, *_never(margin)),
        probability=np.stack([o.probability for o in job.outputs]),
        structures=tuple(
            _structure(job, i, name, elapsed_s)
            for i, (name, _) in enumerate(job.target.structures_lps_mm)
        ),
        kind=job.kind,
        colder_degc=np.stack([o.band_degc[0] for o in job.outputs]),
        warmer_degc=np.stack([o.band_degc[1] for o in job.outputs]),
        covered=_share(margin),
        dose=dose.map_of([o.dose for o in job.outputs]),
        bodies=tuple(
            dose.body_dose(name, [o.volumes[i] for o in job.outputs], _LOW, _HIGH)
            for i, (name, _) in enumerate(job.target.volumes_lps_mm)
        ),
    )


def _share(fraction: FloatArray) -> tuple[float, ...]:
    """Of values (time, member), the share of the members at each time that are frozen; NaN is told."""
    share = np.where(np.isfinite(fraction).all(1), (fraction >= 0.5).mean(1), np.nan)
    return tuple(float(v) for v in share)


def _structure(job: Job, number: int, name: str, elapsed_s: FloatArray) -> StructureForecast:
    most = np.array([o.most_structure[number] for o in job.outputs])
    last_degc = job.outputs[-1].coldest_degc[number]
    low, high = (float(np.quantile(last_degc, q)) for q in (_LOW, _HIGH))
    infringed: tuple[float, ...] = ()
    if job.target.limits_lps_mm:
        infringed = _share(np.maximum(most, [o.most_limit[number] for o in job.outputs]))
    return StructureForecast(name, interval_s(elapsed_s, most), (low, high), infringed)


def failing(estimate: Estimate, problem: Problem, config: Config) -> tuple[Reason, ...]:
    """What is to be said of needles that have stopped cooling, and are not set to now. Not at the scan that
    the forecast starts from: they may have been set since."""
    needles = zip(config.needles, problem.needles, estimate.stopped, strict=True)
    stopped_numbers = [
        str(n.number)
        for n, driven, at_s in needles
        if at_s < np.inf and duty_at(driven, np.inf) > 0
    ]
    if not stopped_numbers:
        return ()
    text = f"Needle {', '.join(stopped_numbers)} seems to have stopped cooling."
    return (Reason("needle_failing", text),)


def _never(least_margin: FloatArray) -> tuple[Reason, ...]:
    """Where next to no member covers the margin within the horizon."""
    reached = float((least_margin >= 0.5).any(axis=0).mean())
    if reached >= _HARDLY_ANY:
        return ()
    text = (
        f"With these needles lesion and margin will not be covered within {HORIZON_S / 60:.0f} min."
    )
    return (Reason("will_not_be_covered", text),)


def edge_degc(config: Config) -> float:
    """Where half of the organ's water is frozen: the middle of its mushy zone."""
    tissue = config.organ.tissue
    return 0.5 * (tissue.solidus_degc + tissue.liquidus_degc)


def interval_s(elapsed_s: FloatArray, frozen: FloatArray) -> tuple[float, float] | None:
    """The middle 80 % of the times at which members (columns of ``frozen``: time, member) pass one
    half; linear between outputs; inf beyond the last; None if not one in ten gets there."""
    low, high = middle(crossings_s(elapsed_s, frozen))
    return None if np.isinf(low) else (low, high)


def middle(by_member: FloatArray) -> tuple[float, float]:
    """Between which the middle 80 % of the members lie; both ends are a member's."""
    low = float(np.quantile(by_member, _LOW, method="lower"))
    return low, float(np.quantile(by_member, _HIGH, method="higher"))


def crossings_s(elapsed_s: FloatArray, frozen: FloatArray) -> FloatArray:
    """(member,): when each column of ``frozen`` (time, member) passes one half; inf where it does not."""
    return np.array([_crossing_s(elapsed_s, member) for member in frozen.T])


def _crossing_s(elapsed_s: FloatArray, frozen: FloatArray) -> float:
    reached = np.flatnonzero(frozen >= 0.5)
    if not reached.size:
        return float("inf")
    n = int(reached[0])
    if n == 0:
        return 0.0
    a, b = float(frozen[n - 1]), float(frozen[n])
    part = (0.5 - a) / (b - a)
    return float(elapsed_s[n - 1] + part * (elapsed_s[n] - elapsed_s[n - 1]))
