"""What is missed by scanning when the forecast asks for it. Seconds since the first freeze began.

    .venv/bin/python scripts/next_scan.py DIR...      # folders that scanner-sim render wrote

From each scan of a freeze: when a decision (the image's age apart) asks for the next one, and when, in
truth, the next thing to decide on came in that freeze: lesion and margin covered, a structure's limit
passed. Then a walk in which only the scans are taken that were asked for (the first rendered one from then
on): how many, and what came unseen. Truth is linear between the rendered scans, which are some three
minutes apart.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gpu_kernels.engine import Engine, Members, Problem
from gpu_kernels.select import open_engine
from monitor.benchmark.truth import Scenario, open_scenarios
from monitor.decision import protocol
from monitor.forecast_values import Forecast, NextScan
from monitor.imaging.measurement import make_reference, measure
from monitor.intake.folder import soft_volume, volumes_in
from monitor.model import FloatArray, IceSegmentation, Phase, PhaseKind, Status
from monitor.opening import open_case
from monitor.prediction.assimilation import assimilated
from monitor.prediction.ensemble import MOST_LATENT, prior_of
from monitor.prediction.estimate import first_estimate
from monitor.prediction.forecast import HORIZON_S, advance_forecast, begin_forecast, finish_forecast
from monitor.prediction.next_scan import next_scan
from monitor.prediction.setup import make_problem, tissue_labels

# An event seen so soon after it is seen in time: ice grows by half a millimetre to one in a minute.
_IN_TIME_S = 60.0


@dataclass(frozen=True)
class Scan:
    """A rendered one: when, its measurement, and what the truth says of it."""

    at_s: float
    ice: IceSegmentation
    truth: Mapping[str, Any]


@dataclass(frozen=True)
class Event:
    at_s: float
    what: str


@dataclass(frozen=True)
class Asked:
    """After a scan: when the next is asked for and why, and the next event of that freeze."""

    scan: Scan
    due: NextScan
    event: Event | None
    phase_ends_s: float

    @property
    def late_s(self) -> float | None:
        """How long after the event, before it if negative; None without one."""
        return None if self.event is None else self.due.at_utc_s - self.event.at_s


class Case:
    """A scenario as the monitor meets it."""

    def __init__(self, scenario: Scenario, engine: Engine) -> None:
        config, self.procedure = open_case(scenario.case)
        first = soft_volume(volumes_in(scenario.scan_folder(0), config.patient_id, None))
        reference = make_reference(first, self.procedure.analysis_grid, config)
        self.engine, self.config = engine, replace(config, needles=reference.needles)
        analysis, grid = self.procedure.analysis_grid, self.procedure.prediction_grid
        self.label = tissue_labels(reference.baseline.hu, analysis, grid)
        self.scans: list[Scan] = []
        shifts: tuple[FloatArray, ...] = ()
        for entry in scenario.scans[1:]:
            at_s = float(entry["time_s"]) - (config.protocol.start_after_baseline_s or 0.0)
            if at_s <= 0.0:
                continue
            folder = scenario.scan_folder(int(entry["scan"]))
            volume = soft_volume(volumes_in(folder, config.patient_id, None))
            found = measure(volume, reference, config, shifts)
            reference, shifts = found.reference, (np.array(found.registration.shift_lps_mm),)
            self.scans.append(Scan(at_s, found.ice, entry))

    def progress(self, at_s: float) -> protocol.Progress:
        rules = self.config.protocol
        return protocol.advanced(protocol.next_phase(protocol.Progress(), rules, 0.0), rules, at_s)

    def phase(self, at_s: float) -> Phase:
        return protocol.phase(self.progress(at_s), self.config.protocol)

    def problem(self, at_s: float, members: Members) -> Problem:
        intervals = protocol.intervals(self.progress(at_s), self.config.protocol, HORIZON_S)
        grid = self.procedure.prediction_grid
        return make_problem(self.config, grid, self.label, intervals, members)

    def forecasts(self) -> Generator[tuple[Scan, Forecast], float | None, None]:
        """Scan by scan; ``send`` a time to leave out the scans before it."""
        grid, engine, not_before_s = self.procedure.prediction_grid, self.engine, -math.inf
        estimate = first_estimate(prior_of(self.config), lambda m: self.problem(0.0, m), engine)
        for scan in self.scans:
            if scan.at_s < not_before_s - 1.0:
                continue
            kind = self.phase(scan.at_s).kind

            def make(members: Members, at_s: float = scan.at_s) -> Problem:
                return self.problem(at_s, members)

            estimate = assimilated(estimate, scan.ice, scan.at_s, kind, make, grid, engine)
            target = self.procedure.target
            job = begin_forecast(estimate.problem(make), estimate, grid, target, kind)
            job = advance_forecast(job, engine, len(job.times_s))
            told = yield scan, finish_forecast(job, self.config, 0.0, engine)
            not_before_s = -math.inf if told is None else told


def events_of(scans: Sequence[Scan], case: Case) -> list[Event]:
    """What came to be decided on, between two scans of one freeze."""
    config, found = case.config, []
    for a, b in pairwise(scans):
        phase = case.phase(a.at_s)
        if phase != case.phase(b.at_s) or phase.kind is not PhaseKind.FREEZE:
            continue
        found += _crossed(a, b, "covered", config.margin_goal_mm, _margin)
        for s in config.structures:
            if s.limit_mm is not None:
                found += _crossed(a, b, s.name, -s.limit_mm, lambda x, n=s.name: _nearness(x, n))
    return sorted(found, key=lambda e: e.at_s)


def _crossed(a: Scan, b: Scan, what: str, level: float, of: Any) -> list[Event]:
    low, high = of(a.truth), of(b.truth)
    if low is None or high is None or not low < level <= high:
        return []
    return [Event(a.at_s + (level - low) / (high - low) * (b.at_s - a.at_s), what)]


def _margin(truth: Mapping[str, Any]) -> float | None:
    return truth["min_margin_mm"]


def _nearness(truth: Mapping[str, Any], name: str) -> float | None:
    distance = truth["structures"].get(name)
    return None if distance is None else -distance


def asked_after(
    case: Case, scan: Scan, forecast: Forecast, events: Sequence[Event], stale_s: float
) -> Asked:
    phase = case.phase(scan.at_s)
    due = next_scan(forecast, scan.ice.status is not Status.INVALID, phase, stale_s)
    ends_s = phase.ends_utc_s or math.inf
    coming = (e for e in events if scan.at_s <= e.at_s <= ends_s and phase.kind is PhaseKind.FREEZE)
    return Asked(scan, due, next(coming, None), ends_s)


def walk(case: Case, events: Sequence[Event], stale_s: float) -> list[Asked]:
    """Taking only the scans that are asked for, and the first one of every phase."""
    course = case.forecasts()
    taken = [asked_after(case, *next(course), events, stale_s)]
    while True:
        until_s = min(taken[-1].due.at_utc_s, taken[-1].phase_ends_s)
        try:
            taken.append(asked_after(case, *course.send(until_s), events, stale_s))
        except StopIteration:
            return taken


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit("usage: next_scan.py DIR...")
    engine = open_engine("auto", MOST_LATENT)
    every: list[Asked] = []
    walked: list[tuple[int, list[Asked]]] = []
    for scenario in open_scenarios([Path(p) for p in sys.argv[1:]]):
        case = Case(scenario, engine)
        events = events_of(case.scans, case)
        found = [asked_after(case, s, f, events, math.inf) for s, f in case.forecasts()]
        found = [a for a in found if case.phase(a.scan.at_s).kind is PhaseKind.FREEZE]
        every += found
        for a in found:
            print(f"{scenario.name}: {_said(a)}", flush=True)
        walked.append((len(case.scans), walk(case, events, math.inf)))
        taken = [f"{a.scan.at_s:.0f}" for a in walked[-1][1]]
        print(
            f"{scenario.name}: of {len(case.scans)} scans those at {', '.join(taken)} s", flush=True
        )
    _sum_up(every, walked)


def _said(a: Asked) -> str:
    why = f"{a.due.decision or a.due.asked_by} {a.due.name}".strip()
    event = "nothing more" if a.event is None else f"{a.event.what} at {a.event.at_s:.0f}"
    return f"scan at {a.scan.at_s:.0f}: next at {a.due.at_utc_s:.0f} ({why}); in truth {event}"


def _sum_up(every: Sequence[Asked], walked: Sequence[tuple[int, Sequence[Asked]]]) -> None:
    late = np.array([a.late_s for a in every if a.late_s is not None])
    none = [a for a in every if a.event is None]
    early = sum(a.due.at_utc_s < a.phase_ends_s - 1.0 for a in none)
    print(f"an event ahead: {len(late)} scans, asked for in time {(late <= _IN_TIME_S).sum()}, median "
          f"{np.median(late):+.0f} s, worst {late.max():+.0f} s" if late.size else "no event")  # fmt: skip
    print(f"none ahead: {len(none)} scans, asked before the freeze's end all the same {early}")
    missed = [a for _, w in walked for a in w if a.late_s is not None and a.late_s > _IN_TIME_S]
    print(f"walks: {sum(len(w) for _, w in walked)} scans of {sum(n for n, _ in walked)}; came unseen: "
          f"{len(missed)}")  # fmt: skip


if __name__ == "__main__":
    main()
