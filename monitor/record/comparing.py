"""Recorded results against those worked out again: field by field, within declared tolerances.

A field's unit is the end of its name (or of the name it is nested in). Invariant: what is not a number
is equal or differs; a number that is only on one side differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

from monitor.record.journal import plain
from monitor.record.reading import JournalLine

Fields = Mapping[str, Any]

# Lines that follow from an input.
RESULTS = frozenset(
    {
        "instance_rejected",
        "volume_completed",
        "baseline_set",
        "volume_not_measured",
        "registered",
        "ice_segmented",
        "forecast",
        "forecast_skipped",
        "assessment",
        "phase",
        "what_if",
        "what_if_refused",
        "what_if_over",
        "needle_set",
        "ice_reviewed",
        "undone",
        "act_refused",
        "fault",
    }
)
# Of other threads and processes, with clocks of their own, of the machine, or refused: not compared.
NOT_COMPARED = frozenset(
    {
        "procedure_started",
        "procedure_resumed",
        "record_kept_again",
        "record_damaged",
        "checkpoint_failed",
        "listening",
        "listener_failed",
        "association_refused",
        "peer_accepted",
        "images_refused",
        "images_kept_again",
        "alarm_raised",
        "alarm_acknowledged",
        "alarm_cleared",
        "operator",
        "process_restarted",
        "timing",
        "delivery",
        "procedure_ending",
        "procedure_ended",
    }
)
# Of every line; where a file was put; where in the program an error arose.
_IGNORED = frozenset({"seq", "at", "mono_s", "kind", "path", "trace"})


@dataclass(frozen=True)
class Tolerance:
    """What two numbers may differ by. ``one`` is for what has no unit: fractions, directions."""

    mm: float
    ml: float
    s: float
    degc: float
    one: float


# The same engine gives the same bits on the processor that recorded, with one thread or more. Without the
# instructions that newer processors have, 5e-6 mm, 2e-6 ml, 1.4e-4 °C and 0.04 s were seen over a whole
# procedure (docs/journal.md; late in a freeze ice grows by 0.01 mm a second, so that times magnify): these
# are 20 times that and more, and far below what anybody could act on.
SAME_ENGINE = Tolerance(mm=1e-4, ml=1e-4, s=1.0, degc=0.01, one=1e-5)
# The reference engine, float64 and by other steps, was 0.32 °C and 22 s off the CPU engine: 3 times that; in
# a what-if 0.02 mm and 0.002 of a volume: 10 times that, since most procedures ask for larger steps.
OTHER_ENGINE = replace(SAME_ENGINE, mm=0.2, s=60.0, degc=1.0, one=0.02)


# When an alarm was raised or cleared, in the machine's seconds: the watch looks four times a second, at
# states whose results are written before it can see them, on a machine that may be busy.
ALARM_S = 3.0


@dataclass(frozen=True)
class Tolerances:
    """``measured`` holds for all that comes of images alone, ``forecast`` for what the bioheat engine
    computed; ``same_engine`` is False where that was another one, whose name may differ."""

    measured: Tolerance = SAME_ENGINE
    forecast: Tolerance = SAME_ENGINE
    same_engine: bool = True

    def of(self, kind: str, name: str) -> Tolerance:
        predicted = kind in ("forecast", "what_if") or name.startswith("time_to_")
        return self.forecast if predicted else self.measured


def tolerances_of(recorded: str, replayed: str) -> Tolerances:
    """What may differ when one engine (by name) recorded and another, or the same, replays."""
    if recorded == replayed:
        return Tolerances()
    return Tolerances(forecast=OTHER_ENGINE, same_engine=False)


@dataclass(frozen=True)
class Difference:
    """``apart`` is None where it is not two numbers that differ; ``unit`` "" for what has none."""

    field: str
    recorded: Any
    recomputed: Any
    unit: str
    apart: float | None
    within: bool


def aligned(
    recorded: list[JournalLine], recomputed: list[tuple[str, Fields]]
) -> Iterator[tuple[JournalLine | None, tuple[str, Fields] | None]]:
    """Results side by side, in order; None where one side has none of that kind there."""
    matcher = SequenceMatcher(
        None, [line.kind for line in recorded], [kind for kind, _ in recomputed], autojunk=False
    )
    for same, a, b, c, d in matcher.get_opcodes():
        if same == "equal":
            yield from zip(recorded[a:b], recomputed[c:d], strict=True)
        else:
            yield from ((line, None) for line in recorded[a:b])
            yield from ((None, result) for result in recomputed[c:d])


def differences(
    line: JournalLine, recomputed: Fields, tolerances: Tolerances
) -> Iterator[Difference]:
    """Where a recorded line and its recomputed fields differ, also within ``tolerances``."""
    for name in sorted((line.fields.keys() | recomputed.keys()) - _IGNORED):
        if name == "engine" and not tolerances.same_engine:
            continue
        tolerance = tolerances.of(line.kind, name)
        now = plain(recomputed.get(name))
        yield from _apart(name, line.fields.get(name), now, name, tolerance)


def _apart(field: str, a: Any, b: Any, name: str, tolerance: Tolerance) -> Iterator[Difference]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            named = key if unit_of(key) else name
            yield from _apart(f"{field}.{key}", a.get(key), b.get(key), named, tolerance)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _apart(f"{field}[{i}]", x, y, name, tolerance)
    elif _is_number(a) and _is_number(b):
        unit = unit_of(name)
        apart = abs(a - b)
        if apart:
            most = getattr(tolerance, unit or "one")
            yield Difference(field, a, b, unit, apart, bool(apart <= most))
    elif a != b or isinstance(a, bool) != isinstance(b, bool):
        yield Difference(field, a, b, "", None, False)


def unit_of(name: str) -> str:
    """The unit that a field's name ends with, "" when it has none."""
    unit = name.rpartition("_")[2]
    return unit if unit in Tolerance.__dataclass_fields__ and unit != "one" else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
