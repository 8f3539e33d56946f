"""A scan taken in: what it teaches the parameters, and the state from which a forecast starts. Seconds since
the first freeze began, mm, arrays (member, z, y, x).

What the parameters cannot explain (a vessel, another tissue) moves the state onto the measured surface
(``anchor``), and is carried on (``drift``). Invariant: at a scan the nominal ice is the measured ice.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from gpu_kernels.engine import Engine, Problem, State
from monitor.geometry import Grid
from monitor.imaging.distance import resample, signed_distance_mm
from monitor.model import Float32Array, IceSegmentation, PhaseKind
from monitor.prediction import disagreement, dose, ensemble
from monitor.prediction.anchor import anchored_temperature_degc
from monitor.prediction.drift import observed
from monitor.prediction.estimate import (
    BODY_DEGC,
    Estimate,
    MakeProblem,
    taken_over,
)
from monitor.prediction.learning import SETTINGS, Settings, caught_up, learned
from monitor.prediction.observation import edge_points
from monitor.prediction.reading import ice_of, read
from monitor.prediction.stopping import first_of, halted
from monitor.stages import stage


@stage("assimilation")
def assimilated(
    e: Estimate,
    ice: IceSegmentation,
    at_s: float,
    kind: PhaseKind,
    make: MakeProblem,
    grid: Grid,
    engine: Engine,
    s: Settings = SETTINGS,
) -> Estimate:
    """The estimate after a scan in a phase of that kind. One without a measurement only moves time on."""
    e = caught_up(e, make, grid, engine)
    problem = e.problem(make)
    free = engine.advance(problem, e.free, max(at_s, e.free.time_s))
    if ice.sdf_mm is None:
        return replace(e, free=free, state=engine.advance(problem, e.state, free.time_s))
    before, e = e, replace(e, free=free, volume_id=ice.volume_id)
    e = learned(e, ice, make, grid, engine, s)
    with ThreadPoolExecutor(1) as beside:
        coming = beside.submit(_reached, e, before, make, engine)
        e = _with_drift(e, before, ice, kind, make, grid, engine)
        e = _anchored(e, ice, e.problem(make), grid, engine)
        reached = coming.result()
    e = _with_dose(e, before, reached, ice, kind, grid, engine)
    unlike = e.stopped != before.stopped or before.volume_id is None
    foreseen = _foreseen(before, free, problem, engine) if unlike else reached[1]
    missed = _missed(e, before, foreseen, problem, ice, kind, grid, engine)
    return replace(e, missed=missed, reasons=disagreement.reasons(missed, kind))


def _foreseen(before: Estimate, free: State, problem: Problem, engine: Engine) -> State:
    """What the forecast had for this scan; before the first, the ``free`` course is it."""
    if before.volume_id is None:
        return free
    return engine.advance(problem, replace(before.state, history=None), free.time_s)


def _missed(
    e: Estimate,
    before: Estimate,
    foreseen: State,
    problem: Problem,
    ice: IceSegmentation,
    kind: PhaseKind,
    grid: Grid,
    engine: Engine,
) -> disagreement.Miss:
    """How far the scan's ice lies from what had been forecast for it, before it taught anything."""
    degc, ices = read(problem, foreseen, engine)
    elapsed_s, drift = foreseen.time_s - before.state.time_s, before.drifts.get(kind)
    ends = disagreement.as_forecast(ices, degc[0], elapsed_s, drift, grid)
    edge = e.seen[-1].edge if len(e.seen) > len(before.seen) else None
    assert ice.sdf_mm is not None
    if edge is None and np.isfinite(ice.sdf_mm).all():
        edge = edge_points(ice, SETTINGS.points, seed=0)
    return disagreement.miss(ends, grid, ice, edge)


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
    start = taken_over(first_of(before.state), old, new, engine)
    state = engine.advance(new, start, max(e.free.time_s, start.time_s))
    forecast_mm = signed_distance_mm(0.5 - ice_of(new, state, engine)[0], grid)
    elapsed_s = state.time_s - start.time_s
    drift = observed(_measured_on(ice, grid), forecast_mm, elapsed_s, grid, before.drifts.get(kind))
    return e if drift is None else replace(e, drifts={**e.drifts, kind: drift})


def _anchored(
    e: Estimate, ice: IceSegmentation, problem: Problem, grid: Grid, engine: Engine
) -> Estimate:
    """Every member's ice edge moved onto the measured one, each off by its share of the error."""
    measured_mm = _measured_on(ice, grid)
    temperature, ices = read(problem, e.free, engine)
    thawed_degc = problem.tissues[0].liquidus_degc + 0.1
    offsets_mm = _offsets_mm(len(temperature), ice.edge_error_mm, len(e.seen))
    degc = np.stack([
        anchored_temperature_degc(t, i, measured_mm + o, grid, thawed_degc)
        for t, i, o in zip(temperature, ices, offsets_mm, strict=True)
    ])  # fmt: skip
    state = engine.initial(problem, degc, e.free.time_s, history=True)
    if e.free.perfused_from_s is not None and state.perfused_from_s is not None:
        # Where the model has thawed and the scan shows no ice, blood stays off.
        still_off = np.maximum(e.free.perfused_from_s, state.perfused_from_s)
        state = replace(state, perfused_from_s=still_off)
    return replace(e, state=state)


def _reached(
    e: Estimate, before: Estimate, make: MakeProblem, engine: Engine
) -> tuple[Problem, State]:
    """The course from the measured surface ``before`` on, with the needles that are now known to cool and a
    history; up to the first scan, from the start with what that has taught."""
    first = before.volume_id is None
    problem = halted(make((e if first else before).members), e.stopped)
    start = engine.initial(problem, BODY_DEGC, history=True) if first else before.state
    return problem, dose.advanced(engine, problem, start, e.free.time_s)


def _with_dose(
    e: Estimate,
    before: Estimate,
    reached: tuple[Problem, State],
    ice: IceSegmentation,
    kind: PhaseKind,
    grid: Grid,
    engine: Engine,
) -> Estimate:
    """What the tissue has been through since the scan ``before``."""
    reached_ice, measured_mm = ice_of(*reached, engine), _measured_on(ice, grid)
    past = dose.at_scan(before.past, reached[1], reached_ice, e.state, measured_mm, kind, grid)
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
