"""What goes wrong with the machine while a scan comes: processes killed, the wall clock set. Seconds.

Kills are of a whole monitor: supervisor, core, intake, the room's screen and the console in an X server in
memory, the PACS' and OpenIGTLink's processes. The wall clock is that which the monitor's processes see
(wall_clock.c): this machine's own belongs to others, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fault_accounts import RIGHT_S
from fault_rows import Row
from fault_tries import Group, NotTried, Run, Strike, counted, possible, rounds, struck, whole
from faulty_network import PATIENT, push, scan
from live_room import Room, headless, room
from pydicom.dataset import Dataset
from x_server import x_server

from scanner_sim.wire.push import Target

_SPAN_S = 3600.0  # by which the wall clock is set


# ------------------------------------------------------------------ a monitor


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


_PLAN = """[organ]
preset = "liver"
[lesion]
centre_lps_mm = [0.0, 0.0, 24.0]
radius_mm = 8.0
"""


def case(folder: Path, more: str = "", limits: str = "", plan: str = _PLAN) -> Path:
    """A freeze that begins by itself: a window has no terminal to type it at. The port stays the same, as a
    scanner wants it, when the listener is started again."""
    path = folder / "case.toml"
    path.write_text(
        f'[patient]\nid = "{PATIENT}"\n{plan}[protocol]\nstart_after_baseline_s = 1.0\n'
        'phases = [{ kind = "freeze", minutes = 60.0 }, { kind = "thaw", minutes = 5.0 }]\n'
        f'[listener]\nport = {free_port()}\nallowed_peers = ["*@127.0.0.1"]\n'
        f"[listener.limits]\n{limits}{more}"
    )
    return path


def frozen(room: Room, made: Callable[[int], list[Dataset]] = scan) -> Target:
    """Where to send, once a baseline is there and the freeze has begun."""
    target = Target("ICEBALL", "127.0.0.1", room.port)
    push(made(0), target)
    room.wait(lambda m: [x for x in m if x["kind"] == "phase"])
    return target


def until(found: Callable[[], Any], what: str, limit_s: float = RIGHT_S) -> float:
    """When it was, by the monotonic clock."""
    end = time.monotonic() + limit_s
    while not found():
        if time.monotonic() > end:
            raise SystemExit(f"not within {limit_s:.0f} s: {what}")
        time.sleep(0.02)
    return time.monotonic()


def since(room: Room, before: int, kind: str, **wanted: Any) -> list[dict[str, Any]]:
    return [
        x for x in room.journal()[before:]
        if x["kind"] == kind and all(x.get(k) == v for k, v in wanted.items())
    ]  # fmt: skip


# ------------------------------------------------------------------ kills


@dataclass(frozen=True)
class Victim:
    """``back(room, killed_s, before, pid)``: whether what was killed, when the journal had ``before`` lines,
    is there again and does what it is for."""

    text: str
    pid: Callable[[Room], int]
    back: Callable[[Room, float, int, int], bool]


def _logged(name: str) -> Callable[[Room], int]:
    return lambda room: room.process_of(name)


def _restarted(room: Room, _at: float, before: int, _pid: int) -> bool:
    return bool(since(room, before, "alarm_raised", code="restarted"))


def _listens(room: Room, _at: float, before: int, _pid: int) -> bool:
    return bool(since(room, before, "listening"))


def _paints(room: Room, at: float, _before: int, _pid: int) -> bool:
    with contextlib.suppress(OSError, ValueError):
        done = [json.loads(x) for x in _timings(room.record).read_text().splitlines()]
        return any(x["what"] == "painted" and x["end"] > at and x["lesion"] for x in done)
    return False


def _shown(room: Room, _at: float, _before: int, pid: int) -> bool:
    """Its window is on the display."""
    now = room.process_of("console")
    if now in (0, pid):
        return False
    command = ["xdotool", "search", "--onlyvisible", "--pid", str(now)]
    environment = {**os.environ, "DISPLAY": _display(room)}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=30, check=False)
    return bool(done.stdout.strip())


def _sends(room: Room, _at: float, before: int, pid: int) -> bool:
    gone = since(room, before, "process_restarted", process="pacs")
    return bool(gone) and room.process_of("pacs") not in (0, pid)


def _streams(room: Room, _at: float, _before: int, pid: int) -> bool:
    """A header of OpenIGTLink comes (58 bytes, version 1 or 2)."""
    if room.process_of("openigtlink") in (0, pid):
        return False
    port = int((room.record.parent / "openigtlink").read_text())
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0) as peer:
        head = peer.recv(58, socket.MSG_WAITALL)
        return len(head) == 58 and head[:1] == b"\0"
    return False


def _supervised(room: Room, _at: float, before: int, _pid: int) -> bool:
    return bool(since(room, before, "process_restarted", process="supervisor"))


KILLS: dict[str, Victim] = {
    "kill_intake": Victim("`kill -9` of the intake process", _logged("intake"), _listens),
    "kill_screen": Victim("`kill -9` of the room's screen", _logged("view"), _paints),
    "kill_console": Victim("`kill -9` of the console", _logged("console"), _shown),
    "kill_pacs": Victim("`kill -9` of the process that sends to the PACS", _logged("pacs"), _sends),
    "kill_openigtlink": Victim(
        "`kill -9` of the process that streams to 3D Slicer", _logged("openigtlink"), _streams
    ),
    "kill_core": Victim("`kill -9` of the core", lambda room: room.core, _restarted),
    "kill_supervisor": Victim(
        "`kill -9` of the supervisor: the procedure goes on, the core starts another one",
        lambda room: room.process.pid,
        _supervised,
    ),
}


def killed_and_back(name: str) -> Strike:
    victim = KILLS[name]

    def strike(room: Room, _chance: random.Random) -> float:
        pid, before = victim.pid(room), len(room.journal())
        if pid == room.process.pid:
            room.orphan = room.core
        at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        return until(lambda: victim.back(room, at, before, pid), f"{victim.text}: not back") - at

    return strike


def _timings(record: Path) -> Path:
    return record.parent / "timings"


def _display(room: Room) -> str:
    return (room.record.parent / "display").read_text()


@contextmanager
def _whole_monitor(folder: Path) -> Iterator[tuple[Room, Target]]:
    """All its processes. Its PACS is not there: what is killed is waiting."""
    folder.mkdir()
    record, stream = folder / "record", free_port()
    path = case(folder, f'[pacs]\nsend_to = "PACS@127.0.0.1:{free_port()}"\ngive_up_after_s = 1\n')
    (folder / "openigtlink").write_text(str(stream))
    options = ("--screen", "both", "--openigtlink", str(stream))
    timings = {"ICEBALL_VIEW_TIMINGS": str(_timings(record))}
    with (
        x_server() as x,
        room(path, record, x, *options, supervised=True, **timings) as running,
    ):
        (folder / "display").write_text(x.name)
        target = frozen(running)
        for name in ("view", "console", "pacs", "openigtlink"):
            until(lambda name=name: running.process_of(name), f"{name} has not begun")  # type: ignore[misc]
        until(lambda: _paints(running, 0.0, 0, 0), "the screen shows nothing")
        yield running, target


def _kills(rows: list[Row], run: Run) -> None:
    """A monitor for each round: a core that dies three times soon after its start is given up, and the
    terminal's own supervisor is gone for good."""
    with possible(rows):
        if gone := [p for p in ("Xvfb", "xdotool") if shutil.which(p) is None]:
            raise NotTried(f"{', '.join(gone)} not installed")
        for number in range(run.tries):
            if time.monotonic() > run.end_s:
                return
            _kill_round(rows, Run(1, run.end_s, run.folder / str(number)), 1000 * number)


