"""``iceball demo``: a whole procedure, faster than life. Monitor and scanner simulator are separate
processes that meet only over DICOM on loopback; this module starts them and reads the journal.

Invariant: nothing passes between the two but DICOM and, before the start, the case and its
RTSTRUCT, as a planning system would have written them.
"""

from __future__ import annotations

import itertools
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.keeping_up import not_kept_up
from monitor.view import formats

SCENARIO = "abdominal_wall_endometriosis"
# 22 minutes of procedure in about 5: the scanner makes a scan in 10 to 15 s, and at the end of a freeze
# the next is due after two minutes.
SPEED = 5.0
_END_GRACE_S = 30.0


class DemoError(RuntimeError):
    """A part of the demo did not start or failed; the message says which and how."""


@dataclass(frozen=True)
class DemoOptions:
    scenario: str
    out: Path
    speed: float
    ct: Path | None
    window: bool
    language: str | None = None


def run_demo(options: DemoOptions, say: Callable[[str], None]) -> int:
    """Plays the procedure; returns the exit status. Raises ``DemoError``."""
    plan, record = options.out / "plan", options.out / "record"
    if record.exists():
        raise DemoError(f"{record} exists already: choose another --out")
    if options.ct is not None and not options.ct.is_dir():
        raise DemoError(f"--ct {options.ct}: not a folder")
    ct = ["--ct", str(options.ct)] if options.ct else []
    say(f"Planning {options.scenario} …")
    _run([*_simulator("plan"), options.scenario, "--out", str(plan), "--port", "0", *ct])
    if options.language:
        _set_language(plan / "case.toml", options.language)
    epoch = repr(time.time())
    clock = ["--clock-speed", repr(options.speed), "--clock-epoch", epoch]
    show = [] if options.window else ["--headless"]
    monitor = subprocess.Popen(
        [
            *_module("monitor.cli"),
            "live",
            str(plan / "case.toml"),
            "--record",
            str(record),
            "--screenshots",
            *show,
            *clock,
        ]
    )
    try:
        address, port, ae_title = _listening(record / "journal.jsonl", monitor)
        say(f"The monitor listens; the scanner starts, {options.speed:g} times faster than life.")
        push = subprocess.Popen(
            [
                *_simulator("push"),
                options.scenario,
                "--to",
                f"{ae_title}@{address}:{port}",
                "--speed",
                repr(options.speed),
                "--epoch",
                epoch,
                "--truth",
                str(options.out / "truth"),
                *ct,
            ]
        )
        status = _wait(push, monitor, record / "journal.jsonl")
    finally:
        _end(monitor)
    _summary(options, record, say)
    return status


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


def _simulator(command: str) -> list[str]:
    return [*_module("scanner_sim.cli"), command]


def _run(command: list[str]) -> None:
    """Raises ``DemoError`` with what it said when it fails."""
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        said = done.stderr.strip().removeprefix("scanner-sim: ")
        raise DemoError(said or f"failed with status {done.returncode}: {' '.join(command[2:])}")
    sys.stderr.write(done.stderr)


def _set_language(case: Path, language: str) -> None:
    text = case.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("language")]
    case.write_text("\n".join([f'language = "{language}"', *lines]) + "\n", encoding="utf-8")


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a journal that may be growing."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


def _listening(journal: Path, monitor: subprocess.Popen[bytes]) -> tuple[str, int, str]:
    for _ in range(600):
        for line in read_journal(journal):
            if line["kind"] == "listening":
                return line["address"], line["port"], line["ae_title"]
        if monitor.poll() is not None:
            raise DemoError("the monitor ended before it listened; its message is above")
        time.sleep(0.1)
    raise DemoError("the monitor did not listen within 60 s")


def _wait(push: subprocess.Popen[bytes], monitor: subprocess.Popen[bytes], journal: Path) -> int:
    """Until the scanner has sent all and the last scan was assessed, or the window was closed."""
    try:
        while push.poll() is None:
            if monitor.poll() is not None:
                return 0
            time.sleep(0.2)
    finally:
        if push.poll() is None:
            push.terminate()
    if push.returncode != 0:
        raise DemoError(f"the scanner simulator failed with exit status {push.returncode}")
    deadline = time.monotonic() + _END_GRACE_S
    while time.monotonic() < deadline and not _settled(journal):
        time.sleep(0.5)
    return 0


