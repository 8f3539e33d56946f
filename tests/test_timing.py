"""Stages and the ``timing`` lines made of them. Seconds by a clock that the test turns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from monitor.model import AssociationEnded, CtVolume, Instance
from monitor.record.durations import rows
from monitor.record.reading import JournalLine
from monitor.stages import Stopwatch, stage, timed_by
from monitor.state import ForecastDue, KeepVolume, Line, OperatorAct, Tick
from monitor.timing import Timing


class Hand:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def on(self, seconds: float) -> None:
        self.now_s += seconds


HAND = Hand()


@stage("inner")
def inner(seconds: float) -> str:
    HAND.on(seconds)
    return "found"


@stage("outer")
def outer(fail: bool = False) -> str:
    HAND.on(1.0)
    found = inner(2.0)
    HAND.on(4.0)
    if fail:
        raise ZeroDivisionError
    return found


def test_a_stage_inside_another_counts_once() -> None:
    watch = Stopwatch(HAND)
    with timed_by(watch):
        assert outer() == "found"
        inner(8.0)
        assert watch.taken() == {"inner": 10.0, "outer": 5.0}
        with pytest.raises(ZeroDivisionError):
            outer(fail=True)
    assert watch.taken() == {"inner": 2.0, "outer": 5.0}
    assert outer() == "found"  # nobody asks
    assert watch.taken() == {}


def volume(volume_id: str, received_mono_s: float) -> CtVolume:
    """As much of one as a timing asks for."""
    instance = Instance("", "", "", "", "", 1, "", 0.0, received_mono_s)
    made = object.__new__(CtVolume)
    object.__setattr__(made, "volume_id", volume_id)
    object.__setattr__(made, "instances", (instance,))
    return made


TICK, DUE = Tick(0.0, 0.0), ForecastDue(0.0)
ENDED = AssociationEnded(1, False, 3, 0.0)


def test_what_slices_and_stretches_took_is_told_with_what_they_led_to() -> None:
    timing = Timing()
    assert timing.line(ENDED, [], {"decode": 1.0}, 0.01, 1.0) is None
    assert timing.line(DUE, [], {"forecast": 5.0}, 0.01, 2.0) is None
    kept: list[Any] = [KeepVolume(volume("v007", 3.0))]
    line = timing.line(TICK, kept, {"decode": 1.0, "needles": 0.5}, 0.6, 4.5)
    assert line == {
        "event": "Tick", "took_s": 0.6, "volume_ids": ["v007"], "since_received_s": 1.5,
        "stages": {"decode": 2.0, "needles": 0.5},
    }  # fmt: skip
    done = [Line("forecast", {"from_volume_id": "v007"})]
    line = timing.line(DUE, done, {"forecast": 1.0, "publish": 0.1}, 0.6, 6.0)
    assert line is not None
    assert (line["of"], line["from_volume_id"]) == ("forecast", "v007")
    assert line["stages"] == {"forecast": 6.0, "publish": 0.1}


def test_what_is_overtaken_counts_to_nothing() -> None:
    timing = Timing()
    timing.line(DUE, [], {"forecast": 5.0}, 0.01, 2.0)
    timing.line(TICK, [Line("forecast_skipped", {})], {}, 0.01, 2.0)
    timing.line(DUE, [], {"what_if": 5.0, "forecast": 1.0}, 0.01, 2.0)
    timing.line(TICK, [Line("what_if_over", {})], {}, 0.01, 2.0)
    line = timing.line(DUE, [Line("forecast", {"from_volume_id": None})], {}, 0.01, 3.0)
    assert line is not None
    assert line["stages"] == {"forecast": 1.0}


def test_what_takes_long_is_told_as_before() -> None:
    timing, act = Timing(), OperatorAct("reload", 0.0)
    assert timing.line(TICK, [], {}, 0.2, 0.0) == {"event": "Tick", "took_s": 0.2}
    assert timing.line(TICK, [], {}, 0.1, 0.0) is None
    assert timing.line(act, [], {"needles": 0.3}, 0.4, 0.0) == {
        "event": "OperatorAct", "took_s": 0.4, "stages": {"needles": 0.3},
    }  # fmt: skip
    assert timing.line(act, [], {"needles": 0.01}, 0.1, 0.0) is None


def test_rows_are_of_each_stage_in_the_order_of_the_work() -> None:
    took = list(np.random.default_rng(4).permutation(np.arange(1.0, 102.0)))
    lines = [
        JournalLine(n, n, 0.0, "timing", {
            "volume_ids": [f"v{n:03d}"], "since_received_s": 9.0,
            "stages": {"zeal": 1, "segmentation": t, "decode": None, "keep": True},
        })
        for n, t in enumerate(took)
    ]  # fmt: skip
    lines += [
        JournalLine(0, 0, 0.0, "timing", {"event": "Tick", "took_s": 1.0}),
        JournalLine(0, 0, 0.0, "phase", {"stages": {"decode": 1.0}}),
    ]
    found = rows(lines)
    assert [r.stage for r in found] == ["segmentation", "zeal", "last slice to shown"]
    s = found[0]
    assert (s.count, s.median_s, s.p95_s, s.worst_s) == (101, 51.0, 96.0, 101.0)
    assert s.worst_of == f"v{took.index(101.0):03d}"
