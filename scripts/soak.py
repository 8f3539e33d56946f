"""Hours of procedure in minutes: memory of core, view and intake, and the record's growth. Seconds, MB.

`python scripts/soak.py` plays four hours of the procedure's clock, 30 times faster than life, to a whole
monitor under Xvfb: a scan every three minutes, freeze and thaw in turn. Memory is judged from a quarter
of an hour on: exit status 1 where a process grew by more than 50 MB (the median of the last tenth less
that of the first), or died. `--scans DIR` takes a folder that `scanner-sim render` wrote, in place of
rendering one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from live_room import Room, anew, memory_mb, needs, rendered, room, scans_of
from x_server import x_server

from scanner_sim.wire.push import Target, deliver

EVERY_S, WARM_UP_S, LIMIT_MB = 180.0, 900.0, 50.0
SCENARIO = "abdominal_wall_endometriosis"


@dataclass
class Samples:
    """Memory of each process over the procedure's time: (seconds, rss, anonymous)."""

    of: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    record_mb: list[tuple[float, float]] = field(default_factory=list)
    restarts: int = 0
    scans: int = 0

    def take(self, at_s: float, found: Room) -> None:
        for name, pid in found.processes().items():
            m = memory_mb(pid)
            self.of.setdefault(name, []).append((at_s, m["rss"], m["anonymous"]))
        files = (p.stat().st_size for p in found.record.rglob("*") if p.is_file())
        self.record_mb.append((at_s, sum(files) / 1e6))


def growth_mb(values: Sequence[float]) -> float:
    """The median of the last tenth less that of the first."""
    tenth = max(1, len(values) // 10)
    return statistics.median(values[-tenth:]) - statistics.median(values[:tenth])


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--hours", type=float, default=4.0)
    p.add_argument("--speed", type=float, default=30.0)
    p.add_argument("--warm-up", type=float, default=WARM_UP_S, help="procedure seconds")
    p.add_argument("--scans", type=Path)
    p.add_argument("--json", type=Path, help="write the samples there, too")
    a = p.parse_args(argv)
    needs("Xvfb")
    with tempfile.TemporaryDirectory() as folder:
        scans = a.scans
        if scans is None:
            scans = Path(folder) / "scans"
            print("rendering ...", flush=True)
            rendered(SCENARIO, scans, 40, 4)
        samples = soak(scans, Path(folder), a.hours, a.speed)
    if a.json:
        a.json.write_text(json.dumps(samples.__dict__))
    return report(samples, a.warm_up)


def soak(scans: Path, folder: Path, hours: float, speed: float) -> Samples:
    case, epoch, samples = folder / "case.toml", time.time(), Samples()
    case.write_text(_long_protocol((scans / "case.toml").read_text(), scans, hours))
    images = scans_of(scans)
    clock = ("--clock-speed", str(speed), "--clock-epoch", str(epoch))
    with x_server() as x, room(case, folder / "record", x, *clock) as found:

        def now() -> float:
            return epoch + speed * (time.time() - epoch)

        began = now()
        while now() < began + 3600.0 * hours:
            due = began + EVERY_S * samples.scans
            while now() < due:
                time.sleep(0.05)
            which = 0 if samples.scans == 0 else 1 + (samples.scans - 1) % (len(images) - 1)
            # Acquired a moment ago: an image from the future would be refused.
            deliver(anew(images[which], now() - 2.0), Target("ICEBALL", "127.0.0.1", found.port))
            samples.scans += 1
            _measured(found, samples.scans)
            samples.take(now() - began, found)
        samples.restarts = sum(x["kind"] == "process_restarted" for x in found.journal())
    return samples


def _measured(found: Room, count: int) -> None:
    """Until the monitor has taken so many volumes in."""
    found.wait(lambda lines: sum(x["kind"] == "volume_completed" for x in lines) >= count)


def _long_protocol(text: str, scans: Path, hours: float) -> str:
    """The case with freezes of 20 and thaws of 10 minutes for so long; its files stay where they are."""
    phases = ", ".join(
        f'{{ kind = "{kind}", minutes = {minutes} }}'
        for _ in range(int(2 * hours) + 1)
        for kind, minutes in (("freeze", 20), ("thaw", 10))
    )
    head, _, _ = text.partition("[protocol]")
    rest = text.partition("[protocol]")[2].partition("\n[")[2]
    text = head + f"[protocol]\nstart_after_baseline_s = 60\nphases = [{phases}]\n"
    text += f"\n[{rest}" if rest else ""
    return text.replace('file = "', f'file = "{scans.resolve()}/')


def report(samples: Samples, warm_up_s: float) -> int:
    print(f"scans: {samples.scans}, processes restarted: {samples.restarts}")
    worst = 0.0
    for name, found in sorted(samples.of.items()):
        warm = [x for x in found if x[0] >= warm_up_s] or found[-1:]
        rss, anonymous = ([x[i] for x in warm] for i in (1, 2))
        worst = max(worst, growth_mb(rss), growth_mb(anonymous))
        print(
            f"{name:7} rss MB: {rss[0]:.0f} at first, {max(rss):.0f} at most, grew {growth_mb(rss):+.0f}; "
            f"without mapped files: {anonymous[0]:.0f}, {max(anonymous):.0f}, {growth_mb(anonymous):+.0f}"
        )
    (s0, mb0), (s1, mb1) = samples.record_mb[0], samples.record_mb[-1]
    print(f"record: {mb1:.0f} MB at the end, {3600 * (mb1 - mb0) / max(s1 - s0, 1):.0f} MB an hour")
    flat = worst <= LIMIT_MB and samples.restarts == 0
    print(f"largest growth {worst:.0f} MB: {'flat' if flat else 'NOT FLAT'}")
    return 0 if flat else 1


if __name__ == "__main__":
    raise SystemExit(main())
