"""From each scan a forecast of the next one, scored against its truth beside the baselines: mm, s.

The measurement is what a live procedure would have; the truth never enters it. Baselines: the last
measured surface (persistence), the makers' planning ellipsoids (at ten minutes, whatever the time), and
the same physics with textbook parameters (uncalibrated). Surfaces are compared in the plan's frame.
Invariant: nothing of a scan is known to the forecast that is scored on it, but when it came.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from gpu_kernels.engine import Engine, Members
from monitor.benchmark import scores
from monitor.benchmark.forecast_case import Case, Known, ellipsoid_level
from monitor.benchmark.forecast_rows import (
    METHODS,
    Agreement,
    EventRow,
    ForecastRow,
    NeverRow,
    Scored,
    WallRow,
)
from monitor.benchmark.truth import Scenario, open_scenarios, read_truth
from monitor.config import NeedleConfig
from monitor.decision import protocol
from monitor.geometry import FloatArray, Grid
from monitor.imaging.measurement import make_reference, measure
from monitor.intake.folder import soft_volume, volumes_in
from monitor.model import Float32Array, IceSegmentation, PhaseKind
from monitor.opening import open_case
from monitor.prediction.assimilation import assimilated
from monitor.prediction.drift import moved
from monitor.prediction.ensemble import prior_of
from monitor.prediction.estimate import BODY_DEGC, first_estimate, replaced
from monitor.prediction.forecast import (
    Job,
    advance_forecast,
    begin_forecast,
    finish_forecast,
    interval_s,
)
from monitor.prediction.learning import caught_up
from monitor.prediction.reading import ice_of, read
from monitor.prediction.unexplained import spread


def run(folders: list[Path], engine: Engine, say: Callable[[str], None]) -> Iterator[Scored]:
    """Scenario by scenario."""
    for scenario in open_scenarios(folders):
        yield _scenario(scenario, engine, say)


def _scenario(scenario: Scenario, engine: Engine, say: Callable[[str], None]) -> Scored:
    config, procedure = open_case(scenario.case)
    first = soft_volume(
        volumes_in(scenario.scan_folder(0), config.patient_id, config.frame_of_reference_uid)
    )
    reference = make_reference(first, procedure.analysis_grid, config)
    case = Case.of(replace(config, needles=reference.needles), procedure, reference.baseline.hu)
    course = _Course(case, engine)
    rows: list[ForecastRow] = []
    events: list[EventRow] = []
    known: list[Known] = []
    never: list[int] = []
    walls: list[WallRow] = []
    shifts_mm: tuple[FloatArray, ...] = ()
    for entry in scenario.scans[1:]:
        truth = read_truth(scenario, entry)
        scan = case.known(truth)
        known.append(scan)
        volume = soft_volume(
            volumes_in(
                scenario.scan_folder(truth.number), config.patient_id, first.frame_of_reference_uid
            )
        )
        if scan.at_s <= 0.0:
            continue
        rows += course.scored(scan, scenario.name)
        began = time.perf_counter()
        found = measure(volume, reference, config, shifts_mm)
        reference, shifts_mm = found.reference, (np.array(found.registration.shift_lps_mm),)
        course.place(reference.placed)
        course.learn(found.ice, scan, began)
        walls.append(WallRow(scenario.name, truth.number, course.wall_s))
        if rows and rows[-1].scan == truth.number:
            say(_line(rows[-1]))
        if (missed := course.estimate.missed) is not None and found.ice.sdf_mm is not None:
            say(f"{scenario.name} scan {truth.number}, against its forecast: {missed.text}")
        told = course.told()
        if told:
            say(
                f"{scenario.name} scan {truth.number}, {scan.at_s / 60.0:.1f} min: {', '.join(told)}"
            )
        if "will_not_be_covered" in told:
            never.append(truth.number)
        events += course.events(scenario.name)
    return Scored(
        tuple(rows),
        tuple(_with_truth(events, known, case)),
        tuple(_never(scenario.name, never, known, case)),
        tuple(walls),
    )


def _line(row: ForecastRow) -> str:
    def said(method: str) -> str:
        mean_mm = row.methods[method].mean_mm
        return f"{method} {'-' if mean_mm is None else f'{mean_mm:.2f}'} mm"

    named = ", ".join(said(m) for m in METHODS)
    return f"{row.scenario} scan {row.scan}, {row.ahead_s:.0f} s ahead: {named}"


# ------------------------------------------------------------------ the course of a procedure


class _Course:
    """The forecast and its baselines from scan to scan."""

    def __init__(self, case: Case, engine: Engine) -> None:
        self.case, self.engine = case, engine
        config = case.config
        self.estimate = first_estimate(prior_of(config), case.problem, engine, config.needles)
        self.plain = case.problem(Members())
        self.plain_state = engine.initial(self.plain, BODY_DEGC)
        self.ellipsoid = ellipsoid_level(case.config.needles, case.procedure.analysis_grid)
        self.last: Known | None = None
        self.last_sdf_mm: Float32Array | None = None
        self.seen, self.wall_s, self.fresh = 0, 0.0, False

    def scored(self, scan: Known, name: str) -> list[ForecastRow]:
        """The forecasts of a scan; none before the first surface was measured."""
        case, engine = self.case, self.engine
        self.plain_state = engine.advance(self.plain, self.plain_state, scan.at_s)
        if self.last is None or self.last_sdf_mm is None:
            return []
        problem = self.estimate.problem(case.problem)
        state = engine.advance(problem, self.estimate.state, scan.at_s)
        drift = self.estimate.drifts.get(case.kind_at(scan.at_s))
        elapsed_s = scan.at_s - self.estimate.state.time_s
        degc, ice = read(problem, state, engine)
        ice[1:] = spread(ice[1:], degc[0], elapsed_s, case.grid)
        ice = moved(ice, drift, elapsed_s, case.grid)
        plain = ice_of(self.plain, self.plain_state, engine)[0]
        levels = {
            "forecast": case.fine(ice[0]),
            "persistence": self.last_sdf_mm,
            "ellipsoid": self.ellipsoid,
            "uncalibrated": case.fine(plain),
        }
        grid = case.procedure.analysis_grid
        row = ForecastRow(
            scenario=name,
            organ=case.config.organ.name,
            scan=scan.truth.number,
            minutes=scan.truth.minutes,
            ahead_s=scan.at_s - self.last.at_s,
            seen=self.seen,
            true_ml=float((scan.level < 0).sum() * grid.voxel_ml),
            methods={m: agreement(levels[m], scan.level, grid) for m in METHODS},
            within_band=_within_band([case.fine(i) < 0 for i in ice[1:]], scan.level, grid),
            wall_s=self.wall_s,
        )
        return [row]

    def place(self, needles: tuple[NeedleConfig, ...]) -> None:
        """Takes over where the needles are seen."""
        self.case = replace(self.case, config=replace(self.case.config, needles=needles))
        self.estimate = replaced(self.estimate, needles, self.case.problem, self.engine)

    def learn(self, ice: IceSegmentation, scan: Known, began: float) -> None:
        """Takes in a measurement that was ``began`` then (``time.perf_counter``), and forecasts."""
        case = self.case
        kind = case.kind_at(scan.at_s)
        self.estimate = assimilated(
            self.estimate, ice, scan.at_s, kind, case.problem, case.grid, self.engine
        )
        self.job = self._forecast(scan.at_s)
        self.wall_s = time.perf_counter() - began
        self.estimate = caught_up(self.estimate, case.problem, case.grid, self.engine)
        self.fresh = ice.sdf_mm is not None and bool(np.isfinite(ice.sdf_mm).all())
        if self.fresh:
            self.last, self.last_sdf_mm, self.seen = scan, ice.sdf_mm, self.seen + 1

    def _forecast(self, at_s: float) -> Job:
        problem = self.estimate.problem(partial(self.case.going_on, at_s))
        job = begin_forecast(
            problem,
            self.estimate,
            self.case.grid,
            self.case.procedure.target,
            self.case.kind_at(at_s),
        )
        return advance_forecast(job, self.engine, len(job.times_s))

    def told(self) -> tuple[str, ...]:
        """What the last forecast has to say beside its numbers, as codes."""
        forecast = finish_forecast(self.job, self.case.config, 0.0, self.engine)
        return tuple(reason.code for reason in forecast.reasons)

    def events(self, name: str) -> list[EventRow]:
        """When the last forecast has lesion and margin covered, and structures and their limits reached;
        ``true_s`` is not known here."""
        if self.last is None or not self.fresh:
            return []
        elapsed_s = np.array(self.job.times_s) - self.job.times_s[0]
        found = []
        for what, frozen in self._frozen().items():
            least = np.array(frozen)
            low_s, high_s = interval_s(elapsed_s, least) or (math.inf, math.inf)
            median = interval_s(elapsed_s, np.median(least, axis=1, keepdims=True))
            median_s = median[0] if median else math.inf
            scan = self.last.truth.number
            found.append(EventRow(name, scan, what, self.seen, math.nan, low_s, median_s, high_s))
        return found

    def _frozen(self) -> dict[str, list[FloatArray]]:
        """Of each event, by time and member, what is half frozen when it has come."""
        outputs = self.job.outputs
        frozen = {
            "lesion": [o.least_lesion for o in outputs],
            "margin": [o.least_margin for o in outputs],
        }
        for i, (name, _) in enumerate(self.job.target.structures_lps_mm):
            frozen[f"contact {name}"] = [o.most_structure[i] for o in outputs]
            if self.job.target.limits_lps_mm:
                either = [np.maximum(o.most_structure[i], o.most_limit[i]) for o in outputs]
                frozen[f"limit {name}"] = either
        return frozen


def agreement(level: FloatArray, true_level: FloatArray, grid: Grid) -> Agreement:
    """Of a predicted with the true surface, all over; levels negative in ice."""
    mine, true = scores.surface(level, grid), scores.surface(true_level, grid)
    everywhere = np.ones(grid.shape_zyx, bool)
    dice = scores.dice(level <= 0, true_level <= 0, everywhere)
    if not len(mine.areas_mm2) or not len(true.areas_mm2):
        return Agreement(None, None, dice)
    there = scores.distance_mm(mine.points_lps_mm, true)
    back = scores.distance_mm(true.points_lps_mm, mine)
    mean_mm = 0.5 * (
        np.average(there, weights=mine.areas_mm2) + np.average(back, weights=true.areas_mm2)
    )
    return Agreement(float(mean_mm), float(max(there.max(), back.max())), dice)


def _within_band(frozen: list[np.ndarray], true_level: FloatArray, grid: Grid) -> float | None:
    """The share of the true surface where between 10 and 90 % of the members are frozen."""
    true = scores.surface(true_level, grid)
    if not len(true.areas_mm2):
        return None
    probability = np.mean(frozen, axis=0, dtype=np.float32)
    index = np.moveaxis(grid.to_index_zyx(true.points_lps_mm), -1, 0)
    p = ndimage.map_coordinates(probability, index, order=1, mode="nearest")
    inside = (p > 0.1) & (p < 0.9)
    return float(true.areas_mm2[inside].sum() / true.areas_mm2.sum())


# ------------------------------------------------------------------ events


def _with_truth(events: list[EventRow], known: list[Known], case: Case) -> list[EventRow]:
    """The events that came true in the freeze they were forecast in, whatever the forecast said: the
    least covered point's depth, linear between scans, passes 0."""
    found = []
    for event in events:
        at = next(i for i, k in enumerate(known) if k.truth.number == event.scan)
        freeze = _freeze(known[at].at_s, case)
        if freeze is None:
            continue
        until_s = freeze[1]
        for a, b in zip(known[at:], known[at + 1 :], strict=False):
            low, high = a.depth_mm[event.what], b.depth_mm[event.what]
            if b.at_s > until_s or not low < 0.0:
                break
            if high >= 0.0:
                part = -low / (high - low) if math.isfinite(low) else 1.0
                true_s = a.at_s + part * (b.at_s - a.at_s) - known[at].at_s
                found.append(replace(event, true_s=float(true_s)))
                break
    return found


def _freeze(at_s: float, case: Case) -> tuple[float, float] | None:
    """From when to when the freeze lasts that runs at a time."""
    whole = case.progress(math.inf)
    phases = protocol.intervals(whole, case.config.protocol, 0.0)
    running = ((s, e) for kind, s, e in phases if kind is PhaseKind.FREEZE and s <= at_s < e)
    return next(running, None)


def _never(name: str, said: Sequence[int], known: list[Known], case: Case) -> Iterator[NeverRow]:
    """Of every scan in a freeze whose ice, in truth, did not cover lesion and margin."""
    for scan in known:
        freeze = _freeze(scan.at_s, case)
        if freeze is None or not scan.depth_mm["margin"] < 0.0:
            continue
        start_s, end_s = freeze
        later = (k.depth_mm["margin"] for k in known if scan.at_s < k.at_s <= end_s)
        share = (scan.at_s - start_s) / (end_s - start_s)
        number = scan.truth.number
        yield NeverRow(name, number, share, number in said, any(d >= 0.0 for d in later))
