"""What if needles are set otherwise, or the freeze ends sooner? Seconds since the first freeze began, °C,
LPS mm, arrays (member, z, y, x).

Before the moment of the question the course is the estimate's; from then on two run from the same
members: the one asked about, and going on as now. First by a few members, by rank of how deep the
lesion lies in their ice; then by all.
Invariant: nothing here changes the estimate, and a question that changes nothing has, to the last
digit, the answer of going on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_kernels.engine import Engine, Members, Needle, Problem, State
from gpu_kernels.law import interpolate
from monitor.config import Config
from monitor.forecast_values import WhatIf, WhatIfAnswer
from monitor.geometry import FloatArray, Grid
from monitor.model import Float32Array, Reason, Status
from monitor.prediction.drift import Drift
from monitor.prediction.estimate import Estimate
from monitor.prediction.forecast import (
    HORIZON_S,
    NEAR_S,
    OUTPUT_EVERY_S,
    Reached,
    Target,
    at_target,
    drifted,
    failing,
)
from monitor.prediction.outcome import (
    Extent,
    Results,
    change,
    extent,
    nearest_mm,
    outcome,
    results,
    surfaces,
)
from monitor.prediction.reading import read
from monitor.prediction.stopping import halted
from monitor.prediction.unexplained import shares, spread
from monitor.stages import stage

# Members of the first answer, at even ranks from the 10th to the 90th percentile, so that their extremes
# are the ends of the interval that all would give.
_FEW = 4
_FIRST_RANK, _LAST_RANK = 0.1, 0.9
# How much deeper than in another member's ice the lesion lies at the end of a freeze, mm, by a unit of the
# logarithm of perfusion, latent heat, frozen conductivity and mean cooling, by a degree of the blood and by a
# share of what no parameter explains. Fitted to all members of three tuning scenarios; of each one's spread
# such a sum explains 94 % and more.
_GROWTH_MM = {"perfusion": -1.3, "latent_heat": -2.8, "k_frozen": 8.7, "cooling": 4.3}
_BLOOD_MM_PER_DEGC, _SHARE_MM = -0.17, -1.0
# These are of a freeze that lasts so long; of what is left of one, in proportion.
_GROWTH_S = 600.0
# The first answer looks at so many times fewer moments.
_COARSER = 2.0

Rows = npt.NDArray[np.intp]

# ------------------------------------------------------------------ the question


def question(params: Mapping[str, Any], numbers: Sequence[int]) -> WhatIf:
    """From an operator's ``{"duty": {"2": 0.0, "all": 0.5}, "remaining_s": 300.0}``, both optional;
    "all" is every needle that is not named. ``numbers``: the needles. Raises
    ``ValueError`` with a sentence for the operator."""
    unknown = sorted(set(params) - {"duty", "remaining_s"})
    if unknown:
        raise ValueError(f"unknown: {', '.join(unknown)}")
    given = params.get("duty", {})
    if not isinstance(given, Mapping):
        raise ValueError(f"duty: expected one for each needle, got {given}")
    given = dict(given)
    duty = dict.fromkeys(numbers, _duty("every needle", given.pop("all"))) if "all" in given else {}
    for name, value in given.items():
        duty[_number(name, numbers)] = _duty(f"needle {name}", value)
    return WhatIf(duty, _remaining_s(params["remaining_s"]) if "remaining_s" in params else None)


def _number(name: object, numbers: Sequence[int]) -> int:
    known = {str(n): n for n in numbers}
    if str(name) not in known:
        raise ValueError(f"needle {name}: not one of this case ({', '.join(known)})")
    return known[str(name)]


def _duty(where: str, value: object) -> float:
    if not (_is_number(value) and 0.0 <= float(value) <= 1.0):  # type: ignore[arg-type]
        raise ValueError(f"{where}: expected a duty of 0 to 100 %, got {value}")
    return float(value)  # type: ignore[arg-type]


def _remaining_s(value: object) -> float:
    if not (_is_number(value) and 0.0 <= float(value) <= HORIZON_S):  # type: ignore[arg-type]
        raise ValueError(
            f"time left: expected 0 to {HORIZON_S / 60:.0f} min, which is how far is looked ahead"
        )
    return float(value)  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def asked_problem(
    going_on: Problem, asked: WhatIf, numbers: Sequence[int], now_s: float
) -> Problem:
    """The problem with the needles as asked from ``now_s`` on; ``numbers`` as the problem's needles."""
    needles = tuple(
        _set(needle, asked.duty.get(number), now_s)
        for needle, number in zip(going_on.needles, numbers, strict=True)
    )
    problem = replace(going_on, needles=needles)
    if asked.remaining_s is None:
        return problem
    return halted(problem, (now_s + asked.remaining_s,) * len(needles))


