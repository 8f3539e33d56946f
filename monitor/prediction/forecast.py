"""The forecast: bioheat run on from the last scan. Seconds, °C, LPS mm, arrays (member, z, y, x).

Problem time starts with the first freeze. Invariant: a forecast runs on from exactly one estimate
(the ensemble at the last measured scan, or body temperature before the first), which it does not
change: the same estimate gives the same forecast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from gpu_kernels.engine import Engine, Problem, State
from monitor.config import Config
from monitor.geometry import FloatArray, Grid
from monitor.model import Float32Array, Forecast, PhaseKind, Reason, Status, StructureForecast
from monitor.prediction.drift import Drift, asked_at, moved
from monitor.prediction.estimate import Estimate
from monitor.prediction.setup import driven
from monitor.prediction.stopping import Stopped

HORIZON_S = 900.0
# Outputs as far as the next scan, and half as many beyond.
OUTPUT_EVERY_S, NEAR_S = 30.0, 300.0
# Intervals hold the middle 80 % of the members.
_LOW, _HIGH = 0.1, 0.9
# What fewer members than this reach within the horizon is said not to be reached.
_HARDLY_ANY = 0.1
# A body is asked at so many of its points: what lies farthest from the needles, or nearest to them, is
# missed by 0.7 mm at most, by 0.07 mm in the median (bodies of the tuning scenarios).
_MOST_POINTS = 4000


@dataclass(frozen=True)
class Target:
    """Points (n, 3) LPS mm that have to freeze: the lesion's, and those of lesion plus margin; and by
    name those of structures that must not. ``weights``, for each body in that order: the volume that
    each of its points stands for, next to none on its surface."""

    lesion_lps_mm: FloatArray
    margin_lps_mm: FloatArray
    structures_lps_mm: tuple[tuple[str, FloatArray], ...] = ()
    weights: tuple[FloatArray, ...] = ()

    @property
    def bodies_lps_mm(self) -> tuple[FloatArray, ...]:
        structures = (points for _, points in self.structures_lps_mm)
        return self.lesion_lps_mm, self.margin_lps_mm, *structures

    def with_bodies(self, bodies_lps_mm: Sequence[FloatArray]) -> Target:
        """The same bodies by other points, without weights."""
        lesion, margin, *structures = bodies_lps_mm
        names = (name for name, _ in self.structures_lps_mm)
        return Target(lesion, margin, tuple(zip(names, structures, strict=True)))


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
    """One time of a forecast; also the nominal temperature, and the share of the members that are frozen
    there (z, y, x)."""

    nominal_degc: Float32Array
    probability: Float32Array


@dataclass(frozen=True)
class Job:
    """A forecast being computed, a few outputs at a time, so that a new scan never waits for it."""

    problem: Problem
    grid: Grid
    target: Target
    estimate: Estimate
    state: State
    times_s: tuple[float, ...]
    kind: PhaseKind
    drift: Drift | None = None
    outputs: tuple[Output, ...] = ()

    @property
    def done(self) -> bool:
        return len(self.outputs) == len(self.times_s)


def begin_forecast(
    problem: Problem, estimate: Estimate, grid: Grid, target: Target, kind: PhaseKind
) -> Job:
    """Outputs from the estimate's time to ``HORIZON_S`` past it. ``problem`` has its members; ``kind`` is
    the phase that runs."""
    near = np.arange(0.0, NEAR_S, OUTPUT_EVERY_S)
    far = np.arange(NEAR_S, HORIZON_S + 1.0, 2.0 * OUTPUT_EVERY_S)
    times_s = tuple(float(estimate.state.time_s + t) for t in (*near, *far))
    drift = estimate.drifts.get(kind)
    return Job(problem, grid, _thinned(target), estimate, estimate.state, times_s, kind, drift)


def _thinned(target: Target) -> Target:
    return target.with_bodies([evenly(b, _MOST_POINTS) for b in target.bodies_lps_mm])


def evenly(points: FloatArray, most: int) -> FloatArray:
    """Every so many-th, so that there are ``most`` at most."""
    return points[:: max(1, -(-len(points) // most))]


def advance_forecast(job: Job, engine: Engine, outputs: int) -> Job:
    """The job with up to ``outputs`` more times computed."""
    first = len(job.outputs)
    for time_s in job.times_s[first : first + outputs]:
        state = engine.advance(job.problem, job.state, time_s)
        job = replace(job, state=state, outputs=(*job.outputs, _output(job, state, engine)))
    return job


def _output(job: Job, state: State, engine: Engine) -> Output:
    degc = np.asarray(engine.temperature_degc(job.problem, state), np.float32)
    fraction = np.asarray(engine.frozen_fraction(job.problem, state), np.float32)
    members = slice(1, None) if len(fraction) > 1 else slice(None)
    elapsed_s = state.time_s - job.times_s[0]
    target = drifted(job.target, job.drift, elapsed_s, job.grid)
    probability = (fraction[members] >= 0.5).mean(0, dtype=np.float32)
    return Output(
        **vars(at_target(fraction[members], degc[members], target, job.grid)),
        nominal_degc=moved(degc[0], job.drift, elapsed_s, job.grid),
        probability=moved(probability, job.drift, elapsed_s, job.grid),
    )


def drifted(target: Target, drift: Drift | None, elapsed_s: float, grid: Grid) -> Target:
    """The target where a course without drift has what it has at the target with it."""
    bodies = target.bodies_lps_mm
    points = asked_at(np.concatenate(bodies), drift, elapsed_s, grid)
    return target.with_bodies(np.split(points, np.cumsum([len(b) for b in bodies])[:-1]))


def at_target(fraction: Float32Array, degc: Float32Array, target: Target, grid: Grid) -> Reached:
    """What members (member, z, y, x) have at the target."""
    structures = [points for _, points in target.structures_lps_mm]
    return Reached(
        least_lesion=at_points(fraction, grid, target.lesion_lps_mm).min(axis=1),
        least_margin=at_points(fraction, grid, target.margin_lps_mm).min(axis=1),
        most_structure=tuple(
            at_points(fraction, grid, p).max(axis=1, initial=0.0) for p in structures
        ),
        coldest_degc=tuple(
            at_points(degc, grid, p).min(axis=1, initial=np.inf) for p in structures
        ),
    )


def finish_forecast(
    job: Job, config: Config, freeze_started_utc_s: float, engine: Engine
) -> Forecast:
    """The forecast of a job that is done."""
    elapsed_s = np.array(job.times_s) - job.times_s[0]
    doubts = (*job.estimate.reasons, *failing(job.estimate.stopped, config))
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
    )


def _structure(job: Job, number: int, name: str, elapsed_s: FloatArray) -> StructureForecast:
    most = np.array([o.most_structure[number] for o in job.outputs])
    last_degc = job.outputs[-1].coldest_degc[number]
    low, high = (float(np.quantile(last_degc, q)) for q in (_LOW, _HIGH))
    return StructureForecast(name, interval_s(elapsed_s, most), (low, high))


def failing(stopped: Stopped, config: Config) -> tuple[Reason, ...]:
    """What is to be said of needles that have stopped cooling."""
    numbers = [n.number for n in driven(config.needles)]
    stopped_numbers = [
        str(k) for k, at_s in zip(numbers, stopped, strict=True) if np.isfinite(at_s)
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


def at_points(field: Float32Array, grid: Grid, points_lps_mm: FloatArray) -> FloatArray:
    """(member, n): a field (member, z, y, x) at points."""
    index = np.moveaxis(grid.to_index_zyx(points_lps_mm), -1, 0)
    values = [ndimage.map_coordinates(f, index, order=1, mode="nearest") for f in field]
    return np.array(values, float).reshape(len(field), len(points_lps_mm))


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
