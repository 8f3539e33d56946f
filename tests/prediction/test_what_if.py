"""Needles set otherwise from now on: asked, run, compared, and nothing else touched."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_kernels.engine import Engine, Members, Problem
from gpu_kernels.reference import ReferenceEngine
from monitor.case import load_case
from monitor.config import Config
from monitor.decision.bodies import Body
from monitor.forecast_values import WhatIf, WhatIfAnswer
from monitor.journal_fields import what_if_fields
from monitor.model import PhaseKind, Status
from monitor.prediction.assimilation import assimilated
from monitor.prediction.estimate import Estimate, first_estimate
from monitor.prediction.forecast import (
    Target,
    advance_forecast,
    begin_forecast,
    finish_forecast,
)
from monitor.prediction.outcome import extent, nearest_mm, surfaces
from monitor.prediction.unexplained import shares
from monitor.prediction.what_if import (
    Base,
    advance_what_if,
    asked_problem,
    begin_what_if,
    finish_what_if,
    question,
)
from monitor.record.comparing import differences, tolerances_of
from monitor.record.journal import plain
from monitor.record.reading import JournalLine
from tests.prediction.ice_of_two_needles import ENGINE, GRID, PRIOR, problem, true_ice

SCAN_S, NOW_S, PLANNED_S = 180.0, 240.0, 540.0
NUMBERS = (1, 2)
NEEDLES = problem(Members()).needles


def sphere(radius_mm: float, at: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    axis = np.arange(-radius_mm, radius_mm + 1.0, 1.5)
    points = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
    return points[np.linalg.norm(points, axis=1) <= radius_mm] + np.array(at)


TARGET = Target(
    sphere(9.0),
    sphere(12.0),
    (("bowel", sphere(4.0, (22.0, 0.0, 0.0))), ("gone", np.zeros((0, 3)))),
)


@cache
def learned() -> Estimate:
    first = first_estimate(PRIOR, problem, ENGINE)
    kind = PhaseKind.FREEZE
    return assimilated(first, true_ice(SCAN_S, 0), SCAN_S, kind, problem, GRID, ENGINE)


def base(estimate: Estimate | None = None, now_s: float = NOW_S) -> Base:
    e = estimate or learned()
    drift = e.drifts.get(PhaseKind.FREEZE)
    return Base(e, e.problem(problem), NUMBERS, GRID, TARGET, drift, now_s, PLANNED_S)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    needle = 'type = "icesphere_1_5"\ntip_lps_mm = [0, 0, -10]\nentry_lps_mm = [0, 0, 80]\n'
    lines = [
        '[patient]\nid = "P"\n[organ]\npreset = "liver"\n[lesion]\ncentre_lps_mm = [0, 0, 0]',
        "radius_mm = 6",
        *(f"[[needle]]\nnumber = {n}\n{needle}" for n in NUMBERS),
    ]
    path = tmp_path / "case.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return load_case(path)


def answered(
    config: Config,
    asked: WhatIf,
    of: Base | None = None,
    refined: bool = False,
    engine: Engine = ENGINE,
) -> WhatIfAnswer:
    job = begin_what_if(asked, of or base(), engine, refined)
    while not job.done:
        job = advance_what_if(job, engine, 3)
    return finish_what_if(job, config, 1000.0, engine)


# ------------------------------------------------------------------ the question


@pytest.mark.parametrize(
    ("params", "duty", "remaining_s"),
    [
        ({}, {}, None),
        ({"duty": {"2": 0}}, {2: 0.0}, None),
        ({"duty": {"all": 0.5, "1": 1.0}, "remaining_s": 90}, {1: 1.0, 2: 0.5}, 90.0),
        ({"duty": {}, "remaining_s": 900.0}, {}, 900.0),
    ],
)
def test_questions(params: dict[str, Any], duty: dict[int, float], remaining_s: float) -> None:
    assert question(params, NUMBERS) == WhatIf(duty, remaining_s)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"duty": {"3": 0.0}}, r"needle 3: not one of this case \(1, 2\)"),
        ({"duty": {"1": 1.01}}, "needle 1: expected a duty of 0 to 100 %"),
        ({"duty": {"1": -0.01}}, "needle 1"),
        ({"duty": {"1": math.nan}}, "needle 1"),
        ({"duty": {"1": None}}, "needle 1"),
        ({"duty": {"1": True}}, "needle 1"),
        ({"duty": {"all": "half"}}, "every needle"),
        ({"duty": [1, 2]}, "duty: expected"),
        ({"remaining_s": -1.0}, "time left"),
        ({"remaining_s": math.nan}, "time left"),
        ({"remaining_s": None}, "time left"),
        ({"duty": None}, "duty: expected"),
        ({"remaining_s": 901.0}, "time left: expected 0 to 15 min"),
        ({"minutes": 5}, "unknown: minutes"),
    ],
)
def test_what_cannot_be_asked_says_why(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        question(params, NUMBERS)


def test_needles_left_as_they_are_are_the_same_needles() -> None:
    plain = problem(Members())
    assert asked_problem(plain, WhatIf({1: 1.0, 2: 1.0}), NUMBERS, NOW_S) == plain
    first, second = asked_problem(plain, WhatIf({2: 0.5}), NUMBERS, NOW_S).needles
    assert first == plain.needles[0]
    assert second.duty == ((NOW_S, 1.0), (NOW_S, 0.5))


# ------------------------------------------------------------------ the courses


def one_member(asked: WhatIf) -> tuple[Problem, Problem]:
    plain = problem(Members())
    return plain, asked_problem(plain, asked, NUMBERS, 100.0)


@pytest.mark.parametrize(
    "asked", [WhatIf({2: 0.0}), WhatIf({1: 0.4}), WhatIf({}, 60.0), WhatIf({2: 0.0}, 30.0)]
)
def test_carrying_on_with_other_needles_is_the_course_that_has_them(asked: WhatIf) -> None:
    """From the state at the moment of the question, as the whole course from the start by the
    reference engine with the same tables."""
    plain, changed = one_member(asked)
    state = ENGINE.advance(plain, ENGINE.initial(plain, 37.0), 100.0)
    state = ENGINE.advance(changed, state, 260.0)
    reference = ReferenceEngine()
    true = reference.advance(changed, reference.initial(changed, 37.0), 260.0)

    def degc(engine: Engine, of: Problem, at: Any) -> np.ndarray:
        return np.asarray(engine.temperature_degc(of, at))

    off = degc(ENGINE, changed, state) - degc(reference, changed, true)
    assert np.sqrt(np.mean(off**2)) < 0.25
    going_on = reference.advance(plain, reference.initial(plain, 37.0), 260.0)
    did = degc(reference, plain, going_on) - degc(reference, changed, true)
    assert np.sqrt(np.mean(did**2)) > 1.0  # the question changed something


def test_no_duty_is_a_needle_that_has_stopped() -> None:
    plain, none = one_member(WhatIf({1: 0.0, 2: 0.0}))
    ended = asked_problem(plain, WhatIf({}, 0.0), NUMBERS, 100.0)
    start = ENGINE.advance(plain, ENGINE.initial(plain, 37.0), 100.0)
    a, b = (ENGINE.advance(p, start, 200.0) for p in (none, ended))
    np.testing.assert_allclose(a.enthalpy_j_m3, b.enthalpy_j_m3, rtol=1e-5, atol=1e3)


@pytest.mark.parametrize("refined", [False, True])
@pytest.mark.parametrize("asked", [WhatIf(), WhatIf({1: 1.0, 2: 1.0})])
def test_a_question_that_changes_nothing_has_the_answer_of_going_on(
    config: Config, asked: WhatIf, refined: bool
) -> None:
    answer = answered(config, asked, refined=refined)
    assert answer.asked == answer.going_on
    assert answer.change.min_margin_mm == (0.0, 0.0)
    assert set(answer.change.distance_mm) == {("bowel", (0.0, 0.0)), ("gone", None)}
    assert answer.asked.time_to_lesion_s is not None
    assert (answer.refined, answer.members) == (refined, 16 if refined else 4)
    assert (answer.asked_utc_s, answer.from_volume_id) == (1240.0, "v0")
    assert answer.asked.freeze_ends_s == PLANNED_S - NOW_S


def worse(a: tuple[float, float] | None, b: tuple[float, float] | None) -> bool:
    """Later, at both ends."""
    later = (math.inf, math.inf)
    return all(x >= y - 1.0 for x, y in zip(a or later, b or later, strict=True))


@pytest.mark.parametrize(
    "asked", [WhatIf({1: 0.0, 2: 0.0}), WhatIf({}, 0.0), WhatIf({}, 120.0), WhatIf({2: 0.0})]
)
def test_stopping_never_covers_more(config: Config, asked: WhatIf) -> None:
    answer = answered(config, asked)
    a, b = answer.asked, answer.going_on
    for name in ("lesion_covered", "margin_covered", "min_margin_mm"):
        assert all(x <= y + 1e-3 for x, y in zip(getattr(a, name), getattr(b, name), strict=True))
    assert b.lesion_covered[0] > 0.7
    assert worse(a.time_to_lesion_s, b.time_to_lesion_s)
    assert worse(a.time_to_margin_s, b.time_to_margin_s)
    assert worse(a.structures[0].time_to_contact_s, b.structures[0].time_to_contact_s)
    farther, colder = dict(answer.change.distance_mm)["bowel"], b.structures[0].coldest_degc
    assert farther is not None
    assert farther[0] >= -1e-3
    assert farther[1] > 0.2
    assert a.structures[0].coldest_degc[0] >= colder[0] - 0.01


def test_less_duty_never_gets_there_earlier(config: Config) -> None:
    answers = [answered(config, WhatIf({1: duty, 2: duty})) for duty in (1.0, 0.7, 0.35, 0.0)]
    for more, less in itertools.pairwise(answers):
        assert worse(less.asked.time_to_lesion_s, more.asked.time_to_lesion_s)
        assert worse(less.asked.time_to_margin_s, more.asked.time_to_margin_s)
        assert less.asked.min_margin_mm[1] <= more.asked.min_margin_mm[1] + 1e-3
        assert less.going_on == more.going_on
    assert answers[-1].change.min_margin_mm[1] < -0.5


def test_what_comes_after_the_needles_have_stopped_counts(config: Config) -> None:
    """The bowel gets colder yet than it is when the freeze ends, and the ice perhaps nearer."""
    ends_now = replace(base(), planned_end_s=NOW_S)
    stopped = answered(config, WhatIf({}, 0.0), refined=True).asked.structures[0]
    now = answered(config, WhatIf(), ends_now, refined=True).asked.structures[0]
    assert stopped.coldest_degc[0] < now.coldest_degc[0] - 0.1
    assert stopped.distance_mm[0] <= now.distance_mm[0]


def test_the_first_answer_is_like_the_one_by_all(config: Config) -> None:
    for asked in (WhatIf({2: 0.0}), WhatIf({1: 0.5, 2: 0.5}, 300.0)):
        few, every = (answered(config, asked, refined=r).asked for r in (False, True))
        assert few.min_margin_mm == pytest.approx(every.min_margin_mm, abs=0.4)
        assert few.margin_covered == pytest.approx(every.margin_covered, abs=0.04)
        assert few.structures[0].distance_mm == pytest.approx(
            every.structures[0].distance_mm, abs=0.4
        )


def test_before_a_scan_the_first_answer_is_as_unsure_as_the_one_by_all(config: Config) -> None:
    blind = first_estimate(PRIOR, problem, ENGINE)
    of = replace(base(), estimate=blind, problem=blind.problem(problem), now_s=30.0)
    few, every = (answered(config, WhatIf(), of, refined=r).asked for r in (False, True))
    assert few.structures[0].distance_mm is not None
    for narrow, wide in (
        (few.min_margin_mm, every.min_margin_mm),
        (few.structures[0].distance_mm, every.structures[0].distance_mm),
    ):
        assert narrow[1] - narrow[0] > 0.8 * (wide[1] - wide[0])
        assert narrow == pytest.approx(wide, abs=0.2 * (wide[1] - wide[0]) + 0.2)


def test_the_few_stand_at_the_ends_of_the_interval_by_their_margin(config: Config) -> None:
    of = base()
    few, every = (begin_what_if(WhatIf(), of, ENGINE, r) for r in (False, True))
    names = ("perfusion", "latent_heat", "k_frozen", "cooling", "blood_shift_degc")

    def members_of(problem: Problem) -> list[tuple[object, ...]]:
        return list(zip(*(getattr(problem.members, name) for name in names), strict=True))

    theirs, all_of_them = (members_of(j.courses[1].problem) for j in (few, every))
    assert all_of_them == members_of(of.problem)[1:]
    chosen = [all_of_them.index(member) for member in theirs]
    assert few.share is not None
    assert list(few.share) == list(shares(16)[chosen])
    while not every.done:
        every = advance_what_if(every, ENGINE, 3)
    at_end = every.courses[1].at_end
    assert at_end is not None
    ranks = np.argsort(np.argsort(at_end.depth_mm))[chosen]  # of 16
    assert ranks.min() <= 3
    assert ranks.max() >= 12
    assert len(set(ranks)) == 4


def test_going_on_is_what_the_forecast_says(config: Config) -> None:
    """Asked at the scan itself, of all members: as unsure as the forecast, too."""
    target = replace(TARGET, structures_lps_mm=TARGET.structures_lps_mm[:1])
    job = begin_forecast(learned().problem(problem), learned(), GRID, target, PhaseKind.FREEZE)
    job = advance_forecast(job, ENGINE, len(job.times_s))
    forecast = finish_forecast(job, config, 1000.0, ENGINE)
    going_on = answered(config, WhatIf(), base(now_s=SCAN_S), refined=True).going_on
    assert forecast.time_to_margin_s is not None
    assert forecast.time_to_margin_s[1] - forecast.time_to_margin_s[0] > 60.0
    assert going_on.time_to_lesion_s == pytest.approx(forecast.time_to_lesion_s, abs=2.0)
    assert going_on.time_to_margin_s == pytest.approx(forecast.time_to_margin_s, abs=2.0)
    contact = forecast.structures[0].time_to_contact_s
    assert going_on.structures[0].time_to_contact_s == pytest.approx(contact, abs=2.0)


def test_nothing_of_the_estimate_is_touched(config: Config) -> None:
    e = learned()
    fields = (e.state.enthalpy_j_m3, e.free.enthalpy_j_m3, e.theta)
    before = [f.copy() for f in fields]
    answered(config, WhatIf({2: 0.0}, 60.0))
    assert all(np.array_equal(then, now) for then, now in zip(before, fields, strict=True))
    assert e.stopped == (math.inf, math.inf)
    assert e.problem(problem).needles == problem(Members()).needles


def test_the_same_question_has_the_same_answer(config: Config) -> None:
    assert answered(config, WhatIf({2: 0.3}, 60.0)) == answered(config, WhatIf({2: 0.3}, 60.0))


def test_another_engine_answers_within_what_a_replay_allows(config: Config) -> None:
    asked, reference = WhatIf({2: 0.0}), ReferenceEngine()
    recorded, now = (what_if_fields(answered(config, asked, engine=e)) for e in (ENGINE, reference))
    line = JournalLine(1, 1, 0.0, "what_if", plain(recorded))
    found = list(differences(line, now, tolerances_of(ENGINE.name, reference.name)))
    assert {d.unit for d in found} >= {"mm", "s", "degc"}  # shares of points may come out alike
    assert [d for d in found if not d.within] == []


# ------------------------------------------------------------------ what cannot be trusted


def test_doubts_come_with_the_answer(config: Config) -> None:
    assert answered(config, WhatIf()).status is Status.OK
    old = answered(config, WhatIf(), base(now_s=SCAN_S + config.stale_after_s + 1.0))
    assert (old.status, old.reasons[0].code) == (Status.DEGRADED, "scan_old")
    unseen = answered(config, WhatIf(), base(first_estimate(PRIOR, problem, ENGINE), 60.0))
    assert [r.code for r in unseen.reasons] == ["no_ice_measured"]
    failed = replace(learned(), stopped=(math.inf, 200.0))
    told = answered(config, WhatIf({2: 1.0}), base(failed))
    assert [r.code for r in told.reasons] == ["needle_failing"]
    assert told.asked == told.going_on  # asking for it does not make it cool


def test_no_points_are_not_far_away(config: Config) -> None:
    gone = answered(config, WhatIf()).asked.structures[1]
    assert (gone.name, gone.distance_mm) == ("gone", None)
    assert (gone.time_to_contact_s, gone.coldest_degc) == (None, None)


def test_a_clock_behind_the_scan_asks_at_the_scan(config: Config) -> None:
    assert answered(config, WhatIf(), base(now_s=SCAN_S - 5.0)).asked_utc_s == 1000.0 + SCAN_S


# ------------------------------------------------------------------ how far the ice reaches


def ball(radius_mm: float) -> np.ndarray:
    """A ball of ice as frozen fractions (1, z, y, x); its surface where they are one half."""
    distance = np.linalg.norm(GRID.points_lps_mm(), axis=-1)
    return np.clip(0.5 + (radius_mm - distance) / 6.0, 0.0, 1.0)[None].astype(np.float32)


def test_distances_and_depths_of_a_ball() -> None:
    points = np.array([[20.0, 0.0, 0.0], [0.0, 0.0, 26.0]]), np.array([[45.0, 0.0, 0.0]])
    structures = (("near", points[0]), ("beyond the grid", points[1]))
    target = Target(sphere(8.0), sphere(13.0), structures)
    near, beyond = nearest_mm(ball(12.0), target, GRID)
    assert near[0] == pytest.approx(8.0, abs=0.2)
    assert beyond[0] == pytest.approx(33.0, abs=0.3)
    found = extent(ball(12.0), surfaces(target, NEEDLES), GRID)
    assert found.depth_mm[0] == pytest.approx(4.0, abs=0.7)
    assert found.lesion[0] == 1.0
    assert found.margin[0] == pytest.approx(
        np.mean(np.linalg.norm(sphere(13.0), axis=1) <= 12.0), abs=0.05
    )
    assert found.margin[0] < 1.0


def test_a_margin_around_an_uncovered_lesion_is_worth_nothing() -> None:
    off = sphere(5.0, (12.0, 0.0, 0.0))
    found = extent(ball(12.0), surfaces(Target(off, sphere(6.0)), NEEDLES), GRID)
    assert found.margin[0] == found.lesion[0] < 1.0
    assert found.depth_mm[0] < 0.0


def test_without_ice_nothing_is_covered_and_everything_far() -> None:
    none = np.zeros((1, *GRID.shape_zyx), np.float32)
    target = Target(sphere(5.0), sphere(6.0), (("bowel", sphere(3.0, (20.0, 0.0, 0.0))),))
    found = extent(none, surfaces(target, NEEDLES), GRID)
    assert (found.lesion[0], found.margin[0], found.depth_mm[0]) == (0.0, 0.0, -math.inf)
    assert nearest_mm(none, target, GRID)[0][0] == math.inf


def test_surfaces_are_asked_by_themselves_and_volumes_too() -> None:
    inside, shell = sphere(5.0), sphere(5.0)[:40] * 1.2
    whole = np.concatenate([inside, shell])
    weights = np.concatenate([np.ones(len(inside)), np.full(len(shell), 1e-6)])
    lesion = Body("lesion", whole, weights)
    volumes = (("lesion", lesion.volume_lps_mm), ("lesion and margin", lesion.volume_lps_mm))
    target = Target(whole, whole, (), (), volumes, (lesion.surface_lps_mm, lesion.surface_lps_mm))
    found = surfaces(target, NEEDLES)
    assert np.array_equal(found.lesion_lps_mm, shell)
    assert np.array_equal(found.volumes_lps_mm[1][1], inside)
    plain = surfaces(Target(whole, whole), NEEDLES)
    assert np.array_equal(plain.lesion_lps_mm, whole)
    assert np.array_equal(plain.volumes_lps_mm[0][1], whole)


def test_of_a_structure_all_that_faces_a_needle_is_kept() -> None:
    """The needles stand at x = -7 and 7: one end of the slab faces either, the middle neither much."""
    x, z = (c.ravel() for c in np.meshgrid(np.arange(-60.0, 61.0), np.arange(-40.0, 41.0)))
    slab = np.stack([x, np.full(len(x), 15.0), z], -1)
    found = surfaces(Target(slab, slab, (("slab", slab),)), NEEDLES)
    kept = found.structures_lps_mm[0][1]
    assert 500 < len(kept) < 4000
    for needle in NEEDLES:
        nearest = np.abs(kept[:, 0] - needle.tip_mm[0]) < 0.5
        assert nearest.any()
    assert np.abs(kept[:, 0]).max() < 30.0
