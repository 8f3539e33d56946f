"""Where the procedure stands: freezes and thaws in order, begun and ended. Seconds (UTC, procedure
clock) unless named ``problem_s`` (since the first freeze began).

Invariant: a phase begun stays begun; time alone or the operator begins the next one, nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitor.config import ProtocolConfig
from monitor.model import Interval, Phase, PhaseKind


@dataclass(frozen=True)
class Progress:
    """``started_utc_s[i]`` is when phase i began; ``ended_utc_s`` when the last one was over."""

    started_utc_s: tuple[float, ...] = ()
    ended_utc_s: float | None = None


def next_phase(progress: Progress, protocol: ProtocolConfig, at_utc_s: float) -> Progress:
    """The next phase begins (the first freeze, when none has); after the last, the end."""
    if progress.ended_utc_s is not None:
        return progress
    if len(progress.started_utc_s) == len(protocol.phases):
        return Progress(progress.started_utc_s, at_utc_s)
    return Progress((*progress.started_utc_s, at_utc_s))


def advanced(progress: Progress, protocol: ProtocolConfig, now_utc_s: float) -> Progress:
    """What time alone has begun by now. The first freeze never begins by itself."""
    while progress.started_utc_s and progress.ended_utc_s is None:
        current = len(progress.started_utc_s) - 1
        ends_utc_s = progress.started_utc_s[-1] + protocol.phases[current].duration_s
        if now_utc_s < ends_utc_s:
            break
        progress = next_phase(progress, protocol, ends_utc_s)
    return progress


def steps(before: Progress, after: Progress) -> tuple[Progress, ...]:
    """Every step from one to the other, in order, the last being ``after``."""
    begun = range(len(before.started_utc_s) + 1, len(after.started_utc_s) + 1)
    found = tuple(Progress(after.started_utc_s[:n]) for n in begun)
    return found if after.ended_utc_s is None else (*found, after)


def phase(progress: Progress, protocol: ProtocolConfig) -> Phase:
    """The current phase, for screen and journal."""
    if not progress.started_utc_s:
        return Phase(PhaseKind.WAITING, 0, None, None)
    begun = protocol.phases[: len(progress.started_utc_s)]
    cycle = sum(p.kind is PhaseKind.FREEZE for p in begun)
    if progress.ended_utc_s is not None:
        return Phase(PhaseKind.ENDED, cycle, progress.ended_utc_s, None)
    started = progress.started_utc_s[-1]
    return Phase(begun[-1].kind, cycle, started, started + begun[-1].duration_s)


def kind_at(progress: Progress, protocol: ProtocolConfig, at_utc_s: float) -> PhaseKind:
    """What ran at a time up to now."""
    begun = [i for i, start in enumerate(progress.started_utc_s) if start <= at_utc_s]
    return protocol.phases[begun[-1]].kind if begun else PhaseKind.WAITING


def intervals(
    progress: Progress, protocol: ProtocolConfig, horizon_s: float
) -> tuple[Interval, ...]:
    """What the needles did and, if nobody intervenes, will do: the phases begun as they happened,
    the running one for as long as ``horizon_s`` past its start, since the question that a forecast
    answers is "what if we go on". Each change of phase therefore calls for a new forecast."""
    if not progress.started_utc_s:
        return ()
    zero = progress.started_utc_s[0]
    ends = (*progress.started_utc_s[1:], progress.ended_utc_s)
    result = []
    for config, start, end in zip(protocol.phases, progress.started_utc_s, ends, strict=False):
        until = start + config.duration_s + horizon_s if end is None else end
        result.append((config.kind, start - zero, until - zero))
    return tuple(result)
