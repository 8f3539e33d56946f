"""Slices a second that the listener's process takes, idle and beside busy processes.

    python scripts/bench_intake.py [--slices 400] [--small 0] [--folder DIR]

DCMTK's storescu (TCP_NODELAY=1) sends 0.5 MB CT slices over loopback: on one association while nothing else
runs, on one while as many processes as there are cores compute (as core and view do), and on four at once.
``durable``: each slice is on the disk before it is acknowledged (fdatasync). With ``--small N`` N small
instances follow on one association, and the listener's memory is read on the way. Bytes, seconds.
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

from monitor.clock import ProcedureClock
from monitor.config import ListenerConfig
from monitor.intake.channel import Inbox
from monitor.intake.limits import Limits
from monitor.intake.listener import run_listener
from monitor.intake.messages import Listening
from monitor.model import Instance

_SPAWN = multiprocessing.get_context("spawn")
_EDGE = 512


def busy(stop: Any) -> None:
    """What measuring and painting do: NumPy on a volume, without end."""
    os.nice(5)
    volume = np.random.default_rng(1).normal(size=(64, 256, 256))
    while not stop.is_set():
        volume = np.fft.irfftn(np.fft.rfftn(volume), volume.shape)


@contextlib.contextmanager
def listening(folder: Path, durable: bool) -> Iterator[tuple[int, int, list[Any]]]:
    """(port, process id, messages)."""
    blobs = folder / "blobs"
    blobs.mkdir()
    config = ListenerConfig("ICEBALL", "127.0.0.1", 0, (), None, Limits(durable=durable))
    inbox, stop, over = Inbox(), _SPAWN.Event(), threading.Event()
    reader, writer = _SPAWN.Pipe(duplex=False)
    inbox.follow(reader)
    process = _SPAWN.Process(
        target=run_listener, args=(config, blobs, ProcedureClock.start(), writer, stop)
    )
    process.start()
    writer.close()
    first = inbox.get(timeout=120)
    assert isinstance(first, Listening), first
    told: list[Any] = []
    drainer = threading.Thread(target=drain, args=(inbox, told, over))
    drainer.start()
    try:
        yield first.port, int(process.pid or 0), told
    finally:
        stop.set()
        process.join(20)
        over.set()
        drainer.join()
        shutil.rmtree(blobs)


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
        subprocess.Popen(command, env={**os.environ, "TCP_NODELAY": "1"}, stdout=subprocess.DEVNULL)
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


def rate(folder: Path, images: Path, durable: bool, senders: int = 1, work: bool = False) -> float:
    count = sum(1 for _ in images.iterdir()) * senders
    stop = _SPAWN.Event()
    workers = [
        _SPAWN.Process(target=busy, args=(stop,)) for _ in range((os.cpu_count() or 1) * work)
    ]
    for worker in workers:
        worker.start()
    if work:
        time.sleep(5.0)
    with listening(folder, durable) as (port, pid, told):
        before_s = cpu_s(pid)
        found = count / send(port, images, senders)
        took_ms = 1e3 * (cpu_s(pid) - before_s) / count
    print(f"  the listener's own CPU: {took_ms:.2f} ms a slice")
    stop.set()
    for worker in workers:
        worker.join()
    kept = sum(isinstance(m, Instance) for m in told)
    if kept != count:
        sys.exit(f"bench_intake: {count} were acknowledged, {kept} are on the queue")
    return found


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


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--small", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="on the disk that is to be measured")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        images = files(folder, args.slices, _EDGE, 50)
        print(f"load of the machine before: {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
        for durable in (True, False):
            idle = rate(folder, images, durable)
            work = rate(folder, images, durable, work=True)
            four = rate(folder, images, durable, senders=4)
            print(
                f"durable {durable}: {idle:.0f} slices/s idle, {work:.0f} beside work "
                f"({100 * work / idle:.0f} %), {four:.0f} from four senders",
                flush=True,
            )
        if args.small:
            print(many(folder, args.small))


if __name__ == "__main__":
    main()
