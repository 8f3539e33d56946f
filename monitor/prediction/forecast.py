"""The forecast: bioheat run on from the last scan. Seconds, °C, LPS mm, arrays (member, z, y, x).

Problem time starts with the first freeze. Invariant: a forecast runs on from exactly one anchor
(the state at the last measured scan, or body temperature before the first), which it does not
change: the same anchor gives the same forecast.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from gpu_kernels.engine import Engine, Problem, State
from monitor.config import Config
from monitor.geometry import FloatArray, Grid
from monitor.imaging.distance import resample
from monitor.model import Float32Array, Forecast, IceSegmentation, Reason, Status
from monitor.prediction.anchor import MAX_SHIFT_MM, anchored_temperature_degc
from monitor.prediction.setup import make_problem

BODY_DEGC = 37.0
HORIZON_S = 900.0
OUTPUT_EVERY_S = 30.0


@dataclass(frozen=True)
class Anchor:
    """Where the forecast starts: the bioheat state at a scan (None before the first scan)."""

    volume_id: str | None
    state: State
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class Target:
    """Points (n, 3) LPS mm that have to freeze: the lesion's, and those of lesion plus margin."""

    lesion_lps_mm: FloatArray
    margin_lps_mm: FloatArray


def first_anchor(
    config: Config, grid: Grid, label_zyx: npt.NDArray[np.uint8], engine: Engine
) -> Anchor:
    """Body temperature everywhere, as the first freeze begins."""
    problem = make_problem(config, grid, label_zyx, [])
    return Anchor(None, engine.initial(problem, BODY_DEGC))


def anchor_to_scan(
    anchor: Anchor, ice: IceSegmentation, at_s: float, problem: Problem, grid: Grid, engine: Engine
) -> Anchor:
    """The next anchor: run the model to the scan and move its ice edge onto the measured one."""
    state = engine.advance(problem, anchor.state, max(at_s, anchor.state.time_s))
    if ice.sdf_mm is None:
        return Anchor(anchor.volume_id, state, anchor.reasons)
    measured_mm = _measured_on(ice, grid)
    temperature = np.asarray(engine.temperature_degc(problem, state), np.float32)
    fraction = np.asarray(engine.frozen_fraction(problem, state), np.float32)
    thawed_degc = problem.tissues[0].liquidus_degc + 0.1
    moved = [
        anchored_temperature_degc(t, f, measured_mm, grid, thawed_degc)
        for t, f in zip(temperature, fraction, strict=True)
    ]
    anchored = engine.initial(problem, np.stack([m[0] for m in moved]), state.time_s)
    if state.perfused_from_s is not None and anchored.perfused_from_s is not None:
        # Where the model has thawed and the scan shows no ice, blood stays off.
        still_off = np.maximum(state.perfused_from_s, anchored.perfused_from_s)
        anchored = replace(anchored, perfused_from_s=still_off)
    return Anchor(ice.volume_id, anchored, _disagreement(moved[0][1]))


def _measured_on(ice: IceSegmentation, grid: Grid) -> Float32Array:
    assert ice.sdf_mm is not None
    if not np.isfinite(ice.sdf_mm).all():
        return np.full(grid.shape_zyx, np.inf, np.float32)
    rim_mm = float(np.nanmax(ice.sdf_mm))
    return np.asarray(resample(ice.sdf_mm, ice.grid, grid, outside=rim_mm), np.float32)


def _disagreement(shift_mm: float) -> tuple[Reason, ...]:
    if np.isnan(shift_mm) or abs(shift_mm) < MAX_SHIFT_MM / 2:
        return ()
    return (
        Reason(
            "forecast_disagrees",
            f"The measured ice edge lies {shift_mm:+.1f} mm from the predicted one.",
        ),
    )


@dataclass(frozen=True)
class Job:
    """A forecast being computed, a few outputs at a time, so that a new scan never waits for it."""

    problem: Problem
    grid: Grid
    target: Target
    anchor: Anchor
    state: State
    times_s: tuple[float, ...]
    nominal_degc: tuple[Float32Array, ...] = ()
    worst_lesion: tuple[FloatArray, ...] = ()
    worst_margin: tuple[FloatArray, ...] = ()

    @property
    def done(self) -> bool:
        return len(self.nominal_degc) == len(self.times_s)


