"""How long a new scan takes: ``make bench`` (all), or ``bench_latency.py imaging`` or ``live``.

``imaging``: renders the baseline and the last scan of three needles in a liver, 60 slices of 512², and
measures that scan, from the volume in memory to the ice's surface: registration, needles, ice. The
median of many, and the peak memory of a process that reads both scans and does so.
``live``: renders the demo's procedure to disk, starts ``iceball live --headless`` and pushes one scan
after the other (40 slices of 512²) from this process. From the journal: the time the listener had the
last slice, to the line of the first assessment, to the forecast that follows.
Nothing else should be running.
"""

from __future__ import annotations

import json
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom

from monitor.imaging.measurement import make_reference, measure
from monitor.intake.folder import soft_volume, volumes_in
from monitor.opening import open_case
from scanner_sim import scenario
from scanner_sim.output import write_all
from scanner_sim.simulation import Simulation
from scanner_sim.wire.push import Target, deliver

SCENARIO = "abdominal_wall_endometriosis"


HARD_SCENARIO, SLICES, RUNS = "liver_near_vessel", 60, 15


def main() -> None:
    parts = {"imaging": imaging, "live": live}
    steps = {"render": render_hard, "measure": measure_imaging}
    asked = sys.argv[1:]
    if len(asked) == 2 and asked[0] in steps:
        steps[asked[0]](Path(asked[1]))
        return
    if not set(asked) <= set(parts):
        raise SystemExit(f"usage: {sys.argv[0]} [imaging] [live]")
    for name in asked or parts:
        parts[name]()


# ------------------------------------------------------------------ imaging


def imaging() -> None:
    """Each step in a process of its own: a child's peak memory begins with its parent's."""
    with tempfile.TemporaryDirectory() as folder:
        print(f"rendering two scans of {SLICES} slices ...", flush=True)
        for step in ("render", "measure"):
            subprocess.run([sys.executable, __file__, step, folder], check=True)


def render_hard(out: Path) -> None:
    """The scenario's first and last scan, with more slices than it has."""
    s = scenario.load(HARD_SCENARIO)
    scanner = replace(s.scanner, slices=SLICES)
    s = replace(s, scans=(s.scans[0], s.scans[-1]), scanner=scanner)
    simulation = Simulation(s, keep=False)  # what is kept on disk has fewer slices
    simulation.start()
    write_all(simulation, out, 2, lambda _: None)


def measure_imaging(out: Path) -> None:
    config, procedure = open_case(out / "case.toml")
    first, last = (
        soft_volume(volumes_in(out / name, config.patient_id)) for name in ("scan_000", "scan_001")
    )
    began = time.perf_counter()
    reference = make_reference(first, procedure.analysis_grid, config)
    prepared_s = time.perf_counter() - began
    measure(last, reference, config)  # the first one may compile
    seconds, cpu_s = [], []
    for _ in range(RUNS):
        began, began_cpu = time.perf_counter(), time.process_time()
        found = measure(last, reference, config)
        seconds.append(time.perf_counter() - began)
        cpu_s.append(time.process_time() - began_cpu)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    shape = " x ".join(map(str, last.hu.shape))
    print(f"imaging, {shape}, {len(config.needles)} needles, {found.ice.volume_ml:.0f} ml of ice:")
    print(
        f"volume -> ice surface, s: median {statistics.median(seconds):.2f}, worst {max(seconds):.2f}"
    )
    # What other programs take is in the one above, not here.
    print(f"processor time of it, all cores, s: median {statistics.median(cpu_s):.2f}")
    print(f"baseline, once, s: {prepared_s:.2f}")
    print(f"peak memory of the process, GB: {peak_gb:.2f}")


# ------------------------------------------------------------------ live


def live() -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        print("rendering ...", flush=True)
        run("scanner_sim.cli", "render", SCENARIO, "--out", str(out))
        case = out / "case.toml"
        case.write_text(case.read_text().replace("port = 11112", "port = 0"))
        command = module(
            "monitor.cli",
            "live",
            str(case),
            "--headless",
            "--record",
            str(out / "record"),
            "--clock-speed",
            "60",
        )
        program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        try:
            report(pushed(out))
        finally:
            program.send_signal(signal.SIGINT)
            program.wait(60)


def pushed(out: Path) -> list[dict[str, Any]]:
    """The journal, after all scans were sent, each when the last one's forecast was there."""
    record = out / "record"
    port = wait(record, "listening", 1)[0]["port"]
    for number, scan in enumerate(sorted(out.glob("scan_*"))):
        slices = [pydicom.dcmread(path) for path in sorted(scan.iterdir())]
        deliver(slices, Target("ICEBALL", "127.0.0.1", port))
        wait(record, "assessment", number + 1)
        time.sleep(8.0)  # the forecast, and the first freeze, which begins 60 fast seconds after
    return journal(record)


def report(lines: list[dict[str, Any]]) -> None:
    received = {
        x["sop_instance_uid"]: x["received_mono_s"]
        for x in lines
        if x["kind"] == "instance_received"
    }
    seconds, forecasts = [], []
    for volume in (x for x in lines if x["kind"] == "volume_completed"):
        last = max(received[u] for u in volume["sop_instance_uids"])
        mine = [
            x
            for x in lines
            if x.get("volume_id") == volume["volume_id"] and x["kind"] == "assessment"
        ]
        measured = [x for x in mine if x["lesion_covered"] is not None]
        if measured:
            seconds.append(measured[0]["mono_s"] - last)
            forecasts += [x["mono_s"] - last for x in measured[1:2]]
    print(f"scans measured: {len(seconds)}")
    print(
        f"last slice -> assessment, s: median {statistics.median(seconds):.2f}, worst {max(seconds):.2f}"
    )
    if forecasts:
        print(
            f"last slice -> assessment with the new forecast, s: median {statistics.median(forecasts):.2f}"
        )


def wait(record: Path, kind: str, count: int) -> list[dict[str, Any]]:
    for _ in range(600):
        found = [x for x in journal(record) if x["kind"] == kind]
        if len(found) >= count:
            return found
        time.sleep(0.1)
    raise SystemExit(f"no {kind} within 60 s")


def journal(record: Path) -> list[dict[str, Any]]:
    path = record / "journal.jsonl"
    if not path.exists():
        return []
    return [json.loads(x) for x in path.read_text().splitlines(keepends=True) if x.endswith("\n")]


def module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]


def run(name: str, *arguments: str) -> None:
    subprocess.run(module(name, *arguments), check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