def _kill_round(rows: list[Row], run: Run, seed: int) -> None:
    with counted(rows[-1]):
        with _whole_monitor(run.folder) as (running, target):

            def one(row: Row, number: int) -> None:
                struck(running, row, target, killed_and_back(row.fault), seed + number)

            rounds(rows, run, one)
        whole(running, rows[-1])
        replayed(running.record, rows[-1])


def replayed(record: Path, row: Row, but: str = "") -> None:
    """What was worked out is what comes of it without the fault, ``but`` for findings of that code."""
    command = [sys.executable, "-m", "monitor.cli", "replay", str(record), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    findings = json.loads(done.stdout)["findings"] if done.stdout else [{"code": done.stderr}]
    if found := [x for x in findings if x["code"] != but]:
        print(f"{record}: {found[:5]}", file=sys.stderr, flush=True)
        row.wrong += 1


# ------------------------------------------------------------------ the wall clock


CLOCKS = {
    "wall_clock_ahead": ("the wall clock is set an hour ahead, and back again", _SPAN_S),
    "wall_clock_back": ("the wall clock is set an hour back, and ahead again", -_SPAN_S),
}


def _library(folder: Path) -> Path:
    """scripts/wall_clock.c, compiled."""
    if (compiler := shutil.which("gcc")) is None:
        raise NotTried("gcc is not installed")
    made, source = folder / "wall_clock.so", Path(__file__).with_name("wall_clock.c")
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(made), str(source), "-ldl", "-lm"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise NotTried(f"{source.name} does not compile: {done.stderr.splitlines()[-1]}")
    return made


def _clocks(rows: list[Row], run: Run) -> None:
    with possible(rows):
        ahead = run.folder / "ahead"
        ahead.write_bytes(bytes(8))
        environment = {"LD_PRELOAD": str(_library(run.folder)), "WALL_CLOCK_AHEAD_S": str(ahead)}
        with headless(case(run.folder), run.folder / "record", env=environment) as running:
            target = frozen(running)

            def one(row: Row, number: int) -> None:
                strike = _clock_set(ahead, CLOCKS[row.fault][1])
                struck(running, row, target, strike, number)

            rounds(rows, run, one)
        whole(running, rows[-1])
        replayed(running.record, rows[-1])


def _set(ahead: Path, seconds: float) -> None:
    with ahead.open("r+b", buffering=0) as file:
        file.write(struct.pack("d", seconds))


def _clock_set(ahead: Path, seconds: float) -> Strike:
    def strike(room: Room, chance: random.Random) -> float:
        before = len(room.journal())
        _set(ahead, seconds)
        set_s = time.monotonic()
        said_s = until(lambda: since(room, before, "alarm_raised", code="clock_jump"), "clock_jump")
        time.sleep(chance.uniform(0.0, 0.5))
        _set(ahead, 0.0)
        until(
            lambda: since(room, before, "alarm_cleared", code="clock_jump"), "clock_jump, cleared"
        )
        return said_s - set_s

    return strike


GROUPS = (
    Group({name: text for name, (text, _) in CLOCKS.items()}, 10.0, _clocks),
    Group({name: victim.text for name, victim in KILLS.items()}, 60.0, _kills),
)