def _settled(journal: Path) -> bool:
    """Whether the newest volume has its assessment and forecast."""
    lines = list(read_journal(journal))
    volumes = [line["volume_id"] for line in lines if line["kind"] == "volume_completed"]
    assessed = {line["volume_id"] for line in lines if line["kind"] == "assessment"}
    return bool(volumes) and volumes[-1] in assessed


def _end(monitor: subprocess.Popen[bytes]) -> None:
    if monitor.poll() is None:
        monitor.send_signal(signal.SIGINT)
    try:
        monitor.wait(60)
    except subprocess.TimeoutExpired:
        monitor.kill()


def _summary(options: DemoOptions, record: Path, say: Callable[[str], None]) -> None:
    """Each scan as measured, beside the simulator's truth, which the monitor never saw."""
    pairs = list(_pairs(options, record))
    rows = [
        "scan   lesion covered    lesion + margin   minimal margin    ice volume        status",
        "       measured (true)   measured (true)   measured (true)   measured (true)",
        *(summary_row(a, true) for a, true in pairs),
    ]
    behind = not_kept_up(read_journal(record / "journal.jsonl"))
    if behind:
        rows += [
            f"THIS MACHINE DID NOT KEEP UP at {options.speed:g} times life; what is above is not what a "
            "procedure shows. Run it with a lower --speed.",
            *(f"  {what}" for what in behind),
        ]
    text = "\n".join(rows)
    (options.out / "summary.txt").write_text(text + "\n", encoding="utf-8")
    _timeline(options.out / "summary.png", options.scenario, pairs)
    say(text)
    say(
        f"Screens:  {record / 'screens'}\nSummary:  {options.out / 'summary.txt'}, summary.png\n"
        f"Journal:  {record / 'journal.jsonl'}\nResearch software: it informs, it never decides."
    )


def _pairs(
    options: DemoOptions, record: Path
) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """The last assessment of each scan and the truth of the same scan, by its order."""
    measured = {
        line["volume_id"]: line
        for line in read_journal(record / "journal.jsonl")
        if line["kind"] == "assessment"
    }
    file = options.out / "truth" / "truth.json"
    truth = json.loads(file.read_text(encoding="utf-8"))["scans"] if file.exists() else []
    for assessment, true in itertools.zip_longest(list(measured.values()), truth):
        if assessment is not None and assessment["lesion_covered"] is not None:
            yield assessment, true


def summary_row(a: dict[str, Any], true: dict[str, Any] | None) -> str:
    """A scan's line of the summary; coverage and margin as careful as the screen's."""
    from monitor.console import plain

    def pair(name: str, written: Callable[[float | None], str], unit: str) -> str:
        got, want = (written(x.get(name) if x else None) for x in (a, true))
        return f"{got} ({want}) {unit}".ljust(18)

    row = (
        f"{a['volume_id']:7}"
        + pair("lesion_covered", formats.percent_tenths, "%")
        + pair("margin_covered", formats.percent_tenths, "%")
        + pair("min_margin_mm", lambda v: formats.signed_mm(v, "en"), "mm")
        + pair("ice_volume_ml", _volume_ml, "ml")
        + a["status"]
    )
    return plain(row)


def _volume_ml(value: float | None) -> str:
    return formats.UNKNOWN if value is None else formats.decimal(value, 1, "en")


def _timeline(
    path: Path, scenario: str, pairs: list[tuple[dict[str, Any], dict[str, Any] | None]]
) -> None:
    from monitor.view.timeline import Series, save_timeline

    def values(of: int, name: str, scale: float) -> list[float]:
        found = [(pair[of] or {}).get(name) for pair in pairs]
        return [math.nan if v is None else scale * v for v in found]

    minutes = values(1, "time_s", 1 / 60) if pairs and pairs[0][1] else list(range(len(pairs)))
    titles = (
        ("lesion_covered", "Lesion covered, %", 100.0),
        ("min_margin_mm", "Minimal margin, mm", 1.0),
        ("ice_volume_ml", "Ice volume, ml", 1.0),
    )
    plots = [Series(t, minutes, values(0, n, k), values(1, n, k)) for n, t, k in titles]
    save_timeline(path, f"{scenario}: measured and true", plots)
