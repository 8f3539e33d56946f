"""How far to step. Seconds of problem time.

Invariant: a step never crosses a change in the needles' drive, and steps are short right after one,
when the field changes fast, long later.
"""

from __future__ import annotations

from collections.abc import Iterator

# A step may grow to this share of the time since the needles last changed ...
_GROWTH = 0.12
_SHORTEST_S = 1.5
# ... and no longer: with it P1 of the benchmark stays within 0.1 mm of the converged radii.
_LONGEST_S = 15.0


def steps(
    start_s: float, until_s: float, breakpoints_s: list[float]
) -> Iterator[tuple[float, float]]:
    """(time, step) from ``start_s`` to ``until_s``."""
    time_s = start_s
    while until_s - time_s > 1e-9:
        past = [b for b in breakpoints_s if b <= time_s + 1e-9]
        ahead = [b for b in breakpoints_s if b > time_s + 1e-9]
        since = time_s - past[-1] if past else 0.0
        step = min(max(_GROWTH * since, _SHORTEST_S), _LONGEST_S)
        end = min(until_s, ahead[0]) if ahead else until_s
        if end - time_s < 1.5 * step:
            step = end - time_s
        yield time_s, step
        time_s += step
