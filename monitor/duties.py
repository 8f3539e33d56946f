"""What operators set needles to, and the duty of each needle over time that follows. Duty 0..1 of full
cooling; UTC seconds on the procedure clock; problem time is seconds since the first freeze began.

Invariant: a needle that nobody has set goes on as the case has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpu_kernels.engine import TimeTable
from monitor.config import NeedleConfig


@dataclass(frozen=True)
class NeedleSet:
    """From then on, needle ``number`` draws this share of its full cooling."""

    at_utc_s: float
    number: int
    duty: float


def duty_now(needle: NeedleConfig, sets: Sequence[NeedleSet]) -> float:
    """As it was set last, else as the case has it."""
    mine = [s.duty for s in sets if s.number == needle.number]
    return mine[-1] if mine else needle.duty


def duties_over(
    needles: Sequence[NeedleConfig], sets: Sequence[NeedleSet], begun_utc_s: float
) -> Mapping[int, float | TimeTable]:
    """By number: a duty, or in problem time a table with a step for each time that it was set."""
    return {n.number: _over(n, sets, begun_utc_s) for n in needles}


def _over(needle: NeedleConfig, sets: Sequence[NeedleSet], begun_utc_s: float) -> float | TimeTable:
    duty = duty_now(needle, [s for s in sets if s.at_utc_s <= begun_utc_s])
    # Of two at the same moment the later holds.
    later = {
        s.at_utc_s - begun_utc_s: s.duty
        for s in sets
        if s.number == needle.number and s.at_utc_s > begun_utc_s
    }
    table: list[tuple[float, float]] = []
    for at_s in sorted(later):
        table += [(at_s, duty), (at_s, later[at_s])]
        duty = later[at_s]
    return tuple(table) if table else duty
