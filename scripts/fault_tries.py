"""Faults tried again and again against a running monitor while a scan comes. Seconds, monotonic.

Invariant: a try ends within its limits, and what went wrong in it is counted in its row.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fault_accounts import RIGHT_S, account, gaps, right_at
from fault_rows import Row
from faulty_network import scan
from live_room import Room
from pydicom.dataset import Dataset

from scanner_sim.wire.link import Link, LinkError
from scanner_sim.wire.push import Target

# How long a scanner goes on trying, and how soon.
_PATIENCE_S, _AGAIN_S = 90.0, 0.5
_PER_S = 15.0


@dataclass(frozen=True)
class Run:
    """What a group of faults is given: so many tries, until ``end_s``, and a folder of its own."""

    tries: int
    end_s: float
    folder: Path


@dataclass(frozen=True)
class Group:
    """Faults that one monitor, or one kind of it, meets: what happens, by name. ``round_s``: about how long
    each of them once takes. ``run`` fills their rows."""

    faults: Mapping[str, str]
    round_s: float
    run: Callable[[list[Row], Run], None]


class NotTried(Exception):
    """This machine cannot make the fault; the message says why."""


def rounds(rows: list[Row], run: Run, one: Callable[[Row, int], None]) -> None:
    """Each once, then each again, until each was tried so often or the time is up."""
    for number in range(run.tries):
        if not _round(rows, run, one, number):
            return


def _round(rows: list[Row], run: Run, one: Callable[[Row, int], None], number: int) -> bool:
    for place, row in enumerate(rows):
        if time.monotonic() > run.end_s:
            return False
        print(f"{number + 1} of {run.tries}: {row.fault}", file=sys.stderr, flush=True)
        with counted(row):
            one(row, 1000 * number + place + 1)
    print(f"{number + 1} of {run.tries}: {sum(r.lost for r in rows)} lost, "
          f"{sum(r.wrong for r in rows)} not right", flush=True)  # fmt: skip
    return True


@contextmanager
def counted(row: Row) -> Iterator[None]:
    """A try that is not answered in time is counted as one, and as not right."""
    before = row.tries
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.code, str):  # told to end
            raise
        print(f"{row.fault}: {error}", file=sys.stderr, flush=True)
        row.tries = max(row.tries, before + 1)
        row.wrong += 1


@contextmanager
def possible(rows: list[Row]) -> Iterator[None]:
    """What this machine cannot make is said in the rows."""
    try:
        yield
    except NotTried as error:
        for row in rows:
            row.why_not = str(error)
            print(f"{row.fault}: not tried: {error}", file=sys.stderr, flush=True)


# ------------------------------------------------------------------ a scanner at work


class Scanner(threading.Thread):
    """Sends a scan as fast as it is made; what was not answered with success it sends again, as scanners do.
    ``kept``: the UIDs that were. ``left``: what it has given up on."""

    def __init__(self, target: Target, slices: list[Dataset], per_s: float = _PER_S) -> None:
        super().__init__(name="scanner", daemon=True)
        self._target, self._pause_s = target, 1.0 / per_s
        self.kept: list[str] = []
        self.left = list(slices)
        self.ended_s = 0.0

    def run(self) -> None:
        end = time.monotonic() + _PATIENCE_S
        while self.left and time.monotonic() < end:
            self.left = self._call(self.left)
            if self.left:
                time.sleep(_AGAIN_S)

    def reached(self, count: int) -> None:
        end = time.monotonic() + RIGHT_S
        while len(self.kept) < count:
            if time.monotonic() > end:
                raise SystemExit("the scanner does not get on")
            time.sleep(0.01)

    def _call(self, slices: list[Dataset]) -> list[Dataset]:
        """One association; what has to be sent again."""
        to = self._target
        kinds = {(str(d.SOPClassUID), str(d.file_meta.TransferSyntaxUID)) for d in slices}
        later: list[Dataset] = []
        done = 0
        try:
            link = Link((to.host, to.port), (to.calling_ae_title, to.ae_title), sorted(kinds))
            for d in slices:
                if link.store(d, d.file_meta.TransferSyntaxUID):
                    later.append(d)
                else:
                    self.kept.append(str(d.SOPInstanceUID))
                    self.ended_s = time.monotonic()
                done += 1
                time.sleep(self._pause_s)
            link.release()
        except LinkError:
            later += slices[done:]
        return later


# Makes the fault and mends it; how many seconds what it struck then took until it was right again.
Strike = Callable[[Room, random.Random], float]


def struck(
    room: Room, row: Row, target: Target, strike: Strike, number: int,
    made: Callable[[int], list[Dataset]] = scan, to_come: int = 2,
) -> None:  # fmt: skip
    """One try, somewhere in a scan, of which so many images are still to come. Seconds are from the scan's
    last answer to its assessment, or those that what was struck took, if they are more."""
    chance = random.Random(number)
    slices, before = made(number), len(room.journal())
    scanner = Scanner(target, slices)
    scanner.start()
    scanner.reached(chance.randrange(2, len(slices) - to_come))
    row.tries += 1
    back_s = strike(room, chance)
    scanner.join(_PATIENCE_S)
    right_s = right_at(room, before, slices)
    if right_s is None or scanner.left:
        row.wrong += 1
    else:
        row.seconds.append(max(right_s - scanner.ended_s, back_s))
    account(room, row, before, scanner.kept)


def whole(room: Room, row: Row) -> None:
    """Nothing of the journal is missing, every image that it names is there, and nothing failed inside."""
    lines = room.journal()
    received = {x["path"].rpartition("/")[2] for x in lines if x["kind"] == "instance_received"}
    there = {p.name for f in ("blobs", "quarantine") for p in (room.record / f).glob("*.dcm")}
    row.lost += len(received - there) + gaps(lines)
    if faults := [x for x in lines if x["kind"] == "fault"]:
        print(f"the monitor had an error: {faults[0]}", file=sys.stderr, flush=True)
        row.wrong += len(faults)
