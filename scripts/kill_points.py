"""Kills and power cuts over the record and resume path: what is lost, and how long until it is right again.

    kill_points.py [--cuts 1000] [--kills 100] [--live 5] [--seed 1]

``cuts``: a recorded procedure is cut off at a random byte of its journal, with the files of that time,
torn checkpoints among them, and gone on with (tests/record/power_cuts.py). ``kills``: a program that plays
it is killed (SIGKILL) at a random time, and what it left is gone on with. ``live``: of a running ``iceball
live`` each process in turn is killed, and the seconds until it is back are taken. Prints a table in
Markdown; exit status 1 when anything was lost or came out otherwise than without the kill. Needs the
tests' packages.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.record.power_cuts import Played, cut, play, resume  # noqa: E402
from tests.wire.live import LiveProcess, children  # noqa: E402

_PLAY = """
import sys
from pathlib import Path
from tests.record.power_cuts import play
play(Path(sys.argv[1]))
"""
_SCENARIO = "abdominal_wall_endometriosis"
# Between two kills: a core that dies three times in a row, each within a minute of its start, is given
# up, as it should be; two others are killed in between.
_APART_S = 25.0


@dataclass
class Row:
    """A line of the fault table."""

    fault: str
    tried: int = 0
    lost: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, seconds: float) -> None:
        """A try; told now and then, so that a run that is stopped has said something."""
        self.tried += 1
        self.seconds.append(seconds)
        if self.tried % 50 == 0:
            print(self.text(), file=sys.stderr, flush=True)

    def text(self) -> str:
        lost = "nothing" if not self.lost else f"**{len(self.lost)}**"
        took = self.seconds
        again = f"{statistics.median(took):.1f} ({max(took):.1f})" if took else "–"
        return f"| {self.fault} | {self.tried} | {lost} | {again} |"


HEAD = "| fault | tried | lost or otherwise | right again after, s: median (worst) |\n|---|---|---|---|"


def cuts(played: Played, count: int, seed: int, folder: Path) -> list[Row]:
    """Apart: a fifth has no checkpoint, as if both were lost, and all is worked out from the beginning."""
    text = "power cut: the journal ends at any byte"
    rows = {
        "used": Row(f"{text}, the newer checkpoint may be torn"),
        "none": Row(f"{text}, and no checkpoint is left"),
    }
    for number in range(count):
        with _empty(folder / "cut") as to:
            at = cut(played, random.Random(seed * 100_003 + number), to)
            outcome = resume(played, to, at)
        row = rows[outcome.checkpoint]
        row.lost += [f"cut {number} at byte {at}: {text}" for text in outcome.wrong]
        row.add(outcome.resumed_s)
    return list(rows.values())


def kills(played: Played, count: int, seed: int, folder: Path, lasts_s: float) -> Row:
    row = Row("`kill -9` of a program that records, at any moment")
    rng = random.Random(seed)
    while row.tried < count:
        with _empty(folder / "killed") as to:
            child = subprocess.Popen([sys.executable, "-c", _PLAY, str(to)], cwd=ROOT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(rng.uniform(0.1, 1.0) * lasts_s)
            child.kill()
            child.wait()
            record = to / "record"
            if not _begun(record):
                continue
            outcome = resume(played, record, (record / "journal.jsonl").stat().st_size)
        row.lost += [f"kill {row.tried + 1}: {text}" for text in outcome.wrong]
        row.add(outcome.resumed_s)
    return row


def _begun(record: Path) -> bool:
    """Whether there is something to go on with, and it has not ended."""
    journal = record / "journal.jsonl"
    data = journal.read_bytes() if journal.exists() else b""
    return b"\n" in data and b'"procedure_ended"' not in data


@contextlib.contextmanager
def _empty(folder: Path) -> Iterator[Path]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


# ------------------------------------------------------------------ a running monitor


def live(count: int, folder: Path) -> list[Row]:
    """Between the scans of a procedure, the room's screen rendered without a display."""
    scanner = [sys.executable, "-m", "scanner_sim.cli"]
    plan = folder / "plan"
    subprocess.run([*scanner, "plan", _SCENARIO, "--out", str(plan)], check=True, cwd=ROOT)
    port = _free_port()
    case = plan / "case.toml"
    case.write_text(case.read_text().replace("port = 11112", f"port = {port}"))
    timings = folder / "timings"
    os.environ["ICEBALL_VIEW_TIMINGS"] = str(timings)
    rows = [
        Row(f"`kill -9` of {name}") for name in ("the core", "the intake process", "the screen")
    ]
    with LiveProcess(case, folder / "record", "--screenshots") as room:
        push = subprocess.Popen(
            [*scanner, "push", _SCENARIO, "--to", f"ICEBALL@127.0.0.1:{port}"],
            cwd=ROOT, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            room.wait(lambda lines: [x for x in lines if x["kind"] == "forecast"], 600.0)
            for _ in range(count):
                for row, (victim, back) in zip(rows, _victims(room, timings), strict=True):
                    _kill(row, room, victim(), back)
                    time.sleep(_APART_S)
        finally:
            push.kill()
            push.wait()
    replayed = subprocess.run(
        [sys.executable, "-m", "monitor.cli", "replay", str(folder / "record")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if replayed.returncode:
        rows[0].lost.append(replayed.stdout[-2000:])
    return rows


# Whether it is back: killed at a monotonic time, when the journal had so many lines.
_Back = Callable[[float, int], bool]


def _victims(room: LiveProcess, timings: Path) -> list[tuple[Callable[[], int], _Back]]:
    def since(kind: str, code: str | None = None) -> _Back:
        def back(_at: float, lines: int) -> bool:
            new = room.journal()[lines:]
            return any(x["kind"] == kind and code in (None, x.get("code")) for x in new)

        return back

    def painted(at: float, _lines: int) -> bool:
        with contextlib.suppress(OSError, ValueError):
            done = [json.loads(x) for x in timings.read_text().splitlines()]
            return any(x["what"] == "painted" and x["end"] > at and x["lesion"] for x in done)
        return False

    return [
        (lambda: room.core, since("alarm_raised", "restarted")),
        (lambda: (_spawned(room) - _windows(room)).pop(), since("listening")),
        (lambda: (_spawned(room) & _windows(room)).pop(), painted),
    ]


def _kill(row: Row, room: LiveProcess, victim: int, back: _Back) -> None:
    lines, at = len(room.journal()), time.monotonic()
    os.kill(victim, signal.SIGKILL)
    while not back(at, lines):
        if time.monotonic() - at > 120.0:
            row.lost.append("not back within two minutes")
            return
        time.sleep(0.02)
    row.add(time.monotonic() - at)


def _spawned(room: LiveProcess) -> set[int]:
    """The core's processes: intake and windows."""
    return {p for p in children(room.core) if b"spawn_main" in _cmdline(p)}


def _windows(room: LiveProcess) -> set[int]:
    return {pid for pid, _ in json.loads((room.record / "running.json").read_text())}


def _cmdline(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--live", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.cuts or args.kills:
            began = time.monotonic()
            played = play(folder / "played")
            lasts_s = time.monotonic() - began + 3.0  # and the start of a program
            rows += cuts(played, args.cuts, args.seed, folder)
            rows.append(kills(played, args.kills, args.seed, folder, lasts_s))
        if args.live:
            rows += live(args.live, folder)
    print(HEAD, *(row.text() for row in rows if row.tried), sep="\n")
    lost: list[Any] = [text for row in rows for text in row.lost]
    print(*lost, sep="\n", file=sys.stderr)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
