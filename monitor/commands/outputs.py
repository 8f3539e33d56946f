"""``iceball report`` and ``export``: what a record gives to people and to other programs.

Invariant: what could not be written is said by name, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def report(args: argparse.Namespace) -> int:
    from monitor.report.writing import write_report

    out: Path = args.out or args.record / "report"
    for path in write_report(args.record, out, args.language, args.engine):
        print(path)
    return 0
