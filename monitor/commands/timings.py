"""``iceball timings``: how long each stage of a recorded procedure took, as a table or JSON. Seconds."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from monitor.record.durations import rows
from monitor.record.reading import Finding, read_journal


def run(args: argparse.Namespace) -> int:
    """Exit status 1 where nothing was timed."""
    findings: list[Finding] = []
    found = rows(read_journal(args.record, findings.append))
    for f in findings:
        print(f"iceball: journal line {f.line}: {f.text}", file=sys.stderr)
    if args.json:
        print(json.dumps([dataclasses.asdict(r) for r in found]))
    elif found:
        print(f"{'stage':20} {'n':>5} {'median':>9} {'p95':>9} {'worst':>9}  of")
        for r in found:
            times = " ".join(f"{s:8.3f}s" for s in (r.median_s, r.p95_s, r.worst_s))
            print(f"{r.stage:20} {r.count:5} {times}  {r.worst_of}")
    else:
        print(f"{args.record}: no stage was timed in this record", file=sys.stderr)
    return 0 if found else 1
