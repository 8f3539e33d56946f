"""``iceball replay``: a recorded procedure worked out again. Results on standard output, progress on
standard error. Seconds, mm, ml; fractions 0..1.

Invariant: the exit status is 0 only if the record is whole and every result within its tolerance.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from gpu_kernels.select import open_engine, warm_up
from monitor import console
from monitor.commands import NOTICE
from monitor.commands.stopping import when_told_to_stop
from monitor.commands.windows import windows_of
from monitor.config import ConfigError
from monitor.journal_fields import iso_utc
from monitor.prediction.ensemble import MOST_LATENT
from monitor.record.comparing import tolerances_of
from monitor.record.journal import plain
from monitor.record.reading import Finding, JournalLine, check_end, in_use, read_journal
from monitor.replay import Comparison, Scan, Step, replay, state_fields, up_to
from monitor.replay_alarms import AlarmReplay
from monitor.view.process import has_display
from monitor.workstation import load_workstation

_DIFFERENT = 1
_MOST_SHOWN = 40
_SHOWN = ("lesion_covered", "margin_covered", "min_margin_mm", "ice_volume_ml")


def run(args: argparse.Namespace) -> int:
    with in_use(args.record):
        return view(args) if args.view else compare(args)


def view(args: argparse.Namespace) -> int:
    """Plays the record until its windows are closed. Exit status 0 whatever was found in it."""
    from monitor.replay_screens import ReplayOptions, ReplayScreens

    if not has_display():
        raise ConfigError("replay --view: there is no display here to show it on")
    if args.json or args.until is not None:
        raise ConfigError("replay --view: --json and --until are of the comparison")
    windows = windows_of(args, load_workstation(None).screen)
    played = ReplayScreens(
        ReplayOptions(
            args.record,
            args.speed,
            show=windows.show,
            monitor=windows.monitor,
            viewing=windows.viewing,
            engine=args.engine,
            language=args.language,
        ),
        lambda f: print(f"{args.record}/journal.jsonl:{f.line}: {f.code}: {f.text}", flush=True),
    )
    print(f"Replay of {args.record}, {iso_utc(played.began_utc_s)}: not live. {NOTICE}", flush=True)
    when_told_to_stop(played.stopping.set)
    played.start()
    while not played.stopping.wait(0.2):
        pass
    played.finish()
    return 0


def compare(args: argparse.Namespace) -> int:
    began = time.monotonic()
    findings: list[Finding] = []
    lines = read_journal(args.record, findings.append)
    if args.until is None:
        check_end(lines, findings.append)
    else:
        lines = up_to(lines, _until_utc_s(args.until, lines[0]))
    recorded_with = str(lines[0].fields.get("engine"))
    engine = open_engine(args.engine or recorded_with, MOST_LATENT)
    warm_up(engine)
    tolerances = tolerances_of(recorded_with, engine.name)
    comparison = Comparison(args.record, tolerances, findings.append)
    alarms = AlarmReplay(lines)
    last: Step | None = None
    for last in replay(args.record, lines, engine, findings.append, begin=alarms.begin):
        comparison.take(last)
        alarms.take(last)
        _progress(last)
    alarms.compare(findings.append)
    findings.sort(key=lambda f: f.line)
    state = None if last is None or args.until is None else _state(last)
    result = {
        "record": str(args.record),
        "recorded": {name: lines[0].fields.get(name) for name in ("at", "version", "engine")},
        "engine": engine.name,
        "lines": len(lines),
        **_compared(comparison, alarms, findings),
        "state": state,
        "took_s": round(time.monotonic() - began, 1),
    }
    if args.json:
        print(json.dumps(plain(result), allow_nan=False))
    else:
        _print(result, comparison, findings)
    return _DIFFERENT if findings else 0


def _compared(
    comparison: Comparison, alarms: AlarmReplay, findings: list[Finding]
) -> dict[str, Any]:
    """``same`` is None where there was nothing to compare."""
    compared = comparison.results + alarms.compared > 0
    return {
        "events": comparison.events,
        "results": comparison.results,
        "alarms": alarms.compared,
        "largest": _largest(comparison.scans.values()),
        "scans": [dataclasses.asdict(s) for s in comparison.scans.values()],
        "same": not findings if findings or compared else None,
        "findings": [dataclasses.asdict(f) for f in findings],
    }


def _until_utc_s(text: str, first: JournalLine) -> float:
    """A time as the journal has it (ISO 8601; UTC unless it says otherwise), or minutes since the first
    line."""
    try:
        return first.at_utc_s + 60.0 * float(text)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--until {text}: neither minutes nor a time (ISO 8601)") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _progress(step: Step) -> None:
    for line in step.recorded:
        if line.kind in ("volume_completed", "forecast", "phase"):
            names = (line.fields.get(x) for x in ("volume_id", "from_volume_id", "phase"))
            text = f"line {line.number}: {line.kind} {next(filter(None, names), '')}".rstrip()
            print(text, file=sys.stderr, flush=True)


def _largest(scans: Iterable[Scan]) -> dict[str, float]:
    largest: dict[str, float] = {}
    for scan in scans:
        for unit, apart in scan.largest.items():
            largest[unit] = max(largest.get(unit, 0.0), apart)
    return largest


def _state(step: Step) -> dict[str, Any]:
    return {
        "line": step.line.number,
        "at": iso_utc(step.line.at_utc_s),
        **state_fields(step.state, step.procedure),
    }


# ------------------------------------------------------------------ for people


def _print(result: dict[str, Any], comparison: Comparison, findings: list[Finding]) -> None:
    recorded = result["recorded"]
    print(
        f"{result['record']}: {recorded['at']}, version {recorded['version']}, engine "
        f"{recorded['engine']}; replayed with engine {result['engine']}."
    )
    _print_scans(comparison)
    if result["state"] is not None:
        _print_state(result["state"])
    for f in findings[:_MOST_SHOWN]:
        print(f"{result['record']}/journal.jsonl:{f.line}: {f.code}: {f.text}")
    if len(findings) > _MOST_SHOWN:
        print(f"... and {len(findings) - _MOST_SHOWN} more (--json has them all)")
    print(
        f"{result['lines']} lines, {result['events']} events, {result['results']} results and "
        f"{result['alarms']} alarms compared in {result['took_s']:.0f} s; largest difference: "
        f"{_differences(result['largest'])}."
    )
    print(_verdict(result["same"], len(findings), [f.code for f in findings] == ["unfinished"]))


def _verdict(same: bool | None, findings: int, unfinished: bool) -> str:
    if same is None:
        return "NOTHING COMPARED: there is no result and no alarm on record up to then."
    if same:
        return "The same, within tolerance."
    if unfinished:
        return "The same, within tolerance, as far as it goes: the procedure was not ended."
    return f"NOT THE SAME: {findings} finding(s)."


def _print_scans(comparison: Comparison) -> None:
    print(
        f"{'scan':9}{'results':9}" + "".join(f"{name:24}" for name in _SHOWN) + "largest difference"
    )
    for name, scan in comparison.scans.items():
        if name:
            row = "".join(f"{_pair(scan, field):24}" for field in _SHOWN)
            print(f"{name:9}{scan.results:<9}{row}{_differences(scan.largest)}")


def _pair(scan: Scan, field: str) -> str:
    """Recorded and recomputed. What was recorded need not be a number any more."""
    values = (x and x.get(field) for x in (scan.recorded, scan.recomputed))
    return " / ".join(f"{v:.6f}" if isinstance(v, int | float) else str(v or "-") for v in values)


def _differences(largest: dict[str, float]) -> str:
    return ", ".join(f"{apart:.2g} {unit}".strip() for unit, apart in largest.items()) or "none"


def _print_state(state: dict[str, Any]) -> None:
    print(f"State at {state['at']} (line {state['line']}):")
    for name, value in state.items():
        if isinstance(value, dict):
            print(f"  {console.line(name, value) or f'{name}: {json.dumps(plain(value))}'}")
        elif name not in ("at", "line"):
            print(f"  {name}: {'-' if value is None else value}")
