"""How long a what-if takes, and how well its first answer, by a few members, agrees with that by all.

    .venv/bin/scanner-sim render SCENARIO --out DIR
    .venv/bin/python scripts/bench_what_if.py DIR...

The forecast learns from each scan as in a procedure. A minute after each scan of a freeze, and a minute after
the first freeze has begun, three questions are asked: what if the first needle stops, all go on at half
duty, the freeze ends in two minutes. Wall and CPU time, s; differences of the ends of the 80 % ranges, first
answer less refined, and their widths. Nothing else should be running, and two cores at most:
``taskset -c 0,1``.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gpu_kernels.engine import Members, Problem
from gpu_kernels.select import open_engine, warm_up
from monitor.benchmark.truth import Scenario, open_scenarios
from monitor.config import Config
from monitor.decision import protocol
from monitor.forecast_values import Range, WhatIf, WhatIfAnswer
from monitor.imaging.measurement import make_reference, measure
from monitor.intake.folder import soft_volume, volumes_in
from monitor.model import FloatArray, PhaseKind
from monitor.opening import open_case
from monitor.prediction.assimilation import assimilated
from monitor.prediction.ensemble import MOST_LATENT, prior_of
from monitor.prediction.estimate import Estimate, first_estimate
from monitor.prediction.forecast import HORIZON_S
from monitor.prediction.setup import make_problem, tissue_labels
from monitor.prediction.what_if import Base, advance_what_if, begin_what_if, finish_what_if

ENGINE = open_engine("cpu", MOST_LATENT)
_AFTER_SCAN_S = 60.0
_AT_ONCE = 4


@dataclass(frozen=True)
class Timed:
    answer: WhatIfAnswer
    wall_s: float
    cpu_s: float


def main() -> None:
    warm_up(ENGINE)
    pairs: list[tuple[Timed, Timed]] = []
    for scenario in open_scenarios([Path(p) for p in sys.argv[1:]]):
        found = list(_scenario(scenario))
        print(f"{scenario.name}: {len(found)} questions. {_seconds(found)}", flush=True)
        pairs += found
    if not pairs:
        raise SystemExit(f"usage: {sys.argv[0]} DIR..., folders rendered by scanner-sim")
    print(f"all: {len(pairs)} questions. {_seconds(pairs)}")
    blind = [pair for pair in pairs if pair[0].answer.from_volume_id is None]
    seen = [pair for pair in pairs if pair[0].answer.from_volume_id is not None]
    for what, some in (("before the first scan", blind), ("after a scan", seen)):
        print(f"{what}: {len(some)} questions")
        for name, of in _COMPARED.items():
            ranges = [(of(few.answer), of(every.answer)) for few, every in some]
            print(f"  {name}: {_compared(ranges)}; {_widths(ranges)}")


def _scenario(scenario: Scenario) -> Iterator[tuple[Timed, Timed]]:
    config, procedure = open_case(scenario.case)
    first = soft_volume(volumes_in(scenario.scan_folder(0), config.patient_id, None))
    reference = make_reference(first, procedure.analysis_grid, config)
    grid, case = procedure.prediction_grid, replace(config, needles=reference.needles)
    label = tissue_labels(reference.baseline.hu, procedure.analysis_grid, grid)
    rules, numbers = config.protocol, tuple(n.number for n in case.needles)
    begin_utc_s = first.acquired_utc_s + (rules.start_after_baseline_s or 0.0)

    def progress(at_s: float) -> protocol.Progress:
        return protocol.advanced(protocol.next_phase(protocol.Progress(), rules, 0.0), rules, at_s)

    def planned(members: Members) -> Problem:
        intervals = protocol.intervals(progress(0.0), rules, HORIZON_S)
        return make_problem(case, grid, label, intervals, members)

    blind = first_estimate(prior_of(case), planned, ENGINE)
    ends_s = protocol.phase(progress(0.0), rules).ends_utc_s or math.inf
    base = Base(
        blind, blind.problem(planned), numbers, grid, procedure.target, None, _AFTER_SCAN_S, ends_s
    )
    for question in _questions(numbers):
        yield _timed(question, base, config, False), _timed(question, base, config, True)
    estimate: Estimate | None = None
    shifts_mm: tuple[FloatArray, ...] = ()
    for number in range(1, len(scenario.scans)):
        folder = scenario.scan_folder(number)
        volume = soft_volume(volumes_in(folder, config.patient_id, first.frame_of_reference_uid))
        at_s = volume.acquired_utc_s - begin_utc_s
        if at_s <= 0.0:
            continue
        now_s = at_s + _AFTER_SCAN_S

        def going_on(members: Members, at_s: float = at_s) -> Problem:
            intervals = protocol.intervals(progress(at_s), rules, HORIZON_S)
            return make_problem(case, grid, label, intervals, members)

        kind = protocol.kind_at(progress(at_s), rules, at_s)
        estimate = estimate or first_estimate(prior_of(case), going_on, ENGINE)
        found = measure(volume, reference, config, shifts_mm)
        reference, shifts_mm = found.reference, (np.array(found.registration.shift_lps_mm),)
        estimate = assimilated(estimate, found.ice, at_s, kind, going_on, grid, ENGINE)
        phase = protocol.phase(progress(now_s), rules)
        if kind is phase.kind is PhaseKind.FREEZE and estimate.volume_id == found.ice.volume_id:
            base = Base(
                estimate, estimate.problem(going_on), numbers, grid, procedure.target,
                estimate.drifts.get(kind), now_s, phase.ends_utc_s or math.inf,
            )  # fmt: skip
            for question in _questions(numbers):
                few, every = (_timed(question, base, config, refined) for refined in (False, True))
                yield few, every


def _questions(numbers: tuple[int, ...]) -> tuple[WhatIf, ...]:
    return WhatIf({numbers[0]: 0.0}), WhatIf(dict.fromkeys(numbers, 0.5)), WhatIf({}, 120.0)


def _timed(question: WhatIf, base: Base, config: Config, refined: bool) -> Timed:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    job = begin_what_if(question, base, ENGINE, refined)
    while not job.done:
        job = advance_what_if(job, ENGINE, _AT_ONCE)
    answer = finish_what_if(job, config, 0.0, ENGINE)
    return Timed(answer, time.perf_counter() - wall_s, time.process_time() - cpu_s)


# ------------------------------------------------------------------ said


def _seconds(pairs: list[tuple[Timed, Timed]]) -> str:
    said = []
    for i, name in enumerate(("first", "refined")):
        wall = [pair[i].wall_s for pair in pairs] or [math.nan]
        cpu = [pair[i].cpu_s for pair in pairs] or [math.nan]
        said.append(
            f"{name} answer: wall {statistics.median(wall):.2f} s (worst {max(wall):.2f}), "
            f"CPU {statistics.median(cpu):.2f} s"
        )
    return "; ".join(said)


def _nearest(a: WhatIfAnswer) -> Range | None:
    return a.asked.structures[0].distance_mm if a.asked.structures else None


_COMPARED: dict[str, Callable[[WhatIfAnswer], Range | None]] = {
    "lesion covered after, s": lambda a: a.asked.time_to_lesion_s,
    "margin covered after, s": lambda a: a.asked.time_to_margin_s,
    "minimal margin, mm": lambda a: a.asked.min_margin_mm,
    "share of lesion and margin": lambda a: a.asked.margin_covered,
    "ice to the first structure, mm": _nearest,
    "margin covered later than going on, s": lambda a: a.change.margin_later_s,
    "minimal margin less that of going on, mm": lambda a: a.change.min_margin_mm,
}


def _compared(pairs: list[tuple[Range | None, Range | None]]) -> str:
    """Of each end: where both are finite, the differences; else how often only one is."""
    said = []
    for end, name in enumerate(("low", "high")):
        few, every = (
            np.array([math.inf if one is None else one[end] for one in side])
            for side in zip(*pairs, strict=True)
        )
        both = np.isfinite(few) & np.isfinite(every)
        off = np.abs(few[both] - every[both])
        alone = int((np.isfinite(few) != np.isfinite(every)).sum())
        median, most = (np.median(off), np.quantile(off, 0.9)) if off.size else (0.0, 0.0)
        said.append(
            f"{name} end off by {median:.2f} in the median, {most:.2f} in 90 % of {off.size}, "
            f"in {alone} only one is finite"
        )
    return ", ".join(said)


def _widths(pairs: list[tuple[Range | None, Range | None]]) -> str:
    """How wide the first answer's ranges are, of the refined ones."""
    both = [(few[1] - few[0], all_[1] - all_[0]) for few, all_ in pairs if few and all_]
    shares = [a / b for a, b in both if math.isfinite(a) and math.isfinite(b) and b > 0.0]
    if not shares:
        return "no width to compare"
    return (
        f"width {statistics.median(shares):.2f} of the refined in the median, "
        f"{min(shares):.2f} to {max(shares):.2f}"
    )


if __name__ == "__main__":
    main()
