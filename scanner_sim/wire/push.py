"""Plays a procedure live: each scan is sent when it has been reconstructed, at a scanner's pace.

The procedure clock shows ``epoch + speed·(wall − epoch)``, in seconds. Invariant: no slice is
skipped but by a fault that was asked for; what cannot be delivered ends the push with an error that
names the scan.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, Protocol

import numpy as np
from pydicom.dataset import Dataset

from scanner_sim.wire.faults import Fault, apply
from scanner_sim.wire.line import Answer, Line, PushError, Target, Tls
from scanner_sim.wire.steps import AbortIn, Absence, Release, Silence, Step, Store

__all__ = [
    "Clock",
    "Delivery",
    "Pace",
    "PushError",
    "Source",
    "Target",
    "Tls",
    "deliver",
    "play",
    "verify",
]

_RETRIES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)  # wall clock, as the receiver's troubles are


class Source(Protocol):
    """Whatever makes the images."""

    @property
    def ready_times_s(self) -> Sequence[float]:
        """When each acquisition's first image is there to be sent, seconds from the baseline."""

    def datasets(self, number: int) -> list[Dataset]:
        """An acquisition's images; asked for in order, as early as possible."""


@dataclass(frozen=True)
class Clock:
    epoch_utc_s: float
    speed: float

    def now_utc_s(self) -> float:
        return self.epoch_utc_s + self.speed * (time.time() - self.epoch_utc_s)

    def wait_until(self, utc_s: float) -> None:
        while (left := utc_s - self.now_utc_s()) > 0:
            time.sleep(min(left / self.speed, 0.2))

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / self.speed)


@dataclass(frozen=True)
class Pace:
    """How fast images leave the reconstruction (per second of the procedure's clock), and in which
    order within a series: by InstanceNumber, up or down, or shuffled by ``seed``."""

    slices_per_s: float = 15.0
    order: Literal["ascending", "descending", "shuffled"] = "ascending"
    seed: int = 0

    def ordered(self, datasets: Iterable[Dataset], scan: int) -> list[Dataset]:
        result: list[Dataset] = []
        for _, group in groupby(datasets, key=lambda d: str(d.SeriesInstanceUID)):
            series = sorted(group, key=lambda d: int(d.InstanceNumber))
            if self.order == "descending":
                series.reverse()
            elif self.order == "shuffled":
                shuffle = np.random.default_rng([self.seed, scan]).permutation(len(series))
                series = [series[n] for n in shuffle]
            result += series
        return result


@dataclass(frozen=True)
class Delivery:
    """``refused``: a sentence for each instance that the receiver will never take."""

    taken: int
    refused: tuple[str, ...] = ()


def play(
    source: Source,
    target: Target,
    clock: Clock,
    start_utc_s: float,
    say: Callable[[str], None],
    pace: Pace = Pace(),
    faults: Sequence[Fault] = (),
) -> None:
    """Sends every scan; the baseline began at ``start_utc_s``. Raises ``PushError``."""
    for number, ready_s in enumerate(source.ready_times_s):
        steps = apply(pace.ordered(source.datasets(number), number), number, faults, pace.seed)
        told = [f.name for f in faults if f.hits(number)]

        def wait_for(image: int, begin_utc_s: float = start_utc_s + ready_s) -> None:
            clock.wait_until(begin_utc_s + image / pace.slices_per_s)

        try:
            done = _deliver(steps, target, wait_for, clock.sleep)
        except PushError as error:
            raise PushError(f"scan {number}: {error}") from error
        if done.refused and not told:
            raise PushError(f"scan {number}: {target}: {done.refused[0]}")
        with_faults = f", with {', '.join(told)}" if told else ""
        say(f"scan {number} at {ready_s:.0f} s: {done.taken} slices sent{with_faults}")
        for sentence in done.refused:
            say(f"scan {number}: {sentence}")


def verify(target: Target) -> None:
    """That the receiver is there and takes calls (C-ECHO). Raises ``PushError``."""
    Line(target, ()).verify()


def deliver(datasets: Sequence[Dataset], target: Target) -> Delivery:
    """All of them at once, without a pace; what the receiver cannot take now is sent again."""
    return _deliver(apply(datasets, 0), target, lambda n: None, time.sleep)


def _deliver(
    steps: Sequence[Step],
    target: Target,
    wait_for: Callable[[int], None],
    sleep: Callable[[float], None],
) -> Delivery:
    """``wait_for(n)`` returns when image n is reconstructed."""
    refused: list[str] = []
    count = sum(isinstance(step, Store) for step in steps)
    left = steps
    for pause_s in (0.0, *_RETRIES_S):
        time.sleep(pause_s)
        line = Line(target, [s.dataset for s in left if isinstance(s, Store | AbortIn)])
        try:
            left = _send(left, line, wait_for if left is steps else lambda n: None, sleep, refused)
        finally:
            line.release()
        if not left:
            return Delivery(count - len(refused), tuple(refused))
    raise PushError(f"{len(left)} of {count} slices were not accepted by {target}: {line.why}")


def _send(
    steps: Sequence[Step],
    line: Line,
    wait_for: Callable[[int], None],
    sleep: Callable[[float], None],
    refused: list[str],
) -> list[Step]:
    """Takes the steps; returns the stores to be tried again, refusals go to ``refused``."""
    later: list[Step] = []
    images = 0
    for step in steps:
        if isinstance(step, Store):
            wait_for(images)
            images += 1
            answer = line.store(step.dataset)
            if answer is Answer.LATER:
                later.append(step)
            elif answer is Answer.REFUSED:
                refused.append(f"instance {step.dataset.InstanceNumber} was refused: {line.why}")
        else:
            _mishap(step, line, sleep)
    return later


def _mishap(step: Step, line: Line, sleep: Callable[[float], None]) -> None:
    if isinstance(step, AbortIn):
        line.abort_in(step.dataset)
    elif isinstance(step, Silence):
        sleep(step.seconds)
    elif isinstance(step, Absence):
        line.reset()
        sleep(step.seconds)
        line.call_in_vain()
    elif isinstance(step, Release):
        line.release()