def begin_forecast(problem: Problem, anchor: Anchor, grid: Grid, target: Target) -> Job:
    """Outputs every ``OUTPUT_EVERY_S`` from the anchor to ``HORIZON_S`` past it."""
    times = anchor.state.time_s + np.arange(0.0, HORIZON_S + 1.0, OUTPUT_EVERY_S)
    return Job(problem, grid, target, anchor, anchor.state, tuple(float(t) for t in times))


def advance_forecast(job: Job, engine: Engine, outputs: int) -> Job:
    """The job with up to ``outputs`` more times computed."""
    first = len(job.nominal_degc)
    for time_s in job.times_s[first : first + outputs]:
        state = engine.advance(job.problem, job.state, time_s)
        nominal = np.asarray(engine.temperature_degc(job.problem, state)[0], np.float32)
        fraction = np.asarray(engine.frozen_fraction(job.problem, state), np.float32)
        lesion = _least_frozen(fraction, job.grid, job.target.lesion_lps_mm)
        margin = _least_frozen(fraction, job.grid, job.target.margin_lps_mm)
        job = replace(
            job,
            state=state,
            nominal_degc=(*job.nominal_degc, nominal),
            worst_lesion=(*job.worst_lesion, lesion),
            worst_margin=(*job.worst_margin, margin),
        )
    return job


def finish_forecast(
    job: Job, config: Config, freeze_started_utc_s: float, engine: Engine
) -> Forecast:
    """The forecast of a job that is done."""
    elapsed_s = np.array(job.times_s) - job.times_s[0]
    reasons = job.anchor.reasons
    return Forecast(
        from_volume_id=job.anchor.volume_id,
        start_utc_s=freeze_started_utc_s + job.times_s[0],
        grid=job.grid,
        times_utc_s=tuple(freeze_started_utc_s + t for t in job.times_s),
        temperature_degc=np.stack(job.nominal_degc),
        edge_degc=edge_degc(config),
        time_to_lesion_s=time_to_cover_s(elapsed_s, np.array(job.worst_lesion)),
        time_to_margin_s=time_to_cover_s(elapsed_s, np.array(job.worst_margin)),
        engine=engine.name,
        status=Status.DEGRADED if reasons else Status.OK,
        reasons=reasons,
    )


def edge_degc(config: Config) -> float:
    """Where half of the organ's water is frozen: the middle of its mushy zone."""
    tissue = config.organ.tissue
    return 0.5 * (tissue.solidus_degc + tissue.liquidus_degc)


def _least_frozen(fraction: Float32Array, grid: Grid, points_lps_mm: FloatArray) -> FloatArray:
    """Per member, the smallest frozen fraction at the points."""
    index = np.moveaxis(grid.to_index_zyx(points_lps_mm), -1, 0)
    return np.array(
        [ndimage.map_coordinates(f, index, order=1, mode="nearest").min() for f in fraction]
    )


def time_to_cover_s(elapsed_s: FloatArray, least_frozen: FloatArray) -> tuple[float, float] | None:
    """[earliest, latest] time at which every point is half frozen, over the members (columns);
    linear between outputs; inf for a member that does not get there; None if none does."""
    times = [_crossing_s(elapsed_s, member) for member in least_frozen.T]
    low, high = min(times), max(times)
    return None if np.isinf(low) else (low, high)


def _crossing_s(elapsed_s: FloatArray, least_frozen: FloatArray) -> float:
    reached = np.flatnonzero(least_frozen >= 0.5)
    if not reached.size:
        return float("inf")
    n = int(reached[0])
    if n == 0:
        return 0.0
    a, b = float(least_frozen[n - 1]), float(least_frozen[n])
    part = (0.5 - a) / (b - a)
    return float(elapsed_s[n - 1] + part * (elapsed_s[n] - elapsed_s[n - 1]))