def _set(needle: Needle, duty: float | None, now_s: float) -> Needle:
    table = needle.duty if isinstance(needle.duty, tuple) else ((now_s, needle.duty),)
    before = interpolate(table, now_s, before=table[0][1])
    if duty is None or duty == before:
        return needle
    earlier = tuple(entry for entry in table if entry[0] < now_s)
    return replace(needle, duty=(*earlier, (now_s, before), (now_s, duty)))


# ------------------------------------------------------------------ the two courses


@dataclass(frozen=True)
class Base:
    """What a question is asked of: the estimate, its ``problem`` going on as now, the needles' numbers, the
    moment, and when the protocol has the freeze end."""

    estimate: Estimate
    problem: Problem
    numbers: tuple[int, ...]
    grid: Grid
    target: Target
    drift: Drift | None
    now_s: float
    planned_end_s: float


@dataclass(frozen=True)
class Course:
    """So far. ``stops_s``: when the needles do, inf if not; ``end_s``: when the freeze is taken to end;
    ``most`` is the most frozen that each voxel was until ``until_s``."""

    problem: Problem
    state: State
    stops_s: float
    end_s: float
    moments: tuple[Reached, ...] = ()
    most: Float32Array | None = None
    at_end: Extent | None = None
    nearest_mm: tuple[FloatArray, ...] = ()

    @property
    def until_s(self) -> float:
        return math.inf if math.isfinite(self.stops_s) else self.end_s


@dataclass(frozen=True)
class WhatIfJob:
    """An answer being computed, a few moments at a time, so that nothing more urgent waits for it.
    ``share``: a few members' of what no parameter explains; None: as in the forecast, by all."""

    asked: WhatIf
    base: Base
    refined: bool
    surface: Target
    share: FloatArray | None
    times_s: tuple[float, ...]
    courses: tuple[Course, Course]

    @property
    def done(self) -> bool:
        return self._open is None

    @property
    def _open(self) -> int | None:
        """Which course is to be carried on."""
        wanted = len(self.times_s)
        return next((i for i, c in enumerate(self.courses) if len(c.moments) < wanted), None)

    def with_more(self, engine: Engine) -> WhatIfJob:
        """One moment more."""
        i = self._open
        if i is None:
            return self
        course = _carried_on(self, self.courses[i], engine)
        first, second = self.courses
        return replace(self, courses=(course, second) if i == 0 else (first, course))


@stage("what_if")
def begin_what_if(asked: WhatIf, base: Base, engine: Engine, refined: bool = False) -> WhatIfJob:
    """Both courses at the moment of the question; ``refined`` by all members, else by a few."""
    now_s = max(base.now_s, base.estimate.state.time_s)
    base = replace(base, now_s=now_s, planned_end_s=_within_horizon(base.planned_end_s, now_s))
    problem, state, share = _members_of(base, engine, refined)
    state = engine.advance(problem, state, now_s)
    stops_s = math.inf if asked.remaining_s is None else now_s + asked.remaining_s
    end_s = stops_s if math.isfinite(stops_s) else base.planned_end_s
    changed = asked_problem(problem, asked, base.numbers, now_s)
    return WhatIfJob(
        asked,
        base,
        refined,
        surfaces(base.target, base.problem.needles),
        share,
        _times_s(now_s, {end_s, base.planned_end_s}, 1.0 if refined else _COARSER),
        (
            Course(changed, state, stops_s, end_s),
            Course(problem, state, math.inf, base.planned_end_s),
        ),
    )


@stage("what_if")
def advance_what_if(job: WhatIfJob, engine: Engine, moments: int) -> WhatIfJob:
    """The job with up to ``moments`` more computed."""
    for _ in range(moments):
        job = job.with_more(engine)
    return job


def _within_horizon(time_s: float, now_s: float) -> float:
    return min(max(time_s, now_s), now_s + HORIZON_S)


def _times_s(now_s: float, ends_s: set[float], coarser: float) -> tuple[float, ...]:
    every_s = coarser * OUTPUT_EVERY_S
    near = now_s + np.arange(0.0, NEAR_S, every_s)
    far = now_s + np.arange(NEAR_S, HORIZON_S + 1.0, 2.0 * every_s)
    return tuple(sorted({float(t) for t in (*near, *far)} | ends_s))


def _members_of(
    base: Base, engine: Engine, refined: bool
) -> tuple[Problem, State, FloatArray | None]:
    """The members without their mean, which has no part in a range: all, or a few with their shares."""
    count = len(base.problem.members)
    rows = np.arange(1, count) if count > 1 else np.arange(count)
    if refined:
        return *_picked(base.problem, base.estimate.state, rows), None
    some = _ranks(base, rows, engine)
    return *_picked(base.problem, base.estimate.state, rows[some]), shares(len(rows))[some]


