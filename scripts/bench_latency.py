"""How long after the last slice the new assessment is there: ``make bench``.

Renders the demo's procedure to disk, starts ``iceball live --headless`` and pushes one scan after
the other (40 slices of 512²) from this process, nothing else running. From the journal: the time the
listener had the last slice, to the line of the first assessment, to the forecast that follows.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pydicom

from scanner_sim.wire.push import Target, deliver

SCENARIO = "abdominal_wall_endometriosis"


def main() -> None:
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
        live = subprocess.Popen(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        try:
            report(measure(out))
        finally:
            live.send_signal(signal.SIGINT)
            live.wait(60)


def measure(out: Path) -> list[dict[str, Any]]:
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
