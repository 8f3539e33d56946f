"""Slices a second that the listener's process takes, idle and beside busy processes.

    python scripts/bench_intake.py [--slices 400] [--rounds 3] [--small 0] [--room] [--folder DIR]

0.5 MB CT slices over loopback, from DCMTK's storescu (TCP_NODELAY=1) as fast as it can: on one association
while nothing else runs, on one while as many processes as there are cores compute without a pause (more
than core and view ever do), and on four at once; and at a pace of 250 a second, idle and beside them: how
long each waits for its answer. ``durable``: each slice is on the disk before it is acknowledged (fdatasync).
``--room``: to a whole ``iceball live`` that measures, forecasts and paints under Xvfb, in turns with an idle
listener. ``--small N``: N small instances follow on one association after another, and the listener's memory
is read on the way. The senders go before all else, where the system allows it: a scanner has processors of
its own. Medians of as many rounds, with the range. Bytes, seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_input import _bytes, _plain
from fuzz_wire import drain, rss_bytes
from live_room import Room, anew, rendered, room, scans_of
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from x_server import x_server

from monitor.clock import ProcedureClock
from monitor.config import ListenerConfig
from monitor.intake.channel import STOP, Inbox
from monitor.intake.limits import Limits
from monitor.intake.listener import run_listener
from monitor.intake.messages import Listening
from monitor.model import Instance
from scanner_sim.wire.link import Link
from scanner_sim.wire.push import Target, deliver

_SPAWN = multiprocessing.get_context("spawn")
_EDGE = 512
_PACE = 250  # slices a second


def as_a_machine_of_its_own() -> None:
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def busy(stop: Any) -> None:
    """What measuring and painting do: NumPy on a volume, without end."""
    volume = np.random.default_rng(1).normal(size=(64, 256, 256))
    while not stop.is_set():
        volume = np.fft.irfftn(np.fft.rfftn(volume), volume.shape)


@contextlib.contextmanager
def listening(folder: Path, durable: bool) -> Iterator[tuple[int, int, list[Any]]]:
    """(port, process id, messages). What it kept stays until the end: a listener deletes nothing, and a file
    system without a journal looks for an inode that was not used a moment ago."""
    blobs = Path(tempfile.mkdtemp(dir=folder, prefix="blobs"))
    config = ListenerConfig("ICEBALL", "127.0.0.1", 0, (), None, Limits(durable=durable))
    inbox, over, (ours, theirs) = Inbox(), threading.Event(), _SPAWN.Pipe()
    inbox.follow(ours)
    process = _SPAWN.Process(
        target=run_listener, args=(config, blobs, ProcedureClock.start(), theirs)
    )
    process.start()
    theirs.close()
    first = inbox.get(timeout=120)
    assert isinstance(first, Listening), first
    told: list[Any] = []
    drainer = threading.Thread(target=drain, args=(inbox, told, over))
    drainer.start()
    try:
        yield first.port, int(process.pid or 0), told
    finally:
        ours.send(STOP)
        process.join(20)
        over.set()
        drainer.join()


def files(folder: Path, count: int, edge: int, distinct: int) -> Path:
    """``distinct`` images, linked ``count`` times: what is sent is read from memory."""
    target = folder / f"{edge}_{count}"
    target.mkdir()
    for number in range(count):
        path = target / f"{number:06d}.dcm"
        if number < distinct:
            d = _plain(edge)
            d.SOPInstanceUID = f"1.2.826.1.{edge}.{number}"
            path.write_bytes(_bytes(d))
        else:
            os.link(target / f"{number % distinct:06d}.dcm", path)
    return target


def send(port: int, folder: Path, senders: int = 1) -> float:
    """Seconds until all senders are done, each with all files on one association."""
    storescu = shutil.which("storescu", path="/usr/local/bin:/usr/bin:/bin")
    if storescu is None:
        sys.exit("bench_intake: DCMTK's storescu is needed: apt-get install dcmtk")
    command = [storescu, "+sd", "-aec", "ICEBALL", "127.0.0.1", str(port), str(folder)]
    began = time.perf_counter()
    running = [
        subprocess.Popen(
            command,
            env={**os.environ, "TCP_NODELAY": "1"},
            stdout=subprocess.DEVNULL,
            preexec_fn=as_a_machine_of_its_own,
        )
        for _ in range(senders)
    ]
    for process in running:
        if process.wait() != 0:
            sys.exit(f"bench_intake: storescu failed with {process.returncode}")
    return time.perf_counter() - began


def cpu_s(pid: int) -> float:
    """Of all threads of a process so far: other programs at work count little here."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def working(work: bool) -> Iterator[None]:
    stop = _SPAWN.Event()
    count = (os.cpu_count() or 1) * work
    workers = [_SPAWN.Process(target=busy, args=(stop,)) for _ in range(count)]
    for worker in workers:
        worker.start()
    time.sleep(5.0 * work)
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def rates(folder: Path, images: Path, durable: bool, rounds: int) -> str:
    """In turns, so that what else the machine does meets all alike."""
    kinds = {"idle": (1, False), "beside work": (1, True), "from four senders": (4, False)}
    found: dict[str, list[float]] = {k: [] for k in kinds}
    for _ in range(rounds):
        for kind, (senders, work) in kinds.items():
            found[kind].append(rate(folder, images, durable, senders, work))
    said = [
        f"{kind} {np.median(r):.0f} ({min(r):.0f} to {max(r):.0f})" for kind, r in found.items()
    ]
    share = 100 * np.median(found["beside work"]) / np.median(found["idle"])
    return f"durable {durable}, slices/s: {', '.join(said)}; beside work {share:.0f} % of idle"