def _ranks(base: Base, rows: Rows, engine: Engine) -> Rows:
    """Which of the rows stand at even ranks by how deep the lesion is to lie in their ice when the freeze
    ends: what a scan has shown, spread by what no parameter explains, and the growth from there on."""
    problem, estimate = base.problem, base.estimate
    growth_mm = _growth_mm(problem.members, len(base.numbers))[rows]
    if estimate.volume_id is None:
        order = np.argsort(_SHARE_MM * shares(len(rows)) + growth_mm)
    else:
        to_come_s = base.planned_end_s - estimate.state.time_s
        degc, ice = read(problem, estimate.state, engine)
        by_then = spread(ice[rows], degc[0], to_come_s, base.grid)
        depth_mm = extent(by_then, surfaces(base.target, problem.needles), base.grid).depth_mm
        part = min(to_come_s / _GROWTH_S, 1.0)
        order = np.lexsort((growth_mm, depth_mm + part * growth_mm))
    last = len(order) - 1
    ranks = np.linspace(np.floor(_FIRST_RANK * last), np.ceil(_LAST_RANK * last), _FEW)
    return np.asarray(order[np.unique(np.round(ranks).astype(int))])


def _growth_mm(members: Members, needles: int) -> FloatArray:
    """(member,): how much deeper than in another's the lesion will lie in its ice, by parameters alone."""
    logs = {
        "perfusion": members.perfusion,
        "latent_heat": members.latent_heat,
        "k_frozen": members.k_frozen,
        "cooling": members.cooling_by_needle(needles).mean(axis=1),
    }
    grown = sum(weight * np.log(np.asarray(logs[name])) for name, weight in _GROWTH_MM.items())
    return np.asarray(grown + _BLOOD_MM_PER_DEGC * np.asarray(members.blood_shift_degc))


def _picked(problem: Problem, state: State, rows: Rows) -> tuple[Problem, State]:
    """Some members of a problem and of its state, which has no history from here on: nothing asks for it."""
    taken = {
        name: tuple(each[r] for r in rows) for name, each in vars(problem.members).items() if each
    }
    back_s = None if state.perfused_from_s is None else state.perfused_from_s[rows]
    picked = State(state.time_s, state.enthalpy_j_m3[rows], back_s)
    return replace(problem, members=Members(**taken)), picked


def _carried_on(job: WhatIfJob, course: Course, engine: Engine) -> Course:
    """The course one moment on."""
    grid, time_s = job.base.grid, job.times_s[len(course.moments)]
    state = engine.advance(course.problem, course.state, time_s)
    degc, ice = read(course.problem, state, engine)
    scan_s = job.base.estimate.state.time_s
    ice = spread(ice, degc.mean(axis=0), time_s - scan_s, grid, job.share)
    # The drift is the freeze's: it goes no farther once that has ended.
    surface = drifted(job.surface, job.base.drift, min(time_s, course.stops_s) - scan_s, grid)
    moments = (*course.moments, at_target(ice, degc, surface, grid))
    most = course.most
    if time_s <= course.until_s:
        most = ice if most is None else np.maximum(most, ice)
    course = replace(course, state=state, moments=moments, most=most)
    if time_s == course.end_s:
        course = replace(course, at_end=extent(ice, surface, grid))
    if time_s == min(course.until_s, job.times_s[-1]):
        assert most is not None
        course = replace(course, nearest_mm=nearest_mm(most, surface, grid), most=None)
    return course


# ------------------------------------------------------------------ the answer


@stage("what_if")
def finish_what_if(
    job: WhatIfJob, config: Config, freeze_started_utc_s: float, engine: Engine
) -> WhatIfAnswer:
    """The answer of a job that is done."""
    base, surface = job.base, job.surface
    asked, going_on = (_results(job, course) for course in job.courses)
    ends_s = [course.end_s - base.now_s for course in job.courses]
    doubts = (
        *base.estimate.reasons,
        *failing(base.estimate, base.problem, config),
        *_age(base, config),
    )
    return WhatIfAnswer(
        question=job.asked,
        asked_utc_s=freeze_started_utc_s + base.now_s,
        from_volume_id=base.estimate.volume_id,
        refined=job.refined,
        members=len(job.courses[0].problem.members),
        asked=outcome(asked, ends_s[0], surface),
        going_on=outcome(going_on, ends_s[1], surface),
        change=change(asked, going_on, surface),
        engine=engine.name,
        status=Status.DEGRADED if doubts else Status.OK,
        reasons=doubts,
    )


def _results(job: WhatIfJob, course: Course) -> Results:
    assert course.at_end is not None
    elapsed_s = np.array(job.times_s) - job.base.now_s
    until_s = course.until_s - job.base.now_s
    return results(elapsed_s, course.moments, until_s, course.at_end, course.nearest_mm)


def _age(base: Base, config: Config) -> tuple[Reason, ...]:
    """Whether what it runs on from is a scan, and how old."""
    if base.estimate.volume_id is None:
        return (Reason("no_ice_measured", "No scan of the ice yet: by physics alone."),)
    age_s = base.now_s - base.estimate.state.time_s
    if age_s <= config.stale_after_s:
        return ()
    text = f"The scan that this runs on from is {age_s / 60.0:.0f} min old."
    return (Reason("scan_old", text),)
