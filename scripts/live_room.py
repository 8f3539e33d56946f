"""A whole monitor for benchmarks: Xvfb, ``iceball live`` with the room's screen, scans to send. Seconds, MB.

The scans are a scenario's, rendered once and then sent again and again under new identifiers with the
time of now, as many as wanted. Invariant: what is measured are the very processes that a room has.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from x_server import XServer

from scanner_sim import scenario
from scanner_sim.output import write_all
from scanner_sim.simulation import Simulation
from scanner_sim.wire.times import acquire_at


def rendered(name: str, out: Path, slices: int, scans: int) -> None:
    """The scenario's first scan and its last ``scans``, with so many slices, and its plan, into ``out``."""
    s = scenario.load(name)
    s = replace(s, scans=(s.scans[0], *s.scans[-scans:]), scanner=replace(s.scanner, slices=slices))
    simulation = Simulation(s, keep=False)
    simulation.start()
    write_all(simulation, out, len(s.scans), lambda _: None)


def scans_of(out: Path) -> list[list[Dataset]]:
    """Every scan of a folder, its slices in order. Without the scouts: a scout is taken 20 s before the first
    slice, and a scan is sent with its first image's time moved to now."""
    return [
        [d for d in map(pydicom.dcmread, sorted(scan.iterdir())) if "LOCALIZER" not in d.ImageType]
        for scan in sorted(out.glob("scan_*"))
    ]


def anew(slices: list[Dataset], acquired_utc_s: float) -> list[Dataset]:
    """The same pixels as another scan, acquired then. The datasets are changed, not copied."""
    series = generate_uid()
    for d in slices:
        d.SeriesInstanceUID, d.SOPInstanceUID = series, generate_uid()
        d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
    acquire_at(slices, acquired_utc_s)
    return slices


@dataclass
class Room:
    """A monitor that runs."""

    process: subprocess.Popen[bytes]
    record: Path
    port: int
    x_server: int
    # What it says, where that is kept; of one whose supervisor was killed, the core.
    terminal: Path | None = None
    orphan: int | None = None

    def journal(self) -> list[dict[str, Any]]:
        path = self.record / "journal.jsonl"
        if not path.exists():
            return []
        lines = path.read_text().splitlines(keepends=True)
        return [json.loads(x) for x in lines if x[-1] == "\n" and x.strip("\0\n")]

    def wait(self, ready: Callable[[list[dict[str, Any]]], Any], limit_s: float = 120.0) -> Any:
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            if found := ready(self.journal()):
                return found
            if self.ended():
                raise SystemExit(f"the monitor has ended: {self.process.returncode}")
            time.sleep(0.1)
        raise SystemExit("the monitor did not answer in time")

    def ended(self) -> bool:
        return self.process.poll() is not None if self.orphan is None else _gone(self.orphan)

    def said(self) -> str:
        """On the terminal so far."""
        return "" if self.terminal is None else self.terminal.read_text(errors="replace")

    @property
    def core(self) -> int:
        """Of one that is supervised: the supervisor's only child."""
        return _children(self.process.pid)[0]

    def process_of(self, name: str) -> int:
        """The process that last began to write the log of that name; 0: none has."""
        path = self.record / "logs" / f"{name}.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        told = [json.loads(x) for x in lines if x.endswith("\n")]
        return next((x["fields"]["pid"] for x in told[::-1] if x["event"] == "process_begun"), 0)

    def type(self, text: str) -> None:
        """At the terminal of a headless one."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n".encode())
        self.process.stdin.flush()

    def processes(self) -> dict[str, int]:
        """Pids by what they are: core, view (it has Qt), intake."""
        found = {"core": self.process.pid}
        for pid in _children(self.process.pid):
            maps = Path(f"/proc/{pid}/maps").read_text()
            command = Path(f"/proc/{pid}/cmdline").read_text()
            if "spawn_main" in command:
                found["view" if "libQt5Widgets" in maps else "intake"] = pid
        return found


@contextmanager
def room(
    case: Path, record: Path, x: XServer, *options: str, supervised: bool = False, **env: str
) -> Iterator[Room]:
    """``iceball live`` on that display, until the block is left."""
    state = {"XDG_STATE_HOME": str(record.with_name(f"{record.name}_state"))}  # nobody's windows
    environment = {**os.environ, "DISPLAY": x.name, "QT_FONT_DPI": "96", **state, **env}
    environment.pop("QT_QPA_PLATFORM", None)
    with _running(case, record, options, environment, x.pid, supervised) as made:
        yield made


@contextmanager
def headless(
    case: Path,
    record: Path,
    *options: str,
    supervised: bool = False,
    terminal: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Room]:
    """``iceball live --headless``, until the block is left. ``terminal``: where what it says is kept."""
    environment = {**os.environ, **(env or {})}
    options = ("--headless", *options)
    with _running(case, record, options, environment, 0, supervised, terminal) as made:
        yield made


@contextmanager
def _running(
    case: Path, record: Path, options: Sequence[str], environment: dict[str, str], x_server: int,
    supervised: bool = False, terminal: Path | None = None,
) -> Iterator[Room]:  # fmt: skip
    text = case.read_text().replace("port = 11112", "port = 0")
    case.write_text(text)
    command = [sys.executable, "-m", "monitor.cli", "live", str(case), "--record", str(record)]
    if not supervised:
        command.append("--unsupervised")  # so that this process is the core
    with (terminal or Path(os.devnull)).open("wb") as said:
        program = subprocess.Popen(
            [*command, *options], env=environment, stdin=subprocess.PIPE, stdout=said,
            stderr=None if terminal is None else said,
        )  # fmt: skip
    made = Room(program, record, 0, x_server, terminal)
    try:
        listening = made.wait(lambda lines: [x for x in lines if x["kind"] == "listening"], 300.0)
        made.port = listening[0]["port"]
        yield made
    finally:
        _end(made)


def _end(made: Room) -> None:
    if not made.ended():
        with suppress(ProcessLookupError):
            os.kill(made.orphan or made.process.pid, signal.SIGINT)
    try:
        made.process.wait(120)
    except subprocess.TimeoutExpired:
        children = _children(made.process.pid)
        for pid in (made.process.pid, *children):  # the supervisor first: it would start another
            os.kill(pid, signal.SIGKILL)
        raise SystemExit("the monitor does not end within two minutes") from None
    end = time.monotonic() + 120
    while not made.ended():
        if time.monotonic() > end:
            os.kill(made.orphan or made.process.pid, signal.SIGKILL)
            raise SystemExit("a monitor without its supervisor does not end")
        time.sleep(0.1)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(p) for task in tasks for p in task.read_text().split()]


def _gone(pid: int) -> bool:
    """It has ended, whether or not anybody has asked for its exit status."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def memory_mb(pid: int) -> dict[str, float]:
    """Resident memory: all of it (``rss``), and what is not a mapped file (``anonymous``)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    of = {k: float(v.split()[0]) / 1024 for k, v in (x.split(":", 1) for x in lines) if "kB" in v}
    return {"rss": of["VmRSS"], "anonymous": of["RssAnon"]}


def needs(*programs: str) -> None:
    if gone := [p for p in programs if shutil.which(p) is None]:
        raise SystemExit(f"needs {', '.join(gone)}: sh scripts/system_packages.sh test")