def rate(folder: Path, images: Path, durable: bool, senders: int = 1, work: bool = False) -> float:
    count = sum(1 for _ in images.iterdir()) * senders
    with working(work), listening(folder, durable) as (port, pid, told):
        before_s = cpu_s(pid)
        found = count / send(port, images, senders)
        took_ms = 1e3 * (cpu_s(pid) - before_s) / count
    print(f"  the listener's own CPU: {took_ms:.2f} ms a slice")
    _all_kept(told, count)
    return found


def _all_kept(told: list[Any], count: int) -> None:
    kept = sum(isinstance(m, Instance) for m in told)
    if kept != count:
        sys.exit(f"bench_intake: {count} were acknowledged, {kept} are on the queue")


def paced(folder: Path, images: Path, work: bool) -> str:
    with working(work), listening(folder, True) as (port, _, told), _SPAWN.Pool(1) as pool:
        took_s, answers_s = pool.apply(at_a_pace, (port, images))
    _all_kept(told, len(answers_s))
    p50, p99 = (1e3 * np.percentile(answers_s, p) for p in (50, 99))
    most = 1e3 * max(answers_s)
    return (
        f"{len(answers_s) / took_s:.0f}/s of {_PACE} offered, answered in {p50:.1f} ms (median), "
        f"{p99:.1f} (99 of 100), {most:.0f} at most"
    )


def at_a_pace(port: int, images: Path) -> tuple[float, list[float]]:
    """How long all took, and each one's answer; who is late catches up as fast as it can."""
    as_a_machine_of_its_own()
    datasets = [dcmread(p) for p in sorted(images.iterdir())]
    pair = (str(CTImageStorage), str(ExplicitVRLittleEndian))
    caller = Link(("127.0.0.1", port), ("SCANNER", "ICEBALL"), [pair])
    said = [caller._store_pdus(d, ExplicitVRLittleEndian, caller._limit) for d in datasets[:50]]
    answers_s, began = [], time.perf_counter()
    for number in range(len(datasets)):
        time.sleep(max(began + number / _PACE - time.perf_counter(), 0.0))
        asked = time.perf_counter()
        for pdu in said[number % len(said)]:
            caller._send(pdu)
        caller._receive()
        answers_s.append(time.perf_counter() - asked)
    took_s = time.perf_counter() - began
    caller.release()
    return took_s, answers_s


def many(folder: Path, count: int) -> str:
    images = files(folder, min(count, 10_000), 16, min(count, 10_000))
    with listening(folder, False) as (port, pid, told):
        send(port, images)
        early = rss_bytes(pid)
        for _ in range(count // 10_000 - 1):
            send(port, images)
        late = rss_bytes(pid)
        time.sleep(1.0)
    kept = sum(isinstance(m, Instance) for m in told)
    first = min(count, 10_000)
    return f"{kept} small instances: {early >> 20} MiB after {first}, {late >> 20} at the end"


def rooms(folder: Path, images: Path, rounds: int) -> str:
    """In turns with an idle listener, as a shared machine is never twice the same."""
    pairs = []
    for number in range(rounds):
        idle, (at_work, shares) = rate(folder, images, True), in_a_room(folder, number, images)
        pairs.append((idle, at_work))
        print(
            f"  idle {idle:.0f}, in a room {at_work:.0f} slices/s (of a core: {shares})", flush=True
        )
    share = 100 * np.median([at_work / idle for idle, at_work in pairs])
    idle, at_work = (float(np.median(x)) for x in zip(*pairs, strict=True))
    return f"in a room at work {at_work:.0f} slices/s, idle {idle:.0f}: {share:.0f} % (median of {rounds})"


def in_a_room(folder: Path, number: int, images: Path) -> tuple[float, str]:
    """While the core measures, learns and forecasts, and the view paints: a scan of the freeze has just come,
    and slices of another series follow it, which the core decodes as well."""
    scans, record = folder / "scans", folder / f"record{number}"
    if not scans.exists():
        rendered("abdominal_wall_endometriosis", scans, 40, 1)
    count = sum(1 for _ in images.iterdir())
    with x_server() as x, room(scans / "case.toml", record, x) as found:
        target = Target("ICEBALL", "127.0.0.1", found.port)
        for before, slices in enumerate(scans_of(scans)):
            deliver(anew(slices, time.time() - 2.0), target)
            _wait_for(found, "volume_completed", before + 1)
        pids = found.processes()
        before_s = {name: cpu_s(pid) for name, pid in pids.items()}
        took_s = send(found.port, images)
        used = {n: (cpu_s(pid) - before_s[n]) / took_s for n, pid in pids.items()}
        _wait_for(found, "instance_received", count)
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in sorted(used.items()))
    return count / took_s, shares


def _wait_for(found: Room, kind: str, count: int) -> None:
    found.wait(lambda m: sum(x["kind"] == kind for x in m) >= count, 300.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", type=int, default=0)
    parser.add_argument("--room", action="store_true")
    parser.add_argument("--folder", type=Path, help="on the disk that is to be measured")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        images = files(folder, args.slices, _EDGE, args.slices)
        print(f"load of the machine before: {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
        for durable in (True, False):
            print(rates(folder, images, durable, args.rounds), flush=True)
        for work in (False, True):
            print("beside work:" if work else "idle:", paced(folder, images, work), flush=True)
        if args.room:
            print(rooms(folder, images, args.rounds), flush=True)
        if args.small:
            print(many(folder, args.small))


if __name__ == "__main__":
    main()
