"""A run whose next state is computed while the last one is looked at. Times in s.

Reading fields at points takes as long as a stretch of the run, and one core. Invariant: the states are
those that ``advance`` gives one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from gpu_kernels.engine import Engine, Problem, State


def states(
    engine: Engine, problem: Problem, state: State, times_s: Sequence[float]
) -> Iterator[State]:
    """The state at each of these ascending times. Raises what ``advance`` raises."""
    with ThreadPoolExecutor(1) as beside:
        coming = [beside.submit(engine.advance, problem, state, t) for t in times_s[:1]]
        for n in range(len(times_s)):
            state = coming.pop().result()
            coming = [
                beside.submit(engine.advance, problem, state, t) for t in times_s[n + 1 : n + 2]
            ]
            yield state
